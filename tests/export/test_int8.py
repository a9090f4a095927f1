# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from numpy.typing import NDArray

from torchgeo_discomkd.classify.predictor import load_predictor
from torchgeo_discomkd.commands import main
from torchgeo_discomkd.errors import (
    BandError,
    ClassifierFileError,
    LayoutError,
    SettingError,
    TileSizeError,
)
from torchgeo_discomkd.export import ExportReport, export_classifier

from .classifiers import sar


class Quantized(NamedTuple):
    path: Path
    calibration: Path
    check: Path
    report: ExportReport


def write(folder: Path, images: NDArray[np.float32]) -> Path:
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        np.save(folder / f'{number:03}.npy', image)
    return folder


@pytest.fixture(scope='module')
def int8(sar_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Quantized:
    """:func:`sar_file` in int8, calibrated by 40 tiles and compared by 70."""
    folder = tmp_path_factory.mktemp('int8')
    calibration = write(folder / 'train', sar(40, seed=2))
    check = write(folder / 'test', sar(70, seed=3))
    path = folder / 'sar.onnx'
    report = export_classifier(
        sar_file, path, [check], quantize=True, calibrate=[calibration]
    )
    return Quantized(path, calibration, check, report)


def runtimes(path: Path) -> list[Any]:
    session = onnxruntime.InferenceSession(path)
    compiled = openvino.Core().compile_model(
        str(path), 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'}
    )
    return [
        lambda images: session.run(None, {'images': images})[0],
        lambda images: compiled(images)[0].copy(),
    ]


class TestFile:
    def test_probabilities(self, sar_file: Path, int8: Quantized) -> None:
        images = sar(50, seed=4)
        images[0, 0, :9] = np.nan
        images[1] = np.inf
        right = load_predictor(sar_file, device='cpu').probabilities(images)
        predictor = load_predictor(int8.path, device='cpu')
        result = predictor.probabilities(images)
        np.testing.assert_allclose(result, right, atol=0.1)
        assert np.abs(result - right).mean() < 0.01
        assert (result.argmax(axis=1) == right.argmax(axis=1)).mean() > 0.9
        assert 'ONNX, int8, OpenVINO' in predictor.description

    def test_report_and_metadata(self, sar_file: Path, int8: Quantized) -> None:
        images = sar(70, seed=3)
        right = load_predictor(sar_file, device='cpu').probabilities(images)
        found = [run(images) for run in runtimes(int8.path)]
        agreement = int8.report.agreement
        assert agreement is not None
        assert (agreement.calibration_tiles, agreement.check_tiles) == (40, 70)
        assert agreement.largest_difference == pytest.approx(
            max(np.abs(f - right).max() for f in found), abs=1e-4
        )
        assert agreement.mean_difference == pytest.approx(
            max(np.abs(f - right).mean() for f in found), abs=1e-5
        )
        assert agreement.label_agreement == min(
            (f.argmax(axis=1) == right.argmax(axis=1)).mean() for f in found
        )
        properties = {p.key: p.value for p in onnx.load(int8.path).metadata_props}
        described = json.loads(properties['quantization'])
        assert described == {'type': 'int8', **vars(agreement)}
        assert json.loads(properties['bands']) == ['VV', 'VH']

    def test_convolutions_are_int8_and_the_ends_float32(self, int8: Quantized) -> None:
        graph = onnx.load(int8.path).graph
        source = {name: node for node in graph.node for name in node.output}
        dequantized = {
            node.name: [
                name in source and source[name].op_type == 'DequantizeLinear'
                for name in node.input
            ]
            for node in graph.node
        }
        by_kind: dict[str, list[bool]] = {}
        for node in graph.node:
            by_kind.setdefault(node.op_type, []).append(all(dequantized[node.name]))
        # one first convolution for each of the two encoders
        assert by_kind['Conv'].count(False) == 2
        assert by_kind['Conv'].count(True) > 10
        for kind in ('Where', 'Sub', 'Div', 'Gemm', 'Softmax'):
            assert not any(by_kind[kind])
        weights = {w.name: w for w in graph.initializer}
        kernels = [
            source[node.input[1]]
            for node in graph.node
            if node.op_type == 'Conv'
            if node.input[1] in source
        ]
        for kernel in kernels:
            values, scales = (weights[name] for name in kernel.input[:2])
            assert values.data_type == onnx.TensorProto.INT8
            assert list(scales.dims) == [values.dims[0]]

    def test_without_openvino(
        self, int8: Quantized, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        images = sar(9)
        right = load_predictor(int8.path, device='cpu').probabilities(images)
        monkeypatch.setitem(sys.modules, 'openvino', None)
        monkeypatch.setattr(
            'torchgeo_discomkd.export.onnx_file.find_spec', lambda name: None
        )
        predictor = load_predictor(int8.path, device='cpu')
        assert 'OpenVINO' not in predictor.description
        np.testing.assert_allclose(predictor.probabilities(images), right, atol=0.1)

    @pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
    def test_no_other_precision(self, int8: Quantized, precision: Any) -> None:
        with pytest.raises(SettingError, match='was quantized to int8'):
            load_predictor(int8.path, device='cpu', precision=precision)


class TestRefused:
    def export(self, source: Path, output: Path, *calibrate: Path) -> None:
        export_classifier(source, output, quantize=True, calibrate=calibrate)

    def test_no_tiles(self, sar_file: Path, tmp_path: Path) -> None:
        with pytest.raises(SettingError, match='give some with --calibrate'):
            self.export(sar_file, tmp_path / 'sar.onnx')
        with pytest.raises(LayoutError, match='no images to calibrate with'):
            self.export(sar_file, tmp_path / 'sar.onnx', tmp_path)
        assert not list(tmp_path.iterdir())

    def test_too_few_tiles(self, sar_file: Path, tmp_path: Path) -> None:
        tiles = write(tmp_path / 'tiles', sar(31))
        with pytest.raises(
            SettingError, match=r'31 tiles are too few for calibration: give 32'
        ):
            self.export(sar_file, tmp_path / 'sar.onnx', tiles)
        assert not (tmp_path / 'sar.onnx').exists()

    def test_size_and_bands(self, sar_file: Path, tmp_path: Path) -> None:
        large = write(tmp_path / 'large', sar(1, size=(64, 32)))
        with pytest.raises(TileSizeError, match='64x32 pixels instead of'):
            self.export(sar_file, tmp_path / 'sar.onnx', large)
        one = write(tmp_path / 'one', sar(1, bands=1))
        with pytest.raises(BandError, match='has 1 band, but the classifier needs 2'):
            self.export(sar_file, tmp_path / 'sar.onnx', one)

    def test_settings(self, sar_file: Path, int8: Quantized, tmp_path: Path) -> None:
        with pytest.raises(SettingError, match=r'Only \.onnx files can be quantized'):
            self.export(sar_file, tmp_path / 'sar.pt2', int8.calibration)
        with pytest.raises(SettingError, match='add --quantize'):
            export_classifier(
                sar_file, tmp_path / 'sar.onnx', calibrate=[int8.calibration]
            )
        with pytest.raises(SettingError, match='exists: choose another name'):
            self.export(sar_file, int8.path, int8.calibration)

    @pytest.mark.slow
    def test_useless_calibration(
        self, student_file: Path, int8: Quantized, tmp_path: Path
    ) -> None:
        flat = write(tmp_path / 'flat', np.full((32, 2, 32, 32), -11, np.float32))
        with (
            pytest.warns(UserWarning, match='32 of 32 tiles to calibrate with are'),
            pytest.raises(ClassifierFileError, match=r'Only .* of 70 tiles have the'),
        ):
            export_classifier(
                student_file,
                tmp_path / 'sar.onnx',
                [int8.check],
                quantize=True,
                calibrate=[flat],
            )
        assert not (tmp_path / 'sar.onnx').exists()


@pytest.mark.slow
def test_command(
    student_file: Path,
    int8: Quantized,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = str(tmp_path / 'sar.onnx')
    calibrate = ['--quantize', '--calibrate', str(int8.calibration)]
    main(['export', str(student_file), '--output', output, *calibrate])
    line = capsys.readouterr().out.splitlines()[1]
    assert line.startswith(
        'int8, calibrated on 40 tiles; compared with the classifier file on 40 '
        'calibration tiles: '
    )
    assert '% of the labels agree' in line

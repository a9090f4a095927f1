# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto

from torchgeo_discomkd import __version__, export
from torchgeo_discomkd.classify.predictor import load_predictor
from torchgeo_discomkd.errors import (
    BandError,
    ClassifierFileError,
    LayoutError,
    ModalityError,
    SettingError,
    TileSizeError,
)
from torchgeo_discomkd.export import ProbabilityModel, export_classifier, exporter
from torchgeo_discomkd.export.properties import from_properties, to_properties
from torchgeo_discomkd.models import load_classifier, load_metadata
from torchgeo_discomkd.rasters import read_image

from ..fakes import write_tile
from ..test_metadata import PROFILED
from .classifiers import CLASSES, MEAN, MS, SAR, sar, write_classifier

type Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]

KINDS = ['onnx', 'pt2']


def test_room() -> None:
    assert dir(export) == sorted(export.__all__)
    assert all(getattr(export, name).__name__ == name for name in export.__all__)
    assert not hasattr(export, 'import_classifier')


@cache
def runner(path: Path) -> Run:
    """Run an exported file by the runtime that it is for, without our package."""
    if path.suffix == '.onnx':
        session = onnxruntime.InferenceSession(path)
        return lambda images: session.run(['probabilities'], {'images': images})[0]
    program = torch.export.load(path).module()
    return lambda images: program(torch.from_numpy(images)).numpy()


def expected(path: Path, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Classify step by step: fill, standardise, embed, classify, calibrate."""
    loaded = load_classifier(path)
    mean = np.array(MEAN, np.float32).reshape(-1, 1, 1)
    filled = np.where(np.isfinite(images), images, mean)
    logits = loaded(torch.from_numpy(filled)).double().numpy() / 1.7
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('count', [1, 5])
def test_parity(
    sar_file: Path, exported: dict[str, Path], kind: str, count: int
) -> None:
    run, images = runner(exported[kind]), sar(count)
    result = run(images)
    assert result.shape == (count, 3)
    assert result.dtype == np.float32
    assert result.std() > 0.01
    np.testing.assert_allclose(result, expected(sar_file, images), atol=1e-5)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_missing_pixels(
    sar_file: Path, exported: dict[str, Path], kind: str, value: float
) -> None:
    run, images = runner(exported[kind]), sar(3)
    images[0, 0, :16] = value
    images[1] = value
    result = run(images)
    np.testing.assert_allclose(result, expected(sar_file, images), atol=1e-5)
    assert not np.allclose(result[0], run(sar(3))[0], atol=1e-3)


@pytest.mark.parametrize('kind', KINDS)
def test_real_tiles(
    sar_file: Path, exported: dict[str, Path], kind: str, real_data: Path
) -> None:
    files = sorted((real_data / 'sen1floods11_pairs' / 'S1_SAR').rglob('*.tif'))[::9]
    images = np.stack([read_image(file) for file in files])
    images[0, :, :5] = np.nan
    run = runner(exported[kind])
    right = expected(sar_file, images)
    assert right.std() > 0.01
    for batch in (slice(0, 1), slice(0, 5), slice(0, None)):
        np.testing.assert_allclose(run(images[batch]), right[batch], atol=1e-5)


@pytest.mark.parametrize('kind', KINDS)
def test_properties(sar_file: Path, exported: dict[str, Path], kind: str) -> None:
    path = exported[kind]
    if kind == 'onnx':
        properties = {p.key: p.value for p in onnx.load(path).metadata_props}
    else:
        properties = {'classes': ''}  # filled only if it is not empty
        torch.export.load(path, extra_files=properties)
    assert properties['modality'] == 'sar'
    assert properties['unit'] == 'dB'
    assert properties['version'] == __version__
    assert json.loads(properties['classes']) == list(CLASSES)
    assert json.loads(properties['bands']) == ['VV', 'VH']
    assert json.loads(properties['tile_size']) == [32, 32]
    card = json.loads(properties['model_card'])
    assert card['scores'] == {'val_F1Score': 0.75}
    assert card['data_fingerprint'] == '0123456789abcdef'
    assert card['trained_with'] == 'torchgeo_discomkd 0.1.0'
    assert (card['license'], card['data_name']) == ('CC-BY-4.0', 'Simulated')


@pytest.mark.parametrize('kind', KINDS)
def test_no_path_of_this_machine(
    sar_file: Path, exported: dict[str, Path], kind: str
) -> None:
    content = exported[kind].read_bytes()
    for folder in (Path(exporter.__file__).parents[2], sar_file.parent, Path.home()):
        assert str(folder).encode() + b'/' not in content
    assert b'.py"' not in content


def test_libraries_report_nothing(exported: dict[str, Path], tmp_path: Path) -> None:
    # without CI, where they keep silent by themselves
    environment = {'HOME': str(tmp_path), 'PATH': os.environ['PATH']}
    program = (
        'import sys; from torchgeo_discomkd.classify import load_predictor; '
        "print(load_predictor(sys.argv[1], 'sar', 'cpu', 'bfloat16').modality); "
        'import openvino_telemetry'
    )
    done = subprocess.run(
        [sys.executable, '-c', program, exported['onnx']],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == 'sar\n'
    # where ONNX Runtime keeps its reports until they are sent, and OpenVINO its name of
    # this computer
    assert not (tmp_path / '.cache' / 'Microsoft').exists()
    assert not (tmp_path / 'intel').exists()


def test_onnx_is_one_file(exported: dict[str, Path]) -> None:
    path = exported['onnx']
    assert [file.name for file in path.parent.iterdir()] == ['sar.onnx']
    model = onnx.load(path, load_external_data=False)
    onnx.checker.check_model(model)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [('', 18)]
    weights = model.graph.initializer
    assert not any(w.data_location == TensorProto.EXTERNAL for w in weights)
    (images,) = model.graph.input
    (probabilities,) = model.graph.output
    shapes = [
        [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (images, probabilities)
    ]
    assert (images.name, probabilities.name) == ('images', 'probabilities')
    assert shapes == [['batch', 2, 32, 32], ['batch', 3]]


def test_onnx_has_no_batch_normalization(exported: dict[str, Path]) -> None:
    kinds = [node.op_type for node in onnx.load(exported['onnx']).graph.node]
    assert kinds.count('Conv') > 10
    assert 'BatchNormalization' not in kinds


def test_pt2_has_the_classifier_only(sar_file: Path, exported: dict[str, Path]) -> None:
    names = set(torch.export.load(exported['pt2']).state_dict)
    own = load_classifier(sar_file).classifier.state_dict()
    assert names == {f'classifier.{name}' for name in own}


def test_size(sar_file: Path, exported: dict[str, Path]) -> None:
    # two encoders and the heads; the run's network has twice that
    number = sum(p.numel() for p in load_classifier(sar_file).classifier.parameters())
    weights = onnx.load(exported['onnx']).graph.initializer
    stored = sum(int(np.prod(w.dims)) for w in weights if w.data_type == 1)
    assert stored == pytest.approx(number, rel=5e-3)
    assert exported['onnx'].stat().st_size < 4.3 * number


@pytest.mark.slow
def test_size_of_resnet18(tmp_path: Path) -> None:
    source = write_classifier(tmp_path / 'sar.safetensors', model='resnet18')
    report = export_classifier(source, tmp_path / 'sar.onnx')
    # two encoders of 11.17 M and the heads; the run's network has twice that
    assert report.parameters == 22_480_131
    weights = onnx.load(report.path).graph.initializer
    stored = sum(int(np.prod(w.dims)) for w in weights if w.data_type == 1)
    assert stored == pytest.approx(22_480_131, rel=1e-3)
    assert report.size == report.path.stat().st_size < 4.05 * 22_480_131


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.slow
def test_any_size(tmp_path: Path, kind: str) -> None:
    source = write_classifier(
        tmp_path / 'sar.safetensors', modalities={'sar': replace(SAR, tile_size=None)}
    )
    report = export_classifier(source, tmp_path / f'sar.{kind}')
    assert report.tile_size is None
    assert report.images == 32
    run = runner(report.path)
    for size in ((64, 64), (40, 120)):
        images = sar(3, size=size)
        right = expected(source, images)
        np.testing.assert_allclose(run(images), right, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('kind', KINDS)
def test_percentile_and_fusion_of_one(tmp_path: Path, kind: str) -> None:
    source = write_classifier(
        tmp_path / 'student.safetensors',
        normalization='percentile',
        kind='fusion',
        head=None,
    )
    report = export_classifier(source, tmp_path / f'sar.{kind}')
    images = sar(4)
    images[0, 0] = np.nan
    right = load_classifier(source).probabilities(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(runner(report.path)(images), right, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('kind', KINDS)
def test_difference(
    student_file: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Uncalibrated(ProbabilityModel):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.temperature = 1.0

    monkeypatch.setattr(exporter, 'ProbabilityModel', Uncalibrated)
    with pytest.raises(ClassifierFileError, match=r'more than 0\.0001: nothing'):
        export_classifier(student_file, tmp_path / f'sar.{kind}')
    assert not list(tmp_path.iterdir())


class TestCheck:
    """Tiles that the result is compared by; .pt2 is the faster format."""

    @pytest.fixture
    def tiles(self, tmp_path: Path) -> Path:
        folder = tmp_path / 'tiles'
        for number, image in enumerate(sar(70)):
            write_tile(folder / str(number % 3) / f'{number}.tif', image)
        return folder

    def test_folder(self, student_file: Path, tmp_path: Path, tiles: Path) -> None:
        report = export_classifier(student_file, tmp_path / 'sar.pt2', [tiles])
        assert report.real
        assert report.images == 35  # every second of 70
        assert report.difference < 1e-6

    @pytest.mark.slow
    def test_real(self, sar_file: Path, tmp_path: Path, real_data: Path) -> None:
        tiles = real_data / 'sen1floods11_pairs' / 'S1_SAR'
        report = export_classifier(sar_file, tmp_path / 'sar.onnx', [tiles])
        assert (report.images, report.opset) == (58, 18)
        assert 0 < report.difference < 1e-5

    def test_none(self, sar_file: Path, tmp_path: Path) -> None:
        with pytest.raises(LayoutError, match='no images to check with'):
            export_classifier(sar_file, tmp_path / 'sar.pt2', [tmp_path])
        with pytest.raises(LayoutError, match=r'none\.tif: there is no such file'):
            export_classifier(sar_file, tmp_path / 'sar.pt2', [tmp_path / 'none.tif'])

    def test_size(self, sar_file: Path, tmp_path: Path) -> None:
        path = tmp_path / 'large.tif'
        write_tile(path, sar(1, size=(64, 32))[0])
        with pytest.raises(TileSizeError, match=r'64x32 pixels instead of 32x32'):
            export_classifier(sar_file, tmp_path / 'sar.pt2', [path])

    def test_bands(self, sar_file: Path, tmp_path: Path) -> None:
        path = tmp_path / 'one.tif'
        write_tile(path, sar(1, bands=1)[0])
        with pytest.raises(BandError, match='has 1 band, but the classifier needs 2'):
            export_classifier(sar_file, tmp_path / 'sar.pt2', [path])
        assert not (tmp_path / 'sar.pt2').exists()


class TestRefused:
    def test_existing_output(self, student_file: Path, tmp_path: Path) -> None:
        output = tmp_path / 'sar.pt2'
        output.write_bytes(b'mine')
        with pytest.raises(SettingError, match='exists: choose another name'):
            export_classifier(student_file, output)
        assert output.read_bytes() == b'mine'
        export_classifier(student_file, output, overwrite=True)
        assert zipfile.is_zipfile(output)

    @pytest.mark.parametrize('name', ['sar.pt', 'sar', 'sar.safetensors'])
    def test_extension(self, sar_file: Path, tmp_path: Path, name: str) -> None:
        with pytest.raises(SettingError, match=r'is unknown\. Use \.onnx'):
            export_classifier(sar_file, tmp_path / name)

    def test_several_modalities(self, tmp_path: Path) -> None:
        source = write_classifier(
            tmp_path / 'fusion.safetensors',
            kind='fusion',
            head=None,
            modalities={'ms': MS, 'sar': SAR},
        )
        with pytest.raises(ModalityError, match=r"\['ms', 'sar'\] together"):
            export_classifier(source, tmp_path / 'fusion.onnx')

    def test_no_classifier(self, tmp_path: Path) -> None:
        with pytest.raises(ClassifierFileError, match='there is no such file'):
            export_classifier(tmp_path / 'sar.safetensors', tmp_path / 'sar.onnx')

    def test_card(self, sar_file: Path, tmp_path: Path) -> None:
        with pytest.raises(SettingError, match=r"\['scores'\] of the model card"):
            export_classifier(sar_file, tmp_path / 'sar.pt2', card={'scores': '1'})

    def test_unwritable(self, student_file: Path, tmp_path: Path) -> None:
        (tmp_path / 'file').touch()
        with pytest.raises(SettingError, match='cannot be written'):
            export_classifier(student_file, tmp_path / 'file' / 'sar.pt2')

    def test_network_of_one_size(self, tmp_path: Path) -> None:
        source = write_classifier(
            tmp_path / 'sar.safetensors',
            model='test_vit_relpos',
            modalities={'sar': replace(SAR, tile_size=None)},
            image_size=(160, 160),
        )
        with pytest.raises(
            ClassifierFileError, match=r'test_vit_relpos.* for images of any'
        ):
            export_classifier(source, tmp_path / 'sar.pt2')


@pytest.mark.parametrize('kind', KINDS)
def test_all_metadata_travel(
    sar_file: Path, exported: dict[str, Path], kind: str
) -> None:
    metadata = load_predictor(exported[kind], device='cpu').metadata
    assert metadata == load_metadata(sar_file)


def test_profile_of_the_training_tiles() -> None:
    # of both formats: they differ only in how they store these texts
    assert from_properties(to_properties(PROFILED, {})) == PROFILED

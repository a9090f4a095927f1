# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import sys
import warnings
from pathlib import Path

import numpy as np
import openvino
import pandas as pd
import pytest
import torch
from torch import nn

from torchgeo_discomkd.classify.predictor import load_predictor
from torchgeo_discomkd.classify.torch_route import TorchClassifier
from torchgeo_discomkd.commands import main
from torchgeo_discomkd.errors import SettingError, UserError
from torchgeo_discomkd.export import export_classifier
from torchgeo_discomkd.models import (
    DisentangledClassifier,
    load_classifier,
    save_classifier,
)

from ..export.classifiers import metadata, sar
from ..fakes import write_tile
from .conftest import KINDS

# on processors without instructions for it
pytestmark = pytest.mark.filterwarnings('ignore:.*not known to be fast in bfloat16')


@pytest.mark.parametrize('kind', KINDS)
def test_bfloat16(files: dict[str, Path], kind: str) -> None:
    images = sar(16)
    images[0, 0, :9] = np.nan
    images[1] = np.inf
    exact = load_predictor(files[kind], device='cpu')
    fast = load_predictor(files[kind], device='cpu', precision='bfloat16')
    assert 'bfloat16' in fast.description
    assert 'bfloat16' not in exact.description
    result = fast.probabilities(images)
    assert result.dtype == np.float32
    assert result.shape == (16, 3)
    np.testing.assert_allclose(result.sum(axis=1), 1, atol=1e-5)
    difference = np.abs(result - exact.probabilities(images)).max()
    assert difference < 0.03
    capabilities = openvino.Core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES')
    # else OpenVINO computes in float32
    if kind != 'onnx' or 'BF16' in capabilities:
        assert difference > 1e-4


def test_bfloat16_that_is_slower_is_warned_of(files: dict[str, Path]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        load_predictor(files['safetensors'], device='cpu', precision='bfloat16')
    native = torch.cpu._is_avx512_bf16_supported()
    assert ['omit the precision' in str(w.message) for w in caught] == [True][native:]


@pytest.mark.parametrize('kind', KINDS)
def test_float32_is_the_default(files: dict[str, Path], kind: str) -> None:
    images = sar(4)
    results = [
        load_predictor(files[kind], device='cpu', precision=p).probabilities(images)
        for p in ('auto', 'float32')
    ]
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize(
    'kind', ['safetensors', pytest.param('onnx', marks=pytest.mark.slow)]
)
def test_normalization_is_exact(tmp_path: Path, kind: str) -> None:
    # bfloat16 has steps of 64 at 10 000: nothing of these images would be left
    rng = np.random.default_rng(0)
    images = rng.normal(10_000, 20, (8, 2, 32, 32)) + rng.normal(0, 20, (8, 2, 1, 1))
    images = images.astype(np.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        classifier = DisentangledClassifier(2, 3, 'test_resnet')
        four = [10_000.0] * 2, [20.0] * 2, [0.0] * 2, [1.0] * 2
        classifier.normalization.fit(*four)
        with torch.no_grad():
            classifier(torch.from_numpy(images))
            classifier.classifier.weight.mul_(8)
    source = tmp_path / 'sar.safetensors'
    save_classifier(source, classifier, metadata())
    right = load_predictor(source, device='cpu').probabilities(images)
    assert right.std() > 0.05
    path = source.with_suffix(f'.{kind}')
    if kind == 'onnx':
        export_classifier(source, path)
    fast = load_predictor(path, device='cpu', precision='bfloat16')
    np.testing.assert_allclose(fast.probabilities(images), right, atol=0.03)


def test_convolutions_are_channels_last_and_folded(files: dict[str, Path]) -> None:
    loaded = load_classifier(files['safetensors'])
    TorchClassifier(loaded, torch.device('cpu'))
    kernels = [m.weight for m in loaded.modules() if isinstance(m, nn.Conv2d)]
    assert kernels
    assert all(k.is_contiguous(memory_format=torch.channels_last) for k in kernels)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in loaded.modules())


def test_command(files: dict[str, Path], tmp_path: Path) -> None:
    write_tile(tmp_path / 'tile.tif', sar(1)[0])
    found = {}
    for precision in ('float32', 'bfloat16'):
        output = tmp_path / f'{precision}.csv'
        arguments = [str(files['safetensors']), str(tmp_path / 'tile.tif')]
        options = ['--output', str(output), '--precision', precision]
        main(['classify', *arguments, *options, '--device', 'cpu'])
        found[precision] = pd.read_csv(output)['confidence'][0]
    assert found['float32'] != found['bfloat16']
    assert found['float32'] == pytest.approx(found['bfloat16'], abs=0.03)


def test_unknown(files: dict[str, Path]) -> None:
    with pytest.raises(
        SettingError, match="precision='half': use one of auto, float32"
    ):
        load_predictor(files['onnx'], precision='half')  # ty: ignore[invalid-argument-type]


def test_onnx_in_bfloat16_on_the_cpu_only(files: dict[str, Path]) -> None:
    with pytest.raises(SettingError, match=r"device='cuda': \.onnx files support"):
        load_predictor(files['onnx'], device='cuda', precision='bfloat16')


def test_without_openvino(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, 'openvino', None)  # as if it were not installed
    with pytest.raises(UserError, match=r"pip install 'torchgeo_discomkd\[openvino\]'"):
        load_predictor(files['onnx'], device='cpu', precision='bfloat16')

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from torchgeo_discomkd.performance.precision import fast_precision

#: Flags by which Linux names native bfloat16 of x86 processors.
FLAG = 'avx512_bf16'


def native() -> bool:
    """Ask the operating system, not PyTorch."""
    info = Path('/proc/cpuinfo')
    if not info.exists():
        pytest.skip('no other source to ask')
    return FLAG in info.read_text().split()


def test_the_processor_decides() -> None:
    name, reason = fast_precision(torch.device('cpu'))
    assert name == ('bf16-mixed' if native() else '32-true')
    assert 'processor' in reason


def test_unknown_devices_keep_full_precision() -> None:
    name, reason = fast_precision(torch.device('meta'))
    assert name == '32-true'
    assert "'meta'" in reason


@pytest.mark.slow
def test_auto_trains_resumes_and_is_noted(
    fit_pairs: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    name, reason = fast_precision(torch.device('cpu'))
    with caplog.at_level(logging.INFO, 'lightning.pytorch.utilities.rank_zero'):
        folder = fit_pairs('--trainer.precision', 'auto', epochs=1)
    assert f'precision: {name}, because {reason}' in caplog.text
    fit_pairs(
        *('--trainer.precision', 'auto', '--ckpt_path', str(folder / 'last.ckpt')),
        epochs=2,
    )
    assert 'precision: auto' in (folder / 'config.yaml').read_text()
    manifest = json.loads((folder / 'manifest.json').read_text())
    assert manifest['hardware']['precision'] == name
    assert manifest['epochs'] == 2

    whole = fit_pairs('--trainer.precision', name, name='named', epochs=2)
    auto, named = (
        torch.load(f / 'last.ckpt', weights_only=True)['state_dict']
        for f in (folder, whole)
    )
    assert all(torch.equal(auto[k], named[k]) for k in named)


def test_default_is_full_precision(trained_once: Path) -> None:
    manifest = json.loads((trained_once / 'run' / 'manifest.json').read_text())
    assert manifest['hardware']['precision'] == '32-true'

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import json
import shutil
from pathlib import Path

import pytest

from torchgeo_discomkd.models import load_metadata

from .runs import create_task, fit


def test_an_earlier_checkpoint_keeps_better_files(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    early = tmp_path / 'early.ckpt'
    sar = tmp_path / 'best' / 'sar.safetensors'
    fit(tmp_path, max_epochs=1)
    shutil.copy(tmp_path / 'last.ckpt', early)
    first = load_metadata(sar)
    fit(tmp_path, max_epochs=6, ckpt_path=tmp_path / 'last.ckpt')
    best, content = load_metadata(sar), sar.read_bytes()
    assert best.scores['val_F1Score'] > first.scores['val_F1Score']
    with caplog.at_level('INFO', 'lightning.pytorch.utilities.rank_zero'):
        # an epoch that learns nothing
        task = create_task(label_smoothing=1.0)
        fit(tmp_path, task, max_epochs=2, ckpt_path=early)
    assert f'{sar} is kept until its score is exceeded' in caplog.text
    assert sar.read_bytes() == content
    manifest = json.loads((tmp_path / 'manifest.json').read_text())['best']['sar']
    assert manifest['val_F1Score'] == best.scores['val_F1Score']
    assert manifest['epoch'] == best.epoch
    # as before, the last checkpoint says nothing about files
    caplog.clear()
    fit(tmp_path, max_epochs=3, ckpt_path=tmp_path / 'last.ckpt')
    assert 'is kept' not in caplog.text

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Benchmarks of data with several labels in a sample."""

from pathlib import Path

import pandas as pd
import pytest

from torchgeo_discomkd.commands import main

from ..datasets.torchgeo_files import write_bigearthnet_v2
from .conftest import write_config_file


@pytest.fixture
def config(tmp_path: Path) -> str:
    data = {
        'class_path': 'PairedBigEarthNetDataModule',
        'init_args': {
            'root': str(write_bigearthnet_v2(tmp_path / 'data')),
            'batch_size': 2,
        },
    }
    changes = {'task': 'multilabel', 'methods': ['KDv2', 'MLKD'], 'data': data}
    shape = {'in_channels': {'ms': 12, 'sar': 2}, 'num_classes': 19}
    return str(write_config_file(tmp_path, tmp_path, **changes, **shape))


def test_plan_says_what_is_left_out(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main(['benchmark', config, '--dry-run'])
    output = capsys.readouterr().out
    assert 'left out: MLKD ORIG: no form for several labels' in output
    assert '4 trainings in 1 runs (STUDENT 2, DisCoM-KD 1, KDv2 1)' in output
    assert 'About 0:' in output


@pytest.mark.slow
def test_several_labels(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(['benchmark', config])
    assert 'left out: MLKD ORIG' in capsys.readouterr().out
    rows = pd.read_csv(tmp_path / 'results' / 'results.csv')
    assert set(rows.method) == {'STUDENT', 'DisCoM-KD', 'KDv2'}
    assert rows.F1.between(0, 1).all()
    assert rows.F1.nunique() > 3
    tables = (tmp_path / 'results' / 'tables.md').read_text()
    assert 'MLKD ORIG: no form for several labels' in tables

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.fakes import write_torchgeo_eurosat
from torchgeo_discomkd.benchmark import read_config
from torchgeo_discomkd.benchmark.data import check_data
from torchgeo_discomkd.commands import main
from torchgeo_discomkd.errors import SettingError

from .conftest import write_config_file


def write_joined(root: Path, **changes: Any) -> Path:
    """Write EuroSAT of both sensors and a benchmark on them; return the benchmark."""
    write_torchgeo_eurosat(root, root)
    sources = {
        'ms': {'dataset': 'torchgeo.datasets.EuroSAT', 'kwargs': {'root': str(root)}},
        'sar': {
            'dataset': 'torchgeo.datasets.CopernicusBenchEuroSATS1',
            'kwargs': {'root': str(root)},
            'unit': 'dB',
        },
    }
    init_args = {'sources': sources, 'root': str(root), 'batch_size': 10, **changes}
    data = {'class_path': 'PairedDatasetsDataModule', 'init_args': init_args}
    return write_config_file(root, root, num_classes=10, methods=[], data=data)


def test_data_sets_are_named_by_their_import_path(tmp_path: Path) -> None:
    check_data(read_config(write_joined(tmp_path)))


@pytest.mark.parametrize('changes', [{'missing': 'guess'}, {'sauces': 3}])
def test_wrong_arguments_are_named(changes: dict[str, Any], tmp_path: Path) -> None:
    config = read_config(write_joined(tmp_path, **changes))
    with pytest.raises(SettingError, match=next(iter(changes))):
        check_data(config)


@pytest.mark.slow
def test_benchmark_of_two_data_sets(tmp_path: Path) -> None:
    path = write_joined(tmp_path)
    main(['benchmark', str(path), '--dry-run'])
    main(['benchmark', str(path)])
    rows = pd.read_csv(tmp_path / 'results' / 'results.csv')
    assert set(rows.method) == {'STUDENT', 'DisCoM-KD'}
    assert rows.F1.between(0, 1).all()
    tested = pd.read_csv(next(tmp_path.rglob('discomkd*/test_predictions.csv')))
    # tile 3 of every class is for test
    assert set(tested['sample']) == {f'{c}/{c}_3' for c in set(tested.label)}
    assert len(set(tested.label)) == 10

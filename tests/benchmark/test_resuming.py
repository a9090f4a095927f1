# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""A results folder whose configuration is narrowed and widened again."""

import json
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.cli import LightningCLI

from torchgeo_discomkd.benchmark import BenchmarkConfig, plan, write_report
from torchgeo_discomkd.benchmark.results import COLUMNS, Results
from torchgeo_discomkd.benchmark.runner import run_training
from torchgeo_discomkd.errors import (
    CorruptFileError,
    OutputError,
    RunFolderExistsError,
    SettingError,
)

DATA = {'class_path': 'PairedFoldersDataModule', 'init_args': {'root': 'tiles'}}


def finished(folder: Path, **settings: object) -> BenchmarkConfig:
    """Return a configuration whose trainings are all finished."""
    config = BenchmarkConfig(str(folder), DATA, {'ms': 13, 'sar': 2}, 2, **settings)  # ty: ignore[invalid-argument-type]
    results = Results(config)
    results.claim()
    for training in plan(config):
        row = dict.fromkeys(COLUMNS, 0)
        named = {'training': training.name, 'run': training.run}
        results.add(training, [row | named])
    return config


def test_rows_of_other_runs_stay_but_are_not_reported(tmp_path: Path) -> None:
    config = finished(tmp_path, runs=4)
    fewer = Results(replace(config, runs=2))
    assert set(fewer.frame.run) == {0, 1}
    assert {row['run'] for row in fewer.rows} == {0, 1, 2, 3}
    fewer.claim()
    training = plan(fewer.config)[0]
    fewer.add(training, [fewer.rows[0]])
    assert set(Results(config).frame.run) == {0, 1, 2, 3}


def test_runs_are_not_taken_for_seeds(tmp_path: Path) -> None:
    config = finished(tmp_path, runs=4)
    fewer = replace(config, runs=2)
    Results(fewer).claim()
    with pytest.raises(RunFolderExistsError, match='runs x seeds: 4 x 1 -> 2 x 2'):
        Results(replace(fewer, seeds=2))


def test_run_data_of_rows_that_were_not_asked_for_meanwhile(tmp_path: Path) -> None:
    data = [{'test_groups': [name]} for name in 'abcd']
    config = finished(tmp_path, runs=4, run_data=data)
    Results(replace(config, runs=2, run_data=data[:2])).claim()
    assert len(Results(config).rows) == len(plan(config))
    changed = [*data[:3], {'test_groups': ['e']}]
    with pytest.raises(RunFolderExistsError, match='run_data'):
        Results(replace(config, run_data=changed))


def test_ratio_of_rows_that_were_not_asked_for_meanwhile(tmp_path: Path) -> None:
    data = [{'unlabelled_groups': ['a']}]
    settings = {'runs': 1, 'run_data': data, 'extensions': ['unlabelled']}
    config = finished(tmp_path, **settings)
    Results(replace(config, extensions=[])).claim()
    Results(config)
    with pytest.raises(RunFolderExistsError, match='unlabelled_ratio'):
        Results(replace(config, unlabelled_ratio=0.5))


def test_rows_that_were_not_asked_for_meanwhile(tmp_path: Path) -> None:
    config = finished(tmp_path, runs=1)
    fewer = replace(config, methods=[], ablations=[], variants=['ORIG'], targets=['ms'])
    results = Results(fewer)
    write_report(results)
    text = (tmp_path / 'tables.md').read_text()
    asked = {t.name for t in plan(fewer)}
    named = {line for line in text.splitlines() if line.startswith('- run 0: ')}
    assert named == {f'- {t.label}' for t in plan(config) if t.name not in asked}
    results.claim()
    kept = json.loads((tmp_path / 'benchmark.json').read_text())
    assert kept == asdict(config)
    # rows that are new stand behind those that were there before
    Results(replace(fewer, formulations=['paper', 'released'])).claim()
    kept = json.loads((tmp_path / 'benchmark.json').read_text())
    assert kept == asdict(replace(config, formulations=['paper', 'released']))


@pytest.mark.parametrize(
    ('first', 'then', 'kept'),
    [
        (['ms'], ['sar'], ['ms', 'sar']),
        (['sar'], None, None),
        (None, ['sar'], None),
        (['sar'], ['sar'], ['sar']),
    ],
)
def test_targets_of_both(
    tmp_path: Path,
    first: list[str] | None,
    then: list[str] | None,
    kept: list[str] | None,
) -> None:
    config = finished(tmp_path, runs=1, targets=first)
    Results(replace(config, targets=then)).claim()
    assert json.loads((tmp_path / 'benchmark.json').read_text())['targets'] == kept


def test_order_of_the_modalities(tmp_path: Path) -> None:
    config = finished(tmp_path, runs=1)
    turned = replace(config, in_channels={'sar': 2, 'ms': 13})
    change = r"order of in_channels: \['ms', 'sar'\] -> \['sar', 'ms'\]"
    with pytest.raises(RunFolderExistsError, match=change):
        Results(turned)


def test_extensions_with_arguments_come_and_go(tmp_path: Path) -> None:
    data = [{'unlabelled_groups': ['a']}]
    first = finished(tmp_path, runs=1, run_data=data, extensions=['pairwise'])
    both = replace(
        first,
        extensions=['transfer', 'unlabelled'],
        transfer={'transfer_guide': 'ms'},
        unlabelled_ratio=0.5,
    )
    Results(both).claim()
    Results(first).claim()
    # what the rows of the others depend on is kept
    for change in ({'transfer': {'transfer_guide': 'sar'}}, {'unlabelled_ratio': 2.0}):
        with pytest.raises(RunFolderExistsError, match=next(iter(change))):
            Results(replace(both, **change))
    Results(both)


def test_every_rotation_needs_unlabelled_pairs() -> None:
    with pytest.raises(SettingError, match='for every run'):
        BenchmarkConfig(
            *('results', DATA, {'ms': 13, 'sar': 2}, 2),
            runs=2,
            run_data=[{'unlabelled_groups': ['a']}, {}],
            extensions=['unlabelled'],
        )


def test_the_same_data_elsewhere(tmp_path: Path) -> None:
    config = finished(tmp_path, runs=1)
    arguments = {'root': 'elsewhere/tiles.safetensors'}
    moved = replace(config, data=DATA | {'init_args': arguments})
    change = r'\(data\.init_args\.root: tiles -> elsewhere/tiles\.safetensors\)'
    with pytest.raises(RunFolderExistsError, match=change) as error:
        Results(moved)
    assert f'write the new root into {tmp_path / "benchmark.json"}' in f'{error.value}'
    path = tmp_path / 'benchmark.json'
    path.write_text(path.read_text().replace('"tiles"', f'"{arguments["root"]}"'))
    assert len(Results(moved).rows) == len(plan(config))
    other = replace(moved, data=moved.data | {'init_args': {'root': 'a', 'size': 32}})
    with pytest.raises(RunFolderExistsError, match='size: - -> 32') as error:
        Results(other)
    assert 'write the new root' not in f'{error.value}'


def test_reason_that_names_a_file_whose_name_is_not_utf8(tmp_path: Path) -> None:
    def fail(args: dict[str, Any]) -> LightningCLI:
        sys.stdout.write(os.fsdecode(b'reads \xff.tif'))
        raise CorruptFileError(os.fsdecode(b'\xff.tif is damaged'))

    config = BenchmarkConfig(str(tmp_path / 'r'), DATA, {'ms': 13, 'sar': 2}, 2)
    results, training = Results(config), plan(config)[0]
    results.claim()
    reason = run_training(config, fail, training, results.run_folder(training))
    assert reason == r'\udcff.tif is damaged'
    assert r'reads \udcff.tif' in next(tmp_path.rglob('*.log')).read_text()
    results.fail(training, reason)
    write_report(results)
    assert reason in (tmp_path / 'r' / 'tables.md').read_text()


@pytest.mark.parametrize('place', ['/proc/benchmark', 'file/benchmark'])
def test_folder_that_cannot_be_written(tmp_path: Path, place: str) -> None:
    (tmp_path / 'file').touch()
    # an absolute place stays as it is
    folder = str(tmp_path / place)
    results = Results(BenchmarkConfig(folder, DATA, {'ms': 13, 'sar': 2}, 2))
    with pytest.raises(OutputError, match=r'benchmark\.json cannot be written'):
        results.claim()
    with pytest.raises(OutputError, match=r'failures\.json cannot be written'):
        results.fail(plan(results.config)[0], 'a reason')
    with pytest.raises(OutputError, match=r'tables\.md cannot be written'):
        write_report(results)

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Evaluation on data with other classes than those of the training, or fewer."""

import csv
import json
import math
import shutil
from pathlib import Path

import pytest

from tests.conftest import TINY
from tests.fakes import write_pairs
from torchgeo_discomkd.commands import main
from torchgeo_discomkd.commands.fit import run

CLASSES = ('Bog', 'Crop', 'Water')


@pytest.fixture(scope='module')
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of data, with a run that was validated without the class Bog."""
    root = tmp_path_factory.mktemp('classes')
    for split, classes in (('train', CLASSES), ('val', CLASSES[1:]), ('test', CLASSES)):
        write_pairs(root / 'pairs' / split, classes, 12, {'sar': (2, 8, 8)})
    with pytest.warns(UserWarning, match='no sample of Bog') as shown:
        main(
            [
                *(
                    'fit',
                    '--model',
                    'FusionClassification',
                    '--model.lr',
                    '0.01',
                    *TINY,
                ),
                *('--model.in_channels', '{sar: 2}', '--model.num_classes', '3'),
                *('--data', 'PairedFoldersDataModule', '--data.batch_size', '12'),
                *('--data.root', str(root / 'pairs'), '--data.split_scheme', 'folder'),
                *('--trainer.max_epochs', '3'),
                *('--trainer.default_root_dir', str(root / 'run')),
            ]
        )
    assert len([w for w in shown if 'Bog' in str(w.message)]) == 1
    return root


def score(trained: Path, command: str, *args: str) -> dict[str, float]:
    config = ['--config', str(trained / 'run' / 'config.yaml')]
    logger = ['--trainer.logger', 'false']
    metrics = run([command, *config, *logger, *args]).trainer.callback_metrics
    return {name: float(value) for name, value in metrics.items()}


@pytest.fixture(params=['best', 'checkpoint'])
def weights(request: pytest.FixtureRequest, trained: Path) -> list[str]:
    """Options that select the best file, or the weights of the last epoch."""
    last = str(trained / 'run' / 'last.ckpt')
    return [] if request.param == 'best' else ['--ckpt_path', last]


def test_validation_without_a_class(trained: Path) -> None:
    with next((trained / 'run').rglob('metrics.csv')).open() as file:
        columns = next(csv.reader(file))
    assert 'val_sar_ClasswiseF1Score_Crop' in columns
    assert 'val_sar_ClasswiseF1Score_Bog' not in columns
    manifest = json.loads((trained / 'run' / 'manifest.json').read_text())
    assert manifest['classes'] == list(CLASSES)
    assert all(math.isfinite(x) for x in manifest['best']['sar'].values())
    assert 'temperature' in manifest['best']['sar']


def test_fewer_classes_in_another_order(
    trained: Path, weights: list[str], tmp_path: Path
) -> None:
    root = shutil.copytree(trained / 'pairs', tmp_path / 'pairs')
    for split in ('train', 'test'):
        shutil.rmtree(root / split / 'sar' / 'Bog')
    place = ('--data.root', str(root), '--data.classes', '[Water, Crop]', *weights)
    with pytest.warns(UserWarning, match='The data lack Bog') as shown:
        scores = score(trained, 'test', *place)
    assert len([w for w in shown if 'Bog' in str(w.message)]) == 1
    assert 'test_sar_ClasswiseF1Score_Bog' not in scores
    writer = ['--trainer.callbacks+=PredictionWriter']
    writer += ['--trainer.callbacks.folder', str(tmp_path / 'tables')]
    with pytest.warns(UserWarning, match='The data lack Bog'):
        score(trained, 'predict', *place, *writer)
    with (tmp_path / 'tables' / 'sar.csv').open() as file:
        rows = list(csv.DictReader(file))
    right = {'Crop': 0, 'Water': 0}
    for row in rows:
        name = row['path'].split('/')[0]
        right[name] += row['label'] == name
    assert {f'probability_{name}' for name in CLASSES} <= rows[0].keys()
    assert sum(right.values()) > 12
    recalls = [count / 12 for count in right.values()]
    assert scores['test_sar_AverageAccuracy'] == pytest.approx(sum(recalls) / 2)
    assert scores['test_sar_OverallAccuracy'] == pytest.approx(sum(right.values()) / 24)


def test_a_class_that_is_unknown(
    trained: Path,
    weights: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = tmp_path / 'pairs'
    write_pairs(root / 'test', ['Rock'], 2, {'sar': (2, 8, 8)})
    config = ['--config', str(trained / 'run' / 'config.yaml')]
    with pytest.raises(SystemExit) as stop:
        main(['test', *config, '--data.root', str(root), *weights])
    assert stop.value.code == 2
    assert (
        "have the classes ['Rock'], but the classifier only" in capsys.readouterr().err
    )

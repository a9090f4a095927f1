# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from torchgeo_discomkd.benchmark import BenchmarkConfig, plan, read_config
from torchgeo_discomkd.benchmark.training import fit_config
from torchgeo_discomkd.errors import SettingError
from torchgeo_discomkd.losses import CTKD, DKD, KD, MLKD


def config(**changes: Any) -> BenchmarkConfig:
    """Return the whole comparison of two modalities, one run unless told otherwise."""
    values = {
        'results': 'results',
        'data': {'class_path': 'SimulatedMSSARDataModule'},
        'in_channels': {'ms': 13, 'sar': 2},
        'num_classes': 10,
        'runs': 1,
    }
    return BenchmarkConfig(**(values | changes))


def test_all_rows_of_the_papers_tables_are_planned() -> None:
    trainings = plan(config(formulations=['paper', 'released']))
    names = [t.name for t in trainings]
    # 2 students, 1 fusion, 2 formulations, 4 ablations; 5 methods with and without
    # standardised logits for one cross-modal and two multi-modal students
    assert len(names) == 2 + 1 + 2 + 4 + 5 * 2 * (1 + 2) == len(set(names))
    assert names[:3] == ['student-ms', 'student-sar', 'teacher-fusion']
    assert 'mlkd-lskd-sar-from-ms' in names
    assert 'ctkd-ms-from-fusion' in names
    assert 'discomkd-paper-without-orthogonality' in names
    assert not any(name.endswith('ms-from-ms') for name in names)


def test_teachers_come_first_and_are_trained_once() -> None:
    trainings = plan(config(runs=3))
    for position, training in enumerate(trainings):
        if training.teacher is not None:
            earlier = trainings[:position]
            assert (training.run, training.teacher) in [
                (t.run, t.name) for t in earlier
            ]
    assert sum(t.name == 'teacher-fusion' for t in trainings) == 3


def test_three_modalities() -> None:
    channels = {'thermal': 1, 'depth': 1, 'rgb': 3}
    trainings = plan(config(in_channels=channels, teacher='rgb', ablations=[]))
    names = {t.name for t in trainings}
    assert {'kdv1-depth-from-rgb', 'kdv1-thermal-from-rgb'} <= names
    fusion = next(t for t in trainings if t.name == 'teacher-fusion')
    assert fusion.encoders == 3
    assert next(t for t in trainings if t.method == 'DisCoM-KD').encoders == 6
    student = next(t for t in trainings if t.name == 'dkd-depth-from-rgb')
    # in the order of the configuration, whatever the direction of teaching
    assert student.data_args == {'modalities': ['depth', 'rgb'], 'paired': True}


def test_each_training_is_an_ordinary_fit() -> None:
    given = config(
        runs=2,
        seed=5,
        run_data=[{'size': 16}, {'size': 32}],
        trainer={'max_epochs': 3, 'callbacks': [{'class_path': 'ChannelsLast'}]},
        augment_students=False,
        teacher_in_training_mode=True,
        preset='authors',
    )
    trainings = plan(given)
    student = next(t for t in trainings if t.run == 1 and t.name == 'student-sar')
    fit = fit_config(given, student, Path('folder'))
    assert fit['seed_everything'] == 6
    assert fit['trainer']['default_root_dir'] == 'folder'
    classes = [c['class_path'] for c in fit['trainer']['callbacks']]
    assert classes == ['ChannelsLast', 'TrainingCost']
    assert fit['model']['class_path'] == 'FusionClassification'
    assert fit['model']['init_args']['in_channels'] == {'sar': 2}
    expected = {'run': 1, 'size': 32, 'modalities': ['sar'], 'augment': False}
    assert fit['data']['init_args'] == expected

    taught = next(t for t in trainings if t.name == 'kdv2-lskd-sar-from-ms')
    args = fit_config(given, taught, Path('folder'), Path('t'))['model']['init_args']
    assert args['loss'] == KD(alpha=0.5, standardize=True).config()
    assert args['teacher'] == 't'
    assert args['teacher_in_training_mode']

    without = next(t for t in trainings if t.ablation == 'auxiliary')
    args = fit_config(given, without, Path('folder'))['model']['init_args']
    assert args['auxiliary_weight'] == 0.0
    assert args['formulation'] == 'paper'


@pytest.mark.parametrize('preset', ['default', 'authors', 'official'])
def test_losses_of_the_competitors(preset: Any) -> None:
    trainings = {t.name: t for t in plan(config(preset=preset))}
    for suffix, standardize in (('', False), ('-lskd', True)):
        for name, loss in {
            'kdv1': KD.preset(preset, standardize, alpha=0.0),
            'kdv2': KD.preset(preset, standardize, alpha=0.5),
            'dkd': DKD.preset(preset, standardize),
            'ctkd': CTKD.preset(preset, standardize),
            'mlkd': MLKD.preset(preset, standardize),
        }.items():
            training = trainings[f'{name}{suffix}-sar-from-ms']
            assert training.task_args['loss'] == loss.config()


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'methods': ['KDv3']}, "name some of ['KDv1', 'KDv2', 'DKD', 'CTKD', 'MLKD']"),
        ({'in_channels': {'sar': 2}}, 'two modalities'),
        ({'runs': 0}, 'runs=0'),
        ({'teacher': 'radar'}, 'teacher=radar'),
        ({'targets': ['radar']}, 'radar'),
        ({'methods': ['DKD', 'DKD']}, 'each once'),
        ({'scenarios': []}, 'scenarios'),
        ({'data': {'root': 'data'}}, 'class_path'),
        ({'formulations': []}, 'formulations'),
        (
            {'in_channels': {'a': 1, 'b': 1, 'c': 1}, 'formulations': ['released']},
            'two modalities',
        ),
        ({'runs': 2, 'run_data': [{}]}, 'each of the 2 runs'),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=re.escape(message)):
        config(**changes)


def test_file_and_overrides(write_config: Callable[..., Path]) -> None:
    args = ['--runs', '4', '--trainer.max_epochs', '7', '--data.batch_size', '4']
    given = read_config(write_config(), args)
    assert given.data['init_args']['batch_size'] == 4
    assert given.data['init_args']['root']
    assert given.runs == 4
    trainer = {'max_epochs': 7, 'accelerator': 'cpu', 'num_sanity_val_steps': 0}
    assert given.trainer == trainer
    assert given.methods == ['KDv1']


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'methods': ['KDv3']}, 'KDv3'),
        ({'epochs': 3}, 'epochs'),
        ({'runs': 'x'}, 'runs'),
    ],
)
def test_bad_files_are_refused(
    write_config: Callable[..., Path], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        read_config(write_config(**changes))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match='no such file'):
        read_config(tmp_path / 'none.yaml')

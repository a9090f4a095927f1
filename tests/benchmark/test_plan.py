# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from torchgeo_discomkd.benchmark import (
    BenchmarkConfig,
    plan,
    read_config,
    run_benchmark,
)
from torchgeo_discomkd.benchmark.training import check_one_device, fit_config
from torchgeo_discomkd.commands.fit import run as run_command
from torchgeo_discomkd.errors import SettingError
from torchgeo_discomkd.losses import CTKD, DKD, KD, MLKD


def sgd(lr: str | float) -> dict[str, Any]:
    return {'class_path': 'SGD', 'init_args': {'lr': lr}}


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
    # 2 students, 2 controls, 1 fusion, 2 formulations, 4 ablations; 5 methods with and
    # without standardised logits for one cross-modal and two multi-modal students
    assert len(names) == 2 + 2 + 1 + 2 + 4 + 5 * 2 * (1 + 2) == len(set(names))
    assert names[2:5] == [*CONTROLS, 'teacher-fusion']
    assert 'mlkd-lskd-sar-from-ms' in names
    assert 'ctkd-ms-from-fusion' in names
    assert 'discomkd-paper-without-orthogonality' in names
    assert not any(name.endswith('ms-from-ms') for name in names)


CONTROLS = ['student-same-size-ms', 'student-same-size-sar']


def test_a_control_is_a_student_with_the_deployed_network() -> None:
    trainings = {t.name: t for t in plan(config(augment_students=False))}
    plain, control = trainings['student-sar'], trainings['student-same-size-sar']
    assert (control.method, control.variant) == ('STUDENT', 'same size')
    assert control.task_args == plain.task_args | {'network': 'same_size'}
    assert control.data_args == plain.data_args
    assert control.encoders == 2
    assert not {*CONTROLS} & {t.name for t in plan(config(controls=[]))}
    # the cross-modal teacher is no target
    names = {t.name for t in plan(config(scenarios=['cross-modal']))}
    assert names & {*CONTROLS} == {'student-same-size-sar'}


def test_extensions() -> None:
    given = config(
        formulations=['released', 'paper'],
        extensions=['transfer', 'unlabelled', 'transfer+unlabelled'],
        transfer={'transfer_guide': 'ms'},
        unlabelled_ratio=0.5,
        run_data=[{'unlabelled_groups': ['E03']}],
    )
    trainings = {t.variant: t for t in plan(given) if t.ablation == '-'}
    fits = {
        variant: fit_config(given, training, Path('folder'))
        for variant, training in trainings.items()
    }
    transferred = ['released + transfer', 'released + transfer + unlabelled']
    unlabelled = ['released + unlabelled', transferred[1]]
    for variant, fit in fits.items():
        task_args, data_args = fit['model']['init_args'], fit['data']['init_args']
        settings = {k: v for k, v in task_args.items() if 'transfer' in k}
        wanted = {'transfer': True, 'transfer_guide': 'ms'}
        assert settings == (wanted if variant in transferred else {})
        # all have the same splits, and only these samples without labels
        assert data_args['unlabelled_groups'] == ['E03']
        assert data_args['unlabelled_ratio'] == 0.5 * (variant in unlabelled)
    assert fits[transferred[0]]['data']['init_args']['paired']
    assert fits[transferred[0]]['model']['init_args']['formulation'] == 'released'
    assert trainings[transferred[1]].name == 'discomkd-released-transfer-unlabelled'


@pytest.mark.parametrize('trainer', [{}, {'devices': 'auto'}, {'devices': [3]}])
def test_a_training_has_one_device(
    trainer: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv('WORLD_SIZE', raising=False)
    given = config(trainer=trainer)
    check_one_device(given)
    fit = fit_config(given, plan(given)[0], Path('folder'))
    assert fit['trainer']['devices'] == ([3] if trainer.get('devices') == [3] else 1)
    monkeypatch.setenv('WORLD_SIZE', '2')
    with pytest.raises(SettingError, match=r'^WORLD_SIZE=2: each training .* --jobs'):
        check_one_device(given)


@pytest.mark.parametrize(
    ('name', 'value'), [('devices', 2), ('devices', -1), ('num_nodes', 2)]
)
def test_several_devices_are_refused(name: str, value: int, tmp_path: Path) -> None:
    given = config(trainer={name: value}, results=str(tmp_path / 'results'))
    with pytest.raises(SettingError, match=f'trainer.{name}={value}: each training'):
        run_benchmark(given, run_command)
    assert not (tmp_path / 'results').exists()


def test_seeds_repeat_rotations() -> None:
    rotations = [{'size': 16}, {'size': 32}]
    given = config(runs=2, seeds=2, seed=7, run_data=rotations)
    once = {t.label: t for t in plan(config(runs=2, seed=7, run_data=rotations))}
    fits = {}
    for training in plan(given):
        fit = fit_config(given, training, Path('folder'))
        if training.label in once:
            # as without the second seed
            assert fit == fit_config(
                config(runs=2, seed=7, run_data=rotations),
                once[training.label],
                Path('folder'),
            )
        if training.name == 'student-sar':
            args = fit['data']['init_args']
            fits[training.run] = (fit['seed_everything'], args['run'], args['size'])
    assert fits == {0: (7, 0, 16), 1: (8, 1, 32), 2: (9, 0, 16), 3: (10, 1, 32)}


@pytest.mark.parametrize(
    ('before', 'after', 'message'),
    [
        # what a folder of an earlier version does not say has its default
        ({'runs': 2}, {'runs': 3, 'extensions': ['transfer']}, None),
        ({'runs': 2}, {'runs': 2, 'seeds': 2}, None),
        ({'runs': 2, 'seeds': 2}, {'runs': 2, 'seeds': 3}, None),
        ({'runs': 2, 'seeds': 2}, {'runs': 3, 'seeds': 2}, 'runs x seeds'),
        ({'runs': 3}, {'runs': 2, 'seeds': 2}, 'runs x seeds'),
        ({'runs': 2}, {'runs': 2, 'resample_by': 'event'}, 'resample_by'),
        (
            {'runs': 1, 'extensions': ['transfer']},
            {
                'runs': 1,
                'extensions': ['transfer'],
                'transfer': {'transfer_guide': 'ms'},
            },
            'transfer.transfer_guide: - -> ms',
        ),
    ],
)
def test_what_may_be_added_to_results(
    before: dict[str, Any], after: dict[str, Any], message: str | None
) -> None:
    owner = asdict(config(**before))
    for name in ('controls', 'extensions', 'seeds', 'transfer', 'resample_by'):
        if name not in before:
            del owner[name]
    differences = config(**after).differences(owner)
    assert differences == [] if message is None else message in differences[0]


def test_teachers_come_first_and_are_trained_once() -> None:
    trainings = plan(config(runs=3))
    for position, training in enumerate(trainings):
        if training.teacher is not None:
            earlier = trainings[:position]
            assert (training.run, training.teacher) in [
                (t.run, t.name) for t in earlier
            ]
    assert sum(t.name == 'teacher-fusion' for t in trainings) == 3


def test_noise_is_for_trainings_with_its_modality() -> None:
    data = {
        'class_path': 'SimulatedMSSARDataModule',
        'init_args': {'noise': {'sar': 0.1}},
    }
    given = config(data=data)
    for training in plan(given):
        fit = fit_config(given, training, Path('folder'), Path('t'))
        seen = training.data_args['modalities']
        expected = {'sar': 0.1} if 'sar' in seen else {}
        assert fit['data']['init_args']['noise'] == expected
    wrong = config(data=data | {'init_args': {'noise': {'s1': 0.1}}})
    with pytest.raises(SettingError, match=r"noise for \['s1'\].*\['ms', 'sar'\]"):
        fit_config(wrong, plan(wrong)[0], Path('folder'))


def test_forms_for_any_number_of_modalities() -> None:
    extensions: Any = ['pairwise', 'one-vs-rest', 'constant-share']
    given = config(
        in_channels={'ms': 13, 'sar': 2, 'dem': 1},
        scenarios=['multi-modal'],
        methods=[],
        ablations=[],
        extensions=extensions,
        runs=1,
    )
    found = {t.variant: t.task_args for t in plan(given) if t.method == 'DisCoM-KD'}
    plain = found.pop('paper')
    assert found == {
        'paper + pairwise': plain | {'adversary': 'pairwise'},
        'paper + one-vs-rest': plain | {'adversary': 'one-vs-rest'},
        'paper + constant-share': plain | {'term_scale': 'constant_share'},
    }
    with pytest.raises(SettingError, match='name the formulation paper first'):
        config(formulations=['released'], extensions=['pairwise'])


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
        ({'seeds': 0}, 'seeds=0'),
        ({'extensions': ['unlabelled']}, 'the data have no unlabelled part'),
        ({'transfer': {'transfer_guide': 'ms'}}, 'needs an extension with transfer'),
        ({'unlabelled_ratio': 0.0}, 'unlabelled_ratio=0.0'),
        ({'run_data': [{'unlabelled_ratio': 1.0}]}, 'of the benchmark'),
        (
            {'optimizer': sgd('0.01'), 'preset': 'official'},
            'at lr=0.05 with preset=official, which the optimizer of lr=0.01 would not',
        ),
        (
            {'optimizer': {'class_path': 'Adam'}, 'lr': 0.5, 'methods': []},
            'lr=0.5 has no effect with an optimizer of lr=None',
        ),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=re.escape(message)):
        config(**changes)


def test_optimizers_with_the_rates_of_the_methods() -> None:
    config(optimizer=sgd(0.05), preset='official', lr=0.05)
    config(optimizer=sgd(0.5), methods=['KDv1'])
    config(optimizer=sgd(0.5), task='multilabel')


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


def test_two_logits_are_not_standardised() -> None:
    given = config(task='binary', num_classes=2)
    assert given.left_out == [f'{m} LSKD' for m in given.methods]
    assert not any('-lskd-' in training.name for training in plan(given))

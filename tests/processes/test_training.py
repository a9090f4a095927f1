# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from torchgeo_discomkd.commands import main
from torchgeo_discomkd.commands.fit import run as run_command
from torchgeo_discomkd.errors import CheckpointError, UserError
from torchgeo_discomkd.tasks import DisCoMKD, FusionClassification

from ..conftest import TINY
from ..fakes import pack_folders, write_pairs
from .forked import Outcome, in_processes

#: A network without batch normalisation, which would have statistics of its own in
#: each process, and an optimizer that does not turn rounding into whole steps.
WITHOUT_NORM = [
    *('--model.model', 'test_efficientnet_gn', '--model.head', 'linear'),
    *('--model.orthogonality', 'absolute', '--optimizer', 'SGD'),
    *('--optimizer.lr', '0.01', '--trainer.precision', '64-true'),
]

#: Class weights differ between the batches of two processes, so their means do, too.
WEIGHTED = ['--model.class_weights', '[1, 3]']


def arguments(pairs: Path, folder: Path, *others: str, epochs: int = 2) -> list[str]:
    return [
        *('fit', '--model', 'DisCoMKD', '--model.num_classes', '2', *TINY),
        *('--data', 'PairedFoldersDataModule', '--data.root', str(pairs)),
        *('--data.augment', 'false', '--data.eval_batch_size', '4'),
        *('--trainer.max_epochs', str(epochs)),
        *('--trainer.default_root_dir', str(folder), *others),
    ]


def fit_together(args: list[str], logs: Path, count: int = 2) -> list[Outcome]:
    ddp = ['--trainer.strategy', 'ddp', '--trainer.devices', str(count)]
    return in_processes(lambda rank: main([*args, *ddp]), logs, count)


def logged(folder: Path) -> dict[str, list[float]]:
    """Return what a run has logged, by name."""
    found: dict[str, list[float]] = {}
    with (folder / 'metrics' / 'version_0' / 'metrics.csv').open() as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if value:
                    found.setdefault(name, []).append(float(value))
    return found


def check_equal(one: Path, two: Path) -> None:
    expected, found = logged(one), logged(two)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, abs=1e-5), name
    check_files(one, two)


def check_files(one: Path, two: Path) -> None:
    files = sorted(p.relative_to(one) for p in (one / 'best').rglob('*.safetensors'))
    assert files
    assert files == sorted(
        p.relative_to(two) for p in (two / 'best').rglob('*.safetensors')
    )
    for file in files:
        own, others = load_file(one / file), load_file(two / file)
        assert own.keys() == others.keys()
        for name, x in own.items():
            torch.testing.assert_close(others[name], x, rtol=1e-4, atol=1e-5)


def test_two_processes_train_like_one(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / 'pairs', count=20)
    one, two = tmp_path / 'one', tmp_path / 'two'
    options = [*WITHOUT_NORM, *WEIGHTED]
    # 28 training samples: 9 + 9, then 5 + 5
    args = arguments(pairs, two, '--data.batch_size', '9', *options, epochs=1)
    first, second = fit_together(args, tmp_path / 'logs')
    assert (first.code, second.code) == (0, 0), first.output + second.output
    main(arguments(pairs, one, '--data.batch_size', '18', *options, epochs=1))
    check_equal(one, two)
    assert 'Best classifiers in' in first.output
    assert 'Best classifiers in' not in second.output
    assert 'epoch 0' not in second.output
    manifest = json.loads((two / 'manifest.json').read_text())
    assert manifest['hardware']['processes'] == 2
    assert not list(two.rglob('.lock'))


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore:freeze_backbone')
@pytest.mark.parametrize('count', [2, 3])
@pytest.mark.parametrize(
    'options',
    [
        ['--model.formulation', 'released', *WEIGHTED],
        ['--model.students', 'both', '--model.label_smoothing', '0.1'],
        ['--model.transfer', 'true', '--model.students', 'plain', *WEIGHTED],
        ['--data.paired', 'true', '--model.freeze_backbone', '{ms: true, sar: false}'],
    ],
    ids=['released', 'students', 'transfer', 'frozen'],
)
def test_equal_to_one_process(count: int, options: list[str], tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / 'pairs', count=33)
    one, many = tmp_path / 'one', tmp_path / 'many'
    options = [*WITHOUT_NORM, *options]
    # 46 training samples: remainders of 16 (two processes) and 19 (three)
    size = {2: 15, 3: 9}[count]
    args = arguments(pairs, many, '--data.batch_size', str(size), *options)
    outcomes = fit_together(args, tmp_path / 'logs', count)
    assert [o.code for o in outcomes] == [0] * count, outcomes[0].output
    main(arguments(pairs, one, '--data.batch_size', str(size * count), *options))
    check_equal(one, many)


@pytest.mark.slow
@pytest.mark.parametrize('resident', [False, True])
def test_samples_without_labels(resident: bool, tmp_path: Path) -> None:
    classes = ['Crop', 'Water', 'pool']
    root = write_pairs(tmp_path / 'pairs', classes=classes, count=20)
    options = [*WITHOUT_NORM, '--data.unlabelled', 'pool']
    options += ['--data.unlabelled_ratio', '0.7']
    if resident:
        root = pack_folders(root, unlabelled='pool')
        options += ['--data.resident', 'true']
    one, two = tmp_path / 'one', tmp_path / 'two'
    # 28 labelled samples: batches of 10, 10 and 8, with 7, 7 and 6 without labels
    args = arguments(root, two, '--data.batch_size', '5', *options)
    outcomes = fit_together(args, tmp_path / 'logs')
    assert [o.code for o in outcomes] == [0, 0], outcomes[0].output
    main(arguments(root, one, '--data.batch_size', '10', *options))
    check_equal(one, two)


@pytest.mark.slow
@pytest.mark.parametrize('loss', ['KD', 'DKD', 'CTKD', 'MLKD'])
def test_distillation(loss: str, tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / 'pairs', count=33)
    teacher = tmp_path / 'ms.safetensors'
    FusionClassification(
        {'ms': 13}, 2, model='test_efficientnet_gn', labels=['Crop', 'Water']
    ).save_classifier('ms', teacher, scores={}, epoch=0)
    one, many = tmp_path / 'one', tmp_path / 'many'

    def options(folder: Path, batch_size: int) -> list[str]:
        given = arguments(pairs, folder, '--data.batch_size', str(batch_size))
        given[2] = 'Distillation'
        return [
            *(*given, '--model.teacher', str(teacher), '--model.loss', loss),
            *('--model.model', 'test_efficientnet_gn', '--optimizer', 'SGD'),
            *('--optimizer.lr', '0.01', '--trainer.precision', '64-true'),
        ]

    # 46 training samples: 27, then 7 + 6 + 6
    outcomes = fit_together(options(many, 9), tmp_path / 'logs', 3)
    assert [o.code for o in outcomes] == [0, 0, 0], outcomes[0].output
    if loss != 'MLKD':
        # which compares the samples of each process among themselves
        main(options(one, 27))
        check_equal(one, many)


@pytest.mark.slow
def test_a_process_is_killed(pairs: Path, tmp_path: Path) -> None:
    run = tmp_path / 'run'

    def kill(self: DisCoMKD) -> None:
        if self.global_rank == 1 and self.current_epoch == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DisCoMKD, 'on_train_batch_end', lambda self, *_: kill(self))
        args = arguments(pairs, run, '--data.batch_size', '8')
        first, second = fit_together(args, tmp_path / 'logs')
    assert second.code == -signal.SIGKILL
    assert first.code == 2
    assert 'error: another process of this command has ended' in first.output
    assert (run / 'last.ckpt').exists()
    assert not (run / '.lock').exists()


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason='needs two GPUs')
def test_synchronised_batch_norm(pairs: Path, tmp_path: Path) -> None:
    one, two = tmp_path / 'one', tmp_path / 'two'
    for folder, devices, size in ((one, '1', '16'), (two, '2', '8')):
        args = arguments(pairs, folder, '--data.batch_size', size, epochs=1)
        args[args.index('--trainer.accelerator') + 1] = 'gpu'
        args += ['--trainer.strategy', 'ddp', '--trainer.devices', devices]
        args += ['--trainer.sync_batchnorm', 'true', '--optimizer', 'SGD']
        args += ['--optimizer.lr', '0.01', '--model.model', 'test_resnet']
        module = [sys.executable, '-W', 'ignore', '-m', 'torchgeo_discomkd']
        subprocess.run([*module, *args], check=True, cwd=Path(__file__).parents[2])
    expected, found = logged(one), logged(two)
    for name in ('train_loss', 'val_loss', 'val_sar_F1Score', 'val_ms_F1Score'):
        assert found[name] == pytest.approx(expected[name], rel=1e-2)


@contextmanager
def broken_in(rank: int) -> Iterator[None]:
    """Make the loss of one process infinite, from its second step on."""
    compute = DisCoMKD.objective

    def objective(self: DisCoMKD, inputs: Any) -> Any:
        loss, terms = compute(self, inputs)
        if self.global_rank == rank and self.global_step:
            loss = loss + torch.inf
        return loss, terms

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DisCoMKD, 'objective', objective)
        yield


@pytest.mark.slow
def test_one_process_is_not_finite(pairs: Path, tmp_path: Path) -> None:
    args = arguments(pairs, tmp_path / 'run', '--data.batch_size', '8', epochs=1)
    with broken_in(1):
        first, second = fit_together(args, tmp_path / 'logs')
    assert (first.code, second.code) == (2, 2)
    assert first.output.count('error: in process 1 of 2: the loss is not') == 1
    assert 'error' not in second.output


def test_more_processes_than_batches(pairs: Path, tmp_path: Path) -> None:
    args = arguments(pairs, tmp_path / 'run', '--data.batch_size', '28')
    first, second = fit_together(args, tmp_path / 'logs')
    assert (first.code, second.code) == (2, 2)
    text = 'error: 2 processes, but only 1 batches of batch_size=28 in 28 training'
    assert first.output.count(text) == 1
    assert 'error' not in second.output
    assert not (tmp_path / 'run' / 'config.yaml').exists()


@pytest.mark.slow
def test_resumed_by_other_processes(pairs: Path, tmp_path: Path) -> None:
    run, whole = tmp_path / 'run', tmp_path / 'whole'
    options = ['--data.batch_size', '8', *WITHOUT_NORM]
    args = arguments(pairs, run, *options, epochs=1)
    assert [o.code for o in fit_together(args, tmp_path / 'logs')] == [0, 0]
    main(arguments(pairs, whole, '--data.batch_size', '16', *WITHOUT_NORM))
    resume = ['fit', '--config', str(run / 'config.yaml'), '--trainer.max_epochs', '2']
    resume += ['--ckpt_path', str(run / 'last.ckpt'), '--trainer.strategy', 'auto']
    resume += ['--trainer.devices', '1']
    with pytest.raises(CheckpointError, match='written by 2 processes with --data'):
        run_command(resume)
    main([*resume, '--data.batch_size', '16'])
    # a resumed run logs into a file of its own
    check_files(whole, run)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['strategy', 'fsdp'], 'FSDP'),
        (['strategy', 'ddp_spawn', 'devices', '2'], "strategy='ddp_spawn' is for"),
        (['strategy', 'ddp', 'sync_batchnorm', 'true'], 'sync_batchnorm: PyTorch'),
    ],
)
def test_trainers_that_are_refused(
    options: list[str], message: str, pairs: Path, tmp_path: Path
) -> None:
    names = [f'--trainer.{x}' if n % 2 == 0 else x for n, x in enumerate(options)]
    with pytest.raises(UserError, match=message):
        run_command(arguments(pairs, tmp_path / 'run', *names))
    assert not (tmp_path / 'run').exists()


@pytest.mark.slow
def test_the_command_line_starts_the_processes(pairs: Path, tmp_path: Path) -> None:
    run = tmp_path / 'run'

    def command(name: str, *others: str) -> subprocess.CompletedProcess[str]:
        ddp = ['--trainer.strategy', 'ddp', '--trainer.devices', '2']
        module = [sys.executable, '-W', 'ignore', '-m', 'torchgeo_discomkd']
        return subprocess.run(
            [*module, name, *others, *ddp],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
            check=False,
        )

    args = arguments(pairs, run, '--data.batch_size', '8', epochs=1)
    done = command(*args)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('Best classifiers in') == 1
    config = ['--config', str(run / 'config.yaml')]
    for name in ('validate', 'test'):
        done = command(name, *config)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count('F1 of class') == 1
    done = command('predict', *config)
    assert done.returncode == 0, done.stderr
    for modality in ('ms', 'sar'):
        with (run / 'predictions' / f'{modality}.csv').open() as file:
            paths = [row['path'] for row in csv.DictReader(file)]
        assert len(paths) == len(set(paths)) == 10

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from lightning.pytorch.cli import LightningCLI
from safetensors.torch import load_file

from torchgeo_discomkd.benchmark import (
    BenchmarkConfig,
    Results,
    plan,
    read_config,
    run_benchmark,
)
from torchgeo_discomkd.benchmark.predictions import read_predictions
from torchgeo_discomkd.commands import main
from torchgeo_discomkd.commands.fit import run as fit
from torchgeo_discomkd.errors import CorruptFileError, RunFolderExistsError

from ..fakes import write_pairs
from .conftest import write_config_file

WriteConfig = Callable[..., Path]

#: What depends on the machine, not on the method.
MEASURED = ['seconds', 'teacher_seconds', 'version', 'hardware']


def read(folder: Path) -> pd.DataFrame:
    """Read the results of a benchmark, without what the clock says."""
    frame = pd.read_csv(folder / 'results.csv', keep_default_na=False)
    return frame.drop(columns=MEASURED)


@pytest.mark.slow
def test_benchmark(
    pairs: Path,
    write_config: WriteConfig,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    names = [f'{c}_{i}.tif,E{i % 10}' for c in ('Crop', 'Water') for i in range(1, 21)]
    (tmp_path / 'index.csv').write_text('\n'.join(['file,event', *names]))
    groups = {'split_scheme': 'groups', 'group_column': 'event', 'batch_size': 8}
    groups |= {'root': str(pairs), 'groups': str(tmp_path / 'index.csv')}
    path = write_config(
        scenarios=['cross-modal', 'multi-modal'],
        formulations=['paper', 'released'],
        ablations=['modality'],
        data={'class_path': 'PairedFoldersDataModule', 'init_args': groups},
    )
    with caplog.at_level(logging.INFO, 'lightning.pytorch'):
        main(['benchmark', str(path)])
    # once, and not in every training
    assert [m for m in caplog.messages if ' images in ' in m] == [
        f'{m}: 40 images in 2 classes below {tmp_path}/pairs/{m}' for m in ('ms', 'sar')
    ]
    output = capsys.readouterr().out
    assert '[1/9] run 0: student-ms: ms F1' in output
    folder = tmp_path / 'results'
    frame = read(folder)
    trainings = plan(read_config(path))
    assert set(frame.training) == {t.name for t in trainings}
    # a DisCoM-KD training gives two classifiers with three read-outs each
    assert len(frame) == 6 + 3 * 6
    assert frame.gflop.gt(0).all()
    assert frame.F1.between(0, 1).all()
    assert frame.F1_Crop.notna().all()

    student = frame.query('training == "student-sar"').iloc[0]
    taught = frame.query('training == "kdv1-sar-from-ms"').iloc[0]
    own = frame.query('training == "discomkd-paper" and modality == "sar"').iloc[0]
    weights = load_file(folder / 'runs/run0/student-sar/best/sar.safetensors')
    names = [n for n in weights if n.endswith(('.weight', '.bias'))]
    assert student.parameters == sum(weights[name].numel() for name in names)
    # two encoders are deployed where a student has one
    assert own.parameters > 1.9 * student.parameters
    # forward and backward of the student, forward of the teacher
    assert taught.gflop > 1.2 * student.gflop
    assert own.gflop > 3.5 * student.gflop
    assert taught.teacher_gflop == frame.query('training == "student-ms"').gflop.item()
    assert not list(folder.rglob('last.ckpt'))

    text = (folder / 'tables.md').read_text()
    # 5 to 8: the gap in the cross-modal and, for both modalities, the other scenario
    numbers = re.findall(r'^## Table (\d)\.', text, re.MULTILINE)
    assert numbers == [str(i) for i in range(1, 9)]
    assert 'Missing' not in text
    assert (folder / 'tables.tex').read_text().count(r'\begin{tabular}') == 8
    assert "of the 2 groups in 'event'" in text
    for training in trainings:
        kept = read_predictions(Results(read_config(path)).run_folder(training))
        assert kept is not None
        assert set(kept.group) == {'E0', 'E1'}
        for modality, rows in kept.groupby('modality'):
            assert len(rows) == 8
            assert (rows['sample'].str.partition('/')[0] == rows.label).all()
            row = frame[frame.training.eq(training.name) & frame.modality.eq(modality)]
            right = (rows.label == rows.prediction).mean()
            accuracy = row[row.readout == 'full'].OverallAccuracy.item()
            assert accuracy == pytest.approx(right)
    assert len(list((folder / 'figures').glob('*.png'))) == 5

    # all is finished: nothing is trained again
    before = (folder / 'results.csv').read_bytes()
    main(['benchmark', str(path)])
    assert capsys.readouterr().out.count('run 0:') == 0
    assert (folder / 'results.csv').read_bytes() == before

    # three files are enough to write the report and to go on elsewhere
    text = (folder / 'tables.md').read_text()
    shutil.rmtree(folder / 'runs')
    for name in ('tables.md', 'failures.json'):
        (folder / name).unlink(missing_ok=True)
    main(['benchmark', str(path)])
    assert (folder / 'tables.md').read_text() == text
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(['benchmark', str(path), '--methods', '[KDv1, KDv2]'])
    assert 'best/ms.safetensors is missing: copy it, or' in capsys.readouterr().out


#: What is left of a training that was stopped in its first epoch.
LEFTOVER = 'runs/run0/student-ms/best/ms.safetensors'


@pytest.fixture(scope='module')
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of two runs, the first of which found :data:`LEFTOVER`; for reading."""
    root = tmp_path_factory.mktemp('two_runs')
    changes = {'runs': 2, 'seed': 3, 'methods': [], 'targets': ['sar']}
    pairs = write_pairs(root / 'pairs', count=20)
    path = write_config_file(root, pairs, **changes)
    leftover = root / 'results' / LEFTOVER
    Results(read_config(path)).claim()
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b'half')
    main(['benchmark', str(path)])
    return root / 'results'


@pytest.mark.slow
def test_runs_have_seeds_and_splits_of_their_own(two_runs: Path) -> None:
    frame = read(two_runs)
    assert sorted(set(zip(frame.run, frame.seed, strict=True))) == [(0, 3), (1, 4)]
    files = [
        two_runs / f'runs/run{run}/student-sar/best/sar.safetensors' for run in (0, 1)
    ]
    first, second = (load_file(file) for file in files)
    assert any(not torch.equal(first[name], second[name]) for name in first)
    manifests = [file.parents[1] / 'manifest.json' for file in files]
    hashes = {pd.read_json(m, typ='series').split_hash for m in manifests}
    assert len(hashes) == 2


@pytest.mark.slow
def test_killed_and_restarted_equals_uninterrupted(
    write_config: WriteConfig, tmp_path: Path
) -> None:
    trainer = {'max_epochs': 3, 'accelerator': 'cpu'}
    path = write_config(trainer=trainer)
    command = [sys.executable, '-m', 'torchgeo_discomkd', 'benchmark', str(path)]
    environment = os.environ | {'OMP_NUM_THREADS': '1'}
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    folder = tmp_path / 'results'
    halfway = folder / 'runs/run0/student-sar/last.ckpt'
    deadline = time.monotonic() + 120
    while not halfway.exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert set(read(folder).training) == {'student-ms'}

    run_benchmark(read_config(path), fit)
    interrupted = read(folder)
    shutil.rmtree(folder)
    run_benchmark(read_config(path), fit)
    pd.testing.assert_frame_equal(interrupted, read(folder))


@pytest.mark.slow
def test_a_training_stopped_in_its_first_epoch_is_redone(two_runs: Path) -> None:
    assert load_file(two_runs / LEFTOVER)


@pytest.mark.slow
def test_a_failure_is_listed_and_tried_again(
    write_config: WriteConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(targets=['sar'])
    folder = tmp_path / 'results'
    Results(read_config(path)).claim()
    # a file where the teacher's folder belongs
    blocker = folder / 'runs/run0/student-ms'
    blocker.parent.mkdir(parents=True)
    blocker.write_text('')
    with pytest.raises(SystemExit) as info:
        main(['benchmark', str(path)])
    assert info.value.code == 1
    output = capsys.readouterr().out
    assert 'run 0: student-ms: failed' in output
    assert 'its teacher student-ms failed' in output
    assert set(read(folder).training) == {'student-sar', 'discomkd-paper'}
    assert '## Missing' in (folder / 'tables.md').read_text()

    blocker.unlink()
    main(['benchmark', str(path)])
    assert 'student-ms' in set(read(folder).training)
    assert 'Missing' not in (folder / 'tables.md').read_text()


def killed(args: dict[str, Any]) -> LightningCLI:
    """Train, but the process of a student with a teacher is killed."""
    if 'kdv1' in args['fit']['trainer']['default_root_dir']:
        os.kill(os.getpid(), signal.SIGKILL)
    return fit(args)


@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason='needs two cores')
def test_jobs_give_the_same_rows_and_may_be_killed(
    two_runs: Path, write_config: WriteConfig, tmp_path: Path
) -> None:
    path, folder = write_config(seed=3, targets=['sar']), tmp_path / 'results'
    lines: list[str] = []
    failures = run_benchmark(read_config(path), killed, lines.append, jobs=2).failures
    # started after its teacher: else that would be the reason
    assert list(failures) == ['run 0: kdv1-sar-from-ms']
    assert 'its process ended with SIGKILL' in failures['run 0: kdv1-sar-from-ms']
    assert sorted(line[:5] for line in lines) == ['[1/4]', '[2/4]', '[3/4]', '[4/4]']
    assert '0:00:00 left' in lines[-1]
    order = ['training', 'modality', 'readout']
    one_by_one = read(two_runs).query('run == 0').set_index(order).sort_index()
    found = read(folder).set_index(order).sort_index()
    pd.testing.assert_frame_equal(found, one_by_one)

    main(['benchmark', str(path)])
    results = Results(read_config(path))
    assert not results.failures
    assert results.find(0, 'kdv1-sar-from-ms')


def test_the_folder_of_another_configuration_is_refused(
    write_config: WriteConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Results(read_config(write_config())).claim()
    with pytest.raises(SystemExit) as info:
        main(['benchmark', str(write_config(model='resnet18'))])
    assert info.value.code == 2
    error = capsys.readouterr().err
    assert 'another configuration (model: test_resnet -> resnet18)' in error
    # what only adds to the results is welcome
    assert (
        Results(read_config(write_config(runs=4, methods=['DKD', 'KDv1']))).rows == []
    )


def test_a_mistake_in_the_trainer_is_no_interrupt(
    write_config: WriteConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(trainer={'max_epoch': 1}, methods=[], targets=['sar'])
    with pytest.raises(SystemExit) as info:
        main(['benchmark', str(path)])
    assert info.value.code == 1
    assert 'max_epoch' in capsys.readouterr().out


@pytest.mark.usefixtures('handlers')
@pytest.mark.parametrize(
    ('number', 'code'),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)],
)
def test_an_interrupt_while_scoring(
    number: int,
    code: int,
    write_config: WriteConfig,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # sent with the first batch of the test split
    stop = {'class_path': 'tests.commands.test_fit.Signal'}
    stop['init_args'] = {'number': int(number), 'epoch': 9}
    trainer = {'max_epochs': 1, 'accelerator': 'cpu', 'callbacks': [stop]}
    level = logging.getLogger('lightning.pytorch').level
    with pytest.raises(SystemExit) as stopped:
        main(['benchmark', str(write_config(trainer=trainer))])
    assert stopped.value.code == code
    assert 'Run the same command again' in capsys.readouterr().err
    # trainings that follow in this process report as before
    assert logging.getLogger('lightning.pytorch').level == level


def test_an_interrupt_before_the_first_training_leaves_the_folder_usable(
    write_config: WriteConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(config: BenchmarkConfig) -> None:
        raise KeyboardInterrupt

    path = write_config()
    with monkeypatch.context() as patch:
        patch.setattr('torchgeo_discomkd.benchmark.runner.check_data', interrupt)
        with pytest.raises(SystemExit) as info:
            main(['benchmark', str(path)])
    assert info.value.code == 130
    assert Results(read_config(path)).rows == []


def test_data_of_runs_that_change_are_refused(
    write_config: WriteConfig, tmp_path: Path
) -> None:
    Results(read_config(write_config(runs=2))).claim()
    same = [{'run': 0}, {'run': 1}, {'run': 2}]
    with pytest.raises(RunFolderExistsError, match='run_data'):
        Results(read_config(write_config(runs=3, run_data=same)))


def test_a_file_in_place_of_the_folder_is_refused(
    write_config: WriteConfig, tmp_path: Path
) -> None:
    (tmp_path / 'results').write_text('mine')
    with pytest.raises(RunFolderExistsError, match='is a file'):
        Results(read_config(write_config()))


def test_a_foreign_folder_is_refused(write_config: WriteConfig, tmp_path: Path) -> None:
    (tmp_path / 'results').mkdir()
    (tmp_path / 'results/thesis.txt').write_text('mine')
    with pytest.raises(RunFolderExistsError, match='not empty'):
        Results(read_config(write_config()))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'num_classes': 3}, 'num_classes=3, but the data have 2 classes'),
        ({'in_channels': {'ms': 13, 'sar': 1}}, 'the data have'),
        ({'data': {'class_path': 'EuroSAT'}}, 'data.class_path=EuroSAT'),
    ],
)
def test_data_that_fit_no_training_are_refused_at_once(
    write_config: WriteConfig,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(SystemExit) as info:
        main(['benchmark', str(write_config(**changes))])
    assert info.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / 'results').exists()


@pytest.mark.parametrize('text', ['run,F1\n0', ''])
def test_a_damaged_table_is_named(
    write_config: WriteConfig, tmp_path: Path, text: str
) -> None:
    config = read_config(write_config())
    Results(config).claim()
    (tmp_path / 'results/results.csv').write_text(text)
    with pytest.raises(CorruptFileError, match=r'results\.csv'):
        Results(config)


def test_dry_run(
    write_config: WriteConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(['benchmark', str(write_config(runs=2)), '--dry-run'])
    output = capsys.readouterr().out
    assert '8 trainings in 2 runs' in output
    assert 'kdv1-sar-from-ms (teacher: student-ms)' in output
    assert 'About 0:' in output
    assert not (tmp_path / 'results').exists()
    data = {
        'class_path': 'PairedFoldersDataModule',
        'init_args': {'root': str(tmp_path / 'none')},
    }
    main(['benchmark', str(write_config(data=data)), '--dry-run'])
    output = capsys.readouterr().out
    assert 'cannot be estimated without the data' in output
    assert f'no folder {tmp_path / "none"}' in output

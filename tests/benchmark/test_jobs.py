# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from torchgeo_discomkd.benchmark import plan, read_config, run_benchmark
from torchgeo_discomkd.benchmark.jobs import Outcome, Processes
from torchgeo_discomkd.benchmark.plan import Training
from torchgeo_discomkd.commands import main
from torchgeo_discomkd.commands.fit import run as fit
from torchgeo_discomkd.errors import SettingError

WriteConfig = Callable[..., Path]
CORES = len(os.sched_getaffinity(0))


def alive(process: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        return '\nState:\tZ' not in Path(f'/proc/{process}/status').read_text()
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def endless(training: Training, file: Path) -> Outcome:
    """Write the id of this process and its number of threads; never end."""
    file.write_text(f'{os.getpid()} {torch.get_num_threads()}')
    while True:
        time.sleep(1)


@pytest.mark.slow
def test_an_interrupt_ends_the_processes(
    write_config: WriteConfig, tmp_path: Path
) -> None:
    training, file = plan(read_config(write_config()))[0], tmp_path / 'id'
    before = torch.get_num_threads()
    torch.set_num_threads(5)
    try:
        workers = Processes(2, endless)
    finally:
        torch.set_num_threads(before)
    with pytest.raises(KeyboardInterrupt), workers:
        workers.start(training, file)
        assert workers.free == 1
        wait_until(lambda: file.exists() and len(file.read_text().split()) == 2)
        process, threads = map(int, file.read_text().split())
        assert threads == 2
        # a terminal sends Ctrl-C to all processes: this one leaves it to its parent
        os.kill(process, signal.SIGINT)
        time.sleep(0.2)
        assert alive(process)
        raise KeyboardInterrupt
    assert not alive(process)


@pytest.mark.parametrize('jobs', [0, -1, CORES + 1])
@pytest.mark.parametrize('options', [[], ['--dry-run']])
def test_jobs_that_the_machine_cannot_run(
    jobs: int,
    options: list[str],
    write_config: WriteConfig,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write_config()
    with pytest.raises(SystemExit) as info:
        main(['benchmark', str(path), '--jobs', str(jobs), *options])
    assert info.value.code == 2
    error = capsys.readouterr().err
    assert f'jobs={jobs}: ' in error
    assert (f'may use {CORES}: give {CORES} or fewer' in error) == (jobs > 0)
    with pytest.raises(SettingError):
        run_benchmark(read_config(path), fit, jobs=jobs)
    assert not (tmp_path / 'results').exists()


def children(process: int) -> list[int]:
    tasks = Path(f'/proc/{process}/task').glob('*/children')
    return [int(child) for task in tasks for child in task.read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(CORES < 2, reason='needs a core for each job')
@pytest.mark.parametrize(
    ('number', 'code'),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_stopped_command(
    number: int, code: int, write_config: WriteConfig, tmp_path: Path
) -> None:
    trainer = {'max_epochs': 10_000, 'accelerator': 'cpu'}
    path = write_config(trainer=trainer, methods=[], targets=['sar'])
    program = (
        'import signal; signal.signal(signal.SIGINT, signal.default_int_handler); '
        'from torchgeo_discomkd.commands import main; main()'
    )
    command = [sys.executable, '-c', program, 'benchmark', str(path), '--jobs', '2']
    runs = tmp_path / 'results/runs/run0'
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        halfway = [runs / name / 'last.ckpt' for name in ('student-ms', 'student-sar')]
        wait_until(lambda: all(file.exists() for file in halfway), 120)
        started = children(process.pid)
        assert len(started) >= 2
        process.send_signal(number)
        _, error = process.communicate(timeout=60)
    assert process.returncode == code
    assert 'Traceback' not in error
    wait_until(lambda: not any(alive(child) for child in started))
    # both go on from their last epoch
    assert all(torch.load(file, weights_only=True)['epoch'] >= 0 for file in halfway)

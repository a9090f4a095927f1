# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Short forms of the scripts that kill commands and start them twice."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import TINY
from tests.faults.commands import COMMANDS
from tests.faults.kill import kill
from tests.faults.two_at_once import ONE_WROTE, two_at_once
from torchgeo_discomkd.commands import main
from torchgeo_discomkd.files import only_writer, open_atomically, remove_abandoned

ALL = pytest.mark.parametrize(
    'name',
    [
        'classify',
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in COMMANDS
            if name != 'classify'
        ),
    ],
)


@ALL
def test_a_kill_loses_nothing(name: str, tmp_path: Path) -> None:
    (tmp_path / 'data').mkdir()
    counts = kill(COMMANDS[name](tmp_path / 'data'), tmp_path, 2, ['KILL', 'TERM'])
    assert counts.good, f'{counts}\n{counts.problems}'


@ALL
def test_one_of_two_writes(name: str, tmp_path: Path) -> None:
    (tmp_path / 'data').mkdir()
    ends = two_at_once(COMMANDS[name](tmp_path / 'data'), tmp_path, 1)
    assert ends == {ONE_WROTE: 1}


def arguments(name: str, files: dict[str, Path], output: Path) -> list[str]:
    """Return a command that writes *output*."""
    file, tiles, pairs = map(str, (files['sar'], files['tiles'], files['pairs']))
    data = ['--data', 'PairedFoldersDataModule', '--data.root', pairs]
    match name:
        case 'fit':
            run = ['--trainer.default_root_dir', str(output), *TINY]
            return [
                'fit',
                '--model',
                'DisCoMKD',
                '--model.num_classes',
                '2',
                *data,
                *run,
            ]
        case 'benchmark':
            return ['benchmark', str(files['config']), '--results', str(output)]
        case 'pack':
            return ['pack', *data, '--output', str(output)]
        case 'export':
            return ['export', file, '--output', str(output)]
        case 'predict':
            data = ['--data', 'SARTilesDataModule', '--data.paths', tiles]
            run = ['--trainer.default_root_dir', str(output.parent.parent)]
            model = ['--model', 'PretrainedClassification', '--model.classifiers']
            return ['predict', *model, f'{{sar: {file}}}', *data, *run]
    return ['classify', file, tiles, '--output', str(output), '--device', 'cpu']


@pytest.mark.parametrize(
    ('name', 'output'),
    [
        ('fit', 'run/'),
        ('benchmark', 'results/'),
        ('pack', 'pack.safetensors'),
        ('export', 'sar.pt2'),
        ('predict', 'run/predictions/sar.parquet'),
        ('classify', 'tiles.csv'),
        ('classify', 'map.tif'),
        ('classify', 'maps/'),
    ],
)
def test_the_second_writer_is_refused(
    name: str,
    output: str,
    pairs: Path,
    student_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from tests.benchmark.conftest import write_config_file

    tile = pairs / 'sar' / 'Crop' / 'Crop_1.tif'
    files = {'sar': student_file, 'pairs': pairs, 'tiles': tile}
    files['config'] = write_config_file(tmp_path, pairs)
    path = tmp_path / output
    folders = [path] if output.endswith('/') else []
    with only_writer(*([] if folders else [path]), folders=folders):
        written = set(path.parent.iterdir())
        with pytest.raises(SystemExit) as stop:
            main(arguments(name, files, path))
        assert set(path.parent.iterdir()) == written
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert f'{path} is being written by another process' in error
    assert error.splitlines()[-1].startswith('error: ')
    assert not path.exists()


def test_a_death_releases_and_the_next_run_cleans_up(tmp_path: Path) -> None:
    file = tmp_path / 'sar.onnx'
    program = (
        'import os, signal, sys, time; from pathlib import Path\n'
        'from torchgeo_discomkd.files import only_writer, open_atomically\n'
        'path = Path(sys.argv[1])\n'
        'with only_writer(path), open_atomically(path):\n'
        '    if os.fork() == 0: time.sleep(60)\n'
        '    else: time.sleep(0.3); os.kill(os.getpid(), signal.SIGKILL)\n'
    )
    command = [sys.executable, '-c', program, str(file)]
    # a process that a killed one has started, such as a loader's, holds no lock
    with subprocess.Popen(command, start_new_session=True) as process:
        assert process.wait() == -signal.SIGKILL
        kept = {path.name for path in tmp_path.iterdir()}
        assert '.sar.onnx.lock' in kept
        assert len(kept) == 2
        with only_writer(file):
            remove_abandoned(file)
        os.killpg(process.pid, signal.SIGKILL)
    assert not list(tmp_path.iterdir())
    with only_writer(file), open_atomically(file) as opened:
        opened.write(b'new')
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize('supported', [True, False])
def test_a_file_system_without_locks_is_named(
    tmp_path: Path, supported: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if supported:
        # a folder in place of the file cannot be locked
        (tmp_path / '.x.csv.lock').mkdir()
    else:

        def flock(*args: object) -> None:
            raise OSError(errno.ENOSYS, 'Function not implemented')

        monkeypatch.setattr(fcntl, 'flock', flock)
    with (
        pytest.warns(UserWarning, match='cannot be locked'),
        only_writer(tmp_path / 'x.csv'),
    ):
        # nothing that would outlive this process
        assert supported or not any(p.read_bytes() for p in tmp_path.iterdir())

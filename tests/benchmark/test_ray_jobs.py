# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from torchgeo_discomkd.benchmark import read_config, run_benchmark
from torchgeo_discomkd.commands import main
from torchgeo_discomkd.commands.fit import run as fit
from torchgeo_discomkd.errors import SettingError

WriteConfig = Callable[..., Path]

#: Columns that tell how long something took.
TIMES = ['seconds', 'teacher_seconds']


def kill_a_worker(folder: Path, stop: threading.Event) -> None:
    """Kill the process that trains as soon as it has written a checkpoint."""
    while not stop.wait(0.05):
        if not list(folder.glob('runs/run0/*/last.ckpt')):
            continue
        for entry in Path('/proc').glob('[0-9]*'):
            try:
                line = (entry / 'cmdline').read_bytes()
            except OSError:
                continue
            if line.startswith(b'ray::_Worker.run') and _is_ours(int(entry.name)):
                os.kill(int(entry.name), signal.SIGKILL)
                return


def _is_ours(process: int) -> bool:
    """Return whether a process descends from this one."""
    while process > 1:
        if process == os.getpid():
            return True
        lines = Path(f'/proc/{process}/status').read_text().splitlines()
        [parent] = [line.split()[1] for line in lines if line.startswith('PPid:')]
        process = int(parent)
    return False


def test_an_address_needs_ray(
    write_config: WriteConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config()
    with pytest.raises(SystemExit) as info:
        main(['benchmark', str(path), '--address', 'auto'])
    assert info.value.code == 2
    assert 'address=auto: only with --engine ray' in capsys.readouterr().err
    with pytest.raises(SettingError):
        run_benchmark(read_config(path), fit, address='auto')
    assert not (tmp_path / 'results').exists()


@pytest.mark.slow
def test_a_killed_worker_leaves_the_local_table(
    write_config: WriteConfig,
    tmp_path: Path,
    ray: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trainer = {'max_epochs': 3, 'accelerator': 'cpu', 'num_sanity_val_steps': 0}
    path = write_config(trainer=trainer, targets=['sar'])
    main(['benchmark', str(path)])
    results = tmp_path / 'results'
    local = results.rename(tmp_path / 'local')
    stop = threading.Event()
    killer = threading.Thread(target=kill_a_worker, args=(results, stop))
    killer.start()
    try:
        main(['benchmark', str(path), '--engine', 'ray', '--jobs', '1'])
    finally:
        stop.set()
        killer.join()
    assert 'died, which is tried again' in capsys.readouterr().out
    frames = [pd.read_csv(folder / 'results.csv') for folder in (local, results)]
    order = ['training', 'modality', 'readout']
    one, two = (f.drop(columns=TIMES).sort_values(order) for f in frames)
    pd.testing.assert_frame_equal(
        one.reset_index(drop=True), two.reset_index(drop=True)
    )
    assert not (results / 'failures.json').exists()

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import multiprocessing
import os
import signal
from pathlib import Path

import pytest
from lightning.pytorch import Callback
from torch.utils.data import DataLoader, Dataset

from torchgeo_discomkd.commands import main
from torchgeo_discomkd.commands.fit import as_user_error
from torchgeo_discomkd.errors import WorkerError

from ..conftest import TINY


class KillWorkers(Callback):
    """Does what a system that is short of memory does."""

    def on_train_batch_start(self, *args: object) -> None:
        for process in multiprocessing.active_children():
            os.kill(process.pid or 0, signal.SIGKILL)


class Killed(Dataset):
    """Ends its process like a system that is short of memory."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return index


def test_error_of_a_killed_loader() -> None:
    with pytest.raises(RuntimeError) as caught:
        list(DataLoader(Killed(), num_workers=1))
    named = as_user_error(caught.value)
    assert isinstance(named, WorkerError)
    assert '--data.num_workers' in str(named)
    assert as_user_error(RuntimeError('another one')) is None


@pytest.mark.slow
def test_killed_loader_is_named(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ['fit', '--model', 'DisCoMKD', '--model.num_classes', '2', *TINY]
    args += ['--data', 'PairedFoldersDataModule', '--data.root', str(pairs)]
    args += ['--data.batch_size', '4', '--data.num_workers', '1']
    args += [
        '--trainer.max_epochs',
        '1',
        '--trainer.callbacks+',
        f'{__name__}.KillWorkers',
    ]
    with pytest.raises(SystemExit) as stop:
        main([*args, '--trainer.default_root_dir', str(tmp_path / 'run')])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert 'a process that loads data was killed' in error
    assert '--data.num_workers' in error

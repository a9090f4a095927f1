# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from torchgeo_discomkd.callbacks import run_folder
from torchgeo_discomkd.callbacks.run_folder import check_run_folder
from torchgeo_discomkd.errors import RunFolderExistsError

from .runs import fit


class SharedLogger(Logger):
    """Like those of W&B ('.'), MLflow ('./mlruns') and a server (None)."""

    def __init__(self, save_dir: str | None) -> None:
        super().__init__()
        self._save_dir = save_dir

    @property
    def save_dir(self) -> str | None:
        return self._save_dir

    @property
    def name(self) -> str:
        return 'project'

    @property
    def version(self) -> str:
        return '3f9a'

    def log_metrics(self, *args: Any, **kwargs: Any) -> None:
        pass

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def classifiers(folder: Path) -> list[str]:
    """Return the folders of runs below a folder."""
    found = folder.rglob('best/sar.safetensors')
    return sorted(path.parents[1].relative_to(folder).as_posix() for path in found)


@pytest.mark.parametrize('save_dir', ['./mlruns', None])
def test_two_runs_with_a_shared_folder(save_dir: str | None, folder: Path) -> None:
    for _ in range(2):
        fit(None, logger=SharedLogger(save_dir))
    names = ['lightning_logs/version_0', 'lightning_logs/version_1']
    assert classifiers(folder) == names
    assert all((folder / name / 'last.ckpt').exists() for name in names)


def test_without_any_logger(folder: Path) -> None:
    trainers = [fit(None), fit(None)]
    names = ['lightning_logs/version_0', 'lightning_logs/version_1']
    assert classifiers(folder) == names
    assert [run_folder(t) for t in trainers] == [folder / name for name in names]


def test_the_folder_that_was_given(folder: Path) -> None:
    given = folder / 'mine'
    for _ in range(2):
        fit(given, logger=SharedLogger('.'))
    # the second one is not mixed with the first
    assert classifiers(folder) == ['mine', 'mine/version_0']
    with pytest.raises(RunFolderExistsError, match='default_root_dir or a new logger'):
        fit(given)


@pytest.mark.parametrize('shared', [False, True])
def test_a_logger_with_a_folder_for_each_run(shared: bool, folder: Path) -> None:
    kinds = [TensorBoardLogger] if not shared else [CSVLogger, TensorBoardLogger]
    for _ in range(2):
        own = [kind(str(folder), name=kind.__name__) for kind in kinds]
        fit(None, logger=[SharedLogger('.'), *own] if shared else own)
    name = kinds[0].__name__
    assert classifiers(folder) == [f'{name}/version_0', f'{name}/version_1']


def test_resumed_in_its_folder(folder: Path) -> None:
    fit(None, logger=SharedLogger('.'))
    last = folder / 'lightning_logs' / 'version_0' / 'last.ckpt'
    fit(None, logger=SharedLogger('.'), max_epochs=2, ckpt_path=str(last))
    assert classifiers(folder) == ['lightning_logs/version_0']
    assert torch.load(last, weights_only=True)['epoch'] == 1


def test_a_folder_in_which_nothing_was_won(folder: Path) -> None:
    (folder / 'run' / 'best' / 'students').mkdir(parents=True)
    (folder / 'run' / 'config.yaml').touch()
    check_run_folder(folder / 'run', None)
    fit(folder / 'run')
    with pytest.raises(RunFolderExistsError):
        check_run_folder(folder / 'run', None)


def test_stopped_before_the_end_of_the_first_epoch(folder: Path) -> None:
    fit(folder / 'run')
    with pytest.raises(RunFolderExistsError) as whole:
        check_run_folder(folder / 'run', None)
    assert 'remove' not in str(whole.value)
    # what is written at the end of an epoch
    for name in ('last.ckpt', 'manifest.json'):
        (folder / 'run' / name).unlink()
    best = folder / 'run' / 'best'
    advice = rf'nothing can be resumed.* remove {best} and train again'
    with pytest.raises(RunFolderExistsError, match=advice):
        fit(folder / 'run')
    assert list(best.iterdir())
    shutil.rmtree(best)
    fit(folder / 'run')
    assert (folder / 'run' / 'last.ckpt').exists()


def test_fast_dev_run_makes_no_folder(folder: Path) -> None:
    fit(None, logger=SharedLogger('.'), fast_dev_run=True)
    assert not list(folder.iterdir())

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Two runs in a row from one script, with the real loggers where they are installed."""

from collections.abc import Callable
from pathlib import Path

import pytest
from lightning.pytorch.loggers import Logger, MLFlowLogger, WandbLogger

from torchgeo_discomkd.callbacks import run_folder

from .runs import fit


def wandb_logger() -> Logger:
    return WandbLogger(project='project', offline=True)


def mlflow_logger() -> Logger:
    return MLFlowLogger('experiment', tracking_uri='file:./mlruns')


# what these libraries warn about is not ours
@pytest.mark.filterwarnings('default')
@pytest.mark.parametrize(
    ('library', 'create'), [('wandb', wandb_logger), ('mlflow', mlflow_logger)]
)
def test_two_runs_in_a_row(
    library: str,
    create: Callable[[], Logger],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('WANDB_SILENT', 'true')
    # newer versions want a database otherwise
    monkeypatch.setenv('MLFLOW_ALLOW_FILE_STORE', 'true')
    folders = [run_folder(fit(None, logger=create())) for _ in range(2)]
    names = ['version_0', 'version_1']
    assert folders == [tmp_path / 'lightning_logs' / name for name in names]
    for folder in folders:
        assert (folder / 'best' / 'sar.safetensors').exists()
        assert (folder / 'last.ckpt').exists()
    # a folder that was given: the second one gets its own in it
    given = [run_folder(fit(tmp_path / 'mine', logger=create())) for _ in range(2)]
    assert given == [tmp_path / 'mine', tmp_path / 'mine' / 'version_0']
    assert any((tmp_path / {'wandb': 'wandb', 'mlflow': 'mlruns'}[library]).iterdir())

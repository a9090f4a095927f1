# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import re

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar
from lightning.pytorch.demos.boring_classes import BoringModel
from torch import Tensor

from torchgeo_discomkd.callbacks import EpochLines
from torchgeo_discomkd.commands.fit import progress_bar


class Scored(BoringModel):
    """A task of somebody else that logs one F1."""

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log('val_water_F1Score', 0.25)


def fit(model: BoringModel, **kwargs: object) -> None:
    trainer = Trainer(
        callbacks=[EpochLines()],
        accelerator='cpu',
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        limit_train_batches=1,
        limit_val_batches=1,
        **kwargs,  # ty: ignore[invalid-argument-type]
    )
    trainer.fit(model)


def test_tasks_of_others_have_lines_too(capsys: pytest.CaptureFixture[str]) -> None:
    fit(BoringModel(), max_epochs=2)
    first, last = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r'epoch 0/1, \d+\.\d s, \d:\d\d:\d\d left', first)
    assert re.fullmatch(r'epoch 1/1, \d+\.\d s, 0:00:00 left', last)


def test_scores_are_those_of_the_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    fit(Scored(), max_epochs=-1, max_steps=3, check_val_every_n_epoch=2)
    one, two, three = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r'epoch 0, \d+\.\d s', one)
    assert re.fullmatch(r'epoch 1, \d+\.\d s; validation F1: water 0\.250', two)
    assert re.fullmatch(r'epoch 2, \d+\.\d s', three)


@pytest.mark.parametrize(
    ('terminal', 'kind'), [('1', RichProgressBar), ('0', EpochLines)]
)
def test_a_terminal_has_a_bar(
    terminal: str, kind: type[ProgressBar], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('TTY_COMPATIBLE', terminal)
    assert type(progress_bar()) is kind

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""No process waits for one that has stopped, or that does something alone."""

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader

from tests.callbacks.test_prediction_writer import Tiles, make_task
from torchgeo_discomkd.callbacks import PredictionWriter
from torchgeo_discomkd.errors import OutputExistsError, UserError
from torchgeo_discomkd.processes import first_decides

from .forked import in_processes


class Probe(Callback):
    """Records what happens in this process."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        def fill_the_disk() -> None:
            raise OSError('no space left')

        try:
            first_decides(trainer, fill_the_disk)
        except (OSError, UserError) as error:
            told = getattr(error, 'told', False)
            self.found.append(f'{type(error).__name__} {error} {told}')
        if trainer.global_rank == 1:
            # as after an error in one process
            pl_module.on_save_checkpoint({})
        self.found.append(str(first_decides(trainer, lambda: trainer.global_rank)))


def predict(folder: Path) -> list[str]:
    probe = Probe()
    trainer = Trainer(
        accelerator='cpu',
        strategy='ddp',
        devices=2,
        logger=False,
        enable_progress_bar=False,
        callbacks=[probe, PredictionWriter(str(folder))],
    )
    try:
        trainer.predict(make_task(), DataLoader(Tiles()), return_predictions=False)
    except OutputExistsError as error:
        probe.found.append(f'exists {error.told}')
    return probe.found


def test_nobody_waits(tmp_path: Path) -> None:
    (tmp_path / 'sar.csv').touch()
    first, second = in_processes(lambda _: predict(tmp_path), tmp_path / 'logs')
    assert first.value == ['OSError no space left False', '0', 'exists False']
    text = 'UserError in the first process: OSError: no space left True'
    assert second.value == [text, '0', 'exists True']

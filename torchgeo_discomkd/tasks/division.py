# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""How the batches of a training are divided among processes, for its checkpoints."""

from collections.abc import Mapping

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import nn

from ..datamodules import MultiModalDataModule
from ..errors import CheckpointError, SettingError
from ..processes import raising_everywhere

SYNC_ON_CPU = (
    'sync_batchnorm: PyTorch synchronises batch normalisation on GPUs only. Leave out '
    '--trainer.sync_batchnorm on a CPU.'
)


def note_division(trainer: Trainer) -> dict[str, int | None]:
    """Return what a checkpoint records.

    Args:
        trainer: The trainer.

    Returns:
        'processes', and 'batch_size' of each; None if it is unknown.
    """
    data = getattr(trainer, 'datamodule', None)
    size = data.batch_size if isinstance(data, MultiModalDataModule) else None
    return {'processes': trainer.world_size, 'batch_size': size}


def check_division(trainer: Trainer, saved: Mapping[str, int | None] | None) -> None:
    """Check that a resumed training has the batches of its first part.

    With one number of processes, the size of a batch is the user's decision.

    Args:
        trainer: The trainer.
        saved: What the checkpoint records; None: a version for one process wrote it.

    Raises:
        CheckpointError: If the number of processes differs, and so does the size of a
            batch of all of them together.
    """
    saved = saved or {'processes': 1, 'batch_size': None}
    own, processes = note_division(trainer), saved['processes']
    if own['processes'] == processes:
        return
    before, now = _all_together(saved), _all_together(own)
    if before is not None and before == now:
        rank_zero_info(
            f'resumed by {own["processes"]} processes instead of {processes}, with the '
            f'same {now} samples in a batch of all; augmentation draws others.'
        )
        return
    text = f' with --data.batch_size {saved["batch_size"]}' if before else ''
    with raising_everywhere(trainer):
        raise CheckpointError(
            f'the checkpoint was written by {processes} processes{text}, but '
            f'{own["processes"]} with --data.batch_size {own["batch_size"]} would '
            'resume it: their batches differ. Use as many processes '
            '(--trainer.devices, --trainer.num_nodes), or a batch_size with which the '
            'batch of all processes together has the same size.'
        )


def _all_together(division: Mapping[str, int | None]) -> int | None:
    processes, size = division['processes'], division['batch_size']
    return None if processes is None or size is None else processes * size


def check_batch_norm(trainer: Trainer, module: nn.Module) -> None:
    """Check that batch normalisation is not to be synchronised on a CPU.

    Args:
        trainer: The trainer, which has replaced the layers by now.
        module: The task.

    Raises:
        SettingError: If it is: PyTorch does that on GPUs only.
    """
    synchronised = any(isinstance(m, nn.SyncBatchNorm) for m in module.modules())
    if synchronised and trainer.strategy.root_device.type == 'cpu':
        with raising_everywhere(trainer):
            raise SettingError(SYNC_ON_CPU)

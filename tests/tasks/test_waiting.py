# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""No step of a training may read a value from the device, which would stall it.

A tensor on the meta device has no values: whatever would read one raises an error.
"""

from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torchgeo.datasets.utils import Sample

from torchgeo_discomkd.datamodules import PairedArraysDataModule
from torchgeo_discomkd.tasks import DisCoMKD, FusionClassification

#: Losses are logged, which needs a trainer.
pytestmark = pytest.mark.filterwarnings('ignore:You are trying to `self.log')

CHANNELS = {'ms': 13, 'sar': 2}
TRANSFER = {'transfer': True, 'transfer_guide': 'ms', 'transfer_warmup': 0}


def batch(paired: bool, device: str) -> Sample:
    sample: Sample = {
        f'image_{m}': torch.rand(4, c, 8, 8, device=device) for m, c in CHANNELS.items()
    }
    names = ['label'] if paired else [f'label_{m}' for m in CHANNELS]
    return sample | {n: torch.zeros(4, dtype=torch.long, device=device) for n in names}


def augmented(sample: Sample) -> Sample:
    datamodule = PairedArraysDataModule('unused', {'ms': 'MS', 'sar': 'SAR'})
    datamodule.trainer = Trainer(
        accelerator='cpu', logger=False, enable_checkpointing=False
    )
    datamodule.trainer.training = True
    return datamodule.on_after_batch_transfer(sample, 0)


@pytest.mark.parametrize(
    ('task_class', 'paired', 'options'),
    [
        (DisCoMKD, False, {'students': 'both'}),
        (
            DisCoMKD,
            True,
            {**TRANSFER, 'formulation': 'released', 'orthogonality': 'absolute'},
        ),
        (FusionClassification, True, {}),
    ],
)
def test_a_step_reads_no_value_from_the_device(
    task_class: type, paired: bool, options: dict[str, Any]
) -> None:
    task = task_class(CHANNELS, num_classes=2, model='test_resnet', **options)
    task.to('meta').train()
    loss: Tensor = task.training_step(augmented(batch(paired, 'meta')), 0)
    loss.backward()
    assert loss.device.type == 'meta'
    assert all(p.grad is not None for p in task.parameters())


def test_a_read_value_is_an_error_there() -> None:
    loss = torch.zeros((), device='meta')
    with pytest.raises(RuntimeError, match='meta'):
        loss.item()
    with pytest.raises(RuntimeError, match='meta'):
        bool(loss > 0)

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""No step of a training may read a value from the device, which would stall it.

A tensor on the meta device has no values: whatever would read one raises an error.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torchgeo.datasets.utils import Sample

from tests.fakes import write_arrays
from torchgeo_discomkd.datamodules import PairedArraysDataModule
from torchgeo_discomkd.tasks import (
    DisCoMKD,
    FusionClassification,
    classification_metrics,
)
from torchgeo_discomkd.tasks.metrics import HeldScores

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


def augmented(sample: Sample, root: Path) -> Sample:
    datamodule = PairedArraysDataModule(
        str(write_arrays(root)), {'ms': 'MS', 'sar': 'SAR'}, units={'sar': 'dB'}
    )
    datamodule.setup('fit')
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
    tmp_path: Path, task_class: type, paired: bool, options: dict[str, Any]
) -> None:
    task = task_class(CHANNELS, num_classes=2, model='test_resnet', **options)
    task.to('meta').train()
    loss: Tensor = task.training_step(augmented(batch(paired, 'meta'), tmp_path), 0)
    loss.backward()
    assert loss.device.type == 'meta'
    assert all(p.grad is not None for p in task.parameters())


@pytest.mark.parametrize('stage', ['validation', 'test'])
def test_scoring_a_batch_reads_no_value_from_the_device(stage: str) -> None:
    task = DisCoMKD(CHANNELS, num_classes=2, model='test_resnet', students=True)
    task.to('meta').eval()
    for _ in range(3):
        getattr(task, f'{stage}_step')(batch(True, 'meta'), 0)


def test_scores_wait_for_one_update_and_are_the_same() -> None:
    # the second one is due for an update after two batches
    scores = [classification_metrics(2, ['a', 'b']) for _ in range(2)]
    held = HeldScores()
    held.LIMIT = 8
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        logits = torch.rand(5, 2, generator=generator)
        labels = torch.randint(2, (5,), generator=generator)
        scores[0].update(logits, labels)
        held.add('val_sar', scores[1], logits, labels)
        assert scores[1]['F1Score'].update_called == (seed > 0)
    held.flush('val_sar', scores[1])
    expected, found = (metrics.compute() for metrics in scores)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    held.add('val_sar', scores[1], logits, labels)
    held.clear()
    held.flush('val_sar', scores[1])
    assert torch.equal(scores[1].compute()['ConfusionMatrix'], found['ConfusionMatrix'])


def test_a_read_value_is_an_error_there() -> None:
    loss = torch.zeros((), device='meta')
    with pytest.raises(RuntimeError, match='meta'):
        loss.item()
    with pytest.raises(RuntimeError, match='meta'):
        bool(loss > 0)

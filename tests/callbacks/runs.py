# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Tiny trainings, to test what callbacks do in them."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from torchgeo_discomkd.callbacks import LastCheckpoint
from torchgeo_discomkd.tasks import FusionClassification

NUMBER = 24


def images(modality: str, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + (modality == 'ms'))
    return torch.randn(NUMBER, 2, 8, 8, generator=generator)


LABELS = torch.arange(NUMBER) % 2


def batches(seed: int = 0) -> DataLoader[Any]:
    """Return batches of 'ms' and 'sar' with two classes, paired."""
    columns = {f'image_{m}': images(m, seed) for m in ('ms', 'sar')}
    samples = [
        {k: x[i] for k, x in (columns | {'label': LABELS}).items()}
        for i in range(NUMBER)
    ]
    return DataLoader(samples, batch_size=8)  # ty: ignore[invalid-argument-type]


def create_task(**kwargs: Any) -> FusionClassification:
    torch.manual_seed(0)
    settings = {'num_classes': 2, 'model': 'test_resnet', 'lr': 0.01} | kwargs
    return FusionClassification({'sar': 2}, **settings)


def create_trainer(folder: Path | None, **kwargs: Any) -> Trainer:
    callbacks = kwargs.pop('callbacks', [])
    settings: dict[str, Any] = {
        # with it, Lightning adds no checkpoint of its own
        'callbacks': [*callbacks, LastCheckpoint()],
        'accelerator': 'cpu',
        'default_root_dir': folder,
        'logger': False,
        'max_epochs': 1,
        'num_sanity_val_steps': 0,
        'enable_progress_bar': False,
        'enable_model_summary': False,
        'log_every_n_steps': 1,
    }
    return Trainer(**settings | kwargs)


def fit(folder: Path | None, task: LightningModule | None = None, **kwargs: Any) -> Any:
    """Train; return the trainer."""
    checkpoint = kwargs.pop('ckpt_path', None)
    trainer = create_trainer(folder, **kwargs)
    data = batches(), batches(seed=10)
    trainer.fit(task or create_task(), *data, ckpt_path=checkpoint)
    return trainer

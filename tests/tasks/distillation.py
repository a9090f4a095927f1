# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Students, teachers and batches that the tests of distillation share."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torchgeo.datasets.utils import Sample

from tests.conftest import TINY
from torchgeo_discomkd.models import (
    ClassifierMetadata,
    FusionClassifier,
    ModalityMetadata,
    save_classifier,
)
from torchgeo_discomkd.tasks import Distillation

CHANNELS = {'ms': 13, 'sar': 2}


def write_teacher(
    path: Path,
    channels: dict[str, int] | None = None,
    classes: tuple[str, ...] = ('Crop', 'Water'),
    unit: str = '',
    bands: str = 'B',
    seed: int = 7,
    scores: dict[str, float] | None = None,
) -> str:
    """Write an untrained teacher with an encoder that no student here has."""
    channels = channels or {'ms': 13}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = 'test_resnet'
        classifier = FusionClassifier(channels, len(classes), model)
    metadata = {
        m: ModalityMetadata(n, tuple(f'{bands}{i + 1}' for i in range(n)), unit, None)
        for m, n in channels.items()
    }
    save_classifier(
        path,
        classifier,
        ClassifierMetadata(
            kind='fusion',
            model=model,
            classes=classes,
            modalities=metadata,
            head=None,
            normalization='standardize',
            temperature=1.0,
            scores=scores or {},
            epoch=None,
            data_fingerprint='',
            split_hash='',
            seed=0,
            version='',
        ),
    )
    return str(path)


def tiny(teacher: str, **kwargs: Any) -> Distillation:
    torch.manual_seed(0)
    defaults: dict[str, Any] = {'num_classes': 2, 'model': 'test_resnet'}
    return Distillation(teacher, **{**defaults, **kwargs})


def batch(size: int = 6) -> Sample:
    generator = torch.Generator().manual_seed(0)
    sample: Sample = {
        f'image_{m}': torch.randn(size, n, 8, 8, generator=generator)
        for m, n in CHANNELS.items()
    }
    sample['label'] = torch.arange(size) % 2
    return sample


def state(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: x.clone() for name, x in module.state_dict().items()}


def changed(one: dict[str, Tensor], two: dict[str, Tensor]) -> set[str]:
    assert one.keys() == two.keys()
    return {name for name in one if not torch.equal(one[name], two[name])}


def trainer(folder: Path, epochs: int = 1) -> Trainer:
    return Trainer(
        max_epochs=epochs,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        accelerator='cpu',
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def arguments(teacher: str, pairs: Path, folder: Path, *further: str) -> list[str]:
    return [
        *('fit', '--model', 'Distillation', '--model.teacher', teacher, *TINY),
        *('--model.num_classes', '2', '--data', 'PairedFoldersDataModule'),
        *('--data.root', str(pairs), '--data.batch_size', '8'),
        *('--data.paired', 'true', '--trainer.default_root_dir', str(folder)),
        *('--trainer.max_epochs', '1', *further),
    ]


def last(folder: Path) -> dict[str, Any]:
    return torch.load(folder / 'last.ckpt', weights_only=True)


def at_epoch(task: Distillation, epoch: int, folder: Path) -> Distillation:
    task.trainer = trainer(folder)
    task.trainer.fit_loop.epoch_progress.current.completed = epoch
    assert task.current_epoch == epoch
    return task

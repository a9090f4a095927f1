# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Data with several labels in a sample, and trainings on it."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from torchgeo_discomkd.commands import main

from .conftest import TINY

#: Names of the labels, of which a sample has any number.
LABELS = ('Crop', 'Forest', 'Water')


def write_labels(root: Path, labels: NDArray[np.int64] | None = None) -> Path:
    """Write 32 pairs of 8x8 pixels whose bands tell two of three labels."""
    rng = np.random.default_rng(0)
    if labels is None:
        labels = (rng.random((32, 3)) < 0.5).astype(np.int64)
    root.mkdir(exist_ok=True)
    for name, bands in (('MS', 3), ('SAR', 2)):
        images = rng.normal(size=(len(labels), bands, 8, 8)).astype(np.float32)
        if labels.ndim == 2:
            images[:, :2] += 4 * labels[:, :2, None, None]
        np.save(root / f'{name}_data_normalized.npy', images)
    np.save(root / 'labels.npy', labels)
    rows = {'train': (0, 16), 'valid': (16, 24), 'test': (24, 32)}
    for split, bounds in rows.items():
        np.save(root / f'{split}_idx.npy', np.arange(*bounds))
    return root


def fit_labels(
    root: Path, folder: Path, *args: str, model: str = 'DisCoMKD', task: str = ''
) -> Path:
    """Train on data of :func:`write_labels` by the command line; return *folder*."""
    labels = ','.join(LABELS)
    main(
        [
            *('fit', '--model', model, '--model.num_classes', '3', *TINY),
            *('--model.in_channels', '{ms: 3, sar: 2}', '--model.lr', '0.01'),
            *('--data', 'PairedArraysDataModule', '--data.root', str(root)),
            *('--data.classes', f'[{labels}]', '--data.batch_size', '8'),
            *('--trainer.max_epochs', '1', '--trainer.default_root_dir', str(folder)),
            *('--data.task', 'multilabel', '--model.task', task or 'multilabel'),
            *args,
        ]
    )
    return folder

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""The labels of a batch: one class for each sample, and nothing else."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchgeo.datasets.utils import Sample

from ..errors import LabelError

SUPPORTED = (
    'one class for each sample is supported, int64 of shape (B,), and -1 for none. For '
    "several classes per image use TorchGeo's Classification(task='multilabel'), for "
    'masks its Segmentation; or derive one class, such as the most frequent.'
)


def labels_of(batch: Sample, modality: str | None = None) -> Tensor:
    """Return the labels of a batch.

    Args:
        batch: A batch with 'label' or, if it is unpaired, 'label_<modality>'.
        modality: The modality, if batches may be unpaired.

    Returns:
        int64 (B,).

    Raises:
        LabelError: If there are none, or they are not one class for each sample.
    """
    names = ['label'] if modality is None else ['label', f'label_{modality}']
    name = next((n for n in names if n in batch), None)
    if name is None:
        raise LabelError(
            f'the batch has {sorted(batch)}, but no {" or ".join(names)}: {SUPPORTED}'
        )
    labels = batch[name]
    if not isinstance(labels, Tensor):
        raise LabelError(f'{name} is a {type(labels).__name__}: {SUPPORTED}')
    fractions = labels.is_floating_point() or labels.dtype == torch.bool
    if labels.ndim != 1 or fractions:
        raise LabelError(
            f'{name} has shape {tuple(labels.shape)} and type {labels.dtype}: '
            f'{SUPPORTED}'
        )
    return labels.long()


def plain_numbers(values: Tensor | Sequence[float] | None) -> list[float] | None:
    """Return numbers that a checkpoint or a YAML file can hold.

    Args:
        values: Numbers of any kind, or None.
    """
    return None if values is None else [float(x) for x in values]

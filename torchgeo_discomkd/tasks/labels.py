# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""The labels of a batch: one class for each sample, or any number of labels."""

import math
from collections.abc import Sequence
from typing import Any, get_args

import torch
from torch import Tensor
from torchgeo.datasets.utils import Sample

from ..datasets import MultiModalDataset
from ..errors import LabelError, SettingError
from ..losses.multilabel import UNLABELLED
from ..metadata import LabelTask

SUPPORTED = (
    'one class for each sample is supported, int64 of shape (B,), and -1 for none. For '
    'several labels in a sample set --model.task multilabel, for masks use '
    "TorchGeo's Segmentation; or derive one class, such as the most frequent."
)

SEVERAL = (
    "task='multilabel' takes int64 of shape (B, {}): 1 for each label that a sample "
    'has, 0 for the others, and -1 everywhere for a sample without labels.'
)


def labels_of(
    batch: Sample,
    modality: str | None = None,
    task: LabelTask = 'multiclass',
    num_classes: int | None = None,
) -> Tensor:
    """Return the labels of a batch.

    Args:
        batch: A batch with 'label' or, if it is unpaired, 'label_<modality>'.
        modality: The modality, if batches may be unpaired.
        task: Kind of labels.
        num_classes: Number of labels C, if there are several in a sample.

    Returns:
        int64 (B,) or, with 'multilabel', (B, C).

    Raises:
        LabelError: If there are none, or they are of another kind or number. On the
            CPU the values of several labels are checked, too.
    """
    names = ['label'] if modality is None else ['label', f'label_{modality}']
    name = next((n for n in names if n in batch), None)
    if name is None:
        raise LabelError(
            f'the batch has {sorted(batch)}, but no {" or ".join(names)}: {SUPPORTED}'
        )
    labels = batch[name]
    if task == 'multilabel':
        return _several(name, labels, num_classes)
    if not isinstance(labels, Tensor):
        raise LabelError(f'{name} is a {type(labels).__name__}: {SUPPORTED}')
    fractions = labels.is_floating_point() or labels.dtype == torch.bool
    if labels.ndim != 1 or fractions:
        raise LabelError(
            f'{name} has shape {tuple(labels.shape)} and type {labels.dtype}: '
            f'{SUPPORTED}'
        )
    return labels.long()


def _several(name: str, labels: Any, number: int | None) -> Tensor:
    if not isinstance(labels, Tensor):
        found = f'is a {type(labels).__name__}'
    elif (
        labels.ndim != 2
        or number not in {None, labels.shape[1]}
        or labels.is_floating_point()
    ):
        found = f'has shape {tuple(labels.shape)} and type {labels.dtype}'
    else:
        labels = labels.long()
        # reading values on another device would stall it
        wrong = labels[:0]
        if labels.device.type == 'cpu':
            wrong = labels[(labels < -1) | (labels > 1)]
        if not wrong.numel():
            return labels
        found = f'holds {wrong[0].item()}'
    raise LabelError(f'{name} {found}: {SEVERAL.format(number or "labels")}')


def check_classes(labels: Tensor, num_classes: int) -> None:
    """Check that all samples of a training batch have a class.

    Args:
        labels: int64 (B,).
        num_classes: Number of classes.

    Raises:
        LabelError: If one is out of range (checked on the CPU only).
    """
    # reading values on another device would stall it
    if labels.device.type != 'cpu':
        return
    wrong = labels[(labels < 0) | (labels >= num_classes)]
    if len(wrong):
        raise LabelError(
            f'a training batch has the label {wrong[0].item()}, but '
            f'num_classes={num_classes}: give labels from 0 to {num_classes - 1}.'
        )


def check_task(task: LabelTask, num_classes: int) -> None:
    """Check the kind of labels of a task.

    Args:
        task: Kind of labels.
        num_classes: Number of classes.

    Raises:
        LabelError: If there are not two classes for 'binary'.
        SettingError: If *task* is unknown.
    """
    if task not in get_args(LabelTask.__value__):
        raise SettingError(
            f'task={task!r}: use --model.task multiclass, multilabel or binary.'
        )
    if task == 'binary' and num_classes != 2:
        raise LabelError(
            f"task='binary' has two classes, but num_classes={num_classes}: set "
            '--model.num_classes 2, or use --model.task multiclass.'
        )


def check_data_task(
    task: LabelTask, dataset: MultiModalDataset, option: str | None = '--model.task'
) -> None:
    """Check that data has the kind of labels of a task.

    Args:
        task: Kind of labels of the task. One of two classes may be learned with
            'binary', too.
        dataset: The data; without any labels it is of any kind.
        option: Option that sets *task*; None if it is that of a file, by which one of
            two classes is found however it was learned.

    Raises:
        LabelError: If they differ.
    """
    own = dataset.task
    if own == task or (own, task) == ('multiclass', 'binary'):
        return
    if option is None and 'multilabel' not in (own, task):
        return
    if not (dataset.labels != UNLABELLED).any():
        return
    kinds = {
        'multiclass': 'one of its classes for each sample',
        'multilabel': 'any number of labels for each sample',
        'binary': 'one of two classes for each sample',
    }
    raise LabelError(
        f'the data has {kinds[own]} (task={own!r}), but the classifier is of '
        f'task={task!r}: {"" if option is None else f"set {option} {own}, or "}give '
        f'other data (arrays and joined data sets: --data.task {task}) or another '
        'classifier.'
    )


def chance_entropy(task: LabelTask, num_classes: int) -> float:
    """Return the cross-entropy of equal probabilities.

    Args:
        task: Kind of labels.
        num_classes: Number of classes.
    """
    return math.log(2 if task == 'multilabel' else num_classes)


def plain_numbers(values: Tensor | Sequence[float] | None) -> list[float] | None:
    """Return numbers that a checkpoint or a YAML file can hold.

    Args:
        values: Numbers of any kind, or None.
    """
    return None if values is None else [float(x) for x in values]

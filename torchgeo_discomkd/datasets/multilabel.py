# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Any number of labels for each sample: a row of 0 and 1, a column for each label."""

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import LabelError, SplitError
from .splits import NO_LABEL
from .stores import first_few


def check_label_rows(labels: NDArray[Any], where: str) -> NDArray[np.int64]:
    """Check rows of 0 and 1.

    Args:
        labels: One row for each sample, a column for each label.
        where: Their file or data set, for messages.

    Returns:
        int64, shape (N, C).

    Raises:
        LabelError: If the shape is another one, or a value is not 0 or 1.
    """
    if labels.ndim != 2 or labels.dtype.kind not in 'biu' or not labels.shape[1]:
        raise LabelError(
            f'{where} holds {labels.dtype} values of shape {labels.shape}: with '
            "task='multilabel' it must hold one row for each sample, with an integer 0 "
            'or 1 for each label, shape (samples, labels).'
        )
    values = labels.astype(np.int64)
    wrong = np.argwhere((values < 0) | (values > 1))
    if len(wrong):
        row, column = wrong[0].tolist()
        raise LabelError(
            f'{where} has {len(wrong)} values other than 0 and 1, the first is '
            f'{values[row, column]} in row {row}, column {column}: write 1 for each '
            'label that a sample has and 0 for the others.'
        )
    return values


def rows_of_names(names: Iterable[Iterable[str]], classes: Sequence[str]) -> Tensor:
    """Turn the names of the labels of samples into rows of 0 and 1.

    Args:
        names: Names of the labels of each sample.
        classes: Names of all labels.

    Returns:
        int64, shape (N, C).

    Raises:
        KeyError: If a name is unknown.

    Example:
        >>> rows_of_names([['Water'], [], ['Water', 'Crop']], ['Crop', 'Water'])
        tensor([[0, 1],
                [0, 0],
                [1, 1]])
    """
    rank = {name: label for label, name in enumerate(classes)}
    listed = [[rank[name] for name in each] for each in names]
    rows = torch.zeros(len(listed), len(classes), dtype=torch.long)
    for row, labels in zip(rows, listed, strict=True):
        row[labels] = 1
    return rows


def check_label_names(classes: Sequence[str]) -> None:
    """Refuse names that a list of labels in a table could not be divided into.

    Args:
        classes: Names of the labels.

    Raises:
        LabelError: If a name contains a semicolon, or occurs twice.
    """
    wrong = [name for name in classes if ';' in name or classes.count(name) > 1]
    if wrong:
        raise LabelError(
            f'the labels {first_few(wrong)} contain a semicolon, which separates '
            'labels in tables, or are named twice: give other names with classes=.'
        )


def check_label_split(labels: Tensor, classes: Sequence[str], split: str) -> None:
    """Refuse a split that is empty, and warn of labels that no sample has.

    Args:
        labels: Labels of the split, int64, shape (N, C).
        classes: Names of all labels.
        split: Name of the split.

    Raises:
        SplitError: If there is no sample.

    Warns:
        UserWarning: If no sample has a label.
    """
    if not len(labels):
        raise SplitError(
            f"Split '{split}' is empty: add samples, or choose another split."
        )
    absent = [n for n, occurs in zip(classes, labels.any(0), strict=True) if not occurs]
    if absent:
        consequence = (
            'a classifier learns to answer no to them'
            if split == 'train'
            else 'averages over labels leave them out'
        )
        warnings.warn(
            f"Split '{split}' has no sample of {', '.join(absent)}: {consequence}.",
            stacklevel=3,
        )


def labels_in_columns(labels: Tensor, positions: Tensor, number: int) -> Tensor:
    """Move the columns of labels to where a classifier has them.

    Args:
        labels: int64 (N, C).
        positions: Column of each of the C labels in the result, int64 (C,).
        number: Number of columns of the result.

    Returns:
        int64 (N, number); a label that the data does not have is not known: -1.
    """
    moved = torch.full((len(labels), number), NO_LABEL)
    moved[:, positions] = labels
    return moved


def label_names(row: Tensor | Sequence[int], classes: Sequence[str]) -> list[str]:
    """Return the names of the labels of a sample.

    Args:
        row: 1 for each label that it has, shape (C,).
        classes: Names of all labels.
    """
    return [name for name, has in zip(classes, row, strict=True) if int(has) == 1]

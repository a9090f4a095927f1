# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Checked arrays of labels and of rows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import LabelError, LayoutError, SplitError
from ..rasters import open_array
from .listing import first_few


def load_array(path: Path) -> NDArray[Any]:
    """Map an array that has to be there into memory.

    Args:
        path: NPY file.

    Returns:
        Read-only array.

    Raises:
        CorruptFileError: If the file is truncated, not an array or needs unpickling.
        LayoutError: If there is no such file.
    """
    if not path.is_file():
        raise LayoutError(
            f'There is no file {path}: write it, or give the folder that holds it as '
            'root.'
        )
    return open_array(path)


def check_labels(
    labels: NDArray[Any], classes: Sequence[str] | None
) -> tuple[str, ...]:
    """Check labels and name their classes.

    Args:
        labels: One label for each sample.
        classes: Names of all classes; None numbers the distinct labels.

    Returns:
        The names, '0', '1', ... if None were given.

    Raises:
        LabelError: If labels are not integers from 0 to the number of classes - 1.
    """
    if labels.ndim != 1 or labels.dtype.kind not in 'iu':
        raise LabelError(
            f'labels.npy holds {labels.dtype} values of shape {labels.shape}: it must '
            'hold one integer for each sample.'
        )
    found = np.unique(labels)
    count = len(found) if classes is None else len(classes)
    outside = found[(found < 0) | (found >= count)]
    if len(outside):
        raise LabelError(
            f'labels.npy has {len(found)} distinct labels, among them '
            f'{first_few(outside)}: labels must be 0 to {count - 1} for {count} classes.'
        )
    return tuple(str(i) for i in range(count)) if classes is None else tuple(classes)


def read_index(path: Path, length: int) -> NDArray[np.int64]:
    """Read the rows of a split.

    Args:
        path: NPY file of integers.
        length: Number of samples of the data set.

    Returns:
        The rows in the order of the file, int64, shape (M,).

    Raises:
        CorruptFileError: If the file is truncated, not an array or needs unpickling.
        LayoutError: If there is no such file.
        SplitError: If rows are not integers, out of range or given twice.
    """
    rows = load_array(path)
    if rows.ndim != 1 or rows.dtype.kind not in 'iu':
        raise SplitError(
            f'{path} holds {rows.dtype} values of shape {rows.shape}: it must hold '
            'the rows of its samples, integers.'
        )
    outside = rows[(rows < 0) | (rows >= length)]
    if len(outside):
        raise SplitError(
            f'{path} has {len(outside)} rows out of range ({first_few(outside)}): there '
            f'are {length} samples, 0 to {length - 1}.'
        )
    values, counts = np.unique(rows, return_counts=True)
    if len(values) < len(rows):
        raise SplitError(
            f'{path} lists samples twice ({first_few(values[counts > 1])}): list each once.'
        )
    return rows.astype(np.int64)

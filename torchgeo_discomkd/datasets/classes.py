# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Class names of data and classifiers, compared by name."""

import unicodedata
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import LabelError


def same_classes(one: Sequence[str], other: Sequence[str]) -> bool:
    r"""Return whether two lists hold the same names in the same order.

    Args:
        one: Class names.
        other: Class names; accents may be composed or decomposed, as in file names.

    Example:
        >>> same_classes(['For\u00eat'], ['Fore\u0302t'])
        True
    """
    return list(map(_composed, one)) == list(map(_composed, other))


def labels_by_name(own: Sequence[str], known: Sequence[str]) -> Tensor:
    """Find the classes of a data set among those of a classifier.

    Args:
        own: Classes of the data set.
        known: Classes of the classifier, in the order of its outputs.

    Returns:
        Position in *known* of each name in *own*, int64 (C,).

    Raises:
        LabelError: If the classifier does not know a class of the data set.

    Warns:
        UserWarning: If the data set lacks classes of the classifier.

    Example:
        >>> labels_by_name(['Water', 'Crop'], ['Crop', 'Water'])
        tensor([1, 0])
    """
    names = [_composed(name) for name in own]
    positions = {_composed(name): i for i, name in enumerate(known)}
    if unknown := [name for name in names if name not in positions]:
        raise LabelError(
            f'The data have the classes {unknown}, but the classifier only knows '
            f'{list(known)}: rename classes that it knows by another name (of arrays: '
            'with classes=), move the samples of all others out of the data, or train '
            'a classifier with them.'
        )
    if absent := [name for name in known if _composed(name) not in names]:
        warnings.warn(
            f'The data lack {", ".join(absent)}, which the classifier knows: averages '
            'over classes leave them out.',
            stacklevel=3,
        )
    return torch.tensor([positions[name] for name in names])


def check_two(classes: Sequence[str]) -> None:
    """Check the classes of a binary data set.

    Args:
        classes: Their names.

    Raises:
        LabelError: If there are not two.
    """
    if len(classes) != 2:
        raise LabelError(
            f"task='binary' has two classes, but the data have {len(classes)} "
            f"({', '.join(classes)}): use task='multiclass'."
        )


def _composed(name: str) -> str:
    return unicodedata.normalize('NFC', name)

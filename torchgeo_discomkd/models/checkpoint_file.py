# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Checks of files that ``torch.save`` wrote, before anything relies on them."""

import pickle
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import torch
from torch import Tensor

from ..metadata import Count, Name, Number

#: What is raised for a broken archive, and by PyTorch for a pickle that is broken or
#: asks for more than tensors.
UNREADABLE = (
    *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError),
    *(OSError, RuntimeError, TypeError, ValueError),
    *(pickle.UnpicklingError, struct.error, zipfile.BadZipFile, zlib.error),
)

# the form of a checkpoint, as far as this package relies on it
_Checkpoint = TypedDict(
    '_Checkpoint',
    {
        'pytorch-lightning_version': Name,
        'state_dict': dict[str, Any],
        'epoch': Number,
        'global_step': Number,
        'hyper_parameters': NotRequired[dict[str, Any]],
        'in_channels': NotRequired[dict[Name, Count]],
        'classes': NotRequired[list[Name]],
        'split_hash': NotRequired[Name],
        'optimizer_states': NotRequired[list[dict[str, Any]]],
        'lr_schedulers': NotRequired[list[dict[str, Any]]],
        'loops': NotRequired[dict[str, Any]],
        'callbacks': NotRequired[dict[str, Any]],
    },
)


def find_damage(path: str | Path) -> str | None:
    """Compare the checksums in an archive, which PyTorch does not.

    Args:
        path: A file that ``torch.save`` wrote.

    Returns:
        What is wrong with it; None if nothing is.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except UNREADABLE as error:
        return str(error)
    return None if damaged is None else f'checksum of {damaged}'


def read_plain(path: str | Path) -> Any:
    """Read a file that ``torch.save`` wrote, if it holds tensors and plain values only.

    Args:
        path: The file. Tensors are mapped: what is not used is not read.

    Returns:
        Its content.

    Raises:
        pickle.UnpicklingError: If it holds anything else, or is damaged.
        Exception: One of :data:`UNREADABLE`, if it is damaged.
    """
    with warnings.catch_warnings():
        # a TorchScript archive is refused anyway
        warnings.simplefilter('ignore', UserWarning)
        return torch.load(path, 'cpu', weights_only=True, mmap=True)


def find_mistake(content: Any) -> str | None:
    """Compare the content of a checkpoint with the form that Lightning gives to it.

    Args:
        content: What :func:`read_plain` returned.

    Returns:
        What is wrong with it; None if nothing is.
    """
    # takes 20 ms: only when a file is read
    import msgspec

    if not isinstance(content, Mapping):
        return f'it contains a {type(content).__name__}'
    try:
        msgspec.convert(content, _Checkpoint)
    except msgspec.ValidationError as error:
        return str(error)
    other = [k for k, v in content['state_dict'].items() if not isinstance(v, Tensor)]
    return f"'{other[0]}' in its state_dict is no tensor" if other else None

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Tensors and texts of a classifier file, and the checksum of both."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from ..errors import ClassifierFileError
from ..files import CHECKSUM, check_sha256, sha256_of, write_atomically
from ..metadata import KEY, ClassifierMetadata


def read_header(path: str | Path) -> dict[str, str]:
    """Read the texts of a classifier file.

    Args:
        path: The file.

    Returns:
        Text by key, that of the metadata among them.

    Raises:
        ClassifierFileError: If there is no such file, it is not a classifier file or it
            is truncated.
    """
    if not Path(path).is_file():
        raise ClassifierFileError(
            f'{path}: there is no such file. Training writes best/<name>.safetensors.'
        )
    try:
        with safe_open(path, framework='pt') as file:
            header = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise ClassifierFileError(
            f'{path} is not a safetensors file, or it is truncated ({error}): give a '
            'classifier file, best/<modality>.safetensors of a run, or copy it again.'
        ) from error
    if KEY not in header:
        raise ClassifierFileError(
            f'{path} was not written by torchgeo_discomkd: give a classifier file, '
            'best/<modality>.safetensors of a run.'
        )
    return header


def write_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: ClassifierMetadata
) -> None:
    """Write a classifier file from tensors, with a checksum of them.

    Args:
        path: The file.
        tensors: All tensors by name, contiguous, on the CPU.
        metadata: Its metadata.

    Raises:
        OSError: If the file cannot be written.
    """
    text = metadata.to_json()
    header = {KEY: text, CHECKSUM: weights_sha256(text, tensors)}
    write_atomically(Path(path), _sorted_header(save(dict(tensors), metadata=header)))


def _sorted_header(content: bytes) -> bytes:
    """Sort the metadata, whose order is random, so that equal files are equal."""
    size = int.from_bytes(content[:8], 'little')
    header = json.loads(content[8 : 8 + size])
    header['__metadata__'] = dict(sorted(header['__metadata__'].items()))
    text = json.dumps(header, separators=(',', ':')).encode()
    # tensors begin at a multiple of 8
    text += b' ' * (-len(text) % 8)
    return len(text).to_bytes(8, 'little') + text + content[8 + size :]


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read all tensors of a classifier file and verify its checksum.

    Args:
        path: The file, whose metadata have been read.

    Returns:
        Tensors on the CPU by name.

    Raises:
        ClassifierFileError: If the checksum does not match.
    """
    header, tensors = read_header(path), load_file(path)
    found = weights_sha256(header[KEY], tensors)
    check_sha256(path, header.get(CHECKSUM), found)
    return tensors


def weights_sha256(metadata: str, tensors: Mapping[str, Tensor]) -> str:
    """Return the checksum of a classifier.

    Args:
        metadata: Its metadata as JSON.
        tensors: Its tensors by name, on the CPU.

    Returns:
        SHA-256 of the metadata, and of names, types, shapes and numbers of the tensors.
    """
    parts = [('', metadata.encode())]
    for name, tensor in tensors.items():
        content = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
        parts.append((f'{name} {tensor.dtype} {tuple(tensor.shape)}', content))
    return sha256_of(parts)

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Find damage to a pack, and packs whose parts do not fit together."""

import zlib
from collections.abc import Buffer, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import PackError
from ...files import sha256_of
from .format import STATISTICS, STATISTICS_ROWS, PackMetadata

#: Types of images, as safetensors names them.
IMAGE_TYPES = ('U8', 'I8', 'U16', 'I16', 'F16', 'F32')


def image_checksum(image: NDArray[Any]) -> int:
    """Return the CRC-32 of an image, in the type that packs keep it in.

    Args:
        image: The image, contiguous.

    Returns:
        The number whose bits, as a signed integer, are those of the checksum.
    """
    return int(np.uint32(zlib.crc32(image)).view(np.int32))


class ImageChecks:
    """Compares the images of one modality with their checksums, each image once.

    Packs of earlier versions have none.
    """

    def __init__(self, path: Path, modality: str, sums: NDArray[np.int32]) -> None:
        """Initialize a new ImageChecks instance.

        Args:
            path: The pack.
            modality: The modality.
            sums: CRC-32 of each image.
        """
        self._path = path
        self._modality = modality
        self._sums = sums
        self._done = np.zeros(len(sums), np.bool_)

    def check(self, row: int, image: NDArray[Any]) -> None:
        """Compare an image, unless this process has done so before.

        Args:
            row: Its row.
            image: The image, contiguous, in the type of the pack.

        Raises:
            PackError: If they differ.
        """
        if self._done[row]:
            return
        if image_checksum(image) != self._sums[row]:
            raise PackError(
                f"{self._path} is damaged: image {row} of '{self._modality}' does not "
                'match its checksum. Copy the file again, or pack the data again.'
            )
        self._done[row] = True

    def check_all(self, images: NDArray[Any]) -> None:
        """Compare all images.

        Args:
            images: All images, (N, C, H, W).

        Raises:
            PackError: If one differs.
        """
        for row in np.flatnonzero(~self._done).tolist():
            self.check(row, images[row])


def small_tensors(keys: list[str]) -> list[str]:
    """Return the tensors that the checksum of a pack covers: all but the images.

    Args:
        keys: All tensors.
    """
    return sorted(key for key in keys if not key.startswith('image.'))


def pack_checksum(metadata: str, tensors: Mapping[str, Buffer]) -> str:
    """Return the checksum of a pack.

    Args:
        metadata: Its metadata as JSON.
        tensors: The bytes of each of its small tensors, see :func:`small_tensors`.

    Returns:
        SHA-256.
    """
    return sha256_of([('', metadata.encode()), *tensors.items()])


def check_form(path: Path, file: Any, metadata: PackMetadata) -> None:
    """Check types and shapes of all tensors before any is read.

    Args:
        path: The pack.
        file: The same, opened by safetensors.
        metadata: Its metadata.

    Raises:
        PackError: If a tensor is missing or does not fit to the others.
    """
    for modality in metadata.modalities:
        if (problem := _problem(file, modality)) is not None:
            raise PackError(
                f"{path} is damaged: '{modality}' {problem}. Copy the file again, or "
                'pack the data again.'
            )


def _problem(file: Any, modality: str) -> str | None:
    """Say what is wrong with the tensors of a modality."""
    names = ('image', 'path', 'crs', 'crc32', 'transform', 'statistics')
    keys = set(file.keys())
    parts = {n: file.get_slice(k) for n in names if (k := f'{n}.{modality}') in keys}
    forms = {n: (part.get_dtype(), part.get_shape()) for n, part in parts.items()}
    if not {'image', 'path'} <= forms.keys():
        return 'lacks its images or their paths'
    kind, shape = forms.pop('image')
    if kind not in IMAGE_TYPES or len(shape) != 4 or min(shape[1:]) < 1:
        return f'has images of type {kind} and shape {shape}'
    count, bands = shape[:2]
    rows = (len(STATISTICS), STATISTICS_ROWS)
    expected = {
        'path': [('U8', forms['path'][1][:1])],
        'crs': [('I32', [count])],
        'crc32': [('I32', [count])],
        'transform': [('F64', [count, 6])],
        'statistics': [('F64', [number, bands]) for number in rows],
    }
    wrong = [name for name, form in forms.items() if form not in expected[name]]
    return f'has {wrong} that do not fit its images' if wrong else None

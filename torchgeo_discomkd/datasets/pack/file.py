# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""An open pack: its tensors, and their checksums."""

import json
import logging
import os
import weakref
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio import CRS
from rasterio.errors import CRSError
from safetensors import SafetensorError, safe_open

from ...errors import PackError
from ...files import CHECKSUM
from ...rasters.grids import grid_path
from .format import KEY, PackMetadata
from .integrity import ImageChecks, check_form, pack_checksum, small_tensors

logger = logging.getLogger(__name__)


class PackFile:
    """An open pack, sent to worker processes as its path."""

    def __init__(self, path: Path) -> None:
        """Initialize a new PackFile instance.

        Args:
            path: The file.

        Raises:
            PackError: If it is not a pack, truncated, or of a later version.
        """
        self.path = path
        self.metadata: PackMetadata = self._read_metadata()
        check_form(path, self._file, self.metadata)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the path only: another process maps the file itself."""
        return type(self), (self.path,)

    @property
    def tables(self) -> list[str]:
        """Paths of the small files of the source that were packed."""
        keys = (key.partition('.') for key in self._keys)
        return [name for kind, _, name in keys if kind == 'table']

    def table(self, name: str) -> bytes | None:
        """Return the content of a small file of the source.

        Args:
            name: Its path.

        Returns:
            The bytes; None if the file was not packed.
        """
        table = self.array(f'table.{name}')
        return None if table is None else table.tobytes()

    def array(self, key: str) -> NDArray[Any] | None:
        """Return a tensor: a read-only view of the file.

        Args:
            key: Its name.

        Returns:
            The tensor; None if it does not exist.
        """
        if key not in self._keys:
            return None
        # PyTorch's view of the mapped file; safetensors' NumPy reader copies it
        return self._file.get_tensor(key).numpy()

    @cached_property
    def images(self) -> dict[str, NDArray[Any]]:
        """Images of each modality, (N, C, H, W): read-only views of the file."""
        return {
            m: self._file.get_tensor(f'image.{m}').numpy() for m in self._modalities
        }

    @cached_property
    def paths(self) -> dict[str, list[str]]:
        """Path of every image in the source."""
        # takes 20 ms: only when a file is read
        import msgspec

        try:
            return {
                m: msgspec.json.decode(self._bytes(f'path.{m}'), type=list[str])
                for m in self._modalities
            }
        except msgspec.DecodeError as error:
            raise PackError(
                f'{self.path} is damaged: its paths cannot be read ({error}). Copy the '
                'file again, or pack the data again.'
            ) from error

    @cached_property
    def checks(self) -> dict[str, ImageChecks]:
        """Checksums of the images of each modality that has some."""
        sums = {m: self.array(f'crc32.{m}') for m in self._modalities}
        return {
            m: ImageChecks(self.path, m, values)
            for m, values in sums.items()
            if values is not None
        }

    def verify(self) -> None:
        """Compare everything but the images with its checksum.

        Raises:
            PackError: If they differ.
        """
        header = self._file.metadata()
        keys = small_tensors(list(self._keys))
        unfinished = self.path.stem.endswith('.partial')
        if (recorded := header.get(CHECKSUM)) is None and not self.checks:
            logger.warning(
                'note: %s has no checksums, because an earlier version wrote it: '
                'damage to it is not noticed.',
                self.path,
            )
        elif not (recorded is None and unfinished) and recorded != pack_checksum(
            header[KEY], {key: self._bytes(key) for key in keys}
        ):
            raise PackError(
                f'{self.path} is damaged, or was changed after it was written: copy '
                'the file again, or pack the data again.'
            )

    def _bytes(self, key: str) -> NDArray[np.uint8]:
        return self._file.get_tensor(key).numpy().reshape(-1).view(np.uint8)

    @cached_property
    def offsets(self) -> dict[str, int]:
        """First byte of the images of each modality."""
        with self.path.open('rb') as file:
            length = int.from_bytes(file.read(8), 'little')
            header = json.loads(file.read(length))
        return {
            m: 8 + length + header[f'image.{m}']['data_offsets'][0]
            for m in self._modalities
        }

    @cached_property
    def descriptor(self) -> int:
        """File descriptor, closed with this object."""
        descriptor = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, descriptor)
        return descriptor

    @cached_property
    def systems(self) -> list[CRS]:
        """Coordinate reference systems of the tiles."""
        for text in self.metadata.crs:
            if (grid := grid_path(text)) is not None:
                raise PackError(
                    f'{self.path} has a coordinate reference system that names another '
                    f'file, {grid}, which is not read: pack the data again in a system '
                    'without one.'
                )
        try:
            return [CRS.from_user_input(text) for text in self.metadata.crs]
        except CRSError as error:
            raise PackError(
                f'{self.path} has an unknown coordinate reference system ({error}): '
                'pack the data again.'
            ) from error

    @cached_property
    def _file(self) -> Any:
        try:
            return safe_open(self.path, framework='pt')
        except (OSError, SafetensorError) as error:
            raise PackError(
                f'{self.path} is not a safetensors file, or it is truncated ({error}): '
                'pack the data again, or copy the file again.'
            ) from error

    @cached_property
    def _keys(self) -> frozenset[str]:
        return frozenset(self._file.keys())

    @property
    def _modalities(self) -> list[str]:
        return list(self.metadata.modalities)

    def _read_metadata(self) -> PackMetadata:
        header = self._file.metadata() or {}
        if KEY not in header:
            raise PackError(
                f'{self.path} is not a pack: give a file that '
                '`python -m torchgeo_discomkd pack` wrote, or a folder.'
            )
        try:
            return PackMetadata.from_json(header[KEY])
        except ValueError as error:
            raise PackError(
                f'{self.path} cannot be read ({error}): pack the data again.'
            ) from error


def open_pack(path: Path) -> PackFile:
    """Open a pack, or return it if it is open already.

    Args:
        path: The file.

    Returns:
        The pack.

    Raises:
        PackError: If the file does not exist or is not a pack.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise PackError(
            f'{path} cannot be opened ({error.strerror}): write it with '
            '`python -m torchgeo_discomkd pack --data ... --output '
            f'{path.name}`, or give a folder as root.'
        ) from error
    return _open(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=8)
def _open(path: Path, time: int, size: int) -> PackFile:
    pack = PackFile(path)
    pack.verify()
    return pack

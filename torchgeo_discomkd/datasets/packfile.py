# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""A pack: all tiles of a data set in one file.

It is a safetensors file (no pickle) with, for every modality m, the tensors

* ``image.m``: (N, C, H, W), uint8, int8, uint16, int16, float16 or float32, whichever
  of the source's type and float32 keeps every value; missing pixels are NaN;
* ``path.m``: the N paths in the source, as JSON;
* ``transform.m`` (N, 6) float64 and ``crs.m`` (N,) int32, for files: where tiles lie on
  the Earth; the number of the coordinate reference system is -1 where that is not known;
* ``statistics.m`` (8, C) float64: :data:`STATISTICS` of each band in the training split;

and ``table.<name>``, the bytes of each small file beside the tiles that splits and labels
are read from. The header says the rest.
"""

import json
import os
import weakref
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio import CRS
from safetensors import SafetensorError, safe_open

from ..errors import PackError

#: Suffix of a pack: a *root* that ends like this is one.
SUFFIX = '.safetensors'

#: Key of the metadata in the file's header.
KEY = 'torchgeo_discomkd_pack'

#: Number of the layout above.
FORMAT = 1

#: Rows of the statistics: fields of BandStatistics.
STATISTICS = ('mean', 'std', 'low', 'high', 'minimum', 'maximum', 'missing', 'count')


@dataclass(frozen=True)
class PackedModality:
    """What a pack says about one modality."""

    #: Folder below each base (folders), or prefix of the file (arrays).
    folder: str

    #: Names of the bands that the files themselves give, in order.
    descriptions: tuple[str, ...] | None

    #: Unit of the values that was given when it was packed.
    unit: str | None


@dataclass(frozen=True)
class PackMetadata:
    """What a pack says about itself."""

    #: Kind of source.
    layout: Literal['folders', 'arrays']

    #: Folders of the splits, or one empty text.
    bases: tuple[str, ...]

    #: The modalities by name.
    modalities: dict[str, PackedModality]

    #: Coordinate reference systems, as 'EPSG:<code>' or WKT.
    crs: tuple[str, ...]

    #: Hash of the training split that the statistics are of.
    split_hash: str

    #: Hash of the source's files.
    fingerprint: str

    #: Path of the source from the folder of the pack.
    source: str

    #: Version of the package that wrote it.
    version: str

    def to_json(self) -> str:
        """Return the metadata as a JSON object."""
        return json.dumps({'format': FORMAT, **asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> 'PackMetadata':
        """Return the metadata that :meth:`to_json` wrote.

        Args:
            text: JSON object.

        Raises:
            ValueError: If the text is not such an object.
        """
        try:
            values: dict[str, Any] = json.loads(text)
            if (number := values.pop('format')) != FORMAT:
                raise ValueError(f'format {number}, but this version reads {FORMAT}')
            for name in ('bases', 'crs'):
                values[name] = tuple(values[name])
            values['modalities'] = {
                m: PackedModality(v['folder'], _as_tuple(v['descriptions']), v['unit'])
                for m, v in values['modalities'].items()
            }
            return cls(**values)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f'no description of a pack: {error!r}') from error


class PackFile:
    """An open pack. It travels to worker processes as its path."""

    def __init__(self, path: Path) -> None:
        """Initialize a new PackFile instance.

        Args:
            path: The file.

        Raises:
            PackError: If it is no pack, truncated, or of a later version.
        """
        self.path = path
        self.metadata: PackMetadata = self._read_metadata()

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as a path: another process maps the file itself."""
        return type(self), (self.path,)

    @cached_property
    def images(self) -> dict[str, NDArray[Any]]:
        """Images of each modality, (N, C, H, W): views of the file, not to be changed."""
        return {m: self._array(f'image.{m}') for m in self.metadata.modalities}

    @cached_property
    def paths(self) -> dict[str, list[str]]:
        """Path of every image in the source."""
        return {
            m: json.loads(self._array(f'path.{m}').tobytes())
            for m in self.metadata.modalities
        }

    @cached_property
    def positions(self) -> dict[str, tuple[str, int]]:
        """Modality and row of every path."""
        return {
            path: (modality, row)
            for modality, paths in self.paths.items()
            for row, path in enumerate(paths)
        }

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
            The bytes; None if it was not packed.
        """
        key = f'table.{name}'
        return self._array(key).tobytes() if key in self._keys else None

    def georeference(self, modality: str, row: int) -> tuple[CRS, Affine] | None:
        """Return where an image lies on the Earth.

        Args:
            modality: Its modality.
            row: Its row.

        Returns:
            None if that is not known.
        """
        if f'crs.{modality}' not in self._keys:
            return None
        number = int(self._array(f'crs.{modality}')[row])
        if number < 0:
            return None
        transform = self._array(f'transform.{modality}')[row].tolist()
        return self._systems[number], Affine(*transform)

    def statistics(self, modality: str) -> NDArray[np.float64] | None:
        """Return the band statistics of the training split.

        Args:
            modality: Their modality.

        Returns:
            float64 (8, C), the rows as told above; None if there are none.
        """
        key = f'statistics.{modality}'
        return self._array(key) if key in self._keys else None

    def gather(
        self, modality: str, rows: Sequence[int], bands: Sequence[int] | None = None
    ) -> NDArray[np.float32]:
        """Copy images into a batch.

        Args:
            modality: Their modality.
            rows: Their rows, B of them.
            bands: Positions of the bands; all if None.

        Returns:
            float32 (B, C, H, W), missing pixels NaN.
        """
        images = self.images[modality]
        count = images.shape[1] if bands is None else len(bands)
        batch = np.empty((len(rows), count, *images.shape[2:]), np.float32)
        image = np.empty(images.shape[1:], images.dtype)
        # row by row: copied and converted at once, while it is in the cache
        for place, row in enumerate(rows):
            self._read(modality, row, image)
            batch[place] = image if bands is None else image[bands]
        return batch

    def _read(self, modality: str, row: int, image: NDArray[Any]) -> None:
        """Copy an image out of the file.

        Reading costs less than the map: no page of a file that is larger than the
        memory has to be mapped first, and none counts as memory of the process.
        """
        if not hasattr(os, 'preadv'):
            image[:] = self.images[modality][row]
            return
        offset = self._offsets[modality] + row * image.nbytes
        if os.preadv(self._descriptor, [image], offset) < image.nbytes:
            raise PackError(f'{self.path} was truncated while it was read: pack anew.')

    @cached_property
    def _offsets(self) -> dict[str, int]:
        """First byte of the images of each modality."""
        with self.path.open('rb') as file:
            length = int.from_bytes(file.read(8), 'little')
            header = json.loads(file.read(length))
        return {
            m: 8 + length + header[f'image.{m}']['data_offsets'][0]
            for m in self.metadata.modalities
        }

    @cached_property
    def _descriptor(self) -> int:
        descriptor = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, descriptor)
        return descriptor

    @cached_property
    def _systems(self) -> list[CRS]:
        return [CRS.from_user_input(text) for text in self.metadata.crs]

    @cached_property
    def _file(self) -> Any:
        try:
            return safe_open(self.path, framework='pt')
        except (OSError, SafetensorError) as error:
            raise PackError(
                f'{self.path} is no safetensors file, or it is truncated ({error}): '
                'pack the data again, or copy the file again.'
            ) from error

    @cached_property
    def _keys(self) -> frozenset[str]:
        return frozenset(self._file.keys())

    def _array(self, key: str) -> NDArray[Any]:
        # PyTorch's view of the mapped file; safetensors' NumPy reader copies it
        return self._file.get_tensor(key).numpy()

    def _read_metadata(self) -> PackMetadata:
        header = self._file.metadata() or {}
        if KEY not in header:
            raise PackError(
                f'{self.path} is no pack: give a file that '
                '`python -m torchgeo_discomkd pack` wrote, or a folder.'
            )
        try:
            return PackMetadata.from_json(header[KEY])
        except ValueError as error:
            raise PackError(
                f'{self.path} cannot be read ({error}): pack the data again.'
            ) from error


def _as_tuple(names: list[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names)


def is_pack(root: str | Path) -> bool:
    """Return whether the root of a data set names a pack rather than a folder.

    Args:
        root: The root.
    """
    path = Path(root)
    return path.suffix == SUFFIX and not path.is_dir()


def open_pack(root: str | Path) -> PackFile:
    """Open a pack; the same one is opened only once.

    Args:
        root: The file.

    Returns:
        The pack.

    Raises:
        PackError: If there is no such file or it is no pack.
    """
    path = Path(root)
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
    return PackFile(path)

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Images in ``<PREFIX>_data_normalized.npy``, one array for each modality."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import LayoutError
from ..rasters import Header, missing_to_nan, open_array
from .stores import Folders, Store, StoredImages, hash_files

#: End of the file name of an array of images, after the prefix of its modality.
ARRAY_SUFFIX = '_data_normalized.npy'

#: One label for each row of the arrays.
LABELS = 'labels.npy'


class ArrayImages(StoredImages):
    """Images in one array, which each process opens when it first needs it."""

    uniform = True

    def __init__(self, path: Path, modality: str) -> None:
        """Initialize a new ArrayImages instance.

        Args:
            path: The array.
            modality: The modality.
        """
        self.folder = path.name.removesuffix(ARRAY_SUFFIX)
        self._path = path
        self._modality = modality

    def __getstate__(self) -> dict[str, Any]:
        """Drop the array: a worker process opens the file itself."""
        return {k: v for k, v in self.__dict__.items() if k != 'array'}

    @cached_property
    def array(self) -> NDArray[Any]:
        """The array in the file, of any type, (N, C, H, W).

        Raises:
            CorruptFileError: If the file is truncated, needs unpickling or is not an
                array.
            LayoutError: If its shape is wrong, or its values are not numbers.
        """
        array = open_array(self._path)
        if array.ndim != 4 or array.dtype.kind not in 'buif':
            raise LayoutError(
                f'{self._path} holds {array.dtype} values of shape {array.shape}: it '
                'must hold numbers of shape (samples, bands, height, width).'
            )
        return array

    @property
    def paths(self) -> Sequence[str]:
        """Modality and row of each image."""
        return [f'{self._modality}/{row}' for row in range(len(self))]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.array)

    def files(self) -> Sequence[Path]:
        """Return the file of all images."""
        return [self._path]

    def file(self, row: int) -> str:
        """Return the path of the array.

        Args:
            row: Not used: all images are in one file.
        """
        return str(self._path)

    def header(self, row: int) -> Header:
        """Return the number of bands, size and type of an image.

        Args:
            row: Not used: all images are alike.
        """
        _, count, height, width = self.array.shape
        return Header(None, count, height, width, self.array.dtype)

    def read(self, row: int, bands: Sequence[int] | None = None) -> NDArray[np.float32]:
        """Read an image; see :meth:`StoredImages.read`.

        Args:
            row: Its row.
            bands: Positions of the bands; all if None.
        """
        image = self.array[row]
        chosen = image if bands is None else image[list(bands)]
        return self.encoding.decode(missing_to_nan(chosen, self.encoding.nodata))


class ArrayStore(Store):
    """Images in ``<PREFIX>_data_normalized.npy``, one file for each modality."""

    layout = 'arrays'

    def __init__(self, root: Path) -> None:
        """Initialize a new ArrayStore instance.

        Args:
            root: The folder.

        Raises:
            LayoutError: If there is no such folder.
        """
        super().__init__(root)
        if not root.is_dir():
            raise LayoutError(
                f'There is no folder {root}: give the folder of the arrays '
                f'<PREFIX>{ARRAY_SUFFIX} as root.'
            )

    def find_folders(
        self, base: str, folders: Folders | None, modalities: Sequence[str] | None
    ) -> dict[str, str]:
        """Find the prefix of every modality.

        Args:
            base: Not used.
            folders: Prefix of each modality, if they are given.
            modalities: Modalities that are needed in any case.

        Raises:
            LayoutError: If there is no array and no prefix is given.
        """
        if folders is not None:
            return dict(folders)
        paths = self.root.glob(f'*{ARRAY_SUFFIX}')
        prefixes = sorted(path.name.removesuffix(ARRAY_SUFFIX) for path in paths)
        if not prefixes:
            raise LayoutError(
                f'{self.root} holds no array <PREFIX>{ARRAY_SUFFIX}: write one for '
                'each modality.'
            )
        return {m: m.upper() for m in modalities or ()} | {
            prefix.lower(): prefix for prefix in prefixes
        }

    def images(
        self, folders: Folders, bases: Sequence[str], patterns: object = None
    ) -> dict[str, StoredImages]:
        """Return the images of every modality whose file exists.

        Args:
            folders: Prefix of each modality.
            bases: Not used.
            patterns: Not used.
        """
        paths = {m: self._path(prefix) for m, prefix in folders.items()}
        return {m: ArrayImages(p, m) for m, p in paths.items() if p.is_file()}

    def absence(self, base: str, modality: str, folder: str) -> LayoutError:
        """Return the error for a modality without a file.

        Args:
            base: Not used.
            modality: The modality.
            folder: Its prefix.
        """
        return LayoutError(
            f'There is no file {self._path(folder)}: write it, or give the folder that '
            'holds it as root.'
        )

    def fingerprint(self, images: Mapping[str, StoredImages]) -> str:
        """Return a hash of arrays and labels; see :func:`~.stores.hash_files`.

        Args:
            images: The images of each modality.
        """
        names = [f'{i.folder}{ARRAY_SUFFIX}' for i in images.values()]
        return hash_files(
            self.root, [n for n in [*names, LABELS] if (self.root / n).is_file()]
        )

    def _path(self, prefix: str) -> Path:
        return self.root / f'{prefix}{ARRAY_SUFFIX}'

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Where the images of a data set lie: one mechanism for folders, arrays and packs."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio import CRS

from ..errors import LayoutError
from ..rasters import Header

#: Class and stem: what the files of one sample have in common.
Key = tuple[str, str]

#: Folder of each modality, or prefix of its array.
Folders = Mapping[str, str]

#: How images lie in a folder.
Layout = Literal['folders', 'arrays']

# How many examples a message lists and how many files a fingerprint reads in part.
_EXAMPLES = 5
_SAMPLES = 32
_SAMPLE_BYTES = 2**16


class StoredImages(ABC):
    """All images of one modality, whatever the split: N of them, one in each row."""

    #: Folder below each base (folders), or prefix of the file (arrays).
    folder: str

    #: Unit of the values, where the store knows it.
    unit: str | None = None

    #: Names that the bands of all images should have, in order; None for any.
    names: Sequence[str] | None = None

    #: Whether all images are of one size, so that a batch needs no check of each.
    uniform: bool

    @property
    @abstractmethod
    def paths(self) -> Sequence[str]:
        """Path of each image in its store, with slashes, or another unique name."""

    @property
    def mapped(self) -> NDArray[Any] | None:
        """All images as one array in a file, (N, C, H, W), missing pixels NaN.

        None if they are not in such a file.
        """
        return None

    @abstractmethod
    def header(self, row: int) -> Header:
        """Return names and number of bands and the size of an image.

        Args:
            row: Its row.
        """

    @abstractmethod
    def read(self, row: int, bands: Sequence[int] | None = None) -> NDArray[np.float32]:
        """Read an image.

        Args:
            row: Its row.
            bands: Positions of the bands; all if None.

        Returns:
            Raw values, float32 (C, H, W), missing pixels NaN.

        Raises:
            BandError: If its bands are not the ones of :attr:`names`.
            CorruptFileError: If it cannot be read.
        """

    def gather(
        self, rows: Sequence[int], bands: Sequence[int] | None = None
    ) -> NDArray[np.float32]:
        """Read a batch of images of one size.

        Args:
            rows: Their rows, B of them.
            bands: Positions of the bands; all if None.

        Returns:
            Raw values, float32 (B, C, H, W), missing pixels NaN.
        """
        return np.stack([self.read(row, bands) for row in rows])

    def locate(self, row: int) -> tuple[CRS, Affine] | None:
        """Return where an image lies on the Earth; None if it does not tell.

        Args:
            row: Its row.
        """
        return None

    def file(self, row: int) -> str:
        """Return the name of an image's file, for messages.

        Args:
            row: Its row.
        """
        return self.paths[row]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.paths)

    def tiles(self, base: str) -> dict[Key, int]:
        """Return the rows of images at ``<base>/<folder>/<Class>/<stem><suffix>``.

        Args:
            base: Folder of the split, or empty.

        Returns:
            The row for every (class, stem).
        """
        start = tiles_folder(base, self.folder)
        rows: dict[Key, int] = {}
        for row, path in enumerate(self.paths):
            parent, _, name = path.rpartition('/')
            before, _, class_name = parent.rpartition('/')
            if before == start:
                rows[class_name, name.rpartition('.')[0]] = row
        return rows


class Store(ABC):
    """The images of a data set, and the small files (tables) beside them.

    Attributes:
        place: Folder of what is kept or fetched beside the images.
    """

    layout: Layout

    def __init__(self, root: Path) -> None:
        """Initialize a new Store instance.

        Args:
            root: Folder, or pack.
        """
        self.root = root
        self.place = root

    @abstractmethod
    def find_folders(
        self, base: str, folders: Folders | None, modalities: Sequence[str] | None
    ) -> dict[str, str]:
        """Find the folder, or the prefix, of every modality.

        Args:
            base: Folder of the split, or empty.
            folders: Folder or prefix of each modality, as far as they are given.
            modalities: Modalities that are needed in any case.

        Raises:
            LayoutError: If there is nothing.
        """

    @abstractmethod
    def images(self, folders: Folders, bases: Sequence[str]) -> dict[str, StoredImages]:
        """Return the images of every modality that has some.

        Args:
            folders: Folder or prefix of each modality.
            bases: Folders of the splits, or one empty text.
        """

    @abstractmethod
    def absence(self, base: str, modality: str, folder: str) -> LayoutError:
        """Return the error that a modality has no images.

        Args:
            base: Folder of the split, or empty.
            modality: The modality.
            folder: Its folder or prefix.
        """

    @abstractmethod
    def fingerprint(self, images: Mapping[str, StoredImages]) -> str:
        """Return a hash of the source files; see :func:`hash_files`.

        Args:
            images: The images of each modality.
        """

    def is_empty(self) -> bool:
        """Return whether there is nothing at all."""
        return not self.root.is_dir() or not any(self.root.iterdir())

    def lacks(self, folder: str) -> bool:
        """Return whether a folder is not there but could be fetched.

        Args:
            folder: The folder.
        """
        return not (self.root / folder).is_dir()

    def read_table(self, name: str) -> bytes | None:
        """Read a small file beside the images, or anywhere by its full path.

        Args:
            name: The file.

        Returns:
            Its content; None if there is none.
        """
        path = self.place / Path(name).expanduser()
        return path.read_bytes() if path.is_file() else None

    def statistics(self, modality: str, split_hash: str) -> NDArray[np.float64] | None:
        """Return statistics of the bands that are kept with the images.

        Args:
            modality: The modality.
            split_hash: Hash of the split that they must be of.

        Returns:
            float64 (8, C); None if there are none.
        """
        return None


def tiles_folder(base: str, folder: str) -> str:
    """Return the folder that class folders are in.

    Args:
        base: Folder of the split, or empty.
        folder: Folder of the modality.

    Returns:
        Its path with slashes; empty for the root.
    """
    start = str(PurePosixPath(base, folder))
    return '' if start == '.' else start


def hash_files(root: Path, paths: Iterable[str]) -> str:
    """Hash names and sizes of files, and the beginning of some of them.

    The content of up to 32 files spread over the list is included, because tiles
    that were scaled anew keep their names and sizes.

    Args:
        root: Folder the paths start from; not part of the hash.
        paths: Paths below *root*.

    Returns:
        16 hexadecimal digits that do not depend on machine, folder or time.
    """
    names = sorted(paths)
    digest = hashlib.sha256()
    for name in names:
        digest.update(f'{name}\t{(root / name).stat().st_size}\n'.encode())
    for name in names[:: max(1, -(-len(names) // _SAMPLES))]:
        with (root / name).open('rb') as file:
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:16]


def first_few(values: Iterable[object]) -> str:
    """Return the first few of many values as text, for a message.

    Args:
        values: What to list.

    Returns:
        For example 'Forest_1, Forest_2, Forest_3, Forest_4, Forest_5, ...'.
    """
    names = [str(value) for value in values]
    return ', '.join(names[:_EXAMPLES]) + (', ...' if len(names) > _EXAMPLES else '')

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Stores of images: one interface to folders, arrays and packs."""

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio import CRS

from ..errors import LayoutError
from ..rasters import FolderCounts, Header
from .encoding import Encoding

#: Class and name, which the files of one sample share; see :mod:`~.naming`.
Key = tuple[str, str]

#: Folder of each modality, or prefix of its array.
Folders = Mapping[str, str]

#: How images are stored: in class folders, in arrays, or as data sets of TorchGeo do.
Layout = Literal['folders', 'arrays', 'datasets']

# Number of examples in a message, and of files that a fingerprint reads in part.
_EXAMPLES = 5
_SAMPLES = 32
_SAMPLE_BYTES = 2**16


class StoredImages(ABC):
    """All N images of one modality, of all splits, one in each row.

    Attributes:
        folder: Folder below each base (folders), or prefix of the file (arrays).
        unit: Unit of the values, if the store knows it.
        names: Names that the bands of all images must have, in order; None for any.
        pattern: Pattern that the stems of all images match, if one was given.
        counts: Numbers of the files that were found, for images in folders.
        uniform: Whether all images have the same size, so that a batch needs no checks.
        encoding: What the numbers in the files stand for; :meth:`read` decodes them.
    """

    folder: str
    pattern: re.Pattern[str] | None = None
    counts: FolderCounts | None = None
    unit: str | None = None
    names: Sequence[str] | None = None
    uniform: bool
    encoding: Encoding = Encoding()

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

    def check_all(self) -> None:  # noqa: B027 (most have nothing to compare)
        """Compare all images with their checksums, if they have some."""

    @abstractmethod
    def header(self, row: int) -> Header:
        """Return the names and number of bands, size and type of an image.

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
            BandError: If its bands are not those in *names*.
            CorruptFileError: If it cannot be read.
        """

    def state(self, encoding: Encoding) -> None:
        """State what the numbers in the files stand for.

        Args:
            encoding: What the user says, or what is assumed.

        Raises:
            PackError: If they were decoded in another way when they were packed.
        """
        self.encoding = encoding

    def describe(self, row: int, bands: Sequence[int]) -> list[str]:
        """Describe what the file of an image says about the numbers in it.

        Args:
            row: Its row.
            bands: Positions of the bands.

        Returns:
            Parts of a sentence.
        """
        return []

    def number_in_file(self, row: int, band: int, value: float) -> float:
        """Return the number that stands for a value in the file of an image.

        Args:
            row: Its row.
            band: Position of the band.
            value: The value that :meth:`read` returns.
        """
        return self.encoding.encode(value)

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
        """Return where an image lies on the Earth; None if that is not known.

        Args:
            row: Its row.
        """
        return None

    def files(self) -> Iterable[Path]:
        """Return the files that hold the images, as far as they are known."""
        return ()

    def file(self, row: int) -> str:
        """Return the name of an image's file, for messages.

        Args:
            row: Its row.
        """
        return self.paths[row]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.paths)


class Store(ABC):
    """The images of a data set, and the small files (tables) next to them.

    Attributes:
        place: Folder of files that are kept or fetched next to the images.
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
            folders: Folder or prefix of each modality, if they are given.
            modalities: Modalities that are needed in any case.

        Raises:
            LayoutError: If there is none.
        """

    @abstractmethod
    def images(
        self,
        folders: Folders,
        bases: Sequence[str],
        patterns: Mapping[str, re.Pattern[str]] | None = None,
    ) -> dict[str, StoredImages]:
        """Return the images of every modality that has some.

        Args:
            folders: Folder or prefix of each modality.
            bases: Folders of the splits, or one empty text.
            patterns: Pattern of the stems for each modality that has one.

        Raises:
            LayoutError: If no stem matches the pattern.
        """

    @abstractmethod
    def absence(self, base: str, modality: str, folder: str) -> LayoutError:
        """Return the error for a modality without images.

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
        """Return whether the store does not exist or is empty."""
        return not self.root.is_dir() or not any(self.root.iterdir())

    def lacks(self, folder: str) -> bool:
        """Return whether a folder is missing but could be fetched.

        Args:
            folder: The folder.
        """
        return not (self.root / folder).is_dir()

    def read_table(self, name: str) -> bytes | None:
        """Read a small file: next to the images, or anywhere by its full path.

        Args:
            name: The file.

        Returns:
            Its content; None if it does not exist.
        """
        path = self.place / Path(name).expanduser()
        return path.read_bytes() if path.is_file() else None

    def statistics(self, modality: str, split_hash: str) -> NDArray[np.float64] | None:
        """Return the statistics of the bands that are stored with the images.

        Args:
            modality: The modality.
            split_hash: Hash of the split that they must belong to.

        Returns:
            float64 (R, C); None if there are none.
        """
        return None


def tiles_folder(base: str, folder: str) -> str:
    """Return the folder that holds the class folders.

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

    Up to 32 files, spread over the list, are hashed by content too, because tiles keep
    their names and sizes when they are rescaled.

    Args:
        root: Folder the paths start from; not part of the hash.
        paths: Paths below *root*.

    Returns:
        16 hexadecimal digits, independent of machine, folder and time.
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

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Where the images of a data set lie: one mechanism for folders, arrays and packs."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio import CRS

from ..errors import LayoutError
from ..rasters import (
    Header,
    missing_to_nan,
    open_array,
    read_dtype,
    read_georeference,
    read_header,
    read_image,
)
from .listing import Key, check_folders, find_folders, hash_files, list_tiles

#: What the name of an array of images ends with, after the prefix of its modality.
ARRAY_SUFFIX = '_data_normalized.npy'

#: One label for each row of the arrays.
LABELS = 'labels.npy'


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
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """Type of the values of the first image."""

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
        start = _start(base, self.folder)
        rows: dict[Key, int] = {}
        for row, path in enumerate(self.paths):
            parent, _, name = path.rpartition('/')
            before, _, class_name = parent.rpartition('/')
            if before == start:
                rows[class_name, name.rpartition('.')[0]] = row
        return rows


class Store(ABC):
    """The images of a data set, and the small files (tables) beside them."""

    layout: Literal['folders', 'arrays']

    def __init__(self, root: Path) -> None:
        """Initialize a new Store instance.

        Args:
            root: Folder, or pack.
        """
        self.root = root
        #: Folder of what is kept or fetched beside the images.
        self.place = root

    @abstractmethod
    def find_folders(
        self,
        base: str,
        folders: Mapping[str, str] | None,
        modalities: Sequence[str] | None,
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
    def images(
        self, folders: Mapping[str, str], bases: Sequence[str]
    ) -> dict[str, StoredImages]:
        """Return the images of every modality that has some.

        Args:
            folders: Folder or prefix of each modality.
            bases: Folders of the splits, or one empty text.
        """

    @abstractmethod
    def check_held(
        self, base: str, needed: Mapping[str, str], held: Collection[str]
    ) -> None:
        """Refuse modalities without images.

        Args:
            base: Folder of the split, or empty.
            needed: Folder or prefix of each modality that is needed.
            held: Modalities that have images.

        Raises:
            LayoutError: If a modality has none.
        """

    @abstractmethod
    def fingerprint(self, images: Mapping[str, StoredImages]) -> str:
        """Return a hash of the source files; see :func:`~.listing.hash_files`.

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


class FolderImages(StoredImages):
    """Images in files of their own."""

    uniform = False

    def __init__(self, root: Path, folder: str, paths: Sequence[str]) -> None:
        """Initialize a new FolderImages instance.

        Args:
            root: The folder that paths start from.
            folder: Folder of the modality.
            paths: The files.
        """
        self.folder = folder
        self._root = root
        self._paths = paths

    @property
    def paths(self) -> Sequence[str]:
        """Path of each image below the root."""
        return self._paths

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values of the first file."""
        return read_dtype(self._root / self._paths[0])

    def header(self, row: int) -> Header:
        """Read names and number of bands and the size of an image."""
        return read_header(self._root / self._paths[row])

    def read(self, row: int, bands: Sequence[int] | None = None) -> NDArray[np.float32]:
        """Read an image; see :func:`~torchgeo_discomkd.rasters.read_image`."""
        return read_image(self._root / self._paths[row], bands, self.names)

    def locate(self, row: int) -> tuple[CRS, Affine] | None:
        """Read where an image lies on the Earth; None if it does not tell."""
        return read_georeference(self._root / self._paths[row])


class FolderStore(Store):
    """Images at ``<base>/<folder>/<Class>/<stem><suffix>``."""

    layout = 'folders'

    def find_folders(
        self,
        base: str,
        folders: Mapping[str, str] | None,
        modalities: Sequence[str] | None,
    ) -> dict[str, str]:
        """Find the folder of every modality; see :func:`~.listing.find_folders`."""
        return find_folders(self.root / base, folders, modalities)

    def images(
        self, folders: Mapping[str, str], bases: Sequence[str]
    ) -> dict[str, StoredImages]:
        """List the images of every modality that has some.

        Raises:
            PairingError: If two files of a class have the same stem.
        """
        listed = {m: sorted(self._paths(f, bases)) for m, f in folders.items()}
        return {
            m: FolderImages(self.root, folders[m], paths)
            for m, paths in listed.items()
            if paths
        }

    def check_held(
        self, base: str, needed: Mapping[str, str], held: Collection[str]
    ) -> None:
        """Refuse modalities without tiles; see :func:`~.listing.check_folders`."""
        check_folders(self.root / base, needed, held)

    def fingerprint(self, images: Mapping[str, StoredImages]) -> str:
        """Return a hash of all files; see :func:`~.listing.hash_files`."""
        return hash_files(self.root, [p for i in images.values() for p in i.paths])

    def _paths(self, folder: str, bases: Sequence[str]) -> Iterator[str]:
        for base in bases:
            start = _start(base, folder)
            prefix = f'{start}/' if start else ''
            for (name, stem), suffix in list_tiles(self.root / start).items():
                yield f'{prefix}{name}/{stem}{suffix}'


class ArrayImages(StoredImages):
    """Images in one array. It is opened when it is needed, by each process itself."""

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
        """Leave the array out: a worker process opens the file itself."""
        return {k: v for k, v in self.__dict__.items() if k != 'array'}

    @cached_property
    def array(self) -> NDArray[Any]:
        """The array in the file, of any type, (N, C, H, W).

        Raises:
            CorruptFileError: If the file is truncated, no array or needs unpickling.
            LayoutError: If it has another shape, or holds no numbers.
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

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self.array.dtype

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.array)

    def header(self, row: int) -> Header:
        """Return number of bands and the size of an image."""
        return Header(None, *self.array.shape[1:])

    def read(self, row: int, bands: Sequence[int] | None = None) -> NDArray[np.float32]:
        """Read an image; see :meth:`StoredImages.read`."""
        image = self.array[row]
        return missing_to_nan(image if bands is None else image[list(bands)])


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
        self,
        base: str,
        folders: Mapping[str, str] | None,
        modalities: Sequence[str] | None,
    ) -> dict[str, str]:
        """Find the prefix of every modality.

        Raises:
            LayoutError: If there is no array, and no prefix was given.
        """
        if folders is not None:
            return dict(folders)
        paths = sorted(self.root.glob(f'*{ARRAY_SUFFIX}'))
        prefixes = sorted(path.name.removesuffix(ARRAY_SUFFIX) for path in paths)
        if not prefixes:
            raise LayoutError(
                f'{self.root} holds no array <PREFIX>{ARRAY_SUFFIX}: write one for each '
                'modality.'
            )
        return {m: m.upper() for m in modalities or ()} | {
            prefix.lower(): prefix for prefix in prefixes
        }

    def images(
        self, folders: Mapping[str, str], bases: Sequence[str]
    ) -> dict[str, StoredImages]:
        """Return the images of every modality whose file is there."""
        paths = {m: self._path(prefix) for m, prefix in folders.items()}
        return {m: ArrayImages(p, m) for m, p in paths.items() if p.is_file()}

    def check_held(
        self, base: str, needed: Mapping[str, str], held: Collection[str]
    ) -> None:
        """Refuse modalities without a file.

        Raises:
            LayoutError: If there is none.
        """
        for modality, prefix in needed.items():
            if modality not in held:
                raise LayoutError(
                    f'There is no file {self._path(prefix)}: write it, or give the '
                    'folder that holds it as root.'
                )

    def fingerprint(self, images: Mapping[str, StoredImages]) -> str:
        """Return a hash of arrays and labels; see :func:`~.listing.hash_files`."""
        names = [f'{i.folder}{ARRAY_SUFFIX}' for i in images.values()]
        return hash_files(
            self.root, [n for n in [*names, LABELS] if (self.root / n).is_file()]
        )

    def _path(self, prefix: str) -> Path:
        return self.root / f'{prefix}{ARRAY_SUFFIX}'


def store_of_files(root: Path, layout: Literal['folders', 'arrays']) -> Store:
    """Return the store of images that are in a folder.

    Args:
        root: The folder.
        layout: How they lie in it.

    Raises:
        LayoutError: If there is no such folder of arrays.
    """
    return FolderStore(root) if layout == 'folders' else ArrayStore(root)


def _start(base: str, folder: str) -> str:
    """Return the folder that class folders are in; empty for the root."""
    start = str(PurePosixPath(base, folder))
    return '' if start == '.' else start

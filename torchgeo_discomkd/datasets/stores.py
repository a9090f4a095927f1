# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Where the tiles of a data set lie: in folders, or in one packed file."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio import CRS

from ..rasters import Header, read_dtype, read_georeference, read_header, read_image
from .listing import (
    Key,
    Tiles,
    check_folders,
    find_folders,
    hash_files,
    list_modalities,
)


class TileStore(ABC):
    """Tiles at ``<base>/<folder>/<Class>/<stem><suffix>``, and tables beside them.

    A path is relative to the store, with slashes. *base* is the folder of a split, or
    empty.
    """

    @abstractmethod
    def find_folders(
        self,
        base: str,
        folders: Mapping[str, str] | None,
        modalities: Sequence[str] | None,
    ) -> dict[str, str]:
        """Return the folder of every modality; see :func:`~.listing.find_folders`."""

    @abstractmethod
    def list_tiles(self, base: str, folders: Mapping[str, str]) -> dict[str, Tiles]:
        """Return the tiles of each modality; see :func:`~.listing.list_modalities`."""

    @abstractmethod
    def check_folders(
        self, base: str, needed: Mapping[str, str], tiles: Mapping[str, Tiles]
    ) -> None:
        """Refuse modalities without tiles; see :func:`~.listing.check_folders`."""

    @abstractmethod
    def read_image(
        self, path: str, indexes: Sequence[int] | None, expected: Sequence[str]
    ) -> NDArray[np.float32]:
        """Read a tile; see :func:`~torchgeo_discomkd.rasters.read_image`."""

    @abstractmethod
    def read_header(self, path: str) -> Header:
        """Read names and number of bands and the size of a tile."""

    @abstractmethod
    def read_dtype(self, path: str) -> np.dtype[Any]:
        """Read the type of a tile's values."""

    @abstractmethod
    def read_georeference(self, path: str) -> tuple[CRS, Affine] | None:
        """Read where a tile lies on the Earth; None if it does not tell."""

    @abstractmethod
    def read_table(self, name: str) -> bytes | None:
        """Read a small file beside the tiles; None if there is none."""

    @abstractmethod
    def fingerprint(self, paths: Sequence[str]) -> str:
        """Return a hash of the files; see :func:`~.listing.hash_files`."""

    @abstractmethod
    def unit(self, modality: str) -> str | None:
        """Return the unit of the values of a modality; None if it is not known."""


def tile_paths(
    tiles: Mapping[str, Mapping[str, Tiles]], folders: Mapping[str, str]
) -> Iterator[str]:
    """Yield the paths of all tiles.

    Args:
        tiles: The tiles of each modality, for each base.
        folders: Folder of each modality.
    """
    for base, modalities in tiles.items():
        for modality in modalities:
            for key, suffix in modalities[modality].items():
                yield tile_path(base, folders[modality], key, suffix)


def tile_path(base: str, folder: str, key: Key, suffix: str) -> str:
    """Return the path of a tile in its store.

    Args:
        base: Folder of the split, or empty.
        folder: Folder of the modality.
        key: Class and stem.
        suffix: Suffix of the file.
    """
    return str(PurePosixPath(base, folder, key[0], f'{key[1]}{suffix}'))


class FolderStore(TileStore):
    """Tiles in folders."""

    def __init__(self, root: Path) -> None:
        """Initialize a new FolderStore instance.

        Args:
            root: The folder that paths start from.
        """
        self.root = root

    def find_folders(
        self,
        base: str,
        folders: Mapping[str, str] | None,
        modalities: Sequence[str] | None,
    ) -> dict[str, str]:
        """Return the folder of every modality; see :func:`~.listing.find_folders`."""
        return find_folders(self.root / base, folders, modalities)

    def list_tiles(self, base: str, folders: Mapping[str, str]) -> dict[str, Tiles]:
        """Return the tiles of each modality; see :func:`~.listing.list_modalities`."""
        return list_modalities(self.root / base, folders)

    def check_folders(
        self, base: str, needed: Mapping[str, str], tiles: Mapping[str, Tiles]
    ) -> None:
        """Refuse modalities without tiles; see :func:`~.listing.check_folders`."""
        check_folders(self.root / base, needed, tiles)

    def read_image(
        self, path: str, indexes: Sequence[int] | None, expected: Sequence[str]
    ) -> NDArray[np.float32]:
        """Read a tile; see :func:`~torchgeo_discomkd.rasters.read_image`."""
        return read_image(self.root / path, indexes, expected)

    def read_header(self, path: str) -> Header:
        """Read names and number of bands and the size of a tile."""
        return read_header(self.root / path)

    def read_dtype(self, path: str) -> np.dtype[Any]:
        """Read the type of a tile's values."""
        return read_dtype(self.root / path)

    def read_georeference(self, path: str) -> tuple[CRS, Affine] | None:
        """Read where a tile lies on the Earth; None if it does not tell."""
        return read_georeference(self.root / path)

    def read_table(self, name: str) -> bytes | None:
        """Read a small file below the root, or anywhere by its full path."""
        path = self.root / Path(name).expanduser()
        return path.read_bytes() if path.is_file() else None

    def fingerprint(self, paths: Sequence[str]) -> str:
        """Return a hash of the files; see :func:`~.listing.hash_files`."""
        return hash_files(self.root, paths)

    def unit(self, modality: str) -> str | None:
        """Return None: folders do not tell."""
        return None

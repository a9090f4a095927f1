# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Tiles of folders, read from a pack."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio import CRS

from ..errors import LayoutError, ModalityError
from ..rasters import Header, check_bands
from .listing import Tiles
from .packfile import PackFile, is_pack, open_pack
from .packsource import check_layout, check_source
from .stores import FolderStore, TileStore


class PackStore(TileStore):
    """Tiles in a pack of folders."""

    def __init__(self, pack: PackFile) -> None:
        """Initialize a new PackStore instance.

        Args:
            pack: The pack.

        Raises:
            PackError: If it is of arrays, or its source has changed.
        """
        check_layout(pack, 'folders')
        check_source(pack)
        self.pack = pack

    def find_folders(
        self,
        base: str,
        folders: Mapping[str, str] | None,
        modalities: Sequence[str] | None,
    ) -> dict[str, str]:
        """Return the folder that every modality was packed from.

        Args:
            base: Not used.
            folders: Modalities by name and in order; what their folders are called now
                is no matter.
            modalities: Modalities that are needed in any case.

        Raises:
            ModalityError: If the pack lacks one.
        """
        packed = {m: v.folder for m, v in self.pack.metadata.modalities.items()}
        needed = modalities or folders or ()
        if lacking := [m for m in needed if m not in packed]:
            raise ModalityError(
                f'{self.pack.path} has the modalities {list(packed)}, not {lacking}: '
                'choose among them, or pack data that have all.'
            )
        if folders is None:
            return packed
        return {m: packed[m] for m in folders if m in packed}

    def list_tiles(self, base: str, folders: Mapping[str, str]) -> dict[str, Tiles]:
        """Return the tiles of each modality."""
        listed: dict[str, Tiles] = {}
        for modality, folder in folders.items():
            start = str(PurePosixPath(base, folder))
            start = '' if start == '.' else start
            tiles: Tiles = {}
            for path in self.pack.paths[modality]:
                parent, _, name = path.rpartition('/')
                before, _, class_name = parent.rpartition('/')
                if before == start:
                    stem, dot, suffix = name.rpartition('.')
                    tiles[class_name, stem] = dot + suffix
            if tiles:
                listed[modality] = tiles
        return listed

    def check_folders(
        self, base: str, needed: Mapping[str, str], tiles: Mapping[str, Tiles]
    ) -> None:
        """Refuse modalities without tiles.

        Raises:
            LayoutError: If a modality has none.
        """
        for modality in needed:
            if modality not in tiles:
                raise LayoutError(
                    f"{self.pack.path} has no tiles of modality '{modality}'"
                    + (f" in '{base}'" if base else '')
                    + f': it has the splits {list(self.pack.metadata.bases)}.'
                )

    def read_image(
        self, path: str, indexes: Sequence[int] | None, expected: Sequence[str]
    ) -> NDArray[np.float32]:
        """Return a tile; see :func:`~torchgeo_discomkd.rasters.read_image`."""
        modality, row = self.pack.positions[path]
        check_bands(path, self.read_header(path), indexes, expected)
        return self.pack.gather(modality, [row], indexes)[0]

    def read_header(self, path: str) -> Header:
        """Return names and number of bands and the size of a tile."""
        modality, _ = self.pack.positions[path]
        described = self.pack.metadata.modalities[modality]
        return Header(described.descriptions, *self.pack.images[modality].shape[1:])

    def read_dtype(self, path: str) -> np.dtype[Any]:
        """Return the type of a tile's values."""
        modality, _ = self.pack.positions[path]
        return self.pack.images[modality].dtype

    def read_georeference(self, path: str) -> tuple[CRS, Affine] | None:
        """Return where a tile lies on the Earth; None if it does not tell."""
        return self.pack.georeference(*self.pack.positions[path])

    def read_table(self, name: str) -> bytes | None:
        """Return a packed table, or read one beside the pack."""
        content = self.pack.table(name)
        if content is not None:
            return content
        return FolderStore(self.pack.path.parent).read_table(name)

    def fingerprint(self, paths: Sequence[str]) -> str:
        """Return the hash of the source's files."""
        return self.pack.metadata.fingerprint

    def unit(self, modality: str) -> str | None:
        """Return the unit that was given when the data were packed."""
        return self.pack.metadata.modalities[modality].unit


def open_store(root: str | Path) -> TileStore:
    """Return the tiles of a data set.

    Args:
        root: Folder, or pack.

    Raises:
        PackError: If it is a pack that cannot be read or whose source has changed.
    """
    return PackStore(open_pack(root)) if is_pack(root) else FolderStore(Path(root))

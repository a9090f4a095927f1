# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Data sets whose images are in a pack."""

import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio import CRS

from ...errors import LayoutError, ModalityError, PackError
from ...rasters import FolderCounts, Header, check_bands
from ..arrays import ArrayStore
from ..encoding import UNKNOWN, Encoding
from ..folders import FolderStore
from ..naming import Patterns, compile_patterns, matching_paths
from ..stores import Folders, Layout, Store, StoredImages
from .file import PackFile, open_pack
from .format import is_pack

#: Stores of images outside packs.
FILES: dict[Layout, type[FolderStore | ArrayStore]] = {
    'folders': FolderStore,
    'arrays': ArrayStore,
}

# The data set that reads each kind of pack.
_READERS: dict[Layout, str] = {
    'folders': 'PairedFolders',
    'arrays': 'PairedArrays',
    'datasets': 'PairedDatasets',
}


class PackedImages(StoredImages):
    """The images of one modality in a pack."""

    uniform = True

    def __init__(self, pack: PackFile, modality: str) -> None:
        """Initialize a new PackedImages instance.

        Args:
            pack: The pack.
            modality: The modality.
        """
        described = pack.metadata.modalities[modality]
        self.folder = described.folder
        self.unit = described.unit
        self._descriptions = described.descriptions
        self._described = described
        self._pack = pack
        self._modality = modality

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.mapped)

    @property
    def paths(self) -> Sequence[str]:
        """Path of each image in the source."""
        return self._pack.paths[self._modality]

    @property
    def mapped(self) -> NDArray[Any]:
        """All images, (N, C, H, W), missing pixels NaN: a view of the file."""
        return self._pack.images[self._modality]

    def files(self) -> Sequence[Path]:
        """Return the pack."""
        return [self._pack.path]

    def check_all(self) -> None:
        """Compare all images with their checksums, once in a process.

        Raises:
            PackError: If one is damaged.
        """
        if (checks := self._pack.checks.get(self._modality)) is not None:
            checks.check_all(self.mapped)

    def state(self, encoding: Encoding) -> None:
        """Check that the numbers were decoded like that when they were packed.

        Args:
            encoding: What the user states about the source's files.

        Raises:
            PackError: If they were decoded in another way.
        """
        described, unit = self._described, encoding.unit
        asked = {'nodata': encoding.nodata, 'units': unit}
        packed = {
            'nodata': described.nodata,
            'units': described.file_unit or described.unit or UNKNOWN,
        }
        same_nodata = encoding.nodata in (None, described.nodata)
        if described.unit is None:
            # nothing was converted, and only a unit that needs no conversion can be
            # stated afterwards
            same_unit = unit == encoding.sample_unit
        else:
            same_unit = unit in (described.unit, described.file_unit)
        if not same_nodata or not same_unit:
            raise PackError(
                f"'{self._modality}' in {self._pack.path} was packed with {packed}, "
                f'not {asked}: pack the data again, or give the folder as root.'
            )
        self.encoding = Encoding(encoding.sample_unit, None, encoding.assumed)

    def header(self, row: int) -> Header:
        """Return the names and number of bands, size and type of an image.

        Args:
            row: Not used: all images are alike.
        """
        _, count, height, width = self.mapped.shape
        return Header(self._descriptions, count, height, width, self.mapped.dtype)

    def read(self, row: int, bands: Sequence[int] | None = None) -> NDArray[np.float32]:
        """Return an image; see :meth:`StoredImages.read`.

        Args:
            row: Its row.
            bands: Positions of the bands; all if None.
        """
        if self.names is not None:
            check_bands(self.paths[row], self.header(row), bands, self.names)
        return self.gather([row], bands)[0]

    def gather(
        self, rows: Sequence[int], bands: Sequence[int] | None = None
    ) -> NDArray[np.float32]:
        """Copy images into a batch; see :meth:`StoredImages.gather`.

        Args:
            rows: Their rows, B of them.
            bands: Positions of the bands; all if None.

        Raises:
            PackError: If the file was truncated in the meantime.
        """
        images = self.mapped
        count = images.shape[1] if bands is None else len(bands)
        batch = np.empty((len(rows), count, *images.shape[2:]), np.float32)
        image = np.empty(images.shape[1:], images.dtype)
        # row by row: each is converted while it is still in the cache
        for place, row in enumerate(rows):
            self._copy(row, image)
            batch[place] = image if bands is None else image[bands]
        return batch

    def _copy(self, row: int, image: NDArray[Any]) -> None:
        """Copy an image out of the file.

        Reading is cheaper than mapping: no page of a file larger than memory has to be
        mapped first, and none counts towards the memory of the process.
        """
        pack = self._pack
        offset = pack.offsets[self._modality] + row * image.nbytes
        if not hasattr(os, 'preadv'):
            image[:] = self.mapped[row]
        elif os.preadv(pack.descriptor, [image], offset) < image.nbytes:
            raise PackError(f'{pack.path} was truncated while it was read: pack again.')
        if (checks := pack.checks.get(self._modality)) is not None:
            checks.check(row, image)

    def locate(self, row: int) -> tuple[CRS, Affine] | None:
        """Return where an image lies on the Earth; None if that is not known.

        Args:
            row: Its row.

        Raises:
            PackError: If the pack is damaged.
        """
        numbers = self._pack.array(f'crs.{self._modality}')
        transforms = self._pack.array(f'transform.{self._modality}')
        if numbers is None or transforms is None or numbers[row] < 0:
            return None
        if numbers[row] >= len(self._pack.systems):
            raise PackError(
                f'{self._pack.path} is damaged: image {row} is in a coordinate '
                'reference system that it lacks. Pack the data again.'
            )
        return self._pack.systems[numbers[row]], Affine(*transforms[row].tolist())


class PackStore(Store):
    """A pack of folders, of arrays or of data sets."""

    def __init__(self, root: Path, layout: Layout) -> None:
        """Initialize a new PackStore instance.

        Args:
            root: The pack.
            layout: Kind of store that the data set reads.

        Raises:
            PackError: If it is not a pack, of the other kind, or its source changed.
        """
        pack = open_pack(root)
        if pack.metadata.layout != layout:
            raise PackError(
                f'{root} is a pack of {pack.metadata.layout}: read it with '
                f'{_READERS[pack.metadata.layout]}, or with the data set that was '
                'packed.'
            )
        _check_source(pack)
        super().__init__(root)
        self.place = root.parent
        self.layout = layout
        self._pack = pack

    def is_empty(self) -> bool:
        """Return False."""
        return False

    def lacks(self, folder: str) -> bool:
        """Return False: nothing can be added to a pack.

        Args:
            folder: Not used.
        """
        return False

    def find_folders(
        self, base: str, folders: Folders | None, modalities: Sequence[str] | None
    ) -> dict[str, str]:
        """Return the folder, or prefix, that every modality was packed from.

        Args:
            base: Not used.
            folders: Modalities by name and in order. Their folders may have been
                renamed since, but prefixes of arrays must be those that were packed.
            modalities: Modalities that are needed in any case.

        Raises:
            ModalityError: If the pack lacks a modality, or has another prefix for it.
        """
        packed = {m: v.folder for m, v in self._pack.metadata.modalities.items()}
        if self.layout == 'arrays':
            packed = dict(sorted(packed.items(), key=lambda item: item[1]))
            given = (folders or {}).items()
            if other := {m: p for m, p in given if packed.get(m) != p}:
                raise ModalityError(
                    f'{self.root} was packed with the prefixes {packed}, not {other}: '
                    'use those, or give the folder as root.'
                )
        needed = modalities or folders or ()
        if lacking := [m for m in needed if m not in packed]:
            raise ModalityError(
                f'{self.root} has the modalities {list(packed)}, not {lacking}: '
                'choose among them, or pack data that have all.'
            )
        chosen = packed if folders is None else folders
        return {m: packed[m] for m in chosen if m in packed}

    def images(
        self, folders: Folders, bases: Sequence[str], patterns: Patterns | None = None
    ) -> dict[str, StoredImages]:
        """Return the images of each modality.

        Args:
            folders: The modalities, as keys.
            bases: Not used.
            patterns: Pattern of the stems for each modality that has one.

        Raises:
            LayoutError: If no stem matches the pattern.
        """
        images: dict[str, StoredImages] = {}
        for modality in folders:
            found = PackedImages(self._pack, modality)
            if self.layout == 'folders':
                found.counts = FolderCounts(modality)
                pattern = (patterns or {}).get(modality)
                kept = len(matching_paths(modality, found.paths, pattern))
                found.counts.leave('not matching stem_pattern', len(found) - kept)
            images[modality] = found
        return images

    def absence(self, base: str, modality: str, folder: str) -> LayoutError:
        """Return the error for a modality without tiles.

        Args:
            base: Folder of the split, or empty.
            modality: The modality.
            folder: Not used.
        """
        return LayoutError(
            f"{self.root} has no tiles of modality '{modality}'"
            + (f" in '{base}'" if base else '')
            + f': it has the splits {list(self._pack.metadata.bases)}.'
        )

    def read_table(self, name: str) -> bytes | None:
        """Return a packed table, or read one next to the pack.

        Args:
            name: The file.
        """
        content = self._pack.table(name)
        if content is None and self.layout == 'folders':
            # EuroSAT's split files, for example; index files belong to their arrays
            return super().read_table(name)
        return content

    def fingerprint(self, images: Mapping[str, StoredImages]) -> str:
        """Return the hash of the source's files.

        Args:
            images: Not used.
        """
        return self._pack.metadata.fingerprint

    def statistics(self, modality: str, split_hash: str) -> NDArray[np.float64] | None:
        """Return the statistics of the bands in the split that was packed.

        Args:
            modality: The modality.
            split_hash: Hash of the split.

        Returns:
            float64 (R, C), the rows in the order of STATISTICS; None if they belong to
            another split.
        """
        if self._pack.metadata.split_hash != split_hash:
            return None
        return self._pack.array(f'statistics.{modality}')


def open_store(root: str | Path, layout: Layout) -> Store:
    """Return the store of a data set's images.

    Args:
        root: Folder, or pack.
        layout: Kind of store.

    Raises:
        LayoutError: If a folder of arrays does not exist.
        PackError: If a pack cannot be read, is of the other kind, or its source
            changed.
    """
    path = Path(root)
    return PackStore(path, layout) if is_pack(path) else FILES[layout](path)


@lru_cache(maxsize=8)
def _check_source(pack: PackFile) -> None:
    """Check that the source of a pack, if it still exists, has not changed."""
    metadata = pack.metadata
    source = pack.path.resolve().parent / metadata.source
    if metadata.layout == 'datasets' or not source.is_dir():
        # only the data sets themselves know how to read their files
        return
    store = FILES[metadata.layout](source)
    folders = {m: v.folder for m, v in metadata.modalities.items()}
    patterns = {
        m: v.stem_pattern for m, v in metadata.modalities.items() if v.stem_pattern
    }
    images = store.images(folders, metadata.bases, compile_patterns(patterns))
    if not images:
        # moved elsewhere to save space, or an unrelated folder of the same name
        return
    tables = {name: store.read_table(name) for name in pack.tables}
    changed = [name for name, t in tables.items() if t not in (None, pack.table(name))]
    if changed or store.fingerprint(images) != metadata.fingerprint:
        raise PackError(
            f'{pack.path} no longer matches {source}: files were added, removed or '
            'changed. Pack the data again (--overwrite), or give the folder as root.'
        )

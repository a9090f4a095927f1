# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Data sets whose images lie in a store: in folders, in arrays or in a pack."""

import copy
import hashlib
import re
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from affine import Affine
from numpy.typing import NDArray
from rasterio import CRS
from torch import Tensor

from ..errors import BandError, ModalityError
from .base import MultiModalDataset, check_modalities
from .encoding import UNKNOWN, assume_unit, looks_like_sar, make_encoding
from .pack.reader import open_store
from .splits import check_split_name
from .stores import Folders, Layout, Store, StoredImages

# Number of images from which the unit of a modality is assumed, if it was not given.
_LOOKED_AT = 16


class StoredDataset(MultiModalDataset):
    """A split of images in a store, which can be packed.

    A subclass calls :meth:`_open`, sets the labels, and calls :meth:`_hold`.

    Attributes:
        split: Name of the split.
        store: Where the images are.
        bases: Folders of the splits, or one empty text.
        images: Images of all modalities on disk, also of those not in samples.
        rows: Row in *images* of every sample, for the modalities that samples hold.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from torchgeo_discomkd.datasets import PairedArrays
        >>> with tempfile.TemporaryDirectory() as root:
        ...     np.save(f'{root}/SAR_data_normalized.npy', np.zeros((3, 2, 8, 8)))
        ...     np.save(f'{root}/labels.npy', [0, 0, 1])
        ...     np.save(f'{root}/train_idx.npy', [1, 2])
        ...     dataset = PairedArrays(root, bands={'sar': ['B2']})
        >>> isinstance(dataset, StoredDataset)
        True
        >>> dataset.rows['sar'], dataset.band_indexes('sar')
        (array([1, 2]), [1])
    """

    split: str
    store: Store
    bases: tuple[str, ...] = ('',)
    images: dict[str, StoredImages]
    rows: dict[str, NDArray[np.int64]]

    _has_unlabelled: bool = False

    @abstractmethod
    def table_names(self) -> list[str]:
        """Return the names of the small files with splits and labels."""

    def load(self, index: int, modality: str) -> Tensor:
        """Read one image.

        Args:
            index: Position in this split.
            modality: One of *modalities*.

        Returns:
            Raw values, float32, shape (C, H, W), missing pixels NaN.

        Raises:
            BandError: If the bands differ from those of the first image.
            CorruptFileError: If the file is truncated or not an image.
        """
        row = int(self.rows[modality][index])
        return torch.from_numpy(
            self.images[modality].read(row, self.band_indexes(modality))
        )

    def load_batch(self, indexes: Sequence[int], modality: str) -> Tensor:
        """Read images, all at once if they need no individual checks.

        See :meth:`MultiModalDataset.load_batch`.

        Args:
            indexes: Positions in this split, B of them.
            modality: One of *modalities*.
        """
        images = self.images[modality]
        if not images.uniform or self.missing_values == 'error':
            return super().load_batch(indexes, modality)
        rows = self.rows[modality][indexes].tolist()
        return torch.from_numpy(images.gather(rows, self.band_indexes(modality)))

    def mapped(self, modality: str) -> tuple[NDArray[Any], Tensor] | None:
        """Return all images of a modality as one array, if they are in one file.

        See :meth:`MultiModalDataset.mapped`.

        Args:
            modality: One of *modalities*.

        Raises:
            PackError: If an image is damaged.
        """
        stored = self.images[modality]
        stored.check_all()
        images = stored.mapped
        rows = torch.from_numpy(self.rows[modality])
        return None if images is None else (images, rows)

    def stored_statistics(
        self, modality: str, split_hash: str
    ) -> NDArray[np.float64] | None:
        """Return the statistics in a pack.

        See :meth:`MultiModalDataset.stored_statistics`.

        Args:
            modality: One of *modalities*.
            split_hash: Hash of this split.
        """
        return self.store.statistics(modality, split_hash)

    def encoding(self, modality: str) -> str:
        """Return what is known about the numbers in the files of a modality.

        See :meth:`MultiModalDataset.encoding`.

        Args:
            modality: One of *modalities*.
        """
        images = self.images[modality]
        row = int(self.rows[modality][0])
        bands = self.band_indexes(modality) or range(len(self.bands[modality]))
        return '; '.join([*images.describe(row, bands), str(images.encoding)])

    def number_in_file(self, modality: str, band: int, value: float) -> float:
        """Return the number that stands for a value in the files.

        See :meth:`MultiModalDataset.number_in_file`.

        Args:
            modality: One of *modalities*.
            band: Position of the band in samples.
            value: Value in samples.
        """
        position = (self.band_indexes(modality) or range(band + 1))[band]
        row = int(self.rows[modality][0])
        return self.images[modality].number_in_file(row, position, value)

    @property
    def place(self) -> Path:
        """Folder for files that are kept next to the images."""
        return self.store.place

    def band_indexes(self, modality: str) -> list[int] | None:
        """Return the positions of the bands that samples hold; None for all.

        Args:
            modality: One of *modalities*.
        """
        return self._band_indexes.get(modality)

    def fingerprint(self) -> str:
        """Return a hash of the source files of all splits and modalities on disk.

        It covers names, sizes and parts of the content, and does not depend on the
        modalities that samples hold.
        """
        return self.store.fingerprint(self.images)

    def modified(self, modality: str) -> str:
        """Return when the files of a modality were modified, those of all splits.

        See :meth:`MultiModalDataset.modified`.

        Args:
            modality: One of *modalities*.
        """
        times = [p.stat().st_mtime_ns for p in self.images[modality].files()]
        return hashlib.sha256(str(times).encode()).hexdigest()[:16]

    def georeference(self, index: int) -> tuple[CRS, Affine] | None:
        """Return the coordinate reference system and transform of a tile.

        Args:
            index: Position in this split.

        Returns:
            Those of the first modality that has them; None if no modality does.
        """
        places = (self.locate(index, modality) for modality in self.rows)
        return next((place for place in places if place is not None), None)

    def locate(self, index: int, modality: str) -> tuple[CRS, Affine] | None:
        """Return the coordinate reference system and transform of one modality.

        Args:
            index: Position in this split.
            modality: One of *modalities*.

        Returns:
            None if its file has no georeference.
        """
        return self.images[modality].locate(int(self.rows[modality][index]))

    def from_pack(self, path: Path) -> Self:
        """Return this split with all bands, read from a pack of its images.

        Args:
            path: The pack.

        Raises:
            PackError: If it cannot be read.
        """
        packed = copy.copy(self)
        packed.store = open_store(path, self.store.layout)
        folders = {m: images.folder for m, images in self.images.items()}
        packed.images = packed.store.images(folders, self.bases)
        packed._band_indexes = {}
        packed.bands = {m: tuple(self.images[m].names or ()) for m in self.modalities}
        return packed

    def _open(
        self,
        layout: Layout,
        base: str,
        folders: Folders | None,
        modalities: Sequence[str] | None,
        *by_modality: Mapping[str, Any] | None,
        patterns: Mapping[str, re.Pattern[str]] | None = None,
    ) -> dict[str, str]:
        """Find the images, and choose the modalities that samples hold.

        Args:
            layout: Kind of store.
            base: Folder of the split, or empty.
            folders: Folder or prefix of each modality, if they are given.
            modalities: The modalities that samples hold; None for all.
            *by_modality: Arguments by modality, whose keys are checked.
            patterns: Pattern of the stems for each modality that has one.

        Returns:
            Folder or prefix of each modality that samples hold.
        """
        check_split_name(self.split, self._has_unlabelled)
        self.store = open_store(self.root, layout)
        found = self.store.find_folders(base, folders, modalities)
        self.modalities = check_modalities(
            list(found) if modalities is None else modalities, list(found)
        )
        if folders is not None or modalities is None:
            check_keys(folders or found, *by_modality, patterns)
        self.images = self.store.images(found, self.bases, patterns)
        return {m: found[m] for m in self.modalities}

    def _hold(
        self,
        rows: dict[str, NDArray[np.int64]],
        first: Mapping[str, int],
        band_names: Mapping[str, Sequence[str]] | None,
        bands: Mapping[str, Sequence[str]] | None,
        units: Mapping[str, str] | None,
        nodata: Mapping[str, float] | None,
    ) -> None:
        """Set rows, bands and units of the samples, and how all files are decoded.

        Args:
            rows: Row of every sample, for each modality in order.
            first: Row of the image whose header lists the bands.
            band_names: Names of the bands in the files.
            bands: Names of the bands to read; all bands of modalities not in it.
            units: Units that are given.
            nodata: Numbers that stand for missing pixels.
        """
        self.rows = rows
        for modality, images in self.images.items():
            unit = (units or {}).get(modality) or images.unit
            images.state(make_encoding(unit, (nodata or {}).get(modality)))
        self.bands, self.units, self._band_indexes = {}, {}, {}
        for modality in rows:
            images, row = self.images[modality], first[modality]
            header = images.header(row)
            images.names = check_band_names(
                modality,
                (band_names or {}).get(modality, header.descriptions),
                header.count,
                images.file(row),
            )
            indexes = band_positions(
                modality, (bands or {}).get(modality), images.names
            )
            if indexes != list(range(header.count)):
                self._band_indexes[modality] = indexes
            self.bands[modality] = tuple(images.names[i] for i in indexes)
            self._assume_unit(modality)
            self.units[modality] = images.encoding.sample_unit

    def _assume_unit(self, modality: str) -> None:
        """Find the unit of SAR images in files, if it is not known."""
        images = self.images[modality]
        known = images.encoding.unit != UNKNOWN or self.store.layout != 'folders'
        if known or not looks_like_sar(modality, self.bands[modality]):
            return
        # of all splits, so that they agree
        step = -(-len(images) // _LOOKED_AT)
        bands = self.band_indexes(modality)
        unit = assume_unit([images.read(i, bands) for i in range(0, len(images), step)])
        if unit != UNKNOWN:
            images.state(replace(images.encoding, unit=unit, assumed=True))


def check_keys(known: Iterable[str], *mappings: Mapping[str, Any] | None) -> None:
    """Check that arguments by modality name only modalities of the data.

    Args:
        known: Names of all modalities.
        *mappings: Arguments with modalities as keys.

    Raises:
        ModalityError: If a modality is unknown.
    """
    names = list(known)
    for mapping in mappings:
        if unknown := [name for name in mapping or () if name not in names]:
            raise ModalityError(f'Unknown modalities {unknown}: the data have {names}.')


def check_band_names(
    modality: str, names: Sequence[str] | None, count: int, path: str | Path
) -> tuple[str, ...]:
    """Check the names of all bands of a modality, or number them.

    Args:
        modality: The modality, for the message.
        names: One name for each band in the order of the file; bands without one, or
            all if None, are numbered.
        count: Number of bands in the file.
        path: The file, for the message.

    Returns:
        The names; 'B1', 'B2', ... if *names* is None.

    Raises:
        BandError: If their number is wrong, or a name is given twice.
    """
    if names is None:
        return tuple(f'B{i + 1}' for i in range(count))
    names = [name or f'B{i}' for i, name in enumerate(names, 1)]
    if len(names) != count or len(set(names)) != count:
        raise BandError(
            f"The {count} bands of '{modality}' in {path} are named {list(names)}: "
            'give each a unique name with band_names.'
        )
    return tuple(names)


def band_positions(
    modality: str, wanted: Sequence[str] | None, names: Sequence[str]
) -> list[int]:
    """Find bands by name.

    Args:
        modality: The modality, for the message.
        wanted: Names of the bands to read, in order; None for all.
        names: Names of all bands in the order of the file.

    Returns:
        Positions of the bands in the file, the first being 0.

    Raises:
        BandError: If a name is unknown or given twice, or the list is empty.
    """
    if wanted is None:
        return list(range(len(names)))
    unknown = [name for name in wanted if name not in names]
    if unknown or not wanted or len(set(wanted)) < len(wanted):
        raise BandError(
            f"bands of '{modality}' are {list(wanted)}: give each at most once, out of "
            f'{list(names)}.'
        )
    return [names.index(name) for name in wanted]

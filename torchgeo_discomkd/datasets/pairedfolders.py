# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Tiles of several modalities in folders."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from affine import Affine
from numpy.typing import NDArray
from rasterio import CRS
from torch import Tensor
from torchgeo.datasets.utils import Sample

from ..errors import LabelError, LayoutError, PairingError, SplitError
from .bands import band_positions, check_band_names, check_names
from .base import MultiModalDataset, check_modalities
from .groups import read_groups
from .imagesource import DataSource, ImageSource
from .listing import Key, complete_samples, describe_incomplete
from .packstore import PackStore, open_store
from .splits import SPLITS, check_split, group_split, stratified_split
from .stores import tile_path, tile_paths


class PairedFolders(MultiModalDataset):
    """Tiles in one folder for each modality, matched by class and stem.

    The layout is ``<root>/<folder>/<Class>/<stem>.<suffix>`` with GeoTIFF, PNG, JPEG or
    NPY files; with ``split_scheme='folder'`` it is
    ``<root>/<split>/<folder>/<Class>/<stem>.<suffix>``. Modalities may differ in file
    type, number of bands and tile size.

    The split is drawn over all samples that any modality on disk has, in the order of
    class and stem. Data sets of single modalities therefore agree about it.
    """

    def __init__(
        self,
        root: str = 'data',
        split: str = 'train',
        folders: Mapping[str, str] | None = None,
        modalities: Sequence[str] | None = None,
        bands: Mapping[str, Sequence[str]] | None = None,
        band_names: Mapping[str, Sequence[str]] | None = None,
        units: Mapping[str, str] | None = None,
        classes: Sequence[str] | None = None,
        split_scheme: Literal['stratified', 'groups', 'folder'] = 'stratified',
        run: int = 0,
        groups: str | None = None,
        group_column: str = 'group',
        val_groups: Sequence[str] | None = None,
        test_groups: Sequence[str] | None = None,
        missing: Literal['error', 'skip', 'keep'] = 'error',
        missing_values: Literal['mean', 'error'] = 'mean',
        transforms: Callable[[Sample], Sample] | None = None,
    ) -> None:
        """Initialize a new PairedFolders instance.

        Args:
            root: Folder of the data, or a pack of them.
            split: 'train', 'val' or 'test'.
            folders: Folder below *root* for each modality; by default every folder
                that holds class folders is a modality of its own name.
            modalities: Modalities that samples hold; all by default. The folders of
                others need not exist.
            bands: Names of the bands to read for each modality; all by default.
            band_names: Names of the bands in the order of the files for each
                modality. By default the descriptions in the first file if every band
                has one of its own, else 'B1', 'B2', ...
            units: Unit of the pixel values for each modality: 'dB', 'linear' or any
                text; 'unknown' by default.
            classes: Names of all classes in the order of the labels; sorted by
                default.
            split_scheme: 'stratified' (70/10/20 per class at random, see
                :func:`~.splits.stratified_split`), 'groups' (see
                :func:`~.splits.group_split`) or 'folder' (a folder for each split).
            run: Number of the repetition: another one gives another split.
            groups: CSV file, absolute or below *root*, that gives the group of every
                sample (see :func:`~.groups.read_groups`).
            group_column: Column of this file with the groups.
            val_groups: Groups for validation.
            test_groups: Groups for test; those named nowhere are for training.
            missing: Samples that some modalities on disk lack are an 'error', or are
                left out ('skip'), or stay in data sets whose own *modalities* have
                them ('keep').
            missing_values: 'mean' hands on missing pixels as NaN, which a classifier
                replaces by the band mean; 'error' refuses such a tile.
            transforms: Function from sample to sample.

        Raises:
            BandError: If a band is unknown or the first file has other bands.
            CorruptFileError: If the first file of a modality cannot be read.
            LabelError: If *classes* are not those on disk.
            LayoutError: If a folder or the table of groups is missing.
            ModalityError: If a modality is unknown.
            PairingError: If samples exist in some modalities only, or twice.
            SplitError: If the split is unknown, empty or lacks a class.
        """
        self.root = root
        self.split = split
        self.split_scheme = split_scheme
        self.run = run
        self.missing = missing
        self.missing_values = missing_values
        self.transforms = transforms
        self._groups = groups
        self._group_column = group_column
        self._named_groups = (val_groups, test_groups)

        if split not in SPLITS:
            raise SplitError(f"Unknown split '{split}': choose one of {list(SPLITS)}.")
        self._store = open_store(root)
        self.pack = self._store.pack if isinstance(self._store, PackStore) else None
        self._pack_rows: dict[str, Tensor] = {}
        self._folders = self._store.find_folders(self._base, folders, modalities)
        self.modalities = check_modalities(
            list(self._folders) if modalities is None else modalities,
            list(self._folders),
        )
        if folders is not None or modalities is None:
            check_names(folders or self._folders, bands, band_names, units)
        bases = SPLITS if split_scheme == 'folder' else ('',)
        self._tiles = {b: self._store.list_tiles(b, self._folders) for b in bases}
        self._store.check_folders(
            self._base,
            {m: self._folders[m] for m in self.modalities},
            self._tiles[self._base],
        )
        self.classes = self._order_classes(classes)
        self._keys = self._select()
        label_of = {name: label for label, name in enumerate(self.classes)}
        self.labels = torch.tensor([label_of[c] for c, _ in self._keys]).long()
        check_split(self.labels, self.classes, split)

        self.units = {
            m: (units or {}).get(m) or self._store.unit(m) or 'unknown'
            for m in self.modalities
        }
        self._band_names = {
            m: self._name_bands(m, (band_names or {}).get(m)) for m in self.modalities
        }
        self.bands = {}
        for m, names in self._band_names.items():
            indexes = band_positions(m, (bands or {}).get(m), names)
            self._choose_bands(m, indexes, len(names))
            self.bands[m] = tuple(names[i] for i in indexes)

    def load(self, index: int, modality: str) -> Tensor:
        """Read one image.

        Args:
            index: Position in this split.
            modality: One of :attr:`modalities`.

        Returns:
            Raw values, float32, shape (C, H, W), missing pixels NaN.

        Raises:
            BandError: If the file has other bands than the first one.
            CorruptFileError: If the file is truncated or not an image.
        """
        path = self._path(self._keys[index], modality)
        names = self._band_names[modality]
        return torch.from_numpy(
            self._store.read_image(path, self.band_indexes(modality), names)
        )

    def pack_rows(self, modality: str) -> Tensor:
        """Return where the images of this split are in the pack.

        Args:
            modality: One of :attr:`modalities`.

        Returns:
            int64 (N,).

        Raises:
            SettingError: If the data are not packed.
        """
        if self.pack is None:
            return super().pack_rows(modality)
        if modality not in self._pack_rows:
            paths = [self._path(key, modality) for key in self._keys]
            rows = [self.pack.positions[path][1] for path in paths]
            self._pack_rows[modality] = torch.tensor(rows)
        return self._pack_rows[modality]

    def identifier(self, index: int) -> str:
        """Return '<Class>/<stem>' of a sample.

        Args:
            index: Position in this split.
        """
        return '/'.join(self._keys[index])

    def fingerprint(self) -> str:
        """Return a hash of the files of all splits and of all modalities on disk.

        It covers names, sizes and the beginning of some files, and is the same for
        data sets that deliver some of the modalities only.
        """
        return self._store.fingerprint(list(tile_paths(self._tiles, self._folders)))

    def source(self) -> DataSource:
        """Return all images of all modalities on disk, whatever the split."""
        tables = {name: self._store.read_table(name) for name in self._table_names()}
        return DataSource(
            root=Path(self.root),
            layout='folders',
            bases=tuple(self._tiles),
            images={
                m: self._image_source(m)
                for m in self._folders
                if any(m in tiles for tiles in self._tiles.values())
            },
            tables={n: t for n, t in tables.items() if t is not None},
            fingerprint=self.fingerprint(),
        )

    def _table_names(self) -> list[str]:
        """Return the names of the text files that the split is read from."""
        return [] if self._groups is None else [self._groups]

    def _image_source(self, modality: str) -> ImageSource:
        tiles = {b: {modality: t.get(modality, {})} for b, t in self._tiles.items()}
        paths = sorted(tile_paths(tiles, self._folders))
        header = self._store.read_header(paths[0])
        # of one that samples do not hold, too, all files must have one order
        names = (
            self._band_names.get(modality) or header.descriptions or [''] * header.count
        )
        return ImageSource(
            folder=self._folders[modality],
            paths=paths,
            descriptions=header.descriptions,
            shape=(header.count, header.height, header.width),
            dtype=self._store.read_dtype(paths[0]),
            unit=self.units.get(modality),
            read=lambda row: self._store.read_image(paths[row], None, names),
            locate=lambda row: self._store.read_georeference(paths[row]),
        )

    def georeference(self, index: int) -> tuple[CRS, Affine] | None:
        """Return coordinate reference system and transform of a tile.

        Args:
            index: Position in this split.

        Returns:
            Those of the first modality that has them; None if none has.
        """
        for modality in self.modalities:
            path = self._path(self._keys[index], modality)
            if (found := self._store.read_georeference(path)) is not None:
                return found
        return None

    def _split_positions(
        self, keys: Sequence[Key], labels: Sequence[int]
    ) -> NDArray[np.int64]:
        """Return which of all samples (sorted by class and stem) are in this split."""
        match self.split_scheme:
            case 'stratified':
                return stratified_split(labels, self.run, self.split)
            case 'groups':
                if self._groups is None:
                    raise SplitError(
                        "split_scheme='groups' needs groups=, the CSV file that gives "
                        'the group of every sample.'
                    )
                table = self._store.read_table(self._groups)
                if table is None:
                    raise LayoutError(
                        f'There is no table of groups {self._groups} in {self.root}: '
                        f'write one with the columns file and {self._group_column}, or '
                        'correct its name.'
                    )
                groups = read_groups(table, self._groups, self._group_column, keys)
                return group_split(groups, self.run, self.split, *self._named_groups)
        return np.arange(len(keys))

    def _select(self) -> list[Key]:
        tiles = self._tiles[self._base]
        problem = describe_incomplete(tiles)
        if problem and self.missing == 'error':
            raise PairingError(
                f"{problem}. Complete the folders, or choose missing='skip' (leave them "
                "out) or missing='keep' (each modality keeps its own)."
            )
        wanted = (
            tiles if self.missing == 'skip' else {m: tiles[m] for m in self.modalities}
        )
        usable = complete_samples(wanted)
        if not usable:
            raise PairingError(f'{problem}. Files of a sample need the same stem.')
        rank = {name: label for label, name in enumerate(self.classes)}
        keys = sorted(set().union(*tiles.values()), key=lambda k: (rank[k[0]], k[1]))
        positions = self._split_positions(keys, [rank[name] for name, _ in keys])
        return [keys[i] for i in positions.tolist() if keys[i] in usable]

    @property
    def _base(self) -> str:
        return self.split if self.split_scheme == 'folder' else ''

    def _order_classes(self, classes: Sequence[str] | None) -> tuple[str, ...]:
        found = sorted(
            {
                name
                for tiles in self._tiles.values()
                for keys in tiles.values()
                for name, _ in keys
            }
        )
        if classes is None:
            return tuple(found)
        if unknown := [name for name in found if name not in classes]:
            raise LabelError(
                f'{self.root} holds the classes {unknown}, but classes= names only '
                f'{list(classes)}: add them or move their folders away.'
            )
        if len(set(classes)) < len(classes):
            raise LabelError(f'classes={list(classes)} names a class twice.')
        return tuple(classes)

    def _path(self, key: Key, modality: str) -> str:
        suffix = self._tiles[self._base][modality][key]
        return tile_path(self._base, self._folders[modality], key, suffix)

    def _name_bands(
        self, modality: str, given: Sequence[str] | None
    ) -> tuple[str, ...]:
        path = self._path(min(self._tiles[self._base][modality]), modality)
        header = self._store.read_header(path)
        names = header.descriptions if given is None else given
        return check_band_names(modality, names, header.count, path)

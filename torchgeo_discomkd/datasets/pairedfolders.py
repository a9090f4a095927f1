# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Tiles of several modalities in folders."""

import json
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchgeo.datasets.utils import Sample

from ..errors import LabelError, LayoutError, PairingError, SplitError
from ..rasters import FolderCounts
from .matching import complete_samples, describe_incomplete
from .naming import compile_patterns, name_tiles, nfc
from .pack.format import is_pack
from .proposal import propose_patterns
from .splits import (
    NO_LABEL,
    SPLITS,
    UNLABELLED,
    check_split,
    group_split,
    read_groups,
    stratified_split,
)
from .stored import StoredDataset
from .stores import Key
from .unlabelled import (
    Tiles,
    check_found,
    check_unlabelled_options,
    separate_unlabelled,
)


class PairedFolders(StoredDataset):
    """Tiles in one folder for each modality, matched by class and name.

    The layout is ``<root>/<folder>/<Class>/<stem>.<suffix>`` with GeoTIFF, PNG, JPEG or
    NPY files; with ``split_scheme='folder'`` it is
    ``<root>/<split>/<folder>/<Class>/<stem>.<suffix>``. Modalities may differ in file
    type, number of bands and tile size.

    Tiles may lie in subfolders of a class, which are part of the name of a sample only
    if its class has the stem in several of them. Names are compared in Unicode's
    composed form (NFC).

    The split is drawn over the samples of all modalities on disk, in the order of class
    and stem. Data sets of single modalities therefore share the same split.

    Samples without labels are the split 'unlabelled': those in a folder next to the
    class folders (*unlabelled*), or those of some groups (*unlabelled_groups*).

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from torchgeo_discomkd.datasets.simulation import simulate
        >>> with tempfile.TemporaryDirectory() as root:
        ...     simulate(Path(root), tiles_per_class=2, size=8)
        ...     folders = {'optical': 'EuroSAT_MS', 'sar': 'EuroSAT-SAR'}
        ...     train = PairedFolders(root, folders=folders, units={'sar': 'dB'})
        ...     sample = train[1]
        >>> sample['image_optical'].shape, sample['image_sar'].shape
        (torch.Size([13, 8, 8]), torch.Size([2, 8, 8]))
        >>> train.identifier(1), train.bands['sar']
        ('Forest/Forest_2', ('VV', 'VH'))
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
        nodata: Mapping[str, float] | None = None,
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
        stem_pattern: Mapping[str, str] | None = None,
        unlabelled: str | None = None,
        unlabelled_groups: Sequence[str] | None = None,
    ) -> None:
        """Initialize a new PairedFolders instance.

        Args:
            root: Folder of the data, or a pack.
            split: 'train', 'val' or 'test'; or 'unlabelled', if such a part is named.
            folders: Folder below *root* for each modality; by default every folder
                that holds class folders is a modality of the same name.
            modalities: Modalities that samples hold; all by default. The folders of
                others need not exist.
            bands: Names of the bands to read for each modality; all by default.
            band_names: Names of the bands in the order of the files for each
                modality. By default the descriptions in the first file; bands without
                one are numbered, 'B1', 'B2', ...
            units: Unit of the pixel values for each modality: 'dB', 'linear' or any
                text; or 'amplitude', 'db_x10' or 'db_x100', which are converted to dB.
                By default, the unit of SAR images is assumed from their values, that
                of others is 'unknown'.
            nodata: For a modality, the number that stands for missing pixels in its
                files, if they do not say so themselves.
            classes: Names of all classes in the order of the labels; sorted by
                default.
            split_scheme: 'stratified' (70/10/20 per class at random, see
                :func:`~.splits.stratified_split`), 'groups' (see
                :func:`~.splits.group_split`) or 'folder' (a folder for each split).
            run: Number of the repetition: each gives a different split.
            groups: CSV file, absolute or below *root*, with the group of every sample
                (see :func:`~.splits.read_groups`).
            group_column: Column of this file with the groups.
            val_groups: Groups for validation.
            test_groups: Groups for test; all groups not named are for training.
            missing: What to do with samples that some modalities on disk lack: 'error'
                refuses them, 'skip' drops them, and 'keep' keeps them in data sets
                whose own *modalities* all have them.
            missing_values: 'mean' passes missing pixels on as NaN, which a classifier
                replaces by the band mean; 'error' refuses such a tile.
            transforms: A function that takes a sample and returns a transformed one.
            stem_pattern: For a modality, a regular expression that must match the whole
                stem of a file; others are left. The name of the sample is its groups,
                joined by '_', or the whole stem if it has none. For example,
                ``{'S1': '(.+)_s1_(.+)', 'S2': '(.+)_s2_(.+)'}``.
            unlabelled: Folder inside that of every modality (of the training split,
                with ``split_scheme='folder'``) whose tiles, directly in it, have no
                label: it is no class. Tiles are matched by name like all others.
            unlabelled_groups: Groups, with ``split_scheme='groups'``, that are in no
                other split and whose labels are not used.

        Raises:
            BandError: If a band is unknown or the first file has different bands.
            CorruptFileError: If the first file of a modality cannot be read.
            LabelError: If *classes* lacks a class on disk, or names one twice.
            LayoutError: If a folder or the table of groups is missing, no file matches
                *stem_pattern*, or tiles without labels lie in subfolders.
            ModalityError: If a modality is unknown.
            PairingError: If samples exist in some modalities only, or twice.
            SettingError: If *stem_pattern* is not a regular expression, or the options
                of samples without labels contradict others.
            SplitError: If the split is unknown or empty, or the one for training lacks
                a class.

        Warns:
            UserWarning: If the validation or test split lacks a class.
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
        self._named_groups = (val_groups, test_groups, unlabelled_groups)
        self._patterns = compile_patterns(stem_pattern)
        self._may_propose = stem_pattern is None
        check_unlabelled_options(unlabelled, unlabelled_groups, split_scheme, classes)
        self._has_unlabelled = unlabelled is not None or bool(unlabelled_groups)

        self.bases = SPLITS if split_scheme == 'folder' else ('',)
        needed = self._open(
            *(
                'folders',
                self._base,
                folders,
                modalities,
                bands,
                band_names,
                units,
                nodata,
            ),
            patterns=self._patterns,
        )
        all_tiles = {
            base: name_tiles(self.images, base, self._patterns) for base in self.bases
        }
        pool = self._take_unlabelled(all_tiles, unlabelled)
        for modality, folder in needed.items():
            if modality not in all_tiles[self._base]:
                raise self.store.absence(self._base, modality, folder)
        first = self._choose(all_tiles, pool, classes)
        held = pool if pool and split == UNLABELLED else all_tiles[self._base]
        rows = {m: np.array([held[m][k] for k in self._keys]) for m in self.modalities}
        self._hold(rows, first, band_names, bands, units, nodata)
        self.counts = [self._count(m, all_tiles.values()) for m in self.modalities]

    def _choose(
        self, all_tiles: Mapping[str, Tiles], pool: Tiles, classes: Sequence[str] | None
    ) -> dict[str, int]:
        """Choose the samples of the split; return the first tile of each modality."""
        tiles = all_tiles[self._base]
        found = {c for held in all_tiles.values() for t in held.values() for c, _ in t}
        self.classes = self._order_classes(sorted(found), classes)
        self._keys = self._select(tiles, pool, self.split)
        self.labels = self._labels_of(self._keys)
        if self.split == 'train' and self._has_unlabelled:
            # with missing='keep' there may be none of all modalities, but of each
            self.unlabelled_samples = len(self._select(tiles, pool, UNLABELLED))
        # the first labelled tile has the bands that all must have
        return {m: tiles[m][min(tiles[m])] for m in self.modalities}

    def identifier(self, index: int) -> str:
        """Return '<Class>/<stem>' of a sample, or '<Class>/<subfolders>/<stem>'.

        Args:
            index: Position in this split.
        """
        return '/'.join(self._keys[index])

    def table_names(self) -> list[str]:
        """Return the names of the text files that the split is read from."""
        return [] if self._groups is None else [self._groups]

    def _take_unlabelled(self, tiles: Mapping[str, Tiles], name: str | None) -> Tiles:
        """Remove the tiles of a folder without labels from *tiles*, and return them."""
        if name is None:
            return {}
        base = 'train' if self.split_scheme == 'folder' else ''
        pool = separate_unlabelled(self.images, tiles, nfc(name), base)
        # scoring does not need them
        if self.split in ('train', UNLABELLED):
            check_found(pool, self.images, self.modalities, name)
        return pool

    def _labels_of(self, keys: Sequence[Key]) -> Tensor:
        if self.split == UNLABELLED:
            if not keys:
                raise SplitError(
                    f"Split '{UNLABELLED}' is empty: no sample without a label has all "
                    f'of {list(self.modalities)}. Complete it, or name another folder '
                    'or other groups.'
                )
            return torch.full((len(keys),), NO_LABEL)
        label_of = {name: label for label, name in enumerate(self.classes)}
        labels = torch.tensor([label_of[c] for c, _ in keys]).long()
        kept = self._shown if self.missing == 'keep' else ()
        check_split(labels, self.classes, self.split, self.modalities, kept)
        return labels

    def _split_positions(
        self, keys: Sequence[Key], labels: Sequence[int], split: str
    ) -> NDArray[np.int64]:
        """Return the positions of a split in all samples (by class and stem)."""
        match self.split_scheme:
            case 'stratified':
                return stratified_split(labels, self.run, split)
            case 'groups':
                if self._groups is None:
                    raise SplitError(
                        "split_scheme='groups' needs groups=, the CSV file with the "
                        'group of every sample.'
                    )
                table = self.store.read_table(self._groups)
                if table is None:
                    raise LayoutError(
                        f'There is no table of groups {self._groups} in {self.root}: '
                        f'write one with the columns file and {self._group_column}, or '
                        'correct its name.'
                    )
                groups = read_groups(table, self._groups, self._group_column, keys)
                return group_split(groups, self.run, split, *self._named_groups)
        return np.arange(len(keys))

    def _select(self, tiles: Tiles, pool: Tiles, split: str) -> list[Key]:
        """Return the samples of a split, in order."""
        if pool and split == UNLABELLED:
            return sorted(self._usable(pool, optional=self.split != UNLABELLED))
        usable = self._usable(tiles)
        rank = {name: label for label, name in enumerate(self.classes)}
        keys = sorted(set().union(*tiles.values()), key=lambda k: (rank[k[0]], k[1]))
        positions = self._split_positions(keys, [rank[name] for name, _ in keys], split)
        chosen = [keys[i] for i in positions.tolist()]
        self._shown = {name for name, _ in chosen}
        return [key for key in chosen if key in usable]

    def _usable(self, tiles: Tiles, optional: bool = False) -> set[Key]:
        """Return the samples that have all modalities that they need."""
        problem = describe_incomplete(tiles)
        if problem and self.missing == 'error':
            advice = self._propose_pattern(tiles) or (
                "Complete the folders, or choose missing='skip' (drop these samples) "
                "or missing='keep' (each modality keeps its own)."
            )
            raise PairingError(f'{problem}. {advice}')
        wanted = (
            tiles if self.missing == 'skip' else {m: tiles[m] for m in self.modalities}
        )
        usable = complete_samples(wanted)
        if not usable and not (optional and self.missing == 'keep'):
            advice = self._propose_pattern(tiles) or (
                'The files of a sample need the same stem.'
            )
            raise PairingError(f'{problem}. {advice}')
        return usable

    def _propose_pattern(self, tiles: Mapping[str, Mapping[Key, int]]) -> str | None:
        found = propose_patterns(tiles) if self._may_propose else None
        if found is None:
            return None
        # valid Python, and valid YAML on the command line
        text = json.dumps(found, ensure_ascii=False)
        return (
            f'Their stems differ in one part: leave it out with stem_pattern={text} '
            f'(on the command line, --data.stem_pattern {shlex.quote(text)}).'
        )

    def _count(
        self, modality: str, splits: Iterable[Mapping[str, Mapping[Key, int]]]
    ) -> FolderCounts:
        """Return the numbers of files of a modality, of all splits on disk."""
        images = self.images[modality]
        counts = images.counts or FolderCounts(modality)
        classes: set[str] = set()
        for tiles in splits:
            own = tiles.get(modality, {}).keys()
            kept = complete_samples(tiles) if self.missing == 'skip' and own else own
            lost = len(own) - len(kept)
            counts.leave("not in every modality (missing='skip')", lost)
            counts.images += len(kept)
            classes |= {name for name, _ in kept}
        counts.classes = len(classes)
        bases = self.bases[0] if len(self.bases) == 1 else f'{{{",".join(self.bases)}}}'
        path = Path(self.root)
        counts.place = str(path if is_pack(path) else path / bases / images.folder)
        return counts

    @property
    def _base(self) -> str:
        if self.split_scheme != 'folder':
            return ''
        return 'train' if self.split == UNLABELLED else self.split

    def _order_classes(
        self, found: Sequence[str], classes: Sequence[str] | None
    ) -> tuple[str, ...]:
        if classes is None:
            return tuple(found)
        classes = [nfc(name) for name in classes]
        if unknown := [name for name in found if name not in classes]:
            raise LabelError(
                f'{self.root} holds the classes {unknown}, but classes= names only '
                f'{list(classes)}: add the others, or move their folders away.'
            )
        if len(set(classes)) < len(classes):
            raise LabelError(f'classes={list(classes)} names a class twice.')
        return tuple(classes)

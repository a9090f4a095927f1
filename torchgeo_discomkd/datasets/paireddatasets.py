# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Data sets of TorchGeo, one for each sensor, joined by the names of their samples."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torchgeo.datasets.utils import Sample

from ..errors import PackError, PairingError, SplitError
from ..metadata import LabelTask
from ..rasters import FolderCounts
from ..rasters.plausibility import Options
from .base import check_modalities
from .classes import check_two
from .matching import complete_samples, describe_incomplete, sample_text
from .multilabel import check_label_split
from .opened import OpenedSource, open_source
from .pack.format import is_pack
from .pack.reader import open_store
from .samples import TABLE, Samples, join_samples
from .sources import DatasetSource, check_groups
from .sourcestore import SourceStore
from .splits import check_split, check_split_name, stratified_split
from .stored import StoredDataset, check_keys
from .stores import Key


class PairedDatasets(StoredDataset):
    """Data sets of labelled samples, one for each sensor, joined into pairs.

    Samples are joined by key and classes by name, whatever their numbers: TorchGeo's
    EuroSAT and its counterpart of Sentinel-1 number them differently. No image is read
    to do so, but one of each source to find its bands.

    The first source that has splits decides the split of its samples, so that EuroSAT
    can be split by longitude although its counterpart is not; samples that no source
    gives a split are for training. If none has splits, each class is split 70/10/20 at
    random. Likewise the first source that has labels names the classes, in its order.

    Example:
        >>> import torch
        >>> from torch.utils.data import Dataset
        >>> class Tiles(Dataset):
        ...     '''Stands for a data set of TorchGeo.'''
        ...
        ...     def __init__(self, channels, classes, split):
        ...         self.channels, self.classes = channels, classes
        ...         self.files = [f'{split}_{name}.tif' for name in sorted(classes)]
        ...
        ...     def __len__(self):
        ...         return len(self.files)
        ...
        ...     def __getitem__(self, index):
        ...         return {'image': torch.zeros(self.channels, 8, 8)}
        >>> def labels(tiles):
        ...     return [name.split('_')[1].removesuffix('.tif') for name in tiles.files]
        >>> classes = {'ms': ('Forest', 'Water'), 'sar': ('Water', 'Forest')}
        >>> joined = PairedDatasets(
        ...     {
        ...         'ms': DatasetSource(
        ...             Tiles, {'channels': 13, 'classes': classes['ms']}, labels=labels
        ...         ),
        ...         'sar': DatasetSource(
        ...             Tiles, {'channels': 2, 'classes': classes['sar']}, labels=labels
        ...         ),
        ...     }
        ... )
        >>> joined.classes, joined.labels, joined.identifier(1)
        (('Forest', 'Water'), tensor([0, 1]), 'Water/train_Water')
        >>> joined[1]['image_sar'].shape
        torch.Size([2, 8, 8])
    """

    def __init__(
        self,
        sources: Mapping[str, DatasetSource | OpenedSource],
        split: str = 'train',
        modalities: Sequence[str] | None = None,
        root: str = 'data',
        missing: Literal['error', 'skip', 'keep'] = 'error',
        run: int = 0,
        missing_values: Literal['mean', 'error'] = 'mean',
        transforms: Callable[[Sample], Sample] | None = None,
        task: LabelTask = 'multiclass',
        bands: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Initialize a new PairedDatasets instance.

        Args:
            sources: The data set of each modality. One may be opened for several data
                sets, as data modules do.
            split: 'train', 'val' or 'test'.
            modalities: Modalities that samples hold; all by default. The others are
                opened, too, so that splits and pairs stay the same.
            root: Folder for statistics, which must not be a folder of images; or a pack
                of the same data sets, which are then not opened.
            missing: What to do with samples that some sources lack: 'error' refuses
                them, 'skip' drops them, and 'keep' keeps them in data sets whose own
                *modalities* all have them, unless their groups are in two splits.
            run: Number of the repetition, if no source has splits.
            missing_values: 'mean' passes missing pixels on as NaN, which a classifier
                replaces by the band mean; 'error' refuses such a tile.
            transforms: A function that takes a sample and returns a transformed one.
            task: Kind of labels: 'multiclass'; 'multilabel', any number of labels in a
                sample, on which all sources must agree; or 'binary', of two classes.
            bands: Names of the bands to read for each modality, instead of those that
                its source names.

        Raises:
            BandError: If a band is unknown, or the number of names is wrong.
            CorruptFileError: If a data set cannot read its own files.
            LabelError: If a class has no name or is unknown to the first source, or
                sources give the same sample different ones; or it has several, or
                one, although *task* says otherwise.
            LayoutError: If a data set is not on disk.
            ModalityError: If a modality is unknown.
            PackError: If *root* is a pack that cannot be read.
            PairingError: If samples exist in some sources only, or keys twice.
            SettingError: If no source has labels, a data set refuses its arguments, or
                groups of a source would have no effect.
            SplitError: If the split is unknown or empty, or the one for training lacks
                a class.

        Warns:
            UserWarning: If the validation or test split lacks a class, or any split a
                label of several.
        """
        check_split_name(split)
        self.modalities = check_modalities(
            list(sources) if modalities is None else modalities, list(sources)
        )
        self.root = root
        self.split = split
        self._places: dict[str, str] = {}
        self.task = task
        self.missing = missing
        self.missing_values = missing_values
        self.transforms = transforms
        samples = self._open_sources(sources)
        self.classes = samples.classes
        self._keys = self._select(samples, split, run)
        self._check_filled(sources)
        self._set_labels(samples)
        check_keys(sources, bands)
        self._hold_sources(sources, bands or {})

    def identifier(self, index: int) -> str:
        """Return '<Class>/<key>' of a sample; its key if it may have several classes.

        Args:
            index: Position in this split.
        """
        return sample_text(self._keys[index])

    def table_names(self) -> list[str]:
        """Return the name of the table of classes and splits that a pack keeps."""
        return [TABLE]

    def options(self, modality: str) -> Options:
        """Return how a user states unit and missing pixels of a modality.

        Args:
            modality: One of *modalities*.
        """
        return Options(
            lambda value: f"nodata={value} of the source of '{modality}'",
            lambda unit: f"unit='{unit}' of the source of '{modality}'",
        )

    def _open_sources(
        self, sources: Mapping[str, DatasetSource | OpenedSource]
    ) -> Samples:
        """Open the data sets, or a pack of them, and return what they say."""
        check_groups({m: _source(s) for m, s in sources.items()})
        if is_pack(self.root):
            self.store = open_store(self.root, 'datasets')
            samples = Samples.from_json(self.store.read_table(TABLE), self.root)
            self._check_pack(samples, {m: _source(s) for m, s in sources.items()})
        else:
            opened = {
                m: s if isinstance(s, OpenedSource) else open_source(m, s, self.task)
                for m, s in sources.items()
            }
            self._places = {m: o.place for m, o in opened.items()}
            samples = join_samples(opened, self.task)
            self.store = SourceStore(Path(self.root), opened, samples)
        found = self.store.find_folders('', None, list(sources))
        self.images = self.store.images({m: found[m] for m in sources}, self.bases)
        return samples

    def _check_pack(
        self, samples: Samples, sources: Mapping[str, DatasetSource]
    ) -> None:
        """Refuse a pack of other data sets, or with other arguments."""
        asked: dict[str, object] = {m: s.described() for m, s in sources.items()}
        packed: dict[str, object] = {m: samples.sources.get(m) for m in asked}
        asked['task'], packed['task'] = self.task, samples.task
        if not samples.settings:
            # written by an earlier version
            classes = next((s.classes for s in sources.values() if s.classes), None)
            asked['classes'] = tuple(classes or samples.classes)
            packed['classes'] = samples.classes
        else:
            # the first ones decide
            asked['sources'] = list(sources)
            packed['sources'] = [m for m in samples.sources if m in sources]
        for modality, source in sources.items():
            now = source.settings()
            for name, value in samples.settings.get(modality, {}).items():
                asked[f'{modality}.{name}'] = now.get(name)
                packed[f'{modality}.{name}'] = value
        if differ := [name for name in asked if asked[name] != packed[name]]:
            was, now = ({n: d[n] for n in differ} for d in (packed, asked))
            raise PackError(
                f'{self.root} was packed with {was}, not {now}: use those settings, or '
                'pack the data again.'
            )

    def _set_labels(self, samples: Samples) -> None:
        found = [samples.labels[key] for _, key in self._keys]
        if self.task == 'multilabel':
            self.labels = torch.zeros(len(found), len(self.classes), dtype=torch.int64)
            for row, own in zip(self.labels, found, strict=True):
                row[list(own)] = 1
            check_label_split(self.labels, self.classes, self.split)
        else:
            self.labels = torch.tensor([label for (label,) in found]).long()
            kept = self._shown if self.missing == 'keep' else ()
            check_split(self.labels, self.classes, self.split, self.modalities, kept)
        if self.task == 'binary':
            check_two(self.classes)

    def _select(self, samples: Samples, split: str, run: int) -> list[Key]:
        """Return class and key of the samples of a split, and set their rows."""
        names = {key: self._class_of(samples, key) for key in samples.labels}
        tiles = {
            m: {
                (names.get(key, 'no class'), key): row
                for row, key in enumerate(images.paths)
            }
            for m, images in self.images.items()
        }
        problem = describe_incomplete(tiles)
        if problem and self.missing == 'error':
            raise PairingError(
                f'{problem}. Correct keys= of the sources, or choose '
                "missing='skip' (drop these samples) or missing='keep' (each modality "
                'keeps its own).'
            )
        wanted = tiles
        if self.missing != 'skip':
            wanted = {m: tiles[m] for m in self.modalities}
        usable = {key for key in complete_samples(wanted) if key[1] in names}
        if not usable:
            raise PairingError(
                f'{problem or "no sample has a class"}. The same sample needs the same '
                'key in all sources: give them keys=.'
            )
        known = {key for held in tiles.values() for key in held if key[1] in names}
        self._count(tiles, known if self.missing == 'keep' else usable, samples.splits)
        rank = {name: label for label, name in enumerate(self.classes)}
        keys = sorted(known, key=lambda k: (rank.get(k[0], 0), k[1]))
        if samples.splits:
            chosen = [k for k in keys if samples.splits.get(k[1]) == split]
        else:
            ranks = [rank.get(name, 0) for name, _ in keys]
            chosen = [keys[i] for i in stratified_split(ranks, run, split).tolist()]
        self._shown = {name for name, _ in chosen}
        chosen = [key for key in chosen if key in usable]
        self.rows = {
            m: np.array([tiles[m][key] for key in chosen], np.int64)
            for m in self.modalities
        }
        return chosen

    def _class_of(self, samples: Samples, key: str) -> str:
        """Return the class of a sample, or nothing if it may have several."""
        several = self.task == 'multilabel'
        return '' if several else samples.classes[samples.labels[key][0]]

    def _count(
        self,
        tiles: Mapping[str, Mapping[Key, int]],
        kept: set[Key],
        splits: Mapping[str, str],
    ) -> None:
        """Count the images of each modality, those of all splits."""
        lacking = '' if self.missing == 'keep' else 'not in every modality, or '
        counts = []
        for modality in self.modalities:
            own = tiles[modality].keys() & kept
            chosen = {key for key in own if not splits or key[1] in splits}
            line = FolderCounts(modality, len(chosen))
            line.classes = len({name for name, _ in chosen} - {''}) or None
            line.place = self._places.get(modality, self.root)
            line.leave(f'{lacking}of no class', len(tiles[modality]) - len(own))
            unused = len(own) - len(chosen)
            line.leave('in no split, or of a group in val or test', unused)
            counts.append(line)
        self.counts = counts

    def _check_filled(
        self, sources: Mapping[str, DatasetSource | OpenedSource]
    ) -> None:
        """Refuse an empty split if a source decides what is in it."""
        described = {m: _source(s) for m, s in sources.items()}
        first = next((m for m, s in described.items() if s.splits), None)
        if self._keys or first is None:
            return
        splits, advice = described[first].splits, 'correct keys= or groups='
        if self.split not in splits:
            advice = f"name '{self.split}' in them"
            if self.split == 'val':
                advice += ', give it groups= to hold some out'
        raise SplitError(
            f"Split '{self.split}' is empty: no sample with {list(self.modalities)} is "
            f"in it. '{first}' decides, as the first source with splits, which are "
            f'{dict(splits)}: {advice}, or put a source first that has such samples.'
        )

    def _hold_sources(
        self,
        sources: Mapping[str, DatasetSource | OpenedSource],
        bands: Mapping[str, Sequence[str]],
    ) -> None:
        """Set bands and units of the samples."""
        described = {m: _source(s) for m, s in sources.items()}
        self._hold(
            self.rows,
            {m: int(rows[0]) for m, rows in self.rows.items()},
            {m: s.band_names for m, s in described.items() if s.band_names},
            {m: s.bands for m, s in described.items() if s.bands is not None}
            | dict(bands),
            {m: s.unit for m, s in described.items()},
            {m: s.nodata for m, s in described.items() if s.nodata is not None},
        )


def _source(source: DatasetSource | OpenedSource) -> DatasetSource:
    return source.source if isinstance(source, OpenedSource) else source

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Data sets of TorchGeo, one for each sensor, joined by the names of their samples."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor
from torchgeo.datasets.utils import Sample

from ..errors import BandError, LabelError, PairingError, SettingError
from ..rasters import FolderCounts
from ..rasters.decoding import missing_to_nan
from ..rasters.plausibility import Options
from .base import MultiModalDataset, check_modalities
from .encoding import Encoding, make_encoding
from .matching import complete_samples, describe_incomplete
from .opened import OpenedSource, open_source
from .sources import DatasetSource, image_bands
from .splits import check_split, check_split_name, stratified_split
from .stored import band_positions, check_band_names
from .stores import Key, first_few


class PairedDatasets(MultiModalDataset):
    """Data sets with one label per sample, one for each sensor, joined into pairs.

    Samples are joined by key and classes by name, whatever their numbers: TorchGeo's
    EuroSAT and its counterpart of Sentinel-1 number them differently. No image is read
    to do so, but one of each source to find its bands.

    The first source that has splits decides the split of its samples, so that EuroSAT
    can be split by longitude although its counterpart is not. If none has splits, each
    class is split 70/10/20 at random. Likewise the first source that has labels names
    the classes, in its order.

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
    ) -> None:
        """Initialize a new PairedDatasets instance.

        Args:
            sources: The data set of each modality. One may be opened for several data
                sets, as data modules do.
            split: 'train', 'val' or 'test'.
            modalities: Modalities that samples hold; all by default. The others are
                opened, too, so that splits and pairs stay the same.
            root: Folder for statistics. It must not be a folder of images.
            missing: What to do with samples that some sources lack: 'error' refuses
                them, 'skip' drops them, and 'keep' keeps them in data sets whose own
                *modalities* all have them.
            run: Number of the repetition, if no source has splits.
            missing_values: 'mean' passes missing pixels on as NaN, which a classifier
                replaces by the band mean; 'error' refuses such a tile.
            transforms: A function that takes a sample and returns a transformed one.

        Raises:
            BandError: If a band is unknown, or the number of names is wrong.
            LabelError: If a class has no name or is unknown to the first source, or
                sources give the same sample different ones.
            ModalityError: If a modality is unknown.
            PairingError: If samples exist in some sources only, or keys twice.
            SettingError: If no source has labels, or a data set refuses its arguments.
            SplitError: If the split is unknown or empty, or the one for training lacks
                a class.

        Warns:
            UserWarning: If the validation or test split lacks a class.
        """
        check_split_name(split)
        self.modalities = check_modalities(
            list(sources) if modalities is None else modalities, list(sources)
        )
        self.root = root
        self.missing = missing
        self.missing_values = missing_values
        self.transforms = transforms
        self._opened = {
            m: source if isinstance(source, OpenedSource) else open_source(m, source)
            for m, source in sources.items()
        }
        self.classes = _class_list(self._opened)
        names = _join_labels(self._opened, self.classes)
        self._keys = self._select(names, split, run)
        rank = {name: label for label, name in enumerate(self.classes)}
        self.labels = torch.tensor([rank[name] for name, _ in self._keys]).long()
        kept = self._shown if missing == 'keep' else ()
        check_split(self.labels, self.classes, split, self.modalities, kept)
        self._set_bands()

    def load(self, index: int, modality: str) -> Tensor:
        """Read one image.

        Args:
            index: Position in this split.
            modality: One of *modalities*.

        Returns:
            Raw values, float32, shape (C, H, W), missing pixels NaN.

        Raises:
            BandError: If the image has another number of bands than the first one.
            CorruptFileError: If it cannot be read, or is not one image.
        """
        image = self._opened[modality].image(self._keys[index][1])
        if len(image) != self._counts[modality]:
            raise BandError(
                f'{self.identifier(index)} ({modality}) has {len(image)} bands, but '
                f'{self.identifier(0)} has {self._counts[modality]}: remove it, or '
                'write it again.'
            )
        if (positions := self.band_indexes(modality)) is not None:
            image = image[positions]
        encoding = self._encodings[modality]
        values = missing_to_nan(image.numpy(), encoding.nodata)
        return torch.from_numpy(encoding.decode(values))

    def identifier(self, index: int) -> str:
        """Return '<Class>/<key>' of a sample.

        Args:
            index: Position in this split.
        """
        return '/'.join(self._keys[index])

    def fingerprint(self) -> str:
        """Return a hash of the samples of all sources and splits.

        It covers keys, classes, sizes of files as far as they are listed, and the
        content of a few images.
        """
        digest = hashlib.sha256()
        for modality, opened in self._opened.items():
            digest.update(f'{modality}\t{opened.fingerprint}\n'.encode())
        return digest.hexdigest()[:16]

    def encoding(self, modality: str) -> str:
        """Return what is known about the numbers of a modality.

        See :meth:`MultiModalDataset.encoding`.

        Args:
            modality: One of *modalities*.
        """
        return str(self._encodings[modality])

    def number_in_file(self, modality: str, band: int, value: float) -> float:
        """Return the number that stands for a value in the data set.

        See :meth:`MultiModalDataset.number_in_file`.

        Args:
            modality: One of *modalities*.
            band: Position of the band in samples.
            value: Value in samples.
        """
        return self._encodings[modality].encode(value)

    def options(self, modality: str) -> Options:
        """Return how a user states unit and missing pixels of a modality.

        Args:
            modality: One of *modalities*.
        """
        return Options(
            lambda value: f"nodata={value} of the source of '{modality}'",
            lambda unit: f"unit='{unit}' of the source of '{modality}'",
        )

    def band_indexes(self, modality: str) -> list[int] | None:
        """Return the positions of the bands that samples hold; None for all.

        Args:
            modality: One of *modalities*.
        """
        return self._band_indexes.get(modality)

    def _select(self, names: Mapping[str, str], split: str, run: int) -> list[Key]:
        """Return class and key of the samples of a split."""
        tiles = {
            m: {
                (names.get(key, 'no class'), key): row for row, key in enumerate(o.rows)
            }
            for m, o in self._opened.items()
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
                f'{problem}. The same sample needs the same key in all sources: give '
                'them keys=.'
            )
        self._count(tiles, usable)
        rank = {name: label for label, name in enumerate(self.classes)}
        known = {key for held in tiles.values() for key in held if key[1] in names}
        keys = sorted(known, key=lambda k: (rank[k[0]], k[1]))
        splits = _join_first([o.splits for o in self._opened.values()])
        if splits:
            chosen = [key for key in keys if splits.get(key[1]) == split]
        else:
            labels = [rank[name] for name, _ in keys]
            chosen = [keys[i] for i in stratified_split(labels, run, split).tolist()]
        self._shown = {name for name, _ in chosen}
        return [key for key in chosen if key in usable]

    def _count(self, tiles: Mapping[str, Mapping[Key, int]], usable: set[Key]) -> None:
        counts = []
        for modality in self.modalities:
            own = tiles[modality].keys()
            line = FolderCounts(modality, len(own & usable))
            line.classes = len({name for name, _ in own & usable})
            line.place = self._opened[modality].place
            line.leave('not in every modality, or of no class', len(own - usable))
            counts.append(line)
        self.counts = counts

    def _set_bands(self) -> None:
        self.bands, self.units = {}, {}
        self._counts: dict[str, int] = {}
        self._encodings: dict[str, Encoding] = {}
        self._band_indexes: dict[str, list[int]] = {}
        for modality in self.modalities:
            opened, key = self._opened[modality], self._keys[0][1]
            source, count = opened.source, len(opened.image(key))
            given = source.band_names or image_bands(opened.datasets[0])
            names = check_band_names(modality, given, count, key)
            positions = band_positions(modality, source.bands, names)
            if positions != list(range(count)):
                self._band_indexes[modality] = positions
            self.bands[modality] = tuple(names[i] for i in positions)
            self._counts[modality] = count
            self._encodings[modality] = make_encoding(source.unit, source.nodata)
            self.units[modality] = self._encodings[modality].sample_unit


def _join_first(parts: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return what the first part says that knows a key."""
    return {key: value for part in reversed(parts) for key, value in part.items()}


def _class_list(opened: Mapping[str, OpenedSource]) -> tuple[str, ...]:
    for source in opened.values():
        if source.classes is not None:
            return source.classes
    names = ', '.join(o.source.dataset.__name__ for o in opened.values())
    raise SettingError(
        f'{names} list no labels: give a source labels=, a function that takes the '
        'data set and returns a class for each sample (sample_labels reads them with '
        'the images, which takes as long as reading all of them).'
    )


def _join_labels(
    opened: Mapping[str, OpenedSource], classes: Sequence[str]
) -> dict[str, str]:
    """Return the class of every sample, on which all sources must agree."""
    names: dict[str, str] = {}
    for modality, source in opened.items():
        labels = source.labels or {}
        if unknown := sorted(set(labels.values()) - set(classes)):
            raise LabelError(
                f"'{modality}' has samples of {unknown}, but the classes are "
                f'{list(classes)}: rename them with classes= of its source.'
            )
        differ = [k for k, name in labels.items() if names.get(k, name) != name]
        if differ:
            examples = (f'{k}: {names[k]}, not {labels[k]}' for k in differ)
            raise LabelError(
                f"{len(differ)} samples have another class in '{modality}' than in "
                f'the sources before it ({first_few(examples)}): correct keys=, '
                'labels= or classes= of its source.'
            )
        names |= labels
    return names

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Base class of all data sets with several modalities."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from affine import Affine
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rasterio import CRS
from torch import Tensor
from torch.utils.data import default_collate
from torchgeo.datasets import NonGeoDataset
from torchgeo.datasets.utils import Sample

from ..errors import MissingValueError, ModalityError, TileSizeError
from ..metadata import LabelTask
from ..rasters import FolderCounts
from ..rasters.plausibility import Options, options_of
from .classes import labels_by_name, same_classes
from .multilabel import labels_in_columns
from .plotting import plot_sample
from .splits import NO_LABEL


class MultiModalDataset(NonGeoDataset, ABC):
    """Tiles of the same places seen by several sensors, with one label or several.

    A sample is the flat dictionary ``{'image_<modality>': float32 (C, H, W), ...,
    'label': int64 (), 'index': int64 ()}`` for every modality in
    *modalities*; with several labels in a sample the label is int64 (C,), one 0 or 1
    for each. Pixels hold raw physical values; missing pixels (nodata, NaN,
    infinite) are NaN, which a classifier's normalisation replaces by the band mean.

    Subclasses set these attributes before the first sample is read.

    Attributes:
        root: Folder of the data, as given by the user.
        classes: Class names; a label is a position in this tuple.
        task: Kind of labels: one class for each sample ('multiclass', and 'binary' for
            one of two) or, with 'multilabel', any number of them.
        modalities: Modalities that samples hold, in this order.
        bands: Names of the bands that samples hold, in order, for each modality.
        units: Unit of the pixel values for each modality: 'dB', 'linear' or any text.
        labels: int64 labels of this split, shape (N,); -1 for samples without a label,
            which only the split 'unlabelled' of some data sets has. With several labels
            in a sample, shape (N, C): 1 for each that it has, else 0, or -1 everywhere.
        unlabelled_samples: Number of samples of that split that have all *modalities*,
            known to the split for training; None without such a split.
        missing_values: What to do with missing pixels: 'mean' passes them on as NaN,
            'error' refuses the tile.
        transforms: A function that takes a sample and returns a transformed one.
        counts: Numbers of the files of all splits that are read and left, for each
            folder.

    Example:
        >>> import torch
        >>> class Constant(MultiModalDataset):
        ...     classes, modalities = ('Forest', 'Water'), ('sar',)
        ...     labels = torch.tensor([0, 1, 1])
        ...
        ...     def load(self, index, modality):
        ...         return torch.full((2, 8, 8), -10.0)
        ...
        ...     def identifier(self, index):
        ...         return f'{self.classes[self.labels[index]]}/{index}'
        ...
        ...     def fingerprint(self):
        ...         return 'constant'
        >>> dataset = Constant()
        >>> sample = dataset[2]
        >>> sample['image_sar'].shape, sample['label'], dataset.identifier(2)
        (torch.Size([2, 8, 8]), tensor(1), 'Water/2')
    """

    splits: ClassVar[tuple[str, ...]] = ('train', 'val', 'test')

    root: str
    classes: tuple[str, ...]
    task: LabelTask = 'multiclass'
    modalities: tuple[str, ...]
    bands: dict[str, tuple[str, ...]]
    units: dict[str, str]
    labels: Tensor
    unlabelled_samples: int | None = None
    missing_values: Literal['mean', 'error'] = 'mean'
    transforms: Callable[[Sample], Sample] | None = None
    counts: Sequence[FolderCounts] = ()

    _own_split_hash: str | None = None

    @abstractmethod
    def load(self, index: int, modality: str) -> Tensor:
        """Read one image.

        Args:
            index: Position in this split.
            modality: One of *modalities*.

        Returns:
            Raw values, float32, shape (C, H, W), missing pixels NaN.
        """

    @abstractmethod
    def identifier(self, index: int) -> str:
        """Return a name of the sample that is unique in the data set.

        Args:
            index: Position in this split.

        Returns:
            '<Class>/<stem>' for data in files.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a hash of the source files (names, sizes), the same for all splits."""

    def modified(self, modality: str) -> str:
        """Return when the files of a modality were modified, as far as that is known.

        The fingerprint reads parts of them only, so that changes may escape it.

        Args:
            modality: One of *modalities*.

        Returns:
            A hash that may differ on another machine, unlike the fingerprint.
        """
        return ''

    def georeference(self, index: int) -> tuple[CRS, Affine] | None:
        """Return the coordinate reference system and transform of a tile.

        Args:
            index: Position in this split.

        Returns:
            None if the files have no georeference.
        """
        return None

    def locate(self, index: int, modality: str) -> tuple[CRS, Affine] | None:
        """Return the coordinate reference system and transform of one modality.

        Args:
            index: Position in this split.
            modality: One of *modalities*.

        Returns:
            None if the files have no georeference.
        """
        return self.georeference(index)

    def encoding(self, modality: str) -> str:
        """Return what is known about the numbers in the files of a modality.

        Args:
            modality: One of *modalities*.

        Returns:
            A description; different if the same files are read as other values.
        """
        return f'unit {self.units[modality]}'

    def report(self) -> list[str]:
        """Return what was found: which files were taken, and how they are read.

        Returns:
            Lines for the user.
        """
        unlabelled = f'unlabelled: {self.unlabelled_samples} samples, only for training'
        return [
            *map(str, self.counts),
            *([unlabelled] if self.unlabelled_samples else []),
            *(f'{modality}: {self.encoding(modality)}' for modality in self.modalities),
        ]

    def number_in_file(self, modality: str, band: int, value: float) -> float:
        """Return the number that stands for a value in the files.

        Args:
            modality: One of *modalities*.
            band: Position of the band in samples.
            value: Value in samples.
        """
        return value

    def options(self, modality: str) -> Options:
        """Return how a user states unit and missing pixels of a modality.

        Args:
            modality: One of *modalities*.
        """
        return options_of(modality)

    def join_classes(self, classes: Sequence[str]) -> None:
        """Label the samples by the classes of a classifier, which are found by name.

        *classes* and *labels* are replaced; samples, their order, and the hashes of
        data and split stay the same. Nothing changes if the classes are the same.

        Args:
            classes: Classes of the classifier, in the order of its outputs: all those
                of the data set and any others.

        Raises:
            LabelError: If the classifier does not know a class of the data set.

        Warns:
            UserWarning: If the data set lacks classes of the classifier.
        """
        if not same_classes(classes, self.classes):
            self._own_split_hash = self.split_hash()
            positions = labels_by_name(self.classes, classes)
            if self.task == 'multilabel':
                self.labels = labels_in_columns(self.labels, positions, len(classes))
            else:
                joined = positions[self.labels]
                self.labels = joined.where(self.labels != NO_LABEL, NO_LABEL)
            self.classes = tuple(classes)

    def split_hash(self) -> str:
        """Return a hash of the samples in this split, their order and their classes.

        It describes the data: :meth:`join_classes` does not change it.
        """
        if self._own_split_hash is not None:
            return self._own_split_hash
        digest = hashlib.sha256('\n'.join(self.classes).encode())
        for index, label in enumerate(self.labels.tolist()):
            digest.update(f'\n{self.identifier(index)}\t{label}'.encode())
        return digest.hexdigest()[:16]

    def __len__(self) -> int:
        """Return the number of samples in this split."""
        return len(self.labels)

    def __getitem__(self, index: int) -> Sample:
        """Return one sample.

        Args:
            index: Position in this split.

        Returns:
            Flat dictionary of images, label and index.

        Raises:
            CorruptFileError: If a file cannot be read.
            MissingValueError: If pixels are missing and *missing_values* is 'error'.
            TileSizeError: If the tile and the first one differ in size.
        """
        sample: Sample = {
            f'image_{modality}': self.checked_load(index, modality)
            for modality in self.modalities
        }
        sample['label'] = self.labels[index]
        sample['index'] = torch.tensor(index)
        return sample if self.transforms is None else self.transforms(sample)

    def __getitems__(self, indexes: Sequence[int]) -> Sequence[Sample]:
        """Return several samples, as PyTorch's data loader requests them.

        Args:
            indexes: Positions in this split, B of them.

        Returns:
            The samples. Without transforms they are read together.

        Raises:
            UserError: As for one sample.
        """
        if self.transforms is not None:
            return [self[index] for index in indexes]
        batch: Sample = {
            f'image_{modality}': self.load_batch(indexes, modality)
            for modality in self.modalities
        }
        batch['index'] = torch.tensor(indexes)
        batch['label'] = self.labels[batch['index']]
        return GatheredSamples(batch)

    def load_batch(self, indexes: Sequence[int], modality: str) -> Tensor:
        """Read images and check them.

        Args:
            indexes: Positions in this split, B of them.
            modality: One of *modalities*.

        Returns:
            Raw values, float32, shape (B, C, H, W), missing pixels NaN.

        Raises:
            UserError: As for one sample.
        """
        return torch.stack([self.checked_load(i, modality) for i in indexes])

    def mapped(self, modality: str) -> tuple[NDArray[Any], Tensor] | None:
        """Return all images of a modality as one memory-mapped array, if possible.

        Args:
            modality: One of *modalities*.

        Returns:
            The images of all splits, (M, C, H, W), all bands, in the type of the file,
            missing pixels NaN; and the row of every sample of this split, int64 (N,).
            None if the images are not in one file.
        """
        return None

    def stored_statistics(
        self, modality: str, split_hash: str
    ) -> NDArray[np.float64] | None:
        """Return the statistics of all bands that are stored with the images.

        Args:
            modality: One of *modalities*.
            split_hash: Hash of this split.

        Returns:
            float64 (R, C) as from :func:`~.statistics.statistics_rows`; None if none
            are stored for this split.
        """
        return None

    @property
    def place(self) -> Path:
        """Folder for files that are kept next to the images."""
        return Path(self.root)

    def band_indexes(self, modality: str) -> list[int] | None:
        """Return the positions of the bands that samples hold; None for all.

        Args:
            modality: One of *modalities*.
        """
        return None

    def tile_size(self, modality: str) -> tuple[int, int]:
        """Return height and width in pixels of the first tile of a modality.

        Args:
            modality: One of *modalities*.
        """
        if modality not in self._tile_sizes:
            height, width = self.load(0, modality).shape[-2:]
            self._tile_sizes[modality] = (height, width)
        return self._tile_sizes[modality]

    def plot(
        self, sample: Sample, show_titles: bool = True, suptitle: str | None = None
    ) -> Figure:
        """Show the modalities of a sample side by side.

        Args:
            sample: A sample of this data set. It may also hold a 'prediction': a label,
                or a label for each modality. An 'image' is taken for the first modality
                with as many bands.
            show_titles: Whether to write modality, label and prediction above.
            suptitle: Title of the figure.

        Returns:
            A figure with one panel for each modality.
        """
        if 'image' in sample:
            count = len(sample['image'])
            name = next(m for m in self.modalities if len(self.bands[m]) == count)
            sample = sample | {f'image_{name}': sample['image']}
        return plot_sample(sample, self.bands, self.classes, show_titles, suptitle)

    @property
    def _tile_sizes(self) -> dict[str, tuple[int, int]]:
        return self.__dict__.setdefault('_tile_size_of', {})

    def checked_load(self, index: int, modality: str) -> Tensor:
        """Read one image and check its size and its missing pixels.

        Args:
            index: Position in this split.
            modality: One of *modalities*.

        Returns:
            Raw values, float32, shape (C, H, W), missing pixels NaN.

        Raises:
            CorruptFileError: If the file cannot be read.
            MissingValueError: If pixels are missing and *missing_values* is 'error'.
            TileSizeError: If the tile and the first one differ in size.
        """
        image = self.load(index, modality)
        size, expected = tuple(image.shape[-2:]), self.tile_size(modality)
        if size != expected:
            raise TileSizeError(
                f'{self.identifier(index)} ({modality}) is {size[0]}x{size[1]} pixels, '
                f'but {self.identifier(0)} is {expected[0]}x{expected[1]}: cut or '
                'resample the tiles of a modality to one size.'
            )
        if self.missing_values == 'error' and not torch.isfinite(image).all():
            missing = int((~torch.isfinite(image)).sum())
            raise MissingValueError(
                f'{self.identifier(index)} ({modality}) has {missing} missing values: '
                "repair the tile, or use missing_values='mean'."
            )
        return image


class GatheredSamples(Sequence[Sample]):
    """The samples of a batch that is already assembled.

    Any collate function can take them one by one; :func:`collate_samples` takes the
    whole batch, which saves a copy.
    """

    def __init__(self, batch: Sample) -> None:
        """Initialize a new GatheredSamples instance.

        Args:
            batch: Tensors of shape (B, ...).
        """
        self.batch = batch

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.batch['index'])

    def __getitem__(self, index: int) -> Sample:  # ty: ignore[incompatible-method-override]
        """Return a sample: views of the batch.

        Args:
            index: Position in the batch.

        Raises:
            IndexError: If it is out of range.
        """
        if index >= len(self):
            raise IndexError(f'index {index} of a batch of {len(self)} samples.')
        return {key: values[index] for key, values in self.batch.items()}


def collate_samples(samples: Sequence[Sample]) -> Sample:
    """Collate samples into a batch.

    Args:
        samples: Samples of a data set, as it returned them.

    Returns:
        Tensors of shape (B, ...).

    Example:
        >>> import torch
        >>> samples = [{'image_sar': torch.zeros(2, 8, 8)} for _ in range(5)]
        >>> collate_samples(samples)['image_sar'].shape
        torch.Size([5, 2, 8, 8])
    """
    if isinstance(samples, GatheredSamples):
        return samples.batch
    return default_collate(list(samples))


def check_modalities(requested: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Check a selection of modalities against those of a data set.

    Args:
        requested: The modalities to load.
        known: All modalities of the data set.

    Returns:
        The selection as a tuple, in the order requested.

    Raises:
        ModalityError: If one is unknown or given twice, or none is given.
    """
    unknown = [m for m in requested if m not in known]
    if unknown or not requested or len(set(requested)) < len(requested):
        raise ModalityError(
            f'modalities={list(requested)}: give each at most once, out of '
            f'{list(known)}.'
        )
    return tuple(requested)

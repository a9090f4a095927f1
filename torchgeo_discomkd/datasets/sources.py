# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""TorchGeo's data sets as sources of one modality each."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from torch.utils.data import Dataset
from torchgeo.datasets import NonGeoDataset, So2Sat

from ..errors import LabelError, SettingError
from .splits import SPLITS


@dataclass(frozen=True)
class DatasetSource:
    """A data set of TorchGeo, or one like it, that gives one modality of the samples.

    Its samples are dictionaries with an 'image' of shape (C, H, W) and, unless *labels*
    or another source says which class they have, a 'label'.

    Attributes:
        dataset: Class of the data set.
        kwargs: Its arguments, all but *split*.
        splits: What the data set calls the splits 'train', 'val' and 'test'. Empty if
            it has none and takes no argument *split*: then samples that no other source
            splits are for training.
        keys: Returns a name for every sample of the data set it is given, which the
            same sample has in the other sources. Default: the stems of its files.
        labels: Returns a class for every sample, as a name or a number. Default: the
            labels of data sets in class folders; others need not have any if one
            source has. With several labels in a sample it returns for each a list of
            names, or one 0 or 1 for each of *classes*. None leaves a sample out.
        classes: Names of its classes by number. Default: what the data set says. Names
            that differ between sources are renamed here.
        bands: Names of the bands that samples hold. Default: all.
        band_names: Names of the bands of its images, in order. Default: what the data
            set says, else 'B1', 'B2', ...
        unit: Unit of the values: 'dB', 'linear' or any text; or 'amplitude', 'db_x10'
            or 'db_x100', which are converted to dB.
        nodata: Number that stands for missing pixels.
        image: Name of the image in its samples.
        groups: For a data set without a split for validation, returns a group (scene,
            event) for every training sample. If no source has such a split, a tenth of
            the groups, always the same, becomes the validation split. Training samples
            of a group that other sources validate or test are left out. It is refused
            where it has no effect.

    Example:
        >>> from torchgeo.datasets import So2Sat
        >>> source = DatasetSource(
        ...     So2Sat,
        ...     {'root': 'so2sat', 'checksum': False},
        ...     splits={'train': 'train', 'val': 'validation', 'test': 'test'},
        ...     keys=positions,
        ...     labels=sample_labels,
        ...     bands=So2Sat.all_s1_band_names,
        ... )
        >>> source.splits['val'], source.unit
        ('validation', 'unknown')
    """

    dataset: type[NonGeoDataset]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    splits: Mapping[str, str] = field(
        default_factory=lambda: {name: name for name in SPLITS}
    )
    keys: Callable[[Any], Sequence[str]] | None = None
    labels: Callable[[Any], Sequence[Any]] | None = None
    classes: Sequence[str] | None = None
    bands: Sequence[str] | None = None
    band_names: Sequence[str] | None = None
    unit: str = 'unknown'
    nodata: float | None = None
    image: str = 'image'
    groups: Callable[[Any], Sequence[str]] | None = None

    def described(self) -> str:
        """Return the class and the plain arguments that choose what is read."""
        where = {'root', 'download', 'checksum'}
        kwargs = {
            name: value
            for name, value in self.kwargs.items()
            if name not in where and isinstance(value, str | int | float | list | tuple)
        }
        return f'{self.dataset.__name__} {json.dumps(kwargs, sort_keys=True)}'

    def settings(self) -> dict[str, Any]:
        """Return what else decides on samples and labels, for JSON.

        Functions are described by their names, in *kwargs* too.
        """
        called = {n: _name(v) for n, v in self.kwargs.items() if callable(v)}
        return {
            'splits': dict(self.splits),
            'keys': _name(self.keys or file_stems),
            'labels': _name(self.labels),
            'classes': None if self.classes is None else list(self.classes),
            'image': self.image,
            'groups': _name(self.groups),
            'kwargs': called,
        }


def _name(function: Any) -> str | None:
    """Return the name of a function, which says nothing about its module."""
    if function is None:
        return None
    function = getattr(function, 'func', function)
    return getattr(function, '__name__', type(function).__name__)


def check_groups(sources: Mapping[str, DatasetSource]) -> None:
    """Refuse groups that would hold nothing out.

    Args:
        sources: The source of each modality.

    Raises:
        SettingError: If no source has splits, or one with groups has a split for
            validation, or none for training.

    Example:
        >>> from torchgeo.datasets import EuroSAT
        >>> check_groups({'ms': DatasetSource(EuroSAT)})
    """
    grouped = {m: s for m, s in sources.items() if s.groups is not None}
    if grouped and not any(s.splits for s in sources.values()):
        raise SettingError(
            f'groups of {list(grouped)} would have no effect: no source has splits, so '
            'each class is split 70/10/20 at random. Name the training split of a data '
            "set that has one (splits={'train': 'train', 'test': 'test'}), or leave "
            'groups out.'
        )
    for modality, source in grouped.items():
        splits = source.splits
        if splits and ('val' in splits or 'train' not in splits):
            raise SettingError(
                f"groups of '{modality}' would have no effect with its splits "
                f"{dict(splits)}: leave 'val' out of splits to hold out groups of "
                "'train', or leave groups out."
            )


def file_stems(dataset: Dataset[Any]) -> list[str]:
    """Return the stem of the file of every sample: the default keys.

    Args:
        dataset: A data set in class folders, or with a list of names as *files*.

    Raises:
        SettingError: If it lists no files.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from torchgeo.datasets import NonGeoClassificationDataset
        >>> with tempfile.TemporaryDirectory() as root:
        ...     Path(root, 'Forest').mkdir()
        ...     for name in ('a', 'b'):
        ...         image = Image.fromarray(np.zeros((8, 8, 3), np.uint8))
        ...         image.save(Path(root, 'Forest', f'{name}.png'))
        ...     file_stems(NonGeoClassificationDataset(root))
        ['a', 'b']
    """
    paths = file_names(dataset)
    if paths is None:
        raise SettingError(
            f'{type(dataset).__name__} lists no files that could name its samples: '
            'give its source keys=, a function that takes the data set and returns a '
            'name for each sample (positions, if the same row is the same sample).'
        )
    return [PurePath(path).stem for path in paths]


def file_names(dataset: Any) -> list[str] | None:
    """Return the file of every sample, if the data set lists them.

    Args:
        dataset: The data set.

    Returns:
        The names or paths; None if it lists none.
    """
    if hasattr(dataset, 'samples'):
        return [path for path, _ in dataset.samples]
    files: list[Any] = list(getattr(dataset, 'files', ()))
    named = bool(files) and all(isinstance(file, str) for file in files)
    return files if named else None


def positions(dataset: Dataset[Any]) -> list[str]:
    """Return the position of every sample in its split as its key.

    For sources that read the same files in the same order, such as two with other bands
    of one data set.

    Args:
        dataset: Any data set.

    Example:
        >>> import torch
        >>> from torch.utils.data import TensorDataset
        >>> positions(TensorDataset(torch.zeros(2, 1)))
        ['0', '1']
    """
    split = getattr(dataset, 'split', None)
    start = '' if split is None else f'{split}/'
    return [f'{start}{i}' for i in range(len(dataset))]  # ty: ignore[invalid-argument-type]


def sample_labels(dataset: Dataset[Any]) -> list[int]:
    """Return the 'label' of every sample, which reads all images.

    Args:
        dataset: Any data set with one label for each sample.

    Raises:
        LabelError: If a sample has no label, or several.

    Example:
        >>> import torch
        >>> sample_labels([{'image': torch.zeros(2, 8, 8), 'label': torch.tensor(3)}])
        [3]
    """
    labels = []
    for i in range(len(dataset)):  # ty: ignore[invalid-argument-type]
        label = dataset[i].get('label')
        if label is None or getattr(label, 'ndim', 0):
            found = 'no label' if label is None else f'labels {label.tolist()}'
            raise LabelError(
                f'sample {i} of {type(dataset).__name__} has {found}: each needs one '
                'class. Give its source labels=, a function that takes the data set '
                'and returns a class for each sample (sample_label_rows reads several '
                "labels, with task='multilabel')."
            )
        labels.append(int(label))
    return labels


def sample_label_rows(dataset: Dataset[Any]) -> list[list[int]]:
    """Return the 'label' of every sample, one 0 or 1 for each label.

    It reads all images: data sets with many samples should be given a function that
    reads their table of labels.

    Args:
        dataset: Any data set with several labels for each sample.

    Raises:
        LabelError: If a sample has no label, or one class.

    Example:
        >>> import torch
        >>> image = torch.zeros(2, 8, 8)
        >>> sample_label_rows([{'image': image, 'label': torch.tensor([1, 0, 1])}])
        [[1, 0, 1]]
    """
    rows = []
    for i in range(len(dataset)):  # ty: ignore[invalid-argument-type]
        label = dataset[i].get('label')
        if getattr(label, 'ndim', 0) != 1:
            raise LabelError(
                f'sample {i} of {type(dataset).__name__} has the label {label}: with '
                "task='multilabel' each needs one 0 or 1 for each label."
            )
        rows.append(label.tolist())
    return rows


def image_bands(dataset: Dataset[Any]) -> tuple[str, ...] | None:
    """Return the names of the bands of a data set's images, in order.

    Args:
        dataset: The data set.

    Returns:
        The names; None if it does not say.
    """
    if isinstance(dataset, So2Sat):
        # radar first, whatever the order in *bands*
        return (*dataset.s1_band_names, *dataset.s2_band_names)
    bands = getattr(dataset, 'bands', None)
    named = isinstance(bands, Sequence) and all(isinstance(b, str) for b in bands)
    return tuple(bands) if named and not isinstance(bands, str) else None

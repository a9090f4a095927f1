# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""The samples of a source, by name: opened once, without reading images."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset
from torchgeo.datasets import DatasetNotFoundError
from torchgeo.datasets.errors import DependencyNotFoundError

from ..errors import (
    CorruptFileError,
    LabelError,
    LayoutError,
    PairingError,
    SettingError,
    SplitError,
    UserError,
)
from ..metadata import LabelTask
from .multilabel import check_label_names, check_label_rows, label_names
from .naming import nfc
from .sources import DatasetSource, file_names, file_stems
from .splits import SPLITS
from .stores import first_few

# Number of images whose content a fingerprint covers.
_SAMPLES = 8

# What readers raise if a file is missing, damaged or not what they expect.
_UNREADABLE = (OSError, ValueError, LookupError, RuntimeError)


@dataclass(frozen=True, eq=False)
class OpenedSource:
    """All samples of a source.

    Attributes:
        source: What was opened.
        datasets: Its data sets, one for each split.
        rows: Data set and position of every sample, by key.
        splits: Split of every sample; empty if the source has none.
        groups: Group of every training sample, if the source names groups; of every
            sample if it has no splits.
        labels: Names of the classes of every sample that has some, by key; None if the
            source does not say.
        classes: Names of the classes; None if the source does not say.
    """

    source: DatasetSource
    datasets: list[Dataset[Any]]
    rows: dict[str, tuple[int, int]]
    splits: dict[str, str]
    groups: dict[str, str]
    labels: dict[str, tuple[str, ...]] | None
    classes: tuple[str, ...] | None

    @property
    def place(self) -> str:
        """Folder and class of the data set."""
        root = self.source.kwargs.get('root', 'data')
        return f'{root} ({self.source.dataset.__name__})'

    def image(self, key: str) -> Tensor:
        """Read an image.

        Args:
            key: Its key.

        Returns:
            Values as the data set gives them, shape (C, H, W).

        Raises:
            CorruptFileError: If it cannot be read, or is not one image.
        """
        number, row = self.rows[key]
        name, field = self.source.dataset.__name__, self.source.image
        try:
            image = self.datasets[number][row].get(field)
        except UserError:
            raise
        except _UNREADABLE as error:
            raise CorruptFileError(
                f'{key} of {name} cannot be read ({error}): fetch its file again.'
            ) from error
        if not isinstance(image, Tensor) or image.ndim != 3:
            found = tuple(image.shape) if isinstance(image, Tensor) else type(image)
            raise CorruptFileError(
                f"{key} of {name} has no '{field}' of shape (C, H, W), but {found}: "
                'use the transforms of the data set, in kwargs, to make one.'
            )
        return image

    def files(self) -> Iterator[Path]:
        """Yield the files that the data sets list, in order, if these are paths."""
        paths = {name for d in self.datasets for name in file_names(d) or ()}
        return (path for path in sorted(map(Path, paths)) if path.is_file())

    @cached_property
    def fingerprint(self) -> str:
        """Hash of names, classes, sizes of files, and some of the images."""
        keys = sorted(self.rows)
        digest = hashlib.sha256(self.source.dataset.__name__.encode())
        for key in keys:
            labels = (self.labels or {}).get(key, ('None',))
            digest.update(f'{key}\t{"|".join(labels)}\n'.encode())
        for path in self.files():
            digest.update(f'{path.name}\t{path.stat().st_size}\n'.encode())
        for key in keys[:: -(-len(keys) // _SAMPLES)]:
            digest.update(self.image(key).contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def open_source(
    modality: str, source: DatasetSource, task: LabelTask = 'multiclass'
) -> OpenedSource:
    """Open the data sets of a source and name their samples.

    Args:
        modality: Its modality, for messages.
        source: What to open.
        task: Kind of labels.

    Raises:
        CorruptFileError: If the data set cannot read its own files.
        LabelError: If a class has no name, or a sample has several although *task* is
            not 'multilabel'.
        LayoutError: If the data set is not on disk.
        PairingError: If several samples have the same key.
        SettingError: If the data set does not take the arguments, needs a library that
            is not installed, or what the functions of the source return has another
            length.
        SplitError: If a split is unknown, or named for two.
    """
    names = [*source.splits.values()]
    if set(source.splits) - set(SPLITS) or len(set(names)) < len(names):
        raise SplitError(
            f"splits of '{modality}' are {dict(source.splits)}: name at most one split "
            f'of {source.dataset.__name__}, another one for each of {list(SPLITS)}.'
        )
    opened = OpenedSource(source, [], {}, {}, {}, {}, None)
    labels: dict[str, tuple[str, ...]] | None = {}
    classes: tuple[str, ...] = ()
    order = [split for split in SPLITS if split in source.splits]
    for split, theirs in [(s, source.splits[s]) for s in order] or [('', '')]:
        dataset = _open(source, {'split': theirs} if split else {})
        keys = [nfc(str(key)) for key in (source.keys or file_stems)(dataset)]
        _check_length('keys', keys, dataset)
        _check_unique(modality, source, keys, opened.rows)
        first = len(opened.datasets)
        opened.datasets.append(dataset)
        opened.rows.update((key, (first, row)) for row, key in enumerate(keys))
        if split:
            opened.splits.update(dict.fromkeys(keys, split))
        if source.groups is not None and split in ('train', ''):
            groups = [str(group) for group in source.groups(dataset)]
            _check_length('groups', groups, dataset)
            opened.groups.update(zip(keys, groups, strict=True))
        found = _labels(source, dataset)
        if found is None or labels is None:
            labels = None
            continue
        listed = source.classes or getattr(dataset, 'classes', None)
        # those of a split number its labels; another one may list others
        own = _class_names(source, listed, found)
        union = dict.fromkeys((*classes, *own))
        classes = tuple(union if listed is not None else sorted(union))
        several = task == 'multilabel'
        named = (_several if several else _named)(modality, found, own)
        labels.update((k, n) for k, n in zip(keys, named, strict=True) if n is not None)
    return replace(opened, labels=labels, classes=classes or None)


def _open(source: DatasetSource, split: Mapping[str, str]) -> Dataset[Any]:
    name = source.dataset.__name__
    try:
        return source.dataset(**source.kwargs, **split)
    except (AssertionError, TypeError) as error:
        given = dict(source.kwargs) | dict(split)
        raise SettingError(
            f'{name} cannot be opened with {given} '
            f'({type(error).__name__}: {error}): correct kwargs and splits of its '
            'source; splits are empty for a data set without the argument split.'
        ) from error
    except DependencyNotFoundError as error:
        raise SettingError(f'{name} cannot be opened: {error}') from error
    except DatasetNotFoundError as error:
        raise LayoutError(
            f'{name}: {error} Its page in the documentation of TorchGeo says which '
            'files it needs.'
        ) from error
    except FileNotFoundError as error:
        raise LayoutError(
            f'{name} lacks a file ({error}): its page in the documentation of TorchGeo '
            'says which files it needs.'
        ) from error
    except _UNREADABLE as error:
        raise CorruptFileError(
            f'{name} cannot be opened ({type(error).__name__}: {error}): fetch its '
            'files again.'
        ) from error


def _check_length(name: str, values: Sequence[Any], dataset: Dataset[Any]) -> None:
    count = len(dataset)  # ty: ignore[invalid-argument-type]
    if len(values) != count:
        raise SettingError(
            f'{name}= returns {len(values)} values for the {count} samples of '
            f'{type(dataset).__name__}: return one for each.'
        )


def _check_unique(
    modality: str,
    source: DatasetSource,
    keys: Sequence[str],
    known: Mapping[str, tuple[int, int]],
) -> None:
    seen, twice = set(known), []
    for key in keys:
        if key in seen:
            twice.append(key)
        seen.add(key)
    if twice:
        raise PairingError(
            f"{len(twice)} samples of '{modality}' ({source.dataset.__name__}) have a "
            f'key that another one has ({first_few(twice)}), in this or another split: '
            'give its source keys= that differ, for example with their class or folder.'
        )


def _labels(source: DatasetSource, dataset: Dataset[Any]) -> list[Any] | None:
    """Return the labels of a data set without reading images; None if it has none."""
    read = source.labels
    if read is None and not hasattr(dataset, 'targets'):
        return None
    try:
        labels = list(dataset.targets if read is None else read(dataset))  # ty: ignore[missing-attribute]
    except UserError:
        raise
    except _UNREADABLE as error:
        raise LabelError(
            f'the labels of {source.dataset.__name__} cannot be read '
            f'({type(error).__name__}: {error}): fetch its files again, or correct '
            'labels= of its source.'
        ) from error
    _check_length('labels', labels, dataset)
    return labels


def _class_names(
    source: DatasetSource, names: Sequence[str] | None, labels: Sequence[Any]
) -> tuple[str, ...]:
    """Return the classes of a split as it lists them, or those that it shows."""
    if names is None:
        # one name for each sample, or several
        known = [label for label in labels if label is not None]
        flat = [x for y in known for x in ([y] if np.ndim(y) == 0 else y)]
        if all(isinstance(label, str) for label in flat):
            names = sorted({*map(str, flat)})
    if names is None:
        raise LabelError(
            f'{source.dataset.__name__} does not name its classes: give its source '
            'classes=, their names in the order of the labels.'
        )
    return tuple(nfc(str(name)) for name in names)


def _named(
    modality: str, labels: Sequence[Any], classes: Sequence[str]
) -> list[tuple[str, ...] | None]:
    """Return the class of each label, a name or a number."""
    if several := [label for label in labels if np.ndim(label)]:
        raise LabelError(
            f"'{modality}' has samples with several labels (such as {several[0]}): "
            "each needs one class, or set task='multilabel' (--data.task multilabel)."
        )
    names = [None if label is None else _name(label, classes) for label in labels]
    if unknown := sorted({*names} - {None, *classes}, key=str):
        raise LabelError(
            f"'{modality}' has samples of {unknown}, but its classes are "
            f'{list(classes)}: correct labels= or classes= of its source.'
        )
    return [None if name is None else (name,) for name in names]


def _name(label: Any, classes: Sequence[str]) -> str:
    if isinstance(label, str):
        return nfc(label)
    number = int(label)
    return classes[number] if 0 <= number < len(classes) else str(number)


def _several(
    modality: str, labels: Sequence[Any], classes: Sequence[str]
) -> list[tuple[str, ...] | None]:
    """Return the names of the labels of each sample, in the order of the classes."""
    check_label_names(classes)
    known = [label for label in labels if label is not None]
    if single := [label for label in known if np.ndim(label) != 1]:
        raise LabelError(
            f"'{modality}' has samples with one label (such as {single[0]!r}): with "
            "task='multilabel' each needs a list of names, or one 0 or 1 for each of "
            f'{len(classes)} labels.'
        )
    if all(isinstance(name, str) for label in known for name in label):
        named = [None if x is None else {nfc(name) for name in x} for x in labels]
        if unknown := sorted(set().union(*(filter(None, named))) - set(classes)):
            raise LabelError(
                f"'{modality}' has samples of {unknown}, but its labels are "
                f'{list(classes)}: correct labels= or classes= of its source.'
            )
        return [
            None if x is None else tuple(n for n in classes if n in x) for x in named
        ]
    lengths = {len(label) for label in known}
    if lengths != {len(classes)}:
        raise LabelError(
            f"'{modality}' has samples of {sorted(lengths)} labels, but {len(classes)} "
            f'are named: give one 0 or 1 for each of {first_few(classes)}.'
        )
    rows = check_label_rows(np.array([list(map(int, x)) for x in known]), modality)
    found = iter(rows.tolist())
    return [
        None if x is None else tuple(label_names(next(found), classes)) for x in labels
    ]

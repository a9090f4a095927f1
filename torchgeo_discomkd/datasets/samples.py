# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Classes and splits of the samples of joined data sets."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any

from ..errors import LabelError, PackError, SettingError
from ..metadata import LabelTask
from .opened import OpenedSource
from .splits import SPLITS
from .stores import first_few

#: Name of the table that a pack keeps.
TABLE = 'samples.json'


@dataclass(frozen=True)
class Samples:
    """Classes and splits of the samples of joined data sets, by key.

    Attributes:
        task: Kind of labels.
        classes: Names of the classes.
        labels: Ascending positions in *classes*; samples of no class are left out.
        splits: Split of every sample that is in one; empty if no source has splits.
        sources: Description of the data set of each modality.
        settings: Other settings of each source; empty in packs of earlier versions.
    """

    task: LabelTask
    classes: tuple[str, ...]
    labels: dict[str, tuple[int, ...]]
    splits: dict[str, str]
    sources: dict[str, str]
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """Return the table that :meth:`from_json` reads."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, table: bytes | None, path: str) -> 'Samples':
        """Return the table in a pack, checked.

        Args:
            table: What :meth:`to_json` returned; None if the pack lacks it.
            path: The pack, for messages.

        Raises:
            PackError: If the table is missing or damaged.
        """
        # takes 20 ms: only when a pack is read
        import msgspec

        try:
            samples = msgspec.json.decode(table or b'', type=cls)
        except msgspec.MsgspecError as error:
            raise PackError(
                f'{path} is damaged: its table of samples cannot be read ({error}). '
                'Copy the file again, or pack the data again.'
            ) from error
        count, several = len(samples.classes), samples.task == 'multilabel'
        fits = all(
            (several or len(found) == 1) and all(0 <= i < count for i in found)
            for found in samples.labels.values()
        )
        if not fits or not {*samples.splits.values()} <= {*SPLITS}:
            raise PackError(
                f'{path} is damaged: its table of samples has labels or splits that do '
                'not exist. Copy the file again, or pack the data again.'
            )
        return samples


def join_samples(opened: Mapping[str, OpenedSource], task: LabelTask) -> Samples:
    """Join what the sources say about their samples.

    Args:
        opened: The sources by modality.
        task: Kind of labels.

    Raises:
        LabelError: If sources disagree about a sample, or the first one with classes
            does not know one of another source.
        SettingError: If no source has labels.
    """
    classes = _class_list(opened)
    names = _join_labels(opened, classes)
    ranks = {name: rank for rank, name in enumerate(classes)}
    labels = {k: tuple(sorted(ranks[n] for n in found)) for k, found in names.items()}
    splits = _join_splits(opened)
    described = {m: o.source.described() for m, o in opened.items()}
    settings = {m: o.source.settings() for m, o in opened.items()}
    return Samples(task, classes, labels, splits, described, settings)


def _join_splits(opened: Mapping[str, OpenedSource]) -> dict[str, str]:
    """Return the split of every sample: that of the first source which says one.

    Samples that no source gives a split are for training. Groups of all sources count
    together: training samples of one that has a sample in another split, because an
    earlier source says so, are left out.

    Returns:
        Splits by key; empty if no source has splits.
    """
    splits: dict[str, str] = {}
    groups: dict[str, str] = {}
    for source in reversed([*opened.values()]):
        splits |= source.splits
        groups |= source.groups
    if not splits:
        return {}
    keys = (key for source in opened.values() for key in source.rows)
    splits = dict.fromkeys(keys, 'train') | splits
    if 'val' not in splits.values():
        splits |= dict.fromkeys(_held_out(splits, groups), 'val')
    evaluated = _evaluated(splits, groups)
    return {
        key: split
        for key, split in splits.items()
        if split != 'train' or groups.get(key) not in evaluated
    }


def _held_out(splits: Mapping[str, str], groups: Mapping[str, str]) -> list[str]:
    """Return the samples of a tenth of the groups that are wholly in training."""
    names = {*groups.values()} - _evaluated(splits, groups)
    # the order of hashes is random, but the same everywhere
    order = sorted(names, key=lambda g: sha256(g.encode()).digest())
    chosen = {*order[: max(1, round(len(order) / 10))]}
    return [key for key, group in groups.items() if group in chosen]


def _evaluated(splits: Mapping[str, str], groups: Mapping[str, str]) -> set[str]:
    """Return the groups that have a sample for validation or test."""
    return {group for key, group in groups.items() if splits[key] != 'train'}


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
) -> dict[str, tuple[str, ...]]:
    """Return the classes of every sample, on which all sources must agree."""
    names: dict[str, tuple[str, ...]] = {}
    for modality, source in opened.items():
        labels = source.labels or {}
        found = {name for own in labels.values() for name in own}
        if unknown := sorted(found - set(classes)):
            raise LabelError(
                f"'{modality}' has samples of {unknown}, but the classes are "
                f'{list(classes)}: rename them with classes= of its source.'
            )
        differ = [k for k, own in labels.items() if {*names.get(k, own)} != {*own}]
        if differ:
            examples = (
                f'{k}: {" and ".join(names[k])}, not {" and ".join(labels[k])}'
                for k in differ
            )
            raise LabelError(
                f"{len(differ)} samples have another class in '{modality}' than in "
                f'the sources before it ({first_few(examples)}): correct keys=, '
                'labels= or classes= of its source.'
            )
        names |= labels
    return names

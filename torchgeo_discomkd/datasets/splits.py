# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Splits into training, validation and test samples."""

import csv
import io
import warnings
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import SplitError, TextFileError
from ..rasters.readers import SUFFIXES
from ..rasters.text import decode_text
from .naming import nfc
from .stores import Key, first_few

#: Names of the splits.
SPLITS = ('train', 'val', 'test')

#: Name of the samples without labels, and the label that stands for none.
UNLABELLED = 'unlabelled'
NO_LABEL = -1


def stratified_split(labels: ArrayLike, run: int, split: str) -> NDArray[np.int64]:
    """Split every class 70/10/20 at random, as the authors of DisCoM-KD do.

    The samples of a class, in the order given, are shuffled with seed 1000 * *run*
    exactly as ``sklearn.utils.shuffle`` does; the first ``int(0.7 n)`` are for
    training, those up to ``int((0.7 + 0.1) n)`` for validation, the rest for test. In
    floating point 0.7 + 0.1 is 0.7999999999999999, so 2000 samples give 1400/199/401.
    Neighbouring tiles may end up in different splits.

    Args:
        labels: Label of every sample, shape (N,).
        run: Number of the repetition, 0 to 4 in the paper.
        split: 'train', 'val' or 'test'.

    Returns:
        Ascending positions of the samples of the split, int64, shape (M,).

    Raises:
        SplitError: If *split* is unknown or *run* is negative.
    """
    _check_request(split, run)
    labels = np.asarray(labels)
    parts: list[NDArray[np.int64]] = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        np.random.RandomState(1000 * run).shuffle(members)
        train, val = int(len(members) * 0.7), int(len(members) * (0.7 + 0.1))
        bounds = {
            'train': slice(train),
            'val': slice(train, val),
            'test': slice(val, None),
        }
        parts.append(members[bounds[split]])
    return np.sort(np.concatenate(parts)) if parts else np.empty(0, np.int64)


def group_split(
    groups: Sequence[str],
    run: int,
    split: str,
    val_groups: Sequence[str] | None = None,
    test_groups: Sequence[str] | None = None,
    unlabelled_groups: Sequence[str] | None = None,
) -> NDArray[np.int64]:
    """Split by groups (events, scenes, blocks), so that no group is in two splits.

    If groups are named, all others are for training. If none is named for validation
    or test, the sorted groups form a ring: of G groups, round(0.2 G) in a row are for
    test and the round(0.1 G) after them for validation, at least one each; every *run*
    starts where the test groups of the previous one ended. Unlabelled groups are left
    out before.

    Args:
        groups: Group of every sample, length N.
        run: Number of the repetition; it has no effect if groups are named.
        split: 'train', 'val' or 'test'; 'unlabelled' if there are such groups.
        val_groups: Groups for validation.
        test_groups: Groups for test.
        unlabelled_groups: Groups that are in none of these, and whose labels are not
            used.

    Returns:
        Ascending positions of the samples of the split, int64, shape (M,).

    Raises:
        SplitError: If a named group does not exist or is in two lists, there are
            fewer than three groups to rotate, *split* is unknown or *run* negative.
    """
    _check_request(split, run, unlabelled=bool(unlabelled_groups))
    groups = list(map(nfc, groups))
    known = sorted(set(groups))
    left = set(map(nfc, unlabelled_groups or ()))
    if val_groups is None and test_groups is None:
        val, test = _rotate([group for group in known if group not in left], run)
    else:
        val, test = set(map(nfc, val_groups or ())), set(map(nfc, test_groups or ()))
    if unknown := sorted((val | test | left) - set(known)):
        raise SplitError(f'Unknown groups {unknown}: the data have {known}.')
    if both := sorted(val & test):
        raise SplitError(
            f'Groups {both} are named for validation and for test: choose one.'
        )
    if both := sorted(left & (val | test)):
        raise SplitError(
            f'Groups {both} are named without labels and for validation or test, which '
            'score labels: choose one.'
        )
    members = {
        'train': set(known) - val - test - left,
        'val': val,
        'test': test,
        UNLABELLED: left,
    }[split]
    return np.flatnonzero([group in members for group in groups])


def read_groups(table: bytes, path: str, column: str, keys: Sequence[Key]) -> list[str]:
    """Look up the group of every sample in a CSV file.

    The table has a column ``file`` or ``stem`` with the name of the sample, with or
    without a suffix and its class ('Forest/Forest_1.tif', 'Forest_1'), and a column of
    groups. If classes share names, a column ``class`` distinguishes them. Subfolders of
    a class ('Forest/north/1.tif') may be given, and must be where a class has the stem
    in several of them. Rows of other files are ignored. With a ``stem_pattern``, the
    name is what the pattern makes of the stem.

    Args:
        table: Content of a CSV file with a header: UTF-8, UTF-16 or Windows-1252.
        path: Name of the file, for messages.
        column: Name of the column of groups.
        keys: Class and name of every sample, in NFC.

    Returns:
        The group of every sample, in the order of *keys*.

    Raises:
        SplitError: If the table cannot be read, a column is missing, a sample has no
            group or two rows contradict each other.
        TextFileError: If the encoding of the table cannot be told.
    """
    names = _Names(keys)
    text, encoding = _decode(table, path)
    rows = _read_table(nfc(text), path, column, names)
    groups = [
        rows.get(key) or rows.get(('', key[1]) if names.clear(key) else key) or ''
        for key in keys
    ]
    if lost := [key for key, group in zip(keys, groups, strict=True) if not group]:
        raise SplitError(
            f'{len(lost)} of {len(keys)} samples have no {column} in {path} '
            f'({first_few(map("/".join, lost))}): add a row for each.{encoding}'
        )
    return groups


def check_split(
    labels: ArrayLike,
    classes: Sequence[str],
    split: str,
    modalities: Sequence[str] = (),
    elsewhere: Collection[str] = (),
) -> None:
    """Refuse a split that is empty, or one for training that lacks a class.

    Scores can be computed without some classes; training needs them all.

    Args:
        labels: Labels of the split, positions in *classes*, shape (M,).
        classes: Names of all classes of the data set.
        split: Name of the split, for the message.
        modalities: The modalities of these samples, for the message.
        elsewhere: Classes that other modalities show in this split, to samples of
            their own.

    Raises:
        SplitError: If there is no sample, or a class has none in the training split,
            of any modality (all such classes are listed).

    Warns:
        UserWarning: If a class has no sample in another split, or in the training
            split, but other modalities show it.
    """
    present = set(np.asarray(labels).tolist())
    if not present:
        raise SplitError(
            f"Split '{split}' is empty: add samples (70/10/20 at random takes 11 of a "
            'class) or choose another split.'
        )
    absent = [name for i, name in enumerate(classes) if i not in present]
    if not absent:
        return
    if split == 'train' and (unseen := [c for c in absent if c not in elsewhere]):
        raise SplitError(
            f"Split '{split}' has no sample of {', '.join(unseen)}: training needs "
            'samples of every class. Add some, draw the splits differently, or take '
            'these classes out of the data altogether (their samples in all splits, '
            'and their names if you list the classes).'
        )
    problem = f"Split '{split}' has no sample of {', '.join(absent)}"
    if split == 'train':
        warnings.warn(
            f'{problem} in {" and ".join(modalities)}, only in other modalities: a '
            'classifier that never sees a class cannot learn it, and will not answer '
            'it. Add samples, or take these classes out of the data.',
            stacklevel=3,
        )
        return
    warnings.warn(f'{problem}: averages over classes leave them out.', stacklevel=3)


def check_split_name(split: str, unlabelled: bool = False) -> None:
    """Refuse a split that is not one of :data:`SPLITS`.

    Args:
        split: The name.
        unlabelled: Whether there is a part without labels, which is a split too.

    Raises:
        SplitError: If it is unknown.
    """
    if split == UNLABELLED and not unlabelled:
        raise SplitError(
            'No samples without labels are named: PairedFolders takes unlabelled= (a '
            'folder) or unlabelled_groups=, PairedArrays takes unlabelled= (an index '
            'file), and other data sets have none.'
        )
    if split not in (*SPLITS, UNLABELLED):
        raise SplitError(f"Unknown split '{split}': choose one of {list(SPLITS)}.")


def _check_request(split: str, run: int, unlabelled: bool = False) -> None:
    check_split_name(split, unlabelled)
    if run < 0:
        raise SplitError(f'run={run}: the number of a repetition is 0 or more.')


def _rotate(known: Sequence[str], run: int) -> tuple[set[str], set[str]]:
    count = len(known)
    if count < 3:
        raise SplitError(
            f'{count} groups {list(known)} cannot make three splits: use three or '
            'more, or another split scheme.'
        )
    test, val = max(1, round(0.2 * count)), max(1, round(0.1 * count))
    ring = [known[(run * test + i) % count] for i in range(count)]
    return set(ring[test : test + val]), set(ring[:test])


class _Names:
    """Names by which a table may call a sample."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._keys = set(keys)
        parts = [(c, name.rpartition('/')) for c, name in keys]
        #: Class and stem of samples whose names include their subfolders.
        self._in_subfolders = {(c, stem) for c, (folder, _, stem) in parts if folder}

    def clear(self, key: Key) -> bool:
        """Return whether a name, without its class, tells a sample of its class."""
        return key not in self._in_subfolders

    def find(self, name: str, class_name: str | None) -> Key:
        """Return the sample of a row, or '' and the name if its class is not known."""
        path = PurePosixPath(name.strip().replace('\\', '/'))
        stem = path.stem if path.suffix.lower() in SUFFIXES else path.name
        parts = (*([class_name] if class_name else []), *path.parts[:-1], stem)
        folders = range(len(parts) - 1)
        exact = ((parts[i], '/'.join(parts[i + 1 :])) for i in folders)
        # subfolders that the name does not need
        loose = ((parts[i], stem) for i in reversed(folders))
        return next(
            (key for key in exact if key in self._keys),
            next(
                (key for key in loose if key in self._keys and self.clear(key)),
                ('', '/'.join(parts)),
            ),
        )


def _decode(table: bytes, path: str) -> tuple[str, str]:
    """Return the text of a table, and what to say of its encoding if names are wrong.

    Spreadsheets write Windows-1252 in Western Europe. In any other encoding of one byte
    per character, groups stay distinct and names match no sample.
    """
    try:
        return decode_text(table, path), ''
    except TextFileError:
        if b'\0' in table:
            raise
        with suppress(UnicodeDecodeError):
            text = table.decode('cp1252')
            return text, ' It is not UTF-8 and was read as Windows-1252.'
        raise


def _records(text: str, path: str) -> tuple[list[str], list[dict[str, str]]]:
    """Return the columns and rows of a CSV file."""
    # spreadsheets separate by what their language does not use in numbers
    delimiter = max(',;\t', key=text.partition('\n')[0].count)
    rows = csv.DictReader(io.StringIO(text, newline=''), delimiter=delimiter)
    try:
        return list(rows.fieldnames or []), list(rows)
    except csv.Error as error:
        line = rows.line_num + 1
        raise SplitError(
            f'{path}, line {line}: {error}: look for a quotation mark that '
            'is not closed, or save the table again as CSV.'
        ) from error


def _read_table(text: str, path: str, column: str, names: _Names) -> dict[Key, str]:
    table: dict[Key, str] = {}
    columns, rows = _records(text, path)
    name = next((n for n in ('file', 'stem') if n in columns), None)
    if name is None or column not in columns:
        raise SplitError(
            f"{path} has the columns {columns}: it needs 'file' or 'stem', and "
            f"'{column}'."
        )
    for row in rows:
        key, group = names.find(row[name] or '', row.get('class')), row[column] or ''
        if table.setdefault(key, group) != group:
            raise SplitError(
                f"{path} puts {row[name]} into '{table[key]}' and '{group}': give "
                "each file one group, or add a column 'class' if classes share "
                'file names.'
            )
    return table

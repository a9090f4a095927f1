# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Groups of samples (events, scenes, blocks) from a table."""

import csv
import io
from collections.abc import Sequence
from pathlib import PurePosixPath

from ..errors import SplitError
from ..rasters.readers import SUFFIXES
from .listing import Key, first_few


def read_groups(table: bytes, path: str, column: str, keys: Sequence[Key]) -> list[str]:
    """Look up the group of every sample in a CSV file.

    The table has a column ``file`` or ``stem`` with the name of the file, with or
    without its suffix and its class ('Forest/Forest_1.tif', 'Forest_1'), and a column
    of groups. A column ``class`` tells apart files of one name in several classes.
    Rows of other files are ignored.

    Args:
        table: Content of a CSV file (UTF-8) with a header.
        path: Name of the file, for messages.
        column: Name of the column of groups.
        keys: Class and stem of every sample.

    Returns:
        The group of every sample, in the order of *keys*.

    Raises:
        SplitError: If a column is missing, a sample has no group or a row contradicts
            another one.
    """
    rows = _read_table(table.decode('utf-8-sig'), path, column)
    groups = [rows.get(key) or rows.get(('', key[1])) or '' for key in keys]
    if lost := [key for key, group in zip(keys, groups, strict=True) if not group]:
        raise SplitError(
            f'{len(lost)} of {len(keys)} samples have no {column} in {path} '
            f'({first_few(map("/".join, lost))}): add a row for each.'
        )
    return groups


def _read_table(text: str, path: str, column: str) -> dict[Key, str]:
    table: dict[Key, str] = {}
    rows = csv.DictReader(io.StringIO(text, newline=''))
    names = rows.fieldnames or []
    name = next((n for n in ('file', 'stem') if n in names), None)
    if name is None or column not in names:
        raise SplitError(
            f"{path} has the columns {list(names)}: it needs 'file' or 'stem', and "
            f"'{column}'."
        )
    for row in rows:
        key, group = _key(row[name] or '', row.get('class')), row[column] or ''
        if table.setdefault(key, group) != group:
            raise SplitError(
                f"{path} puts {row[name]} into '{table[key]}' and '{group}': give "
                "each file one group, or add a column 'class' if classes share "
                'file names.'
            )
    return table


def _key(name: str, class_name: str | None) -> Key:
    path = PurePosixPath(name.strip().replace('\\', '/'))
    stem = path.stem if path.suffix.lower() in SUFFIXES else path.name
    return path.parent.name or class_name or '', stem

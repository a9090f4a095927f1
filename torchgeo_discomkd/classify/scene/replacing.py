# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Replace the files of a map together, or none of them, even across a kill."""

import json
import os
import re
import warnings
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from ...files import write_atomically, writing

#: Name of a folder of parts, see :func:`~torchgeo_discomkd.files.partial_folder`.
_PARTS = re.compile(r'.+\.[a-z0-9_]{8}\.partial')


def replace_together(
    output: Path, parts: Mapping[Path, Path], removed: Iterable[Path]
) -> None:
    """Put finished parts in place of older files.

    All moves are listed in a hidden file first. A process that is killed before leaves
    the older files as they were; if it is killed after, the next run for the same map
    completes the list. The older map is removed first and the new one appears last, so
    that there is never a map next to files of another one.

    Args:
        output: The map.
        parts: Finished part of each file, in a folder of parts next to one of the
            files; the map is the last one.
        removed: Files of the older map that the new one does not have.

    Raises:
        OutputError: If a file cannot be written. The list and the parts are still
            needed then.
    """
    # what a move replaces may be new when the list is completed
    old = [output, *(path for path in removed if path not in parts)]
    listed = {
        'remove': [_relative(output, path) for path in old],
        'move': [
            [_relative(output, part), _relative(output, file)]
            for file, part in parts.items()
        ],
    }
    path = list_path(output)
    with writing(output):
        write_atomically(path, json.dumps(listed).encode())
        # not after the moves, whatever the system delays
        with path.open('rb') as file:
            os.fsync(file.fileno())
    allowed = [*old, *parts]
    try:
        complete(output, allowed)
    except KeyboardInterrupt:
        # the parts are about to be removed
        complete(output, allowed)
        raise


def complete(output: Path, allowed: Collection[Path]) -> None:
    """Do what the list says, as far as it is not done; then remove the list.

    Args:
        output: The map, of which this process is the only writer.
        allowed: Files that may be replaced and removed.

    Raises:
        OutputError: If a file cannot be written.

    Warns:
        UserWarning: If the list is damaged or not of this map. Nothing is moved then.
    """
    path = list_path(output)
    if path.exists():
        found = _read(path, output, {_absolute(file) for file in allowed})
        if found is None:
            warnings.warn(
                f'{path} is damaged or names files that do not belong to {output}: it '
                'is ignored and removed.',
                stacklevel=2,
            )
        else:
            _move(*found)
        with writing(path):
            path.unlink(missing_ok=True)


def list_path(output: Path) -> Path:
    """Return the list, which exists if a run was killed while it put a map in place.

    Args:
        output: The map.
    """
    return output.with_name(f'.{output.name}.replacing.json')


def _read(
    path: Path, output: Path, allowed: Collection[Path]
) -> tuple[list[Path], list[tuple[Path, Path]]] | None:
    """Return the files to remove and the moves; None if the list cannot be trusted."""
    try:
        listed = json.loads(path.read_text(encoding='utf-8'))
        removed = [_absolute(output.parent / name) for name in listed['remove']]
        moves = [
            (_absolute(output.parent / part), _absolute(output.parent / file))
            for part, file in listed['move']
        ]
    except (KeyError, OSError, TypeError, ValueError):
        return None
    folders = {file.parent for file in allowed}
    if not moves or any(
        not _PARTS.fullmatch(part.parent.name) or part.parent.parent not in folders
        for part, _ in moves
    ):
        return None
    targets = {*removed, *(file for _, file in moves)}
    return (removed, moves) if targets <= set(allowed) else None


def _move(removed: list[Path], moves: list[tuple[Path, Path]]) -> None:
    # else the new map is in place already
    if moves[-1][0].exists():
        for file in removed:
            with writing(file):
                file.unlink(missing_ok=True)
    for part, file in moves:
        with writing(file):
            if part.exists():
                part.replace(file)


def _relative(output: Path, path: Path) -> str:
    # the folder may be mounted elsewhere when the list is completed
    return os.path.relpath(_absolute(path), _absolute(output).parent)


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 (without following links)

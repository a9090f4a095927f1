# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Replace the files of a map together, or none of them, even across a kill."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from ...files import write_atomically, writing


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
        parts: Finished part of each file; the map is the last one.
        removed: Files of the older map that the new one does not have.

    Raises:
        OutputError: If a file cannot be written.
    """
    moves = [[str(p.absolute()), str(file.absolute())] for file, p in parts.items()]
    # what a move replaces may be new when the list is completed
    old = [output, *(path for path in removed if path not in parts)]
    listed = {'remove': [str(path.absolute()) for path in old], 'move': moves}
    with writing(output):
        write_atomically(list_path(output), json.dumps(listed).encode())
    try:
        complete(output)
    except KeyboardInterrupt:
        # the parts are about to be removed
        complete(output)
        raise


def complete(output: Path) -> None:
    """Do what the list says, as far as it is not done; then remove the list.

    Args:
        output: The map, of which this process is the only writer.

    Raises:
        OutputError: If a file cannot be written.
    """
    path = list_path(output)
    listed = json.loads(path.read_text(encoding='utf-8'))
    moves = [(Path(part), Path(file)) for part, file in listed['move']]
    # else the new map is in place already
    if moves[-1][0].exists():
        for file in map(Path, listed['remove']):
            with writing(file):
                file.unlink(missing_ok=True)
    for part, file in moves:
        with writing(file):
            if part.exists():
                part.replace(file)
    with writing(path):
        path.unlink(missing_ok=True)


def list_path(output: Path) -> Path:
    """Return the list, which exists if a run was killed while it put a map in place.

    Args:
        output: The map.
    """
    return output.with_name(f'.{output.name}.replacing.json')

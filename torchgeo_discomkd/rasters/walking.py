# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Walk through a folder of images and its subfolders."""

import os
from collections.abc import Collection, Iterator

from .counts import FolderCounts
from .readers import SUFFIXES


def walk_images(
    folder: str, counts: FolderCounts, others: Collection[str] = ()
) -> Iterator[os.DirEntry[str]]:
    """Yield the images in a folder, and then those in its subfolders, sorted by name.

    Images are .tif, .tiff, .png, .jpg, .jpeg and .npy files, in any case. Hidden files
    and folders are left, and so are links to a folder that contains them.

    Args:
        folder: The folder.
        counts: Counts the files and folders that are left.
        others: Paths of subfolders, below *folder*, to leave without counting them.

    Yields:
        The entry of each image. A broken link is not told from a file.
    """
    # a folder, and the real paths of the folders that led to it
    waiting: list[tuple[str, tuple[str, ...]]]
    waiting = [(folder, (os.path.realpath(folder),))]
    while waiting:
        path, chain = waiting.pop()
        subfolders = []
        for entry in _scan(path, counts):
            if entry.is_dir():
                subfolders.append(entry)
            elif entry.name[0] == '.':
                counts.left['hidden'] += 1
            elif entry.name.lower().endswith(SUFFIXES):
                yield entry
            else:
                counts.suffixes[os.path.splitext(entry.name)[1].lower()] += 1  # noqa: PTH122
        for entry in reversed(subfolders):
            if entry.path in others:
                continue
            if real := _real_path(entry, chain, counts):
                waiting.append((entry.path, (*chain, real)))


def _scan(path: str, counts: FolderCounts) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        counts.folders['not readable'] += 1
        return []


def _real_path(
    entry: os.DirEntry[str], chain: tuple[str, ...], counts: FolderCounts
) -> str | None:
    """Return the real path of a subfolder; None if it must not be entered."""
    if entry.name[0] == '.':
        counts.folders['hidden'] += 1
        return None
    if not entry.is_symlink():
        return os.path.join(chain[-1], entry.name)  # noqa: PTH118
    real = os.path.realpath(entry.path)
    if any(os.path.join(folder, '').startswith(f'{real}{os.sep}') for folder in chain):  # noqa: PTH118
        counts.folders['linked in a circle'] += 1
        return None
    return real

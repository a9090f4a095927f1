# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Walk through a folder of images and its subfolders."""

import os
from collections.abc import Collection, Iterator
from typing import Literal

from .counts import FolderCounts
from .readers import SUFFIXES

#: What an entry of a folder is.
Kind = Literal['file', 'folder', 'special', 'broken']


def walk_images(
    folder: str, counts: FolderCounts, others: Collection[str] = ()
) -> Iterator[os.DirEntry[str]]:
    """Yield the images in a folder, and then those in its subfolders, sorted by name.

    Images are .tif, .tiff, .png, .jpg, .jpeg and .npy files, in any case. Hidden files
    and folders are left, and so are FIFOs, sockets and devices. Links to folders are
    followed after all others, unless their folder was entered before or contains them.

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
    links: list[tuple[str, tuple[str, ...]]] = []
    entered: set[str] = set()
    while waiting or links:
        path, chain = waiting.pop() if waiting else links.pop(0)
        if chain[-1] in entered:
            counts.folders['linked twice'] += 1
            continue
        entered.add(chain[-1])
        subfolders = []
        for entry in _scan(path, counts):
            kind = kind_of(entry)
            if kind == 'folder':
                subfolders.append(entry)
            elif entry.name[0] == '.':
                counts.left['hidden'] += 1
            elif not entry.name.lower().endswith(SUFFIXES):
                counts.suffixes[os.path.splitext(entry.name)[1].lower()] += 1  # noqa: PTH122
            elif kind == 'special':
                counts.left['no regular files'] += 1
            else:
                yield entry
        below = [
            (entry, (entry.path, (*chain, real)))
            for entry in subfolders
            if entry.path not in others and (real := _real_path(entry, chain, counts))
        ]
        waiting += [item for entry, item in reversed(below) if not entry.is_symlink()]
        links += [item for entry, item in below if entry.is_symlink()]


def _scan(path: str, counts: FolderCounts) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        counts.folders['not readable'] += 1
        return []


def kind_of(entry: os.DirEntry[str]) -> Kind:
    """Return what an entry of a folder is, or what it links to.

    Args:
        entry: The entry.

    Returns:
        'file', 'folder', 'special' (a FIFO, a socket or a device), or 'broken': a link
        to nothing, or to itself.
    """
    try:
        if entry.is_dir():
            return 'folder'
        if entry.is_file():
            return 'file'
        entry.stat()
    except OSError:
        return 'broken'
    return 'special'


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

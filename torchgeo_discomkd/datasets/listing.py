# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Lists of the tiles in ``<modality>/<Class>/<stem>.<suffix>`` folders."""

import hashlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import LayoutError, PairingError
from ..rasters.readers import SUFFIXES

#: Class and stem: what the files of one sample have in common.
Key = tuple[str, str]

# How many examples a message lists and how many files a fingerprint reads in part.
_EXAMPLES = 5
_SAMPLES = 32
_SAMPLE_BYTES = 2**16


def list_tiles(folder: Path) -> dict[Key, str]:
    """List the images of one modality.

    Hidden files, files of other kinds and folders without images are ignored.

    Args:
        folder: Folder that holds one folder for each class.

    Returns:
        The suffix of the file for every (class, stem); empty if there is none.

    Raises:
        PairingError: If two files of a class have the same stem.
    """
    tiles: dict[Key, str] = {}
    for class_name in _subfolders(folder):
        for stem, suffix in _images(folder / class_name):
            other = tiles.setdefault((class_name, stem), suffix)
            if other != suffix:
                raise PairingError(
                    f'{folder / class_name} holds {stem}{other} and {stem}{suffix}: '
                    'keep one file for each stem.'
                )
    return tiles


def find_folders(
    root: Path, folders: Mapping[str, str] | None, modalities: Sequence[str] | None
) -> dict[str, str]:
    """Find the folder of every modality.

    Args:
        root: Folder that holds the folders of the modalities.
        folders: Folder below *root* for each modality. None stands for every folder
            that holds folders of images, a modality of its own name.
        modalities: Modalities that are needed in any case.

    Returns:
        Folder below *root* for each modality.

    Raises:
        LayoutError: If there is no *root*, or nothing in it and none was named.
    """
    layout = f'{root}/<modality>/<Class>/<stem>.tif (or .png, .jpg, .npy)'
    if not root.is_dir():
        raise LayoutError(
            f'There is no folder {root}: give the folder of your data as root; its '
            f'tiles must be at {layout}.'
        )
    if folders is not None:
        return dict(folders)
    names = [name for name in _subfolders(root) if _holds_classes(root / name)]
    names += [name for name in modalities or () if name not in names]
    if not names:
        raise LayoutError(
            f'{root} holds no folder with class folders with images: tiles must be at '
            f'{layout}.'
        )
    return {name: name for name in names}


def check_folders(root: Path, needed: Mapping[str, str], held: Collection[str]) -> None:
    """Refuse modalities without tiles.

    Args:
        root: Folder that holds the folders of the modalities.
        needed: Folder below *root* for each modality that is needed.
        held: Modalities that have tiles.

    Raises:
        LayoutError: If a modality has none.
    """
    for modality, folder in needed.items():
        if modality not in held:
            path = root / folder
            empty = 'holds no class folders with images'
            state = empty if path.is_dir() else 'does not exist'
            raise LayoutError(
                f"The folder {path} of modality '{modality}' {state}: its tiles must "
                f'be at {path}/<Class>/<stem>.tif (or .png, .jpg, .npy).'
            )


def complete_samples(tiles: Mapping[str, Mapping[Key, Any]]) -> set[Key]:
    """Return the samples that every modality has.

    Args:
        tiles: The tiles of each modality.

    Returns:
        Their (class, stem).
    """
    first, *others = tiles.values()
    return set(first).intersection(*others)


def describe_incomplete(tiles: Mapping[str, Mapping[Key, Any]]) -> str | None:
    """Say which samples some modalities lack.

    Args:
        tiles: The tiles of each modality.

    Returns:
        A message with numbers and examples; None if all modalities are complete.
    """
    union = set().union(*tiles.values())
    lacking = {
        m: sorted(union - t.keys()) for m, t in tiles.items() if union - t.keys()
    }
    if not lacking:
        return None
    count = len(union) - len(complete_samples(tiles))
    parts = [
        f'{m} lacks {len(keys)} ({first_few(map("/".join, keys))})'
        for m, keys in lacking.items()
    ]
    return f'{count} of {len(union)} samples are not in every modality: ' + '; '.join(
        parts
    )


def hash_files(root: Path, paths: Iterable[str]) -> str:
    """Hash names and sizes of files, and the beginning of some of them.

    The content of up to 32 files spread over the list is included, because tiles
    that were scaled anew keep their names and sizes.

    Args:
        root: Folder the paths start from; not part of the hash.
        paths: Paths below *root*.

    Returns:
        16 hexadecimal digits that do not depend on machine, folder or time.
    """
    names = sorted(paths)
    digest = hashlib.sha256()
    for name in names:
        digest.update(f'{name}\t{(root / name).stat().st_size}\n'.encode())
    for name in names[:: max(1, -(-len(names) // _SAMPLES))]:
        with (root / name).open('rb') as file:
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:16]


def first_few(values: Iterable[object]) -> str:
    """Return the first few of many values as text, for a message.

    Args:
        values: What to list.

    Returns:
        For example 'Forest_1, Forest_2, Forest_3, Forest_4, Forest_5, ...'.
    """
    names = [str(value) for value in values]
    return ', '.join(names[:_EXAMPLES]) + (', ...' if len(names) > _EXAMPLES else '')


def _holds_classes(folder: Path) -> bool:
    return any(
        next(_images(folder / name), None) is not None for name in _subfolders(folder)
    )


def _subfolders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and e.name[0] != '.')


def _images(folder: Path) -> Iterator[tuple[str, str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            stem, dot, suffix = entry.name.rpartition('.')
            known = (dot + suffix).lower() in SUFFIXES
            if known and stem and stem[0] != '.' and entry.is_file():
                yield stem, dot + suffix

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Folders whose tiles have no labels."""

from collections.abc import Iterable, Mapping, Sequence

from ..errors import LayoutError, SettingError, SplitError
from .naming import nfc
from .stores import Key, StoredImages, first_few, tiles_folder

#: Tiles of each modality: class and name, and their rows.
Tiles = dict[str, dict[Key, int]]


def check_unlabelled_options(
    unlabelled: str | None,
    unlabelled_groups: Sequence[str] | None,
    split_scheme: str,
    classes: Sequence[str] | None,
) -> None:
    """Check the options that name samples without labels in folders.

    Args:
        unlabelled: Folder of such tiles.
        unlabelled_groups: Groups of such tiles.
        split_scheme: How splits are drawn.
        classes: Names of the classes, if they are given.

    Raises:
        SettingError: If they contradict each other.
    """
    if unlabelled_groups and unlabelled is not None:
        raise SettingError(
            f'unlabelled={unlabelled!r} and unlabelled_groups='
            f'{list(unlabelled_groups)}: give one of the two.'
        )
    if unlabelled_groups and split_scheme != 'groups':
        raise SettingError(
            f"unlabelled_groups={list(unlabelled_groups)} needs split_scheme='groups', "
            f'not {split_scheme!r}: set it, or name a folder with unlabelled=.'
        )
    if unlabelled is None:
        return
    if unlabelled in {'', '.', '..'} or '/' in unlabelled:
        raise SettingError(
            f'unlabelled={unlabelled!r}: give the name of a folder inside the folder '
            'of every modality.'
        )
    if nfc(unlabelled) in map(nfc, classes or ()):
        raise SettingError(
            f'unlabelled={unlabelled!r} is also one of classes={list(classes or ())}: '
            'remove it there, or name another folder.'
        )


def separate_unlabelled(
    images: Mapping[str, StoredImages], tiles: Mapping[str, Tiles], name: str, base: str
) -> Tiles:
    """Take the tiles without labels out of the tiles of all classes.

    Args:
        images: The images of every modality.
        tiles: The tiles of every base; those without labels are removed.
        name: Folder of the tiles without labels, in NFC.
        base: The base that they belong to, the one for training.

    Returns:
        The tiles without labels of every modality on disk.

    Raises:
        LayoutError: If they lie in subfolders, or in another base.
    """
    found: Tiles = {}
    for place, held in tiles.items():
        for modality in list(held):
            own = {key: row for key, row in held[modality].items() if key[0] == name}
            for key in own:
                del held[modality][key]
            if not held[modality]:
                del held[modality]
            paths = images[modality].paths
            top = nfc(f'{tiles_folder(place, images[modality].folder)}/{name}')
            _check_places([paths[row] for row in own.values()], top, place == base)
            if place == base:
                found[modality] = own
    return found


def _check_places(paths: Sequence[str], top: str, belong: bool) -> None:
    top = top.removeprefix('/')
    if paths and not belong:
        raise LayoutError(
            f'{top} holds {len(paths)} tiles without labels, but only the training '
            'split may have some: move the folder there.'
        )
    if deep := [path for path in paths if nfc(path.rpartition('/')[0]) != top]:
        raise LayoutError(
            f'{top} has subfolders with tiles ({first_few(deep)}): tiles without '
            'labels lie directly in it. If these are classes, it is another modality '
            'or split; else move the tiles up.'
        )


def check_found(
    tiles: Tiles, images: Mapping[str, StoredImages], needed: Iterable[str], place: str
) -> None:
    """Check that every modality that is needed has tiles without labels.

    Args:
        tiles: What :func:`separate_unlabelled` returned.
        images: The images of every modality.
        needed: The modalities that samples hold.
        place: The folder, relative to that of a modality, for messages.

    Raises:
        LayoutError: If a modality has none, but another one has some.
        SplitError: If there is none at all.
    """
    if not any(tiles.values()):
        raise SplitError(
            f'unlabelled={place!r}: no modality has tiles in a folder of that name '
            f'({", ".join(f"{i.folder}/{place}" for i in images.values())}). Correct '
            'the name, or leave the option out.'
        )
    if lacking := [m for m in needed if not tiles.get(m)]:
        raise LayoutError(
            f'unlabelled={place!r}: {", ".join(lacking)} has no tiles in '
            f'{", ".join(f"{images[m].folder}/{place}" for m in lacking)}, but '
            f'{", ".join(m for m in tiles if tiles[m])} has: add those of the same '
            'places, or leave the modality out.'
        )

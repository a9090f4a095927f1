# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Match the tiles of several sensors by name."""

import re
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from unicodedata import normalize

from ..errors import LayoutError, ModalityError, PairingError, SettingError
from ..rasters.finding import ImageFiles, read_lines
from .scene.folder import scene_name


@dataclass(frozen=True, slots=True)
class SensorTile:
    """The images of one tile.

    Attributes:
        images: Its images by modality, at least one.
        skipped: Modalities of images that are not to be used.

    Example:
        >>> from torchgeo_discomkd.rasters.finding import ImageFiles
        >>> images = {m: ImageFiles((f'{m}/a.tif',)) for m in ('ms', 'sar')}
        >>> SensorTile(images, frozenset({'ms'})).path
        'ms/a.tif;sar/a.tif'
    """

    images: Mapping[str, ImageFiles]
    skipped: frozenset[str] = field(default=frozenset())

    @property
    def path(self) -> str:
        """The paths of its images as in tables, joined by ';'."""
        return ';'.join(files.name for files in self.images.values())


def match_tiles(
    images: Mapping[str, Sequence[ImageFiles]],
    patterns: Mapping[str, str] | None = None,
    skip: Mapping[str, Collection[str]] | None = None,
) -> list[SensorTile]:
    """Match the images of several modalities by the stems of their files.

    If a modality has a stem in several folders, the names of folders count as well, as
    many as it takes to tell all images of a modality apart. Names are compared in
    Unicode's composed form.

    Args:
        images: The images by modality.
        patterns: For a modality, a regular expression for stems: the groups of a stem
            that it matches as a whole, joined by '_', are its name. Other stems stay as
            they are.
        skip: For a modality, names, stems or paths of tiles whose image is not to be
            used, for example because of clouds.

    Returns:
        One tile for each name, in an order that keeps that of each modality if their
        orders agree.

    Raises:
        LayoutError: If *skip* names no tile of its modality.
        ModalityError: If *patterns* or *skip* name an unknown modality.
        PairingError: If no tile has images of several modalities.
        SettingError: If a pattern is not a regular expression, or matches no stem.

    Warns:
        UserWarning: If some names in *skip* are those of no tile.

    Example:
        >>> from torchgeo_discomkd.rasters.finding import ImageFiles
        >>> ms = [ImageFiles((f'S2/{name}.tif',)) for name in ('a', 'b')]
        >>> sar = [ImageFiles((f'S1/{name}.tif',)) for name in ('b', 'c')]
        >>> for tile in match_tiles({'ms': ms, 'sar': sar}):
        ...     print(tile.path)
        S2/a.tif
        S2/b.tif;S1/b.tif
        S1/c.tif
    """
    for what, given in (('stem_pattern', patterns), ('skip', skip)):
        if unknown := sorted(set(given or {}) - set(images)):
            raise ModalityError(
                f'{what}: there is no classifier of {unknown[0]!r}, only of '
                f'{list(images)}.'
            )
    named = _name({m: _parts(m, i, (patterns or {}).get(m)) for m, i in images.items()})
    tiles = {m: dict(zip(named[m], images[m], strict=True)) for m in images}
    shared = max(Counter(name for own in tiles.values() for name in own).values())
    if len(images) > 1 and shared < 2:
        examples = ', '.join(f'{m}: {next(iter(t))}' for m, t in tiles.items())
        raise PairingError(
            f'no tile has images of several modalities: the names are different '
            f'({examples}). Files of a tile need the same stem; if only a part of it '
            "is the same, say which: --stem-pattern 'ms=(.+)_s2'."
        )
    unused = {
        m: _skipped(m, tiles[m], names) for m, names in (skip or {}).items() if names
    }
    return [
        SensorTile(
            {m: tiles[m][name] for m in images if name in tiles[m]},
            frozenset(m for m, names in unused.items() if name in names),
        )
        for name in _merge(tiles.values())
    ]


def read_names(path: str) -> list[str]:
    """Read a list of tiles, one name or path on each line.

    Args:
        path: Text file; empty lines and those that begin with ``#`` are ignored.

    Returns:
        The names.

    Raises:
        LayoutError: If it cannot be read, or lists nothing.
    """
    names = [line for line in read_lines(path) if line[:1] not in '#']
    if not names:
        raise LayoutError(f'{path} lists no tile: write one name per line.')
    return names


def _parts(
    modality: str, images: Sequence[ImageFiles], pattern: str | None
) -> list[tuple[str, ...]]:
    """Return folders and name of every image."""
    stems = [normalize('NFC', scene_name(files)) for files in images]
    if pattern is not None:
        stems = _apply(modality, stems, pattern)
    folders = [
        Path(normalize('NFC', files.paths[0])).absolute().parent.parts
        for files in images
    ]
    return [(*folder, stem) for folder, stem in zip(folders, stems, strict=True)]


def _apply(modality: str, stems: Sequence[str], pattern: str) -> list[str]:
    try:
        matches = [re.fullmatch(normalize('NFC', pattern), stem) for stem in stems]
    except re.error as error:
        raise SettingError(
            f"stem_pattern of '{modality}' is {pattern!r}, which is not a regular "
            f'expression ({error}): correct it, for example (.+)_s2.'
        ) from error
    if not any(matches):
        raise SettingError(
            f"stem_pattern of '{modality}', {pattern}, matches none of its "
            f'{len(stems)} stems, such as {stems[0]}: it must match the whole stem.'
        )
    return [
        '_'.join(g for g in match.groups() if g) or stem if match else stem
        for match, stem in zip(matches, stems, strict=True)
    ]


def _name(parts: Mapping[str, Sequence[tuple[str, ...]]]) -> dict[str, list[str]]:
    """Return names that are unique in each modality, as short as possible."""
    longest = max(len(of) for images in parts.values() for of in images)
    for count in range(1, longest + 1):
        named = {
            m: ['/'.join(of[-count:]) for of in images] for m, images in parts.items()
        }
        if all(len(set(names)) == len(names) for names in named.values()):
            return named
    [(modality, name)] = [
        (m, Counter(names).most_common(1)[0][0])
        for m, names in named.items()
        if len(set(names)) < len(names)
    ][:1]
    raise PairingError(
        f"two images of '{modality}' have the name {name}: leave out one of them."
    )


def _skipped(
    modality: str, tiles: Mapping[str, ImageFiles], names: Collection[str]
) -> set[str]:
    """Return the tiles that a user's list names, by name or path."""
    wanted = {normalize('NFC', name) for name in names}
    found, known = set[str](), set[str]()
    for name, files in tiles.items():
        paths = [normalize('NFC', path) for path in files.paths]
        names_of_tile = {name, name.rpartition('/')[2], *paths}
        names_of_tile |= {Path(path).name for path in paths}
        # the stem before its pattern
        names_of_tile.add(normalize('NFC', scene_name(files)))
        if not wanted.isdisjoint(names_of_tile):
            found.add(name)
            known |= wanted & names_of_tile
    if not found:
        raise LayoutError(
            f"skip: none of the {len(wanted)} names is that of a tile of '{modality}', "
            f'such as {next(iter(tiles))}: write one name or path of a tile per line.'
        )
    if unknown := sorted(wanted - known):
        warnings.warn(
            f'skip: {len(unknown)} of {len(wanted)} names are those of no tile of '
            f"'{modality}', such as {unknown[0]}: nothing is skipped for them.",
            stacklevel=3,
        )
    return found


def _merge(lists: Iterable[Iterable[str]]) -> list[str]:
    """Merge lists of names; each new name follows its predecessor."""
    following: dict[str | None, str | None] = {None: None}
    for names in lists:
        before = None
        for name in names:
            if name not in following:
                following[name] = following[before]
                following[before] = name
            before = name
    merged, name = [], following[None]
    while name is not None:
        merged.append(name)
        name = following[name]
    return merged

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""From the paths of labelled tiles to the names of their samples."""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

from ..errors import LayoutError, PairingError, SettingError
from .stores import Key, StoredImages, tiles_folder

#: Compiled ``stem_pattern`` of some modalities.
Patterns = Mapping[str, re.Pattern[str]]


def nfc(text: str) -> str:
    """Return the composed Unicode form of a text, in which names are compared.

    File systems and archives keep 'ê' as one character or as 'e' with an accent.

    Args:
        text: Any text.
    """
    return text if text.isascii() else unicodedata.normalize('NFC', text)


def compile_patterns(patterns: Mapping[str, str] | None) -> dict[str, re.Pattern[str]]:
    """Compile the patterns of stems.

    Args:
        patterns: Regular expression for each modality that has one.

    Raises:
        SettingError: If one is not a regular expression.
    """
    compiled = {}
    for modality, pattern in (patterns or {}).items():
        try:
            compiled[modality] = re.compile(nfc(pattern))
        except re.error as error:
            raise SettingError(
                f"stem_pattern of '{modality}' is {pattern!r}, which is not a regular "
                f'expression ({error}): correct it, for example (.+)_s1_(.+).'
            ) from error
    return compiled


def sample_name(stem: str, pattern: re.Pattern[str] | None) -> str | None:
    """Return the name that a stem gives to its sample.

    Args:
        stem: The stem of a file.
        pattern: Pattern of its modality; None if it has none.

    Returns:
        The groups of the pattern, joined by '_'; the stem if there are none; None if
        the pattern does not match the whole stem. In NFC.
    """
    stem = nfc(stem)
    if pattern is None:
        return stem
    match = pattern.fullmatch(stem)
    if match is None:
        return None
    return '_'.join(g for g in match.groups() if g) if pattern.groups else stem


def matching_paths(
    modality: str, paths: Sequence[str], pattern: re.Pattern[str] | None
) -> Sequence[str]:
    """Return the paths whose stems match the pattern of their modality.

    Args:
        modality: The modality.
        paths: Paths of its tiles.
        pattern: Its pattern; None if it has none.

    Raises:
        LayoutError: If there are paths and none matches.
    """
    if pattern is None:
        return paths
    found = [path for path in paths if sample_name(_stem(path), pattern)]
    if paths and not found:
        raise LayoutError(
            f"stem_pattern of '{modality}', {pattern.pattern}, matches none of its "
            f'{len(paths)} stems, such as {_stem(paths[0])}: it must match the whole '
            'stem.'
        )
    return found


def name_tiles(
    images: Mapping[str, StoredImages], base: str, patterns: Patterns
) -> dict[str, dict[Key, int]]:
    """Name the tiles at ``<base>/<folder>/<Class>/[<subfolders>/]<stem><suffix>``.

    Subfolders of a class are part of a name only if the class has the name in several
    of them, in any modality.

    Args:
        images: The images of every modality.
        base: Folder of the split, or empty.
        patterns: Pattern of the stems of each modality that has one.

    Returns:
        The row for every (class, name), for each modality that has tiles.

    Raises:
        PairingError: If two files in a folder have one name.
    """
    parts = {m: list(_parts(i, base, patterns.get(m))) for m, i in images.items()}
    repeated = {key for found in parts.values() for key in _repeated(found)}
    tiles: dict[str, dict[Key, int]] = {}
    for modality, found in parts.items():
        rows: dict[Key, int] = {}
        for row, class_name, subfolders, name in found:
            key = class_name, name
            if subfolders and key in repeated:
                key = class_name, f'{subfolders}/{name}'
            if (other := rows.setdefault(key, row)) != row:
                paths = images[modality].paths
                raise _same_name(key, paths[other], paths[row])
        if rows:
            tiles[modality] = rows
    return tiles


def _parts(
    images: StoredImages, base: str, pattern: re.Pattern[str] | None
) -> Iterator[tuple[int, str, str, str]]:
    """Yield row, class, subfolders and name of every tile, in NFC."""
    start = tiles_folder(base, images.folder)
    prefix = f'{start}/' if start else ''
    places: dict[str, tuple[str, str]] = {}
    for row, path in enumerate(images.paths):
        folder, _, file = path.rpartition('/')
        if folder not in places:
            inside = folder[len(prefix) :] if folder.startswith(prefix) else ''
            class_name, _, subfolders = nfc(inside).partition('/')
            places[folder] = class_name, subfolders
        class_name, subfolders = places[folder]
        name = sample_name(file.rpartition('.')[0], pattern)
        if class_name and name:
            yield row, class_name, subfolders, name


def _repeated(parts: Sequence[tuple[int, str, str, str]]) -> Iterator[Key]:
    """Yield class and name of tiles that are in several folders of the class."""
    if not any(subfolders for _, _, subfolders, _ in parts):
        return
    first: dict[Key, str] = {}
    for _, class_name, subfolders, name in parts:
        key = class_name, name
        if first.setdefault(key, subfolders) != subfolders:
            yield key


def _stem(path: str) -> str:
    return path.rpartition('/')[2].rpartition('.')[0]


def _same_name(key: Key, one: str, other: str) -> PairingError:
    equal = nfc(one) == nfc(other)
    hint = ' (they differ in the Unicode form of their letters)' if equal else ''
    return PairingError(
        f'{one} and {other}{hint} are both the sample {"/".join(key)}: keep one file '
        'for each name in a folder.'
    )

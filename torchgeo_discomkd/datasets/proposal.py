# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Propose patterns for stems that differ only in the part that names the sensor."""

import re
from collections.abc import Collection, Iterable, Mapping
from itertools import product

from .naming import sample_name
from .stores import Key

# Number of parts of the stems of a modality that are tried.
_TRIED = 4


def propose_patterns(tiles: Mapping[str, Collection[Key]]) -> dict[str, str] | None:
    """Find the ``stem_pattern`` that makes the samples of several modalities meet.

    Stems consist of parts between '_' or '-'. A pattern leaves out one part that all
    stems of a modality have, but not those of every modality.

    Args:
        tiles: Class and name of the tiles of each modality.

    Returns:
        A pattern for each modality that needs one; None if none brings more samples
        together than the plain names.
    """
    stems = {m: {name.rpartition('/')[2] for _, name in t} for m, t in tiles.items()}
    common = {m: _common_parts(s) for m, s in stems.items()}
    everywhere = set.intersection(*map(set, common.values()))
    named: dict[str, dict[str, set[Key]]] = {}
    for modality, keys in tiles.items():
        parts = [p for p in common[modality] if p not in everywhere][:_TRIED]
        patterns = [_pattern(min(stems[modality]), part) for part in parts]
        found = {pattern: _rename(keys, pattern) for pattern in patterns}
        named[modality] = {'': set(keys)} | {p: k for p, k in found.items() if k}
    best, most = None, len(set.intersection(*(set(k) for k in tiles.values())))
    for chosen in product(*(found.items() for found in named.values())):
        together = len(set.intersection(*(keys for _, keys in chosen)))
        if together > most:
            most = together
            patterns = zip(tiles, (pattern for pattern, _ in chosen), strict=True)
            best = {modality: pattern for modality, pattern in patterns if pattern}
    return best


def _common_parts(stems: Iterable[str]) -> list[str]:
    """Return the parts that all stems have, in the order of the first one."""
    first, *others = sorted(stems)
    parts = dict.fromkeys(_parts(first)[::2])
    for stem in others:
        held = set(_parts(stem)[::2])
        parts = {part: None for part in parts if part in held}
    return list(parts)


def _parts(stem: str) -> list[str]:
    """Return the parts of a stem, with the separators between them."""
    return re.split('([_-])', stem)


def _pattern(stem: str, part: str) -> str:
    """Return the pattern that leaves out a part, as it stands in *stem*."""
    parts = _parts(stem)
    place = parts.index(part)
    before = f'(.+){parts[place - 1]}' if place else ''
    after = f'{parts[place + 1]}(.+)' if place + 1 < len(parts) else ''
    return f'{before}{re.escape(part)}{after}'


def _rename(keys: Collection[Key], pattern: str) -> set[Key] | None:
    """Return the keys by a pattern; None unless it names them all, differently."""
    compiled = re.compile(pattern)
    renamed = set()
    for class_name, name in keys:
        folder, slash, stem = name.rpartition('/')
        found = sample_name(stem, compiled)
        if found is None:
            return None
        renamed.add((class_name, f'{folder}{slash}{found}'))
    return renamed if len(renamed) == len(keys) else None

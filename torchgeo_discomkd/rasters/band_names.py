# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Names of bands as they circulate, and when two of them mean the same band."""

import re
from collections.abc import Sequence
from functools import lru_cache

# 'vv', 'IVV', 'sigma0vv', 'vvdb': a part of a name between separators
_POLARIZATION = re.compile(
    r'(?:i|q|s0|g0|b0|(?:sigma|gamma|beta)0?|amp|amplitude|int|intensity|db|lin)?'
    r'(vv|vh|hv|hh)'
    r'(?:db|lin|linear|power|amp|amplitude|\d+)?'
)

# 'B1', 'B01' and 'b8a': bands of Sentinel-2
_OPTICAL = re.compile(r'b0*(\d+a?)')

# 'Band 1', 'band_2', '3': says no more than the position
_NUMBER = re.compile(r'(?:band|layer|channel|bd|b|)[ _-]*0*(\d+)', re.IGNORECASE)


def polarization(name: str) -> str | None:
    """Return the polarization that the name of a Sentinel-1 band or file states.

    Args:
        name: For example 'VV', 'Sigma0_VV_db', 'Gamma0_VH', 'MS1_IVV' or
            's1a-iw-grd-vv-20210101t053400-001'.

    Returns:
        'VV', 'VH', 'HV' or 'HH'; None if the name states none, or several.
    """
    parts = re.split(r'[^a-z0-9]+', name.casefold())
    found = {m[1].upper() for part in parts if (m := _POLARIZATION.fullmatch(part))}
    return found.pop() if len(found) == 1 else None


@lru_cache(4096)
def canonical(name: str) -> str:
    """Return one name for all that mean the same band.

    Args:
        name: Name of a band.

    Returns:
        The polarization of a Sentinel-1 band, 'b1' for 'B01', else *name* in lower
        case.
    """
    if (found := polarization(name)) is not None:
        return found
    match = _OPTICAL.fullmatch(name.casefold())
    return f'b{match[1]}' if match else name.casefold()


def is_backscatter(bands: Sequence[str]) -> bool:
    """Return whether the names of bands say that they hold SAR backscatter.

    Args:
        bands: The names.
    """
    return bool(bands) and all(polarization(band) for band in bands)


def is_optical(name: str) -> bool:
    """Return whether a name is that of a band of Sentinel-2, such as 'B1' or 'b8a'.

    Args:
        name: Name of a band, or a part of a file's name.
    """
    return _OPTICAL.fullmatch(name.casefold()) is not None


def only_numbered(names: Sequence[str]) -> bool:
    """Return whether names say nothing but the position: 'B1', 'B2' or 'Band 1', ...

    Args:
        names: Names of all bands, in order.
    """
    matches = [_NUMBER.fullmatch(name) for name in names]
    return all(m is not None and int(m[1]) == i for i, m in enumerate(matches, 1))


def clean_names(names: Sequence[str | None]) -> tuple[str, ...] | None:
    """Return the names that a file gives to its bands.

    Args:
        names: Name of each band, None or empty if it has none.

    Returns:
        The names, empty for bands without one; None if the file names no band.
    """
    cleaned = tuple((name or '').strip() for name in names)
    return cleaned if any(cleaned) else None


def find_band(wanted: str, names: Sequence[str]) -> list[int]:
    """Find a band by its name.

    The same name counts most, whatever its case; then one that means the same, such as
    'Sigma0_VV_db' for 'VV'; then one that contains it between separators.

    Args:
        wanted: Name of the band.
        names: Names of all bands, empty for bands without one.

    Returns:
        Positions of the bands that match best, the first being 0; several if the name
        is ambiguous.
    """
    key = wanted.casefold()
    for matches in (
        lambda name: name.casefold() == key,
        lambda name: canonical(name) == canonical(wanted),
        lambda name: key in re.split(r'[^a-z0-9]+', name.casefold()),
    ):
        if found := [i for i, name in enumerate(names) if name and matches(name)]:
            return found
    return []


def contradict(names: Sequence[str], expected: Sequence[str]) -> bool:
    """Return whether a file names other bands than those expected at their positions.

    Only bands of Sentinel-1 and Sentinel-2 are recognised, by all their names; any
    other text may be another word for the same band.

    Args:
        names: Names in the file, empty for bands without one.
        expected: Names that are expected, as many; names that only number the bands
            contradict none.
    """
    return not only_numbered(expected) and any(
        _is_known(name) and _is_known(other) and canonical(name) != canonical(other)
        for name, other in zip(names, expected, strict=True)
    )


def _is_known(name: str) -> bool:
    return bool(polarization(name)) or is_optical(name)

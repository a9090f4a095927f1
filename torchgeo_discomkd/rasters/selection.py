# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Find the bands that a classifier needs in a file."""

import re
from collections.abc import Sequence

from ..errors import BandError


def select_bands(
    descriptions: Sequence[str] | None,
    count: int,
    wanted: Sequence[str],
    override: Sequence[str] | None = None,
) -> list[int]:
    """Find bands by name if the file names them, otherwise by order.

    Case is ignored. A longer name matches too if it contains the wanted one between
    separators, as in 'Sigma0_VV_db', and no second band matches.

    Args:
        descriptions: Names of all bands of the file, in order; None if it has none.
        count: Number of bands of the file.
        wanted: Names of the bands that the classifier needs, in its order.
        override: The file's band for each of *wanted*, as stated by the user: names, or
            numbers, the first being 1. It takes precedence over names and order.

    Returns:
        Positions of the bands in the file, the first being 0, in the order of *wanted*.

    Raises:
        BandError: If a band is missing, or the file names none of them and its number
            of bands is not that of *wanted*.

    Example:
        >>> select_bands(('Sigma0_VH_db', 'Sigma0_VV_db'), 2, wanted=('VV', 'VH'))
        [1, 0]
        >>> select_bands(None, 3, wanted=('VV', 'VH'), override=('3', '1'))
        [2, 0]
    """
    if override is not None:
        return _overridden(descriptions, count, wanted, override)
    found = [_position(name, descriptions or ()) for name in wanted]
    complete = [position for position in found if position is not None]
    if len(complete) == len(wanted) == len(set(complete)):
        return complete
    if complete or count != len(wanted):
        raise BandError(
            f'{_describe(descriptions, count)}, but the classifier needs '
            f'{len(wanted)} ({", ".join(wanted)}): give images with these bands, or '
            'state which ones to use with --bands (numbers from 1, or names).'
        )
    return list(range(count))


def named_bands(descriptions: Sequence[str] | None, wanted: Sequence[str]) -> bool:
    """Return whether a file names all wanted bands, so that their order is certain.

    Args:
        descriptions: Names of all bands of the file, in order; None if it has none.
        wanted: Names of the bands that the classifier needs.

    Returns:
        True if it names every wanted band.
    """
    return all(_position(name, descriptions or ()) is not None for name in wanted)


def _overridden(
    descriptions: Sequence[str] | None,
    count: int,
    wanted: Sequence[str],
    override: Sequence[str],
) -> list[int]:
    if len(override) != len(wanted):
        raise BandError(
            f'bands={",".join(override)} lists {len(override)}, but the classifier '
            f'needs {len(wanted)} ({", ".join(wanted)}): state one for each.'
        )
    names = [name.casefold() for name in descriptions or ()]
    positions = []
    for band in override:
        if band.casefold() in names:
            positions.append(names.index(band.casefold()))
        elif band.isdecimal() and 1 <= int(band) <= count:
            positions.append(int(band) - 1)
        else:
            raise BandError(
                f"There is no band '{band}': {_describe(descriptions, count)}. Use a "
                f'name in the file or a number from 1 to {count} with --bands.'
            )
    return positions


def _position(name: str, descriptions: Sequence[str]) -> int | None:
    names = [description.casefold() for description in descriptions]
    if name.casefold() in names:
        return names.index(name.casefold())
    parts = [
        i
        for i, text in enumerate(names)
        if name.casefold() in re.split(r'[^a-z0-9]+', text)
    ]
    return parts[0] if len(parts) == 1 else None


def _describe(descriptions: Sequence[str] | None, count: int) -> str:
    names = f' ({", ".join(descriptions)})' if descriptions else ''
    return f'The file has {count} band{"" if count == 1 else "s"}{names}'

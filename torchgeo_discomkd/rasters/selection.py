# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Find the bands that a classifier needs in a file."""

from collections.abc import Sequence

from ..errors import BandError
from .band_names import find_band, only_numbered


def select_bands(
    descriptions: Sequence[str] | None,
    count: int,
    wanted: Sequence[str],
    override: Sequence[str] | None = None,
    alpha: Sequence[int] = (),
    trained: Sequence[str] | None = None,
) -> list[int]:
    """Find bands by name if the file names them, otherwise by order.

    Names are compared as :func:`~.band_names.find_band` does: 'Sigma0_VV_db' is 'VV'.
    A file whose names contradict *wanted* is refused; *override* is for files that are
    right all the same. A classifier whose bands are only numbered, 'B1', 'B2' and so
    on, takes a file with other names by order: its first band need not be what a sensor
    calls 'B01'.

    Args:
        descriptions: Names of all bands of the file, in order, empty for bands without
            one; None if it names none.
        count: Number of bands of the file.
        wanted: Names of the bands that the classifier needs, in its order.
        override: The file's band for each of *wanted*, as stated by the user: names, or
            numbers, the first being 1. It takes precedence over names and order.
        alpha: Positions of bands that only say which pixels are valid.
        trained: All bands of the classifier, if *wanted* are some of them.

    Returns:
        Positions of the bands in the file, the first being 0, in the order of *wanted*.

    Raises:
        BandError: If a band is missing or ambiguous, the file names other bands, or it
            names none and their number is not that of *wanted*.

    Example:
        >>> select_bands(('Sigma0_VH_db', 'Sigma0_VV_db'), 2, wanted=('VV', 'VH'))
        [1, 0]
        >>> select_bands(None, 3, wanted=('VV', 'VH'), override=('3', '1'))
        [2, 0]
    """
    if override is not None:
        return _overridden(descriptions, count, wanted, override)
    names = descriptions or ()
    found = [find_band(name, names) for name in wanted]
    positions = [matches[0] for matches in found if matches]
    complete = len(positions) == len(wanted) == len(set(positions))
    numbers = only_numbered(trained or wanted) and not only_numbered(names)
    if numbers:
        # the same names in another order decide nothing
        by_order = not complete or positions == sorted(positions)
    else:
        _refuse_ambiguous(wanted, found, descriptions, count)
        if complete:
            return positions
        by_order = not positions and only_numbered(names)
    for usable in ([i for i in range(count) if i not in alpha], [*range(count)]):
        if by_order and len(usable) == len(wanted):
            return usable
    contradicts = not by_order and count - len(alpha) == len(wanted)
    order = ','.join(str(i + 1) for i in range(len(wanted)))
    meaning = ', numbers by position in the training tiles' if numbers else ''
    raise BandError(
        f'{_describe(descriptions, count)}, but the classifier needs '
        f'{len(wanted)} ({", ".join(wanted)}{meaning}): give images with these bands, '
        + (
            f'or add --bands {order} if the names are wrong and the bands are right.'
            if contradicts
            else 'or state which ones to use with --bands (numbers from 1, or names).'
        )
    )


def named_bands(descriptions: Sequence[str] | None, wanted: Sequence[str]) -> bool:
    """Return whether a file names all wanted bands, so that their order is certain.

    Args:
        descriptions: Names of all bands of the file, in order; None if it has none.
        wanted: Names of the bands that the classifier needs.

    Returns:
        True if it names every wanted band.
    """
    return all(len(find_band(name, descriptions or ())) == 1 for name in wanted)


def _refuse_ambiguous(
    wanted: Sequence[str],
    found: Sequence[Sequence[int]],
    descriptions: Sequence[str] | None,
    count: int,
) -> None:
    for name, matches in zip(wanted, found, strict=True):
        if len(matches) > 1:
            numbers = ' and '.join(str(i + 1) for i in matches)
            raise BandError(
                f'{_describe(descriptions, count)}, of which {numbers} could be '
                f"'{name}': state which ones to use with --bands (numbers from 1)."
            )


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
    positions = []
    for band in override:
        matches = find_band(band, descriptions or ())
        if len(matches) == 1:
            positions.append(matches[0])
        elif not matches and band.isdecimal() and 1 <= int(band) <= count:
            positions.append(int(band) - 1)
        else:
            problem = 'There is no band' if not matches else 'Several bands are named'
            raise BandError(
                f"{problem} '{band}': {_describe(descriptions, count)}. Use a "
                f'name in the file or a number from 1 to {count} with --bands.'
            )
    return positions


def _describe(descriptions: Sequence[str] | None, count: int) -> str:
    listed = ', '.join(name or 'unnamed' for name in descriptions or ())
    names = f' ({listed})' if listed else ''
    return f'The file has {count} band{"" if count == 1 else "s"}{names}'

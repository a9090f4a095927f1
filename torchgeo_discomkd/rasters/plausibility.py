# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""What backscatter can physically be, and what else values that are not it may be."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import UnitError
from .scale import DIVISORS, HIGHEST, LOWEST, Unit, convert_scale

# In no set of tiles is the middle of a band in dB below this: -550 is -5.5 times 100,
# not -55 times 10.
_DARKEST = -35

#: Largest share of the pixels of a band that may be outside.
MOST_OUTSIDE = 0.01

#: Share of the pixels of a band from which a value is too frequent to be measured.
MOST_EQUAL = 0.05

# Such a value is also this many times as frequent as ordinary ones: in a band that is
# quantised, such as an 8-bit image, all values are frequent.
_TIMES_ORDINARY = 5

# Up to three values may stand for something else than a measurement.
_EXTRAORDINARY = 3


@dataclass(frozen=True)
class Options:
    """How the options that help are written where the user states them.

    Attributes:
        nodata: From a value to the option that makes it mean 'missing'.
        scale: From a unit to the option that states it.
    """

    nodata: Callable[[str], str]
    scale: Callable[[str], str]


#: On the command line of ``classify``.
CLASSIFY = Options('--nodata={}'.format, '--scale {}'.format)


def options_of(modality: str) -> Options:
    """Return how the options are written for one modality of a data set.

    Args:
        modality: The modality.
    """
    return Options(
        lambda value: f"--data.nodata '{{{modality}: {value}}}'",
        lambda unit: f"--data.units '{{{modality}: {unit}}}'",
    )


def limits(unit: str) -> tuple[float, float]:
    """Return between which values backscatter is possible.

    Args:
        unit: Unit of the values.

    Returns:
        Lowest and highest value; infinite if the unit is neither 'dB' nor 'linear'.
        Linear power may be slightly negative, where noise was removed.
    """
    if unit == 'dB':
        return LOWEST, HIGHEST
    return (-1, 10 ** (HIGHEST / 10)) if unit == 'linear' else (-math.inf, math.inf)


def outside(values: NDArray[np.float32], unit: str) -> NDArray[np.bool_]:
    """Return where values cannot be backscatter: nobody measured them.

    Args:
        values: Values of any shape, missing pixels NaN.
        unit: Their unit.
    """
    low, high = limits(unit)
    return (values < low) | (values > high)


def describe_outside(share: float, band: str) -> str:
    """Describe values that cannot be backscatter and count as missing.

    Args:
        share: Share of the measured pixels of the band.
        band: Name of the band.
    """
    return (
        f'{100 * share:.2g} % of {band} are outside {LOWEST} to {HIGHEST} dB and count '
        'as missing'
    )


def to_check(
    raw: NDArray[np.float32], given: Unit | None, values: NDArray[np.float32], unit: str
) -> tuple[NDArray[np.float32], str]:
    """Return backscatter in the unit in which it can be checked.

    That is dB if the file holds dB: as power, a fill value of -9999 is a valid 0.

    Args:
        raw: Values as in the file.
        given: Their unit.
        values: The same in *unit*.
        unit: Unit of the classifier.

    Returns:
        The values and their unit.
    """
    if unit == 'linear' and (given == 'dB' or given in DIVISORS):
        return convert_scale(raw, given, 'dB'), 'dB'
    return values, unit


def repeated_value(values: NDArray[np.float32]) -> tuple[float, float] | None:
    """Return the value that too many pixels of a band share to be measured.

    Values of a band that is quantised, such as an 8-bit image, are all frequent.

    Args:
        values: Values without missing pixels, shape (N,).

    Returns:
        The value and its share of the pixels; None if there is none.
    """
    size = values.size
    ordered = np.sort(values)
    lag = max(math.ceil(MOST_EQUAL * size), 1)
    # a cheap test first: equal values stand side by side
    if size < 2 or not (ordered[lag:] == ordered[:-lag]).any():
        return None
    found, counts = np.unique(ordered, return_counts=True)
    most, ordinary = counts.argmax(), np.sort(counts)[:-_EXTRAORDINARY]
    if ordinary.size and counts[most] < _TIMES_ORDINARY * ordinary[-1]:
        return None
    return float(found[most]), float(counts[most] / size)


def check_backscatter(
    raw: NDArray[np.float32],
    values: NDArray[np.float32],
    unit: str,
    bands: Sequence[str],
    options: Options = CLASSIFY,
    scaling: Mapping[int, tuple[float, float]] | None = None,
) -> list[str]:
    """Check whether backscatter is physically possible.

    Args:
        raw: Values as in the file, shape (C, ...), missing pixels NaN.
        values: The same in *unit*.
        unit: Unit of *values*; nothing is checked unless 'dB' or 'linear'.
        bands: Names of the C bands.
        options: How options that help are written.
        scaling: Scale and offset that were applied to bands of *raw*.

    Returns:
        A sentence for every band in which one value is too frequent to be measured.

    Raises:
        UnitError: If more than 1 % of the pixels of a band are outside -60 to 30 dB.
    """
    if unit not in ('dB', 'linear'):
        return []
    doubts = []
    for row, band in enumerate(bands):
        present = np.isfinite(values[row])
        measured, stored = values[row][present], raw[row][present]
        wrong = outside(measured, unit)
        share = wrong.mean() if measured.size else 0
        found = repeated_value(measured)
        if found is None and share > MOST_OUTSIDE:
            found = _main_value(measured[wrong], measured.size)
        repeated = None
        if found is not None:
            value = stored[measured == np.float32(found[0])][0]
            scale, offset = (scaling or {}).get(row, (1.0, 0.0))
            repeated = format_number((float(value) - offset) / scale), found[1]
        if share > MOST_OUTSIDE:
            quarters = np.percentile(stored, (25, 50, 75)).tolist()
            raise impossible(f'{band}, {_percent(share)},', quarters, repeated, options)
        if repeated is not None:
            doubts.append(describe_repeated(band, *repeated, options))
    return doubts


def format_number(number: float) -> str:
    """Return a number in a file with as many digits as are needed to find it again.

    Args:
        number: The number; scale and offset may have made it a little inexact.
    """
    return f'{number:.7g}' if abs(number) < 1e7 else f'{number:.17g}'


def _main_value(values: NDArray[np.float32], size: int) -> tuple[float, float] | None:
    """Return the value of more than half of some pixels, and its share of *size*."""
    found, counts = np.unique(values, return_counts=True)
    most = counts.argmax()
    if 2 * counts[most] <= values.size:
        return None
    return float(found[most]), float(counts[most] / size)


def impossible(
    what: str,
    quarters: Sequence[float],
    repeated: tuple[str, float] | None,
    options: Options,
) -> UnitError:
    """Return the error for values that cannot be backscatter.

    Args:
        what: Which values, for the message.
        quarters: 25th, 50th and 75th percentile of the band, as in the file.
        repeated: The value that too many pixels share, and their share of the pixels.
        options: How options that help are written.
    """
    low, middle, high = quarters
    # as dB, multiples are impossible themselves
    multiples = [u for u, n in DIVISORS.items() if n * _DARKEST < middle < _DARKEST]
    if repeated is not None:
        advice = (
            f'At least {_percent(repeated[1])} are {repeated[0]}, probably a '
            'value for missing pixels that the file does not declare: add '
            f'{options.nodata(repeated[0])}.'
        )
    elif multiples:
        unit = multiples[0]
        advice = (
            f'They look like dB times {DIVISORS[unit]}, without a tag that says so: '
            f'add {options.scale(unit)}.'
        )
    else:
        advice = (
            'Calibrate the image to backscatter (sigma or gamma nought), or state its '
            f'unit: {options.scale("...")}.'
        )
    return UnitError(
        f'Values of {what} are outside {LOWEST} to {HIGHEST} dB, where backscatter '
        f'cannot be (half of the band is between {low:.4g} and {high:.4g}). {advice}'
    )


def describe_repeated(band: str, value: str, share: float, options: Options) -> str:
    """Describe a value that too many pixels share to be measured.

    Args:
        band: Name of the band.
        value: The value, as in the file.
        share: Share of the pixels that have it.
        options: How options that help are written.
    """
    return (
        f'{_percent(share)} of {band} have the same value, {value} (if it stands for '
        f'missing pixels, add {options.nodata(value)})'
    )


def _percent(share: float) -> str:
    return f'{100 * share:.0f} %'

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""What backscatter can physically be, and what else values that are not it may be."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import UnitError
from .scale import DIVISORS

#: Backscatter in dB is between these in any landscape and with any sensor.
LOWEST, HIGHEST = -60, 30

#: Largest share of the pixels of a band that may be outside.
MOST_OUTSIDE = 0.01

#: Share of the pixels of a band from which a value is too frequent to be measured.
MOST_EQUAL = 0.05

# More than half of the other pixels are unique in a band that is not quantised.
_MOST_QUANTISED = 0.5


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


def outside(values: NDArray[np.float32], unit: str) -> float:
    """Return which share of the pixels of a band cannot be backscatter.

    Args:
        values: Values without missing pixels, shape (N,).
        unit: 'dB' or 'linear'.

    Returns:
        Share, 0 to 1; 0 for another unit, or without values. Linear power may be zero
        or slightly negative, where noise was removed.
    """
    if unit not in ('dB', 'linear') or not values.size:
        return 0.0
    lowest, highest = LOWEST, HIGHEST
    if unit == 'linear':
        lowest, highest = -1, 10 ** (HIGHEST / 10)
    return float(np.mean((values < lowest) | (values > highest)))


def repeated_value(values: NDArray[np.float32]) -> tuple[float, float] | None:
    """Return the value that too many pixels of a band share to be measured.

    A band that is quantised, such as an 8-bit image, has none.

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
    most = counts.argmax()
    others = size - counts[most]
    alone = (counts == 1).sum() - (counts[most] == 1)
    if others and alone < _MOST_QUANTISED * others:
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
        share = outside(measured, unit)
        repeated = repeated_value(measured)
        fill = ''
        if repeated is not None:
            value = stored[measured == np.float32(repeated[0])][0]
            fill = _number_in_file(value, (scaling or {}).get(row))
        if share > MOST_OUTSIDE:
            raise UnitError(
                f'{_percent(share)} of {band} are outside {LOWEST} to '
                f'{HIGHEST} dB, where backscatter cannot be (half of its values are '
                f'{_half(stored)}). {_cause(stored, share, repeated, fill, options)}'
            )
        if repeated is not None:
            doubts.append(
                f'{_percent(repeated[1])} of {band} have the same value, {fill} (if it '
                f'stands for missing pixels, add {options.nodata(fill)})'
            )
    return doubts


def _cause(
    stored: NDArray[np.float32],
    share: float,
    repeated: tuple[float, float] | None,
    fill: str,
    options: Options,
) -> str:
    if repeated is not None and repeated[1] > share / 2:
        return (
            f'{_percent(repeated[1])} are {fill}, probably a value for missing pixels '
            f'that the file does not declare: add {options.nodata(fill)}.'
        )
    middle = float(np.median(stored))
    for unit, divisor in DIVISORS.items():
        if LOWEST < middle / divisor < 0:
            return (
                f'They look like dB times {divisor}, without a tag that says so: add '
                f'{options.scale(unit)}.'
            )
    return (
        'Calibrate the image to backscatter (sigma or gamma nought), or state its '
        f'unit: {options.scale("...")}.'
    )


def _number_in_file(value: float, scaling: tuple[float, float] | None) -> str:
    scale, offset = scaling or (1.0, 0.0)
    return f'{(float(value) - offset) / scale:.6g}'


def _half(values: NDArray[np.float32]) -> str:
    low, high = np.percentile(values, [25, 75])
    return f'{low:.4g} to {high:.4g}'


def _percent(share: float) -> str:
    return f'{100 * share:.0f} %' if share >= 0.01 else f'{100 * share:.1f} %'

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""SAR backscatter in dB, power or amplitude: guess, check and convert the unit."""

from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingError, UnitError

#: Units of backscatter in files: 10 * log10(power), power, the square root of power,
#: and dB times 10 or 100, as integers are often stored.
Unit = Literal['dB', 'linear', 'amplitude', 'db_x10', 'db_x100']

#: Unit of the input as stated by the user; 'auto' guesses dB or linear power for each
#: image.
Scale = Literal['auto', 'db', 'linear', 'amplitude', 'db_x10', 'db_x100']

#: Divisors of integers that stand for dB.
DIVISORS = {'db_x10': 10, 'db_x100': 100}

#: Backscatter in dB is between these in any landscape and with any sensor.
LOWEST, HIGHEST = -60, 30

#: Images in dB reach below this; noise removal never takes linear power there.
LOWEST_LINEAR = -1

# In no landscape are half of the pixels brighter than 10 dB; such values are digital
# numbers of an image that was not calibrated.
_BRIGHTEST_LINEAR = 10


def parse_unit(text: str) -> str:
    """Return a unit of backscatter as it is written here.

    Args:
        text: Any text, such as 'db', 'DB', 'Linear' or 'reflectance'.

    Returns:
        One of :data:`Unit` if *text* is one in another case, else *text*.
    """
    known = {unit.casefold(): unit for unit in get_args(Unit)}
    return known.get(text.strip().casefold(), text)


def unit_after_reading(unit: str) -> str:
    """Return the unit of samples whose files are in a unit.

    Args:
        unit: Unit of the files.

    Returns:
        'dB' for 'amplitude', 'db_x10' and 'db_x100', which are converted on reading,
        else *unit*.
    """
    return 'dB' if unit in ('amplitude', *DIVISORS) else unit


def convert_scale(
    image: NDArray[np.float32], given: Unit | None, wanted: str
) -> NDArray[np.float32]:
    """Convert backscatter to dB or linear power.

    Args:
        image: Backscatter of any shape, missing pixels NaN.
        given: Unit of *image*; None to leave it unchanged.
        wanted: Unit to convert to, 'dB' or 'linear'.

    Returns:
        float32 array of the same shape; *image* itself if there is nothing to convert.
        Power or amplitude of zero or less has no value in dB and becomes NaN.

    Example:
        >>> import numpy as np
        >>> convert_scale(np.float32([-10, 0, 10]), 'dB', 'linear')
        array([ 0.1,  1. , 10. ], dtype=float32)
        >>> convert_scale(np.float32([0.1, 1]), 'amplitude', 'dB')
        array([-20.,   0.], dtype=float32)
    """
    if given in (None, wanted):
        return image
    if given in DIVISORS:
        return convert_scale(image / np.float32(DIVISORS[given]), 'dB', wanted)
    if wanted == 'linear':
        # impossible values, which are for others to judge
        with np.errstate(over='ignore'):
            power = image**2 if given == 'amplitude' else 10 ** (image / np.float32(10))
        return power.astype(np.float32)
    positive = np.where(image > 0, image, np.float32(np.nan))
    factor = 20 if given == 'amplitude' else 10
    return (factor * np.log10(positive)).astype(np.float32)


def guess_scale(image: NDArray[np.float32]) -> Unit | None:
    """Guess the unit of backscatter from its values.

    Backscatter in dB is mostly negative in any landscape, while linear power is at most
    slightly negative, where noise was removed: the 2nd percentile decides. Amplitude
    and multiples of dB cannot be told apart from these two: they must be stated.

    Args:
        image: Backscatter of any shape, missing pixels NaN.

    Returns:
        'dB' or 'linear'; None if all pixels are missing, or the values are neither
        (digital numbers of an image that was not calibrated).

    Example:
        >>> import numpy as np
        >>> guess_scale(np.float32([-21, -14, -9]))
        'dB'
        >>> guess_scale(np.float32([0.01, 0.04, 0.13]))
        'linear'
    """
    values = image[np.isfinite(image)]
    if values.size == 0:
        return None
    low, middle = np.percentile(values, [2, 50])
    if low < LOWEST_LINEAR:
        return 'dB'
    if middle > _BRIGHTEST_LINEAR:
        return None
    whole = values.max() > _BRIGHTEST_LINEAR and (values == np.rint(values)).all()
    return None if whole else 'linear'


def check_unit(minimum: float, maximum: float, unit: str, where: str) -> None:
    """Refuse values that clearly contradict their unit.

    Backscatter in dB is mostly negative in any landscape, amplitude never is, and power
    only slightly, where noise was removed:

    * unit 'dB' or a multiple, but no negative value: the values are linear power, or
      digital numbers;
    * a multiple of dB, but no value below -1 dB: the values are in dB;
    * unit 'linear', but a value below -1, or unit 'amplitude', but a negative value:
      the values are in dB, or the lowest one stands for missing pixels;
    * any other unit is not checked.

    Corner reflectors exceed 0 dB, and single values are odd in many files: pass the 2nd
    and the 98th percentile rather than the extremes.

    Args:
        minimum: Lowest value, or a low percentile.
        maximum: Highest value, or a high percentile.
        unit: Unit of the values.
        where: Origin of the values, for the message: modality and band, or a file.

    Raises:
        UnitError: If the values contradict *unit*.

    Example:
        >>> from torchgeo_discomkd.errors import UnitError
        >>> check_unit(-25.0, -4.0, 'dB', 'Band VV')
        >>> try:
        ...     check_unit(0.01, 0.3, 'dB', 'Band VV')
        ... except UnitError as error:
        ...     print(str(error).partition(' without')[0])
        Band VV is said to be in dB, but ranges from 0.01 to 0.3
    """
    ranges = f'but ranges from {minimum:g} to {maximum:g}'
    if unit in ('dB', *DIVISORS) and minimum >= 0:
        advice = (
            'like linear power: convert it by 10 * log10(x), or state the unit '
            "'linear'."
            if maximum <= _BRIGHTEST_LINEAR
            else 'like digital numbers: calibrate it to backscatter first.'
        )
        raise UnitError(
            f'{where} is said to be in {_words(unit)}, {ranges} without negative '
            f'values, {advice}'
        )
    if unit in DIVISORS and minimum / DIVISORS[unit] >= LOWEST_LINEAR:
        raise UnitError(
            f'{where} is said to be in {_words(unit)}, {ranges}, like values in dB: '
            "state the unit 'dB'."
        )
    lowest = {'linear': LOWEST_LINEAR, 'amplitude': 0}
    if unit in lowest and minimum < lowest[unit]:
        advice = (
            "like values in dB: convert it by 10 ** (x / 10), or state the unit 'dB'."
            if minimum >= LOWEST
            else f'where {minimum:g} is neither power nor dB: if it stands for missing '
            'pixels, state it as nodata.'
        )
        raise UnitError(f'{where} is said to be {_words(unit)}, {ranges}, {advice}')


def _words(unit: str) -> str:
    words = {'linear': 'linear power'}
    return words.get(unit) or (f'dB x {DIVISORS[unit]}' if unit in DIVISORS else unit)


def check_scale(scale: str, unit: str) -> None:
    """Check the unit that the user states against the classifier's.

    Args:
        scale: One of :data:`Scale`.
        unit: Unit of the classifier's images: 'dB', 'linear' or any other text.

    Raises:
        SettingError: If *scale* is unknown, or *unit* is not a unit of backscatter, so
            that nothing can be converted to it.
    """
    known = get_args(Scale)
    if scale not in known:
        raise SettingError(f"scale='{scale}': use one of {', '.join(known)}.")
    if scale != 'auto' and unit not in ('dB', 'linear'):
        raise SettingError(
            f"scale='{scale}', but the classifier was trained on values in the unit "
            f"'{unit}', to which backscatter cannot be converted: give images in the "
            "unit of training and keep scale='auto'."
        )


def find_unit(
    image: NDArray[np.float32], scale: Scale, unit: str, where: str
) -> Unit | None:
    """Find the unit of an image, for conversion to that of a classifier.

    Args:
        image: Measured values of any shape, missing pixels NaN.
        scale: Unit of *image* as stated by the user; 'auto' guesses it.
        unit: Unit of the classifier's images.
        where: Name of the image, for the message.

    Returns:
        Its unit; None if all its pixels are missing, or *unit* is neither 'dB' nor
        'linear', so that there is nothing to convert.

    Raises:
        UnitError: If the values contradict *scale*, or fit neither unit.
    """
    if unit not in ('dB', 'linear'):
        return None
    values = image[np.isfinite(image)]
    if values.size == 0:
        return None
    if scale != 'auto':
        given = cast(Unit, parse_unit(scale))
        low, high = np.percentile(values, [2, 98])
        check_unit(float(low), float(high), given, where)
        return given
    guess = guess_scale(image)
    if guess is None:
        raise UnitError(
            f'{where} is neither in dB nor linear power: half of its values exceed '
            f'{np.median(values):g}. It looks like digital numbers: calibrate the '
            'image to backscatter first (sigma or gamma nought).'
        )
    return guess

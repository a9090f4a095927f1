# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""What the numbers in the files of a modality stand for."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ..rasters import convert_scale
from ..rasters.band_names import is_backscatter, only_numbered
from ..rasters.plausibility import HIGHEST, repeated_value
from ..rasters.scale import DIVISORS, Unit, parse_unit, unit_after_reading

#: Unit of images of which nothing is known.
UNKNOWN = 'unknown'

# Names of modalities, or parts of them, that say that images are from a SAR sensor.
_SAR = {'sar', 's1', 'sentinel1', 'radar'}

# In no landscape is the middle of a band in dB above this, which standardised values
# reach, nor that of linear power, which values between 0 and 1 reach.
_HIGHEST_DB, _HIGHEST_LINEAR = -2, 0.3


@dataclass(frozen=True)
class Encoding:
    """What the numbers in the files of one modality stand for.

    Attributes:
        unit: Unit in the files: one of :data:`~torchgeo_discomkd.rasters.scale.Unit`
            or any text.
        nodata: Number that stands for missing pixels although the files do not say so.
        assumed: Whether the unit is taken from the values, because none was given.
    """

    unit: str = UNKNOWN
    nodata: float | None = None
    assumed: bool = False

    @property
    def sample_unit(self) -> str:
        """Unit of the samples."""
        return unit_after_reading(self.unit)

    def decode(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Convert an image to the unit of samples.

        Args:
            image: Values in the unit of the files, of any shape.

        Returns:
            The same, if the units are.
        """
        if self.unit == self.sample_unit:
            return image
        return convert_scale(image, cast(Unit, self.unit), self.sample_unit)

    def encode(self, value: float) -> float:
        """Return the number in the files that stands for a value in samples.

        Args:
            value: The value.
        """
        if self.unit == 'amplitude':
            return 10 ** (value / 20)
        return value * DIVISORS.get(self.unit, 1)

    def __str__(self) -> str:
        """Return a description for a line of output."""
        text = f'unit {self.unit}'
        if self.unit != self.sample_unit:
            text += f', converted to {self.sample_unit}'
        if self.assumed:
            text += ' (assumed from the values: state it with units)'
        if self.nodata is None:
            return text
        # with all digits: numbers that differ must not look alike
        return f'{text}; nodata {self.nodata:.10g}'


def looks_like_sar(modality: str, bands: Sequence[str]) -> bool:
    """Return whether the names of a modality and its bands say that it is SAR.

    Args:
        modality: Name of the modality.
        bands: Names of its bands.
    """
    if only_numbered(bands):
        name = modality.casefold().replace('sentinel-', 's')
        return bool(_SAR & {*re.split(r'[^a-z0-9]+', name)})
    # bands of partly named files are numbered; their values have the last word
    return is_backscatter([b for i, b in enumerate(bands, 1) if b != f'B{i}'])


def assume_unit(images: Sequence[NDArray[np.float32]]) -> str:
    """Find the unit of SAR images whose unit was not given.

    Amplitude cannot be told apart from linear power, nor values that were normalised
    from measured ones: the assumption is made if nothing speaks against it.

    Args:
        images: Some of them, float32 (C, H, W), missing pixels NaN.

    Returns:
        'dB', 'linear', or 'unknown' if the values are neither.
    """
    bands = np.concatenate([i.reshape(len(i), -1) for i in images], axis=1)
    present = [_measured(band[np.isfinite(band)]) for band in bands]
    if not all(band.size for band in present):
        return UNKNOWN
    low, middle, high = np.array([np.percentile(b, (5, 50, 95)) for b in present]).T
    if (middle < _HIGHEST_DB).all() and high.max() <= HIGHEST:
        # multiples of dB too, which the check of the statistics names
        return 'dB'
    fractions = any((band != np.rint(band)).any() for band in present)
    small = low.min() >= 0 and (middle <= _HIGHEST_LINEAR).all()
    return 'linear' if small and fractions else UNKNOWN


def _measured(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Leave out a value that stands for missing pixels without being declared."""
    found = repeated_value(values)
    return values if found is None else values[values != np.float32(found[0])]


def make_encoding(unit: str | None, nodata: float | None) -> Encoding:
    """Return what the user stated about the files of a modality.

    Args:
        unit: Unit in the files; None if it was not given.
        nodata: Number that stands for missing pixels; None if there is none.
    """
    return Encoding(UNKNOWN if unit is None else parse_unit(unit), nodata)

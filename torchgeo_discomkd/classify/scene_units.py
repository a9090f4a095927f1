# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Convert a scene to the unit of a classifier, the same way everywhere in it."""

import numpy as np
from numpy.typing import NDArray

from ..rasters.scale import (
    Scale,
    Unit,
    check_scale,
    convert_scale,
    guess_scale,
    to_unit,
)


class UnitConverter:
    """Converts parts of a scene; the first one with data decides from which unit."""

    def __init__(self, scale: Scale, unit: str, name: str) -> None:
        """Initialize a new UnitConverter instance.

        Args:
            scale: Unit of the scene as stated by the user; 'auto' guesses it.
            unit: Unit of the classifier's images.
            name: What the scene is called in messages.

        Raises:
            SettingError: If *scale* is unknown or does not go with *unit*.
        """
        check_scale(scale, unit)
        self._scale = scale
        self._unit = unit
        self._name = name

        #: Unit of the scene; None as long as no data were seen, and for good if the
        #: classifier's unit is not one of backscatter.
        self.given: Unit | None = None

    def __call__(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Convert a part of the scene.

        Args:
            image: Raw values of any shape, missing pixels NaN.

        Returns:
            float32 array of the same shape.

        Raises:
            UnitError: If these are the first data and they contradict the stated unit,
                or are neither in dB nor linear power.
        """
        if self._unit not in ('dB', 'linear'):
            return image
        if self.given is None:
            if not np.isfinite(image).any():
                return image
            converted = to_unit(image, self._scale, self._unit, self._name)
            match self._scale:
                case 'auto':
                    self.given = guess_scale(image)
                case 'db':
                    self.given = 'dB'
                case 'linear':
                    self.given = 'linear'
            return converted
        return convert_scale(image, self.given, self._unit)

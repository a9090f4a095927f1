# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Tell the user what speaks against mapping a scene."""

import warnings

from ...errors import UnusualImageError
from ...rasters.doubts import as_amplitude, doubt_values
from ...rasters.tiles import TileSpec
from .reader import SceneSample


def report_doubts(name: str, sample: SceneSample, spec: TileSpec) -> str | None:
    """Warn of what speaks against mapping a scene, or refuse it.

    Args:
        name: Name of the scene.
        sample: Pieces from all over it.
        spec: What the classifier needs, and what the user states.

    Returns:
        All doubts as one text; None if there are none.

    Raises:
        UnusualImageError: If there are some and ``spec.strict`` is set.

    Warns:
        UserWarning: If there are some.
    """
    windows = sample.windows
    amplitude = as_amplitude(windows, sample.given, spec.stated, spec.unit)
    doubts = [*sample.doubts]
    doubts += doubt_values(windows, spec.bands, spec.profile, amplitude)
    if not doubts:
        return None
    text = '; '.join(doubts)
    if spec.strict:
        raise UnusualImageError(
            f'{name} is unusual: {text}. Mend or state what is wrong, or omit --strict '
            'for a map that may be wrong.'
        )
    warnings.warn(
        f'{name} is unusual: {text}. The map may be wrong: check the unit (--scale), '
        'the bands, and whether the classifier was trained on such images.',
        stacklevel=3,
    )
    return text

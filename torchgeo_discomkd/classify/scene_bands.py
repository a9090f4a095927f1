# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Notice a scene whose bands are in another order than the classifier's."""

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .swapped import strong_and_weak


def warn_if_swapped(
    values: NDArray[np.float32], bands: Sequence[str], name: str
) -> None:
    """Warn if the cross-polarised band is brighter than the co-polarised one.

    Args:
        values: Sample of the scene, shape (bands, N), missing pixels NaN.
        bands: Names of the bands in the classifier's order.
        name: What the scene is called in the message.

    Warns:
        UserWarning: If the bands seem to be swapped.
    """
    pair = strong_and_weak(bands)
    valid = values[:, np.isfinite(values).all(axis=0)]
    if pair is None or not valid.size:
        return
    strong, weak = pair
    if np.median(valid[strong]) < np.median(valid[weak]):
        warnings.warn(
            f'{name}: {bands[strong]} is lower than {bands[weak]} on the whole, which '
            'hardly ever happens. The file does not name its bands, and seems to have '
            'them in another order than the classifier. If so, give it: --bands 2,1.',
            stacklevel=3,
        )

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Notice tiles whose bands are in another order than the classifier's."""

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..rasters.tiles import Tile

# Pairs of bands of which the first returns nearly always more than the second.
_PAIRS = (('VV', 'VH'), ('HH', 'HV'))


def strong_and_weak(bands: Sequence[str]) -> tuple[int, int] | None:
    """Return the positions of the band that returns more, and of the other one.

    Args:
        bands: Names of the classifier's bands.

    Returns:
        Both positions; None if the bands are no such pair.
    """
    names = [name.upper() for name in bands]
    pair = next((pair for pair in _PAIRS if sorted(pair) == sorted(names)), None)
    return None if pair is None else (names.index(pair[0]), names.index(pair[1]))


def warn_if_swapped(tiles: Sequence[Tile], bands: Sequence[str]) -> bool:
    """Warn if the cross-polarised band is mostly the stronger one.

    Only tiles whose files do not name their bands are looked at.

    Args:
        tiles: The tiles.
        bands: Names of the classifier's bands.

    Returns:
        Whether there was a tile to look at.

    Warns:
        UserWarning: If more than half of them look as if their bands were swapped.
    """
    pair = strong_and_weak(bands)
    unnamed = [t.windows for t in tiles if t.windows is not None and not t.named]
    if pair is None or not unnamed:
        return False
    strong, weak = pair
    count = sum(_median(w[:, strong]) < _median(w[:, weak]) for w in unnamed)
    if 2 * count > len(unnamed):
        warnings.warn(
            f'In {count} of the first {len(unnamed)} tiles {bands[strong]} is weaker than '
            f'{bands[weak]}, which hardly ever happens: these files do not name their '
            'bands, and seem to have them in another order than the classifier, '
            f'{", ".join(bands)}. If so, give --bands 2,1.',
            stacklevel=2,
        )
    return True


def _median(values: NDArray[np.float32]) -> float:
    values = values[np.isfinite(values)]
    return float(np.median(values)) if values.size else np.nan

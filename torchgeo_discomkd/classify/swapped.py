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
    names = [name.upper() for name in bands]
    pair = next((pair for pair in _PAIRS if sorted(pair) == sorted(names)), None)
    unnamed = [t.windows for t in tiles if t.windows is not None and not t.named]
    if pair is None or not unnamed:
        return False
    strong, weak = (names.index(name) for name in pair)
    count = sum(_median(w[:, strong]) < _median(w[:, weak]) for w in unnamed)
    if 2 * count > len(unnamed):
        warnings.warn(
            f'In {count} of the first {len(unnamed)} tiles {pair[0]} is weaker than '
            f'{pair[1]}, which hardly ever happens: these files do not name their '
            'bands, and seem to have them in another order than the classifier, '
            f'{", ".join(bands)}. If so, give --bands 2,1.',
            stacklevel=2,
        )
    return True


def _median(values: NDArray[np.float32]) -> float:
    values = values[np.isfinite(values)]
    return float(np.median(values)) if values.size else np.nan

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Detect images whose bands are in a different order from the classifier's."""

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..rasters.band_names import polarization
from ..rasters.tiles import Tile

# Pairs of bands, the first of which is nearly always the stronger one.
_PAIRS = (('VV', 'VH'), ('HH', 'HV'))


def warn_of_swapped_tiles(tiles: Sequence[Tile], bands: Sequence[str]) -> bool:
    """Warn if the cross-polarised band is mostly the stronger one.

    Only tiles whose files do not name their bands are checked.

    Args:
        tiles: The tiles.
        bands: Names of the classifier's bands.

    Returns:
        Whether there was a tile to check.

    Warns:
        UserWarning: If the bands of more than half of them seem to be swapped.
    """
    pair = _strong_and_weak(bands)
    unnamed = [t.windows for t in tiles if t.windows is not None and not t.named]
    if pair is None or not unnamed:
        return False
    strong, weak = pair
    count = sum(_weaker(w[:, strong], w[:, weak]) for w in unnamed)
    if 2 * count > len(unnamed):
        warnings.warn(
            f'In {count} of the first {len(unnamed)} tiles {bands[strong]} is weaker '
            f'than {bands[weak]}, which hardly ever happens: these files do not name '
            'their bands and seem to store them in a different order from the '
            f'classifier ({", ".join(bands)}). If so, add --bands 2,1.',
            stacklevel=2,
        )
    return True


def warn_of_swapped_scene(
    values: NDArray[np.float32], bands: Sequence[str], name: str
) -> None:
    """Warn if the cross-polarised band is stronger than the co-polarised one.

    Args:
        values: Sample of a scene whose files do not name their bands, shape (bands, N),
            missing pixels NaN.
        bands: Names of the classifier's bands.
        name: Name of the scene, for the message.

    Warns:
        UserWarning: If the bands seem to be swapped.
    """
    pair = _strong_and_weak(bands)
    if pair is None:
        return
    strong, weak = pair
    valid = values[:, np.isfinite(values).all(axis=0)]
    if _weaker(valid[strong], valid[weak]):
        warnings.warn(
            f'{name}: {bands[strong]} is generally lower than {bands[weak]}, which '
            'hardly ever happens. The file does not name its bands and seems to store '
            'them in a different order from the classifier. If so, add --bands 2,1.',
            stacklevel=4,
        )


def _strong_and_weak(bands: Sequence[str]) -> tuple[int, int] | None:
    """Return the positions of such a pair; None if the bands are not one."""
    names = [polarization(name) or '' for name in bands]
    pair = next((pair for pair in _PAIRS if sorted(pair) == sorted(names)), None)
    return None if pair is None else (names.index(pair[0]), names.index(pair[1]))


def _weaker(strong: NDArray[np.float32], weak: NDArray[np.float32]) -> bool:
    """Return whether the median of the first band is below that of the second."""
    strong, weak = strong[np.isfinite(strong)], weak[np.isfinite(weak)]
    return bool(strong.size and weak.size and np.median(strong) < np.median(weak))

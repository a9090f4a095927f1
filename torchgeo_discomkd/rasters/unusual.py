# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""How far images are from those that a classifier was trained on."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..metadata import QUANTILES, ImageProfile

#: An image is unusual if it is farther than this from the training tiles.
MOST_USUAL = 0.4

# The share of a band's standard deviation below which a difference means nothing.
_NOISE = 0.05

# The ranges are never taken to be narrower than one standard deviation of the band, for
# the mean, and a factor of e, for the standard deviation: few tiles, or tiles that are
# all alike, say little about what else there is.
_NARROWEST = 1.0

# 5th to 95th percentile of a normal distribution, in standard deviations.
_NORMAL_RANGE = 3.29


class Distance(NamedTuple):
    """Distance of an image from the training tiles of a classifier.

    Attributes:
        value: The distance; above :data:`MOST_USUAL` the image is unusual.
        reason: The band that differs most, with the figures of both.
    """

    value: float
    reason: str

    @property
    def unusual(self) -> bool:
        """Whether the image is unusual."""
        return self.value > MOST_USUAL


def distances(
    windows: NDArray[np.float32], bands: tuple[str, ...], profile: ImageProfile
) -> list[Distance]:
    """Measure how far images are from the training tiles.

    The mean of each band and the logarithm of its standard deviation are compared with
    the ranges of the training tiles (0.5th to 99.5th percentile). The distance is how
    far the worst of them is outside, as a share of the width of its range; it is 0 or
    negative if none is outside.

    Args:
        windows: Images, or windows of one: shape (N, C, H, W), missing pixels NaN.
        bands: Names of the C bands.
        profile: What the training tiles look like.

    Returns:
        The distance of each, with its reason.
    """
    low, high, width, noise = _ranges(profile)
    moments = _moments(windows)
    found = np.stack([moments[0], np.log(moments[1] + noise)])
    # (2, N, C): mean and spread of each window
    outside = np.maximum(low - found, found - high) / width
    outside[np.isnan(outside)] = -np.inf
    results = []
    for window in range(len(windows)):
        worst = outside[:, window]
        feature, band = divmod(int(worst.argmax()), len(bands))
        word, trained = (('mean', profile.means), ('spread', profile.stds))[feature]
        reason = (
            f'{bands[band]} {word} {moments[feature, window, band]:.3g}, in training '
            f'{trained[band][0]:.3g} to {trained[band][1]:.3g}'
        )
        results.append(Distance(float(worst.max()), reason))
    return results


def _moments(windows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return mean and standard deviation of bands, (2, N, C); NaN if all missing."""
    present = np.isfinite(windows)
    whole = present.all()
    values = windows if whole else np.where(present, windows, 0)
    size = windows.shape[-2] * windows.shape[-1]
    count = size if whole else present.sum(axis=(-2, -1)).astype(np.float64)
    flat = values.reshape(*windows.shape[:2], size)
    with np.errstate(invalid='ignore'):
        mean = flat.sum(axis=-1, dtype=np.float64) / count
    deviation = flat - np.nan_to_num(mean).astype(np.float32)[..., None]
    if not whole:
        deviation[~present.reshape(flat.shape)] = 0
    squares = np.einsum('ncp,ncp->nc', deviation, deviation, dtype=np.float64)
    with np.errstate(invalid='ignore'):
        return np.stack([mean, np.sqrt(squares / count)])


@lru_cache
def _ranges(profile: ImageProfile) -> tuple[NDArray[np.float64], ...]:
    """Return lowest, highest, width, (2, 1, C) of mean and spread, and noise, (C,)."""
    quantiles = np.array(profile.quantiles)
    low, high = (quantiles[:, QUANTILES.index(q)] for q in (0.05, 0.95))
    # a constant band has no spread at all
    spread = np.maximum((high - low) / _NORMAL_RANGE, 1e-5)
    noise = _NOISE * spread
    means, stds = np.array(profile.means), np.array(profile.stds)
    ranges = np.stack([means, np.log(stds + noise[:, None])])[:, None]
    low, high = ranges[..., 0], ranges[..., 1]
    least = _NARROWEST * np.stack([spread, np.ones_like(spread)])[:, None]
    return low, high, np.maximum(high - low, least), noise

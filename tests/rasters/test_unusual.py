# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from torchgeo_discomkd.metadata import QUANTILES, ImageProfile
from torchgeo_discomkd.rasters.unusual import MOST_USUAL, distances

BANDS = ('VV', 'VH')
PROFILE = ImageProfile(
    quantiles=(
        (-35.0, -24.0, -20.0, -14.0, -11.0, -8.0, -5.0, -2.0, 9.0),
        (-45.0, -31.0, -27.0, -21.0, -18.0, -15.0, -13.0, -9.0, 1.0),
    ),
    means=((-19.0, -6.0), (-18.5, -17.5)),
    stds=((1.5, 5.0), (2.9, 3.0)),
    tiles=100,
)
NOTHING = ImageProfile(
    quantiles=((3.0,) * 9,), means=((3.0, 3.0),), stds=((0.0, 0.0),), tiles=1
)


def by_hand(window: NDArray[np.float32], profile: ImageProfile) -> float:
    """Compute the distance of a window with Python's floats, figure by figure."""
    worst = -math.inf
    for band, pixels in enumerate(window):
        values = [float(v) for v in pixels.ravel() if math.isfinite(v)]
        if not values:
            continue
        mean = math.fsum(values) / len(values)
        std = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values))
        low, high = (profile.quantiles[band][QUANTILES.index(q)] for q in (0.05, 0.95))
        spread = max((high - low) / 3.29, 2e-5)
        noise = 0.05 * spread
        logs = [math.log(x + noise) for x in (std, *profile.stds[band])]
        ranges = [(mean, *profile.means[band], spread), (*logs, 1.0)]
        for value, least, most, narrowest in ranges:
            width = max(most - least, narrowest)
            worst = max(worst, (least - value) / width, (value - most) / width)
    return worst


def make_windows(count: int = 12) -> NDArray[np.float32]:
    """Return windows of any mean and spread, some of their pixels missing."""
    rng = np.random.default_rng(0)
    windows = rng.normal(
        rng.uniform(-40, 10, (count, 2, 1, 1)),
        rng.uniform(0, 12, (count, 2, 1, 1)),
        (count, 2, 6, 5),
    )
    windows[rng.random(windows.shape) < 0.1] = np.nan
    windows[0, 0] = np.nan
    windows[1] = np.nan
    return windows.astype(np.float32)


def test_against_a_computation_by_hand() -> None:
    windows = make_windows()
    found = distances(windows, BANDS, PROFILE)
    expected = [by_hand(window, PROFILE) for window in windows]
    assert [d.value for d in found] == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert [d.unusual for d in found] == [value > MOST_USUAL for value in expected]
    assert {True, False} == {d.unusual for d in found}


def test_profile_of_one_value() -> None:
    windows = np.full((2, 1, 4, 4), 3, np.float32)
    windows[1, 0, 0, 0] = 4
    same, other = distances(windows, ('B1',), NOTHING)
    assert (same.value, same.unusual) == (0, False)
    assert other.unusual


@pytest.mark.parametrize(
    ('mean', 'std', 'reason'),
    [
        (-60, 3, 'VV mean -60, in training -19 to -6'),
        (-11, 40, 'VV spread 40, in training 1.5 to 5'),
        (-11, 0, 'VV spread 0, in training 1.5 to 5'),
    ],
)
def test_reason(mean: float, std: float, reason: str) -> None:
    pattern = np.where(np.arange(100) % 2, 1, -1).reshape(10, 10)
    usual = -18 + 2.95 * pattern
    window = np.stack([mean + std * pattern, usual]).astype(np.float32)
    [distance] = distances(window[None], BANDS, PROFILE)
    assert distance.unusual
    assert distance.reason == reason


def test_range_is_not_unusual() -> None:
    pattern = np.where(np.arange(100) % 2, 1, -1).reshape(10, 10)
    ends = zip(PROFILE.means[0], PROFILE.stds[0], strict=True)
    for mean, std in ends:
        window = np.stack([mean + std * pattern, -18 + 2.95 * pattern])
        [distance] = distances(np.float32(window[None]), BANDS, PROFILE)
        assert distance.value == pytest.approx(0, abs=1e-5)


def test_no_windows() -> None:
    assert distances(np.zeros((0, 2, 4, 4), np.float32), BANDS, PROFILE) == []

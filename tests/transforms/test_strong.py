# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from torchgeo_discomkd.transforms import RandomStrongView

SIZE = 2000
SHAPES = {'ms': (3, 8, 8), 'sar': (2, 12, 16)}
CENTER = {'ms': torch.tensor([1.0, 10.0, 100.0]), 'sar': torch.tensor([-12.0, -18.0])}
SCALE = {'ms': torch.tensor([1.0, 2.0, 50.0]), 'sar': torch.tensor([3.0, 4.0])}


def images() -> dict[str, Tensor]:
    generator = Generator().manual_seed(0)
    return {
        m: CENTER[m][:, None, None]
        + SCALE[m][:, None, None] * torch.randn(SIZE, *shape, generator=generator)
        for m, shape in SHAPES.items()
    }


def view(seed: int = 1, **kwargs: Any) -> dict[str, Tensor]:
    transform = RandomStrongView(**kwargs, generator=Generator().manual_seed(seed))
    return transform(images(), CENTER, SCALE)


def test_hole() -> None:
    views = view()
    for m, (_, height, width) in SHAPES.items():
        x = views[m]
        assert x.shape == (SIZE, *SHAPES[m])
        hole = x.isnan()
        # one rectangle, the same in all bands
        assert torch.equal(hole, hole[:, :1].expand_as(hole))
        rows, columns = hole[:, 0].any(dim=2), hole[:, 0].any(dim=1)
        assert torch.equal(hole[:, 0], rows[:, :, None] & columns[:, None, :])
        for line, length in ((rows, height), (columns, width)):
            breaks = (line[:, 1:] != line[:, :-1]).sum(dim=1)
            assert (breaks <= 2).all()
            # a side of up to half the image, cut at the border of the image
            counts = line.sum(dim=1)
            assert counts.max() == length // 2
            assert counts.min() == 0
            # every row is in a hole now and then, inner ones more often
            share = line.float().mean(dim=0)
            assert share.min() > 0.08
            assert share[length // 2] > share[0]


def test_hole_is_in_the_same_place_of_all_modalities() -> None:
    transform = RandomStrongView(generator=Generator().manual_seed(0))
    small = torch.zeros(SIZE, 1, 8, 8)
    large = torch.zeros(SIZE, 1, 80, 80)
    one = torch.ones(1)
    views = transform({'a': small, 'b': large}, *2 * ({'a': one, 'b': one},))
    center = views['b'][:, :, 5::10, 5::10].isnan()
    # the centre of a small pixel, half a large pixel off
    different = (center != views['a'].isnan()).flatten(1).sum(dim=1)
    assert different.float().mean() < 1
    assert (different <= 8).all()


def test_values() -> None:
    views = view()
    factors = []
    for m, original in images().items():
        contrasts, shifts = [], []
        for x, y in zip(original.numpy(), views[m].numpy(), strict=True):
            fits = []
            for band in range(len(x)):
                seen = ~np.isnan(y[band])
                fits.append(np.polyfit(x[band][seen], y[band][seen], 1))
            slopes, offsets = np.array(fits).T
            # one contrast for all bands of a sample
            np.testing.assert_allclose(slopes, slopes[0], rtol=1e-3)
            contrasts.append(slopes[0])
            c = CENTER[m].numpy()
            shifts.append((offsets - c * (1 - slopes)) / SCALE[m].numpy())
        factors.append(np.array(contrasts))
        for drawn in (np.array(contrasts) - 1, *np.array(shifts).T):
            # uniform in +- 0.5
            assert np.abs(drawn).max() < 0.501
            assert abs(drawn.mean()) < 0.03
            assert drawn.std() == pytest.approx(0.5 / 3**0.5, rel=0.05)
    # of each modality on its own
    assert abs(np.corrcoef(factors)[0, 1]) < 0.1


def test_no_magnitude_is_no_change() -> None:
    views = view(cut=0, contrast=0, brightness=0)
    for m, x in images().items():
        torch.testing.assert_close(views[m], x)


def test_the_generator_gives_the_draw() -> None:
    state = torch.get_rng_state()
    one, same, other = view(1), view(1), view(2)
    assert torch.equal(torch.get_rng_state(), state)
    for m in SHAPES:
        torch.testing.assert_close(same[m], one[m], rtol=0, atol=0, equal_nan=True)
        assert not torch.equal(other[m].isnan(), one[m].isnan())


def test_input_is_left_alone_and_missing_values_stay() -> None:
    x = torch.full((4, 2, 8, 8), 7, dtype=torch.int16)
    transform = RandomStrongView(cut=0)
    (found,) = transform({'a': x}, {'a': torch.zeros(2)}, {'a': torch.ones(2)}).values()
    assert (x == 7).all()
    assert found.dtype == torch.float32
    missing = x.float()
    missing[0, 0, 0, 0] = torch.nan
    transform = RandomStrongView(cut=0)
    (found,) = transform(
        {'a': missing}, {'a': torch.zeros(2)}, {'a': torch.ones(2)}
    ).values()
    assert torch.equal(found.isnan(), missing.isnan())


@pytest.mark.parametrize(
    'kwargs', [{'cut': 1.5}, {'cut': -0.1}, {'contrast': 2.0}, {'brightness': -1.0}]
)
def test_magnitudes_out_of_range(kwargs: dict[str, float]) -> None:
    with pytest.raises(ValueError, match='give the first two from 0 to 1'):
        RandomStrongView(**kwargs)

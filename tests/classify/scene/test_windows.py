# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import numpy as np
import pytest

from torchgeo_discomkd.classify.scene.windows import place_windows

SIZES = [
    (size, tile, stride)
    for size in (1, 2, 7, 8, 9, 15, 16, 17, 23, 40)
    for tile in (1, 2, 5, 8, 16)
    for stride in range(1, tile + 1)
]


def covered(size: int, tile: int, stride: int, start: int) -> list[int]:
    """Return the cells all of whose pixels in the scene are inside a window."""
    inside = set(range(start, start + tile))
    pixels = [range(p, min(p + stride, size)) for p in range(0, size, stride)]
    return [cell for cell, own in enumerate(pixels) if inside.issuperset(own)]


@pytest.mark.parametrize(('size', 'tile', 'stride'), SIZES)
def test_windows_cover_every_cell_and_stay_inside(
    size: int, tile: int, stride: int
) -> None:
    axis = place_windows(size, tile, stride)
    count = np.zeros(axis.cells, int)
    for start, first, stop in zip(axis.starts, axis.first, axis.stop, strict=True):
        assert start >= 0
        assert start + tile <= max(size, tile)
        cells = covered(size, tile, stride, int(start))
        assert cells == list(range(first, stop))
        count[cells] += 1
    assert len(set(axis.starts.tolist())) == len(axis.starts)
    assert axis.cells == len(range(0, size, stride))
    assert count.min() > 0
    np.testing.assert_array_equal(axis.coverage(), count)
    assert axis.length().sum() == size


def test_windows_are_one_stride_apart_with_their_cells_in_the_middle() -> None:
    axis = place_windows(size=70, tile=16, stride=6)
    # two cells of six pixels leave two on both sides; the ends are shifted inwards
    assert axis.starts.tolist() == [0, *range(4, 53, 6), 54]


def test_spread_adds_up_windows() -> None:
    axis = place_windows(size=37, tile=9, stride=2)
    values = np.random.default_rng(0).random((len(axis.starts), 3))
    expected = np.zeros((axis.cells, 3))
    for value, start in zip(values, axis.starts, strict=True):
        expected[covered(37, 9, 2, int(start))] += value
    np.testing.assert_allclose(axis.spread(values), expected, atol=1e-12)


def test_part_has_all_windows_over_its_cells() -> None:
    axis = place_windows(size=37, tile=9, stride=2)
    part = axis.part(5, 11)
    over = [s for s in axis.starts if set(covered(37, 9, 2, s)) & set(range(5, 11))]
    assert part.starts.tolist() == over
    assert part.offset == 10
    np.testing.assert_array_equal(part.coverage(), axis.coverage()[5:11])
    np.testing.assert_array_equal(axis.part(14, 19).length(), axis.length()[14:])

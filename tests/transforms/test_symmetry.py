# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import json
from pathlib import Path

import kornia.augmentation as K
import numpy as np
import pytest
import torch

from torchgeo_discomkd.transforms import RandomSymmetry, apply_symmetry

GOLDEN = json.loads(
    (Path(__file__).parents[1] / 'data' / 'golden_augmentation.json').read_text()
)
ARRAYS = {
    'identity': lambda a: a,
    'hflip': lambda a: a[:, ::-1],
    'vflip': lambda a: a[::-1],
    'rot180': lambda a: np.rot90(a, 2),
    'rot90_ccw': lambda a: np.rot90(a, 1),
    'rot270_ccw': lambda a: np.rot90(a, 3),
    'transpose': lambda a: a.T,
    'antitranspose': lambda a: np.rot90(a, 2).T,
}


def which(before: torch.Tensor, after: torch.Tensor) -> str:
    matches = [
        name
        for name, move in ARRAYS.items()
        if np.array_equal(move(before.numpy()), after.numpy())
    ]
    assert len(matches) == 1
    return matches[0]


@pytest.mark.parametrize('size', [7, 8])
def test_eight_different_symmetries(size: int) -> None:
    tile = torch.arange(size * size, dtype=torch.float32).view(1, 1, size, size)
    moved = apply_symmetry(tile.expand(8, 1, size, size), torch.arange(8))
    assert {which(tile[0, 0], m[0]) for m in moved} == set(ARRAYS)


def test_distribution_chi_square() -> None:
    n = 40_000
    tile = torch.arange(9, dtype=torch.float32).view(1, 1, 3, 3)
    generator = torch.Generator().manual_seed(0)
    moved = RandomSymmetry(generator)(tile.expand(n, 1, 3, 3))
    patterns, counts = moved[:, 0].reshape(n, 9).unique(dim=0, return_counts=True)
    observed = {
        which(tile[0, 0], pattern.view(3, 3)): int(count)
        for pattern, count in zip(patterns, counts, strict=True)
    }
    chi2 = sum(
        (observed.get(name, 0) - n * p) ** 2 / (n * p) for name, p in GOLDEN.items()
    )
    # 0.999 quantile of chi-square with 7 degrees of freedom
    assert chi2 < 24.3, observed


def test_oblong_is_never_turned() -> None:
    tile = torch.arange(12, dtype=torch.float32).view(1, 1, 3, 4)
    moved = RandomSymmetry()(tile.expand(4000, 1, 3, 4))
    assert moved.shape == (4000, 1, 3, 4)
    patterns, counts = moved.reshape(4000, 12).unique(dim=0, return_counts=True)
    assert len(patterns) == 4
    identity = counts[(patterns == tile.flatten()).all(1)].item() / 4000
    assert identity == pytest.approx(0.625, abs=0.03)
    with pytest.raises(ValueError, match='3x4'):
        apply_symmetry(tile, torch.tensor([4]))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_dtype_and_missing_pixels_survive(dtype: torch.dtype) -> None:
    tile = torch.zeros(16, 2, 5, 5, dtype=dtype)
    tile[..., 0, 1] = float('nan')
    moved = RandomSymmetry()(tile)
    assert moved.dtype == dtype
    assert (moved.isnan().flatten(1).sum(1) == 2).all()


def test_generator_fixes_the_draw() -> None:
    x = torch.rand(64, 1, 4, 4)
    one = RandomSymmetry(torch.Generator().manual_seed(3))(x)
    torch.rand(5)
    two = RandomSymmetry(torch.Generator().manual_seed(3))(x)
    assert torch.equal(one, two)
    assert not torch.equal(one, RandomSymmetry(torch.Generator().manual_seed(4))(x))


def test_inside_kornia_all_images_share_the_draw() -> None:
    aug = K.AugmentationSequential(RandomSymmetry(), data_keys=None, keepdim=True)
    image = torch.rand(32, 2, 6, 6)
    batch = aug({'image_ms': image, 'image_sar': image.clone(), 'index': torch.ones(1)})
    assert torch.equal(batch['image_ms'], batch['image_sar'])
    assert not torch.equal(batch['image_ms'], image)


def test_transformation_matrix_moves_a_marker() -> None:
    transform = RandomSymmetry()
    for symmetry in range(8):
        x = torch.zeros(1, 1, 5, 5)
        x[0, 0, 1, 3] = 1  # row 1, column 3
        params = transform.forward_parameters(x.shape)
        params['symmetry'] = torch.tensor([symmetry])
        y = transform(x, params=params)
        row, column = (int(i) for i in y[0, 0].nonzero()[0])
        moved = transform.transform_matrix[0] @ torch.tensor([3.0, 1.0, 1.0])
        assert moved.tolist() == [column, row, 1.0]


def test_keepdim() -> None:
    assert RandomSymmetry(keepdim=True)(torch.rand(2, 6, 6)).shape == (2, 6, 6)


@pytest.mark.parametrize('shape', [(64, 2, 6, 6), (64, 2, 4, 6)])
def test_each_sample_gets_its_own_symmetry(shape: tuple[int, ...]) -> None:
    x = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    symmetry = torch.arange(64) % (8 if shape[-1] == shape[-2] else 4)
    expected = []
    for image, number in zip(x, symmetry.tolist(), strict=True):
        flips = [axis for axis, bit in ((-1, 1), (-2, 2)) if number & bit]
        image = image.flip(flips)
        expected.append(image.transpose(-1, -2) if number & 4 else image)
    assert torch.equal(apply_symmetry(x, symmetry), torch.stack(expected))
    other = x.to(memory_format=torch.channels_last)
    assert torch.equal(apply_symmetry(other, symmetry), torch.stack(expected))


def test_the_draw_on_the_cpu_waits_for_no_other_device() -> None:
    # reading a value of a meta tensor is an error
    for shape in ((16, 2, 6, 6), (16, 2, 4, 6)):
        assert RandomSymmetry()(torch.empty(shape, device='meta')).shape == shape

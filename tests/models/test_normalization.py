# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from typing import Any

import pytest
import torch
from torch import Tensor

from torchgeo_discomkd.errors import BandError
from torchgeo_discomkd.models import Normalization

STATISTICS: dict[str, Any] = {
    'mean': [10.0, -12.5],
    'std': [2.0, 5.0],
    'low': [4.0, -20.0],
    'high': [14.0, -5.0],
}


@pytest.fixture
def x() -> Tensor:
    return torch.tensor([[[[10.0, 14.0, 4.0]], [[-12.5, -2.5, -25.0]]]])


def test_identity_at_first(x: Tensor) -> None:
    normalization = Normalization(2)
    assert torch.equal(normalization(x), x)
    assert {k: v.shape for k, v in normalization.state_dict().items()} == {
        name: (2,) for name in ('fill', 'low', 'high', 'shift', 'scale')
    }
    assert str(normalization) == 'Normalization(2)'


def test_standardize(x: Tensor) -> None:
    normalization = Normalization(2)
    normalization.fit(**STATISTICS)
    expected = [[[[0.0, 2.0, -3.0]], [[0.0, 2.0, -2.5]]]]
    assert normalization(x).tolist() == expected


def test_percentile(x: Tensor) -> None:
    normalization = Normalization(2)
    normalization.fit(**STATISTICS, kind='percentile')
    expected = torch.tensor([[[[0.6, 1.0, 0.0]], [[0.5, 1.0, 0.0]]]])
    torch.testing.assert_close(normalization(x), expected)


@pytest.mark.parametrize('first', ['standardize', 'percentile'])
def test_none_and_fit_again(x: Tensor, first: Any) -> None:
    normalization = Normalization(2)
    normalization.fit(**STATISTICS, kind=first)
    normalization.fit(**STATISTICS, kind='none')
    assert torch.equal(normalization(x), x)
    assert normalization(torch.full_like(x, torch.nan))[0, :, 0, 0].tolist() == [
        10,
        -12.5,
    ]


@pytest.mark.parametrize('value', [torch.nan, torch.inf, -torch.inf])
def test_missing_pixels(x: Tensor, value: float) -> None:
    x[0, :, 0, 2] = value
    normalization = Normalization(2)
    assert normalization(x)[0, :, 0, 2].tolist() == [0, 0]
    normalization.fit(**STATISTICS)
    assert normalization(x).tolist() == [[[[0.0, 2.0, 0.0]], [[0.0, 2.0, 0.0]]]]
    normalization.fit(**STATISTICS, kind='percentile')
    torch.testing.assert_close(normalization(x)[0, :, 0, 2], torch.tensor([0.6, 0.5]))


@pytest.mark.parametrize('kind', ['standardize', 'percentile'])
@pytest.mark.parametrize('noise', [0.0, 1e-6])
def test_constant_band(kind: Any, noise: float) -> None:
    normalization = Normalization(1)
    value = 1234.56  # its mean is off by what float32 does not resolve
    normalization.fit([value + 2e-4], [noise], [value], [value + noise], kind)
    y = normalization(torch.full((1, 1, 2, 2), value))
    assert y.abs().max() < 1e-3


@pytest.mark.parametrize(
    ('given', 'returned'),
    [
        (torch.float32, torch.float32),
        (torch.float64, torch.float32),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.int16, torch.float32),
        (torch.uint8, torch.float32),
    ],
)
def test_dtypes(given: torch.dtype, returned: torch.dtype) -> None:
    normalization = Normalization(1)
    normalization.fit([1.0], [2.0], [0.0], [1.0])
    x = torch.full((1, 1, 2, 2), 5).to(given)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert normalization(x).dtype == returned
    y = normalization(x)
    assert y.dtype == returned
    assert y.unique().tolist() == [2]


def test_converted_module() -> None:
    normalization = Normalization(1).to(torch.bfloat16)
    y = normalization(torch.ones(1, 1, 2, 2))
    assert y.dtype == torch.bfloat16


@pytest.mark.parametrize('shape', [(1, 3, 2, 2), (2, 2, 2), (1, 1, 2, 2)])
def test_wrong_bands(shape: tuple[int, ...]) -> None:
    with pytest.raises(BandError, match='classifier of 2 bands'):
        Normalization(2)(torch.zeros(shape))


@pytest.mark.parametrize('name', STATISTICS)
@pytest.mark.parametrize('values', [[1.0], [1.0, 2.0, 3.0], [1.0, torch.nan]])
def test_wrong_statistics(name: str, values: list[float]) -> None:
    with pytest.raises(BandError, match=f'{name}=.*needs 2 finite numbers'):
        Normalization(2).fit(**STATISTICS | {name: values})


def test_unknown_kind() -> None:
    with pytest.raises(ValueError, match="normalization='minmax'"):
        Normalization(2).fit(**STATISTICS, kind='minmax')  # ty: ignore

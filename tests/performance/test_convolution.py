# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import pytest
import timm
import torch
from torch import nn
from torch.nn.functional import conv2d

from torchgeo_discomkd.models import create_encoder
from torchgeo_discomkd.performance import convolution
from torchgeo_discomkd.performance.convolution import (
    TinyMapConv2d,
    use_plain_convolutions,
    use_tiny_map_convolutions,
)


@pytest.mark.parametrize(
    'memory_format', [torch.contiguous_format, torch.channels_last]
)
@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('size', [(1, 1), (2, 2), (1, 4), (3, 2), (4, 4), (7, 5)])
def test_values_and_gradients_are_those_of_a_convolution(
    size: tuple[int, int], stride: int, memory_format: torch.memory_format
) -> None:
    torch.manual_seed(0)
    layer = TinyMapConv2d(5, 7, 3, stride, 1, bias=False).double().train()
    layer.to(memory_format=memory_format)  # ty: ignore[no-matching-overload]
    x = torch.randn(3, 5, *size, dtype=torch.float64, requires_grad=True)
    weight = layer.weight.detach().clone().requires_grad_()
    expected = conv2d(x, weight, stride=stride, padding=1)
    actual = layer(x)
    torch.testing.assert_close(actual, expected)

    upstream = torch.randn_like(expected)
    of_x, of_weight = torch.autograd.grad(expected, (x, weight), upstream)
    torch.testing.assert_close(torch.autograd.grad(layer(x), x, upstream)[0], of_x)
    layer(x).backward(upstream)
    torch.testing.assert_close(layer.weight.grad, of_weight)


def test_a_network_keeps_weights_names_and_random_numbers() -> None:
    torch.manual_seed(0)
    plain = timm.create_model('resnet18', num_classes=0)
    after = torch.rand(1)
    torch.manual_seed(0)
    changed = timm.create_model('resnet18', num_classes=0)
    use_tiny_map_convolutions(changed)
    assert torch.equal(torch.rand(1), after)
    assert sum(isinstance(m, TinyMapConv2d) for m in changed.modules()) == 16
    assert list(plain.state_dict()) == list(changed.state_dict())
    x = torch.randn(4, 3, 64, 64, dtype=torch.float64)
    torch.testing.assert_close(changed.double()(x), plain.double()(x))


@pytest.mark.parametrize('fast', [True, False])
@pytest.mark.parametrize('autocast', [True, False])
def test_float32_is_left_to_pytorch_where_its_products_are_slow(
    monkeypatch: pytest.MonkeyPatch, fast: bool, autocast: bool
) -> None:
    monkeypatch.setattr(convolution, 'FAST_FLOAT32_PRODUCTS', fast)
    layer = TinyMapConv2d(4, 4, 3, 1, 1, bias=False).train()
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        y = layer(torch.randn(2, 4, 2, 2))
    assert y.dtype == (torch.bfloat16 if autocast else torch.float32)
    convolved = 'Convolution' in type(y.grad_fn).__name__
    assert convolved == (not autocast and not fast)


def test_other_convolutions_stay() -> None:
    others = nn.Sequential(
        nn.Conv2d(4, 4, 3, padding=1),
        nn.Conv2d(4, 4, 3, padding=1, bias=False, groups=2),
        nn.Conv2d(4, 4, 3, padding=2, bias=False, dilation=2),
        nn.Conv2d(4, 4, 1, bias=False),
    )
    use_tiny_map_convolutions(others)
    assert not any(isinstance(m, TinyMapConv2d) for m in others)


def test_encoders_have_them() -> None:
    encoder = create_encoder('resnet18', 2)
    assert any(isinstance(m, TinyMapConv2d) for m in encoder.modules())


def test_back_to_plain_convolutions() -> None:
    encoder = create_encoder('test_resnet', 2).eval()
    weights = dict(encoder.named_parameters())
    assert any(isinstance(m, TinyMapConv2d) for m in encoder.modules())
    use_plain_convolutions(encoder)
    assert not any(isinstance(m, TinyMapConv2d) for m in encoder.modules())
    assert not any(m.training for m in encoder.modules())
    assert dict(encoder.named_parameters()).keys() == weights.keys()
    assert all(p is weights[name] for name, p in encoder.named_parameters())

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Gradient reversal: what helps the discriminator hurts the encoder."""

from typing import Any

import torch
from torch import Tensor


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * -ctx.strength, None


def gradient_reversal(x: Tensor, strength: float = 1.0) -> Tensor:
    """Pass values on unchanged and gradients back with the opposite sign.

    Source: Ganin & Lempitsky, 'Unsupervised domain adaptation by backpropagation',
    ICML 2015, Eq. 6 and 7; https://arxiv.org/abs/1409.7495.

    Args:
        x: Any floating-point tensor.
        strength: Factor lambda of the reversed gradient; DisCoM-KD uses 1.

    Returns:
        A tensor equal to *x*, with the shape and dtype of *x*.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.losses import gradient_reversal
        >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> gradient_reversal(x, strength=0.5).sum().backward()
        >>> x.grad
        tensor([-0.5000, -0.5000])
    """
    return _Reverse.apply(x, strength)

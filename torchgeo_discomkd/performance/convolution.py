# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Convolutions of tiny feature maps.

Measured: a bfloat16 training step takes 0.6 of the time on one core of a Xeon
(``python -m tests.speed.training_step``).
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

#: Pixels of the largest output that is computed as one matrix product.
LARGEST = 4

#: Whether matrix products are faster than convolutions in float32 too: they are on a
#: Xeon with AMX and on an EPYC that has AVX2 only; on an EPYC with AVX-512 (Zen 5),
#: convolutions are 1.4 times faster. No others were measured.
FAST_FLOAT32_PRODUCTS: bool = torch.cpu._is_amx_tile_supported() or (
    torch.cpu._is_avx2_supported() and not torch.cpu._is_avx512_supported()
)


class TinyMapConv2d(nn.Conv2d):
    """A 3x3 convolution that also trains fast on tiny maps on the CPU.

    The last maps of a ResNet-18 have 2x2 pixels on tiles of 64x64. PyTorch's weight
    gradients of such convolutions run at a few percent of a processor's speed. As one
    matrix product of all 3x3 neighbourhoods they take a quarter of the time, and a
    training step of the whole network 0.6 of it (bfloat16, batches of 64, one core of
    a Xeon with AMX; 0.8 in float32). On an EPYC (Zen 5) such a convolution takes
    half of the time in bfloat16. Everything else is left to PyTorch.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Convolve.

        Args:
            input: Shape (B, C, H, W).

        Returns:
            As :class:`torch.nn.Conv2d`, up to rounding.
        """
        stride = self.stride[0]
        height, width = ((size - 1) // stride + 1 for size in input.shape[-2:])
        tiny = height * width <= LARGEST
        if not (self.training and tiny and _product_is_faster(input)):
            return super().forward(input)
        padded = pad(input.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
        rows = [slice(i, i + (height - 1) * stride + 1, stride) for i in range(3)]
        columns = [slice(j, j + (width - 1) * stride + 1, stride) for j in range(3)]
        neighbours = [padded[:, i, j] for i in rows for j in columns]
        # either order of the factors is a view of the weights as they lie in memory
        if self.weight.is_contiguous():
            patches, kernels = torch.stack(neighbours, dim=-1).flatten(3), self.weight
        else:
            patches = torch.cat(neighbours, dim=-1)
            kernels = self.weight.permute(0, 2, 3, 1)
        return linear(patches, kernels.flatten(1)).permute(0, 3, 1, 2)


def _product_is_faster(input: Tensor) -> bool:
    if input.device.type != 'cpu':
        return False
    autocast = torch.is_autocast_enabled('cpu')
    dtype = torch.get_autocast_dtype('cpu') if autocast else input.dtype
    return dtype != torch.float32 or FAST_FLOAT32_PRODUCTS


def use_tiny_map_convolutions(module: nn.Module) -> None:
    """Replace the 3x3 convolutions of a network, keeping their weights.

    Args:
        module: The network, changed in place; its state dict stays the same.
    """
    for name, child in list(module.named_modules()):
        if isinstance(child, nn.Conv2d) and _replaceable(child):
            module.set_submodule(name, _alike(child, TinyMapConv2d))


def use_plain_convolutions(module: nn.Module) -> None:
    """Undo :func:`use_tiny_map_convolutions`, for code that only knows ``nn.Conv2d``.

    Args:
        module: The network, changed in place; its state dict stays the same.
    """
    for name, child in list(module.named_modules()):
        if isinstance(child, TinyMapConv2d):
            module.set_submodule(name, _alike(child, nn.Conv2d))


def _alike(conv: nn.Conv2d, kind: type[nn.Conv2d]) -> nn.Conv2d:
    # on no device, so that it draws no random weights
    replacement = kind(
        conv.in_channels,
        conv.out_channels,
        kernel_size=3,
        stride=conv.stride[0],
        padding=1,
        bias=False,
        device='meta',
    )
    replacement.weight = conv.weight
    return replacement.train(conv.training)


def _replaceable(conv: nn.Conv2d) -> bool:
    # a subclass has a forward of its own
    return (
        type(conv) is nn.Conv2d
        and conv.kernel_size == (3, 3)
        and conv.padding == (1, 1)
        and conv.dilation == (1, 1)
        and conv.stride[0] == conv.stride[1]
        and conv.groups == 1
        and conv.padding_mode == 'zeros'
        and conv.bias is None
    )

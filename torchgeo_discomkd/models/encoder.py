# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Image encoders by timm name, with any number of channels."""

import difflib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import timm
import timm.models
from safetensors import SafetensorError
from torch import Tensor, nn

from ..errors import BandError, WeightsError
from ..performance.convolution import use_tiny_map_convolutions
from .checkpoint_file import UNREADABLE

#: A string that ends like this is a path, not the name of a TorchGeo weight.
SUFFIXES = ('.pth', '.pt', '.safetensors')


def create_encoder(
    model: str = 'resnet18', in_channels: int = 3, weights: str | bool | None = None
) -> nn.Module:
    """Create an encoder that returns pooled features.

    Without pretrained weights, a ResNet starts as in the released code of DisCoM-KD:
    the last batch normalisation of a block has weight 1 (timm: 0), and the first
    convolution PyTorch's default initialisation. Other models start as in timm.

    If pretrained weights have another number of input channels, the kernels of the
    first convolution are repeated along the channel axis, cut to *in_channels* and
    scaled by their number over *in_channels*, so that activations keep their size; for
    one channel they are summed. This is timm's rule. It goes by position and knows
    nothing about bands.

    Args:
        model: Name of a timm model, for example 'resnet18'.
        in_channels: Number of bands C, 1 or more.
        weights: None or False for random initialisation, True for timm's pretrained
            (ImageNet) weights, the name of a TorchGeo weight
            ('ResNet18_Weights.SENTINEL2_ALL_MOCO'), or the path of a state dict of
            the timm model (.pth, .pt, .safetensors). Its classification layer, if any,
            is ignored.

    Returns:
        A module from images, shape (B, C, H, W), to features, shape (B, F), with F in
        its attribute ``num_features``.

    Raises:
        BandError: If *in_channels* is not positive.
        WeightsError: If *model* or *weights* is unknown, cannot be reached or read, or
            if they do not fit together.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.models import create_encoder
        >>> encoder = create_encoder('test_resnet', in_channels=13)
        >>> encoder(torch.rand(4, 13, 32, 32)).shape
        torch.Size([4, 96])
        >>> encoder.num_features
        96
    """
    if in_channels < 1:
        raise BandError(f'in_channels={in_channels}: an encoder needs 1 band or more.')
    encoder = _create_timm_model(model, in_channels, pretrained=weights is True)
    # some models of timm end in a hidden layer that is wider than num_features
    encoder.num_features = getattr(encoder, 'head_hidden_size', encoder.num_features)
    if isinstance(weights, str):
        is_path = weights.endswith(SUFFIXES) or Path(weights).exists()
        state_dict = _read(weights) if is_path else _fetch(weights)
        _load(encoder, model, in_channels, state_dict, weights)
    elif weights is not True and isinstance(encoder, timm.models.ResNet):
        stem = encoder.get_submodule(_config(encoder)['first_conv'])
        stem.reset_parameters()  # ty: ignore[not-callable]
    use_tiny_map_convolutions(encoder)
    return encoder


def _create_timm_model(model: str, in_channels: int, pretrained: bool) -> nn.Module:
    if not timm.is_model(model):
        close = difflib.get_close_matches(model, timm.list_models(), n=3)
        raise WeightsError(
            f"model='{model}' is not a timm model. "
            + (f'Did you mean {" or ".join(close)}? ' if close else '')
            + 'timm.list_models() lists all names.'
        )
    resnet = timm.model_entrypoint(model).__module__ == timm.models.ResNet.__module__
    options: dict[str, Any] = {'zero_init_last': False} if resnet else {}
    try:
        return timm.create_model(
            model, pretrained=pretrained, in_chans=in_channels, num_classes=0, **options
        )
    except OSError as error:
        raise WeightsError(
            _unreachable(f"timm's weights of '{model}'", error)
        ) from error
    except RuntimeError as error:
        raise WeightsError(
            f"timm cannot create '{model}' with pretrained={pretrained}: {error} "
            'Choose another model, or weights=None.'
        ) from error


def _unreachable(what: str, error: OSError) -> str:
    return (
        f'{what} cannot be reached ({error}). Connect to the network, download them on '
        'another machine and give the path of the file, or use weights=None.'
    )


def _read(path: str) -> Mapping[str, Tensor]:
    if not Path(path).is_file():
        raise WeightsError(f"weights='{path}': there is no such file.")
    try:
        return timm.models.load_state_dict(path, use_ema=False, weights_only=True)
    except (*UNREADABLE, SafetensorError) as error:
        raise WeightsError(
            f"weights='{path}' is not a state dict that can be read safely ({error}). "
            'Save one with torch.save(encoder.state_dict(), path).'
        ) from error


def _fetch(name: str) -> Mapping[str, Tensor]:
    # takes seconds, and only pretrained weights of TorchGeo need it
    from torchgeo.models import get_weight

    try:
        weight = get_weight(name)
    except ValueError as error:
        raise WeightsError(
            f"weights='{name}' is neither a file nor the name of a TorchGeo weight: "
            'use a path that ends in .pth or .safetensors, a name such as '
            "'ResNet18_Weights.SENTINEL2_ALL_MOCO', true for ImageNet, or null."
        ) from error
    try:
        return weight.get_state_dict(progress=False)
    except OSError as error:
        raise WeightsError(_unreachable(f"TorchGeo's '{name}'", error)) from error


def _load(
    encoder: nn.Module,
    model: str,
    in_channels: int,
    state_dict: Mapping[str, Tensor],
    weights: str,
) -> None:
    config = _config(encoder)
    head = f'{config["classifier"]}.'
    tensors = {k: v for k, v in state_dict.items() if not k.startswith(head)}
    stem = f'{config["first_conv"]}.weight'
    if isinstance(kernels := tensors.get(stem), Tensor) and kernels.ndim == 4:
        tensors[stem] = _adapt_stem(kernels, in_channels)
    try:
        encoder.load_state_dict(tensors)
    except RuntimeError as error:
        raise WeightsError(
            f"weights='{weights}' do not fit model='{model}': name the model they were "
            f'trained with. {error}'
        ) from error


def _config(encoder: nn.Module) -> Mapping[str, Any]:
    return cast(Mapping[str, Any], encoder.pretrained_cfg)


def _adapt_stem(kernels: Tensor, in_channels: int) -> Tensor:
    channels = kernels.shape[1]
    if in_channels == channels:
        return kernels
    if in_channels == 1:
        return kernels.sum(dim=1, keepdim=True)
    repeated = kernels.repeat(1, math.ceil(in_channels / channels), 1, 1)
    return repeated[:, :in_channels] * (channels / in_channels)

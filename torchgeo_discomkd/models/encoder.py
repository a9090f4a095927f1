# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Image encoders by timm name, with any number of channels."""

import difflib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

import timm
import timm.models
import torch
from torch import nn

from ..errors import BandError, TileSizeError, WeightsError
from ..performance.convolution import use_tiny_map_convolutions
from .weights import Weights, check_weights, load_weights, unreachable

#: Options of timm's transformers that let them take tiles of any size, or nearly.
ANY_SIZE: tuple[dict[str, bool], ...] = (
    {'dynamic_img_size': True},
    {'strict_img_size': False},
)


def create_encoder(
    model: str = 'resnet18', in_channels: int = 3, weights: Weights = None
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

    Transformers take tiles of other sizes than that of their name, if timm can do that:
    a ViT interpolates its positions, a Swin computes the masks of its windows anew.
    :func:`check_tile_size` says which sizes an encoder takes.

    Args:
        model: Name of a timm model, for example 'resnet18'.
        in_channels: Number of bands C, 1 or more.
        weights: None or False for random initialisation, True for timm's pretrained
            (ImageNet) weights, a weight of TorchGeo or torchvision
            (ResNet18_Weights.SENTINEL2_ALL_MOCO) or its name, or the path of a state
            dict of the timm model (.pth, .pt, .ckpt, .safetensors). A prefix of the
            names (module.encoder_q., backbone., model.) is recognised: other modules
            beside the encoder, its momentum copy and its classification layer are
            ignored. All of its own tensors must be there.

    Returns:
        A module from images, shape (B, C, H, W), to features, shape (B, F), with F in
        its attribute ``num_features``.

    Raises:
        BandError: If *in_channels* is not positive.
        WeightsError: If *model* or *weights* is unknown or of another type, cannot be
            reached or read, or if they do not fit together.

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
    check_weights(weights)
    encoder = _create_timm_model(model, in_channels, pretrained=weights is True)
    # some models of timm end in a hidden layer that is wider than num_features
    encoder.num_features = getattr(encoder, 'head_hidden_size', encoder.num_features)
    if not (weights is None or isinstance(weights, bool)):
        load_weights(encoder, model, in_channels, weights)
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
    given: dict[str, Any] = {'in_chans': in_channels, 'num_classes': 0}
    given['pretrained'] = pretrained
    try:
        if resnet:
            return timm.create_model(model, **given, zero_init_last=False)
        for option in ANY_SIZE:
            with suppress(TypeError):
                return timm.create_model(model, **given, **option)
        return timm.create_model(model, **given)
    except OSError as error:
        raise unreachable(f"timm's weights of '{model}'", error) from error
    except RuntimeError as error:
        raise WeightsError(
            f"timm cannot create '{model}' with pretrained={pretrained}: {error} "
            'Choose another model, or weights=None.'
        ) from error


def check_tile_size(
    encoder: nn.Module, in_channels: int, size: tuple[int, int]
) -> None:
    """Check that an encoder takes tiles of a size, by trying.

    Args:
        encoder: The encoder; it is not changed.
        in_channels: Its number of bands.
        size: Height and width of the tiles.

    Raises:
        TileSizeError: If it does not take them.

    Example:
        >>> from torchgeo_discomkd.models import check_tile_size, create_encoder
        >>> encoder = create_encoder('test_vit', in_channels=2)
        >>> check_tile_size(encoder, 2, (64, 48))
        >>> try:
        ...     check_tile_size(encoder, 2, (60, 60))
        ... except TileSizeError as error:
        ...     print(str(error).partition(': ')[0])
        test_vit does not take tiles of 60x60 pixels
    """
    if isinstance(encoder, timm.models.ResNet):
        # it takes any
        return
    parameter = next(encoder.parameters())
    training = encoder.training
    try:
        with torch.inference_mode():
            encoder.eval()(parameter.new_zeros(1, in_channels, *size))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise TileSizeError(
            f'{_config(encoder).get("architecture", "The encoder")} does not take '
            f'tiles of {size[0]}x{size[1]} pixels: {error} Cut tiles of another size, '
            'or choose another model: a ResNet takes any size.'
        ) from error
    finally:
        encoder.train(training)


def _config(encoder: nn.Module) -> Mapping[str, Any]:
    return cast(Mapping[str, Any], encoder.pretrained_cfg)

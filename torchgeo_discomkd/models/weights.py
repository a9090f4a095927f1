# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Pretrained encoder weights: where they come from, and whether they fit."""

import difflib
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import timm
import timm.layers
import timm.models
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torchvision.models import WeightsEnum

from ..errors import WeightsError
from .checkpoint_file import UNREADABLE
from .modalities import check_known

#: Initial weights of an encoder, as for :func:`create_encoder`. On the command line the
#: first type that a word fits is taken: true is no path.
type Weights = WeightsEnum | bool | str | Path | None

#: The same for all modalities, or for each its own.
type ModalityWeights = Weights | Mapping[str, Weights]

#: A string that ends like this is a path, not the name of a TorchGeo weight.
SUFFIXES = ('.ckpt', '.pth', '.pt', '.safetensors')

#: In the prefix of an encoder that only follows the trained one (MoCo, BYOL).
COPIES = ('encoder_k', 'momentum', 'target')

SUPPORTED = (
    "a WeightsEnum member or its name, such as 'ResNet18_Weights.SENTINEL2_ALL_MOCO', "
    'the path of a state dict, True for ImageNet, or None'
)


def weights_by_modality(
    weights: ModalityWeights, modalities: Iterable[str]
) -> dict[str, Weights]:
    """Return the weights of every modality.

    Args:
        weights: Those of all modalities, or by modality; one that is not named starts
            from random weights.
        modalities: Names of the modalities.

    Raises:
        ModalityError: If *weights* names an unknown modality.
        WeightsError: If *weights* is a state dict itself.
    """
    modalities = list(modalities)
    if not isinstance(weights, Mapping):
        return dict.fromkeys(modalities, weights)
    if any(isinstance(value, Tensor) for value in weights.values()):
        raise WeightsError(
            'weights is a state dict: save it with torch.save and give the path.'
        )
    check_known(weights, modalities, 'weights')
    return {m: weights.get(m) for m in modalities}


def check_weights(weights: object) -> None:
    """Refuse what is not a kind of weights.

    Args:
        weights: The argument.

    Raises:
        WeightsError: If it is of another type.
    """
    if weights is not None and not isinstance(weights, WeightsEnum | str | Path | bool):
        raise WeightsError(
            f'weights={weights!r:.80} is of type {type(weights).__name__}: give '
            f'{SUPPORTED}; by modality if they differ.'
        )


def load_weights(
    encoder: nn.Module, model: str, in_channels: int, weights: WeightsEnum | str | Path
) -> None:
    """Load pretrained weights into an encoder.

    Args:
        encoder: The encoder, changed in place.
        model: Its timm name, for messages.
        in_channels: Its number of bands.
        weights: Where they come from, as for :func:`create_encoder`.

    Raises:
        WeightsError: If they are unknown, cannot be reached or read, or do not fit.
    """
    trained = None
    if isinstance(weights, str | Path) and _is_path(weights):
        tensors = _read(os.fspath(weights))
    else:
        member = weights if isinstance(weights, WeightsEnum) else _find(str(weights))
        trained = member.meta.get('model')
        tensors = _download(member)
    _fit(encoder, model, in_channels, dict(_flatten(tensors)), str(weights), trained)


def unreachable(what: str, error: OSError) -> WeightsError:
    """Return the error for weights that cannot be downloaded.

    Args:
        what: Which ones.
        error: What was raised.
    """
    return WeightsError(
        f'{what} cannot be reached ({error}). Connect to the network, download them on '
        'another machine and give the path of the file, or use weights=None.'
    )


def _is_path(weights: str | Path) -> bool:
    named = isinstance(weights, str) and not weights.endswith(SUFFIXES)
    return not named or Path(weights).exists()


def _read(path: str) -> Mapping[str, Any]:
    if not Path(path).is_file():
        raise WeightsError(f"weights='{path}': there is no such file.")
    try:
        return timm.models.load_state_dict(path, use_ema=False, weights_only=True)
    except (*UNREADABLE, SafetensorError) as error:
        raise WeightsError(
            f"weights='{path}' is not a state dict that can be read safely "
            f'({type(error).__name__}). Save one with '
            'torch.save(encoder.state_dict(), path).'
        ) from error


def _find(name: str) -> WeightsEnum:
    import torchvision.models

    # takes seconds, and only pretrained weights of TorchGeo need it
    from torchgeo.models import get_model_weights, get_weight, list_models

    for get in (get_weight, torchvision.models.get_weight):
        try:
            return get(name)
        except (KeyError, ValueError):
            continue
    known = [str(w) for m in list_models() for w in _members(get_model_weights, m)]
    ending = name.rpartition('.')[-1]
    close = [n for n in known if n.endswith(f'.{ending}')]
    close = (close or difflib.get_close_matches(name, known, n=3))[:3]
    raise WeightsError(
        f"weights='{name}' is neither a file nor the name of a TorchGeo weight"
        + (f'; did you mean {" or ".join(close)}? ' if close else '. ')
        + f'Give {SUPPORTED}.'
    )


def _members(get: Any, model: str) -> Iterable[WeightsEnum]:
    try:
        return get(model)
    except KeyError:
        # a model without pretrained weights
        return ()


def _download(weight: WeightsEnum) -> Mapping[str, Any]:
    try:
        return weight.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except OSError as error:
        raise unreachable(f"TorchGeo's '{weight}'", error) from error
    except (*UNREADABLE, SafetensorError) as error:
        raise WeightsError(
            f"weights='{weight}': the download is damaged, or not a state dict that "
            f'can be read safely ({type(error).__name__}). Remove it from the cache, '
            f'{torch.hub.get_dir()}.'
        ) from error


def _flatten(content: Mapping[str, Any], prefix: str = '') -> Iterator[Any]:
    """Yield the names and tensors of nested state dicts."""
    for name, value in content.items():
        if isinstance(value, Tensor):
            yield f'{prefix}{name}', value
        elif isinstance(value, Mapping):
            yield from _flatten(value, f'{prefix}{name}.')


def _fit(
    encoder: nn.Module,
    model: str,
    in_channels: int,
    tensors: dict[str, Tensor],
    weights: str,
    trained: str | None,
) -> None:
    config = cast(Mapping[str, Any], encoder.pretrained_cfg)
    own = encoder.state_dict()
    # older files do not count the batches that batch normalisations have seen
    needed = {k for k in own if not k.endswith('.num_batches_tracked')}
    prefix = _prefix(needed, tensors, weights)
    heads = config['classifier']
    heads = (heads,) if isinstance(heads, str) else tuple(heads or ())
    found = {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
        and not name.startswith(tuple(f'{prefix}{head}.' for head in heads))
    }
    _adapt_positions(encoder, found)
    stem = f'{config["first_conv"]}.weight'
    if stem in found and found[stem].ndim == 4:
        found[stem] = _adapt_stem(found[stem], in_channels)
    lacking = [k for k in own if k in needed and k not in found]
    further = [k for k in found if k not in own]
    shapes = {k: (found[k].shape, own[k].shape) for k in own if k in found}
    other = [
        f'{k} {tuple(a)} instead of {tuple(b)}'
        for k, (a, b) in shapes.items()
        if a != b
    ]
    if not (lacking or further or other):
        encoder.load_state_dict(found)
        return
    fitting = sum(a == b for k, (a, b) in shapes.items() if k in needed)
    where = f' (as tensors {prefix}*)' if prefix else ''
    better = f"'{trained}'" if trained else 'the one that they were trained with'
    advice = f'Set model to {better}.'
    if trained and not timm.is_model(trained):
        advice = f'They are of {better}, which is no timm model: choose others.'
    raise WeightsError(
        f"weights='{weights}' do not fit model='{model}'{where}.\n"
        f'{fitting} of {len(needed)} tensors of the model fit; lacking: '
        f'{_some(lacking)}; of another shape: {_some(other)}.\n'
        f'Without a place in the model: {_some(further)}. {advice}'
    )


def _some(names: list[str]) -> str:
    """Return the number of names, and the first three."""
    if not names:
        return '0'
    text = ', '.join(names[:3]) + (', ...' if len(names) > 3 else '')
    return f'{len(names)} ({text})'


def _prefix(needed: set[str], tensors: Iterable[str], weights: str) -> str:
    """Return what stands before the names of the encoder, of which there may be two."""
    counts = Counter(
        name[:start]
        for name in tensors
        for start in (0, *(i + 1 for i, letter in enumerate(name) if letter == '.'))
        if name[start:] in needed
    )
    if not counts:
        return ''
    best = [p for p, count in counts.items() if count == max(counts.values())]
    best = [p for p in best if not any(copy in p for copy in COPIES)] or best
    if len(best) > 1:
        raise WeightsError(
            f"weights='{weights}' hold {len(best)} encoders ({', '.join(best[:4])}): "
            'save the state dict of one of them, and give its path.'
        )
    return best[0]


def _adapt_positions(encoder: nn.Module, found: dict[str, Tensor]) -> None:
    """Resample the positions of a ViT that was trained on images of another size."""
    own, trained = getattr(encoder, 'pos_embed', None), found.get('pos_embed')
    grid = getattr(getattr(encoder, 'patch_embed', None), 'grid_size', None)
    if not isinstance(own, Tensor) or trained is None or grid is None:
        return
    # with or without those of the class token and of registers
    prefix = own.shape[-2] - grid[0] * grid[1]
    side = math.isqrt(max(trained.shape[-2] - prefix, 0))
    square = trained.ndim == 3 and side**2 == trained.shape[-2] - prefix > 0
    if own.ndim == 3 and square and side**2 != grid[0] * grid[1]:
        found['pos_embed'] = timm.layers.resample_abs_pos_embed(
            trained, list(grid), num_prefix_tokens=prefix
        )


def _adapt_stem(kernels: Tensor, in_channels: int) -> Tensor:
    channels = kernels.shape[1]
    if in_channels == channels:
        return kernels
    if in_channels == 1:
        return kernels.sum(dim=1, keepdim=True)
    repeated = kernels.repeat(1, math.ceil(in_channels / channels), 1, 1)
    return repeated[:, :in_channels] * (channels / in_channels)

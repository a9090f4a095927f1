# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Learning rates that decrease from the last layer of an encoder to the first."""

from collections.abc import Iterable, Mapping
from typing import Any

from timm.optim import param_groups_layer_decay
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import CheckpointError, SettingError


def layer_groups(
    parameters: Iterable[Tensor],
    encoders: Iterable[nn.Module],
    lr: float,
    layer_decay: float | None,
) -> list[dict[str, Any]]:
    """Return the groups of parameters of an optimizer.

    The last layer of an encoder learns at the full rate, each earlier one at
    *layer_decay* times that of the next. Layers are those of timm: the blocks of the
    network.

    Source: Bao et al., BEiT: BERT Pre-Training of Image Transformers, ICLR 2022
    (https://arxiv.org/abs/2106.08254).

    Args:
        parameters: All parameters; those that are frozen are left out.
        encoders: The encoders that they belong to, in part.
        lr: The full learning rate.
        layer_decay: The factor; None for the full rate everywhere.

    Returns:
        One group for each rate, the full one first.

    Raises:
        SettingError: If *layer_decay* is out of range, or there are no encoders.
    """
    trained = [p for p in parameters if p.requires_grad]
    if layer_decay is None:
        return [{'params': trained}]
    encoders = list(encoders)
    if not 0 < layer_decay <= 1:
        raise SettingError(
            f'layer_decay={layer_decay}: give a number above 0, at most 1, or null.'
        )
    if not encoders:
        raise SettingError(
            f'layer_decay={layer_decay}: the task names no encoders; a class of your '
            'own does so in encoders().'
        )
    scales: dict[Tensor, float] = {}
    for encoder in encoders:
        groups = param_groups_layer_decay(
            encoder, weight_decay=0.0, layer_decay=layer_decay
        )
        for group in groups:
            scales |= dict.fromkeys(group['params'], group['lr_scale'])
    rates: dict[float, list[Tensor]] = {1.0: []}
    for parameter in trained:
        rates.setdefault(scales.get(parameter, 1.0), []).append(parameter)
    return [{'params': own, 'lr': lr * scale} for scale, own in rates.items()]


def check_rate(name: str, lr: float, optimizers: Iterable[Optimizer]) -> None:
    """Check that optimizers of the command line have a learning rate of the task.

    Args:
        name: Name of the setting.
        lr: The learning rate.
        optimizers: The optimizers.

    Raises:
        SettingError: If they have another one.
    """
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    # schedules keep the rate that they began with
    rates = {float(group.get('initial_lr', group['lr'])) for group in groups}
    if rates != {lr}:
        found = ', '.join(map(str, sorted(rates)))
        raise SettingError(
            f'{name}={lr} has no effect with --optimizer, which trains all parameters '
            f'at lr={found}: give both the same rate, or omit one of them.'
        )


def check_same_decay(
    checkpoint: Mapping[str, Any], settings: Mapping[str, Any]
) -> None:
    """Check that a training resumes with the layer-wise rates that it began with.

    Args:
        checkpoint: The checkpoint.
        settings: Hyperparameters of the task.

    Raises:
        CheckpointError: If it does not.
    """
    began = checkpoint.get('hyper_parameters', {}).get('layer_decay')
    own = settings.get('layer_decay')
    # the optimizer of the checkpoint has other groups of parameters
    if began != own:
        raise CheckpointError(
            f'the checkpoint has layer_decay={began}, but the task has {own}: resume '
            'with the configuration of its run.'
        )

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Find weights that are NaN or infinite."""

import torch
from torch import Tensor, nn

from .normalization import Normalization


def not_finite(module: nn.Module) -> list[str]:
    """Return the names of parameters and buffers with values that are not finite.

    Normalisations are left out: a limit of theirs may be infinite.

    Args:
        module: Any module; its device is waited for once.

    Returns:
        Names as in its state dict; empty if all is well.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> not_finite(layer)
        []
        >>> _ = nn.init.constant_(layer.bias, torch.nan)
        >>> not_finite(layer)
        ['bias']
    """
    tensors: dict[str, Tensor] = {}
    for prefix, part in module.named_modules():
        if isinstance(part, Normalization):
            continue
        own = (
            *part.named_parameters(recurse=False),
            *part.named_buffers(recurse=False),
        )
        tensors |= {f'{prefix}.{name}'.lstrip('.'): x for name, x in own}
    names = [n for n, x in tensors.items() if x.is_floating_point() and x.numel()]
    if not names:
        return []
    # one number for each, and one transfer for all
    largest = [
        torch.linalg.vector_norm(tensors[name].detach(), torch.inf).float()
        for name in names
    ]
    finite = torch.stack(largest).isfinite().tolist()
    return [name for name, good in zip(names, finite, strict=True) if not good]

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""What a CUDA graph does to memory, on the CPU."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from torchgeo_discomkd.performance.replay import Replay


def capture_static(module: nn.Module, args: tuple[Tensor, ...]) -> Callable[..., Any]:
    """Return a callable with static inputs, results and gradients.

    Like a capture it runs the module some times before, and every call overwrites what
    the last one returned.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    for _ in range(4):
        loss, terms = module(*args)
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
    results = (loss.detach().clone(), terms.detach().clone())
    static = [None if g is None else g.clone() for g in found]
    outer, fresh = torch.ones_like(loss), [*found]

    def forward() -> None:
        with torch.enable_grad():
            loss, terms = module(*args)
        fresh[:] = torch.autograd.grad(loss, parameters, allow_unused=True)
        for result, value in zip(results, (loss, terms), strict=True):
            result.copy_(value.detach())

    def backward() -> None:
        for buffer, gradient in zip(static, fresh, strict=True):
            if buffer is not None:
                torch.mul(gradient, outer, out=buffer)

    pairs = zip(parameters, static, strict=True)
    used = [(p, buffer) for p, buffer in pairs if buffer is not None]
    return Replay(args, results, used, outer, forward, backward)

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""What a CUDA graph does to memory, on the CPU."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def capture_static(module: nn.Module, args: tuple[Tensor, ...]) -> Callable[..., Any]:
    """Return a callable with static inputs, results and gradients.

    Like ``torch.cuda.make_graphed_callables`` it runs the module some times before, and
    every call overwrites what the last one returned.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    for _ in range(4):
        loss, terms = module(*args)
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    results = (loss.detach().clone(), terms.detach().clone())
    static = [None if g is None else g.clone() for g in gradients]

    class Replay(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Tensor) -> tuple[Tensor, ...]:
            for arg, value in zip(args, inputs, strict=False):
                arg.copy_(value)
            with torch.enable_grad():
                loss, terms = module(*args)
            ctx.gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
            for result, value in zip(results, (loss, terms), strict=True):
                result.copy_(value)
            return tuple(result.detach() for result in results)

        @staticmethod
        def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
            for buffer, gradient in zip(static, ctx.gradients, strict=True):
                if buffer is not None:
                    torch.mul(gradient, outer[0], out=buffer)
            found = [None if b is None else b.detach() for b in static]
            return (*(None for _ in args), *found)

    return lambda *inputs: Replay.apply(*inputs, *parameters)

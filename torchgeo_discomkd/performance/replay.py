# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""A step in static memory, whose gradients go straight to the parameters."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor


class Replay:
    """Compute a loss again, and its gradients when it goes backward.

    Autograd sees one node instead of one for each parameter: hundreds of them would
    keep Python busy for longer than the GPU needs for the step. So hooks of parameters
    are not called.
    """

    def __init__(
        self,
        inputs: Sequence[Tensor],
        results: tuple[Tensor, Tensor],
        gradients: Iterable[tuple[Tensor, Tensor]],
        outer: Tensor,
        forward: Callable[[], object],
        backward: Callable[[], object],
    ) -> None:
        """Initialize a new Replay instance.

        Args:
            inputs: Where *forward* finds its inputs.
            results: Where it leaves the loss, and the terms.
            gradients: Parameters, and where *backward* leaves the gradient of each, in
                the memory layout of the parameter.
            outer: Where *backward* finds the gradient with respect to the loss.
            forward: Computes the results.
            backward: Computes the gradients, once after each *forward*.
        """
        self._inputs = inputs
        self._loss, self._terms = results
        self._gradients = list(gradients)
        self._outer = outer
        self._forward = forward
        self._backward = backward
        self._anchor = torch.zeros((), device=outer.device, requires_grad=True)
        self._ticket: object = None

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the loss.

        Args:
            inputs: In place of the static ones.

        Returns:
            The loss, and the terms, which the next call overwrites.
        """
        for static, value in zip(self._inputs, inputs, strict=True):
            static.copy_(value)
        self._forward()
        self._ticket = object()
        return _Loss.apply(self._anchor, self), self._terms

    def start(self) -> tuple[Tensor, object]:
        """Return the loss of the last call, and what :meth:`finish` takes."""
        return self._loss.detach(), self._ticket

    def finish(self, ticket: object, outer: Tensor) -> None:
        """Add the gradients to those of the parameters.

        Args:
            ticket: What :meth:`start` returned.
            outer: Gradient with respect to the loss, a scalar.

        Raises:
            RuntimeError: If the memory of this step has been used again.
        """
        if ticket is not self._ticket:
            raise RuntimeError(
                'A replayed step goes backward once, and before the next step: '
                'switch CUDA graphs off for other uses of its loss.'
            )
        self._ticket = None
        for parameter, gradient in self._gradients:
            if parameter.grad is gradient:
                # it has not been set to None, and is about to be overwritten
                parameter.grad = gradient.clone()
        self._outer.copy_(outer)
        self._backward()
        for parameter, gradient in self._gradients:
            if parameter.grad is None:
                parameter.grad = gradient
            else:
                parameter.grad += gradient


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, anchor: Tensor, replay: Replay) -> Tensor:
        loss, ctx.ticket = replay.start()
        ctx.replay = replay
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None]:
        ctx.replay.finish(ctx.ticket, gradients[0])
        return None, None

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Capture an objective as a CUDA graph."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .replay import Replay

#: From tensors by name to the loss and the scalars to log.
type Objective = Callable[[Mapping[str, Tensor]], tuple[Tensor, dict[str, Tensor]]]

#: From a module and sample arguments to a callable that replays the module.
type Capture = Callable[[nn.Module, tuple[Tensor, ...]], Callable[..., Any]]

#: Steps before a capture, in which libraries choose algorithms and allocate memory.
WARM_UP = 3


class FlatObjective(nn.Module):
    """An objective of tensors in a fixed order, with its terms in one tensor.

    Attributes:
        terms: Names of the terms of the last call.
    """

    def __init__(
        self,
        objective: Objective,
        module: nn.Module,
        names: tuple[str, ...],
        context: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        """Initialize a new FlatObjective instance.

        Args:
            objective: The objective.
            module: The module with its parameters.
            names: Names of the tensors.
            context: Returns the context to compute it in.
        """
        super().__init__()
        # its parameters are inputs of a graph
        self.module = module
        self.objective = objective
        self.names = names
        self.context = context
        self.terms: tuple[str, ...] = ()

    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the objective.

        Args:
            tensors: Its inputs, in the order of their names.

        Returns:
            The loss, and the terms without gradient, float32 (T,).
        """
        with self.context():
            loss, terms = self.objective(dict(zip(self.names, tensors, strict=True)))
        self.terms = tuple(terms)
        return loss, torch.stack([x.detach().float() for x in terms.values()])


def capture_cuda(module: nn.Module, args: tuple[Tensor, ...]) -> Callable[..., Any]:
    """Capture forward and backward pass as two CUDA graphs.

    ``torch.cuda.make_graphed_callables`` hands the gradient of each parameter to
    autograd, which took a third of the time of a step.

    Args:
        module: The module, outside of autocast. Its parameters stay the same objects.
        args: Sample arguments on the GPU, which become the static inputs.

    Returns:
        A callable of such arguments.

    Raises:
        RuntimeError: If the module waits for the GPU, or cannot be captured.
    """
    _check_waiting(module, args)
    step = OnAliases(module, args)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            step.gradients(step.results()[0])
    torch.cuda.current_stream().wait_stream(stream)
    forward, backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
    # pinning threads of data loaders may go on
    mode = 'thread_local'
    with torch.cuda.graph(forward, stream=stream, capture_error_mode=mode):
        loss, terms = step.results()
    outer = torch.ones_like(loss)
    with torch.cuda.graph(
        backward, forward.pool(), stream=stream, capture_error_mode=mode
    ):
        gradients = step.gradients(loss, outer)
    results = (loss.detach(), terms)
    return Replay(args, results, gradients, outer, forward.replay, backward.replay)


class OnAliases:
    """A step computed on aliases of the parameters.

    As long as a loss of a parameter is alive, autograd ties the parameter to the stream
    of that loss, and makes this stream wait: in a capture that is an error.
    """

    def __init__(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        """Initialize a new OnAliases instance.

        Args:
            module: Returns a loss first.
            args: Its arguments.
        """
        self._module = module
        self._args = args
        trained = {n: p for n, p in module.named_parameters() if p.requires_grad}
        self._parameters = list(trained.values())
        self._aliases = {n: p.detach().requires_grad_() for n, p in trained.items()}

    def results(self) -> tuple[Tensor, Tensor]:
        """Return what the module returns."""
        return functional_call(self._module, self._aliases, self._args)

    def gradients(
        self, loss: Tensor, outer: Tensor | None = None
    ) -> list[tuple[Tensor, Tensor]]:
        """Return the parameters that a loss depends on, and their gradients.

        Args:
            loss: The first result.
            outer: Gradient with respect to it. Default: 1.
        """
        aliases = list(self._aliases.values())
        found = torch.autograd.grad(loss, aliases, outer, allow_unused=True)
        return [
            # optimizers for many tensors at once do not look at strides
            (p, g if g.stride() == p.stride() else torch.empty_like(p).copy_(g))
            for p, g in zip(self._parameters, found, strict=True)
            if g is not None
        ]


def loss_and_gradients(
    function: Callable[..., tuple[Tensor, Tensor]],
    args: tuple[Tensor, ...],
    parameters: Sequence[Tensor],
) -> tuple[Tensor, list[Tensor]]:
    """Compute a loss and its gradients, leaving those of the parameters alone.

    Args:
        function: Returns a loss first.
        args: Its arguments.
        parameters: Parameters, trained or not.

    Returns:
        The loss, and the gradients of the trained parameters that it depends on.
    """
    # a replay overwrites gradients that were its own
    kept = [None if p.grad is None else p.grad.clone() for p in parameters]
    for parameter in parameters:
        parameter.grad = None
    try:
        loss, _ = function(*args)
        loss.backward()
        gradients = [p.grad for p in parameters if p.grad is not None]
    finally:
        for parameter, gradient in zip(parameters, kept, strict=True):
            parameter.grad = gradient
    return loss.detach(), gradients


def _check_waiting(module: nn.Module, args: tuple[Tensor, ...]) -> None:
    """Raise the error of a wait: here it is harmless, in a capture it leaves traces."""
    mode = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Synchronization debug mode', UserWarning)
        torch.cuda.set_sync_debug_mode('error')
        try:
            loss_and_gradients(module, args, list(module.parameters()))
        finally:
            torch.cuda.set_sync_debug_mode(mode)

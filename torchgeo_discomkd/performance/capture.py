# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Capture an objective as a CUDA graph."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

#: From tensors by name to the loss and the scalars to log.
type Objective = Callable[[Mapping[str, Tensor]], tuple[Tensor, dict[str, Tensor]]]

#: From a module and sample arguments to a callable that replays the module.
type Capture = Callable[[nn.Module, tuple[Tensor, ...]], Callable[..., Any]]

#: PyTorch releases before 2.14 or so can only forbid other threads to use the GPU.
THREAD_LOCAL: bool = (
    'capture_error_mode' in signature(torch.cuda.make_graphed_callables).parameters
)


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

    Args:
        module: The module, outside of autocast. Its parameters stay the same objects.
        args: Sample arguments on the GPU, which become the static inputs.

    Returns:
        A callable of such arguments.

    Raises:
        RuntimeError: If the module waits for the GPU, or cannot be captured.
    """
    mode = torch.cuda.get_sync_debug_mode()
    # an error here is harmless, while one during a capture may leave traces
    torch.cuda.set_sync_debug_mode('error')
    try:
        loss_and_gradients(module, args, list(module.parameters()))
    finally:
        torch.cuda.set_sync_debug_mode(mode)
    # pinning threads of data loaders may go on
    options: dict[str, Any] = (
        {'capture_error_mode': 'thread_local'} if THREAD_LOCAL else {}
    )
    return torch.cuda.make_graphed_callables(
        module, args, allow_unused_input=True, **options
    )


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
    loss, _ = function(*args)
    trained = [p for p in parameters if p.requires_grad]
    gradients = torch.autograd.grad(loss, trained, allow_unused=True)
    return loss.detach(), [g for g in gradients if g is not None]

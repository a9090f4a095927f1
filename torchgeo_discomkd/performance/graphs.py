# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Forward pass, losses and backward pass of a training step as a CUDA graph.

A step consists of almost two thousand kernels. Launched one by one by Python, they keep
a fast GPU busy for a fifth of the time; a graph launches them all at once.
"""

import gc
from collections import Counter, deque
from collections.abc import Callable, Generator, Hashable, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm

from .capture import Capture, FlatObjective, Objective, capture_cuda, loss_and_gradients

#: Equal steps that are computed as usual before the first capture.
PATIENCE = 2

#: Replays after which a capture has paid for itself: it takes as long as about thirty
#: steps that are launched one by one.
WORTHWHILE = 100

HOOKS = 'a module or a parameter has hooks, which a graph would not call'


class Tolerance(NamedTuple):
    """Largest relative differences that count as rounding."""

    #: Of the loss.
    loss: float

    #: Of the gradients, and of the changes of buffers, as one vector.
    gradient: float


FLOAT32 = Tolerance(1e-3, 1e-2)

#: 8 significant bits.
BFLOAT16 = Tolerance(5e-3, 0.2)


class GraphedObjective:
    """An objective that is replayed whenever nothing but values has changed.

    It is computed as usual for inputs of other names, shapes, types or devices than
    those of the capture, until they have become more frequent. If the memory or the
    trainability of a parameter or buffer, the training mode of a module or the *state*
    changes, the capture is dropped and another one made. Each capture that is replaced
    before it has paid for itself quadruples the number of equal steps before the next.

    Every capture is compared with the objective itself, on a batch other than that of
    the capture. If loss, gradients or buffers differ, it is never used.
    :meth:`verify` compares them again.

    Attributes:
        reason: Why nothing is captured any more; None if all is well.
        replays: Number of steps that the current capture was replayed.
    """

    def __init__(
        self,
        objective: Objective,
        module: nn.Module,
        state: Callable[[], Hashable] = lambda: (),
        context: Callable[[], AbstractContextManager[Any]] = nullcontext,
        tolerance: Tolerance = FLOAT32,
        capture: Capture = capture_cuda,
    ) -> None:
        """Initialize a new GraphedObjective instance.

        Args:
            objective: The objective.
            module: The module with all parameters and changing buffers of it.
            state: Returns all else that the objective depends on: Python values are
                constants in a graph. None: nothing may be captured now.
            context: Returns the context of a capture, such as autocast without cache.
            tolerance: Differences that count as rounding.
            capture: Captures a module.
        """
        self.reason: str | None = None
        self._objective = objective
        self._module = module
        self._state = state
        self._context = context
        self._tolerance = tolerance
        self._capture = capture
        self._graph: Callable[..., Any] | None = None
        self._key: _Key | None = None
        self._names: tuple[str, ...] = ()
        self._batches: tuple[Mapping[str, Tensor], ...] = ()
        self.replays = 0
        self._patience = PATIENCE
        self._computed: Counter[_Key] = Counter()
        self._recent: deque[tuple[_Key, Mapping[str, Tensor]]] = deque(maxlen=2)
        self.refresh()

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Turn into None in copies and pickles of a task: a graph cannot be copied."""
        return type(None), ()

    def __call__(
        self, inputs: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute or replay the objective.

        Args:
            inputs: Tensors by name.

        Returns:
            The loss, and the scalars to log; if replayed, without gradient and in
            float32.
        """
        if self.reason is not None:
            return self._objective(inputs)
        key = self._key_of(inputs)
        if self._key is not None and key[:-1] != self._key[:-1]:
            self._drop()
        if self._graph is not None and key == self._key:
            self.replays += 1
            return self._replay(self._graph, inputs)
        if key.state is not None:
            self._computed[key] += 1
            self._recent.append((key, inputs))
        return self._objective(inputs)

    def refresh(self) -> None:
        """Look which modules there are, which is done between epochs only."""
        self._modules = list(self._module.modules())
        self._parameters = list(self._module.parameters())
        self._buffers = list(self._module.buffers())
        self._tensors = [*self._parameters, *self._buffers]

    def prepare(self) -> bool:
        """Capture, if it is time to; to be called between steps, outside of autocast.

        Returns:
            Whether something was captured. If it cannot be, :attr:`reason` says why.
        """
        if not self._is_due():
            return False
        (_, first), (key, second) = self._recent
        self._drop()
        # a graph must not be freed during another capture
        gc.collect()
        names = tuple(first)
        try:
            with self._unchanged(first):
                graph = self._captured(names, first)
            problem = self._difference(graph, names, second)
        except Exception as error:  # noqa: BLE001 (whatever a capture raises)
            problem = f'{type(error).__name__}: {str(error).partition(chr(10))[0]}'
        if problem is not None:
            self.give_up(problem)
            return False
        self._graph, self._key, self._batches = graph, key, (first, second)
        return True

    def verify(self) -> None:
        """Compare the graph with the objective again, and give it up if they differ.

        This finds what no key contains: hooks, settings of modules, and Python values
        that the state should contain. It takes as long as a few computed steps.
        """
        if self._graph is None or self._key_of(self._batches[1]) != self._key:
            return
        if self._has_hooks():
            self.give_up(HOOKS)
            return
        batch = self._batches[1]
        problem = self._difference(self._graph, tuple(batch), batch)
        if problem is not None:
            self.give_up(
                f'{problem}: a module has changed, or the objective depends on more '
                'than objective_state says'
            )

    def give_up(self, reason: str) -> None:
        """Compute all further steps as usual.

        Args:
            reason: Why.
        """
        self.reason = reason
        self._forget()

    def _drop(self) -> None:
        if self._graph is not None and self.replays < WORTHWHILE:
            self._patience *= 4
        self._forget()

    def _forget(self) -> None:
        self._graph, self._key, self._batches, self.replays = None, None, (), 0
        self._computed.clear()
        self._recent.clear()

    def _is_due(self) -> bool:
        if self.reason is not None or len(self._recent) < 2:
            return False
        (first, _), (key, inputs) = self._recent
        count = self._computed[key]
        often = count >= self._patience and count > self.replays
        return often and first == key == self._key_of(inputs)

    def _key_of(self, inputs: Mapping[str, Tensor]) -> '_Key':
        return _Key(
            state=self._state(),
            tensors=tuple((x.data_ptr(), x.requires_grad) for x in self._tensors),
            training=tuple(module.training for module in self._modules),
            inputs=tuple((n, x.shape, x.dtype, x.device) for n, x in inputs.items()),
        )

    def _captured(
        self, names: tuple[str, ...], inputs: Mapping[str, Tensor]
    ) -> Callable[..., Any]:
        if self._has_hooks():
            raise RuntimeError(HOOKS)
        # replays overwrite them
        static = tuple(x.detach().clone() for x in inputs.values())
        flat = self._flat(names)
        graph = self._capture(flat, static)
        self._names = flat.terms
        return graph

    def _has_hooks(self) -> bool:
        # public names only add and remove them
        return any(
            m._forward_hooks
            or m._forward_pre_hooks
            or m._backward_hooks
            or m._backward_pre_hooks
            for m in self._modules
        ) or any(
            p._backward_hooks or p._post_accumulate_grad_hooks for p in self._parameters
        )

    def _flat(self, names: tuple[str, ...]) -> FlatObjective:
        return FlatObjective(self._objective, self._module, names, self._context)

    def _replay(
        self, graph: Callable[..., Any], inputs: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        # the next replay overwrites its results
        loss, terms = (x.clone() for x in graph(*inputs.values()))
        return loss, dict(zip(self._names, terms.detach().unbind(), strict=True))

    def _difference(
        self,
        graph: Callable[..., Any],
        names: tuple[str, ...],
        inputs: Mapping[str, Tensor],
    ) -> str | None:
        """Say how a replay differs from the objective; None if by rounding at most."""
        # counters would outweigh what they count
        moving = [x for x in self._buffers if x.is_floating_point()]
        before = _vector(moving)
        results = []
        for function in (self._flat(names), graph):
            with self._unchanged(inputs):
                loss, gradients = loss_and_gradients(
                    function, tuple(inputs.values()), self._parameters
                )
                moved = _minus(_vector(moving), before)
                results.append((_vector([loss]), _vector(gradients), moved))
        limits = (*self._tolerance, self._tolerance.gradient)
        for what, limit, expected, found in zip(
            ('loss', 'gradients', 'buffers'), limits, *results, strict=True
        ):
            difference = _relative_difference(expected, found)
            # NaN is a difference, too
            if not difference <= limit:
                return f'{what} of a replayed step differ by {difference:.2g}'
        return None

    @contextmanager
    def _unchanged(self, inputs: Mapping[str, Tensor]) -> Generator[None]:
        """Undo what happens to buffers and random number generators."""
        saved = [buffer.clone() for buffer in self._buffers]
        devices = {x.device for x in inputs.values() if x.device.type == 'cuda'}
        with torch.random.fork_rng(devices):
            try:
                yield
            finally:
                for buffer, value in zip(self._buffers, saved, strict=True):
                    buffer.copy_(value)


class _Key(NamedTuple):
    """What must be equal for a replay."""

    state: Hashable

    #: Address and trainability of each.
    tensors: tuple[tuple[int, bool], ...]

    training: tuple[bool, ...]

    #: Name, shape, type and device of each; all else is the same in an epoch.
    inputs: tuple[tuple[str, torch.Size, torch.dtype, torch.device], ...]


def _vector(tensors: list[Tensor]) -> Tensor:
    """Copy values into one vector: a graph overwrites its results."""
    values = [x.float().flatten() for x in tensors]
    return torch.cat(values) if values else torch.zeros(0)


def _minus(x: Tensor, y: Tensor) -> Tensor:
    # equal infinite values do not differ
    return torch.where(x == y, 0, x - y)


def _relative_difference(expected: Tensor, found: Tensor) -> float:
    if expected.shape != found.shape:
        return float('inf')
    pair = (_minus(expected, found), expected.nan_to_num(0, 0, 0))
    difference, size = (vector_norm(x, dtype=torch.float64).item() for x in pair)
    if not difference:
        return 0.0
    return difference / size if size else float('inf')

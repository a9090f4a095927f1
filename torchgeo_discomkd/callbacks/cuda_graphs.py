# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Training steps on a GPU that do not wait for Python."""

from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, ClassVar, Protocol, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor

from ..performance.capture import Capture, capture_cuda
from ..performance.graphs import BFLOAT16, FLOAT32, GraphedObjective

#: Precisions of Lightning in which steps can be replayed.
PRECISIONS = ('32-true', 'bf16-mixed', 'bf16-true')

ACCUMULATED = 'gradients are accumulated over several batches'


class GraphableTask(Protocol):
    """What the callback needs of a task.

    Attributes:
        graphs: What computes the objective in place of the task; None: the task.
        objective_parts: Names of the objective and of all methods and properties of
            the task that it uses.
    """

    graphs: GraphedObjective | None
    objective_parts: tuple[str, ...]

    @property
    def objective_state(self) -> Hashable:
        """All that the objective depends on beside tensors; None if unknown."""

    def objective(
        self, inputs: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss, and the scalars to log.

        Args:
            inputs: Tensors by name.
        """


class CudaGraphs(Callback):
    """Replay training steps as a CUDA graph, where that is possible.

    Every training on a GPU has it: the objective of the task and its backward pass are
    captured after two equal steps and compared with the computed ones, then and at the
    beginning of each epoch; the optimizer, clipping, hooks and other callbacks remain
    outside. Whatever is not like the captured step (an incomplete batch, validation) is
    computed as usual. If steps cannot be replayed, one line says why.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> from torchgeo_discomkd.callbacks import CudaGraphs
        >>> trainer = Trainer(
        ...     accelerator='cpu', callbacks=[CudaGraphs(enabled=False)], logger=False
        ... )
        >>> CudaGraphs.obstacle(trainer)
        'CudaGraphs.enabled is false'
    """

    #: Where graphs are, and what captures them.
    device_type: ClassVar[str] = 'cuda'
    capture: ClassVar[Capture] = staticmethod(capture_cuda)

    def __init__(self, enabled: bool = True) -> None:
        """Initialize a new CudaGraphs instance.

        Args:
            enabled: Whether steps are replayed. On the command line,
                ``--trainer.callbacks+=CudaGraphs --trainer.callbacks.enabled=false``
                switches it off.
        """
        self.enabled = enabled
        self._reported = False

    @classmethod
    def obstacle(
        cls, trainer: Trainer, task: LightningModule | None = None
    ) -> str | None:
        """Return why a trainer cannot replay steps.

        Args:
            trainer: The trainer.
            task: The task. Default: whatever the task and the precision.

        Returns:
            The reason; None if nothing prevents it.
        """
        callbacks: list[Callback] = trainer.callbacks  # ty: ignore[missing-attribute]
        if any(isinstance(c, CudaGraphs) and not c.enabled for c in callbacks):
            return 'CudaGraphs.enabled is false'
        if trainer.strategy.root_device.type != cls.device_type:
            return f'the device is not {cls.device_type}'
        if not isinstance(trainer.strategy, SingleDeviceStrategy):
            return f'{type(trainer.strategy).__name__} is not for one device'
        if trainer.accumulate_grad_batches > 1 or any(
            isinstance(c, GradientAccumulationScheduler)
            and c.going_to_accumulate_grad_batches()
            for c in callbacks
        ):
            return ACCUMULATED
        return None if task is None else _obstacle(trainer, task)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Decide whether steps can be replayed.

        Args:
            trainer: The trainer.
            pl_module: The task.
        """
        self._reported = False
        if not self.enabled or pl_module.device.type != self.device_type:
            return
        reason = self.obstacle(trainer, pl_module)
        if reason is not None:
            self._report(reason)
            return
        task = cast(GraphableTask, pl_module)
        task.graphs = GraphedObjective(
            task.objective,
            pl_module,
            lambda: task.objective_state,
            _context(trainer),
            FLOAT32 if trainer.precision == '32-true' else BFLOAT16,
            self.capture,
        )

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Capture the step, if it is time to.

        Args:
            trainer: The trainer.
            pl_module: The task.
            batch: Not used.
            batch_idx: Integer displaying index of this batch.
        """
        graphs: GraphedObjective | None = getattr(pl_module, 'graphs', None)
        if graphs is None or graphs.reason is not None:
            return
        if torch.is_anomaly_enabled():
            graphs.give_up('anomalies are to be detected')
        if trainer.accumulate_grad_batches > 1:
            # another callback may have set it
            graphs.give_up(ACCUMULATED)
        if batch_idx == 0:
            graphs.refresh()
            graphs.verify()
        if graphs.prepare():
            self._report(None)
        if graphs.reason is not None:
            self._report(graphs.reason)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give back the memory of the graph.

        Args:
            trainer: The trainer.
            pl_module: The task.
        """
        if getattr(pl_module, 'graphs', None) is not None:
            cast(GraphableTask, pl_module).graphs = None

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Give back the memory of the graph.

        Args:
            trainer: The trainer.
            pl_module: The task.
            exception: What stopped the training.
        """
        self.on_train_end(trainer, pl_module)

    def _report(self, reason: str | None) -> None:
        if reason is not None:
            rank_zero_info(f'Steps are not replayed as a CUDA graph: {reason}.')
        elif not self._reported:
            rank_zero_info('Steps are replayed as a CUDA graph from now on.')
        self._reported = True


def _obstacle(trainer: Trainer, task: LightningModule) -> str | None:
    """Return why steps of a task cannot be replayed."""
    name = type(task).__name__
    if not hasattr(task, 'objective_state'):
        return f'{name} has no objective_state'
    if not task.automatic_optimization:
        return f'{name} optimizes by itself'
    base = _definer(task, 'graphs')
    for method in ('training_step', 'optimizer_zero_grad', 'backward'):
        if is_overridden(method, task, cast(type[LightningModule], base)):
            return f'{name} has its own {method}'
    graphable, stated = cast(GraphableTask, task), _definer(task, 'objective_state')
    for part in graphable.objective_parts:
        if not issubclass(stated, _definer(task, part)):
            return f'{name} has its own {part}, but no objective_state of its own'
    if graphable.objective_state is None:
        return f'the objective of {name} may change with every step'
    if trainer.precision not in PRECISIONS:
        return f'precision {trainer.precision} is not among {", ".join(PRECISIONS)}'
    return None


def _definer(task: LightningModule, name: str) -> type:
    """Return the class that defines an attribute of a task."""
    return next(c for c in type(task).__mro__ if name in vars(c))


def _context(trainer: Trainer) -> Callable[[], AbstractContextManager[Any]]:
    plugin = trainer.precision_plugin
    if trainer.precision == 'bf16-mixed':
        # weights cast before a capture must not be found in a cache
        device = trainer.strategy.root_device.type
        return partial(torch.autocast, device, torch.bfloat16, cache_enabled=False)
    return plugin.forward_context

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Find the first training step that is not finite, without waiting for every step."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

#: End of the names of scalars that are watched and not logged: one for the logits of
#: each modality, not finite if one of them is not.
WATCHED = '_logits'


@dataclass(frozen=True)
class Step:
    """What is known about a training step; tensors stay where they are.

    Attributes:
        number: Number of optimizer steps before it.
        epoch: Its epoch, from 0.
        batch: Its batch, from 0.
        names: Names of *values*.
        values: Terms of the loss and watched scalars, float32 (T,).
        loss: What is minimised, a scalar.
        indices: Positions of the samples in the training split, int64 (B,), by
            modality, or for all of them under ''.
    """

    number: int
    epoch: int
    batch: int
    names: tuple[str, ...]
    values: Tensor
    loss: Tensor
    indices: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def is_finite(self) -> bool:
        """Whether all its losses are finite; waits for the device."""
        return bool(self.values.isfinite().all() and self.loss.isfinite())

    def describe(self) -> str:
        """Say where it is, and which terms and modalities are not finite."""
        named = dict(zip(self.names, self.values.tolist(), strict=True))
        wrong = {n: v for n, v in named.items() if not abs(v) < torch.inf}
        modalities = [n.removesuffix(WATCHED) for n in wrong if n.endswith(WATCHED)]
        terms = {n: v for n, v in wrong.items() if not n.endswith(WATCHED)}
        text = ', '.join(f'{n} is {v}' for n, v in terms.items())
        text = text or f'the sum of its terms is {self.loss.item()}'
        if modalities:
            text += f'; so are logits of {", ".join(modalities)}'
        where = f'step {self.number} (epoch {self.epoch}, batch {self.batch})'
        return f'{where}: {text}'


class StepWatch:
    """Keeps the losses of the latest steps until they are read, all at once.

    On a GPU this adds no work to a step, also if it is replayed as a graph: losses are
    kept where they are, and read after :attr:`EVERY` steps.
    """

    #: Steps on a GPU after which the losses are read.
    EVERY = 200

    def __init__(self) -> None:
        """Initialize a new StepWatch instance."""
        self._steps: list[Step] = []

    def add(self, step: Step) -> None:
        """Keep a step.

        Args:
            step: The step.
        """
        self._steps.append(step)

    @property
    def is_due(self) -> bool:
        """Whether to read now: on a CPU always, since nothing would be waited for."""
        steps = self._steps
        return len(steps) >= self.EVERY or (
            bool(steps) and steps[-1].loss.device.type == 'cpu'
        )

    def first_not_finite(self) -> Step | None:
        """Read the losses, which waits for the device, and forget them.

        Returns:
            The first step with one that is not finite; None if there is none.
        """
        steps, self._steps = self._steps, []
        if not steps:
            return None
        # one copy and one question for all of them
        vectors = [v for s in steps for v in (s.values, s.loss.reshape(1))]
        if torch.cat(vectors).isfinite().all():
            return None
        return next(s for s in steps if not s.is_finite)

    def forget(self) -> None:
        """Forget all steps."""
        self._steps = []

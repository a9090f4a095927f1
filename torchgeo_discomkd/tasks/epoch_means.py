# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Means of the loss and its terms over an epoch, added up on the device."""

from collections.abc import Mapping

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from ..processes import summed


class EpochMeans:
    """Means over an epoch of values that every step has.

    One addition for all values together, and nothing is read before the end: logging
    each value in each step would make a GPU wait for Python.
    """

    def __init__(self) -> None:
        """Initialize a new EpochMeans instance."""
        self._names: tuple[str, ...] = ()
        self._sums: Tensor | None = None
        self._weight: int | Tensor = 0

    def update(self, values: Mapping[str, Tensor], weight: int | Tensor) -> Tensor:
        """Add the values of a step.

        Args:
            values: Scalars by name; the names of all steps are the same.
            weight: Number of samples of the step, or a scalar tensor of it.

        Returns:
            The values as one vector, float32.
        """
        self._names = tuple(values)
        vector = torch.stack([v.detach().float() for v in values.values()])
        sums = weight * vector
        self._sums = sums if self._sums is None else self._sums + sums
        self._weight = self._weight + weight
        return vector

    def compute(self, trainer: Trainer | None = None) -> dict[str, Tensor]:
        """Return the mean of each value; an empty dictionary without any sample.

        Args:
            trainer: The trainer, whose processes are then summed up.
        """
        if self._sums is None:
            return {}
        weight = torch.as_tensor(self._weight).to(self._sums)
        *sums, weight = summed(trainer, torch.cat([self._sums, weight.view(1)]))
        if not weight:
            return {}
        means = torch.stack(sums) / weight
        return dict(zip(self._names, means.unbind(), strict=True))

    def reset(self) -> None:
        """Forget all steps."""
        self._sums, self._weight = None, 0

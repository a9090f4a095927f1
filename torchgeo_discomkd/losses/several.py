# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Means over the rows of several processes that train together.

Each process has its own rows, and the gradients of all processes are averaged. Where
their numbers of rows differ (an incomplete batch, class weights), the average of their
means is not the mean over all rows. Inside :func:`over_processes` a mean is the sum of
the process over the average number of rows: the average of these is that mean.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

#: Returns the average of a float32 vector over all processes; None: there is one.
_average: ContextVar[Callable[[Tensor], Tensor] | None] = ContextVar(
    '_average', default=None
)


@contextmanager
def over_processes(average: Callable[[Tensor], Tensor] | None) -> Generator[None]:
    """Make means of the losses fit for an average over processes.

    Args:
        average: Returns the average of a float32 vector over all processes, which all
            call it in the same order; None: nothing changes.

    Yields:
        Nothing.

    Example:
        >>> own, others = torch.ones(3), torch.ones(1)
        >>> with over_processes(lambda counts: torch.full_like(counts, 2.0)):
        ...     means = row_mean(own), row_mean(others)
        >>> means, sum(means) / 2
        ((tensor(1.5000), tensor(0.5000)), tensor(1.))
    """
    token = _average.set(average)
    try:
        yield
    finally:
        _average.reset(token)


def is_shared() -> bool:
    """Return whether means are to fit for an average over processes."""
    return _average.get() is not None


def averaged(counts: Tensor) -> Tensor:
    """Return the average of counts over all processes.

    Args:
        counts: float32, shape (N,).

    Returns:
        Shape (N,); *counts* outside of :func:`over_processes`.
    """
    average = _average.get()
    return counts if average is None else average(counts)


def row_mean(rows: Tensor) -> Tensor:
    """Return a mean of rows that is fit for an average over processes.

    Args:
        rows: Shape (B,).

    Returns:
        Scalar: the mean, 0 without rows; inside :func:`over_processes` the sum over the
        average B.
    """
    mean = rows.mean() if len(rows) else rows.sum()
    if not is_shared():
        return mean
    count = torch.full((1,), len(rows), dtype=torch.float32, device=rows.device)
    # no process may have any
    average = averaged(count).clamp(min=torch.finfo(torch.float32).tiny)
    return mean * (count / average).to(mean.dtype)[0]

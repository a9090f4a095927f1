# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Decisions, sums and errors that all processes of a training share.

Whatever is called here must be called by all processes, in the same order. With one
process, or without a trainer, nothing is sent.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torchmetrics.utilities.distributed import gather_all_tensors

from ..errors import UserError


def first_decides[T](trainer: Trainer | None, decide: Callable[[], T]) -> T:
    """Let the first process find out something for all of them.

    Args:
        trainer: The trainer.
        decide: Returns it; what it returns must be possible to pickle.

    Returns:
        What *decide* has returned in the first process.

    Raises:
        Exception: In all processes, whatever *decide* has raised: a
            :class:`.UserError` itself, else in the others a UserError that says so.

    Example:
        >>> first_decides(None, lambda: 'runs/version_0')
        'runs/version_0'
    """
    if trainer is None or trainer.world_size == 1:
        return decide()
    found: T | None = None
    error: Exception | None = None
    if trainer.is_global_zero:
        try:
            found = decide()
        except Exception as raised:  # noqa: BLE001 (the others wait for an answer)
            error = raised
    told = error
    if error is not None and not isinstance(error, UserError):
        # it may be impossible to pickle
        told = UserError(f'in the first process: {type(error).__name__}: {error}')
    found, told = trainer.strategy.broadcast((found, told))
    if (error := error or told) is not None:
        with raising_everywhere(trainer):
            raise error
    return found  # ty: ignore[invalid-explicit-return]


@contextmanager
def raising_everywhere(trainer: Trainer | None) -> Generator[None]:
    """Let only the first process tell an error that all of them raise.

    Args:
        trainer: The trainer.

    Yields:
        Nothing.

    Raises:
        UserError: What the block has raised.

    Example:
        >>> with raising_everywhere(None):
        ...     raise UserError('lr=-1')
        Traceback (most recent call last):
        torchgeo_discomkd.errors.UserError: lr=-1
    """
    try:
        yield
    except UserError as error:
        error.told = trainer is not None and not trainer.is_global_zero
        raise


def raise_everywhere(trainer: Trainer | None, error: UserError | None) -> None:
    """Raise an error in all processes if one of them has found it.

    Args:
        trainer: The trainer.
        error: What this process has found; None if nothing.

    Raises:
        UserError: That of the first process that has found one.

    Example:
        >>> raise_everywhere(None, None)
    """
    if trainer is None or trainer.world_size == 1:
        if error is not None:
            raise error
        return
    device = trainer.strategy.root_device
    if not summed(trainer, torch.tensor(float(error is not None), device=device)):
        return
    errors: list[UserError | None] = [None] * trainer.world_size
    torch.distributed.all_gather_object(errors, error)
    rank, found = next((i, e) for i, e in enumerate(errors) if e is not None)
    text = f'in process {rank} of {trainer.world_size}: {found}'
    with raising_everywhere(trainer):
        raise type(found)(text)


def summed(trainer: Trainer | None, values: Tensor) -> Tensor:
    """Return sums over all processes.

    Args:
        trainer: The trainer.
        values: Any shape, the same in all processes, on their devices.

    Returns:
        The sums, of the same shape.

    Example:
        >>> import torch
        >>> summed(None, torch.tensor([1.0, 2.0]))
        tensor([1., 2.])
    """
    if trainer is None or trainer.world_size == 1:
        return values
    # Lightning adds up in place
    return trainer.strategy.reduce(values.detach().clone(), reduce_op='sum')


def gathered(trainer: Trainer | None, rows: Tensor) -> Tensor:
    """Return the rows of all processes, one after the other.

    Args:
        trainer: The trainer.
        rows: Shape (N, ...), of which N may differ between processes.

    Returns:
        Shape (sum of N, ...), on the device of *rows*.

    Example:
        >>> import torch
        >>> gathered(None, torch.tensor([1, 2]))
        tensor([1, 2])
    """
    if trainer is None or trainer.world_size == 1:
        return rows
    parts = gather_all_tensors(rows.to(trainer.strategy.root_device))
    return torch.cat(parts).to(rows.device)

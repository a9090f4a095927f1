# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""The weights that a validation has scored, whatever callbacks swap them."""

from collections.abc import Generator
from contextlib import contextmanager
from itertools import chain

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import StochasticWeightAveraging, WeightAveraging
from torch import Tensor, nn

from ..errors import SettingError


class ScoredWeights:
    """A copy of the weights of a task, made while they are scored.

    Callbacks that average weights put the average into the task for a validation and
    take it out again when the validation ends, some before the scores are known.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.callbacks.scored_weights import ScoredWeights
        >>> layer, scored = torch.nn.Linear(1, 1, bias=False), ScoredWeights()
        >>> _ = torch.nn.init.constant_(layer.weight, 2.0)
        >>> scored.keep(layer)
        >>> _ = torch.nn.init.constant_(layer.weight, 3.0)
        >>> with scored.restored(layer):
        ...     layer.weight.item()
        2.0
        >>> layer.weight.item()
        3.0
    """

    def __init__(self) -> None:
        """Initialize a new ScoredWeights instance."""
        self._kept: dict[str, Tensor] = {}

    def keep(self, module: nn.Module) -> None:
        """Copy parameters and buffers.

        Args:
            module: The module that is scored.
        """
        self._kept = {name: x.detach().clone() for name, x in _weights(module)}

    def drop(self) -> None:
        """Forget the copy."""
        self._kept = {}

    @contextmanager
    def restored(self, module: nn.Module) -> Generator[None]:
        """Give a module the weights that were kept, and then its own again.

        Args:
            module: The module.

        Raises:
            SettingError: If none were kept.
        """
        if not self._kept:
            raise SettingError(
                f'{type(module).__name__} has not kept the weights that were scored: '
                'its on_validation_batch_start must call that of its base class.'
            )
        own = {}
        with torch.no_grad():
            # no callback has swapped what is equal
            for name, x in _weights(module):
                if not torch.equal(x, self._kept[name]):
                    own[name] = x.detach().clone()
                    x.copy_(self._kept[name])
            try:
                yield
            finally:
                for name, x in _weights(module):
                    if name in own:
                        x.copy_(own[name])


def check_averaging(trainer: Trainer, module: LightningModule) -> None:
    """Check that averaged weights will be scored, without which no file gets them.

    Args:
        trainer: A trainer, before its training.
        module: The task.

    Raises:
        SettingError: If StochasticWeightAveraging averages only after the last
            validation.
    """
    callbacks = trainer.callbacks  # ty: ignore[missing-attribute]
    if not any(isinstance(c, StochasticWeightAveraging) for c in callbacks):
        return
    every, epochs = trainer.check_val_every_n_epoch, trainer.max_epochs
    if not StochasticWeightAveraging.pl_module_contains_batch_norm(module):
        reason = 'the networks have no batch normalisation'
    elif epochs is None or epochs < 0:
        reason = f'max_epochs is {epochs}'
    elif every is None:
        reason = 'check_val_every_n_epoch is null'
    elif (epochs + 1) % every:
        # Lightning appends an epoch that recomputes the batch normalisation
        reason = (
            f'the epoch after max_epochs={epochs}, which has them, is not validated '
            f'with check_val_every_n_epoch={every}'
        )
    else:
        return
    raise SettingError(
        f'StochasticWeightAveraging: the averaged weights would never be scored, so no '
        f'classifier file could hold them, because {reason}. Use WeightAveraging or '
        'EMAWeightAveraging, whose weights every validation scores.'
    )


def average_begun(trainer: Trainer) -> bool:
    """Return whether what a validation scores has been trained.

    Before its first update, which may be late, WeightAveraging puts into the task what
    it copied before training: no weights of this run, and pixels are not normalised.

    Args:
        trainer: A trainer that validates.
    """
    averages = [
        callback._average_model
        for callback in trainer.callbacks  # ty: ignore[missing-attribute]
        if isinstance(callback, WeightAveraging)
    ]
    # the state of the callback knows updates after steps only, also of an earlier run
    return all(a is not None and int(a.n_averaged) > 0 for a in averages)


def _weights(module: nn.Module) -> chain[tuple[str, Tensor]]:
    return chain(module.named_parameters(), module.named_buffers())

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""A task that stops as soon as its training is not finite."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torchgeo.datasets.utils import Sample

from ..callbacks import run_folder
from ..datamodules import MultiModalDataModule
from ..errors import NonFiniteError
from ..models.finite import not_finite
from ..processes import raise_everywhere
from .epoch_means import EpochMeans
from .loss_history import LossHistory
from .monitored import MonitoredTask
from .step_watch import WATCHED, Step, StepWatch


class WatchedTask(MonitoredTask):
    """Means of the loss over an epoch, and a stop if a loss or weight is not finite.

    Losses are read at the end of each epoch and every few hundred steps, on a CPU in
    every step; weights whenever they would be validated or written.
    """

    _weights_checked: int | None = None

    @cached_property
    def _means(self) -> EpochMeans:
        return EpochMeans()

    @cached_property
    def _watch(self) -> StepWatch:
        return StepWatch()

    @cached_property
    def _history(self) -> LossHistory:
        return LossHistory()

    def watch(
        self,
        loss: Tensor,
        terms: Mapping[str, Tensor],
        size: int | Tensor,
        batch: Sample,
        batch_idx: int,
    ) -> None:
        """Add the losses of a step to the means of the epoch, and watch them.

        Args:
            loss: What is minimised, a scalar.
            terms: Scalars to log or to watch, by name.
            size: Number of samples of all processes.
            batch: The batch, for the indices of its samples.
            batch_idx: Its number.

        Raises:
            NonFiniteError: If the losses were read and one is not finite.
        """
        indices = {
            key.removeprefix('index').removeprefix('_'): value
            for key, value in batch.items()
            if key == 'index' or key.startswith('index_')
        }
        number, epoch = (
            (0, 0)
            if self._trainer is None
            else (self.trainer.global_step, self.trainer.current_epoch)
        )
        values = self._means.update(terms, size)
        self._watch.add(
            Step(number, epoch, batch_idx, tuple(terms), values, loss.detach(), indices)
        )
        if self._watch.is_due:
            self._check_losses()

    def check_finite(self) -> None:
        """Check all losses of the epoch so far, and the weights, of all processes.

        Raises:
            NonFiniteError: If one is not finite.
        """
        self._check_losses()
        step = self.global_step
        if step and step != self._weights_checked:
            raise_everywhere(self._trainer, self._error_of_weights())
            self._weights_checked = step

    def _check_losses(self) -> None:
        raise_everywhere(self._trainer, self._error_of_losses())

    def _error_of_losses(self) -> NonFiniteError | None:
        step = self._watch.first_not_finite()
        if step is None:
            return None
        return NonFiniteError(
            f'the loss is not finite in {step.describe()}. '
            f'{self._batch_in_words(step.indices)}{self._advice()}'
        )

    def _error_of_weights(self) -> NonFiniteError | None:
        wrong = not_finite(self)
        if not wrong:
            return None
        return NonFiniteError(
            f'after step {self.global_step - 1} (epoch {self.current_epoch}), weights '
            f'are not finite: {", ".join(wrong[:3])} and {len(wrong)} in all. '
            f'{self._advice()}'
        )

    def _batch_in_words(self, indices: Mapping[str, Tensor]) -> str:
        """List the samples of a batch, and the largest value in each modality."""
        datamodule = None if self._trainer is None else self.trainer.datamodule  # ty: ignore[missing-attribute]
        text = ''
        for modality in self.in_channels:
            found = indices.get(modality, indices.get(''))
            if found is None:
                continue
            positions = found.tolist()
            text += f'Samples of {modality}, by their index: {positions}'
            dataset = None
            if isinstance(datamodule, MultiModalDataModule):
                dataset = datamodule.training_dataset(modality)
            if dataset is not None:
                images = dataset.load_batch(positions, modality)
                largest = images.nan_to_num(0, 0, 0).abs().flatten(1).amax(dim=1)
                first = int(largest.argmax())
                text += (
                    f' (the largest value is {largest[first].item():.3g}, in '
                    f'{dataset.identifier(positions[first])})'
                )
            text += '. '
        return text

    def _advice(self) -> str:
        text = (
            'Unless a value of these images is wrong, lower the learning rate '
            f'(--model.lr, now {self.hparams.get("lr")}), or clip gradients '
            '(--trainer.gradient_clip_val 1).'
        )
        if self._trainer is None:
            return text
        last = Path(run_folder(self.trainer), 'last.ckpt')
        if last.exists():
            text += f' {last} has the weights of the last complete epoch.'
        return text

    def on_train_epoch_start(self) -> None:
        """Forget the losses of an epoch that did not reach its end."""
        self._means.reset()
        self._watch.forget()

    def on_validation_start(self) -> None:
        """Check the losses and the weights, and that the classes are known.

        Raises:
            LabelError: If the number of classes disagrees with the data.
            NonFiniteError: If losses or weights of a training are not finite.
        """
        super().on_validation_start()
        if self.trainer.state.fn == TrainerFn.FITTING:
            self.check_finite()

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the validation split.

        Raises:
            NonFiniteError: If a classifier that is trained answers with NaN.
        """
        if self.trainer.state.fn == TrainerFn.FITTING:
            found = {
                key: value
                for means in self._losses.values()
                for key, value in means.compute(self._trainer).items()
            }
            wrong = [key for key, value in found.items() if not value.isfinite()]
            error = NonFiniteError(
                f'{", ".join(wrong)} are not finite in epoch {self.current_epoch}, '
                'although all weights are: an image of the validation split has values '
                'that the classifier cannot take. Mark them as missing, or remove the '
                'image.'
            )
            raise_everywhere(self._trainer, error if wrong else None)
        super().on_validation_epoch_end()

    def on_train_epoch_end(self) -> None:
        """Log the loss and its terms.

        Raises:
            NonFiniteError: If losses or weights are not finite.
        """
        self.check_finite()
        found = self._means.compute(self._trainer)
        means = {n: mean for n, mean in found.items() if not n.endswith(WATCHED)}
        logged = {f'train_{name}': mean for name, mean in means.items()}
        self.log_dict(logged, sync_dist=True)
        if means:
            values = torch.stack(list(means.values())).tolist()
            self._history.add(dict(zip(means, values, strict=True)))
        self._means.reset()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to write weights that are not finite.

        Args:
            checkpoint: The checkpoint.

        Raises:
            NonFiniteError: If weights of this process are not finite.
        """
        super().on_save_checkpoint(checkpoint)
        # nothing is sent: after an error, or at a signal of SLURM, not all processes
        # save, or not at the same step. All have the same weights.
        step = self.global_step
        if step and step != self._weights_checked:
            error = self._error_of_weights()
            if error is not None:
                raise self._error_of_losses() or error

    def on_fit_start(self) -> None:
        """Forget an earlier training of the same task."""
        super().on_fit_start()
        self._weights_checked = None
        self._history = LossHistory()

    def on_fit_end(self) -> None:
        """Say which terms learned nothing, and whether the training diverges."""
        super().on_fit_end()
        for line in self._history.in_words(self.chance_levels()):
            rank_zero_info(line)

    def chance_levels(self) -> dict[str, float]:
        """Return the terms of the loss that equal probabilities give.

        Returns:
            Values by name, of those terms that have one.
        """
        return {}

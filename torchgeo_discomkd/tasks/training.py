# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Base class of all tasks that train classifiers."""

from abc import abstractmethod
from collections.abc import Hashable, Iterable, Mapping
from functools import cached_property
from inspect import signature
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch import Callback
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.optim import Adam, Optimizer
from torchgeo.datasets.utils import Sample

from .. import __version__
from ..callbacks import (
    BestClassifiers,
    Calibration,
    ChannelsLast,
    CudaGraphs,
    LastCheckpoint,
    RunManifest,
    RunSummary,
)
from ..callbacks.scored_weights import ScoredWeights
from ..datamodules import MultiModalDataModule
from ..datasets import MultiModalDataset
from ..errors import BatchSizeError, ModalityError, SettingError
from ..losses.several import over_processes
from ..metadata import ImageProfile
from ..models import (
    ClassifierMetadata,
    ModalityMetadata,
    Normalization,
    check_tile_size,
)
from ..performance.graphs import GraphedObjective
from ..processes import summed
from .division import check_batch_norm
from .frozen import FreezingTask
from .labels import labels_of
from .layer_rates import check_rate, layer_groups
from .resumable import ResumableTask


class MultiModalTrainingTask(ResumableTask, FreezingTask):
    """What all training tasks share: normalisation, optimizer, files of a run.

    Each classifier is written to a file of its own whenever its weighted F1 on the
    validation split improves.

    Attributes:
        fingerprint: Hashes of the data and of the training split, and the seed, for the
            files.
        uses_unlabelled: Whether training can use samples of label -1.
        uses_incomplete: Whether it leaves out images that a sample of a paired batch
            lacks ('present_<modality>').
        objective_parts: Names of :meth:`objective` and of all methods and properties of
            the task that it uses. A class that overrides one overrides
            :attr:`objective_state`, too, or is trained without CUDA graphs.
        graphs: What computes the objective during a training on a GPU, see
            :class:`~torchgeo_discomkd.callbacks.CudaGraphs`.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.tasks import DisCoMKD, MultiModalTrainingTask
        >>> class DisCoMKDWithAdamW(DisCoMKD):
        ...     def configure_optimizers(self):
        ...         return torch.optim.AdamW(self.parameters(), lr=self.hparams['lr'])
        >>> task = DisCoMKDWithAdamW({'ms': 13, 'sar': 2}, model='test_resnet')
        >>> isinstance(task, MultiModalTrainingTask)
        True
        >>> [modality for modality, _ in task.normalizations()]
        ['ms', 'sar']
        >>> type(task.configure_optimizers()).__name__
        'AdamW'
    """

    fingerprint: str = ''
    seed: int | None = None
    uses_unlabelled: bool = False
    uses_incomplete: bool = False
    objective_parts: ClassVar[tuple[str, ...]] = ('objective',)
    graphs: GraphedObjective | None = None

    _grouped: bool = False
    _dataset: MultiModalDataset | None = None
    _profiles: Mapping[str, ImageProfile] = MappingProxyType({})

    def setup(self, stage: str) -> None:
        """Check the data, join its classes and, for training, adopt its statistics.

        Args:
            stage: Either 'fit', 'validate', 'test' or 'predict'.

        Raises:
            BandError: If the network takes another number of bands of a modality.
            LabelError: If the data has other classes.
            ModalityError: If a modality to train on is not in the data.
            SettingError: If a callback monitors a metric that will not be logged.
            TileSizeError: If an encoder does not take tiles of this size.
        """
        super().setup(stage)
        datamodule = getattr(self.trainer, 'datamodule', None)
        if not isinstance(datamodule, MultiModalDataModule):
            return
        self._dataset = datamodule.any_dataset
        if stage == 'fit':
            self._tell_class_weights()
            self.seed = datamodule.run_seed
            self.fingerprint = self._dataset.fingerprint()
            self.split_hash = self._dataset.split_hash()
            self._adopt_statistics(datamodule)
            self._profiles = datamodule.profiles
            self._check_tile_sizes()

    def _check_tile_sizes(self) -> None:
        # all encoders of a modality are alike
        for modality, encoder in dict(self.encoders()).items():
            size = self._modality_metadata(modality).tile_size
            if size is not None:
                check_tile_size(encoder, self.in_channels[modality], size)

    def _tell_class_weights(self) -> None:
        # by name, since only the order says which is which
        if self.criterion.weight is not None:
            weights = self.criterion.weight.tolist()
            pairs = zip(self.classes, weights, strict=True)
            text = ', '.join(f'{name} {weight:g}' for name, weight in pairs)
            rank_zero_info(f'class weights: {text}')

    def _adopt_statistics(self, datamodule: MultiModalDataModule) -> None:
        for modality, normalization in self.normalizations():
            statistics = datamodule.statistics[modality]
            normalization.fit(
                statistics.mean,
                statistics.std,
                statistics.low,
                statistics.high,
                self.hparams['normalization'],
            )

    @cached_property
    def scored(self) -> ScoredWeights:
        """The weights that a validation in progress scores, for the files."""
        return ScoredWeights()

    def on_validation_batch_start(
        self, batch: Sample, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Keep the weights that are scored, when every callback has swapped its own.

        Args:
            batch: Not used.
            batch_idx: Integer displaying index of this batch.
            dataloader_idx: Index of the current dataloader.
        """
        trainer = self.trainer
        fitting = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if fitting and not (batch_idx or dataloader_idx):
            self.scored.keep(self)

    def on_validation_end(self) -> None:
        """Forget the weights that were scored: all files are written."""
        self.scored.drop()

    def training_step(
        self, batch: Sample, batch_idx: int, dataloader_idx: int = 0
    ) -> Tensor:
        """Compute the training loss.

        Args:
            batch: What :meth:`training_inputs` takes.
            batch_idx: Integer displaying index of this batch.
            dataloader_idx: Index of the current dataloader.

        Returns:
            The loss of :meth:`objective`. Its terms are logged as 'train_<name>', the
            means over the epoch.

        Raises:
            NonFiniteError: If a loss of this or, on a GPU, of one of the latest steps
                is not finite.
            UserError: If the batch cannot be trained on.
        """
        inputs = self.training_inputs(batch)
        # a graph does the same, if a callback has captured it
        objective = self.objective if self.graphs is None else self.graphs
        several = self._trainer is not None and self.trainer.world_size > 1
        with over_processes(self._average if several else None):
            loss, terms = objective(inputs)
        size: int | Tensor = max(len(x) for x in inputs.values())
        if several:
            size = self._average(loss.new_tensor(size, dtype=torch.float32))
        self.watch(loss, terms, size, batch, batch_idx)
        return loss

    def _average(self, counts: Tensor) -> Tensor:
        return summed(self.trainer, counts) / self.trainer.world_size

    @property
    def pairing(self) -> str | None:
        """Why training needs the same samples in all modalities, if it does."""
        return None

    @abstractmethod
    def training_inputs(self, batch: Sample) -> dict[str, Tensor]:
        """Check a training batch and select what :meth:`objective` needs.

        Args:
            batch: A training batch.

        Returns:
            Tensors by name, of which the first dimension is that of the samples.

        Raises:
            UserError: If the batch cannot be trained on.
        """

    @abstractmethod
    def objective(
        self, inputs: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss, from tensors only, and without waiting for the device.

        Args:
            inputs: What :meth:`training_inputs` returned.

        Returns:
            The loss to minimise, and the scalars to log, by name; those whose name ends
            in '_logits', one for each modality, are only watched.
        """

    @property
    def objective_state(self) -> Hashable:
        """All that :meth:`objective` depends on beside tensors, such as the epoch.

        A CUDA graph is replayed as long as it stays equal. None: it may change with
        every step, so no graph is used. A class that overrides one of its
        :attr:`objective_parts` states this, too.
        """
        return None

    def on_fit_start(self) -> None:
        """Check that batches can be normalised as the trainer is to.

        Raises:
            SettingError: If batch normalisation is to be synchronised on a CPU.
        """
        super().on_fit_start()
        check_batch_norm(self.trainer, self)

    def configure_optimizers(self) -> Optimizer:
        """Initialize the optimizer.

        Returns:
            Adam over all parameters that are not frozen, without weight decay or
            schedule, as in the paper, and with the layer-wise rates of *layer_decay*.
            On the command line, --optimizer and --lr_scheduler replace it.
        """
        return self.adam(self.groups_of(self.parameters()))

    def groups_of(self, parameters: Iterable[Tensor]) -> list[dict[str, Any]]:
        """Return those parameters that are not frozen in groups of one learning rate.

        Args:
            parameters: The parameters.

        Raises:
            SettingError: If *layer_decay* is out of range, or the task names no
                encoders.
        """
        self._grouped = True
        encoders = [encoder for _, encoder in self.encoders()]
        lr, decay = self.hparams['lr'], self.hparams.get('layer_decay')
        return layer_groups(parameters, encoders, lr, decay)

    def on_train_start(self) -> None:
        """Check that the optimizer has the learning rates of the task.

        Raises:
            SettingError: If it was replaced and has others.
        """
        super().on_train_start()
        if self.hparams.get('layer_decay') is not None and not self._grouped:
            raise SettingError(
                f'layer_decay={self.hparams["layer_decay"]} has no effect with an '
                'optimizer of your own: omit one of them.'
            )
        if self.optimizer_replaced:
            for name, lr in self.given_rates().items():
                check_rate(name, lr, self.trainer.optimizers)

    def given_rates(self) -> dict[str, float]:
        """Return the learning rates, by name, that an optimizer should have.

        Returns:
            *lr*, unless it is the default, and what else the task trains at.
        """
        lr, parameter = self.hparams['lr'], signature(type(self)).parameters.get('lr')
        default = parameter is None or parameter.default == lr
        return {} if default else {'lr': lr}

    def adam(self, parameters: Iterable[Tensor] | Iterable[dict[str, Any]]) -> Adam:
        """Return Adam with the learning rate of the task.

        Args:
            parameters: Parameters, or groups of them.

        Raises:
            SettingError: If the learning rate is negative or infinite.
        """
        lr = self.hparams['lr']
        if not 0 <= lr < float('inf'):
            raise SettingError(f'lr={lr}: give a positive number, or 0.')
        # fused: one pass over the weights, in half the time on a CPU; Lightning does
        # not clip the gradients of a fused optimizer in mixed precision
        clips = self._trainer is not None and bool(self._trainer.gradient_clip_val)
        return Adam(parameters, lr=lr, fused=not clips)

    def configure_callbacks(self) -> list[Callback]:
        """Return the callbacks that write the run folder, unless already given.

        Returns:
            Best classifiers, manifest, calibration, summary and, unless the trainer has
            checkpoints disabled, the last checkpoint; CUDA graphs on a GPU;
            channels-last weights on a CPU and with graphs.
        """
        given: list[Callback] = self.trainer.callbacks  # ty: ignore[missing-attribute]
        # in this order: the summary reports the results of the calibration
        needed: list[type[Callback]] = [
            BestClassifiers,
            RunManifest,
            Calibration,
            RunSummary,
        ]
        if self.trainer.checkpoint_callbacks:
            needed.append(LastCheckpoint)
        device = self.trainer.strategy.root_device.type
        replayed = device == 'cuda' and CudaGraphs.obstacle(self.trainer, self) is None
        if device == 'cuda':
            needed.append(CudaGraphs)
        if device == 'cpu' or replayed:
            needed.append(ChannelsLast)
        return [c() for c in needed if not any(isinstance(g, c) for g in given)]

    @abstractmethod
    def normalizations(self) -> Iterable[tuple[str, Normalization]]:
        """Yield modality and normalisation of every classifier."""

    @abstractmethod
    def save_classifier(
        self, name: str, path: Path, scores: dict[str, float], epoch: int
    ) -> None:
        """Write one classifier, as it is now, to a file of its own.

        Args:
            name: One of :meth:`classifier_names` or :meth:`comparison_names`.
            path: The file.
            scores: Scores to record in the file.
            epoch: Epoch to record in the file, counted from 0.
        """

    def classifier_metadata(
        self,
        kind: Literal['disentangled', 'fusion'],
        modalities: Iterable[str],
        scores: dict[str, float],
        epoch: int,
    ) -> ClassifierMetadata:
        """Return what a classifier file records about its classifier.

        Args:
            kind: Kind of network.
            modalities: Modalities that the classifier takes.
            scores: Scores of the classifier.
            epoch: Epoch of the classifier, counted from 0.

        Returns:
            The metadata. Bands, units, tile sizes and profiles are those of the data.
        """
        # the control of equal size has no choice of its head
        head = self.hparams.get('head', 'linear_bn_relu')
        return ClassifierMetadata(
            kind=kind,
            model=self.hparams['model'],
            classes=tuple(self.classes),
            modalities={m: self._modality_metadata(m) for m in modalities},
            head=head if kind == 'disentangled' else None,
            normalization=self.hparams['normalization'],
            temperature=1.0,
            scores=scores,
            epoch=epoch,
            data_fingerprint=self.fingerprint,
            split_hash=self.split_hash,
            seed=self.seed,
            version=__version__,
            task=self.task,
        )

    def _modality_metadata(self, modality: str) -> ModalityMetadata:
        channels = self.in_channels[modality]
        if self._dataset is None:
            bands = tuple(f'B{i + 1}' for i in range(channels))
            return ModalityMetadata(channels, bands, '', None)
        return ModalityMetadata(
            channels,
            self._dataset.bands[modality],
            self._dataset.units[modality],
            self._dataset.tile_size(modality),
            self._profiles.get(modality),
        )

    def labels_of(self, batch: Sample, modality: str) -> Tensor:
        """Return the labels of a modality, paired or not.

        Args:
            batch: A training batch.
            modality: The modality.

        Returns:
            int64 (B,) or, with several labels in a sample, (B, C).

        Raises:
            LabelError: If the labels are of another kind, or their number disagrees.
        """
        return labels_of(batch, modality, self.task, self.hparams['num_classes'])

    def images_to_train(self, batch: Sample) -> dict[str, Tensor]:
        """Return the images of a training batch by modality.

        Args:
            batch: A training batch.

        Returns:
            Raw values (B, C, H, W) for each modality of the task.

        Raises:
            BatchSizeError: If a modality has only one sample.
            ModalityError: If a modality is not in the batch.
        """
        images = {}
        for modality in self.in_channels:
            if f'image_{modality}' not in batch:
                raise ModalityError(
                    f'the batch has {sorted(batch)}, but training needs '
                    f'image_{modality}: train with all of {list(self.in_channels)}.'
                )
            images[modality] = batch[f'image_{modality}']
            if len(images[modality]) < 2:
                raise BatchSizeError(
                    f'a training batch of one sample ({modality}): batch normalisation '
                    'needs at least two. Use a larger batch_size, or drop_last=True in '
                    'your own data loader.'
                )
        return images

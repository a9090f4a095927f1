# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Base class of all tasks with several modalities."""

import warnings
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from typing import cast

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn
from torchgeo.datasets.utils import Sample
from torchgeo.tasks import BaseTask
from torchmetrics import MetricCollection

from ..datamodules import MultiModalDataModule
from ..datasets import MultiModalDataset
from ..errors import BandError, LabelError, ModalityError
from ..losses import LabelledBinaryCrossEntropy, LabelledCrossEntropy
from ..losses.multilabel import UNLABELLED
from ..metadata import LabelTask
from ..models.heads import to_probabilities
from ..processes import check_strategy, raising_everywhere, summed
from .epoch_means import EpochMeans
from .labels import check_data_task, check_task, labels_of
from .metrics import HeldScores, classification_metrics, draw_confusion


class MultiModalTask(BaseTask):
    """What all tasks share: classifiers with scores of their own.

    A task names its classifiers (a modality, or 'fusion' for several at once). Every
    classifier takes raw pixel values and has its own scores, ``val_<name>_F1Score`` and
    so on.

    Attributes:
        ignore: Parameters to ignore when saving hyperparameters.
        classes: Class names, in the order of their labels.
        trained_classes: Class names that the classifiers were trained with; empty if
            that is not known.
        in_channels: Number of bands of each modality of the task.
        criterion: Cross-entropy of the classes, or binary one of the labels.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.tasks import MultiModalTask
        >>> class Brightness(MultiModalTask):
        ...     in_channels = {'sar': 2}
        ...     def __init__(self, num_classes: int, labels: list[str]) -> None:
        ...         super().__init__()
        ...     def configure_models(self):
        ...         self.model = torch.nn.Identity()
        ...     def classifier_names(self):
        ...         return ['sar']
        ...     def evaluate(self, batch, stage):
        ...         mean = self.images_of(batch)['sar'].mean(dim=(1, 2, 3))
        ...         return {'sar': torch.stack([-mean, mean], dim=1)}
        >>> task = Brightness(num_classes=2, labels=['dark', 'bright'])
        >>> task.predict_step({'image_sar': torch.zeros(1, 2, 32, 32)}, 0)
        {'sar': tensor([[0.5000, 0.5000]])}
    """

    ignore: Sequence[str] | str | None = ('weights',)
    classes: tuple[str, ...] = ()
    trained_classes: tuple[str, ...] = ()
    in_channels: dict[str, int]
    criterion: LabelledCrossEntropy

    _evaluated: MultiModalDataset | None = None
    _joined: bool = True

    def setup(self, stage: str) -> None:
        """Check the data and join its classes with those of the classifiers, by name.

        Training adopts the classes of the data. Data to evaluate may have them in
        another order, or not all.

        Args:
            stage: Either 'fit', 'validate', 'test' or 'predict'.

        Raises:
            BandError: If the network takes another number of bands of a modality.
            LabelError: If the data has other classes.
            ModalityError: If a modality to train on is not in the data.
        """
        with raising_everywhere(self.trainer):
            check_strategy(self.trainer.strategy)
        datamodule = getattr(self.trainer, 'datamodule', None)
        self._evaluated, self._joined = None, True
        if not isinstance(datamodule, MultiModalDataModule):
            return
        dataset = datamodule.any_dataset
        self.check_data(dataset, training=stage == 'fit')
        self._evaluated = datamodule.evaluated_dataset(stage) or dataset
        if stage == 'fit':
            self.trained_classes = dataset.classes
        classes = self.trained_classes or self._evaluated.classes
        # if they are too few, a checkpoint, which is read next, may name the others
        self._joined = len(classes) == self.hparams['num_classes']
        if self._joined:
            self.join_classes(classes)

    def join_classes(self, classes: Sequence[str]) -> None:
        """Score and classify by these classes.

        Args:
            classes: Class names of the classifiers, in the order of their labels.

        Raises:
            LabelError: If the data to evaluate has a class that is not among them, or
                their number is not *num_classes*.
        """
        if self._evaluated is not None:
            self._evaluated.join_classes(classes)
        self.classes, self._joined = tuple(classes), True
        self.configure_metrics()

    def check_data(self, dataset: MultiModalDataset, training: bool) -> None:
        """Check that the data fits the classifiers.

        Args:
            dataset: The data.
            training: Whether every class and modality is needed, rather than any one
                modality.

        Raises:
            BandError: If a modality has the wrong number of bands.
            LabelError: If the kind of labels or the number of classes disagrees.
            ModalityError: If modalities are missing.
        """
        check_data_task(self.task, dataset)
        if training:
            self._check_number(dataset)
        in_channels = self.in_channels
        lacking = [m for m in in_channels if m not in dataset.modalities]
        if lacking if training else len(lacking) == len(in_channels):
            raise ModalityError(
                f'the task needs the modalities {list(in_channels)}, but the data has '
                f'{list(dataset.modalities)}: set --model.in_channels or '
                '--data.modalities.'
            )
        for modality in dataset.modalities:
            bands, expected = dataset.bands[modality], in_channels.get(modality)
            if expected not in {None, len(bands)}:
                right = in_channels | {modality: len(bands)}
                text = ', '.join(f'{name}: {count}' for name, count in right.items())
                raise BandError(
                    f'in_channels is {expected} for {modality!r}, but the data has '
                    f'{len(bands)} bands ({", ".join(bands)}): set '
                    f"--model.in_channels '{{{text}}}'."
                )

    def _check_number(self, dataset: MultiModalDataset) -> None:
        if len(dataset.classes) != self.hparams['num_classes']:
            raise LabelError(
                f'num_classes={self.hparams["num_classes"]}, but the data has '
                f'{len(dataset.classes)} classes ({", ".join(dataset.classes)}): set '
                f'--model.num_classes {len(dataset.classes)}.'
            )

    @property
    def task(self) -> LabelTask:
        """Kind of labels."""
        return self.hparams.get('task', 'multiclass')

    @property
    def unknown_chance(self) -> bool:
        """Whether the loss of equal probabilities depends on how frequent labels are.

        Weights of positive samples do not cancel in a mean, as those of classes do.
        """
        return self.task == 'multilabel' and self.criterion.weight is not None

    def thresholds(self, name: str) -> tuple[float, ...] | None:
        """Return the probabilities above which a sample has each label.

        Args:
            name: Name of a classifier.

        Returns:
            0.5 for every label; None if a sample has one class.
        """
        number = self.hparams['num_classes']
        return (0.5,) * number if self.task == 'multilabel' else None

    def configure_losses(self) -> None:
        """Initialize the cross-entropy of training, validation and test.

        Raises:
            LabelError: If *task* is 'binary' and there are not two classes.
            SettingError: If *class_weights* or *label_smoothing* are out of range, or
                there is not one weight for each class, or *task* is unknown.
        """
        settings = self.hparams
        check_task(self.task, settings['num_classes'])
        multilabel = self.task == 'multilabel'
        create = LabelledBinaryCrossEntropy if multilabel else LabelledCrossEntropy
        self.criterion = create(
            settings.get('class_weights'),
            settings.get('label_smoothing', 0.0),
            settings['num_classes'],
        )

    def configure_metrics(self) -> None:
        """Initialize the scores of every classifier for validation and test.

        Raises:
            LabelError: If the number of labels is not *num_classes*.
        """
        num_classes = self.hparams['num_classes']
        if not self.classes:
            labels = self.hparams['labels'] or [str(i) for i in range(num_classes)]
            self.classes = tuple(labels)
        if len(self.classes) != num_classes:
            raise LabelError(
                f'labels={list(self.classes)}, but num_classes={num_classes}: name '
                'every class once.'
            )
        names = [*self.classifier_names(), *self.comparison_names()]
        self.metrics = nn.ModuleDict(
            {
                f'{split}_{name}': classification_metrics(
                    num_classes, self.classes, self.task
                )
                for split in ('val', 'test')
                for name in names
            }
        )

    @abstractmethod
    def classifier_names(self) -> list[str]:
        """Return the names of the classifiers: a modality, or 'fusion'."""

    def comparison_names(self) -> list[str]:
        """Return the names of further classifiers that are scored for comparison."""
        return []

    @abstractmethod
    def evaluate(self, batch: Sample, stage: str) -> dict[str, Tensor]:
        """Classify a batch of whichever modalities it has.

        Args:
            batch: 'image_<modality>' raw values, float32 (B, C, H, W), for at least
                one modality.
            stage: Either 'val', 'test' or 'predict'.

        Returns:
            Logits (B, classes) by name of classifier.
        """

    def images_of(self, batch: Sample) -> dict[str, Tensor]:
        """Return the images of a batch by modality.

        Args:
            batch: A batch.

        Returns:
            Raw values (B, C, H, W) for each modality of the task that the batch has.

        Raises:
            ModalityError: If there is none.
        """
        images = {
            m: batch[f'image_{m}'] for m in self.in_channels if f'image_{m}' in batch
        }
        if not images:
            raise ModalityError(
                f'the batch has {sorted(batch)}, but none of '
                f'{[f"image_{m}" for m in self.in_channels]}.'
            )
        return images

    def on_validation_start(self) -> None:
        """Check that the classes of the data are known.

        Raises:
            LabelError: If the number of classes disagrees with the data.
        """
        self._check_joined()
        self._held.clear()
        self._losses.clear()

    def on_test_start(self) -> None:
        """Check that the classes of the data are known.

        Raises:
            LabelError: If the number of classes disagrees with the data.
        """
        self._check_joined()
        self._held.clear()
        self._losses.clear()

    def on_predict_start(self) -> None:
        """Check that the classes of the data are known.

        Raises:
            LabelError: If the number of classes disagrees with the data.
        """
        self._check_joined()

    def _check_joined(self) -> None:
        if self._evaluated is not None and not self._joined:
            self._check_number(self._evaluated)

    @cached_property
    def _held(self) -> HeldScores:
        return HeldScores()

    @cached_property
    def _losses(self) -> defaultdict[str, EpochMeans]:
        return defaultdict(EpochMeans)

    def validation_step(
        self, batch: Sample, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Score the classifiers of the modalities that the batch has.

        Args:
            batch: 'image_<modality>' and 'label'; -1 marks samples without a label,
                which are skipped.
            batch_idx: Integer displaying index of this batch.
            dataloader_idx: Index of the current dataloader.

        Raises:
            LabelError: If the labels are not one class for each sample.
        """
        self._score(batch, 'val')

    def test_step(self, batch: Sample, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Score the classifiers of the modalities that the batch has.

        Args:
            batch: 'image_<modality>' and 'label'; -1 marks samples without a label,
                which are skipped.
            batch_idx: Integer displaying index of this batch.
            dataloader_idx: Index of the current dataloader.

        Raises:
            LabelError: If the labels are not one class for each sample.
        """
        self._score(batch, 'test')

    def predict_step(
        self, batch: Sample, batch_idx: int, dataloader_idx: int = 0
    ) -> dict[str, Tensor]:
        """Classify the modalities that the batch has.

        Args:
            batch: 'image_<modality>' for at least one modality.
            batch_idx: Integer displaying index of this batch.
            dataloader_idx: Index of the current dataloader.

        Returns:
            Probabilities (B, classes) by name of classifier; with 'multilabel' each is
            independent of the others.
        """
        logits = self.evaluate(batch, 'predict')
        names = set(self.classifier_names())
        return {
            n: to_probabilities(z.float(), self.task)
            for n, z in logits.items()
            if n in names
        }

    def decisions(self, name: str, logits: Tensor) -> Tensor:
        """Turn logits into what the scores take.

        Args:
            name: Name of a classifier.
            logits: Shape (B, classes), float32.

        Returns:
            The logits; with 'multilabel' probabilities, shifted so that the threshold
            of each label is at 0.5.
        """
        if (thresholds := self.thresholds(name)) is None:
            return logits
        return (logits - logits.new_tensor(thresholds).logit()).sigmoid()

    def _score(self, batch: Sample, split: str) -> None:
        number = self.hparams['num_classes']
        labels, losses = labels_of(batch, None, self.task, number), {}
        for name, logits in self.evaluate(batch, split).items():
            key = f'{split}_{name}'
            metrics = cast(MetricCollection, self.metrics[key])
            decisions = self.decisions(name, logits.float())
            self._held.add(key, metrics, decisions, labels)
            losses[name] = self.criterion(logits.float(), labels)
        own = [losses[n] for n in self.classifier_names() if n in losses]
        found = {f'{split}_{name}_loss': loss for name, loss in losses.items()}
        count = self.criterion.count(labels)
        for key, loss in (found | {f'{split}_loss': torch.stack(own).mean()}).items():
            self._losses[key].update({key: loss}, count)

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the validation split."""
        self._log_scores('val')

    def on_test_epoch_end(self) -> None:
        """Log the scores of the test split."""
        self._log_scores('test')

    def _log_scores(self, split: str) -> None:
        for means in self._losses.values():
            self.log_dict(means.compute(self.trainer), sync_dist=True)
        self._losses.clear()
        names = set(self.classifier_names())
        for key, metrics in self.metrics.items():
            if not key.startswith(split) or not isinstance(metrics, MetricCollection):
                continue
            self._held.flush(key, metrics)
            if self._is_scored(metrics):
                with warnings.catch_warnings():
                    # that of other processes, if this one has scored nothing
                    warnings.filterwarnings('ignore', '.*was called before the')
                    scores = metrics.compute()
                if (matrix := scores.pop('ConfusionMatrix', None)) is not None:
                    self._log_confusion(key, metrics, matrix)
                # a class without samples has no F1: it is left out
                scores = {f'{key}_{k}': v for k, v in scores.items() if not v.isnan()}
                prog_bar = key.removeprefix(f'{split}_') in names
                f1 = f'{key}_F1Score'
                # the same in all processes: sync_dist only tells Lightning
                self.log(f1, scores.pop(f1), prog_bar=prog_bar, sync_dist=True)
                self.log_dict(scores, sync_dist=True)
            metrics.reset()

    def _is_scored(self, metrics: MetricCollection) -> bool:
        """Return whether a process has scored a sample, so that all must compute."""
        own = metrics['F1Score'].update_called
        found = summed(self.trainer, torch.tensor(float(own), device=self.device))
        if found and not own and self.task == 'multilabel':
            # lists of scores must not be empty to be gathered; counts are 0
            nothing = torch.zeros(1, self.hparams['num_classes'], device=self.device)
            unknown = torch.full_like(nothing, UNLABELLED, dtype=torch.long)
            metrics.update(nothing, unknown)
        return bool(found)

    def _log_confusion(
        self, key: str, metrics: MetricCollection, matrix: Tensor
    ) -> None:
        last = self.current_epoch + 1 == self.trainer.max_epochs
        writer = getattr(self.logger, 'experiment', None)
        if not hasattr(writer, 'add_figure') or not (last or self.trainer.testing):
            return
        figure = draw_confusion(metrics['ConfusionMatrix'], matrix, self.classes)
        writer.add_figure(f'{key}_ConfusionMatrix', figure, self.global_step)
        plt.close(figure)

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Task for the competitors of DisCoM-KD: a student that learns from a teacher."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim import Adam, Optimizer
from torchgeo.datasets.utils import Sample

from ..datasets import MultiModalDataset
from ..errors import ClassifierFileError, ModalityError
from ..losses import (
    CurriculumTemperature,
    dkd_loss,
    kd_loss,
    mlkd_loss,
    standardize_logits,
)
from ..models import LoadedClassifier, load_classifier
from .distillation_settings import distillation_settings
from .fusion import FusionClassification
from .pretrained import PretrainedClassification


class Distillation(FusionClassification):
    """A plain classifier of one modality, the student, that imitates a teacher.

    The teacher is a classifier file, of one modality or several, with an encoder and a
    normalisation of its own. It is frozen: in evaluation mode, without gradients,
    neither in the optimizer nor among the weights of the checkpoint. What is kept of a
    run is the student, which needs no teacher any more.

    Unless the teacher takes the student's modality alone, both must see the same
    samples under the same flips and turns: set ``--data.paired true``.

    If you use this method in your research, please cite the paper of the *method*:

    * kd: https://arxiv.org/abs/1503.02531 and https://arxiv.org/abs/2206.06487
    * dkd: https://arxiv.org/abs/2203.08679
    * ctkd: https://arxiv.org/abs/2211.16231
    * mlkd: Jin et al., CVPR 2023, 'Multi-level logit distillation'
    * *standardize*: https://arxiv.org/abs/2403.01427
    """

    def __init__(
        self,
        teacher: str,
        in_channels: dict[str, int] | None = None,
        num_classes: int = 10,
        model: str = 'resnet18',
        weights: dict[str, str | bool | None] | None = None,
        method: Literal['kd', 'dkd', 'ctkd', 'mlkd'] = 'kd',
        preset: Literal['default', 'authors', 'official'] = 'default',
        standardize: bool = False,
        alpha: float | None = None,
        cross_entropy_weight: float | None = None,
        distillation_weight: float | None = None,
        temperature: float | None = None,
        temperatures: Sequence[float] | None = None,
        target_weight: float | None = None,
        other_weight: float | None = None,
        class_weight: float | None = None,
        batch_weight: float | None = None,
        warmup_epochs: int | None = None,
        first_epoch: Literal[0, 1] | None = None,
        temperature_lr: float | None = None,
        swapped_kl: bool | None = None,
        teacher_in_training_mode: bool = False,
        normalization: Literal['standardize', 'percentile', 'none'] = 'standardize',
        labels: Sequence[str] | None = None,
        lr: float = 1e-4,
    ) -> None:
        """Initialize a new Distillation instance.

        The loss is *cross_entropy_weight* times the cross-entropy plus
        *distillation_weight* times that of the method. Settings that are None have the
        value of the preset; a setting that the method does not have is refused.

        Args:
            teacher: Classifier file, e.g. runs/teacher/best/ms.safetensors.
            in_channels: Number of bands of the student's one modality. Default: sar: 2.
            num_classes: Number of classes.
            model: Name of the student's `timm
                <https://huggingface.co/docs/timm/reference/models>`__ encoder.
            weights: Initial weights of the student's encoder, as for
                :class:`FusionClassification`.
            method: Distillation loss.
            preset: 'default' is what the papers of the methods describe; 'authors' what
                the authors of DisCoM-KD compared with; 'official' the values of the
                methods' own code.
            standardize: Whether to standardise the logits of student and teacher before
                the distillation loss (LSKD).
            alpha: Of 'kd': weight of the cross-entropy, 0 to 1; that of the
                distillation loss is 1 - *alpha*. 0 is KDv1, 0.5 KDv2.
            cross_entropy_weight: Of all but 'kd'.
            distillation_weight: Of all but 'kd'.
            temperature: Of 'kd' and 'dkd'.
            temperatures: Of 'mlkd', which sums over them.
            target_weight: Of 'dkd': weight of the target-class term, the paper's alpha.
            other_weight: Of 'dkd': weight of the other classes' term, the paper's beta.
            class_weight: Of 'mlkd': weight of the class consistency.
            batch_weight: Of 'mlkd': weight of the batch consistency.
            warmup_epochs: Epochs until the distillation loss of 'dkd', or the reversed
                gradient of the temperature of 'ctkd', has its full weight.
            first_epoch: Of 'dkd' and 'ctkd': number of the first epoch in the warm-up.
                With 0 it starts from nothing.
            temperature_lr: Of 'ctkd': learning rate of the temperature.
            swapped_kl: Of 'mlkd': whether the instance term has the swapped arguments
                of the authors' code, see :func:`~torchgeo_discomkd.losses.mlkd_loss`.
            teacher_in_training_mode: Whether the teacher's batch normalisation uses
                the statistics of each batch and its running statistics drift, as in the
                authors' code. Only to measure what that does.
            normalization: As for :class:`FusionClassification`.
            labels: Class names, for data modules that do not tell them.
            lr: Learning rate of Adam.

        Raises:
            ModalityError: If *in_channels* has not exactly one modality, or *weights*
                names another one.
            SettingError: If *method* or *preset* is unknown, or a setting is none of
                the method's or out of range.
            WeightsError: If *model* or *weights* are unknown, unfit or out of reach.
        """
        if in_channels is not None and len(in_channels) != 1:
            raise ModalityError(
                f'in_channels={in_channels}: a student has one modality. Name it alone, '
                'e.g. --model.in_channels {sar: 2}.'
            )
        given = {
            'alpha': alpha,
            'cross_entropy_weight': cross_entropy_weight,
            'distillation_weight': distillation_weight,
            'temperature': temperature,
            'temperatures': temperatures,
            'target_weight': target_weight,
            'other_weight': other_weight,
            'class_weight': class_weight,
            'batch_weight': batch_weight,
            'warmup_epochs': warmup_epochs,
            'first_epoch': first_epoch,
            'temperature_lr': temperature_lr,
            'swapped_kl': swapped_kl,
        }
        #: Value of every setting that the method has.
        self.settings: dict[str, Any] = distillation_settings(
            method, preset, standardize, given
        )
        # a tuple hides the teacher from PyTorch: as a submodule it would be in
        # parameters(), state_dict() and train()
        self._teacher: tuple[LoadedClassifier, ...] = ()
        super().__init__(
            in_channels, num_classes, model, weights, normalization, labels, lr
        )

    def configure_models(self) -> None:
        """Initialize the student and, for 'ctkd', the temperature."""
        super().configure_models()
        self.curriculum: CurriculumTemperature | None = None
        if self.hparams['method'] == 'ctkd':
            self.curriculum = CurriculumTemperature(
                loops=self.settings['warmup_epochs'],
                first_epoch=self.settings['first_epoch'],
            )

    def configure_optimizers(self) -> Optimizer:
        """Initialize the optimizer.

        Returns:
            Adam over the student and, with a learning rate of its own, the temperature
            of 'ctkd'. On the command line, --optimizer and --lr_scheduler replace it,
            with one learning rate for both.
        """
        groups: list[dict[str, Any]] = [{'params': list(self.model.parameters())}]
        if self.curriculum is not None:
            groups.append(
                {
                    'params': list(self.curriculum.parameters()),
                    'lr': self.settings['temperature_lr'],
                }
            )
        return Adam(groups, lr=self.hparams['lr'])

    @property
    def teacher(self) -> LoadedClassifier:
        """The teacher, read from its file when training begins."""
        if not self._teacher:
            self.load_teacher()
        return self._teacher[0]

    def load_teacher(self) -> None:
        """Read the teacher; evaluating a student does without.

        Raises:
            ClassifierFileError: If there is no such file, or it is no classifier file
                or one of other classes.
        """
        path = self.hparams['teacher']
        teacher = load_classifier(path)
        classes, labels = teacher.metadata.classes, self.hparams['labels']
        if len(classes) != self.hparams['num_classes'] or (
            labels and classes != tuple(labels)
        ):
            raise ClassifierFileError(
                f'the teacher {path} has the {len(classes)} classes {list(classes)}, but '
                f'the student has num_classes={self.hparams["num_classes"]} and '
                f'labels={labels}: give a teacher of the same classes in the same order.'
            )
        teacher.train(self.hparams['teacher_in_training_mode'])
        self._teacher = (teacher.to(self.device),)

    def prepare_data(self) -> None:
        """Refuse a teacher that cannot be read before there is a run folder.

        Raises:
            ClassifierFileError: If the teacher cannot be read or has other classes.
        """
        if self.trainer.training:
            self.load_teacher()

    def setup(self, stage: str) -> None:
        """Check the data and read the teacher.

        Args:
            stage: Either 'fit', 'validate', 'test' or 'predict'.

        Raises:
            BandError: If a modality has other bands than student or teacher.
            ClassifierFileError: If the teacher cannot be read or has other classes.
            LabelError: If the number of classes disagrees with the data.
            ModalityError: If a modality of student or teacher is not in the data.
            UnitError: If the teacher takes another unit than that of the data.
        """
        if stage == 'fit':
            # in every process, and anew: an earlier training may have moved it
            self.load_teacher()
        super().setup(stage)

    def on_fit_start(self) -> None:
        """Move the teacher to the device of the student."""
        self.teacher.to(self.device)

    def check_data(self, dataset: MultiModalDataset, training: bool) -> None:
        """Check that the data is what the student and, for training, the teacher takes.

        Args:
            dataset: The data.
            training: Whether the teacher is needed.

        Raises:
            BandError: If a modality has other bands.
            ClassifierFileError: If the teacher has other classes.
            LabelError: If the number of classes disagrees.
            ModalityError: If modalities are lacking.
            UnitError: If the teacher takes another unit.
        """
        super().check_data(dataset, training)
        if not training:
            return
        lacking = [m for m in self.teacher.modalities if m not in dataset.modalities]
        if lacking:
            raise ModalityError(
                f'the teacher {self.hparams["teacher"]} needs {lacking}, but the data '
                f'has {list(dataset.modalities)}: set --data.modalities, or give '
                'another --model.teacher.'
            )
        _check_teacher(self.hparams['teacher'], dataset)

    def training_step(
        self, batch: Sample, batch_idx: int, dataloader_idx: int = 0
    ) -> Tensor:
        """Compute the training loss.

        Args:
            batch: 'image_<modality>' of student and teacher, paired if they differ.
            batch_idx: Integer displaying index of this batch.
            dataloader_idx: Index of the current dataloader.

        Returns:
            The weighted sum of cross-entropy and distillation loss.

        Raises:
            BatchSizeError: If the batch has one sample only.
            ModalityError: If a modality is not in the batch, or several are unpaired.
        """
        images = self.images_to_train(batch)
        labels = self.labels_of(batch, self.modalities[0])
        teacher = self.teacher_logits(batch)
        student = self.model(images)
        classification = cross_entropy(student, labels)
        distillation = self.distillation_loss(student, teacher, labels)
        weights = self.loss_weights()
        loss = weights[0] * classification + weights[1] * distillation
        log = {
            'train_classification_loss': classification,
            'train_distillation_loss': distillation,
            'train_loss': loss,
        }
        if self.curriculum is not None:
            log['train_temperature'] = self.curriculum(self.current_epoch)
        self.log_dict(log, on_step=False, on_epoch=True, batch_size=len(labels))
        return loss

    def teacher_logits(self, batch: Sample) -> Tensor:
        """Let the teacher classify a training batch.

        Args:
            batch: 'image_<modality>' for every modality of the teacher.

        Returns:
            Logits (B, classes), without gradient.

        Raises:
            ModalityError: If a modality is not in the batch, or student and teacher
                would not see the same samples.
        """
        needed = self.teacher.modalities
        lacking = [m for m in needed if f'image_{m}' not in batch]
        if lacking:
            raise ModalityError(
                f'the batch has {sorted(batch)}, but the teacher needs '
                f'{[f"image_{m}" for m in lacking]}: give all of {list(needed)} to '
                'training.'
            )
        if needed != self.modalities and 'label' not in batch:
            raise ModalityError(
                f'a student of {list(self.modalities)} and a teacher of {list(needed)} '
                'need the same samples in all modalities: set --data.paired true.'
            )
        with torch.no_grad():
            return self.teacher({m: batch[f'image_{m}'] for m in needed})

    def loss_weights(self) -> tuple[float, float]:
        """Return the weights of cross-entropy and distillation loss in this epoch."""
        settings = self.settings
        match self.hparams['method']:
            case 'kd':
                return settings['alpha'], 1 - settings['alpha']
            case 'dkd':
                epoch = self.current_epoch + settings['first_epoch']
                warmup = min(epoch / settings['warmup_epochs'], 1.0)
            case _:
                warmup = 1.0
        return (
            settings['cross_entropy_weight'],
            settings['distillation_weight'] * warmup,
        )

    def distillation_loss(
        self, student: Tensor, teacher: Tensor, labels: Tensor
    ) -> Tensor:
        """Compute the distillation loss, without its weight.

        Args:
            student: Logits, shape (B, C).
            teacher: Logits, shape (B, C).
            labels: int64 (B,).

        Returns:
            Scalar.
        """
        settings = self.settings
        if self.hparams['standardize']:
            student, teacher = standardize_logits(student), standardize_logits(teacher)
        if self.curriculum is not None:
            return kd_loss(student, teacher, self.curriculum(self.current_epoch))
        match self.hparams['method']:
            case 'kd':
                return kd_loss(student, teacher, settings['temperature'])
            case 'dkd':
                return dkd_loss(
                    student,
                    teacher,
                    labels,
                    settings['target_weight'],
                    settings['other_weight'],
                    settings['temperature'],
                )
            case _:
                return mlkd_loss(
                    student,
                    teacher,
                    settings['temperatures'],
                    class_weight=settings['class_weight'],
                    batch_weight=settings['batch_weight'],
                    variant='authors' if settings['swapped_kl'] else 'clean',
                )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note what resuming needs; a frozen teacher needs nothing.

        Args:
            checkpoint: The checkpoint.
        """
        super().on_save_checkpoint(checkpoint)
        if self.hparams['teacher_in_training_mode']:
            checkpoint['teacher_buffers'] = dict(self.teacher.named_buffers())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check the checkpoint and restore a teacher that has drifted.

        Args:
            checkpoint: The checkpoint.

        Raises:
            LabelError: If it is of other classes.
            ModalityError: If it is of other modalities.
        """
        super().on_load_checkpoint(checkpoint)
        if self._teacher and 'teacher_buffers' in checkpoint:
            self.teacher.load_state_dict(checkpoint['teacher_buffers'], strict=False)


def _check_teacher(path: str, dataset: MultiModalDataset) -> None:
    """Check classes, bands and units of the teacher, as when a file is evaluated."""
    PretrainedClassification({'teacher': path}).check_data(dataset, training=False)

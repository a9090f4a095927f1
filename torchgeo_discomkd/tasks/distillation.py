# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Task for the competitors of DisCoM-KD: a student that learns from a teacher."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer
from torchgeo.datasets.utils import Sample

from ..datamodules.sampling import seeded_generator
from ..errors import LabelError, ModalityError
from ..losses import official_mlkd_loss, standardize_logits
from ..models import Normalization
from ..transforms import RandomStrongView
from .distillation_base import TaughtClassification
from .distillation_loss import (
    Curriculum,
    create_curriculum,
    curriculum_temperature,
    single_view_loss,
)
from .distillation_settings import distillation_settings, needs_two_views


class Distillation(TaughtClassification):
    """A plain classifier of one modality, the student, that imitates a teacher.

    The teacher is a classifier file, of one modality or several, with an encoder and a
    normalisation of its own. It is frozen: in evaluation mode, without gradients,
    neither in the optimizer nor among the weights of the checkpoint. What is kept of a
    run is the student, which needs no teacher any more.

    Unless the teacher takes the student's modality alone, both must see the same
    samples under the same flips and turns: set ``--data.paired true``.

    'mlkd' with the preset 'official' compares two views of each image. The weak one is
    what the data module delivers; :meth:`strong_view` makes the strong one of it.

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
        temperature_start: float | None = None,
        temperature_end: float | None = None,
        instance_temperature: bool | None = None,
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
            temperature: Of 'kd' and 'dkd', and the first of the five of 'mlkd' with the
                preset 'official'.
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
            temperature_start: Of 'ctkd': lowest temperature.
            temperature_end: Of 'ctkd': width of the range above it, as in its code: T is
                *temperature_start* + *temperature_end* sigmoid(r).
            instance_temperature: Of 'ctkd': whether a small network gives each sample
                its own temperature.
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
            'temperature_start': temperature_start,
            'temperature_end': temperature_end,
            'instance_temperature': instance_temperature,
            'swapped_kl': swapped_kl,
        }
        #: Value of every setting that the method has.
        self.settings: dict[str, Any] = distillation_settings(
            method, preset, standardize, given
        )
        #: Whether the loss compares a weak and a strong view of each image.
        self.two_views = needs_two_views(method, preset)
        self._strong: tuple[int, RandomStrongView] | None = None
        super().__init__(
            in_channels, num_classes, model, weights, normalization, labels, lr
        )

    def configure_models(self) -> None:
        """Initialize the student and, for 'ctkd', the temperature."""
        super().configure_models()
        self.curriculum: Curriculum | None = None
        if self.hparams['method'] == 'ctkd':
            num_classes = self.hparams['num_classes']
            self.curriculum = create_curriculum(self.settings, num_classes)

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
        return self.adam(groups)

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
            LabelError: If a label is out of range (checked on the CPU only).
            ModalityError: If a modality is not in the batch, or several are unpaired.
        """
        images = self.images_to_train(batch)
        labels = self.labels_of(batch, self.modalities[0])
        self._check_labels(labels)
        teacher = self.teacher_logits(batch)
        student = self.model(images)
        classification = cross_entropy(student, labels)
        if self.two_views:
            strong = self._strong_batch(batch)
            strong_student = self.model(self.images_to_train(strong))
            classification = classification + cross_entropy(strong_student, labels)
            distillation = self.two_view_loss(
                student, teacher, strong_student, self.teacher_logits(strong)
            )
        else:
            distillation = self.distillation_loss(student, teacher, labels)
        weights = self.loss_weights()
        loss = weights[0] * classification + weights[1] * distillation
        log = {
            'train_classification_loss': classification,
            'train_distillation_loss': distillation,
            'train_loss': loss,
        }
        temperature = self._temperature(student, teacher)
        if temperature is not None:
            log['train_temperature'] = temperature.mean()
        self.log_dict(log, on_step=False, on_epoch=True, batch_size=len(labels))
        return loss

    def strong_view(self, images: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a second, harder view of a training batch.

        It is drawn by seed and epoch, like the augmentation of the data module, so that
        a resumed run draws the same. Override it for a transform of your own.

        Args:
            images: Raw values (B, C, H, W) of each modality of student and teacher, as
                the weak view has them.

        Returns:
            New images of the same modalities and shapes. Here those of
            :class:`~torchgeo_discomkd.transforms.RandomStrongView`, by the mean and the
            deviation that the normalisations know: 0 and 1 if they do nothing.
        """
        epoch = self.current_epoch
        if self._strong is None or self._strong[0] != epoch:
            seed = self.seed or 0
            generator = seeded_generator(seed, epoch, 'strong', self.global_rank)
            self._strong = epoch, RandomStrongView(generator=generator)
        known = self._teacher_file.normalizations() | dict(self.normalizations())
        return self._strong[1](
            images,
            center={m: known[m].fill for m in images},
            scale={m: _deviation(known[m]) for m in images},
        )

    def _strong_batch(self, batch: Sample) -> Sample:
        needed = dict.fromkeys([*self.modalities, *self.teacher.modalities])
        views = self.strong_view({m: batch[f'image_{m}'] for m in needed})
        if lacking := [m for m in needed if m not in views]:
            raise ModalityError(
                f'strong_view returned {list(views)} without {lacking}: return a view '
                'of every modality that it is given.'
            )
        return batch | {f'image_{m}': views[m] for m in needed}

    def _check_labels(self, labels: Tensor) -> None:
        # reading values on another device would stall it
        number = self.hparams['num_classes']
        if labels.device.type != 'cpu':
            return
        wrong = labels[(labels < 0) | (labels >= number)]
        if len(wrong):
            raise LabelError(
                f'a training batch has the label {wrong[0].item()}, but '
                f'num_classes={number}: give labels from 0 to {number - 1}.'
            )

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
        return single_view_loss(
            self.hparams['method'],
            self.settings,
            *self._comparable(student, teacher),
            labels,
            self._temperature(student, teacher),
        )

    def two_view_loss(
        self,
        student_weak: Tensor,
        teacher_weak: Tensor,
        student_strong: Tensor,
        teacher_strong: Tensor,
    ) -> Tensor:
        """Compute the distillation loss of two views, without its weight.

        Args:
            student_weak: Logits, shape (B, C).
            teacher_weak: Logits, shape (B, C).
            student_strong: Logits, shape (B, C).
            teacher_strong: Logits, shape (B, C).

        Returns:
            Scalar.
        """
        return official_mlkd_loss(
            student_weak,
            teacher_weak,
            student_strong,
            teacher_strong,
            self.settings['temperature'],
            class_weight=self.settings['class_weight'],
            batch_weight=self.settings['batch_weight'],
            standardize=self.hparams['standardize'],
        )

    def _comparable(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        if self.hparams['standardize']:
            return standardize_logits(student), standardize_logits(teacher)
        return student, teacher

    def _temperature(self, student: Tensor, teacher: Tensor) -> Tensor | None:
        if self.curriculum is None:
            return None
        logits = self._comparable(student, teacher)
        return curriculum_temperature(self.curriculum, *logits, self.current_epoch)


def _deviation(normalization: Normalization) -> Tensor:
    """Return about one standard deviation of each band."""
    # from the 2nd to the 98th percentile it is four of them
    by_percentiles = normalization.low.isfinite()
    return normalization.scale / torch.where(by_percentiles, 4, 1)

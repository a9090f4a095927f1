# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Task for the competitors of DisCoM-KD: a student that learns from a teacher."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer
from torchgeo.datasets.utils import Sample

from ..datamodules.sampling import seeded_generator
from ..datasets import MultiModalDataset
from ..errors import CheckpointError, ModalityError, SettingError
from ..losses import KD, DistillationLoss
from ..metadata import LabelTask
from ..models import LoadedClassifier, Normalization
from ..models.weights import Weights
from ..processes import raising_everywhere
from ..transforms import RandomStrongView
from .fusion import FusionClassification
from .labels import chance_entropy, check_classes, plain_numbers
from .resumed_settings import check_same_settings
from .teacher import Teacher


class Distillation(FusionClassification):
    """A plain classifier of one modality, the student, that imitates a teacher.

    The teacher is a classifier file, of one modality or several, with an encoder and a
    normalisation of its own. It is frozen: in evaluation mode, without gradients,
    neither in the optimizer nor among the weights of the checkpoint. What is kept of a
    run is the student, which no longer needs the teacher.

    Unless the teacher takes the student's modality alone, both must see the same
    samples under the same flips and turns: the data modules of this package then pair
    them, unless ``paired`` is set to false, which is an error.

    The method is the loss: :class:`~torchgeo_discomkd.losses.KD`,
    :class:`~torchgeo_discomkd.losses.DKD`, :class:`~torchgeo_discomkd.losses.CTKD`,
    :class:`~torchgeo_discomkd.losses.MLKD`,
    :class:`~torchgeo_discomkd.losses.OfficialMLKD` or a
    :class:`~torchgeo_discomkd.losses.DistillationLoss` of your own. A loss of two views
    compares what the data module delivers, the weak view, with the strong view that
    :meth:`strong_view` makes of it.

    Attributes:
        ignore: Parameters to ignore when saving hyperparameters.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> from torchgeo_discomkd.losses import DKD
        >>> from torchgeo_discomkd.tasks import Distillation, FusionClassification
        >>> teacher = FusionClassification({'ms': 13}, 3, model='test_resnet')
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / 'ms.safetensors'
        ...     teacher.save_classifier('ms', path, scores={}, epoch=0)
        ...     task = Distillation(
        ...         str(path), DKD(), {'sar': 2}, num_classes=3, model='test_resnet'
        ...     )
        ...     print(task.teacher.modalities, task.modalities)
        ('ms',) ('sar',)
        >>> batch = {'image_ms': torch.rand(4, 13, 32, 32), 'label': torch.zeros(4)}
        >>> task.teacher_logits(batch).shape
        torch.Size([4, 3])
    """

    ignore: Sequence[str] | str | None = ('weights', 'loss')

    objective_parts = (
        *('objective', 'modalities', 'teacher', 'teacher_logits'),
        *('_both_logits', '_teacher_file'),
    )

    # an nn.Module here would be in parameters(), state_dict() and train()
    _teacher: Teacher | None = None

    _strong: tuple[int, RandomStrongView] | None = None

    def __init__(
        self,
        teacher: str,
        loss: DistillationLoss | None = None,
        in_channels: dict[str, int] | None = None,
        num_classes: int = 10,
        model: str = 'resnet18',
        weights: dict[str, Weights] | Weights = None,
        teacher_in_training_mode: bool = False,
        normalization: Literal['standardize', 'percentile', 'none'] = 'standardize',
        labels: Sequence[str] | None = None,
        lr: float = 1e-4,
        class_weights: Tensor | Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        freeze_backbone: bool | dict[str, bool] = False,
        task: LabelTask = 'multiclass',
        layer_decay: float | None = None,
    ) -> None:
        """Initialize a new Distillation instance.

        Args:
            teacher: Classifier file, e.g. runs/teacher/best/ms.safetensors.
            loss: Method and its settings; in a checkpoint, class path and arguments.
                Default: :class:`~torchgeo_discomkd.losses.KD`.
            in_channels: Number of bands of the student's one modality. Default: sar: 2.
            num_classes: Number of classes.
            model: Name of the student's `timm
                <https://huggingface.co/docs/timm/reference/models>`__ encoder.
            weights: Initial weights of the student's encoder, as for
                :class:`FusionClassification`.
            teacher_in_training_mode: Whether the teacher's batch normalisation uses
                the statistics of each batch and its running statistics drift, as in the
                authors' code. Only for measuring that effect.
            normalization: As for :class:`FusionClassification`.
            labels: Class names, for data modules that do not provide them.
            lr: Learning rate of Adam.
            class_weights: Weight of each class, in the order of the labels, in the
                cross-entropy, but not in the distillation loss; as for
                :class:`FusionClassification`.
            label_smoothing: Share of the target that all classes have equally, 0 to 1,
                in the same terms.
            freeze_backbone: Whether the student's encoder keeps its initial weights and
                statistics; the teacher's always do.
            task: Kind of labels of teacher and student, as for
                :class:`FusionClassification`. With 'multilabel' the loss is
                :class:`~torchgeo_discomkd.losses.KD`, which then compares Bernoulli
                distributions; other methods compare softmax probabilities.
            layer_decay: As for :class:`FusionClassification`.

        Raises:
            ModalityError: If *in_channels* has not exactly one modality, or *weights*
                or *freeze_backbone* name another one.
            LabelError: If *task* is 'binary' and *num_classes* is not 2.
            SettingError: If the class of *loss* is unknown, or it has no form for
                *task*, or *class_weights* or
                *label_smoothing* are out of range or too many.
            WeightsError: If *model* or *weights* are unknown, do not fit together or
                cannot be reached.
        """
        if in_channels is not None and len(in_channels) != 1:
            raise ModalityError(
                f'in_channels={in_channels}: a student has one modality. Name it '
                'alone, e.g. --model.in_channels {sar: 2}.'
            )
        if isinstance(loss, Mapping):
            loss = DistillationLoss.from_config(loss)
        # a checkpoint holds plain numbers
        class_weights = plain_numbers(class_weights)
        super().__init__(
            *(in_channels, num_classes, model, weights, normalization, labels, lr),
            class_weights=class_weights,
            label_smoothing=label_smoothing,
            freeze_backbone=freeze_backbone,
            task=task,
            layer_decay=layer_decay,
        )
        self.loss: DistillationLoss = KD() if loss is None else loss
        self.loss.adopt(task, num_classes)
        self.loss.prepare(num_classes)
        # a checkpoint can be read without unpickling
        self.save_hyperparameters({'loss': self.loss.config()})

    @property
    def teacher(self) -> LoadedClassifier:
        """The teacher, read from its file when training begins."""
        return self._teacher_file.classifier

    @property
    def _teacher_file(self) -> Teacher:
        return self._teacher or self.load_teacher()

    def load_teacher(self) -> Teacher:
        """Read the teacher; evaluating a student does not need it.

        Returns:
            The teacher, on the device of the student.

        Raises:
            ClassifierFileError: If there is no such file, it is not a classifier file
                or it has other classes.
        """
        teacher = Teacher(
            self.hparams['teacher'],
            self.hparams['num_classes'],
            self.hparams['labels'],
            self.hparams['teacher_in_training_mode'],
            self.task,
        )
        teacher.classifier.to(self.device)
        self._teacher = teacher
        return teacher

    def prepare_data(self) -> None:
        """Refuse a teacher that cannot be read before a run folder is created.

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
            BandError: If student or teacher take other bands of a modality.
            ClassifierFileError: If the teacher cannot be read or has other classes.
            LabelError: If the number of classes disagrees with the data.
            ModalityError: If a modality of student or teacher is not in the data.
            SettingError: If the teacher would drift differently in several processes.
            UnitError: If the teacher takes another unit than that of the data.
        """
        if stage == 'fit':
            self._check_drift()
            # in every process, and again: an earlier training may have moved it
            self.load_teacher()
            # an earlier training may have been stopped in this epoch
            self._strong = None
        super().setup(stage)

    def _check_drift(self) -> None:
        processes = self.trainer.world_size
        if self.hparams['teacher_in_training_mode'] and processes > 1:
            with raising_everywhere(self.trainer):
                raise SettingError(
                    f'teacher_in_training_mode with {processes} processes: each would '
                    'have another teacher. Set --trainer.devices 1.'
                )

    def on_fit_start(self) -> None:
        """Check the schedule, and move the teacher to the device of the student.

        Raises:
            SettingError: If a schedule monitors a metric that will not be logged.
        """
        super().on_fit_start()
        self.teacher.to(self.device)

    def check_data(self, dataset: MultiModalDataset, training: bool) -> None:
        """Check that the data fits the student and, for training, the teacher.

        Args:
            dataset: The data.
            training: Whether the teacher is needed.

        Raises:
            BandError: If a modality has the wrong bands.
            ClassifierFileError: If the teacher has other classes.
            LabelError: If the number of classes disagrees.
            ModalityError: If modalities are missing.
            UnitError: If the teacher takes another unit than that of the data.
        """
        super().check_data(dataset, training)
        if training:
            self._teacher_file.check_data(dataset)

    def configure_optimizers(self) -> Optimizer:
        """Initialize the optimizer.

        Returns:
            Adam over what is not frozen of the student and, if the loss has parameters,
            over these with their own learning rate. On the command line, --optimizer
            and --lr_scheduler replace it, with one learning rate for both, which must
            then be that of the loss.
        """
        groups = self.groups_of(self.model.parameters())
        if own := list(self.loss.parameters()):
            rate = {} if self.loss.lr is None else {'lr': self.loss.lr}
            groups.append({'params': own, **rate})
        return self.adam(groups)

    def given_rates(self) -> dict[str, float]:
        """Return the learning rates of student and loss that an optimizer should have.

        Returns:
            *lr*, unless it is the default, and that of a loss with parameters.
        """
        rates = super().given_rates()
        if self.loss.lr is not None and [*self.loss.parameters()]:
            names = [n for n in self.loss.config()['init_args'] if n.endswith('lr')]
            rates[f'loss.{[*names, "lr"][0]}'] = self.loss.lr
        return rates

    @property
    def pairing(self) -> str | None:
        """Why training needs the same samples in all modalities, if it does."""
        teacher, student = self.teacher.modalities, self.modalities
        if teacher == student:
            return None
        return (
            f'a student of {list(student)} and a teacher of {list(teacher)} need the '
            'same samples in all modalities'
        )

    def training_inputs(self, batch: Sample) -> dict[str, Tensor]:
        """Select the images of student and teacher, and draw a second view.

        Args:
            batch: 'image_<modality>' of student and teacher, paired if they differ.

        Returns:
            'image_<modality>', 'label' and, for a loss of two views,
            'strong_image_<modality>'.

        Raises:
            BatchSizeError: If the batch has one sample only.
            LabelError: If the labels are not one class for each sample, or one is out
                of range (checked on the CPU only).
            ModalityError: If a modality is not in the batch, or several are unpaired.
        """
        self.images_to_train(batch)
        labels = self.labels_of(batch, self.modalities[0])
        if self.task != 'multilabel':
            check_classes(labels, self.hparams['num_classes'])
        self._teacher_file.check_batch(batch, self.modalities)
        needed = dict.fromkeys([*self.modalities, *self.teacher.modalities])
        images = {m: batch[f'image_{m}'] for m in needed}
        inputs = {f'image_{m}': x for m, x in images.items()} | {'label': labels}
        if self.loss.two_views:
            views = self.strong_view(images)
            if lacking := [m for m in needed if m not in views]:
                raise ModalityError(
                    f'strong_view returned {list(views)} without {lacking}: return a '
                    'view of every modality that it is given.'
                )
            inputs |= {f'strong_image_{m}': views[m] for m in needed}
        return inputs

    @property
    def objective_state(self) -> Hashable:
        """What a callback or the epoch changes; None if the teacher drifts."""
        if self.hparams['teacher_in_training_mode']:
            return None
        settings = repr(self.loss.config()), self.criterion.label_smoothing
        return id(self._teacher), settings, self.loss.schedule(self.current_epoch)

    def objective(
        self, inputs: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss.

        Args:
            inputs: What :meth:`training_inputs` returned.

        Returns:
            The weighted sum of cross-entropy and distillation loss; and
            'classification_loss', 'distillation_loss', 'loss' and what the loss
            monitors.
        """
        labels = inputs['label']
        student, teacher = self._both_logits(inputs, '')
        classification = self.criterion(student, labels)
        second = {}
        if self.loss.two_views:
            second = {'strong': self._both_logits(inputs, 'strong_')}
            strong = self.criterion(second['strong'][0], labels)
            classification = classification + strong
        distillation = self.loss(student, teacher, labels, self.current_epoch, **second)
        weights = self.loss.weights(self.current_epoch)
        loss = weights[0] * classification + weights[1] * distillation
        log = {
            'classification_loss': classification,
            'distillation_loss': distillation,
            'loss': loss,
            **self.loss.monitored,
        }
        return loss, log

    def chance_levels(self) -> dict[str, float]:
        """Return the cross-entropy of equal probabilities, of all views together."""
        if self.unknown_chance:
            return {}
        views = 2 if self.loss.two_views else 1
        chance = chance_entropy(self.task, self.hparams['num_classes'])
        return {'classification_loss': views * chance}

    def term_names(self) -> list[str]:
        """Return the names of the scalars that :meth:`objective` returns."""
        return [
            'loss',
            'classification_loss',
            'distillation_loss',
            *self.loss.MONITORED,
        ]

    def _both_logits(
        self, inputs: Mapping[str, Tensor], prefix: str
    ) -> tuple[Tensor, Tensor]:
        """Return the logits of student and teacher for one view."""
        needed = dict.fromkeys([*self.modalities, *self.teacher.modalities])
        view = {f'image_{m}': inputs[f'{prefix}image_{m}'] for m in needed}
        student = self.model({m: view[f'image_{m}'] for m in self.modalities})
        return student, self.teacher_logits(view | {'label': inputs['label']})

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
        self._teacher_file.check_batch(batch, self.modalities)
        return self._teacher_file.logits(batch)

    def strong_view(self, images: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a second, harder view of a training batch.

        It is drawn by seed and epoch, like the augmentation of the data module, so that
        a resumed run draws the same. Override it for a transform of your own.

        Args:
            images: Raw values (B, C, H, W) of each modality of student and teacher, as
                in the weak view.

        Returns:
            New images of the same modalities and shapes. Here those of
            :class:`~torchgeo_discomkd.transforms.RandomStrongView`, with the mean and
            deviation stored in the normalisations: 0 and 1 if they do nothing.
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

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record which teacher it is and, if it drifts, its buffers.

        Args:
            checkpoint: The checkpoint.
        """
        super().on_save_checkpoint(checkpoint)
        if self._teacher is not None:
            checkpoint['teacher'] = self._teacher.note()
        if self.hparams['teacher_in_training_mode']:
            checkpoint['teacher_buffers'] = dict(self.teacher.named_buffers())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check the checkpoint and restore a teacher that has drifted.

        Args:
            checkpoint: The checkpoint.

        Raises:
            CheckpointError: If it is from another network, or from a version before
                losses were classes, or training is resumed with another learning rate
                of the loss.
            ClassifierFileError: If training is resumed with another teacher.
            LabelError: If it has other classes.
            ModalityError: If it has other modalities.
        """
        old = checkpoint.get('hyper_parameters', {})
        if 'method' in old:
            raise CheckpointError(
                f'the checkpoint of method={old["method"]!r} is from a version that '
                "named the method instead of its loss. Use the run's "
                'best/*.safetensors, which this version reads, or train from scratch.'
            )
        super().on_load_checkpoint(checkpoint)
        # evaluating a checkpoint does not need the teacher
        if self._teacher is None or not self.trainer.training:
            return
        self._check_loss(old.get('loss') or {})
        if 'teacher' in checkpoint:
            self._teacher.check_same(checkpoint['teacher'])
        if 'teacher_buffers' in checkpoint:
            self.teacher.load_state_dict(checkpoint['teacher_buffers'], strict=False)

    def _check_loss(self, began: Mapping[str, Any]) -> None:
        own = self.loss.config()
        if began.get('class_path') == own['class_path']:
            # the other settings of a loss are those of the task
            name, before = 'lr of the loss', DistillationLoss.from_config(began).lr
            check_same_settings({name: before}, {name: self.loss.lr}, [name])


def _deviation(normalization: Normalization) -> Tensor:
    """Return about one standard deviation of each band."""
    # from the 2nd to the 98th percentile it is four of them
    by_percentiles = normalization.clips
    return normalization.scale / torch.where(by_percentiles, 4, 1)

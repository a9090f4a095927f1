# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""The teacher of a distillation, read from a classifier file and frozen."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torchgeo.datasets.utils import Sample

from ..datasets import MultiModalDataset
from ..datasets.classes import same_classes
from ..errors import ClassifierFileError, ModalityError
from ..metadata import LabelTask
from ..models import FusionClassifier, LoadedClassifier, Normalization, load_classifier
from .pretrained import PretrainedClassification


class Teacher:
    """A classifier that a student imitates.

    It is not an ``nn.Module``: the task that holds it has it neither among its
    parameters nor in its state dict, and putting the task in training mode does not
    affect it.

    Attributes:
        sha256: SHA-256 of its weights, since its file may move and its scores may be
            rewritten.
    """

    def __init__(
        self,
        path: str,
        num_classes: int,
        labels: Sequence[str] | None,
        training_mode: bool,
        task: LabelTask = 'multiclass',
    ) -> None:
        """Initialize a new Teacher instance.

        Args:
            path: Classifier file.
            num_classes: Number of classes of the student.
            labels: Class names of the student, if known.
            training_mode: Whether its batch normalisation is in training mode.
            task: Kind of labels of the student.

        Raises:
            ClassifierFileError: If there is no such file, it is not a classifier file
                or it has other classes or another kind of labels.
        """
        self.path = path
        self.classifier: LoadedClassifier = load_classifier(path)
        if (own := self.classifier.metadata.task) != task:
            raise ClassifierFileError(
                f'the teacher {path} is of task={own!r}, but the student of '
                f'task={task!r}: set --model.task {own}, or give another teacher.'
            )
        classes = self.classifier.metadata.classes
        if len(classes) != num_classes or (labels and classes != tuple(labels)):
            raise ClassifierFileError(
                f'the teacher {path} has the {len(classes)} classes {list(classes)}, '
                f'but the student has num_classes={num_classes} and labels={labels}: '
                'give a teacher of the same classes in the same order.'
            )
        self.sha256 = _hash(self.classifier.state_dict())
        self.classifier.train(training_mode)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities that it needs."""
        return self.classifier.modalities

    def logits(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Classify a training batch.

        Args:
            batch: 'image_<modality>' for each of its modalities.

        Returns:
            Logits (B, classes), without gradient.
        """
        with torch.no_grad():
            return self.classifier({m: batch[f'image_{m}'] for m in self.modalities})

    def check_batch(self, batch: Sample, student: Sequence[str]) -> None:
        """Check that teacher and student can learn from a training batch.

        Args:
            batch: The batch.
            student: Modalities of the student.

        Raises:
            ModalityError: If a modality is not in the batch, or student and teacher
                would not see the same samples.
        """
        lacking = [m for m in self.modalities if f'image_{m}' not in batch]
        if lacking:
            raise ModalityError(
                f'the batch has {sorted(batch)}, but the teacher needs '
                f'{[f"image_{m}" for m in lacking]}: train with all of '
                f'{list(self.modalities)}.'
            )
        if self.modalities != tuple(student) and 'label' not in batch:
            raise ModalityError(
                f'a student of {list(student)} and a teacher of '
                f'{list(self.modalities)} need the same samples in all modalities: set '
                '--data.paired true.'
            )

    def normalizations(self) -> dict[str, Normalization]:
        """Return the normalisation of each of its modalities."""
        classifier = self.classifier.classifier
        if isinstance(classifier, FusionClassifier):
            return {
                m: cast(Normalization, n) for m, n in classifier.normalizations.items()
            }
        return {self.modalities[0]: classifier.normalization}

    def check_data(self, dataset: MultiModalDataset) -> None:
        """Check that the data fits the teacher.

        Args:
            dataset: The training data.

        Raises:
            BandError: If a modality has the wrong bands.
            ClassifierFileError: If the data has other classes.
            ModalityError: If the data lacks a modality.
            UnitError: If the teacher takes another unit than that of the data.
        """
        lacking = [m for m in self.modalities if m not in dataset.modalities]
        if lacking:
            raise ModalityError(
                f'the teacher {self.path} needs {lacking}, but the data has '
                f'{list(dataset.modalities)}: set --data.modalities, or give another '
                '--model.teacher.'
            )
        classes = self.classifier.metadata.classes
        if not same_classes(classes, dataset.classes):
            raise ClassifierFileError(
                f'the teacher {self.path} has the classes {list(classes)}, but the '
                f'data has {list(dataset.classes)}: give a teacher of the same classes '
                'in the same order.'
            )
        # bands and units, as when a file is evaluated
        evaluation = PretrainedClassification({'teacher': self.path})
        evaluation.check_data(dataset, training=False)

    def note(self) -> dict[str, str]:
        """Return what a checkpoint records about the teacher."""
        return {'path': self.path, 'sha256': self.sha256}

    def check_same(self, noted: Mapping[str, Any]) -> None:
        """Check that a run resumes with the teacher that it began with.

        Args:
            noted: What :meth:`note` returned at that time.

        Raises:
            ClassifierFileError: If it is a different one.
        """
        if noted['sha256'] != self.sha256:
            raise ClassifierFileError(
                f'the run began with the teacher {noted["path"]} (weights '
                f'{noted["sha256"][:12]}), but {self.path} is a different one '
                f'({self.sha256[:12]}): give the first one, wherever it is now, as '
                '--model.teacher, or train from scratch.'
            )


def _hash(state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f'{name} {tensor.dtype} {tuple(tensor.shape)}'.encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()

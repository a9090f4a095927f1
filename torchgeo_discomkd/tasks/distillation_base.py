# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Base class of tasks with a student and its teacher."""

from typing import Any

from torch import Tensor
from torchgeo.datasets.utils import Sample

from ..datasets import MultiModalDataset
from ..models import LoadedClassifier
from .distillation_teacher import Teacher
from .fusion import FusionClassification


class TaughtClassification(FusionClassification):
    """A plain classifier of one modality that has a teacher while it is trained.

    The teacher is frozen: in evaluation mode, without gradients, neither in the
    optimizer nor among the weights of the checkpoint. Its hyperparameters are *teacher*,
    its file, and *teacher_in_training_mode*.
    """

    # an nn.Module here would be in parameters(), state_dict() and train()
    _teacher: Teacher | None = None

    @property
    def teacher(self) -> LoadedClassifier:
        """The teacher, read from its file when training begins."""
        return self._teacher_file.classifier

    @property
    def _teacher_file(self) -> Teacher:
        return self._teacher or self.load_teacher()

    def load_teacher(self) -> Teacher:
        """Read the teacher; evaluating a student does without.

        Returns:
            The teacher, on the device of the student.

        Raises:
            ClassifierFileError: If there is no such file, or it is no classifier file
                or one of other classes.
        """
        teacher = Teacher(
            self.hparams['teacher'],
            self.hparams['num_classes'],
            self.hparams['labels'],
            self.hparams['teacher_in_training_mode'],
        )
        teacher.classifier.to(self.device)
        self._teacher = teacher
        return teacher

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
        if training:
            self._teacher_file.check_data(dataset)

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
        return self._teacher_file.logits(batch, self.modalities)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note which teacher it is and, if it drifts, its buffers.

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
            CheckpointError: If it is of another network.
            ClassifierFileError: If training is resumed with another teacher.
            LabelError: If it is of other classes.
            ModalityError: If it is of other modalities.
        """
        super().on_load_checkpoint(checkpoint)
        # evaluating a checkpoint does without the teacher
        if self._teacher is None or not self.trainer.training:
            return
        if 'teacher' in checkpoint:
            self._teacher.check_same(checkpoint['teacher'])
        if 'teacher_buffers' in checkpoint:
            self.teacher.load_state_dict(checkpoint['teacher_buffers'], strict=False)

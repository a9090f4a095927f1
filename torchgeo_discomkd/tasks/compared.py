# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""A task that trains plain classifiers on the same batches, to compare with."""

from collections.abc import Iterator, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from ..models.modalities import COMPARISONS
from .students import Classifier, classify
from .transfer import GuidedTask


class ComparedTask(GuidedTask):
    """Students of each modality beside the classifiers that the task is about.

    Attributes:
        students: Classifiers of one encoder by modality; empty if there are none.
        same_size: Classifiers of the size that is deployed by modality; likewise.
    """

    students: nn.ModuleDict
    same_size: nn.ModuleDict

    def _comparisons(self, modality: str) -> dict[str, Classifier]:
        """Return the classifiers that a modality is compared with by name."""
        found = zip(COMPARISONS, (self.students, self.same_size), strict=True)
        return {
            f'{modality}{suffix}': cast(Classifier, classifiers[modality])
            for suffix, classifiers in found
            if modality in classifiers
        }

    def _compared(self) -> dict[str, tuple[str, Classifier]]:
        """Return modality and classifier of all students by name."""
        return {
            name: (modality, student)
            for modality in self.in_channels
            for name, student in self._comparisons(modality).items()
        }

    def _student_losses(
        self, images: Mapping[str, Tensor], labels: Mapping[str, Tensor]
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield name and cross-entropy of every student, so that each step has all.

        A student whose modality has no images takes no step: its loss is 0.
        """
        for name, (modality, student) in self._compared().items():
            if modality in images:
                logits = classify(student, {modality: images[modality]})
                yield name, self.criterion(logits, labels[modality])
            else:
                yield name, torch.zeros((), device=labels[modality].device)

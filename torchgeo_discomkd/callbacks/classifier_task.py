# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""What callbacks need of a task; tasks import callbacks, never the reverse."""

from pathlib import Path
from typing import Protocol

from .scored_weights import ScoredWeights


class ClassifierTask(Protocol):
    """A task that trains classifiers, or applies them.

    Attributes:
        classes: Class names, in the order of their labels.
        fingerprint: Hash of the data.
        split_hash: Hash of the training split.
        seed: Seed of the training; None if unknown.
    """

    classes: tuple[str, ...]
    fingerprint: str
    split_hash: str
    seed: int | None

    @property
    def scored(self) -> ScoredWeights:
        """The weights of the task in the last validation."""

    def classifier_names(self) -> list[str]:
        """Return the names of the classifiers: a modality, or 'fusion'."""

    def comparison_names(self) -> list[str]:
        """Return the names of further classifiers that are scored for comparison."""

    def thresholds(self, name: str) -> tuple[float, ...] | None:
        """Return the probabilities above which a sample has each label.

        Args:
            name: Name of a classifier.

        Returns:
            One for each label; None if a sample has one class.
        """

    def save_classifier(
        self, name: str, path: Path, scores: dict[str, float], epoch: int
    ) -> None:
        """Write one classifier, as it is now, to a file of its own.

        Args:
            name: Name of the classifier.
            path: The file.
            scores: Scores to record in the file.
            epoch: Epoch to record in the file, counted from 0.
        """

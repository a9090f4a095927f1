# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""What the callbacks need to know of a task; tasks import callbacks, never the reverse."""

from pathlib import Path
from typing import Protocol, cast

from lightning.pytorch import LightningModule


class ClassifierTask(Protocol):
    """A task that trains classifiers, or applies them."""

    #: Class names, in the order of their labels.
    classes: tuple[str, ...]

    #: Hashes of the data and of the training split, and the seed.
    fingerprint: str
    split_hash: str
    seed: int | None

    def classifier_names(self) -> list[str]:
        """Return the names of the classifiers: a modality, or 'fusion'."""
        ...

    def comparison_names(self) -> list[str]:
        """Return the names of further classifiers that are scored for comparison."""
        ...

    def save_classifier(
        self, name: str, path: Path, scores: dict[str, float], epoch: int
    ) -> None:
        """Write one classifier, as it is now, to a file of its own."""
        ...


def as_task(pl_module: LightningModule) -> ClassifierTask:
    """Return a module that a trainer runs as the task that it is.

    Args:
        pl_module: The module, as callbacks get it.
    """
    return cast(ClassifierTask, pl_module)

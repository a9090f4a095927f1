# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Samples that were read together."""

from collections.abc import Sequence

from torch.utils.data import default_collate
from torchgeo.datasets.utils import Sample


class GatheredSamples(Sequence[Sample]):
    """The samples of a batch that is complete already.

    Any collate function can take them one by one; :func:`collate_samples` takes the
    batch, which saves a copy.
    """

    def __init__(self, batch: Sample) -> None:
        """Initialize a new GatheredSamples instance.

        Args:
            batch: Tensors of shape (B, ...).
        """
        self.batch = batch

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.batch['index'])

    def __getitem__(self, index: int) -> Sample:  # ty: ignore[incompatible-method-override]
        """Return a sample: views of the batch.

        Args:
            index: Position in the batch.

        Raises:
            IndexError: If there is none.
        """
        if index >= len(self):
            raise IndexError(f'index {index} of a batch of {len(self)} samples.')
        return {key: values[index] for key, values in self.batch.items()}


def collate_samples(samples: Sequence[Sample]) -> Sample:
    """Make a batch of samples.

    Args:
        samples: What a data set returned.

    Returns:
        Tensors of shape (B, ...).
    """
    if isinstance(samples, GatheredSamples):
        return samples.batch
    return default_collate(list(samples))

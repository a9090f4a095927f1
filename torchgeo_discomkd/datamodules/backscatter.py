# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Values in batches that cannot be backscatter."""

import math

from torch import Tensor
from torchgeo.datasets.utils import Sample

from ..datasets import MultiModalDataset
from ..errors import UnitError
from ..rasters.plausibility import check_backscatter, limits


def drop_impossible(images: Tensor, unit: str) -> Tensor:
    """Return images in which values that cannot be backscatter are missing.

    Args:
        images: Float32 of any shape, on any device.
        unit: Their unit; nothing is dropped unless 'dB' or 'linear'.

    Returns:
        The images, with NaN for such values.

    Example:
        >>> import torch
        >>> drop_impossible(torch.tensor([-12.0, -9999.0]), 'dB')
        tensor([-12.,  nan])
    """
    low, high = limits(unit)
    if math.isinf(low):
        return images
    return images.masked_fill((images < low) | (images > high), math.nan)


class PossibleBackscatter:
    """Refuses batches with many impossible values, and drops those of the others.

    The training split was checked as a whole, with its statistics. Values that
    transforms have changed are left alone.
    """

    def __init__(self) -> None:
        """Initialize a new PossibleBackscatter instance."""
        self._checked: set[str] = set()

    def __call__(self, batch: Sample, dataset: MultiModalDataset, split: str) -> Sample:
        """Return a batch without impossible values.

        Args:
            batch: 'image_<modality>', float32 (B, C, H, W), and anything else.
            dataset: A data set with the units of the modalities.
            split: 'train', 'val', 'test' or 'predict', whose first batch is checked.

        Raises:
            UnitError: If more than 1 % of the pixels of a band of the first batch of a
                split, apart from that for training, are impossible.
        """
        if dataset.transforms is not None:
            return batch
        keys = {m: k for m in dataset.modalities if (k := f'image_{m}') in batch}
        if split not in {'train', *self._checked}:
            self._checked.add(split)
            for modality, key in keys.items():
                self._check(batch[key], dataset, modality)
        return batch | {
            key: drop_impossible(batch[key], dataset.units[m])
            for m, key in keys.items()
        }

    def _check(self, images: Tensor, dataset: MultiModalDataset, modality: str) -> None:
        values = images.float().cpu().numpy().swapaxes(0, 1)
        unit, bands = dataset.units[modality], dataset.bands[modality]
        try:
            check_backscatter(values, values, unit, bands, dataset.options(modality))
        except UnitError as error:
            raise UnitError(f'{modality!r}: {error}') from error

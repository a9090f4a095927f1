# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""A pack that resides on the device: a batch is a selection of its rows."""

from collections.abc import Iterator
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import BatchSampler
from torchgeo.datasets.utils import Sample

from ..datasets import MultiModalDataset
from ..errors import SettingError


def resident_images(
    dataset: MultiModalDataset, modality: str
) -> tuple[NDArray[Any], Tensor]:
    """Return the array that resides on the device, and the rows of a split in it.

    Args:
        dataset: The split.
        modality: One of its modalities.

    Returns:
        See :meth:`~torchgeo_discomkd.datasets.MultiModalDataset.mapped`.

    Raises:
        SettingError: If the images are not in a pack, or each must be checked or
            transformed.
    """
    found = dataset.mapped(modality)
    if found is None or dataset.missing_values == 'error':
        raise SettingError(
            "resident=True needs a pack as root, and missing_values='mean': write "
            'one with `python -m torchgeo_discomkd pack`.'
        )
    if dataset.transforms is not None:
        raise SettingError(
            'resident=True reads no samples that transforms could change: drop one of '
            'the two.'
        )
    return found


class RowLoader:
    """Batches of rows, labels and positions, without images and without workers.

    All of an epoch are copied to the device at once; a batch is a part of them.
    """

    def __init__(
        self,
        dataset: MultiModalDataset,
        batches: BatchSampler,
        device: torch.device | str = 'cpu',
    ) -> None:
        """Initialize a new RowLoader instance.

        Args:
            dataset: The split, read from a pack.
            batches: Positions in the split, drawn again for each epoch.
            device: Where the images reside.
        """
        self.dataset = dataset
        self.batches = batches
        self.device = device

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.batches)

    def __iter__(self) -> Iterator[Sample]:
        """Yield 'index', 'label' and, as 'image_<modality>', rows; all are (B,)."""
        batches = list(self.batches)
        positions = [position for batch in batches for position in batch]
        index = torch.tensor(positions, dtype=torch.long)
        epoch: Sample = {'index': index, 'label': self.dataset.labels[index]}
        for modality in self.dataset.modalities:
            _, rows = resident_images(self.dataset, modality)
            epoch[f'image_{modality}'] = rows[index]
        sizes = [len(batch) for batch in batches]
        parts = {k: x.to(self.device).split(sizes) for k, x in epoch.items()}
        for values in zip(*parts.values(), strict=True):
            yield dict(zip(parts, values, strict=True))


class ResidentImages:
    """All images of one modality on the device, in the type of the pack."""

    def __init__(
        self, dataset: MultiModalDataset, modality: str, device: torch.device
    ) -> None:
        """Initialize a new ResidentImages instance.

        Args:
            dataset: A split, read from a pack.
            modality: One of its modalities.
            device: Where the images reside; on the CPU they stay in the mapped file.

        Raises:
            SettingError: If they do not fit into the device's memory.
        """
        array, _ = resident_images(dataset, modality)
        images = torch.from_numpy(array)
        self.unsigned = images.dtype == torch.uint16
        # the only type that PyTorch cannot index
        images = images.view(torch.int16) if self.unsigned else images
        try:
            self.images = images.to(device)
        except torch.OutOfMemoryError as error:
            raise SettingError(
                f'resident=True: {device} has no room for the '
                f"{images.nbytes / 1e9:.1f} GB of '{modality}' in {dataset.root}: set "
                '--data.resident false.'
            ) from error
        # a list would have to be copied to the device each time
        bands = dataset.band_indexes(modality)
        self.bands = None if bands is None else torch.tensor(bands, device=device)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Return images.

        Args:
            rows: Rows of the array, int64 (B,), on the device.

        Returns:
            Raw values, float32 (B, C, H, W), missing pixels NaN.
        """
        images = self.images[rows]
        if self.bands is not None:
            images = images.index_select(1, self.bands)
        if self.unsigned:
            images = images.to(torch.int32) & 0xFFFF
        return images.to(torch.float32)


class ResidentPack:
    """Images of all modalities on a device, which are copied when they are needed."""

    def __init__(self) -> None:
        """Initialize a new ResidentPack instance."""
        self._images: dict[tuple[str, torch.device], ResidentImages] = {}

    def clear(self) -> None:
        """Forget all images."""
        self._images.clear()

    def gather(self, batch: Sample, dataset: MultiModalDataset) -> Sample:
        """Replace rows by the images on the device.

        Args:
            batch: 'image_<modality>' rows, int64 (B,), and anything else.
            dataset: A split, read from a pack.

        Returns:
            The batch with images, float32 (B, C, H, W).

        Raises:
            SettingError: If they do not fit into the device's memory.
        """
        rows = {k: v for k, v in batch.items() if k.startswith('image_')}
        return batch | {
            key: self._on(key.removeprefix('image_'), v.device, dataset)[v]
            for key, v in rows.items()
        }

    def _on(
        self, modality: str, device: torch.device, dataset: MultiModalDataset
    ) -> ResidentImages:
        # a new device, a new copy
        if (modality, device) not in self._images:
            images = ResidentImages(dataset, modality, device)
            self._images[modality, device] = images
        return self._images[modality, device]

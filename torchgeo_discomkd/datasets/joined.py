# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Training samples with and without labels in one data set."""

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import TileSizeError, UserError
from .base import MultiModalDataset
from .statistics import cached_statistics


class JoinedDataset(MultiModalDataset):
    """The labelled samples of a training split, followed by samples without labels.

    Everything else is as in the labelled split: bands, units, tile sizes, transforms.

    Attributes:
        labelled: The training split.
        unlabelled: The samples without labels.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from torchgeo_discomkd.datasets import PairedArrays
        >>> with tempfile.TemporaryDirectory() as root:
        ...     np.save(f'{root}/SAR_data_normalized.npy', np.zeros((5, 2, 8, 8)))
        ...     np.save(f'{root}/labels.npy', [0, 0, 1, -1, -1])
        ...     np.save(f'{root}/train_idx.npy', [0, 1, 2])
        ...     np.save(f'{root}/more_idx.npy', [3, 4])
        ...     train, more = (
        ...         PairedArrays(root, split, unlabelled='more_idx')
        ...         for split in ('train', 'unlabelled')
        ...     )
        ...     joined = JoinedDataset(train, more)
        >>> joined.labels, joined[4]['index'], joined.identifier(4)
        (tensor([ 0,  0,  1, -1, -1]), tensor(4), 'unlabelled/4')
    """

    def __init__(
        self, labelled: MultiModalDataset, unlabelled: MultiModalDataset
    ) -> None:
        """Initialize a new JoinedDataset instance.

        Args:
            labelled: The training split.
            unlabelled: The split 'unlabelled' of the same data and modalities.

        Raises:
            TileSizeError: If their tiles differ in size.
        """
        for modality in labelled.modalities:
            size, other = (d.tile_size(modality) for d in (labelled, unlabelled))
            if size != other:
                raise TileSizeError(
                    f'{unlabelled.identifier(0)} ({modality}), without a label, is '
                    f'{other[0]}x{other[1]} pixels, but {labelled.identifier(0)} is '
                    f'{size[0]}x{size[1]}: cut or resample the tiles of a modality to '
                    'one size.'
                )
        self.labelled = labelled
        self.unlabelled = unlabelled
        self.root = labelled.root
        self.classes = labelled.classes
        self.task = labelled.task
        self.modalities = labelled.modalities
        self.bands = labelled.bands
        self.units = labelled.units
        self.missing_values = labelled.missing_values
        self.transforms = labelled.transforms
        self.labels = torch.cat([labelled.labels, unlabelled.labels])

    def load(self, index: int, modality: str) -> Tensor:
        """Read one image; see :meth:`MultiModalDataset.load`.

        Args:
            index: Position in both splits.
            modality: One of *modalities*.
        """
        part, position = self._find(index)
        return part.load(position, modality)

    def load_batch(self, indexes: Sequence[int], modality: str) -> Tensor:
        """Read images; see :meth:`MultiModalDataset.load_batch`.

        Args:
            indexes: Positions in both splits, B of them.
            modality: One of *modalities*.
        """
        positions, first = torch.tensor(indexes), len(self.labelled)
        late = positions >= first
        if not late.any():
            return self.labelled.load_batch(indexes, modality)
        own = (positions[late] - first).tolist()
        images = self.unlabelled.load_batch(own, modality)
        batch = images.new_empty(len(indexes), *images.shape[1:])
        batch[late] = images
        if not late.all():
            early = positions[~late].tolist()
            batch[~late] = self.labelled.load_batch(early, modality)
        return batch

    def identifier(self, index: int) -> str:
        """Return the name of a sample in its own split.

        Args:
            index: Position in both splits.
        """
        part, position = self._find(index)
        return part.identifier(position)

    def fingerprint(self) -> str:
        """Return the hash of the source files, those without labels included."""
        return self.labelled.fingerprint()

    def modified(self, modality: str) -> str:
        """Return when the files of a modality were modified.

        Args:
            modality: One of *modalities*.
        """
        return self.labelled.modified(modality)

    def mapped(self, modality: str) -> tuple[NDArray[Any], Tensor] | None:
        """Return all images as one array; see :meth:`MultiModalDataset.mapped`.

        Args:
            modality: One of *modalities*.
        """
        parts = [part.mapped(modality) for part in (self.labelled, self.unlabelled)]
        if parts[0] is None or parts[1] is None:
            return None
        return parts[0][0], torch.cat([parts[0][1], parts[1][1]])

    def band_indexes(self, modality: str) -> list[int] | None:
        """Return the positions of the bands that samples hold; None for all.

        Args:
            modality: One of *modalities*.
        """
        return self.labelled.band_indexes(modality)

    def _find(self, index: int) -> tuple[MultiModalDataset, int]:
        first = len(self.labelled)
        if index < first:
            return self.labelled, index
        return self.unlabelled, index - first


def check_unlabelled(dataset: MultiModalDataset) -> None:
    """Check samples without labels as those of the training split are checked.

    Their statistics are computed for that, and kept with the data, but normalise
    nothing.

    Args:
        dataset: The split 'unlabelled'.

    Raises:
        UserError: If a file, its bands, sizes or values cannot be used.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from torchgeo_discomkd.datasets import PairedArrays
        >>> with tempfile.TemporaryDirectory() as root:
        ...     images = np.array([0, 1, np.nan]).reshape(3, 1, 1, 1)
        ...     np.save(f'{root}/SAR_data_normalized.npy', images)
        ...     np.save(f'{root}/labels.npy', [0, 1, -1])
        ...     np.save(f'{root}/train_idx.npy', [0, 1])
        ...     np.save(f'{root}/more_idx.npy', [2])
        ...     unlabelled = PairedArrays(root, 'unlabelled', unlabelled='more_idx')
        ...     try:
        ...         check_unlabelled(unlabelled)
        ...     except UserError as error:
        ...         print(type(error).__name__)
        MissingValueError
    """
    try:
        cached_statistics(dataset)
    except UserError as error:
        raise type(error)(f'of the samples without labels: {error}') from error

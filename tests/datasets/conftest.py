# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path

import pytest

from tests.fakes import write_pairs
from torchgeo_discomkd.datasets import (
    BandStatistics,
    MultiModalDataset,
    band_statistics,
)

#: Shapes of :func:`root`.
SMALL = {'ms': (3, 6, 6), 'sar': (2, 4, 4)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Folder of 2 classes x 20 pairs of the shapes :data:`SMALL`."""
    return write_pairs(tmp_path / 'data', count=20, shapes=SMALL)


def stems(dataset: MultiModalDataset) -> list[str]:
    """Return '<Class>/<stem>' of all samples."""
    return [dataset.identifier(i) for i in range(len(dataset))]


def statistics_of(dataset: MultiModalDataset) -> dict[str, BandStatistics]:
    """Compute the statistics of every modality, without keeping them."""
    return {m: band_statistics(dataset, m) for m in dataset.modalities}

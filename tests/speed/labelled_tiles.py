# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Tiles with labels, of a data set or drawn at random."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from torchgeo_discomkd.datasets import EuroSATMSSAR, PairedFolders
from torchgeo_discomkd.models import ModalityMetadata


class LabelledTiles(NamedTuple):
    """Raw images, float32, shape (N, C, H, W), and labels, int64, shape (N,)."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]


def read_split(root: Path, split: str, modality: str) -> LabelledTiles:
    """Read a split of EuroSAT-MS-SAR (or its simulation), or of paired folders."""
    kind = EuroSATMSSAR if (root / 'EuroSAT_MS').is_dir() else PairedFolders
    data = kind(str(root), split, modalities=[modality])
    images = [data.load(i, modality).numpy() for i in range(len(data))]
    return LabelledTiles(np.stack(images), data.labels.numpy())


def random_tiles(described: ModalityMetadata, count: int) -> LabelledTiles:
    """Draw backscatter in dB; the labels mean nothing."""
    rng = np.random.default_rng(0)
    size = described.tile_size or (64, 64)
    images = rng.normal(-12, 5, (count, described.in_channels, *size))
    return LabelledTiles(images.astype(np.float32), np.zeros(count, np.int64))


def write_tiles(folder: Path, images: NDArray[np.float32]) -> Path:
    """Write images as files, for what reads files only."""
    folder.mkdir()
    for number, image in enumerate(images):
        np.save(folder / f'{number:06}.npy', image)
    return folder

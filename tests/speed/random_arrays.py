# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Data sets of random tiles, in the layout of the authors' released code."""

from pathlib import Path

import numpy as np

CLASSES = 10


def write_arrays(root: Path, samples: int, size: int) -> Path:
    """Write arrays of random tiles.

    Args:
        root: Folder to write.
        samples: Number of tiles.
        size: Height and width of a tile in pixels.

    Returns:
        The folder.
    """
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for prefix, bands, dtype in (('MS', 13, np.uint16), ('SAR', 2, np.float32)):
        array = np.lib.format.open_memmap(
            root / f'{prefix}_data_normalized.npy',
            'w+',
            dtype,
            (samples, bands, size, size),
        )
        for first in range(0, samples, 1000):
            part = array[first : first + 1000]
            part[:] = rng.integers(0, 10_000, part.shape)
    rows = rng.permutation(samples)
    np.save(root / 'labels.npy', np.arange(samples) % CLASSES)
    bounds = (samples * 7 // 10, samples * 8 // 10)
    names = ('train_idx', 'valid_idx', 'test_idx')
    for name, part in zip(names, np.split(rows, bounds), strict=True):
        np.save(root / f'{name}.npy', part)
    return root

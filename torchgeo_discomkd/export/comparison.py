# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Images by which an exported file is compared with its classifier file."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import LayoutError, TileSizeError
from ..models import LoadedClassifier, Normalization
from ..rasters import read_image
from ..rasters.readers import SUFFIXES

#: From raw images, shape (B, C, H, W), to probabilities, shape (B, K).
type Classify = Callable[[NDArray[np.float32]], NDArray[np.float32]]

#: More tiles than this are not needed to see a difference.
LIMIT = 64

#: Heights and widths, in pixels, of random images for a classifier that takes any;
#: multiples of the patches of vision transformers.
SIZES = ((64, 64), (64, 96))


def read_tiles(
    paths: Sequence[str | Path],
    loaded: LoadedClassifier,
    limit: int = LIMIT,
    purpose: Literal['check', 'calibrate'] = 'check',
) -> NDArray[np.float32]:
    """Read tiles.

    Of more than *limit*, every n-th is taken, so that no folder is left out.

    Args:
        paths: Image files, or folders that are searched for some.
        loaded: The classifier of one modality.
        limit: The most tiles to read.
        purpose: What they are for, for messages.

    Returns:
        Raw values, float32, shape (N, C, H, W), missing pixels NaN.

    Raises:
        BandError: If a tile has other bands than the classifier takes.
        CorruptFileError: If a tile cannot be read.
        LayoutError: If there is no tile.
        TileSizeError: If the tiles have several sizes, or another one than the
            classifier was trained with.
    """
    (described,) = loaded.metadata.modalities.values()
    files = [file for path in paths for file in _files(Path(path), purpose)]
    files = files[:: math.ceil(len(files) / limit) or 1]
    if not files:
        raise LayoutError(
            f'{[str(path) for path in paths]}: no image to {purpose} by. Give image '
            f'files ({", ".join(SUFFIXES)}) or folders of them.'
        )
    images = [read_image(file, expected=described.bands) for file in files]
    expected = described.tile_size or images[0].shape[1:]
    for file, image in zip(files, images, strict=True):
        if image.shape[1:] != expected:
            raise TileSizeError(
                f'{file} has {image.shape[1]}x{image.shape[2]} pixels, but to {purpose} '
                f'takes {expected[0]}x{expected[1]}: give tiles of this size.'
            )
    return np.stack(images)


def _files(path: Path, purpose: str) -> list[Path]:
    if path.is_dir():
        found = (file for file in path.rglob('*') if file.suffix.lower() in SUFFIXES)
        return sorted(found)
    if not path.is_file():
        raise LayoutError(f'{path}: there is no such file or folder to {purpose} by.')
    return [path]


def random_batches(
    loaded: LoadedClassifier, count: int = 16
) -> list[NDArray[np.float32]]:
    """Draw images as the training data were by mean and spread, some pixels missing.

    Args:
        loaded: The classifier of one modality.
        count: Number of images of a larger batch, 2 or more.

    Returns:
        For each size of image, batches of 1 and *count*, float32, shape (B, C, H, W):
        two of a hundred pixels are NaN, one is infinite, and the last image is all NaN.
        The same for every call.
    """
    ((modality, described),) = loaded.metadata.modalities.items()
    normalization = _normalization(loaded, modality)
    mean, spread = (
        values.cpu().view(-1, 1, 1)
        for values in (normalization.fill, normalization.scale)
    )
    generator = torch.Generator().manual_seed(0)
    batches = []
    for size in SIZES if described.tile_size is None else [described.tile_size]:
        shape = (count, described.in_channels, *size)
        images = mean + spread * torch.randn(shape, generator=generator)
        images[torch.rand(shape, generator=generator) < 0.02] = torch.nan
        images[0, 0, 0, 0] = torch.inf
        images[-1] = torch.nan
        batches += [images[:1].numpy(), images.numpy()]
    return batches


def _normalization(loaded: LoadedClassifier, modality: str) -> Normalization:
    classifier = loaded.classifier
    normalizations = getattr(classifier, 'normalizations', None)
    found = (
        classifier.normalization if normalizations is None else normalizations[modality]
    )
    return cast(Normalization, found)


def largest_difference(
    expected: LoadedClassifier,
    exported: Classify,
    batches: Sequence[NDArray[np.float32]],
) -> float:
    """Compare probabilities.

    Args:
        expected: The classifier as its file has it.
        exported: What is compared with it, from images to probabilities.
        batches: Batches of raw values, float32, shape (B, C, H, W).

    Returns:
        The largest absolute difference, 0 to 1; infinite if one is not a number.
    """
    differences = []
    for images in batches:
        with torch.inference_mode():
            right = expected.probabilities(torch.from_numpy(images)).numpy()
        differences.append(np.abs(exported(images) - right).max())
    return float(np.nan_to_num(np.max(differences), nan=np.inf))

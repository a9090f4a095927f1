# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Images to compare an exported file with its classifier file, and the comparison."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import (
    BandError,
    ClassifierFileError,
    LayoutError,
    TileSizeError,
    UnitError,
)
from ..metadata import ClassifierMetadata
from ..models import FusionClassifier, LoadedClassifier, Normalization
from ..rasters import ImageFiles
from ..rasters.doubts import doubt_values
from ..rasters.readers import SUFFIXES
from ..rasters.scale import parse_unit
from ..rasters.tiles import TileSpec, convert, read_raw

#: From raw images, shape (B, C, H, W), to probabilities, shape (B, K).
type Classify = Callable[[NDArray[np.float32]], NDArray[np.float32]]

#: More tiles than this are not needed to find a difference.
LIMIT = 64

#: Heights and widths, in pixels, of random images for a classifier that accepts any
#: size; multiples of the patches of vision transformers.
SIZES = ((64, 64), (64, 96))

#: Largest difference of a probability that rounding can explain.
TOLERANCE = 1e-4

#: Smallest acceptable share of labels that an int8 file shares with its source.
LEAST_AGREEMENT = 0.9

#: Number of images classified at a time.
_BATCH = 64


@dataclass(frozen=True)
class Agreement:
    """How well an int8 file agrees with the classifier file.

    Attributes:
        calibration_tiles: Number of tiles that determined the scales.
        check_tiles: Number of tiles that both files classified.
        largest_difference: Largest absolute difference of a probability, 0 to 1.
        mean_difference: Mean absolute difference of a probability.
        label_agreement: Share of the tiles that have the same label, 0 to 1.

    Example:
        >>> agreement = Agreement(64, 200, 0.05, 0.004, label_agreement=0.985)
        >>> f'{agreement.label_agreement:.1%} of {agreement.check_tiles} labels agree'
        '98.5% of 200 labels agree'
    """

    calibration_tiles: int
    check_tiles: int
    largest_difference: float
    mean_difference: float
    label_agreement: float


def on_arrays(model: Callable[[Tensor], Tensor]) -> Classify:
    """Make a PyTorch program take and return arrays.

    Args:
        model: From raw images, shape (B, C, H, W), to probabilities, shape (B, K).
    """

    def classify(images: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return model(torch.from_numpy(images)).numpy()

    return classify


def read_tiles(
    paths: Sequence[str | Path],
    loaded: LoadedClassifier,
    limit: int = LIMIT,
    purpose: Literal['check', 'calibrate'] = 'check',
) -> NDArray[np.float32]:
    """Read tiles.

    If there are more than *limit*, every n-th one is read, so no folder is omitted.

    Args:
        paths: Image files, or folders of them.
        loaded: The classifier of one modality.
        limit: Largest number of tiles to read.
        purpose: What the tiles are used for, for messages.

    Returns:
        Values in the unit of the classifier, float32, shape (N, C, H, W), missing
        pixels NaN.

    Raises:
        BandError: If a tile has other bands than the classifier.
        CorruptFileError: If a tile cannot be read.
        LayoutError: If there are no tiles.
        TileSizeError: If the tiles have different sizes, or not the size of the
            classifier's training tiles.
        UnitError: If the values of a tile cannot be backscatter.

    Warns:
        UserWarning: If a tile is unlike those of training.
    """
    (described,) = loaded.metadata.modalities.values()
    files = [file for path in paths for file in _files(Path(path), purpose)]
    files = files[:: math.ceil(len(files) / limit) or 1]
    if not files:
        raise LayoutError(
            f'{[str(path) for path in paths]}: no images to {purpose} with. Give image '
            f'files ({", ".join(SUFFIXES)}) or folders of them.'
        )
    spec = TileSpec(
        bands=described.bands,
        unit=parse_unit(described.unit),
        size=described.tile_size,
        profile=described.profile,
    )
    images, doubts = zip(*(_read(file, spec) for file in files), strict=True)
    if unusual := [f'{f}: {d}' for f, d in zip(files, doubts, strict=True) if d]:
        warnings.warn(
            f'{len(unusual)} of {len(files)} tiles to {purpose} with are unusual; the '
            f'first is {unusual[0]}.',
            stacklevel=3,
        )
    expected = described.tile_size or images[0].shape[1:]
    for file, image in zip(files, images, strict=True):
        if image.shape[1:] != expected:
            raise TileSizeError(
                f'{file} has {image.shape[1]}x{image.shape[2]} pixels instead of '
                f'{expected[0]}x{expected[1]}: give such tiles to {purpose} with.'
            )
    return np.stack(images)


def _read(file: Path, spec: TileSpec) -> tuple[NDArray[np.float32], str]:
    """Read a tile as ``classify`` does, and say what speaks against it."""
    try:
        image = convert(read_raw(ImageFiles((str(file),)), spec), spec)
    except BandError as error:
        what = str(error).partition(':')[0]
        raise BandError(f'{file}: {what}. Give tiles with these bands.') from error
    except UnitError as error:
        raise UnitError(f'{file}: {error}') from error
    doubts = [*image.doubts]
    if image.values.shape[1:] == spec.size:
        doubts += doubt_values(image.values[np.newaxis], spec.bands, spec.profile)
    return image.values, '; '.join(doubts)


def _files(path: Path, purpose: str) -> list[Path]:
    if path.is_dir():
        found = (file for file in path.rglob('*') if file.suffix.lower() in SUFFIXES)
        return sorted(found)
    if not path.is_file():
        raise LayoutError(f'{path}: there is no such file or folder to {purpose} with.')
    return [path]


def random_batches(
    loaded: LoadedClassifier, count: int = 16
) -> list[NDArray[np.float32]]:
    """Draw images with mean and spread of the training data, some pixels missing.

    Args:
        loaded: The classifier of one modality.
        count: Number of images in the larger batch, 2 or more.

    Returns:
        For each size of image, batches of 1 and *count*, float32, shape (B, C, H, W):
        two of a hundred pixels are NaN, one is infinite, and the last image is all NaN.
        Every call returns the same images.
    """
    ((modality, described),) = loaded.metadata.modalities.items()
    classifier = loaded.classifier
    if isinstance(classifier, FusionClassifier):
        normalization = cast(Normalization, classifier.normalizations[modality])
    else:
        normalization = classifier.normalization
    mean = normalization.fill.cpu().view(-1, 1, 1)
    spread = normalization.scale.cpu().view(-1, 1, 1)
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


def largest_difference(
    expected: LoadedClassifier,
    readers: Sequence[Classify],
    batches: Sequence[NDArray[np.float32]],
) -> float:
    """Compare an exported file that is as exact as its source.

    Args:
        expected: The classifier of the classifier file.
        readers: Runtimes for the exported file; the worst one counts.
        batches: Batches of raw values, float32, shape (B, C, H, W).

    Returns:
        The largest absolute difference of a probability, 0 to 1.

    Raises:
        ClassifierFileError: If it is more than 1e-4, or not a number.
    """
    right = [on_arrays(expected.probabilities)(images) for images in batches]
    difference = max(
        float(np.nan_to_num(np.abs(read(images) - r).max(), nan=np.inf))
        for read in readers
        for images, r in zip(batches, right, strict=True)
    )
    if difference > TOLERANCE:
        raise ClassifierFileError(
            f'The exported probabilities differ by up to {difference:.2g} from those '
            f'of the classifier file, more than {TOLERANCE:g}: nothing was written. '
            'Try the other format or another version of PyTorch.'
        )
    return difference


def measure_agreement(
    expected: LoadedClassifier,
    readers: Sequence[Classify],
    tiles: NDArray[np.float32],
    calibration_tiles: int,
) -> Agreement:
    """Compare an exported file that is less exact than its source.

    Args:
        expected: The classifier of the classifier file.
        readers: Runtimes for the exported file; the worst one counts.
        tiles: Raw values, float32, shape (N, C, H, W).
        calibration_tiles: Number of tiles that determined the scales.

    Returns:
        How well they agree.

    Raises:
        ClassifierFileError: If fewer than 90 % of the labels agree.
    """
    batches = [tiles[i : i + _BATCH] for i in range(0, len(tiles), _BATCH)]
    right, *found = (
        np.concatenate([read(batch) for batch in batches])
        for read in (on_arrays(expected.probabilities), *readers)
    )
    differences = [np.abs(probabilities - right) for probabilities in found]
    labels = _labels(right, expected.metadata)
    agreement = Agreement(
        calibration_tiles=calibration_tiles,
        check_tiles=len(tiles),
        largest_difference=float(max(d.max() for d in differences)),
        mean_difference=float(max(d.mean() for d in differences)),
        label_agreement=float(
            min((_labels(p, expected.metadata) == labels).mean() for p in found)
        ),
    )
    if agreement.label_agreement < LEAST_AGREEMENT:
        raise ClassifierFileError(
            f'Only {agreement.label_agreement:.0%} of {len(tiles)} tiles have the same '
            f'label as with the classifier file, less than {LEAST_AGREEMENT:.0%}: '
            'nothing was written. Calibrate with more training tiles, of all classes, '
            'or export without quantization.'
        )
    return agreement


def _labels(
    probabilities: NDArray[np.float32], metadata: ClassifierMetadata
) -> NDArray[Any]:
    """Return the class of each tile or, with several labels, each decision."""
    thresholds = metadata.decision_thresholds
    if thresholds is None:
        return probabilities.argmax(axis=1)
    return probabilities > np.array(thresholds, np.float32)

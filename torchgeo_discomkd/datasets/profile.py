# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""What the tiles of a training split look like, for its classifiers."""

from collections.abc import Iterable
from statistics import median

from ..metadata import ImageProfile
from ..rasters.pixel_size import pixel_size
from .base import MultiModalDataset
from .statistics import BandStatistics, cached_statistics

# Number of tiles whose location is read, spread over the split.
_LOCATED = 16


def image_profile(
    dataset: MultiModalDataset, modality: str, statistics: BandStatistics
) -> ImageProfile:
    """Return what the tiles of one modality look like.

    Args:
        dataset: The training split.
        modality: The modality.
        statistics: Statistics of its bands.

    Returns:
        The profile that a classifier file keeps. The size of a pixel is the median over
        up to 16 tiles.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from torchgeo_discomkd.datasets import PairedArrays, band_statistics
        >>> with tempfile.TemporaryDirectory() as root:
        ...     images = np.arange(8.0).reshape(2, 1, 2, 2)
        ...     np.save(f'{root}/SAR_data_normalized.npy', images)
        ...     np.save(f'{root}/labels.npy', [0, 1])
        ...     np.save(f'{root}/train_idx.npy', [0, 1])
        ...     dataset = PairedArrays(root)
        ...     profile = image_profile(dataset, 'sar', band_statistics(dataset, 'sar'))
        >>> profile.tiles, profile.quantiles[0][-1], profile.pixel_size
        (2, 7.0, None)
    """
    step = -(-len(dataset) // _LOCATED)
    places = [dataset.locate(i, modality) for i in range(0, len(dataset), step)]
    known = [place for place in places if place is not None]
    height, width = dataset.tile_size(modality)
    sizes = [s for p in known if (s := pixel_size(*p, height, width)) is not None]
    kind = None
    if sizes:
        kind = 'geographic' if known[0][0].is_geographic else 'projected'
    return ImageProfile(
        quantiles=statistics.quantiles,
        means=statistics.means,
        stds=statistics.stds,
        tiles=len(dataset),
        pixel_size=median(sizes) if sizes else None,
        crs_kind=kind,
    )


def split_statistics(
    dataset: MultiModalDataset, sources: Iterable[MultiModalDataset]
) -> tuple[dict[str, BandStatistics], dict[str, ImageProfile]]:
    """Return statistics and profiles of the training split by modality.

    Args:
        dataset: The training split.
        sources: The same split with the images that statistics are taken from: of all
            modalities, or one data set for each.
    """
    statistics = {}
    for source in sources:
        statistics |= cached_statistics(source)
    profiles = {m: image_profile(dataset, m, s) for m, s in statistics.items()}
    return statistics, profiles

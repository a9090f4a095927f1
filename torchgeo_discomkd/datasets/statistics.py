# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Band statistics of a data set, for the normalisation in its classifiers."""

import contextlib
import hashlib
import json
import warnings
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import MissingValueError, UnitError
from ..files import write_atomically
from ..metadata import QUANTILES
from ..rasters import check_unit
from ..rasters.plausibility import (
    MOST_OUTSIDE,
    describe_repeated,
    format_number,
    impossible,
    limits,
    outside,
    repeated_value,
)
from ..rasters.scale import HIGHEST, LOWEST, LOWEST_LINEAR
from .base import MultiModalDataset
from .pack.format import SEVERAL, STATISTICS, STATISTICS_ROWS

#: Most pixels per band that percentiles are taken from: 4 MB in memory.
MAXIMUM_SAMPLE = 2**20

# Part of the names of cached files; raise it when the computation changes.
_VERSION = 3


@dataclass(frozen=True)
class BandStatistics:
    """Statistics of the bands of one modality, without missing pixels.

    Values that cannot be backscatter count as missing, unless they are too many: then
    the quantiles and percentiles contain them, and a check refuses the band.

    Every tuple has one entry per band, in the order of *bands*, in the unit of the
    pixels.

    Attributes:
        bands: Names of the bands.
        mean: Mean.
        std: Population standard deviation (ddof 0).
        low: 2nd percentile.
        high: 98th percentile.
        minimum: Lowest value.
        maximum: Highest value.
        missing: Number of missing pixels.
        count: Number of pixels, missing ones included (the same for all bands).
        quantiles: Pixel values at :data:`~torchgeo_discomkd.metadata.QUANTILES`.
        means: 0.5th and 99.5th percentile of the mean of a tile.
        stds: 0.5th and 99.5th percentile of the standard deviation within a tile.
        repeated: The value that too many pixels share to be measured, and the share of
            the pixels that have it; both 0 if there is none.

    Example:
        >>> statistics = BandStatistics(
        ...     bands=('VV', 'VH'),
        ...     mean=(-11.2, -18.0),
        ...     std=(2.9, 3.1),
        ...     low=(-17.0, -25.0),
        ...     high=(-5.5, -12.4),
        ...     minimum=(-30.1, -38.2),
        ...     maximum=(12.0, 3.3),
        ...     missing=(0, 0),
        ...     count=4096,
        ... )
        >>> BandStatistics.from_json(statistics.to_json()) == statistics
        True
    """

    bands: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    minimum: tuple[float, ...]
    maximum: tuple[float, ...]
    missing: tuple[int, ...]
    count: int
    quantiles: tuple[tuple[float, ...], ...] = ()
    means: tuple[tuple[float, float], ...] = ()
    stds: tuple[tuple[float, float], ...] = ()
    repeated: tuple[tuple[float, float], ...] = ()

    def to_json(self) -> str:
        """Return the statistics as a JSON object."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> 'BandStatistics':
        """Return the statistics that :meth:`to_json` wrote.

        Args:
            text: JSON object.

        Raises:
            ValueError: If the text is not such an object.
        """
        try:
            values = json.loads(text)
            count = int(values.pop('count'))
            columns = {name: _tuples(column) for name, column in values.items()}
            result = cls(**columns, count=count)
            # fields of several figures may be left out
            lengths = {
                len(column)
                for name, column in columns.items()
                if name not in SEVERAL or column != ()
            }
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f'not band statistics: {error}') from error
        if len(lengths) != 1:
            raise ValueError('not band statistics: columns of different lengths')
        return result


def _tuples(values: Any) -> Any:
    return tuple(map(_tuples, values)) if isinstance(values, list) else values


def cached_statistics(dataset: MultiModalDataset) -> dict[str, BandStatistics]:
    """Return the statistics of every modality, computed once and stored with the data.

    They are written to ``<root>/.torchgeo_discomkd/statistics-<key>.json``, one file
    per modality; the key depends on the files of the data set and when they were
    modified, the split, the modality and its bands. If a file cannot be read, its
    statistics are computed again; if it cannot be written, nothing is stored.

    Args:
        dataset: The split, usually the one for training.

    Returns:
        The statistics by modality.

    Raises:
        MissingValueError: If a band has no valid pixel.
        UnitError: If values contradict the unit of their modality, or are physically
            impossible.

    Warns:
        UserWarning: If pixels are missing, with the number for each band, or too many
            have the same value to be measured.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from torchgeo_discomkd.datasets import PairedArrays
        >>> with tempfile.TemporaryDirectory() as root:
        ...     images = np.arange(8.0).reshape(2, 1, 2, 2)
        ...     np.save(f'{root}/SAR_data_normalized.npy', images)
        ...     np.save(f'{root}/labels.npy', [0, 1])
        ...     np.save(f'{root}/train_idx.npy', [0, 1])
        ...     statistics = cached_statistics(PairedArrays(root))
        >>> statistics['sar'].mean, statistics['sar'].maximum
        ((3.5,), (7.0,))
    """
    folder = dataset.place / '.torchgeo_discomkd'
    split_hash = dataset.split_hash()
    source = f'{_VERSION}\n{dataset.fingerprint()}\n{split_hash}'
    statistics = {}
    for modality in dataset.modalities:
        positions = str(dataset.band_indexes(modality))
        encoding = dataset.encoding(modality)
        names = '\n'.join(
            (
                source,
                dataset.modified(modality),
                modality,
                encoding,
                positions,
                *dataset.bands[modality],
            )
        )
        key = hashlib.sha256(names.encode()).hexdigest()[:16]
        path = folder / f'statistics-{key}.json'
        values = _stored(dataset, modality, split_hash) or _read(path)
        if values is None:
            values = band_statistics(dataset, modality)
            with contextlib.suppress(OSError):
                write_atomically(path, values.to_json().encode())
        _check(dataset, modality, values)
        statistics[modality] = values
    return statistics


def statistics_rows(values: BandStatistics) -> NDArray[np.float64]:
    """Return statistics as an array, the form in which a pack holds them.

    Args:
        values: The statistics.

    Returns:
        float64 (R, C): mean, std, low, high, minimum, maximum, missing and count, then
        one row for each figure in quantiles, means, stds and repeated.

    Example:
        >>> statistics = BandStatistics(
        ...     ('B1',), mean=(0.5,), std=(0.3,), low=(0.1,), high=(0.9,),
        ...     minimum=(0.0,), maximum=(1.0,), missing=(0,), count=64,
        ... )
        >>> statistics_rows(statistics)[:, 0].tolist()
        [0.5, 0.3, 0.1, 0.9, 0.0, 1.0, 0.0, 64.0]
    """
    columns = asdict(values) | {'count': (values.count,) * len(values.bands)}
    rows = [columns[name] for name in STATISTICS]
    for name in SEVERAL:
        rows += zip(*columns[name], strict=True)
    return np.array(rows, np.float64)


def _stored(
    dataset: MultiModalDataset, modality: str, split_hash: str
) -> BandStatistics | None:
    """Return the statistics that are stored with the images; None if there are none."""
    rows = dataset.stored_statistics(modality, split_hash)
    # earlier versions stored fewer
    if rows is None or len(rows) != STATISTICS_ROWS:
        return None
    columns = rows if (b := dataset.band_indexes(modality)) is None else rows[:, b]
    values = dict(zip(STATISTICS, columns.tolist(), strict=False))
    missing, count = (list(map(int, values.pop(n))) for n in ('missing', 'count'))
    # earlier versions took values that cannot be backscatter for measurements
    low, high = limits(dataset.units[modality])
    dirty = min(values['minimum']) < low or max(values['maximum']) > high
    if dirty or not all(count):
        return None
    ends = np.cumsum([len(STATISTICS), *SEVERAL.values()]).tolist()
    several = {
        name: _tuples(columns[first:last].T.tolist())
        for name, (first, last) in zip(SEVERAL, pairwise(ends), strict=True)
    }
    return BandStatistics(
        bands=dataset.bands[modality],
        missing=tuple(missing),
        count=count[0],
        **{name: tuple(column) for name, column in values.items()},
        **several,
    )


def _read(path: Path) -> BandStatistics | None:
    try:
        return BandStatistics.from_json(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None


def band_statistics(dataset: MultiModalDataset, modality: str) -> BandStatistics:
    """Compute the statistics of one modality, without checking them against its unit.

    Sums are float64 and merged tile by tile (Chan et al. 1983), so that they stay
    accurate for many pixels. Percentiles come from all pixels if a band has at most
    :data:`MAXIMUM_SAMPLE`, else from about that many, the same number from each tile,
    drawn with a fixed seed. Transforms are not applied.

    Args:
        dataset: The split, usually the one for training.
        modality: The modality.

    Returns:
        The statistics.

    Raises:
        MissingValueError: If a band has no valid pixel.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from torchgeo_discomkd.datasets import PairedArrays
        >>> with tempfile.TemporaryDirectory() as root:
        ...     images = np.arange(8.0).reshape(2, 1, 2, 2)
        ...     np.save(f'{root}/SAR_data_normalized.npy', images)
        ...     np.save(f'{root}/labels.npy', [0, 1])
        ...     np.save(f'{root}/train_idx.npy', [0, 1])
        ...     statistics = band_statistics(PairedArrays(root), 'sar')
        >>> statistics.mean, statistics.maximum, statistics.count
        ((3.5,), (7.0,), 8)
    """
    bands = dataset.bands[modality]
    unit = dataset.units[modality]
    height, width = dataset.tile_size(modality)
    pixels = height * width
    drawn = min(pixels, max(1, MAXIMUM_SAMPLE // len(dataset)))
    rng = np.random.default_rng(0)
    sample = np.empty((len(dataset), len(bands), drawn), np.float32)
    tiles = np.empty((2, len(dataset), len(bands)))
    moments = Moments(*(np.zeros(len(bands)) for _ in range(3)))
    minimum, maximum = (np.full(len(bands), sign * np.inf) for sign in (1, -1))
    finite = np.zeros(len(bands))
    for index in range(len(dataset)):
        image = dataset.checked_load(index, modality).numpy().reshape(len(bands), -1)
        finite += np.isfinite(image).sum(axis=1)
        chosen = slice(None)
        if drawn < pixels:
            chosen = rng.choice(pixels, drawn, replace=False, shuffle=False)
        sample[index] = image[:, chosen]
        image = np.where(outside(image, unit), np.float32(np.nan), image)
        tile = _moments(image.astype(np.float64))
        with np.errstate(invalid='ignore'):
            # NaN if all pixels are missing
            tiles[:, index] = (
                tile.mean / (tile.count > 0),
                np.sqrt(tile.squares / tile.count),
            )
        moments = _merge(moments, tile)
        minimum = np.fmin(minimum, np.fmin.reduce(image, axis=1))
        maximum = np.fmax(maximum, np.fmax.reduce(image, axis=1))
    total = len(dataset) * pixels
    count = moments.count
    if empty := [b for b, n in zip(bands, finite, strict=True) if n == 0]:
        raise MissingValueError(
            f"All {total} pixels of band {', '.join(empty)} of '{modality}' are "
            f'missing (nodata or NaN; read as: {dataset.encoding(modality)}): drop the '
            'band, repair the files, or correct their unit.'
        )
    present = [_measured(band, unit) for band in sample.swapaxes(0, 1)]
    low, high = zip(
        *(np.percentile(v.astype(np.float64), (2, 98)) for v in present), strict=True
    )
    with warnings.catch_warnings():
        # a band without any possible value, which the check refuses
        warnings.filterwarnings('ignore', 'All-NaN slice')
        ranges = np.nanpercentile(tiles, (0.5, 99.5), axis=1).transpose(1, 2, 0)
    return BandStatistics(
        bands=bands,
        mean=tuple(moments.mean.tolist()),
        std=tuple(np.sqrt(moments.squares / np.maximum(count, 1)).tolist()),
        low=tuple(map(float, low)),
        high=tuple(map(float, high)),
        minimum=tuple(minimum.tolist()),
        maximum=tuple(maximum.tolist()),
        missing=tuple((total - count).astype(int).tolist()),
        count=total,
        quantiles=tuple(tuple(np.quantile(v, QUANTILES).tolist()) for v in present),
        means=_tuples(ranges[0].tolist()),
        stds=_tuples(ranges[1].tolist()),
        repeated=tuple(repeated_value(v) or (0.0, 0.0) for v in present),
    )


def _measured(values: NDArray[np.float32], unit: str) -> NDArray[np.float32]:
    """Return the values of a band that are there; see :class:`BandStatistics`."""
    present = values[np.isfinite(values)]
    wrong = outside(present, unit)
    return present if wrong.mean() > MOST_OUTSIDE else present[~wrong]


class Moments(NamedTuple):
    """Moments of the bands of a set of pixels, each float64 of shape (C,).

    Attributes:
        count: Number of valid pixels.
        mean: Their mean; 0 if there are none.
        squares: Sum of the squared differences from the mean.
    """

    count: NDArray[np.float64]
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]


def _moments(image: NDArray[np.float64]) -> Moments:
    valid = np.isfinite(image)
    count = valid.sum(axis=1).astype(np.float64)
    if not valid.all():
        image = np.where(valid, image, 0)
    mean = image.sum(axis=1) / np.maximum(count, 1)
    deviation = np.where(valid, image - mean[:, None], 0)
    return Moments(count, mean, (deviation**2).sum(axis=1))


def _merge(one: Moments, other: Moments) -> Moments:
    total = np.maximum(one.count + other.count, 1)
    step = other.mean - one.mean
    between = step**2 * one.count * other.count / total
    return Moments(
        one.count + other.count,
        one.mean + step * other.count / total,
        one.squares + other.squares + between,
    )


def _check(dataset: MultiModalDataset, modality: str, values: BandStatistics) -> None:
    unit = dataset.units[modality]
    for band, low, high in zip(values.bands, values.low, values.high, strict=True):
        where = f"Band {band} of '{modality}'"
        check_unit(low, high, unit, where)
        if unit == 'dB' and low >= LOWEST_LINEAR:
            raise UnitError(
                f'{where} would be between {low:.3g} and {high:.3g} dB, but images in '
                f'dB reach far below {LOWEST_LINEAR}: correct the unit of the files '
                f'({dataset.encoding(modality)}).'
            )
    _check_plausible(dataset, modality, values)
    if any(values.missing):
        bands = {b: n for b, n in zip(values.bands, values.missing, strict=True) if n}
        numbers = ', '.join(f'{band} {count}' for band, count in bands.items())
        warnings.warn(
            f"Missing pixels in '{modality}' (nodata, NaN{_or_outside(unit)}), of "
            f'{values.count} per band: {numbers}. The normalisation replaces them by '
            'the band mean.',
            UserWarning,
            stacklevel=3,
        )


def _or_outside(unit: str) -> str:
    return f' or outside {LOWEST} to {HIGHEST} dB' if unit in ('dB', 'linear') else ''


def _check_plausible(
    dataset: MultiModalDataset, modality: str, values: BandStatistics
) -> None:
    unit = dataset.units[modality]
    if unit not in ('dB', 'linear'):
        return
    (low, high), options = limits(unit), dataset.options(modality)
    bands = zip(values.bands, values.quantiles, values.repeated, strict=True)
    for position, (band, quantiles, (value, share)) in enumerate(bands):
        of = dict(zip(QUANTILES, quantiles, strict=True))
        quarters = [
            dataset.number_in_file(modality, position, of[q]) for q in (0.25, 0.5, 0.75)
        ]
        if not share and low > of[0.01] == of[0]:
            # a value for missing pixels is the same in all of them
            value, share = of[0], 0.01
        number = format_number(dataset.number_in_file(modality, position, value))
        repeated = (number, share) if share else None
        what = f"band {band} of '{modality}'"
        if of[0] < low or of[1] > high:
            raise impossible(what, quarters, repeated, options)
        if repeated is not None:
            warnings.warn(
                f'{describe_repeated(what, *repeated, options)}. Otherwise the '
                'classifier learns it as a measurement.',
                UserWarning,
                stacklevel=4,
            )

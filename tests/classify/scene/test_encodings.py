# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""The map of a scene does not depend on how its file is encoded."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.enums import ColorInterp

from torchgeo_discomkd.classify.scene import classify_scene
from torchgeo_discomkd.rasters.finding import ImageFiles

from .scenes import UTM, make_predictor, random_scene, read

#: How values are stored: number = values in a unit / scale, with the type of the file.
#: Digits of integers that stand for dB are hundredths or tenths.
UNITS: Mapping[str, tuple[str, float]] = {
    'dB': ('float32', 1),
    'linear': ('float32', 1),
    'amplitude': ('float32', 1),
    'db_x100': ('int16', 0.01),
    'db_x10': ('int16', 0.1),
    'scaled': ('int16', 0.01),
    'scaled and shifted': ('int16', 0.005),
}

NAMES = [('VV', 'VH'), ('Sigma0_VV_db', 'Sigma0_VH_db'), ('IVV', 'IVH'), None]

#: How missing pixels are declared.
MISSING = ['NaN', 'nodata', 'stated', 'inside', 'msk', 'alpha']


@dataclass(frozen=True)
class Encoding:
    """How a scene is written.

    Attributes:
        unit: Key of :data:`UNITS`.
        names: Names of the bands; None if the file has none.
        swapped: Whether VH is the first band.
        missing: One of :data:`MISSING`.
        layout: Blocks, interleave and compression.
    """

    unit: str
    names: tuple[str, str] | None
    swapped: bool
    missing: str
    layout: Mapping[str, Any]


layouts = st.fixed_dictionaries(
    {
        'interleave': st.sampled_from(['band', 'pixel']),
        'compress': st.sampled_from(['deflate', 'none']),
    },
    optional={
        'tiled': st.just(True),
        'blockxsize': st.just(16),
        'blockysize': st.sampled_from([16, 32]),
    },
).filter(lambda x: ('blockxsize' in x) == ('blockysize' in x) == ('tiled' in x))
encodings = st.builds(
    Encoding,
    unit=st.sampled_from([*UNITS]),
    names=st.sampled_from(NAMES),
    swapped=st.booleans(),
    missing=st.sampled_from(MISSING),
    layout=layouts,
)


def encode(scene: NDArray[np.float32], unit: str) -> NDArray[np.generic]:
    """Return the numbers that stand for backscatter in dB; 0 where it is missing."""
    dtype, scale = UNITS[unit]
    values = np.nan_to_num(scene.astype(np.float64))
    match unit:
        case 'linear':
            values = 10 ** (values / 10)
        case 'amplitude':
            values = 10 ** (values / 20)
        case 'scaled and shifted':
            values = values + 15
    return (np.rint(values / scale) if dtype == 'int16' else values).astype(dtype)


def _fill(numbers: NDArray[Any], missing: NDArray[np.bool_], way: str) -> float | None:
    """Set missing pixels to a value; None if no value stands for them."""
    if way not in ('NaN', 'nodata', 'stated'):
        return None
    integers = numbers.dtype == np.int16
    fill = np.nan if way == 'NaN' and not integers else -32768 if integers else -9999.0
    numbers[missing] = fill
    return fill


def write(path: Path, scene: NDArray[np.float32], how: Encoding) -> dict[str, Any]:
    """Write a scene; return what has to be stated about the file."""
    numbers, missing = encode(scene, how.unit), np.isnan(scene)
    stated: dict[str, Any] = {}
    if how.unit in ('amplitude', 'db_x10', 'db_x100'):
        stated['scale'] = how.unit
    fill = _fill(numbers, missing, how.missing)
    if how.missing == 'stated':
        stated['nodata'] = fill
    names = how.names
    if how.swapped:
        numbers, names = numbers[::-1], names and names[::-1]
        if names is None:
            stated['bands'] = ('2', '1')
    valid = ~missing.any(axis=0)
    if how.missing == 'alpha':
        alpha = np.where(valid, 255, 0).astype(numbers.dtype)
        numbers = np.concatenate([numbers, alpha[None]])
    shape = dict(zip(('count', 'height', 'width'), numbers.shape, strict=True))
    place = {
        'crs': 'EPSG:32633',
        'transform': UTM,
        'nodata': None if 'nodata' in stated else fill,
    }
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=how.missing == 'inside'),
        rasterio.open(
            path, 'w', 'GTiff', dtype=numbers.dtype, **shape, **place, **how.layout
        ) as file,
    ):
        if how.missing == 'alpha':
            colours = [ColorInterp.gray, ColorInterp.undefined, ColorInterp.alpha]
            file.colorinterp = colours
        file.write(numbers)
        if names is not None:
            file.descriptions = (*names, 'alpha')[: file.count]
        if how.unit.startswith('scaled'):
            file.scales = [UNITS[how.unit][1]] * file.count
            file.offsets = [-15.0 if how.unit.endswith('shifted') else 0] * file.count
        if how.missing in ('inside', 'msk'):
            file.write_mask(valid)
    return stated


def classify(
    path: Path, **stated: Any
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    output = path.with_name('map.tif')
    scene = ImageFiles((str(path),))
    classify_scene(
        make_predictor(), scene, output, progress=False, overwrite=True, **stated
    )
    return read(output), read(output.with_name('map_confidence.tif'))


# without shrinking, which takes minutes
FAST = settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=20,
    phases=[Phase.generate],
)


@FAST
@given(
    how=encodings,
    seed=st.integers(0, 2**16),
    height=st.integers(9, 40),
    width=st.integers(9, 40),
    share=st.sampled_from([0.0, 0.15, 0.4]),
)
def test_same_map(
    how: Encoding, seed: int, height: int, width: int, share: float
) -> None:
    scene = random_scene(height, width, seed, share)
    plain = Encoding('dB', ('VV', 'VH'), False, 'NaN', {})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'scene.tif')
        expected = classify(path, **write(path, scene, plain))
        path = Path(folder, 'encoded.tif')
        found = classify(path, **write(path, scene, how))
    # a probability changes by less than its window's mean in dB, that by half a digit
    dtype, digit = UNITS[how.unit]
    rounding = digit / 2 if dtype == 'int16' else 1e-4
    assert np.allclose(found[1], expected[1], rtol=0, atol=rounding, equal_nan=True)
    # a rounded value may turn a cell that is between two classes
    sure = ~(expected[1] < 0.5 + rounding)
    assert np.array_equal(found[0][sure], expected[0][sure])

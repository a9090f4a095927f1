# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rasterio.transform import from_origin

from tests.fakes import pack_folders, write_arrays
from torchgeo_discomkd.datasets import (
    PairedArrays,
    PairedFolders,
    band_statistics,
    image_profile,
)
from torchgeo_discomkd.metadata import ImageProfile

from .radar import backscatter, write, write_radar


def profile(dataset: Any, modality: str = 'sar') -> ImageProfile:
    return image_profile(dataset, modality, band_statistics(dataset, modality))


def test_figures_are_those_of_the_training_split(tmp_path: Path) -> None:
    dataset = PairedFolders(str(write_radar(tmp_path)))
    found, statistics = profile(dataset), band_statistics(dataset, 'sar')
    assert (found.quantiles, found.means, found.stds) == (
        statistics.quantiles,
        statistics.means,
        statistics.stds,
    )
    assert found.tiles == 14
    assert (found.pixel_size, found.crs_kind) == (10, 'projected')


FEET = {'crs': 'EPSG:2225', 'pixel': 32.0, 'corner': (6e6, 2e6)}
DEGREES = {'crs': 'EPSG:4326', 'pixel': 1e-4, 'corner': (5.0, 60.0)}


@pytest.mark.parametrize(
    ('place', 'size', 'kind'),
    [
        (FEET, 32 * 1200 / 3937, 'projected'),
        (DEGREES, 11.132 * np.cos(np.radians(60 - 8e-4)) ** 0.5, 'geographic'),
        ({'crs': None}, None, None),
    ],
)
@pytest.mark.filterwarnings('ignore:Dataset has no geotransform')
def test_size_of_pixels(
    tmp_path: Path, place: dict[str, Any], size: float | None, kind: str | None
) -> None:
    root = write_radar(tmp_path / 'data', **place)
    found = profile(PairedFolders(str(root)))
    assert found.pixel_size == (None if size is None else pytest.approx(size))
    assert found.crs_kind == kind
    packed = PairedFolders(str(pack_folders(root)))
    assert profile(packed) == found


def test_median_of_the_tiles_that_say_it(tmp_path: Path) -> None:
    write_radar(tmp_path, pixel=20)
    dataset = PairedFolders(str(tmp_path))
    sizes = {0: None, 1: 10, 2: 10, 3: 60}
    for index, pixel in sizes.items():
        place: dict[str, Any] = {'crs': 'EPSG:32631'} if pixel else {}
        place['transform'] = from_origin(5e5, 4e6, pixel or 1, pixel or 1)
        path = tmp_path / 'sar' / f'{dataset.identifier(index)}.tif'
        write(path, backscatter()[index].astype('float32'), **place)
    # 2 x 10, 10 x 20 and 60 m
    assert profile(PairedFolders(str(tmp_path))).pixel_size == 20


def test_arrays_lie_nowhere(tmp_path: Path) -> None:
    found = profile(PairedArrays(str(write_arrays(tmp_path))))
    assert found.tiles == 12
    assert (found.pixel_size, found.crs_kind) == (None, None)

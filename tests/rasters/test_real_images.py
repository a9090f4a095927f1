# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""How often real images are doubted wrongly, and odd ones rightly."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from torchgeo_discomkd.datasets import PairedArrays, band_statistics
from torchgeo_discomkd.datasets.encoding import assume_unit, looks_like_sar
from torchgeo_discomkd.datasets.profile import image_profile
from torchgeo_discomkd.errors import UnitError
from torchgeo_discomkd.metadata import ImageProfile
from torchgeo_discomkd.rasters.doubts import doubt_values
from torchgeo_discomkd.rasters.plausibility import check_backscatter, to_check
from torchgeo_discomkd.rasters.readers import read_image
from torchgeo_discomkd.rasters.scale import convert_scale, find_unit

Images = NDArray[np.float32]

BANDS = ('VV', 'VH')

#: A tenth of a tile.
HOLE = np.arange(32 * 32).reshape(32, 32) < 103


def power(image: Images) -> Images:
    return 10 ** (image / np.float32(10))


#: What files may hold instead of dB, and the share of tiles, in percent, that is at
#: least doubted or refused, as measured. A table is doubted if one of its tiles is, a
#: scene if a tenth of its windows are.
ODD: dict[str, tuple[Callable[[Images], Images], float]] = {
    'amplitude': (lambda db: 10 ** (db / np.float32(20)), 25),
    'x 100': (lambda db: np.rint(100 * db), 100),
    'x 10': (lambda db: np.rint(10 * db), 100),
    '+ 10 dB': (lambda db: db + np.float32(10), 50),
    'swapped': (lambda db: db[..., ::-1, :, :], 20),
    'filled with -9999': (lambda db: np.where(HOLE, np.float32(-9999), db), 100),
    'filled with 0': (lambda db: np.where(HOLE, np.float32(0), db), 100),
}


def train(images: Images, folder: Path) -> ImageProfile:
    """Return the profile that a training on *images* keeps."""
    np.save(folder / 'SAR_data_normalized.npy', images)
    np.save(folder / 'labels.npy', np.arange(len(images)) % 2)
    np.save(folder / 'train_idx.npy', np.arange(len(images)))
    dataset = PairedArrays(str(folder))
    return image_profile(dataset, 'sar', band_statistics(dataset, 'sar'))


def is_doubted(image: Images, unit: str, profile: ImageProfile) -> bool:
    """Return whether a tile is unusual or refused when it is classified."""
    try:
        given = find_unit(image, 'auto', unit, 'a.tif')
        values = convert_scale(image, given, unit)
        checked = to_check(image, given, values, unit)
        doubts = check_backscatter(image, *checked, BANDS)
    except UnitError:
        return True
    return bool(doubts or doubt_values(values[None], BANDS, profile))


def doubted(
    images: Images,
    blocks: NDArray[np.int64],
    profiles: list[ImageProfile],
    unit: str = 'dB',
) -> float:
    """Return the share in percent of the tiles that profiles of the others doubt."""
    pairs = zip(images, blocks, strict=True)
    return 100 * float(np.mean([is_doubted(i, unit, profiles[b]) for i, b in pairs]))


@pytest.fixture
def flood_tiles(real_data: Path) -> tuple[Images, NDArray[np.int64]]:
    """Tiles of Sen1Floods11 in dB, and which quarter of the scene each comes from."""
    paths = sorted((real_data / 'sen1floods11_pairs' / 'S1_SAR').glob('*/*.tif'))
    columns = np.array([int(path.stem.rpartition('_')[2]) for path in paths])
    return np.stack([read_image(path) for path in paths]), columns // 128


def test_flood_tiles(
    flood_tiles: tuple[Images, NDArray[np.int64]], tmp_path: Path
) -> None:
    images, blocks = flood_tiles
    profiles = [train(images[blocks != b], tmp_path) for b in range(4)]
    assert doubted(images, blocks, profiles) < 1
    assert doubted(power(images), blocks, profiles) < 1
    for name, (change, least) in ODD.items():
        assert doubted(change(images), blocks, profiles) >= least, name
    assert (assume_unit([*images]), assume_unit([*power(images)])) == ('dB', 'linear')
    profiles = [train(power(images[blocks != b]), tmp_path) for b in range(4)]
    # two tiles of the town are brighter than all in the other quarters
    assert doubted(power(images), blocks, profiles, 'linear') < 1.2
    for name, (change, least) in ODD.items():
        found = doubted(change(images), blocks, profiles, 'linear')
        assert found >= least, name


def test_flood_scenes(
    flood_tiles: tuple[Images, NDArray[np.int64]], real_data: Path, tmp_path: Path
) -> None:
    """A scene of the same sensor is not doubted, but all odd ones are."""
    profile = train(flood_tiles[0], tmp_path)
    [chip] = (real_data / 'sen1floods11_chip').glob('*_S1Hand.tif')
    bands = [read_image(real_data / 's1_scene' / f'{band}.tif') for band in BANDS]
    for scene in (read_image(chip), np.concatenate(bands)):
        windows = scene.reshape(2, 16, 32, 16, 32).transpose(1, 3, 0, 2, 4)
        windows = windows.reshape(256, 2, 32, 32)
        assert check_backscatter(scene, scene, 'dB', BANDS) == []
        assert doubt_values(windows, BANDS, profile) == []
        # the same in linear power is not odd
        for change in (power, *(change for change, _ in ODD.values())):
            raw = change(windows).swapaxes(0, 1)
            try:
                given = find_unit(raw, 'auto', 'dB', 'a.tif')
                values = convert_scale(raw, given, 'dB')
                doubts = check_backscatter(raw, values, 'dB', BANDS)
            except UnitError:
                continue
            doubts += doubt_values(values.swapaxes(0, 1), BANDS, profile)
            assert bool(doubts) == (change is not power)


@pytest.mark.parametrize(
    ('name', 'part'), [('volkov_pairs', 'fold'), ('ombria_pairs', 'event')]
)
def test_grey_tiles(real_data: Path, tmp_path: Path, name: str, part: str) -> None:
    with (real_data / name / 'index.csv').open() as file:
        rows = [*csv.DictReader(file)][::10]
    folder = real_data / name / 'S1'
    images = np.stack([read_image(folder / r['class'] / r['file']) for r in rows])
    parts = np.array([row[part] for row in rows])
    assert looks_like_sar('s1', ('B1',))
    assert assume_unit([*images]) == 'unknown'
    unusual = []
    for one in np.unique(parts):
        profile = train(images[parts != one], tmp_path)
        for image in images[parts == one]:
            assert check_backscatter(image, image, 'unknown', ('B1',)) == []
            unusual.append(bool(doubt_values(image[None], ('B1',), profile)))
    assert np.mean(unusual) < 0.01

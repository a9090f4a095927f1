# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Tests of the simulated Sentinel-2 and Sentinel-1 tiles."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from torchgeo.datamodules.eurosat import MEAN, STD
from torchgeo.datasets import EuroSAT

from tests.fakes import EUROSAT_CLASSES
from torchgeo_discomkd.datasets.simulation import (
    simulate,
    simulate_scene,
    simulate_tile,
)
from torchgeo_discomkd.datasets.simulation.materials import (
    MATERIALS,
    MS_BANDS,
    SAR_BANDS,
    SPECTRA,
)
from torchgeo_discomkd.datasets.simulation.sensors import speckle
from torchgeo_discomkd.errors import LabelError, TileSizeError

TILES = 20

type Tiles = dict[str, tuple[NDArray[np.uint16], NDArray[np.float32]]]


@pytest.fixture(scope='module')
def tiles() -> Tiles:
    """Twenty tiles of each class: (20, 13, 64, 64) and (20, 2, 64, 64)."""
    drawn = {}
    for label, name in enumerate(EUROSAT_CLASSES):
        pairs = [
            simulate_tile(name, np.random.default_rng([7, label, n]))
            for n in range(TILES)
        ]
        ms, sar = zip(*pairs, strict=True)
        drawn[name] = np.stack(ms), np.stack(sar)
    return drawn


def band(name: str) -> int:
    return MS_BANDS.index(name)


def contents(root: Path) -> dict[str, bytes]:
    files = sorted(root.rglob('*.tif'))
    return {str(file.relative_to(root)): file.read_bytes() for file in files}


class TestTile:
    @pytest.mark.parametrize('name', EUROSAT_CLASSES)
    @pytest.mark.parametrize('size', [8, 32, 64])
    def test_shape_dtype_range(self, name: str, size: int) -> None:
        ms, sar = simulate_tile(name, np.random.default_rng(0), size)
        assert ms.shape == (13, size, size)
        assert ms.dtype == np.uint16
        assert sar.shape == (2, size, size)
        assert sar.dtype == np.float32
        assert ms.min() >= 1
        assert ms.max() < 12_000
        assert np.isfinite(sar).all()
        assert sar.min() > -55
        assert sar.max() < 35

    def test_seed_fixes_every_pixel(self) -> None:
        first, again, other = (
            simulate_tile('Highway', np.random.default_rng(seed)) for seed in (3, 3, 4)
        )
        for a, b, c in zip(first, again, other, strict=True):
            np.testing.assert_array_equal(a, b)
            assert (a != c).mean() > 0.5

    def test_stored_statistics(self) -> None:
        # A change here changes every score that was measured on the simulated data.
        ms, sar = simulate_tile('River', np.random.default_rng(1), 32)
        measured = [ms[band('B04')].mean(), ms[band('B08')].mean(), *sar.mean((1, 2))]
        expected = [849.8809, 1786.5537, -7.993650, -14.744553]
        assert measured == pytest.approx(expected, rel=1e-3)

    def test_unknown_class(self) -> None:
        with pytest.raises(LabelError, match=r"'Desert' is not a class.*AnnualCrop"):
            simulate_tile('Desert', np.random.default_rng(0))

    def test_too_small(self) -> None:
        with pytest.raises(TileSizeError, match='size=4'):
            simulate_tile('Forest', np.random.default_rng(0), 4)


class TestStatistics:
    def test_close_to_eurosat(self, tiles: Tiles) -> None:
        ms = np.stack([ms for ms, _ in tiles.values()]).astype(np.float64)
        mean = np.array([MEAN[name] for name in MS_BANDS])
        std = np.array([STD[name] for name in MS_BANDS])
        np.testing.assert_allclose(ms.mean((0, 1, 3, 4)), mean, rtol=0.15)
        np.testing.assert_allclose(ms.std((0, 1, 3, 4)), std, rtol=0.35)

    def test_close_to_eurosat_sar(self, tiles: Tiles) -> None:
        sar = np.stack([sar for _, sar in tiles.values()])
        np.testing.assert_allclose(sar.mean((0, 1, 3, 4)), [-11.66, -18.50], atol=1)
        np.testing.assert_allclose(sar.std((0, 1, 3, 4)), [6.09, 6.19], rtol=0.3)

    def test_class_means_of_vv(self, tiles: Tiles) -> None:
        published = {
            'SeaLake': -20.0,
            'AnnualCrop': -11.7,
            'Highway': -10.7,
            'Forest': -9.3,
            'Residential': -8.2,
            'Industrial': -7.0,
        }
        means = [float(tiles[name][1][:, 0].mean()) for name in published]
        assert means == sorted(means)
        assert means == pytest.approx(list(published.values()), abs=2)

    def test_vh_below_vv(self, tiles: Tiles) -> None:
        for _, sar in tiles.values():
            assert 4 < (sar[:, 0] - sar[:, 1]).mean() < 10

    def test_red_edge(self, tiles: Tiles) -> None:
        def ndvi(name: str) -> NDArray[np.float64]:
            ms = tiles[name][0].astype(np.float64)
            red, nir = ms[:, band('B04')], ms[:, band('B08')]
            return ((nir - red) / (nir + red)).mean((1, 2))

        assert ndvi('Forest').min() > 0.4
        assert np.median(ndvi('SeaLake')) < 0
        assert ndvi('Forest').mean() > ndvi('HerbaceousVegetation').mean()

    def test_bands_are_in_the_order_of_the_files(self, tiles: Tiles) -> None:
        assert list(MS_BANDS) == list(EuroSAT.all_band_names)
        forest = tiles['Forest'][0].mean((0, 2, 3))
        assert forest[band('B10')] < 25
        assert forest[band('B10')] == forest.min()
        assert forest[band('B8A')] > forest[band('B08')] > 3 * forest[band('B04')]

    def test_coarse_bands_are_smoother(self, tiles: Tiles) -> None:
        ms = tiles['Residential'][0].astype(np.float64)
        detail = abs(np.diff(ms)).mean((0, 2, 3)) / ms.std((2, 3)).mean(0)
        assert detail[band('B04')] > 1.3 * detail[band('B05')]
        assert detail[band('B05')] > 2 * detail[band('B01')]

    def test_buildings_are_bright_targets(self, tiles: Tiles) -> None:
        def bright(name: str) -> float:
            return float((tiles[name][1][:, 0] > 3).mean())

        assert bright('Industrial') > 0.03
        assert bright('Residential') > bright('PermanentCrop')
        assert bright('Pasture') < 1e-3


class TestSpeckle:
    @pytest.mark.parametrize('correlation', [0, 0.7])
    def test_equivalent_number_of_looks(self, correlation: float) -> None:
        field = speckle(512, np.random.default_rng(0), correlation)
        assert field.mean() == pytest.approx(1, rel=0.01)
        assert field.mean() ** 2 / field.var() == pytest.approx(4.4, rel=0.03)

    def test_correlation(self) -> None:
        for correlation, low, high in ((0.0, -0.02, 0.02), (0.7, 0.2, 0.5)):
            field = speckle(256, np.random.default_rng(0), correlation)
            neighbours = field[:, 1:].ravel(), field[:, :-1].ravel()
            assert low < np.corrcoef(*neighbours)[0, 1] < high

    def test_open_water(self, tiles: Tiles) -> None:
        power = 10 ** (tiles['SeaLake'][1] / 10)
        looks = power.mean((2, 3)) ** 2 / power.var((2, 3))
        assert np.median(looks) == pytest.approx(4.4, rel=0.08)


class TestLayout:
    def test_sensors_share_the_layout(self, tiles: Tiles) -> None:
        ms, sar = tiles['River']
        nir, vv = ms[:, band('B08')].astype(np.float64), sar[:, 0].astype(np.float64)

        def correlation(a: NDArray, b: NDArray) -> float:
            pairs = zip(a, b, strict=True)
            return float(
                np.mean([np.corrcoef(x.ravel(), y.ravel())[0, 1] for x, y in pairs])
            )

        assert correlation(nir, vv) > 0.35
        assert abs(correlation(nir, np.roll(vv, 1, axis=0))) < 0.2

    def test_edges_coincide(self, tiles: Tiles) -> None:
        ms, sar = tiles['River']
        # River tiles: water is where the near infrared is dark.
        water = ms[:, band('B11')] < 500
        shore = np.zeros_like(water)
        shore[:, :, 1:] = water[:, :, 1:] != water[:, :, :-1]
        step = abs(sar[:, 0, :, 2:] - sar[:, 0, :, :-2])
        at_shore = shore[:, :, 1:-1]
        assert step[at_shore].mean() > 1.4 * step[~at_shore].mean()

    def test_materials_name_known_spectra(self) -> None:
        assert len({len(spectrum) for spectrum in SPECTRA.values()}) == 1
        for material in MATERIALS.values():
            assert {material.start, material.end} <= set(SPECTRA)
            assert 0 <= material.low < material.high <= 1


class TestFiles:
    def test_layout_and_georeference(self, tmp_path: Path) -> None:
        simulate(tmp_path, tiles_per_class=2, size=16)
        files = contents(tmp_path)
        assert len(files) == 40
        zones, eastings = set(), set()
        for name in EUROSAT_CLASSES:
            for n in (1, 2):
                ms_path = tmp_path / 'EuroSAT_MS' / name / f'{name}_{n}.tif'
                sar_path = tmp_path / 'EuroSAT-SAR' / name / f'{name}_{n}.tif'
                with rasterio.open(ms_path) as ms, rasterio.open(sar_path) as sar:
                    assert ms.dtypes == ('uint16',) * 13
                    assert sar.dtypes == ('float32',) * 2
                    assert ms.shape == sar.shape == (16, 16)
                    assert ms.descriptions == MS_BANDS
                    assert sar.descriptions == SAR_BANDS == ('VV', 'VH')
                    assert ms.crs == sar.crs
                    assert ms.transform == sar.transform
                    assert ms.res == (10, 10)
                    for file in (ms, sar):
                        description = file.tags()['TIFFTAG_IMAGEDESCRIPTION']
                        assert 'simulated' in description
                    zones.add(ms.crs.to_epsg())
                    eastings.add(ms.transform.c)
        assert zones <= set(range(32630, 32635))
        assert len(zones) >= 3
        assert len(eastings) == 20

    def test_files_hold_what_the_seed_draws(self, tmp_path: Path) -> None:
        simulate(tmp_path / 'a', tiles_per_class=1, size=16, seed=5)
        simulate(tmp_path / 'b', tiles_per_class=2, size=16, seed=5)
        simulate(tmp_path / 'c', tiles_per_class=1, size=16, seed=6)
        a, b, c = (contents(tmp_path / name) for name in 'abc')
        assert len(b) == 2 * len(a)
        assert a == {key: value for key, value in b.items() if key in a}
        assert a.keys() == c.keys()
        assert all(a[key] != c[key] for key in a)


def test_scene_is_a_patchwork_of_the_classes_that_it_names(tmp_path: Path) -> None:
    simulate_scene(tmp_path, size=16, seed=3)
    with rasterio.open(tmp_path / 'scene/sar.tif') as file:
        scene, crs, descriptions = file.read(), file.crs, file.descriptions
        transform = file.transform
    with rasterio.open(tmp_path / 'scene/classes.tif') as file:
        [truth] = file.read()
        assert (file.crs, file.transform) == (crs, transform)
    assert descriptions == ('VV', 'VH')
    assert scene.shape == (2, 192, 192) == (2, *truth.shape)
    blocks = truth.reshape(6, 32, 6, 32)
    assert (blocks == blocks[:, :1, :, :1]).all()
    assert set(np.unique(truth)) == set(range(1, 11))
    # calm water is darker than built-up land
    names = sorted(EUROSAT_CLASSES)
    mean = {n: scene[0][truth == i].mean() for i, n in enumerate(names, 1)}
    assert mean['SeaLake'] < mean['Industrial'] - 5
    simulate_scene(tmp_path / 'again', size=16, seed=3)
    again = (tmp_path / 'again/scene/sar.tif').read_bytes()
    assert again == (tmp_path / 'scene/sar.tif').read_bytes()

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from shapely import box
from torch.utils.data import DataLoader

from tests.fakes import write_tile
from torchgeo_discomkd.datasets import SARTiles
from torchgeo_discomkd.errors import LayoutError, TileSizeError
from torchgeo_discomkd.rasters import ImageFiles
from torchgeo_discomkd.rasters.tiles import TileSpec, read_tile

SPEC = TileSpec(bands=('VV', 'VH'), unit='dB', size=None)
SMALL = replace(SPEC, size=(8, 8))


def backscatter(height: int, width: int, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return rng.normal(-12, 1, (2, height, width)).astype(np.float32)


def test_sample(tmp_path: Path) -> None:
    values = backscatter(8, 10)
    values[0, 2, 3] = np.inf
    path = tmp_path / 'deep' / 'tile.tif'
    write_tile(path, values, crs='EPSG:32631')
    (sample,) = SARTiles(tmp_path, replace(SPEC, crs='EPSG:32631'))
    windows = sample['image_sar']
    assert windows.dtype == torch.float32
    values[0, 2, 3] = np.nan
    np.testing.assert_array_equal(windows.numpy(), values[np.newaxis])
    assert sample['index'].dtype == torch.int64
    assert sample['index'].shape == ()
    assert sample['path'] == str(path)
    assert sample['status'] == 'ok'
    assert sample['footprint'].equals(box(5e5, 4e6 - 80, 5e5 + 100, 4e6))
    assert set(sample) == {
        *('image_sar', 'index', 'path', 'status', 'footprint', 'unusual', 'reading')
    }


def test_bands_and_scale(tmp_path: Path) -> None:
    values = backscatter(8, 8)
    power = 10 ** (values[::-1] / 10)
    write_tile(tmp_path / 'named.tif', power, descriptions=['VH', 'VV'])
    (sample,) = SARTiles(tmp_path / 'named.tif', SPEC)
    np.testing.assert_allclose(sample['image_sar'][0].numpy(), values, atol=1e-4)
    write_tile(tmp_path / 'three.tif', np.concatenate([values, values[:1] - 5]))
    (sample,) = SARTiles([tmp_path / 'three.tif'], replace(SPEC, override=('3', '1')))
    expected = np.stack([values[0] - 5, values[0]])
    np.testing.assert_array_equal(sample['image_sar'][0].numpy(), expected)
    for band, image in zip(('VV', 'VH'), values, strict=True):
        write_tile(tmp_path / 'apart' / f'scene_{band}.tif', image[None])
    spec = replace(SPEC, unit='linear', scale='db')
    (sample,) = SARTiles(str(tmp_path / 'apart'), spec)
    np.testing.assert_allclose(sample['image_sar'][0], 10 ** (values / 10), rtol=1e-5)
    # any modality and unit
    write_tile(tmp_path / 'ms.tif', np.full((3, 8, 8), 1000, np.uint16))
    spec = TileSpec(('B04', 'B03', 'B02'), 'DN', None)
    (sample,) = SARTiles(tmp_path / 'ms.tif', spec, 'ms')
    assert (sample['image_ms'] == 1000).all()


def test_tiles_that_cannot_be_classified(tmp_path: Path) -> None:
    write_tile(tmp_path / 'a_good.tif', backscatter(8, 8))
    (tmp_path / 'b_broken.tif').write_bytes(b'nothing')
    write_tile(tmp_path / 'c_nodata.tif', np.zeros((2, 8, 8), np.float32), nodata=0)
    write_tile(tmp_path / 'd_one_band.tif', backscatter(8, 8)[:1])
    write_tile(tmp_path / 'e_linear.tif', np.ones((2, 8, 8), np.float32))
    write_tile(tmp_path / 'f_gone.tif', backscatter(8, 8))
    dataset = SARTiles(tmp_path / '*.tif', replace(SMALL, scale='db'))
    (tmp_path / 'f_gone.tif').unlink()
    samples = list(dataset)
    words = [sample['status'].partition(':')[0] for sample in samples]
    assert words == ['ok', 'unreadable', 'nodata', 'bands', 'unit', 'unreadable']
    for sample in samples[1:]:
        assert sample['image_sar'].shape == (0, 2, 8, 8)
        assert sample['footprint'] is None
    batch = dataset.collate(samples)
    assert batch['image_sar'].shape == (1, 2, 8, 8)
    assert batch['windows'].tolist() == [1, 0, 0, 0, 0, 0]
    assert batch['status'] == [s['status'] for s in samples]
    # also where there is nothing else
    assert dataset.collate(samples[1:])['image_sar'].shape == (0, 2, 8, 8)


@pytest.mark.parametrize('workers', [0, 2])
def test_batches_of_tiles_of_any_size(workers: int, tmp_path: Path) -> None:
    shapes = [(8, 8), (6, 8), (9, 10), (16, 16), (8, 8)]
    values = [backscatter(*shape, seed) for seed, shape in enumerate(shapes)]
    # the upper left quarter of the large one and all of the last one are missing
    values[3][:, :8, :8] = np.nan
    values[4][:] = np.nan
    for number, image in enumerate(values):
        write_tile(tmp_path / f'{number}.tif', image, crs='EPSG:32631')
    dataset = SARTiles(tmp_path, SMALL)
    loader = DataLoader(
        dataset, batch_size=5, num_workers=workers, collate_fn=dataset.collate
    )
    (batch,) = loader
    images = batch['image_sar'].numpy()
    assert batch['index'].tolist() == [0, 1, 2, 3, 4]
    assert batch['windows'].tolist() == [1, 1, 1, 3, 0]
    assert [Path(path).stem for path in batch['path']] == ['0', '1', '2', '3', '4']
    assert batch['status'] == ['ok', *['mixed_size'] * 3, 'nodata']
    assert all(outline.bounds[0] == pytest.approx(3) for outline in batch['footprint'])
    np.testing.assert_array_equal(images[0], values[0])
    np.testing.assert_array_equal(images[1][:, :6], values[1])
    assert np.isnan(images[1][:, 6:]).all()
    np.testing.assert_array_equal(images[2], values[2][:, :8, 1:9])
    windows = [values[3][:, :8, 8:], values[3][:, 8:, :8], values[3][:, 8:, 8:]]
    np.testing.assert_array_equal(images[3:], windows)


def test_samples_are_what_classify_reads(tmp_path: Path) -> None:
    values = backscatter(20, 9)
    values[0, :10, :5] = np.nan
    write_tile(tmp_path / 'tile.tif', 10 ** (values / 10), crs='EPSG:32760')
    tile = read_tile(ImageFiles((str(tmp_path / 'tile.tif'),)), SMALL)
    (sample,) = SARTiles(tmp_path, SMALL)
    np.testing.assert_array_equal(sample['image_sar'].numpy(), tile.windows)
    assert sample['status'] == tile.status == 'mixed_size'
    assert sample['footprint'] == tile.footprint


def test_without_a_size(tmp_path: Path) -> None:
    (tmp_path / 'a.tif').write_bytes(b'')
    write_tile(tmp_path / 'b.tif', backscatter(9, 7))
    dataset = SARTiles(tmp_path, SPEC)
    batch = dataset.collate(list(dataset))
    assert batch['image_sar'].shape == (1, 2, 9, 7)
    assert batch['status'][1] == 'ok'
    write_tile(tmp_path / 'c.tif', backscatter(8, 8))
    dataset = SARTiles(tmp_path, SPEC)
    with pytest.raises(TileSizeError, match=r'\(8, 8\), \(9, 7\)'):
        dataset.collate(list(dataset))


def test_paths(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match='nowhere'):
        SARTiles(tmp_path / 'nowhere', SPEC)
    with pytest.raises(LayoutError, match=r'no \.tif'):
        SARTiles(tmp_path, SPEC)


def test_share_of_missing_pixels(tmp_path: Path) -> None:
    values = backscatter(8, 8)
    values[1, :4] = np.nan
    write_tile(tmp_path / 'half.tif', values)
    for share, status in ((1, 'ok'), (0.5, 'nodata'), (0.6, 'ok')):
        (sample,) = SARTiles(tmp_path, replace(SPEC, max_nodata=share))
        assert sample['status'] == status


def test_transforms_and_plot(tmp_path: Path) -> None:
    write_tile(tmp_path / 'a.tif', backscatter(8, 16))
    (tmp_path / 'b.tif').write_bytes(b'')
    dataset = SARTiles(tmp_path, SMALL, transforms=lambda sample: sample | {'more': 1})
    for sample in dataset:
        assert sample['more'] == 1
        figure = dataset.plot(sample, suptitle='here')
        assert [axis.get_title() for axis in figure.axes] == ['sar']
        plt.close(figure)

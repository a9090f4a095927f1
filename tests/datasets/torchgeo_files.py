# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Small files in the layouts of TorchGeo's data sets of several sensors.

The mean of an image tells its band: see :func:`expected`.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from torchgeo.datasets import (
    BigEarthNet,
    CopernicusBenchBigEarthNetS2,
    So2Sat,
    TreeSatAI,
)

from tests import fakes
from tests.fakes import EUROSAT_CLASSES

OPTICAL = ('B01', 'B02', 'B03', 'B04', 'B05', 'B06', 'B07', 'B08', 'B8A', 'B09')
OPTICAL_V2 = (*OPTICAL, 'B11', 'B12')

SPLITS = ('train', 'val', 'test')


def expected(modality: str, band: int) -> float:
    """Return the mean of a band, by its position in the published order."""
    return -8.0 - 6 * band if modality == 'sar' else 100.0 * (band + 1)


def image(
    modality: str, bands: int, size: int, rng: np.random.Generator
) -> NDArray[np.generic]:
    """Return dB for 'sar', 8 bits for 'aerial', else 16 bits."""
    means = np.array([expected(modality, band) for band in range(bands)])
    if modality == 'aerial':
        means /= 2
    values = means[:, None, None] + rng.normal(0, 2, (bands, size, size))
    kind = {'sar': np.float32, 'aerial': np.uint8}.get(modality, np.uint16)
    return values.astype(kind)


def write_tile(path: Path, array: NDArray[np.generic]) -> None:
    """Write a GeoTIFF with a place."""
    fakes.write_tile(path, array, crs='EPSG:32631')


def write_bands(
    folder: Path, modality: str, names: Iterable[str], rng: np.random.Generator
) -> None:
    """Write each band of 12x12 pixels into its own file, named by the folder."""
    names = list(names)
    for name, band in zip(names, image(modality, len(names), 12, rng), strict=True):
        write_tile(folder / f'{folder.name}_{name}.tif', band[None])


def write_so2sat(root: Path, version: str = '2', size: int = 8) -> Path:
    """Write So2Sat with three tiles per zone for training, and one otherwise."""
    h5py = pytest.importorskip('h5py')
    rng = np.random.default_rng(0)
    names = So2Sat.filenames_by_version[version]
    for split, name in names.items():
        labels = rng.permutation(np.arange(51 if split == 'train' else 17) % 17)
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, 'w') as file:
            file['label'] = np.eye(17)[labels]
            for key, modality, bands in (('sen1', 'sar', 8), ('sen2', 'ms', 10)):
                images = [image(modality, bands, size, rng) for _ in labels]
                file[key] = np.moveaxis(np.stack(images), 1, -1).astype(float)
    return root


def bigearthnet_names(number: int) -> tuple[str, str]:
    """Return the names of a Sentinel-2 and a Sentinel-1 patch of version 2."""
    return (
        f'S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_{number:02}',
        f'S1A_IW_GRDH_1SDV_20170613T165043_33UUP_26_{number}',
    )


def write_bigearthnet_v1(root: Path) -> Path:
    """Write version 1; patch n of a split has each fourth of the 43 classes, from n."""
    rng = np.random.default_rng(0)
    root.mkdir(parents=True, exist_ok=True)
    number = 0
    for split in SPLITS:
        lines = []
        for n in range(4):
            number += 1
            ms, sar = bigearthnet_names(number)
            lines.append(f'{ms},{sar}')
            text = json.dumps({'labels': BigEarthNet.class_sets[43][n::4]})
            for kind, modality, name, bands in (
                ('s2', 'ms', ms, OPTICAL_V2),
                ('s1', 'sar', sar, ('VV', 'VH')),
            ):
                folder = root / BigEarthNet.metadata[kind]['directory'] / name
                write_bands(folder, modality, bands, rng)
                (folder / f'{name}_labels_metadata.json').write_text(text)
        (root / f'bigearthnet-{split}.csv').write_text('\n'.join(lines))
    return root


def write_bigearthnet_v2(root: Path) -> Path:
    """Write version 2; patch n of a split has each fourth of the 19 classes, from n."""
    rng = np.random.default_rng(0)
    rows = []
    for split in ('train', 'validation', 'test'):
        for n in range(4):
            ms, sar = bigearthnet_names(len(rows))
            labels = BigEarthNet.class_sets[19][n::4]
            rows.append((ms, sar, labels, split))
            folder = root / 'BigEarthNet-S2' / ms.rsplit('_', 2)[0] / ms
            write_bands(folder, 'ms', OPTICAL_V2, rng)
            folder = root / 'BigEarthNet-S1' / sar.rsplit('_', 3)[0] / sar
            write_bands(folder, 'sar', ('VV', 'VH'), rng)
            folder = root / 'Reference_Maps' / ms.rsplit('_', 2)[0] / ms
            cover = np.full((1, 12, 12), 312, np.uint16)
            write_tile(folder / f'{ms}_reference_map.tif', cover)
    table = pd.DataFrame(rows, columns=['patch_id', 's1_name', 'labels', 'split'])
    table.to_parquet(root / 'metadata.parquet')
    return root


def write_sen12ms(root: Path, size: int = 8) -> Path:
    """Write four scenes for training and two for test, with ten tiles each.

    Tile n is all of the n-th class of the simplified scheme.
    """
    rng = np.random.default_rng(0)
    igbp = (4, 7, 8, 10, 11, 14, 13, 15, 16, 17)
    names: dict[str, list[str]] = {'train': [], 'test': []}
    seasons = ('ROIs1158_spring', 'ROIs1868_summer', 'ROIs1970_fall', 'ROIs2017_winter')
    for i, season in enumerate(seasons):
        for split, scene in (('train', i), *([('test', 50)] if i < 2 else [])):
            for n, cover in enumerate(igbp):
                for kind, values in (
                    ('s1', image('sar', 2, size, rng)),
                    ('s2', image('ms', 13, size, rng)),
                    ('lc', np.full((4, size, size), cover, np.uint8)),
                ):
                    name = f'{season}_{kind}_{scene}_p{n}.tif'
                    write_tile(root / season / f'{kind}_{scene}' / name, values)
                names[split].append(f'{season}_s2_{scene}_p{n}.tif')
    for split, lines in names.items():
        (root / f'{split}_list.txt').write_text('\n'.join(lines) + '\n')
    return root


def write_treesatai(root: Path, size: int = 16) -> Path:
    """Write 20 tiles for training and 5 for test; tile n lacks genera n, n + 5, ..."""
    rng = np.random.default_rng(0)
    labels = {}
    for split, count in (('train', 20), ('test', 5)):
        files = [f'Picea_abies_{split}_{n}_WEFL_NLF.tif' for n in range(count)]
        (root / split).parent.mkdir(parents=True, exist_ok=True)
        (root / f'{split}_filenames.lst').write_text('\n'.join(files) + '\n')
        for n, file in enumerate(files):
            genera = [g for i, g in enumerate(TreeSatAI.classes) if i % 5 != n % 5]
            labels[file] = [[genus, 1 / len(genera)] for genus in genera]
            for folder, modality, bands, pixels in (
                ('aerial', 'aerial', 4, size),
                ('s1', 'sar', 3, 6),
                ('s2', 'ms', 12, 6),
            ):
                path = root / folder / '60m' / file
                write_tile(path, image(modality, bands, pixels, rng))
    path = root / 'labels' / 'TreeSatBA_v9_60m_multi_labels.json'
    path.parent.mkdir()
    path.write_text(json.dumps(labels))
    return root


def write_copernicus_eurosat(root: Path, size: int = 8) -> Path:
    """Write two tiles per class for training, and one otherwise."""
    rng = np.random.default_rng(0)
    numbers = {'train': (1, 2), 'val': (3,), 'test': (4,)}
    for directory, modality, bands in (
        ('eurosat_s1', 'sar', 2),
        ('eurosat_s2', 'ms', 13),
    ):
        for split, chosen in numbers.items():
            names = [f'{name}_{n}' for name in EUROSAT_CLASSES for n in chosen]
            for name in names:
                folder = root / directory / 'all_imgs' / name.split('_')[0]
                values = image(modality, bands, size, rng)
                write_tile(folder / f'{name}.tif', values)
            lines = '\n'.join(f'{name}.jpg' for name in names)
            (root / directory / f'eurosat-{split}.txt').write_text(lines)
    return root


def write_copernicus_bigearthnet(root: Path, size: int = 8) -> Path:
    """Write four patches per split; patch n has each fourth class, from n."""
    rng = np.random.default_rng(0)
    classes = CopernicusBenchBigEarthNetS2.classes
    directory, number = root / 'bigearthnet_s1s2', 0
    for split in SPLITS:
        rows = []
        for n in range(4):
            number += 1
            ms, sar = (
                f'{name}/{name}_allbands.tif' for name in bigearthnet_names(number)
            )
            values = image('sar', 2, size, rng)
            write_tile(directory / 'BigEarthNet-S1-5%' / sar, values)
            write_tile(directory / 'BigEarthNet-S2-5%' / ms, image('ms', 12, size, rng))
            rows.append([sar, ms, *(int(i % 4 == n) for i in range(19))])
        table = pd.DataFrame(rows, columns=['s1', 's2', *classes])
        table.to_csv(directory / f'multilabel-{split}.csv', index=False)
    return root

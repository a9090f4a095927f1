# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Writers of tiny data sets with the real names, for the tests."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import from_origin
from torchgeo.datasets import EuroSAT

from torchgeo_discomkd.datasets import PairedFolders, write_pack

#: Shape (C, H, W) of the tiles of each modality.
SHAPES = {'ms': (13, 8, 8), 'sar': (2, 8, 8)}
EUROSAT_CLASSES = (
    'AnnualCrop',
    'Forest',
    'HerbaceousVegetation',
    'Highway',
    'Industrial',
    'Pasture',
    'PermanentCrop',
    'Residential',
    'River',
    'SeaLake',
)


def write_tile(
    path: Path,
    array: NDArray[np.generic],
    nodata: float | None = None,
    crs: str | None = None,
    descriptions: Sequence[str] | None = None,
) -> None:
    """Write an array (C, H, W) as GeoTIFF, PNG, JPEG or NPY, by the suffix of *path*.

    With *crs*, the pixels are 10 units wide and the upper left corner is at
    (500000, 4000000).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = path.suffix.lower()
    if suffix == '.npy':
        np.save(path, array)
        return
    drivers = {'.tif': 'GTiff', '.tiff': 'GTiff', '.png': 'PNG'}
    profile = {
        'driver': drivers.get(suffix, 'JPEG'),
        'count': array.shape[0],
        'height': array.shape[1],
        'width': array.shape[2],
        'dtype': array.dtype,
        'nodata': nodata,
    }
    if crs is not None:
        profile |= {'crs': crs, 'transform': from_origin(5e5, 4e6, 10, 10)}
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', NotGeoreferencedWarning)
        file = rasterio.open(path, 'w', **profile)
    with file:
        file.write(array)
        if descriptions is not None:
            file.descriptions = tuple(descriptions)


def tile(
    modality: str, label: int, rng: np.random.Generator, shape: Sequence[int]
) -> NDArray[np.generic]:
    """Return raw values that tell the class: dB for 'sar', uint16 for all others."""
    if modality == 'sar':
        return rng.normal(-12 - 2 * label, 1, shape).astype(np.float32)
    return rng.normal(1000 + 300 * label, 50, shape).clip(1).astype(np.uint16)


def write_pairs(
    root: Path,
    classes: Sequence[str] = ('Crop', 'Water'),
    count: int = 10,
    shapes: Mapping[str, Sequence[int]] = SHAPES,
    folders: Mapping[str, str] | None = None,
    suffix: str = '.tif',
    crs: str | None = 'EPSG:32631',
    seed: int = 0,
) -> Path:
    """Write ``<root>/<folder>/<Class>/<Class>_<n>.tif`` for every modality of *shapes*.

    A folder has the name of its modality unless *folders* gives another one; n counts
    from 1 to *count*. Returns *root*.
    """
    rng = np.random.default_rng(seed)
    for modality, shape in shapes.items():
        folder = root / (folders or {}).get(modality, modality)
        for label, name in enumerate(classes):
            for number in range(1, count + 1):
                path = folder / name / f'{name}_{number}{suffix}'
                write_tile(path, tile(modality, label, rng, shape), crs=crs)
    return root


def write_eurosat(
    root: Path, count: int = 10, size: int = 8, torchgeo_layout: bool = False
) -> Path:
    """Write EuroSAT and EuroSAT-SAR with *count* tiles per class; return *root*.

    The layout is that of the original releases, or that of TorchGeo's two classes.
    """
    original = {'ms': 'EuroSAT_MS', 'sar': 'EuroSAT-SAR'}
    torchgeo = {'ms': EuroSAT.base_dir, 'sar': 'eurosat_s1/all_imgs'}
    shapes = {'ms': (13, size, size), 'sar': (2, size, size)}
    folders = torchgeo if torchgeo_layout else original
    return write_pairs(root, EUROSAT_CLASSES, count, shapes, folders)


def write_torchgeo_eurosat(root: Path, other: Path) -> None:
    """Write TorchGeo's EuroSAT and its counterpart of Copernicus-Bench, with splits.

    Tile 1 of every class is for training, 2 for validation, 3 for test; EuroSATSpatial
    has them the other way round.
    """
    write_eurosat(root, 3, torchgeo_layout=True)
    (root / 'eurosat_s1').rename(other / 'eurosat_s1')
    for i, split in enumerate(('train', 'val', 'test'), 1):
        for folder, kind, number in (
            (root, 'eurosat', i),
            (root, 'eurosat-spatial', 4 - i),
            (other / 'eurosat_s1', 'eurosat', i),
        ):
            names = [f'{name}_{number}.jpg' for name in EUROSAT_CLASSES]
            (folder / f'{kind}-{split}.txt').write_text('\n'.join(names))


def write_arrays(
    root: Path,
    prefixes: Sequence[str] = ('MS', 'SAR'),
    classes: int = 2,
    count: int = 10,
    size: int = 8,
    run: int | None = None,
    seed: int = 0,
) -> Path:
    """Write the arrays that the released code of DisCoM-KD reads; return *root*.

    Of the *count* samples of every class 60 % are for training, 20 % for validation.
    """
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    labels = np.repeat(np.arange(classes), count)
    for prefix in prefixes:
        bands = {'MS': 13, 'SAR': 2, 'RGB': 3}.get(prefix, 1)
        data = (
            rng.normal(size=(len(labels), bands, size, size))
            + labels[:, None, None, None]
        )
        np.save(root / f'{prefix}_data_normalized.npy', data.astype(np.float32))
    np.save(root / 'labels.npy', labels)
    position = np.tile(np.arange(count), classes) / count
    parts = {
        'train_idx': position < 0.6,
        'valid_idx': (position >= 0.6) & (position < 0.8),
        'test_idx': position >= 0.8,
    }
    for name, chosen in parts.items():
        number = '' if run is None else f'_{run}'
        np.save(root / f'{name}{number}.npy', rng.permutation(np.flatnonzero(chosen)))
    return root


def pack_folders(root: Path, **kwargs: Any) -> Path:
    """Pack the tiles below *root*; return the file next to it."""
    output = root.with_name(f'{root.name}.safetensors')
    write_pack(PairedFolders(str(root), **kwargs), output)
    return output

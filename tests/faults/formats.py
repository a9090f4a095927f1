# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Formats of images, data sets and texts, a small valid file of each, its reader."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import yaml

from tests.export.classifiers import metadata
from tests.fakes import write_pairs, write_tile
from torchgeo_discomkd.benchmark import read_config
from torchgeo_discomkd.classify.scene.reader import open_scene
from torchgeo_discomkd.commands.old_distillation import refuse_old_distillation
from torchgeo_discomkd.commands.pack import _configured
from torchgeo_discomkd.datasets import PairedArrays, PairedFolders
from torchgeo_discomkd.datasets.splits import read_groups
from torchgeo_discomkd.errors import CorruptFileError, UserError
from torchgeo_discomkd.rasters import find_images, read_header, read_image
from torchgeo_discomkd.rasters.finding import ImageFiles
from torchgeo_discomkd.rasters.tiles import TileSpec, read_tile
from torchgeo_discomkd.tables import Combination

SPEC = TileSpec(('VV', 'VH'), 'dB', (16, 16))
PLACE = {'crs': 'EPSG:32633', 'transform': rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)}


@dataclass(frozen=True)
class Format:
    """A format that is read.

    Attributes:
        write: Writes valid files into an empty folder.
        damaged: Pattern of the files that get damaged.
        read: Reads what is in the folder, given the damaged file, as commands do.
        command: Arguments of a command that reads it, given a classifier file, the
            damaged file and an output without a suffix; None if none is quick enough.
    """

    write: Callable[[Path], object]
    damaged: str
    read: Callable[[Path], object]
    command: Callable[[Path, Path, Path], Sequence[Any]] | None = None


def _image(bands: int = 2, size: int = 16) -> np.ndarray[Any, np.dtype[np.float32]]:
    rng = np.random.default_rng(0)
    return rng.normal(-12, 2, (bands, size, size)).astype(np.float32)


def _tiff(**options: Any) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        image = _image(size=options.pop('size', 16)).astype(options.get('dtype', 'f4'))
        profile: dict[str, Any] = {'driver': 'GTiff', 'dtype': image.dtype, **PLACE}
        shape = dict(zip(('count', 'height', 'width'), image.shape, strict=True))
        path = folder / 'a.tif'
        with rasterio.open(path, 'w', **shape | profile | options) as file:
            file.write(image)
            if file.driver == 'GTiff':
                file.descriptions = ('VV', 'VH')
                file.update_tags(TIFFTAG_DATETIME='2024:01:01 00:00:00')

    return write


def _with_sidecars(folder: Path) -> None:
    write_tile(folder / 'a.tif', _image(), descriptions=('VV', 'VH'))
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False, TIFF_USE_OVR=True),
        rasterio.open(folder / 'a.tif', 'r+') as file,
    ):
        file.write_mask(np.ones((16, 16), bool))
        file.build_overviews([2])
    (folder / 'a.tif.aux.xml').write_text(
        '<PAMDataset><Metadata><MDI key="A">b</MDI></Metadata>'
        '<PAMRasterBand band="1"><Scale>0.5</Scale></PAMRasterBand></PAMDataset>'
    )
    (folder / 'a.tfw').write_text('10\n0\n0\n-10\n500005\n4999995\n')


def _grey(name: str) -> Callable[[Path], None]:
    grey = np.clip(_image(3) * 5 + 160, 0, 255).astype(np.uint8)
    return lambda folder: write_tile(folder / name, grey)


def read_as_all(image: ImageFiles, spec: TileSpec = SPEC) -> None:
    """Read an image as tile, as scene and for training.

    Args:
        image: Its file.
        spec: What a classifier expects.
    """
    errors: list[UserError] = []
    tile = read_tile(image, spec)
    if tile.windows is None:
        errors.append(CorruptFileError(tile.status))
    for read in (partial(_read_scene, spec=spec), read_header, read_image):
        try:
            read(image.paths[0])
        except UserError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def _read_image(path: Path, spec: TileSpec = SPEC) -> None:
    image = next(p for p in path.parent.iterdir() if p.suffix in IMAGES)
    read_as_all(ImageFiles((str(image),)), spec)


def _read_scene(path: str, spec: TileSpec) -> None:
    if path.endswith('.npy'):
        return
    with open_scene(ImageFiles((path,)), spec) as scene:
        # one is a tile with a size that somebody invented
        if scene.grid.height * scene.grid.width < 2**24:
            scene.sample()


_read_grey = partial(_read_image, spec=TileSpec(('B1', 'B2', 'B3'), '', (16, 16)))


def classify_folder(model: Path, path: Path, output: Path) -> Sequence[Any]:
    """Return the command that classifies the images of a folder."""
    return 'classify', model, path.parent, '--output', output.with_suffix('.csv')


def _classify_list(model: Path, path: Path, output: Path) -> Sequence[Any]:
    return 'classify', model, path, '--output', output.with_suffix('.csv')


def _pack(root: Path, output: Path, module: str) -> Sequence[Any]:
    data = '--data', f'Paired{module}DataModule', '--data.root', root
    return 'pack', *data, '--output', output.with_suffix('.safetensors')


def _pack_pairs(model: Path, path: Path, output: Path) -> Sequence[Any]:
    root = next(p for p in path.parents if p.name == 'pairs')
    return _pack(root, output, 'Folders')


def _pack_arrays(model: Path, path: Path, output: Path) -> Sequence[Any]:
    return _pack(path.parent, output, 'Arrays')


def _benchmark(model: Path, path: Path, output: Path) -> Sequence[Any]:
    return 'benchmark', path, '--results', output


def _combination(folder: Path) -> None:
    weights = Combination({('ms', 'sar'): (0.75, 0.5)})
    weights.write(folder / 'combination.json', {'ms': metadata(), 'sar': metadata()})


def _read_combination(path: Path) -> None:
    Combination.read(path, {'ms': metadata(), 'sar': metadata()})


def _pairs(folder: Path) -> Path:
    return write_pairs(folder / 'pairs', count=15)


def _read_pairs(path: Path) -> None:
    root = next(p for p in (path, *path.parents) if p.name == 'pairs')
    dataset = PairedFolders(str(root))
    for index in range(len(dataset)):
        dataset[index]


def _arrays(folder: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(folder / 'SAR_data_normalized.npy', rng.normal(size=(6, 2, 4, 4)))
    np.save(folder / 'labels.npy', [0, 1, 0, 1, 0, 1])
    np.save(folder / 'train_idx.npy', [0, 1, 2, 3])
    np.save(folder / 'valid_idx.npy', [4, 5])


def _read_arrays(path: Path) -> None:
    dataset = PairedArrays(str(path.parent))
    dataset[0]


def _groups(folder: Path) -> None:
    rows = [f'Forêt/Forêt_{i}.tif,Zürich {i % 3}' for i in range(9)]
    (folder / 'groups.csv').write_text('\n'.join(['file,event', *rows]))


def _read_groups(path: Path) -> None:
    keys = [('Forêt', f'Forêt_{i}') for i in range(9)]
    read_groups(path.read_bytes(), str(path), 'event', keys)


def _list(folder: Path) -> None:
    for name in ('a.tif', 'é.tif'):
        write_tile(folder / name, _image())
    # no slash: what is left of such a path may be the root of all files
    (folder / 'list.txt').write_text('# tiles\na.tif\né.tif\n')


CONFIG: Mapping[str, Any] = {
    'results': 'runs/mine',
    'in_channels': {'ms': 13, 'sar': 2},
    'num_classes': 3,
    'data': {'class_path': 'PairedFoldersDataModule', 'init_args': {'root': 'é'}},
}


def _yaml(folder: Path) -> None:
    (folder / 'a.yaml').write_text(yaml.safe_dump(CONFIG, allow_unicode=True))


def _read_yaml(path: Path) -> None:
    refuse_old_distillation(['fit', '--config', str(path)])
    _configured(path)
    read_config(path)


IMAGES = ('.tif', '.png', '.jpg', '.npy')
DEFLATE = {'compress': 'deflate', 'predictor': 2, 'tiled': True}

#: Formats whose readers are to refuse any damage with an error for the user.
FORMATS = {
    'tif': Format(_tiff(), '*.tif', _read_image, classify_folder),
    'tif deflate': Format(
        _tiff(size=64, **DEFLATE), '*.tif', _read_image, classify_folder
    ),
    'tif lzw': Format(
        _tiff(compress='lzw', dtype='int16'), '*.tif', _read_image, classify_folder
    ),
    'tif zstd': Format(_tiff(compress='zstd'), '*.tif', _read_image, classify_folder),
    'cog': Format(_tiff(driver='COG', size=64), '*.tif', _read_image, classify_folder),
    'sidecars': Format(_with_sidecars, 'a.t*[!f]*', _read_image, classify_folder),
    'png': Format(_grey('a.png'), '*.png', _read_grey, classify_folder),
    'jpg': Format(_grey('a.jpg'), '*.jpg', _read_grey, classify_folder),
    'npy': Format(
        lambda d: np.save(d / 'a.npy', _image()), '*.npy', _read_image, classify_folder
    ),
    'folders': Format(_pairs, 'pairs/*/*/*1.tif', _read_pairs, _pack_pairs),
    'arrays': Format(_arrays, '*.npy', _read_arrays, _pack_arrays),
    'combination': Format(_combination, '*.json', _read_combination),
    'groups': Format(_groups, '*.csv', _read_groups),
    'list': Format(_list, '*.txt', lambda path: find_images([path]), _classify_list),
    'yaml': Format(_yaml, '*.yaml', _read_yaml, _benchmark),
}

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from safetensors import safe_open
from torch import Tensor

from tests.fakes import pack_folders, write_pairs, write_tile
from torchgeo_discomkd.datasets import MultiModalDataset, PairedFolders, write_pack
from torchgeo_discomkd.errors import (
    BandError,
    CorruptFileError,
    MissingValueError,
    OutputError,
    OutputExistsError,
    OutputInUseError,
    PackError,
    SettingError,
    TileSizeError,
)
from torchgeo_discomkd.files import only_writer

from .conftest import assert_same


def test_values_are_those_of_the_files_in_their_type(pairs: Path) -> None:
    packed = pack_folders(pairs)
    with safe_open(packed, framework='np') as file:
        assert file.get_slice('image.ms').get_dtype() == 'U16'
        assert file.get_slice('image.sar').get_dtype() == 'F32'
        paths = json.loads(file.get_tensor('path.ms').tobytes())
        images = file.get_tensor('image.ms')
    assert len(paths) == len(images) == 40
    for path, image in zip(paths, images, strict=True):
        with rasterio.open(pairs / path) as tile:
            assert np.array_equal(tile.read(), image)


def test_missing_pixels_need_a_wider_type(tmp_path: Path) -> None:
    root = write_pairs(tmp_path / 'pairs', count=20)
    array = np.full((13, 8, 8), 7, np.uint16)
    array[2, 1, 1] = 0
    write_tile(root / 'ms' / 'Crop' / 'Crop_3.tif', array, nodata=0)
    packed = pack_folders(root)
    with safe_open(packed, framework='np') as file:
        assert file.get_slice('image.ms').get_dtype() == 'F32'
    for split in ('train', 'val', 'test'):
        assert_same(PairedFolders(str(packed), split), PairedFolders(str(root), split))
    with pytest.raises(MissingValueError, match='Crop_3'):
        for split in ('train', 'val', 'test'):
            dataset = PairedFolders(str(packed), split, missing_values='error')
            dataset.__getitems__(range(len(dataset)))


@pytest.mark.parametrize(
    ('dtype', 'kept'),
    [
        ('float16', 'F16'),
        ('float64', 'F32'),
        ('uint8', 'U8'),
        ('int32', 'F32'),
        ('>u2', 'U16'),
        ('>f4', 'F32'),
    ],
)
def test_types_of_arrays(tmp_path: Path, dtype: str, kept: str) -> None:
    rng = np.random.default_rng(0)
    for name in ('Crop', 'Water'):
        for number in range(10):
            array = (rng.random((3, 8, 8)) * 200).astype(dtype)
            write_tile(tmp_path / 'x' / 'rgb' / name / f'{number}.npy', array)
    packed = pack_folders(tmp_path / 'x')
    with safe_open(packed, framework='np') as file:
        assert file.get_slice('image.rgb').get_dtype() == kept
    assert_same(PairedFolders(str(packed)), PairedFolders(str(tmp_path / 'x')))


def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path) -> None:
    root = write_pairs(tmp_path / 'pairs', count=70, crs=None)
    last = root / 'sar' / 'Water' / 'Water_8.tif'
    content = last.read_bytes()
    # the fingerprint covers sizes and every ninth file: damaged, not shortened
    last.write_bytes(b'\0' * len(content))
    dataset = PairedFolders(str(root))
    output = tmp_path / 'pairs.safetensors'
    with pytest.raises(CorruptFileError, match='Water_8'):
        write_pack(dataset, output, workers=1)
    assert not output.exists()
    last.write_bytes(content)
    partial = tmp_path / 'pairs.partial.safetensors'
    with pytest.raises(PackError, match='is not a pack'):
        PairedFolders(str(partial))
    zeros = bytes(13 * 8 * 8 * 2)
    overwrite(partial, 'image.ms', zeros)
    overwrite(partial, 'crc32.ms', zlib.crc32(zeros).to_bytes(4, 'little'))
    write_pack(dataset, output, workers=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'pairs',
        'pairs.safetensors',
    ]
    with safe_open(output, framework='np') as file:
        images = file.get_tensor('image.ms')
    # what was there is not read again, all that was not is there now
    assert not images[0].any()
    assert images[1:].all()


def overwrite(path: Path, key: str, data: bytes) -> None:
    """Change the first bytes of a tensor."""
    with path.open('r+b') as file:
        length = int.from_bytes(file.read(8), 'little')
        first, _ = json.loads(file.read(length))[key]['data_offsets']
        file.seek(8 + length + first)
        file.write(data)


def test_damage_to_what_a_stopped_run_left(pairs: Path, tmp_path: Path) -> None:
    # none whose content is part of the fingerprint
    last = pairs / 'sar' / 'Water' / 'Water_7.tif'
    content = last.read_bytes()
    last.write_bytes(b'\0' * len(content))
    dataset, output = PairedFolders(str(pairs)), tmp_path / 'a.safetensors'
    with pytest.raises(CorruptFileError, match='Water_7'):
        write_pack(dataset, output, workers=1)
    last.write_bytes(content)
    overwrite(tmp_path / 'a.partial.safetensors', 'image.ms', bytes(40 * 13 * 8 * 8))
    with pytest.raises(OutputError, match=r'has been discarded .* Repeat the command'):
        write_pack(dataset, output, workers=1)
    assert not output.exists()
    write_pack(dataset, output, workers=1)
    assert_same(PairedFolders(str(output)), dataset)


@pytest.mark.slow
def test_a_stopped_run_remembers_wider_types(tmp_path: Path) -> None:
    root = write_pairs(tmp_path / 'pairs', count=150, crs=None)
    array = np.full((13, 8, 8), 7, np.uint16)
    array[2, 1, 1] = 0
    write_tile(root / 'ms' / 'Water' / 'Water_70.tif', array, nodata=0)
    last = root / 'sar' / 'Water' / 'Water_83.tif'
    content = last.read_bytes()
    last.write_bytes(b'\0' * len(content))
    dataset = PairedFolders(str(root))
    output = tmp_path / 'pairs.safetensors'
    with pytest.raises(CorruptFileError, match='Water_83'):
        write_pack(dataset, output, workers=3)
    listed = (tmp_path / 'pairs.partial.jsonl').read_text()
    assert json.loads(listed.splitlines()[0])['widened'] == ['ms']
    assert listed.count('ms ') == 5
    last.write_bytes(content)
    # what a kill leaves
    (tmp_path / 'pairs.partial.jsonl').write_text(listed + '{"pie')
    partial = tmp_path / 'pairs.partial.safetensors'
    inode = partial.stat().st_ino
    write_pack(dataset, output, workers=3)
    assert output.stat().st_ino == inode
    for split in ('train', 'val', 'test'):
        assert_same(PairedFolders(str(output), split), PairedFolders(str(root), split))


def test_outputs_that_are_refused(pairs: Path, tmp_path: Path) -> None:
    dataset = PairedFolders(str(pairs))
    packed = pack_folders(pairs)
    content = packed.read_bytes()
    with pytest.raises(OutputExistsError, match='--overwrite'):
        write_pack(dataset, packed)
    assert packed.read_bytes() == content
    with pytest.raises(SettingError, match=r'must end in \.safetensors'):
        write_pack(dataset, tmp_path / 'x.npy')
    with pytest.raises(SettingError, match='workers=0'):
        write_pack(dataset, tmp_path / 'x.safetensors', workers=0)
    with pytest.raises(SettingError, match='is a pack already'):
        write_pack(PairedFolders(str(packed)), tmp_path / 'x.safetensors')
    assert not list(tmp_path.glob('x.*'))


def test_one_process_at_a_time_writes_a_pack(pairs: Path, tmp_path: Path) -> None:
    dataset, output = PairedFolders(str(pairs)), tmp_path / 'x.safetensors'
    with (
        only_writer(output),
        pytest.raises(OutputInUseError, match='being written by another process'),
    ):
        write_pack(dataset, output)
    assert not output.exists()
    write_pack(dataset, output)
    files = [path.name for path in tmp_path.iterdir() if path.is_file()]
    assert files == [output.name]


def test_tiles_of_two_sizes_are_refused(tmp_path: Path) -> None:
    root = write_pairs(tmp_path / 'pairs')
    array = np.zeros((13, 6, 6), np.uint16)
    write_tile(root / 'ms' / 'Crop' / 'Crop_4.tif', array)
    with pytest.raises(TileSizeError, match='Crop_4'):
        pack_folders(root)


class Constant(MultiModalDataset):
    """A data set whose images are not in a store."""

    root = 'nowhere'

    def load(self, index: int, modality: str) -> Tensor:
        return torch.zeros(1, 2, 2)

    def identifier(self, index: int) -> str:
        return f'A/{index}'

    def fingerprint(self) -> str:
        return '0'


def test_other_data_sets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match='Constant is not a StoredDataset'):
        write_pack(Constant(), tmp_path / 'x.safetensors')


def test_all_files_of_a_modality_that_samples_lack_have_one_order(
    tmp_path: Path,
) -> None:
    root = write_pairs(tmp_path / 'pairs', count=10, shapes={'sar': (2, 4, 4)})
    array = np.ones((2, 4, 4), np.float32)
    for number in range(1, 11):
        for name in ('Crop', 'Water'):
            order = ['VH', 'VV'] if (name, number) == ('Water', 7) else ['VV', 'VH']
            path = root / 'extra' / name / f'{name}_{number}.tif'
            write_tile(path, array, descriptions=order)
    with pytest.raises(BandError, match=r'Water_7.* in the order VH, VV'):
        pack_folders(root, modalities=['sar'])

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""What a pack says when its source is moved, removed or changed."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from tests.fakes import pack_folders, write_arrays, write_eurosat, write_pairs
from torchgeo_discomkd.datasets import (
    EuroSATMSSAR,
    PairedArrays,
    PairedFolders,
    cached_statistics,
    write_pack,
)
from torchgeo_discomkd.errors import LayoutError, ModalityError, PackError, PairingError

from ..conftest import statistics_of
from .conftest import assert_same


def test_changed_table_is_noticed(tmp_path: Path) -> None:
    root = write_arrays(tmp_path / 'arrays')
    packed = tmp_path / 'arrays.safetensors'
    write_pack(PairedArrays(str(root)), packed)
    rows = np.load(root / 'train_idx.npy')
    np.save(root / 'train_idx.npy', rows[::-1])
    with pytest.raises(PackError, match='no longer matches'):
        PairedArrays(str(shutil.copy(packed, packed.with_name('x.safetensors'))))


@pytest.mark.parametrize('change', ['added', 'removed', 'scaled'])
def test_changed_source_is_noticed(pairs: Path, change: str) -> None:
    packed = pack_folders(pairs)
    path = pairs / 'ms' / 'Crop' / 'Crop_1.tif'
    match change:
        case 'added':
            shutil.copy(path, path.with_name('Crop_99.tif'))
        case 'removed':
            path.unlink()
        case 'scaled':
            with rasterio.open(path, 'r+') as file:
                file.write(file.read() + 1)
    with pytest.raises(PackError, match=r'no longer matches .*pairs: .*--overwrite'):
        # a new file, as a new process would open it
        PairedFolders(str(shutil.copy(packed, packed.with_name('x.safetensors'))))
    write_pack(PairedFolders(str(pairs), missing='skip'), packed, overwrite=True)
    assert_same(
        PairedFolders(str(packed), missing='skip'),
        PairedFolders(str(pairs), missing='skip'),
    )


def test_a_pack_needs_its_source_no_more(tmp_path: Path) -> None:
    root = write_pairs(tmp_path / 'pairs', count=10)
    rows = [f'{c}_{n},{c},{n % 5}' for c in ('Crop', 'Water') for n in range(1, 11)]
    (root / 'groups.csv').write_text('\n'.join(['file,class,group', *rows]))
    options: dict[str, Any] = {
        'split_scheme': 'groups',
        'groups': 'groups.csv',
        'val_groups': ['1'],
        'test_groups': ['2', '3'],
    }
    packed = pack_folders(root, **options)
    expected = statistics_of(PairedFolders(str(root), **options))
    moved = shutil.move(root, tmp_path / 'elsewhere')
    for split in ('train', 'val', 'test'):
        assert_same(
            PairedFolders(str(packed), split, **options),
            PairedFolders(str(moved), split, **options),
        )
    # the statistics of the split that was packed come from the file
    assert cached_statistics(PairedFolders(str(packed), **options)) == expected
    assert not (tmp_path / '.torchgeo_discomkd').exists()
    some = PairedFolders(str(packed), bands={'ms': ['B9', 'B3']}, **options)
    assert cached_statistics(some)['ms'].mean == (
        expected['ms'].mean[8],
        expected['ms'].mean[2],
    )
    # those of another are computed and kept next to it
    other = PairedFolders(str(packed), **options | {'val_groups': ['0']})
    assert cached_statistics(other) == statistics_of(other)
    assert len(list((tmp_path / '.torchgeo_discomkd').iterdir())) == 2


def test_tiles_may_be_removed_but_their_folder(pairs: Path) -> None:
    packed = pack_folders(pairs)
    for tile in pairs.rglob('*.tif'):
        tile.unlink()
    copy = shutil.copy(packed, packed.with_name('x.safetensors'))
    assert len(PairedFolders(str(copy))) == 28


def test_arrays_may_be_removed_after_packing(tmp_path: Path) -> None:
    root = write_arrays(tmp_path / 'arrays')
    packed = tmp_path / 'arrays.safetensors'
    write_pack(PairedArrays(str(root)), packed)
    expected = [sample['label'] for sample in PairedArrays(str(root))]
    for path in root.glob('*_data_normalized.npy'):
        path.unlink()
    assert [sample['label'] for sample in PairedArrays(str(packed))] == expected


def test_modality_that_is_not_on_disk(tmp_path: Path) -> None:
    root = write_eurosat(tmp_path / 'data')
    shutil.rmtree(root / 'EuroSAT_MS')
    packed = tmp_path / 'eurosat.safetensors'
    write_pack(EuroSATMSSAR(str(root), modalities=['sar']), packed)
    assert_same(
        EuroSATMSSAR(str(packed), modalities=['sar']),
        EuroSATMSSAR(str(root), modalities=['sar']),
    )
    with pytest.raises(ModalityError, match="not \\['ms'\\]"):
        EuroSATMSSAR(str(packed))


def test_index_files_next_to_a_pack_of_arrays_are_not_its_own(tmp_path: Path) -> None:
    source = write_arrays(tmp_path / 'arrays')
    (source / 'valid_idx.npy').rename(tmp_path / 'valid_idx.npy')
    pack = tmp_path / 'pack.safetensors'
    write_pack(PairedArrays(str(source)), pack)
    assert len(PairedArrays(str(pack))) == 12
    with pytest.raises(LayoutError, match='valid_idx'):
        PairedArrays(str(pack), split='val')


def test_arrays_of_different_lengths_are_not_packed(tmp_path: Path) -> None:
    source = write_arrays(tmp_path / 'arrays')
    path = source / 'MS_data_normalized.npy'
    np.save(path, np.load(path)[:-3])
    dataset = PairedArrays(str(source), modalities=['sar'])
    with pytest.raises(PairingError, match="'ms': 17"):
        write_pack(dataset, tmp_path / 'pack.safetensors')
    assert not (tmp_path / 'pack.safetensors').exists()

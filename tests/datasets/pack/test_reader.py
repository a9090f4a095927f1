# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import gzip
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from tests.fakes import (
    pack_folders,
    write_arrays,
    write_eurosat,
    write_pairs,
    write_tile,
)
from torchgeo_discomkd.datasets import (
    EuroSATMSSAR,
    PairedArrays,
    PairedFolders,
    SimulatedMSSAR,
    cached_statistics,
    write_pack,
)
from torchgeo_discomkd.errors import LayoutError, ModalityError, PackError

from ..conftest import statistics_of
from .conftest import assert_same, assert_same_samples


@pytest.mark.parametrize('split', ['train', 'val', 'test'])
@pytest.mark.parametrize('run', [0, 3])
def test_folders(pairs: Path, split: str, run: int) -> None:
    packed = pack_folders(pairs, units={'sar': 'dB'})
    source = PairedFolders(str(pairs), split, run=run, units={'sar': 'dB'})
    assert_same(PairedFolders(str(packed), split, run=run), source)
    assert_same(
        PairedFolders(str(packed), split, run=run, bands={'ms': ['B4', 'B2']}),
        PairedFolders(
            str(pairs), split, run=run, bands={'ms': ['B4', 'B2']}, units={'sar': 'dB'}
        ),
    )


def test_units_of_arrays(tmp_path: Path) -> None:
    root = write_arrays(tmp_path / 'arrays')
    packed = tmp_path / 'arrays.safetensors'
    write_pack(PairedArrays(str(root), units={'sar': 'K'}), packed)
    assert PairedArrays(str(packed)).units == {'ms': 'unknown', 'sar': 'K'}


def test_names_and_order_of_modalities_are_the_users(pairs: Path) -> None:
    packed = pack_folders(pairs)
    both = {'sar': 'sar', 'ms': 'ms'}
    assert_same(
        PairedFolders(str(packed), folders=both),
        PairedFolders(str(pairs), folders=both),
    )
    assert PairedFolders(str(packed), folders={'sar': 'sar'}).modalities == ('sar',)
    with pytest.raises(ModalityError, match='s1'):
        PairedFolders(str(packed), folders={'s1': 'sar', 's2': 'ms'})


def test_statistics_are_found_by_position(pairs: Path) -> None:
    names = [f'B{i}' for i in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 11, 13)]
    packed = pack_folders(pairs, bands={'ms': ['B3']})
    for bands in (['B11', 'B3'], ['B12']):
        options: dict[str, Any] = {'band_names': {'ms': names}, 'bands': {'ms': bands}}
        assert cached_statistics(PairedFolders(str(packed), **options)) == (
            statistics_of(PairedFolders(str(pairs), **options))
        )
    assert not (pairs.parent / '.torchgeo_discomkd').exists()


def test_georeference_of_some_tiles(tmp_path: Path) -> None:
    root = write_pairs(tmp_path / 'pairs', count=20, crs=None)
    for number, crs in ((5, 'EPSG:32631'), (6, 'EPSG:3857'), (12, 'EPSG:32631')):
        array = np.ones((13, 8, 8), np.uint16)
        write_tile(root / 'ms' / 'Crop' / f'Crop_{number}.tif', array, crs=crs)
    packed = pack_folders(root)
    found = 0
    for split in ('train', 'val', 'test'):
        dataset = PairedFolders(str(packed), split)
        assert_same(dataset, PairedFolders(str(root), split))
        found += sum(dataset.georeference(i) is not None for i in range(len(dataset)))
    assert found == 3


def test_folder_of_tiles_is_the_root(tmp_path: Path) -> None:
    root = write_pairs(tmp_path / 'x', shapes={'ms': (3, 8, 8)}) / 'ms'
    packed = pack_folders(root, folders={'ms': '.'})
    options = {'folders': {'ms': '.'}}
    assert_same(
        PairedFolders(str(packed), **options), PairedFolders(str(root), **options)
    )


def test_folders_of_splits(tmp_path: Path) -> None:
    for seed, split in enumerate(('train', 'val', 'test')):
        write_pairs(tmp_path / 'x' / split, count=3 + seed, seed=seed)
    packed = pack_folders(tmp_path / 'x', split_scheme='folder')
    for split in ('train', 'val', 'test'):
        assert_same(
            PairedFolders(str(packed), split, split_scheme='folder'),
            PairedFolders(str(tmp_path / 'x'), split, split_scheme='folder'),
        )


def test_modality_that_lacks_tiles(tmp_path: Path) -> None:
    root = write_pairs(tmp_path / 'pairs')
    (root / 'sar' / 'Crop' / 'Crop_2.tif').unlink()
    packed = pack_folders(root, missing='keep')
    for m in ('ms', 'sar'):
        assert_same(
            PairedFolders(str(packed), modalities=[m], missing='keep'),
            PairedFolders(str(root), modalities=[m], missing='keep'),
        )


@pytest.mark.parametrize('scheme', ['paper', 'torchgeo', 'spatial'])
def test_eurosat(tmp_path: Path, scheme: Any) -> None:
    root = write_eurosat(tmp_path / 'data', count=10)
    for name in ('eurosat', 'eurosat-spatial'):
        for split, wanted in {'train': '1234567', 'val': '8', 'test': '9'}.items():
            stems = [f'{c}_{n}.jpg' for c in EuroSATMSSAR.class_names for n in wanted]
            (root / f'{name}-{split}.txt').write_text('\n'.join(stems))
    packed = tmp_path / 'eurosat.safetensors'
    write_pack(EuroSATMSSAR(str(root)), packed)
    moved = str(shutil.move(root, tmp_path / 'elsewhere'))
    kwargs = {'split_scheme': scheme, 'modalities': ['sar', 'ms']}
    assert_same(EuroSATMSSAR(str(packed), **kwargs), EuroSATMSSAR(moved, **kwargs))


@pytest.mark.slow
def test_simulated(tmp_path: Path) -> None:
    options: dict[str, Any] = {'tiles_per_class': 20, 'size': 8}
    root = str(tmp_path / 'data')
    packed = tmp_path / 'simulated.safetensors'
    write_pack(SimulatedMSSAR(root, **options), packed)
    assert_same(
        SimulatedMSSAR(str(packed), 'val', **options),
        SimulatedMSSAR(root, 'val', **options),
    )
    with pytest.raises(LayoutError, match='was simulated with'):
        SimulatedMSSAR(str(packed), tiles_per_class=30, size=8)


def test_arrays(tmp_path: Path) -> None:
    root = write_arrays(tmp_path / 'arrays')
    write_arrays(root, run=4)
    packed = tmp_path / 'arrays.safetensors'
    # all that is there is packed, whatever samples hold
    write_pack(PairedArrays(str(root), modalities=['sar']), packed)
    moved = str(shutil.move(root, tmp_path / 'elsewhere'))
    for run in (None, 4):
        for split in ('train', 'val', 'test'):
            assert_same(
                PairedArrays(str(packed), split, run=run),
                PairedArrays(moved, split, run=run),
            )
    bands = {'ms': ['B7', 'B2']}
    assert_same(
        PairedArrays(str(packed), bands=bands), PairedArrays(moved, bands=bands)
    )
    with pytest.raises(ModalityError, match='packed with the prefixes'):
        PairedArrays(str(packed), prefixes={'optical': 'MS'})
    with pytest.raises(PackError, match='read it with PairedArrays'):
        PairedFolders(str(packed))
    with pytest.raises(LayoutError, match=r'train_idx_7\.npy'):
        PairedArrays(str(packed), run=7)


def test_samples_fit_any_data_loader(pairs: Path) -> None:
    dataset = PairedFolders(str(pack_folders(pairs)))
    (batch,) = DataLoader(dataset, batch_size=len(dataset))
    assert torch.equal(batch['image_ms'][5], dataset[5]['image_ms'])
    assert torch.equal(batch['label'], dataset.labels)
    dataset.transforms = lambda sample: sample | {'image_ms': sample['image_ms'] * 2}
    (doubled,) = DataLoader(dataset, batch_size=len(dataset))
    assert torch.equal(doubled['image_ms'], 2 * batch['image_ms'])


def test_files_that_are_no_packs(pairs: Path, tmp_path: Path) -> None:
    packed = pack_folders(pairs)
    with pytest.raises(PackError, match='cannot be opened'):
        PairedFolders(str(tmp_path / 'none.safetensors'))
    cut = tmp_path / 'cut.safetensors'
    cut.write_bytes(packed.read_bytes()[:-100])
    with pytest.raises(PackError, match='truncated'):
        PairedFolders(str(cut))
    other = tmp_path / 'other.safetensors'
    other.write_bytes((10).to_bytes(8, 'little') + b'{}        ')
    with pytest.raises(PackError, match='is not a pack'):
        PairedFolders(str(other))
    with pytest.raises(PackError, match='pack of folders'):
        PairedArrays(str(packed))
    with pytest.raises(ModalityError, match='thermal'):
        PairedFolders(str(packed), modalities=['thermal'])


DATA = Path(__file__).parents[2] / 'data'


def unpack(name: str, folder: Path) -> str:
    """Copy a pack that the version before wrote."""
    path = folder / f'{name}.safetensors'
    content = (DATA / f'pack_{name}.safetensors.gz').read_bytes()
    path.write_bytes(gzip.decompress(content))
    return str(path)


def test_pack_of_folders_by_the_version_before(tmp_path: Path) -> None:
    shapes = {'ms': (3, 2, 2), 'sar': (2, 2, 2)}
    root = write_pairs(tmp_path / 'pairs', count=5, shapes=shapes)
    rows = [f'{c}_{n},{c},{n}' for c in ('Crop', 'Water') for n in range(1, 6)]
    (root / 'groups.csv').write_text('\n'.join(['file,class,group', *rows]))
    packed = unpack('folders', tmp_path)
    options: dict[str, Any] = {'split_scheme': 'groups', 'groups': 'groups.csv'}
    for split in ('train', 'val', 'test'):
        found = PairedFolders(packed, split, **options)
        assert_same_samples(found, PairedFolders(str(root), split, **options))
    assert found.units == {'ms': 'unknown', 'sar': 'dB'}
    # the statistics that were packed say too little: new ones are kept next to the pack
    train = PairedFolders(packed, modalities=['sar'], **options)
    expected = statistics_of(PairedFolders(str(root), modalities=['sar'], **options))
    assert cached_statistics(train) == expected
    assert len([*(tmp_path / '.torchgeo_discomkd').iterdir()]) == 1


def test_pack_of_arrays_by_the_version_before(tmp_path: Path) -> None:
    root = write_arrays(tmp_path / 'a', count=5, size=2)
    packed = unpack('arrays', tmp_path)
    for split in ('train', 'val', 'test'):
        found = PairedArrays(packed, split)
        assert_same_samples(found, PairedArrays(str(root), split))
    assert found.units == {'ms': 'unknown', 'sar': 'K'}
    with pytest.raises(ModalityError, match=r"has the modalities .*not \['thermal'\]"):
        PairedArrays(packed, modalities=['thermal'])


def test_pack_of_a_later_version(tmp_path: Path) -> None:
    path = Path(unpack('folders', tmp_path))
    content = path.read_bytes()
    assert content.count(b'\\"format\\": 1') == 1
    path.write_bytes(content.replace(b'\\"format\\": 1', b'\\"format\\": 3'))
    with pytest.raises(PackError, match='format 3, but this version reads 1 to 2'):
        PairedFolders(str(path))


def test_systems_without_preadv(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = PairedFolders(str(pack_folders(pairs)), bands={'ms': ['B4', 'B2']})
    monkeypatch.delattr(os, 'preadv')
    assert_same(packed, PairedFolders(str(pairs), bands={'ms': ['B4', 'B2']}))


def test_pack_that_is_truncated_while_it_is_read(pairs: Path) -> None:
    packed = pack_folders(pairs)
    dataset = PairedFolders(str(packed))
    assert len(dataset.__getitems__([0, 1])) == 2
    os.truncate(packed, 8192)
    with pytest.raises(PackError, match='was truncated while it was read'):
        dataset.__getitems__([0, 1])


def test_packed_data_sets_travel_as_paths(pairs: Path) -> None:
    dataset = PairedFolders(str(pack_folders(pairs)))
    sample = dataset[3]
    content = pickle.dumps(dataset)
    assert len(content) < 10_000 < sum(i.mapped.nbytes for i in dataset.images.values())
    assert torch.equal(pickle.loads(content)[3]['image_ms'], sample['image_ms'])


def test_split_files_next_to_the_pack(tmp_path: Path) -> None:
    root = write_eurosat(tmp_path / 'data')
    packed = tmp_path / 'eurosat.safetensors'
    write_pack(EuroSATMSSAR(str(root)), packed)
    stems = [f'{c}_{n}' for c in EuroSATMSSAR.class_names for n in '246']
    (tmp_path / 'eurosat-train.txt').write_text('\n'.join(stems))
    dataset = EuroSATMSSAR(str(packed), split_scheme='torchgeo')
    assert {dataset.identifier(i).split('/')[1] for i in range(30)} == set(stems)

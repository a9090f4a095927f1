# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Samples without labels: in folders, groups, arrays and packs."""

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from tests.fakes import (
    pack_folders,
    tile,
    write_arrays,
    write_eurosat,
    write_pairs,
    write_tile,
)
from torchgeo_discomkd.datasets import (
    EuroSATMSSAR,
    JoinedDataset,
    PairedArrays,
    PairedFolders,
    check_unlabelled,
    write_pack,
)
from torchgeo_discomkd.errors import (
    BandError,
    LayoutError,
    PairingError,
    SettingError,
    SplitError,
    TileSizeError,
    UserError,
)

from .conftest import SMALL, stems
from .pack.conftest import assert_same


@pytest.fixture(scope='module')
def pool_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2 classes x 20 pairs, and 6 tiles without labels in 'pool'; only for reading."""
    root = write_pairs(tmp_path_factory.mktemp('pool') / 'data', count=20, shapes=SMALL)
    rng = np.random.default_rng(1)
    for modality, shape in SMALL.items():
        for number in range(6):
            path = root / modality / 'pool' / f'p{number}.tif'
            write_tile(path, tile(modality, 0, rng, shape), crs='EPSG:32631')
    write_groups(root)
    return root


@pytest.fixture
def pool(pool_once: Path, tmp_path: Path) -> Path:
    """:func:`pool_once`, copied."""
    return shutil.copytree(pool_once, tmp_path / 'data')


@pytest.fixture(scope='module')
def packed(pool_once: Path) -> Path:
    """:func:`pool_once` as a pack; only for reading."""
    return pack_folders(pool_once, unlabelled='pool')


def write_groups(root: Path) -> None:
    with (root / 'groups.csv').open('w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['file', 'group'])
        for name in ('Crop', 'Water'):
            rows = ((f'{name}_{n}', 'abcd'[n % 4]) for n in range(1, 21))
            writer.writerows(rows)


@pytest.mark.parametrize('source', ['pool_once', 'packed'])
def test_folder(source: str, request: pytest.FixtureRequest) -> None:
    root = str(request.getfixturevalue(source))
    dataset = PairedFolders(root, 'unlabelled', unlabelled='pool')
    assert stems(dataset) == [f'pool/p{n}' for n in range(6)]
    assert dataset.labels.dtype == torch.int64
    assert dataset.labels.tolist() == [-1] * 6
    assert {int(s['label']) for s in dataset} == {-1}
    train = PairedFolders(root, unlabelled='pool')
    assert train.classes == dataset.classes == ('Crop', 'Water')
    assert train.unlabelled_samples == 6
    assert 'unlabelled: 6 samples, only for training' in train.report()
    assert '40 images in 2 classes' in train.report()[0]
    # a folder that is not named is a class
    assert PairedFolders(root).classes == ('Crop', 'Water', 'pool')


def test_a_pack_has_the_same_samples(pool_once: Path, packed: Path) -> None:
    both = (
        PairedFolders(str(root), 'unlabelled', unlabelled='pool')
        for root in (packed, pool_once)
    )
    assert_same(*both)


def test_labelled_splits_are_the_same_with_and_without(pool: Path) -> None:
    named = {
        s: PairedFolders(str(pool), s, unlabelled='pool') for s in ('train', 'val')
    }
    for modality in SMALL:
        shutil.rmtree(pool / modality / 'pool')
    for split, dataset in named.items():
        plain = PairedFolders(str(pool), split)
        assert stems(plain) == stems(dataset)
        assert plain.split_hash() == dataset.split_hash()
        assert torch.equal(plain.labels, dataset.labels)
    # scoring does not need them
    assert len(PairedFolders(str(pool), 'test', unlabelled='pool')) == 10


def test_folders_of_splits(tmp_path: Path, pool: Path) -> None:
    for split in ('train', 'val', 'test'):
        shutil.copytree(pool, tmp_path / 'splits' / split)
    root = tmp_path / 'splits'
    options: dict[str, Any] = {'split_scheme': 'folder', 'unlabelled': 'pool'}
    with pytest.raises(LayoutError, match=r'val/ms/pool holds 6 .*only the training'):
        PairedFolders(str(root), **options)
    for split in ('val', 'test'):
        for modality in SMALL:
            shutil.rmtree(root / split / modality / 'pool')
    assert len(PairedFolders(str(root), 'unlabelled', **options)) == 6
    assert len(PairedFolders(str(root), 'val', **options)) == 40


def test_groups(pool: Path) -> None:
    root = pool
    for modality in SMALL:
        shutil.rmtree(root / modality / 'pool')
    options: dict[str, Any] = {'split_scheme': 'groups', 'groups': 'groups.csv'}
    splits = ('train', 'val', 'test', 'unlabelled')
    found = {
        split: PairedFolders(str(root), split, **options, unlabelled_groups=['b'])
        for split in splits
    }
    assert {len(dataset) for dataset in found.values()} == {10}
    assert len({name for dataset in found.values() for name in stems(dataset)}) == 40
    assert {int(n.rpartition('_')[2]) % 4 for n in stems(found['unlabelled'])} == {1}
    assert found['unlabelled'].labels.tolist() == [-1] * 10
    assert found['train'].unlabelled_samples == 10
    # the ring of the others rotates
    other = PairedFolders(str(root), 'test', run=1, **options, unlabelled_groups=['b'])
    assert not {*stems(other)} & {*stems(found['test']), *stems(found['unlabelled'])}


@pytest.mark.parametrize(
    ('options', 'error', 'match'),
    [
        ({'unlabelled_groups': ['x']}, SplitError, r"Unknown groups \['x'\]"),
        (
            {'unlabelled_groups': ['a'], 'test_groups': ['a', 'b']},
            SplitError,
            r"\['a'\] are named without labels and for validation or test",
        ),
        (
            {'unlabelled_groups': ['a'], 'unlabelled': 'pool'},
            SettingError,
            'one of the two',
        ),
        (
            {'unlabelled_groups': ['a'], 'split_scheme': 'stratified'},
            SettingError,
            "needs split_scheme='groups'",
        ),
        ({'unlabelled': 'Other'}, SplitError, 'ms/Other, sar/Other'),
        ({'unlabelled': 'a/b'}, SettingError, 'name of a folder inside'),
        (
            {'unlabelled': 'Water', 'classes': ['Crop', 'Water']},
            SettingError,
            'also one of classes',
        ),
        ({'split': 'unlabelled'}, SplitError, 'No samples without labels are named'),
    ],
)
def test_options_that_contradict(
    pool: Path, options: dict[str, Any], error: type[Exception], match: str
) -> None:
    for modality in SMALL:
        shutil.rmtree(pool / modality / 'pool')
    groups = {'split_scheme': 'groups', 'groups': 'groups.csv'}
    with pytest.raises(error, match=match):
        PairedFolders(str(pool), **groups | options)


def test_other_data_sets_have_none(tmp_path: Path) -> None:
    root = write_eurosat(tmp_path, count=1)
    with pytest.raises(SplitError, match='other data sets have none'):
        EuroSATMSSAR(str(root), 'unlabelled')


def nest(root: Path) -> None:
    (root / 'sar/pool/Crop').mkdir()
    (root / 'sar/pool/p1.tif').rename(root / 'sar/pool/Crop/p1.tif')


def empty(root: Path) -> None:
    shutil.rmtree(root / 'sar/pool')


def rename(root: Path) -> None:
    (root / 'sar/pool/p1.tif').rename(root / 'sar/pool/q1.tif')


@pytest.mark.parametrize(
    ('change', 'error', 'match'),
    [
        (nest, LayoutError, 'sar/pool has subfolders with tiles .*pool/Crop/p1.tif'),
        (empty, LayoutError, 'sar has no tiles in sar/pool, but ms has'),
        (rename, PairingError, r'ms lacks 1 \(pool/q1\); sar lacks 1 \(pool/p1\)'),
    ],
)
def test_folders_that_do_not_match(
    pool: Path, change: Any, error: type[Exception], match: str
) -> None:
    change(pool)
    for split in ('train', 'unlabelled'):
        with pytest.raises(error, match=match):
            PairedFolders(str(pool), split, unlabelled='pool')


def test_missing_pairs_can_be_skipped_or_kept(pool: Path) -> None:
    rename(pool)
    options: dict[str, Any] = {'split': 'unlabelled', 'unlabelled': 'pool'}
    assert len(PairedFolders(str(pool), missing='skip', **options)) == 5
    sar = PairedFolders(str(pool), missing='keep', modalities=['sar'], **options)
    assert stems(sar)[-1] == 'pool/q1'
    assert len(sar) == 6


def test_no_pair_is_left(pool: Path) -> None:
    for number in range(6):
        (pool / ('ms' if number % 2 else 'sar') / 'pool' / f'p{number}.tif').unlink()
    options: dict[str, Any] = {'unlabelled': 'pool', 'missing': 'keep'}
    assert PairedFolders(str(pool), **options).unlabelled_samples == 0
    sar = PairedFolders(str(pool), modalities=['sar'], **options)
    assert sar.unlabelled_samples == 3
    with pytest.raises(PairingError, match='need the same stem'):
        PairedFolders(str(pool), 'unlabelled', **options)
    # of a group
    for path in pool.glob('*/pool'):
        shutil.rmtree(path)
    for number in (1, 5, 9, 13, 17):
        for name in ('Crop', 'Water'):
            (pool / 'ms' / name / f'{name}_{number}.tif').unlink()
    options = {'split_scheme': 'groups', 'groups': 'groups.csv', 'missing': 'skip'}
    options |= {'unlabelled_groups': ['b']}
    assert PairedFolders(str(pool), **options).unlabelled_samples == 0
    with pytest.raises(SplitError, match=r"'unlabelled' is empty.*'ms', 'sar'"):
        PairedFolders(str(pool), 'unlabelled', **options)


@pytest.mark.parametrize(
    ('name', 'shape', 'error', 'match'),
    [
        ('p0', (2, 5, 4), TileSizeError, r'pool/p0 \(sar\), without a label, is 5x4'),
        ('p3', (2, 5, 4), TileSizeError, r'^of the samples .*pool/p3 \(sar\) is 5x4'),
        ('p3', (1, 4, 4), BandError, r'^of the samples without labels: .*p3.tif'),
    ],
)
def test_tiles_unlike_the_labelled_ones(
    pool: Path, name: str, shape: tuple[int, ...], error: type[UserError], match: str
) -> None:
    write_tile(pool / f'sar/pool/{name}.tif', np.full(shape, -9, np.float32))

    def join() -> None:
        parts = (
            PairedFolders(str(pool), split, unlabelled='pool')
            for split in ('train', 'unlabelled')
        )
        joined = JoinedDataset(*parts)
        check_unlabelled(joined.unlabelled)

    with pytest.raises(error, match=match):
        join()


@pytest.mark.parametrize('source', ['pool_once', 'packed'])
def test_joined(source: str, request: pytest.FixtureRequest) -> None:
    root = str(request.getfixturevalue(source))
    train, more = (
        PairedFolders(root, split, unlabelled='pool', bands={'ms': ['B3', 'B1']})
        for split in ('train', 'unlabelled')
    )
    joined = JoinedDataset(train, more)
    assert len(joined) == 34
    indexes = [33, 2, 28, 0]
    batch: Any = joined.__getitems__(indexes)
    for place, index in enumerate(indexes):
        part, position = (train, index) if index < 28 else (more, index - 28)
        expected = part[position] | {'index': torch.tensor(index)}
        for sample in (joined[index], batch[place]):
            assert sample.keys() == expected.keys()
            assert all(torch.equal(sample[k], v) for k, v in expected.items())
        assert joined.identifier(index) == part.identifier(position)
    assert joined.fingerprint() == train.fingerprint()
    for indexes in ([1, 2], [30, 29]):
        assert torch.equal(
            joined.load_batch(indexes, 'ms'),
            torch.stack([joined[i]['image_ms'] for i in indexes]),
        )


def test_arrays(tmp_path: Path) -> None:
    root = write_arrays(tmp_path / 'arrays', run=2)
    labels = np.load(root / 'labels.npy')
    test = np.load(root / 'test_idx_2.npy')
    labels[test] = -1
    np.save(root / 'labels.npy', labels)
    np.save(root / 'free_2.npy', test)
    options: dict[str, Any] = {'run': 2, 'unlabelled': 'free'}
    with pytest.raises(SplitError, match=r'4 samples are in both test_idx_2.npy and f'):
        PairedArrays(str(root), 'test', **options)
    (root / 'test_idx_2.npy').unlink()
    for split in ('train', 'val'):
        assert PairedArrays(str(root), split, **options).labels.min() == 0
    dataset = PairedArrays(str(root), 'unlabelled', **options)
    assert dataset.labels.tolist() == [-1] * 4
    assert dataset.classes == ('0', '1')
    assert dataset.identifier(0) == f'unlabelled/{test[0]}'
    train = PairedArrays(str(root), **options)
    assert train.unlabelled_samples == 4
    write_pack(train, tmp_path / 'a.safetensors')
    packed = PairedArrays(str(tmp_path / 'a.safetensors'), 'unlabelled', **options)
    assert_same(packed, dataset)
    np.save(root / 'free_2.npy', test[:0])
    with pytest.raises(SplitError, match=r'free_2.npy lists no samples'):
        PairedArrays(str(root), **options)


def test_a_label_of_none_is_no_class(pool_once: Path) -> None:
    dataset = PairedFolders(str(pool_once), 'unlabelled', unlabelled='pool')
    dataset.join_classes(['Water', 'Crop'])
    assert dataset.labels.tolist() == [-1] * 6
    figure = dataset.plot(dataset[0])
    assert figure.axes[0].get_title() == 'ms\nLabel: none'
    plt.close(figure)


def test_stem_patterns_are_those_of_all_tiles(tmp_path: Path) -> None:
    root = write_pairs(tmp_path / 'data', count=11, shapes=SMALL)
    for modality in SMALL:
        for path in [*(root / modality).rglob('*.tif')]:
            path.rename(path.with_stem(f'{path.stem}_{modality}'))
        path = root / modality / 'pool' / f'p_{modality}.tif'
        write_tile(path, np.full(SMALL[modality], -9, np.float32))
    options = {'stem_pattern': {m: f'(.+)_{m}' for m in SMALL}, 'unlabelled': 'pool'}
    found = PairedFolders(str(root), 'unlabelled', **options)
    assert stems(found) == ['pool/p']

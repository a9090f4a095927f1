# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import csv
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from torch.utils.data import DataLoader

from tests.fakes import write_pairs, write_tile
from torchgeo_discomkd.datasets import PairedFolders
from torchgeo_discomkd.datasets.splits import read_groups
from torchgeo_discomkd.errors import (
    BandError,
    CorruptFileError,
    LabelError,
    LayoutError,
    MissingValueError,
    ModalityError,
    PairingError,
    SplitError,
    TileSizeError,
    UserError,
)

from .conftest import SMALL, stems

FOLDERS = {'ms': 'S2', 'sar': 'S1'}


def write_groups(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open('w', newline='') as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_sample(root: Path) -> None:
    dataset = PairedFolders(str(root))
    assert dataset.modalities == ('ms', 'sar')
    assert dataset.classes == ('Crop', 'Water')
    assert dataset.bands == {'ms': ('B1', 'B2', 'B3'), 'sar': ('B1', 'B2')}
    assert dataset.units == {'ms': 'unknown', 'sar': 'dB'}
    assert len(dataset) == 28
    sample = dataset[20]
    assert set(sample) == {'image_ms', 'image_sar', 'label', 'index'}
    assert sample['image_ms'].shape == (3, 6, 6)
    assert sample['image_sar'].shape == (2, 4, 4)
    assert sample['image_ms'].dtype == sample['image_sar'].dtype == torch.float32
    assert sample['label'].dtype == sample['index'].dtype == torch.int64
    assert (sample['label'], sample['index']) == (1, 20)
    assert dataset.identifier(20).startswith('Water/Water_')
    assert dataset.georeference(20)[0].to_epsg() == 32631


def test_splits_are_a_partition(root: Path) -> None:
    parts = [stems(PairedFolders(str(root), s)) for s in ('train', 'val', 'test')]
    assert [len(p) for p in parts] == [28, 2, 10]
    assert len(set().union(*parts)) == 40
    assert parts[2] != stems(PairedFolders(str(root), 'test', run=1))


def test_split_is_that_of_the_paper(root: Path) -> None:
    expected = []
    for name in ('Water', 'Crop'):
        names = np.array(sorted(f'{name}/{name}_{n}' for n in range(1, 21)))
        order = np.random.RandomState(3000).permutation(20)
        expected += sorted(names[order[:14]].tolist())
    dataset = PairedFolders(str(root), run=3, classes=['Water', 'Crop'])
    assert stems(dataset) == expected
    assert dataset.labels.tolist() == [0] * 14 + [1] * 14


def test_marker_pixel_is_aligned_between_modalities(tmp_path: Path) -> None:
    shapes = {'a': (1, 8, 8), 'b': (2, 8, 8), 'c': (1, 8, 8)}
    root = write_pairs(tmp_path, count=10, shapes=shapes)
    rng = np.random.default_rng(0)
    for path in sorted((root / 'a').rglob('*.tif')):
        row, column = rng.integers(8, size=2)
        for modality, (bands, *_) in shapes.items():
            array = np.zeros((bands, 8, 8), np.uint16)
            array[:, row, column] = 1
            write_tile(root / modality / path.relative_to(root / 'a'), array)
    dataset = PairedFolders(str(root))
    places = set()
    for sample in dataset:
        found = [sample[f'image_{m}'][0].argmax().item() for m in shapes]
        assert len(set(found)) == 1
        places.add(found[0])
    assert len(places) > 5


def test_classes_are_joined_by_name_and_files_by_stem(tmp_path: Path) -> None:
    for modality, names in {'x': 'abc', 'y': 'cab'}.items():
        for name in names:
            numbers = range(10) if modality == 'x' else reversed(range(10))
            for number in numbers:
                path = tmp_path / modality / name / f'{number}.npy'
                write_tile(path, np.full((2, 2), 100 * 'abc'.index(name) + number))
    dataset = PairedFolders(str(tmp_path), classes=['c', 'a', 'b'])
    assert dataset.classes == ('c', 'a', 'b')
    for sample in dataset:
        value = sample['image_x'][0, 0, 0]
        assert torch.equal(sample['image_x'], sample['image_y'])
        assert dataset.classes[sample['label']] == 'abc'[int(value) // 100]


def test_formats_may_differ_and_other_files_are_ignored(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    for number, suffix in enumerate(['.tif', '.TIFF', '.png', '.npy', '.Png'] * 4):
        for name in ('A', 'B'):
            write_tile(tmp_path / 'x' / name / f's.{number}{suffix}', array)
            write_tile(tmp_path / 'y' / name / f's.{number}.png', array)
    (tmp_path / 'x' / 'A' / '.hidden.tif').touch()
    (tmp_path / 'x' / 'A' / '.tif').touch()
    (tmp_path / 'x' / 'A' / 'notes.txt').touch()
    (tmp_path / 'x' / 'A' / 'nested.tif').mkdir()
    (tmp_path / 'x' / 'empty').mkdir()
    (tmp_path / 'x' / '.cache').mkdir()
    (tmp_path / 'x' / 'index.csv').touch()
    (tmp_path / 'figures').mkdir()
    dataset = PairedFolders(str(tmp_path))
    assert dataset.modalities == ('x', 'y')
    assert dataset.classes == ('A', 'B')
    assert all(
        torch.equal(s['image_x'], s['image_y'])
        and np.array_equal(s['image_x'], array.astype(np.float32))
        for s in dataset
    )
    assert dataset.georeference(0) is None


def test_one_modality_needs_no_other_on_disk(root: Path) -> None:
    arguments: dict[str, Any] = {
        'folders': {'ms': 'ms', 'sar': 'sar'},
        'modalities': ['sar'],
        'bands': {'ms': ['B3'], 'sar': ['B2']},
    }
    before = PairedFolders(str(root), 'test', **arguments)
    shutil.rmtree(root / 'ms')
    after = PairedFolders(str(root), 'test', **arguments)
    assert stems(before) == stems(after)
    assert before.split_hash() == after.split_hash()
    assert set(after[0]) == {'image_sar', 'label', 'index'}
    assert after.bands == {'sar': ('B2',)}
    again = PairedFolders(
        str(root), 'test', modalities=['sar'], bands={'ms': ['B3'], 'sar': ['B2']}
    )
    assert torch.equal(again[3]['image_sar'], before[3]['image_sar'])


def test_bands_by_name(root: Path) -> None:
    names = {'ms': ['B8', 'B4', 'B3'], 'sar': ['VV', 'VH']}
    whole = PairedFolders(str(root), band_names=names)
    dataset = PairedFolders(
        str(root),
        band_names=names,
        bands={'ms': ['B3', 'B8'], 'sar': ['VH']},
        units={'sar': 'dB'},
    )
    assert dataset.bands == {'ms': ('B3', 'B8'), 'sar': ('VH',)}
    assert dataset.units == {'ms': 'unknown', 'sar': 'dB'}
    assert torch.equal(dataset[4]['image_ms'], whole[4]['image_ms'][[2, 0]])
    assert torch.equal(dataset[4]['image_sar'], whole[4]['image_sar'][[1]])


def test_descriptions_name_the_bands(tmp_path: Path) -> None:
    array = np.ones((2, 4, 4), np.float32)
    for name in ('A', 'B'):
        for number in range(10):
            path = tmp_path / 'sar' / name / f'{number}.tif'
            write_tile(path, array, descriptions=['VV', 'VH'])
    dataset = PairedFolders(str(tmp_path), bands={'sar': ['VH']})
    assert dataset.bands == {'sar': ('VH',)}
    dataset = PairedFolders(str(tmp_path))
    name = dataset.identifier(1)
    write_tile(tmp_path / f'sar/{name}.tif', array, descriptions=['VH', 'VV'])
    with pytest.raises(BandError, match=rf'{name}\.tif has its bands in the order VH'):
        dataset[1]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'bands': {'sar': ['HH']}}, r"bands of 'sar' .*'HH'.*\['B1', 'B2'\]"),
        ({'bands': {'sar': ['B1', 'B1']}}, 'give each at most once'),
        ({'bands': {'sar': []}}, 'give each at most once'),
        (
            {'band_names': {'sar': ['VV']}},
            r"2 bands of 'sar' in .* named \['VV'\]: give",
        ),
        ({'band_names': {'sar': ['VV', 'VV']}}, 'give each a unique name'),
    ],
)
def test_wrong_bands(root: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(BandError, match=message):
        PairedFolders(str(root), **arguments)


@pytest.mark.parametrize(
    'arguments',
    [
        {'bands': {'optical': ['B1']}},
        {'units': {'optical': 'dB'}},
        {'band_names': {'optical': ['B1']}},
        {'modalities': []},
        {'modalities': ['sar', 'sar']},
        {'folders': {'sar': 'sar'}, 'modalities': ['optical']},
    ],
)
def test_unknown_modality(root: Path, arguments: dict[str, Any]) -> None:
    with pytest.raises(ModalityError, match='modalities'):
        PairedFolders(str(root), **arguments)


def test_missing_folders(root: Path, tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=r'no folder .*nowhere: .*<Class>/<stem>\.t'):
        PairedFolders(str(tmp_path / 'nowhere'))
    with pytest.raises(LayoutError, match="thermal of modality 'thermal' does not ex"):
        PairedFolders(str(root), modalities=['sar', 'thermal'])
    with pytest.raises(LayoutError, match="S1 of modality 'sar' does not exist"):
        PairedFolders(str(root), folders={'ms': 'ms', 'sar': 'S1'})
    with pytest.raises(LayoutError, match='holds no folder with class folders'):
        PairedFolders(str(root / 'sar'))
    (root / 'empty').mkdir()
    with pytest.raises(LayoutError, match="'e' holds no class folders with images"):
        PairedFolders(str(root), folders={'e': 'empty'})


def test_stems_in_one_modality_only(root: Path) -> None:
    for number in range(1, 8):
        (root / 'sar' / 'Crop' / f'Crop_{number}.tif').unlink()
    (root / 'ms' / 'Water' / 'Water_9.tif').unlink()
    message = re.escape(
        '8 of 40 samples are not in every modality: ms lacks 1 (Water/Water_9); sar '
        'lacks 7 (Crop/Crop_1, Crop/Crop_2, Crop/Crop_3, Crop/Crop_4, Crop/Crop_5, '
        '...). Complete the folders, or'
    )
    for modalities in (None, ['ms'], ['sar']):
        with pytest.raises(PairingError, match=message):
            PairedFolders(str(root), modalities=modalities)


@pytest.mark.parametrize('missing', ['skip', 'keep'])
def test_missing_samples_do_not_move_others_between_splits(
    root: Path, missing: Any
) -> None:
    full = {s: set(stems(PairedFolders(str(root), s))) for s in ('train', 'test')}
    lost = {'ms': {'Water/Water_9', 'Crop/Crop_5'}, 'sar': {'Crop/Crop_2'}}
    for modality, names in lost.items():
        for name in names:
            (root / modality / f'{name}.tif').unlink()
    everything = lost['ms'] | lost['sar']
    for split, before in full.items():
        both, ms, sar = (
            set(stems(PairedFolders(str(root), split, modalities=m, missing=missing)))
            for m in (['ms', 'sar'], ['ms'], ['sar'])
        )
        assert both == before - everything
        assert ms == before - (lost['ms'] if missing == 'keep' else everything)
        assert sar == before - (lost['sar'] if missing == 'keep' else everything)


def test_no_sample_is_complete(tmp_path: Path) -> None:
    for modality in ('ms', 'sar'):
        for number in range(5):
            path = tmp_path / modality / 'A' / f'{modality}{number}.npy'
            write_tile(path, np.ones((1, 2, 2)))
    with pytest.raises(PairingError, match=r'10 of 10 .* need the same stem'):
        PairedFolders(str(tmp_path), missing='skip')


def test_class_in_one_modality_only(root: Path) -> None:
    shutil.rmtree(root / 'sar' / 'Water')
    with pytest.raises(PairingError, match=r'sar lacks 20 .Water/Water_1,'):
        PairedFolders(str(root))
    with pytest.raises(SplitError, match="'train' has no sample of Water"):
        PairedFolders(str(root), missing='skip')


def test_same_stem_twice(root: Path) -> None:
    shutil.copy(root / 'ms/Crop/Crop_1.tif', root / 'ms/Crop/Crop_1.png')
    with pytest.raises(PairingError, match=r'Crop/Crop_1\.png and ms/Crop/Crop_1\.t'):
        PairedFolders(str(root))


def test_classes(root: Path) -> None:
    with pytest.raises(LabelError, match=r"holds the classes \['Water'\]"):
        PairedFolders(str(root), classes=['Crop'])
    with pytest.raises(LabelError, match='names a class twice'):
        PairedFolders(str(root), classes=['Crop', 'Water', 'Crop'])
    with pytest.raises(SplitError, match="Split 'train' has no sample of Forest"):
        PairedFolders(str(root), classes=['Crop', 'Water', 'Forest'])
    with pytest.raises(SplitError, match="Unknown split 'valid'"):
        PairedFolders(str(root), 'valid')


def test_too_few_samples_for_a_split(tmp_path: Path) -> None:
    root = write_pairs(tmp_path, count=7, shapes=SMALL)
    (root / 'ms/Crop/Crop_7.tif').unlink()
    (root / 'sar/Crop/Crop_7.tif').unlink()
    with pytest.warns(UserWarning, match="Split 'val' has no sample of Crop:"):
        dataset = PairedFolders(str(root), 'val')
    assert dataset.labels.tolist() == [1]


def test_bad_files(root: Path) -> None:
    dataset = PairedFolders(str(root))
    name = dataset.identifier(1)
    path = root / 'sar' / f'{name}.tif'
    write_tile(path, np.ones((3, 4, 4), np.float32))
    with pytest.raises(BandError, match=rf'{path} has 3 bands, but 2 are expected'):
        dataset[1]
    write_tile(path, np.ones((2, 4, 5), np.float32))
    with pytest.raises(TileSizeError, match=rf'{name} \(sar\) is 4x5 pixels'):
        dataset[1]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CorruptFileError, match=str(path)):
        dataset[1]


def test_missing_values(root: Path) -> None:
    dataset = PairedFolders(str(root))
    array = np.ones((2, 4, 4), np.float32)
    array[0, 1, 1] = -9999
    write_tile(root / 'sar' / f'{dataset.identifier(2)}.tif', array, nodata=-9999)
    assert torch.isnan(dataset[2]['image_sar']).sum() == 1
    strict = PairedFolders(str(root), missing_values='error')
    with pytest.raises(MissingValueError, match=r'\(sar\) has 1 missing values'):
        strict[2]


@pytest.mark.parametrize('column', ['file', 'stem'])
@pytest.mark.parametrize('form', ['{0}/{1}.tif', '{1}.tif', '{0}\\{1}', '{1}'])
def test_groups(root: Path, column: str, form: str) -> None:
    rows = [
        {column: form.format(c, f'{c}_{n}'), 'event': f'E{n % 4}'}
        for c in ('Crop', 'Water')
        for n in range(1, 21)
    ]
    write_groups(root / 'index.csv', [*rows, {column: 'other.tif', 'event': 'E9'}])
    common: dict[str, Any] = {
        'split_scheme': 'groups',
        'groups': 'index.csv',
        'group_column': 'event',
        'val_groups': ['E1'],
        'test_groups': ['E2'],
    }
    for split, remainders in {'train': {0, 3}, 'val': {1}, 'test': {2}}.items():
        names = stems(PairedFolders(str(root), split, **common))
        assert {int(n.split('_')[1]) % 4 for n in names} == remainders
        assert len(names) == 10 * len(remainders)
    absolute = common | {'groups': str(root / 'index.csv')}
    assert stems(PairedFolders(str(root), 'test', **absolute)) == names
    rotated = common | {'val_groups': None, 'test_groups': None, 'run': 1}
    names = stems(PairedFolders(str(root), 'test', **rotated))
    assert {int(n.split('_')[1]) % 4 for n in names} == {1}


@pytest.mark.parametrize('separator', [',', ';', '\t'])
@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16', 'utf-16-le', 'cp1252'])
def test_groups_from_a_spreadsheet(encoding: str, separator: str) -> None:
    keys = [('Forêt', f'Forêt_{n}') for n in range(3)]
    rows = [f'{name}.tif{separator}Zürich {name[-1]}' for _, name in keys]
    table = '\r\n'.join([f'file{separator}event', *rows]).encode(encoding)
    groups = read_groups(table, 'g.csv', 'event', keys)
    assert groups == [f'Zürich {n}' for n in range(3)]
    if encoding == 'cp1252':
        other = table.replace('ê'.encode(encoding), b'\xe8')
        with pytest.raises(SplitError, match='not UTF-8 and was read as Windows-1252'):
            read_groups(other, 'g.csv', 'event', keys)


@pytest.mark.parametrize(
    ('table', 'message'),
    [
        (
            b'file,group\na,1\nb,"' + b'x' * 200_000,
            r'g\.csv, line 3: field larger than',
        ),
        (b'file,group\na,\x81\n', r"g\.csv, line 2: the bytes b'\\x81"),
        (b'file,group\na,\x00\n', r'g\.csv, line 2: a zero byte'),
    ],
)
def test_tables_that_are_no_text(table: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_groups(table, 'g.csv', 'group', [('A', 'a')])


def test_groups_with_a_class_column(tmp_path: Path) -> None:
    shapes = {'x': (1, 2, 2)}
    write_pairs(tmp_path, classes=['A'], count=6, shapes=shapes)
    shutil.copytree(tmp_path / 'x' / 'A', tmp_path / 'x' / 'B')
    rows = [
        {'file': f'A_{n}.tif', 'class': c, 'group': f'{c}{n % 3}'}
        for c in 'AB'
        for n in range(1, 7)
    ]
    write_groups(tmp_path / 'g.csv', rows)
    dataset = PairedFolders(
        str(tmp_path),
        'test',
        split_scheme='groups',
        groups='g.csv',
        test_groups=['A0', 'B1'],
    )
    assert stems(dataset) == ['A/A_3', 'A/A_6', 'B/A_1', 'B/A_4']


def test_bad_groups(root: Path) -> None:
    def make(**arguments: Any) -> PairedFolders:
        return PairedFolders(str(root), split_scheme='groups', **arguments)

    with pytest.raises(SplitError, match='needs groups=, the CSV file'):
        make()
    with pytest.raises(LayoutError, match=r'There is no table of groups .*g\.csv'):
        make(groups='g.csv')
    rows = [{'file': f'Crop_{n}.tif', 'group': f'{n % 3}'} for n in range(1, 21)]
    write_groups(root / 'g.csv', rows)
    with pytest.raises(SplitError, match=r'20 of 40 samples have no group .*Water_1,'):
        make(groups='g.csv')
    with pytest.raises(SplitError, match=r"the columns \['file', 'group'\]: .*'event'"):
        make(groups='g.csv', group_column='event')
    write_groups(root / 'g.csv', [*rows, {'file': 'Crop_3', 'group': '9'}])
    with pytest.raises(SplitError, match="puts Crop_3 into '0' and '9'"):
        make(groups='g.csv')
    (root / 'g.csv').write_text('')
    with pytest.raises(SplitError, match=r'has the columns \[\]'):
        make(groups='g.csv')
    rows += [{'file': f'Water_{n}.tif', 'group': f'{n % 3}'} for n in range(1, 21)]
    write_groups(root / 'g.csv', rows)
    with pytest.raises(SplitError, match=r"Unknown groups \['5'\]"):
        make(groups='g.csv', test_groups=['5'])
    with pytest.raises(SplitError, match="Split 'val' is empty"):
        make(groups='g.csv', test_groups=['0'], split='val')


def test_a_folder_for_each_split(tmp_path: Path) -> None:
    write_pairs(tmp_path / 'train', ['A', 'B', 'C'], 3, SMALL, FOLDERS)
    write_pairs(tmp_path / 'test', ['A', 'B', 'C'], 2, SMALL, FOLDERS)
    write_pairs(tmp_path / 'val', ['B', 'C'], 1, SMALL, FOLDERS)

    def make(split: str, **arguments: Any) -> PairedFolders:
        return PairedFolders(str(tmp_path), split, split_scheme='folder', **arguments)

    test = make('test', folders=FOLDERS)
    assert stems(test) == [f'{c}/{c}_{n}' for c in 'ABC' for n in (1, 2)]
    assert test[0]['image_ms'].shape == (3, 6, 6)
    assert make('train').modalities == ('S1', 'S2')
    assert len(make('train')) == 9
    with pytest.warns(UserWarning, match="Split 'val' has no sample of A:"):
        assert make('val').labels.tolist() == [1, 2]
    with pytest.raises(SplitError, match="'train' has no sample of D: training needs"):
        make('train', classes=list('ABCD'))
    # what the message advises
    shutil.rmtree(tmp_path / 'train' / 'S1' / 'A')
    shutil.rmtree(tmp_path / 'train' / 'S2' / 'A')
    with pytest.raises(SplitError, match="Split 'train' has no sample of A:"):
        make('train')
    shutil.rmtree(tmp_path / 'test' / 'S1' / 'A')
    shutil.rmtree(tmp_path / 'test' / 'S2' / 'A')
    assert make('train').classes == ('B', 'C')
    write_pairs(tmp_path / 'train', ['A'], 3, SMALL, FOLDERS)
    shutil.rmtree(tmp_path / 'val')
    assert len(make('train')) == 9
    with pytest.raises(LayoutError, match=r'no folder .*val: '):
        make('val')


def test_fingerprint(root: Path, tmp_path: Path) -> None:
    first = PairedFolders(str(root)).fingerprint()
    assert PairedFolders(str(root), 'test', modalities=['sar']).fingerprint() == first
    copy = tmp_path / 'copy'
    shutil.copytree(root, copy)
    assert PairedFolders(str(copy), run=2).fingerprint() == first
    array = np.ones((3, 6, 6), np.uint16)
    for path in (copy / 'ms').rglob('*.tif'):
        size = path.stat().st_size
        write_tile(path, array, crs='EPSG:32631')
        assert path.stat().st_size == size
    rescaled = PairedFolders(str(copy)).fingerprint()
    assert rescaled != first
    for modality in SMALL:
        (copy / modality / 'Crop' / 'Crop_1.tif').unlink()
    assert PairedFolders(str(copy)).fingerprint() not in {first, rescaled}


def test_split_hash(root: Path) -> None:
    train = PairedFolders(str(root))
    assert train.split_hash() == PairedFolders(str(root)).split_hash()
    others = [
        PairedFolders(str(root), 'test'),
        PairedFolders(str(root), run=1),
        PairedFolders(str(root), classes=['Water', 'Crop']),
    ]
    assert len({d.split_hash() for d in [train, *others]}) == 4


def test_workers_and_transforms(root: Path) -> None:
    dataset = PairedFolders(str(root), transforms=_negate)
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again[3]['image_ms'], dataset[3]['image_ms'])
    assert (dataset[3]['image_ms'] <= 0).all()
    loader = DataLoader(dataset, batch_size=8, num_workers=1)
    batches = list(loader)
    assert [len(b['label']) for b in batches] == [8, 8, 8, 4]
    assert torch.equal(torch.cat([b['label'] for b in batches]), dataset.labels)


def _negate(sample: dict[str, Any]) -> dict[str, Any]:
    return sample | {'image_ms': -sample['image_ms']}


def test_error_leaves_a_worker_process(root: Path) -> None:
    dataset = PairedFolders(str(root))
    path = root / 'sar' / f'{dataset.identifier(0)}.tif'
    path.write_bytes(b'')
    with pytest.raises(CorruptFileError, match=str(path)):
        next(iter(DataLoader(dataset, num_workers=1)))


def test_plot(root: Path) -> None:
    dataset = PairedFolders(str(root))
    figure = dataset.plot(dataset[0] | {'prediction': torch.tensor(1)}, suptitle='x')
    assert len(figure.axes) == 2
    assert figure.axes[1].get_title() == 'sar\nLabel: Crop\nPrediction: Water'
    plt.close(figure)


def test_real_column_blocks(real_data: Path, tmp_path: Path) -> None:
    root = real_data / 'sen1floods11_pairs'
    files = sorted((root / 'S2_MS').rglob('*.tif'))
    rows = [{'file': f.name, 'group': str(int(f.stem[-3:]) // 128)} for f in files]
    write_groups(tmp_path / 'columns.csv', rows)
    lengths = {}
    for split in ('train', 'val', 'test'):
        dataset = PairedFolders(
            str(root),
            split,
            folders={'ms': 'S2_MS', 'sar': 'S1_SAR'},
            split_scheme='groups',
            groups=str(tmp_path / 'columns.csv'),
        )
        lengths[split] = len(dataset)
        assert dataset.classes == ('SparseOrBuilt', 'Vegetated', 'Water')
        columns = {int(name[-3:]) // 128 for name in stems(dataset)}
        assert len(columns) == {'train': 2, 'val': 1, 'test': 1}[split]
    assert sum(lengths.values()) == 173
    sample = dataset[0]
    assert sample['image_ms'].shape == (13, 32, 32)
    assert sample['image_sar'].mean() < 0


@pytest.mark.slow
def test_real_events(real_data: Path) -> None:
    lengths = [
        len(
            PairedFolders(
                str(real_data / 'ombria_pairs'),
                split,
                folders={'optical': 'S2', 'sar': 'S1'},
                split_scheme='groups',
                groups='index.csv',
                group_column='event',
                val_groups=['E08', 'E09'],
                test_groups=['E10'],
            )
        )
        for split in ('train', 'val', 'test')
    ]
    assert lengths == [1477, 365, 351]

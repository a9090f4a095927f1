# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""TorchGeo's data sets of several sensors, as small files in their layouts."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from torchgeo.datasets import BigEarthNet, CopernicusBenchEuroSATS1, So2Sat, TreeSatAI

from torchgeo_discomkd.datamodules import (
    PairedBigEarthNetDataModule,
    PairedCopernicusBenchDataModule,
    PairedSEN12MSDataModule,
    PairedSo2SatDataModule,
    PairedTreeSatAIDataModule,
)
from torchgeo_discomkd.datasets import (
    PairedBigEarthNet,
    PairedCopernicusBench,
    PairedDatasets,
    PairedSEN12MS,
    PairedSo2Sat,
    PairedTreeSatAI,
    write_pack,
)
from torchgeo_discomkd.datasets.samples import Samples
from torchgeo_discomkd.errors import (
    BandError,
    CorruptFileError,
    LabelError,
    LayoutError,
    ModalityError,
    PackError,
    SettingError,
    UserError,
)

from . import torchgeo_files as files

EARLIER = ('B01', 'B02', 'B03', 'B04', 'B05', 'B06', 'B07', 'B08')
OPTICAL = files.OPTICAL_V2
OPTICAL_L1C = (*files.OPTICAL, 'B10', 'B11', 'B12')


class Kind(NamedTuple):
    """A data set and what is expected of it."""

    write: Callable[[Path], Path]
    read: Callable[..., PairedDatasets]
    module: Callable[..., Any]

    #: Position of each band in the order in which the files were written.
    bands: Mapping[str, Mapping[str, int]]
    units: Mapping[str, str]
    sizes: Sequence[int]
    classes: int
    task: str = 'multiclass'


def positions(names: Sequence[str]) -> dict[str, int]:
    return {name: i for i, name in enumerate(names)}


S1 = positions(('VV', 'VH'))
# TorchGeo sorts the files of radar by name
S1_SORTED = {'VH': 1, 'VV': 0}
DN_DB = {'ms': 'reflectance x 10000', 'sar': 'dB'}

KINDS = {
    'so2sat': Kind(
        files.write_so2sat,
        PairedSo2Sat,
        PairedSo2SatDataModule,
        {
            'ms': positions(So2Sat.all_s2_band_names),
            'sar': positions(So2Sat.all_s1_band_names),
        },
        {'ms': 'reflectance', 'sar': 'linear components'},
        (51, 17, 17),
        17,
    ),
    'bigearthnet_v1': Kind(
        files.write_bigearthnet_v1,
        lambda root, *a, **k: PairedBigEarthNet(root, *a, version='1', **k),
        lambda root, **k: PairedBigEarthNetDataModule(root, version='1', **k),
        {'ms': positions(OPTICAL), 'sar': S1_SORTED},
        DN_DB,
        (4, 4, 4),
        19,
        'multilabel',
    ),
    'bigearthnet_v2': Kind(
        files.write_bigearthnet_v2,
        PairedBigEarthNet,
        PairedBigEarthNetDataModule,
        {'ms': positions(OPTICAL), 'sar': S1_SORTED},
        DN_DB,
        (4, 4, 4),
        19,
        'multilabel',
    ),
    'sen12ms': Kind(
        files.write_sen12ms,
        PairedSEN12MS,
        PairedSEN12MSDataModule,
        {'ms': positions(OPTICAL_L1C), 'sar': S1},
        DN_DB,
        (30, 10, 20),
        10,
    ),
    'treesatai': Kind(
        files.write_treesatai,
        PairedTreeSatAI,
        PairedTreeSatAIDataModule,
        {
            'aerial': positions(('IR', 'G', 'B', 'R')),
            'ms': positions(TreeSatAI.all_bands_dict['s2']),
            'sar': positions(('VV', 'VH', 'VV/VH')),
        },
        DN_DB | {'aerial': 'digital numbers', 'sar': 'unknown'},
        (18, 2, 5),
        15,
        'multilabel',
    ),
    'copernicus_eurosat': Kind(
        files.write_copernicus_eurosat,
        lambda *a, **k: PairedCopernicusBench('eurosat', *a, **k),
        lambda *a, **k: PairedCopernicusBenchDataModule('eurosat', *a, **k),
        # B8A is the last band of its files
        {'ms': positions((*EARLIER, 'B09', 'B10', 'B11', 'B12', 'B8A')), 'sar': S1},
        DN_DB,
        (20, 10, 10),
        10,
    ),
    'copernicus_bigearthnet': Kind(
        files.write_copernicus_bigearthnet,
        lambda *a, **k: PairedCopernicusBench('bigearthnet', *a, **k),
        lambda *a, **k: PairedCopernicusBenchDataModule('bigearthnet', *a, **k),
        {'ms': positions(OPTICAL), 'sar': S1},
        DN_DB,
        (4, 4, 4),
        19,
        'multilabel',
    ),
}


SLOW = ('bigearthnet_v1', 'copernicus_eurosat')


@pytest.fixture(
    scope='module',
    params=[pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in KINDS],
)
def kind(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Kind, str]:
    """A data set and its folder, which tests only read."""
    kind = KINDS[request.param]
    return kind, str(kind.write(tmp_path_factory.mktemp(request.param)))


def identifiers(dataset: PairedDatasets) -> list[str]:
    return [dataset.identifier(i) for i in range(len(dataset))]


def test_splits_bands_units_and_labels(kind: tuple[Kind, str]) -> None:
    own, root = kind
    names: list[str] = []
    for split, size in zip(files.SPLITS, own.sizes, strict=True):
        dataset = own.read(root, split)
        assert len(dataset) == size
        assert dataset.task == own.task
        assert dataset.units == own.units
        assert {m: set(b) for m, b in dataset.bands.items()} == {
            m: set(b) for m, b in own.bands.items()
        }
        assert len(dataset.classes) == own.classes
        names += identifiers(dataset)
    assert len(set(names)) == sum(own.sizes)
    train = own.read(root)
    sample = train[1]
    for modality, bands in own.bands.items():
        means = sample[f'image_{modality}'].mean(dim=(1, 2)).tolist()
        scale = 0.5 if modality == 'aerial' else 1
        for name, mean in zip(train.bands[modality], means, strict=True):
            expected = scale * files.expected(modality, bands[name])
            # each band is 6 or more from its neighbours
            assert mean == pytest.approx(expected, abs=1.5), (modality, name)
    if own.bands['sar'] is S1_SORTED:
        # TorchGeo rounds the radar of BigEarthNet to whole dB
        assert torch.equal(sample['image_sar'], sample['image_sar'].round())
    if own.task == 'multilabel':
        assert train.labels.shape == (len(train), own.classes)
        assert train.labels.dtype == torch.int64
        assert train.labels.unique().tolist() == [0, 1]
        assert torch.equal(sample['label'], train.labels[1])
    else:
        assert train.labels.unique().tolist() == list(range(own.classes))


QUICK = ('so2sat', 'copernicus_bigearthnet')
SOME_SLOW = [
    n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in KINDS
]


@pytest.mark.parametrize('name', SOME_SLOW)
def test_batches_of_the_data_module(name: str, tmp_path: Path) -> None:
    own = KINDS[name]
    root = str(own.write(tmp_path))
    chosen = {m: [*bands][:1] for m, bands in own.bands.items()}
    module = own.module(root, bands=chosen, batch_size=2, paired=True)
    module.setup('fit')
    batch = next(iter(module.train_dataloader()))
    train: Any = module.train_dataset
    assert torch.equal(batch['label'], train.labels[batch['index']])
    for modality in own.bands:
        assert batch[f'image_{modality}'].shape[:2] == (2, 1)
    assert train.bands == {m: tuple(names) for m, names in chosen.items()}


@pytest.mark.parametrize('chosen', [{'ms': ['B99']}, {'thermal': ['B1']}])
def test_bands_and_modalities_that_it_lacks(
    kind: tuple[Kind, str], chosen: dict[str, list[str]]
) -> None:
    own, root = kind
    with pytest.raises((BandError, ModalityError), match=r"B99|Unknown .*'thermal'"):
        own.read(root, bands=chosen)
    with pytest.raises(ModalityError, match='thermal'):
        own.read(root, modalities=['thermal', 'ms'])


def test_missing_data_set_is_named(kind: tuple[Kind, str], tmp_path: Path) -> None:
    own, _ = kind
    with pytest.raises(LayoutError, match=r'not found in .* documentation'):
        own.read(str(tmp_path))


def test_labels_are_those_in_the_files(kind: tuple[Kind, str]) -> None:
    own, root = kind
    train = own.read(root)
    for name, label in zip(identifiers(train), train.labels, strict=True):
        found = [train.classes[i] for i in np.flatnonzero(label)]
        if own.read is PairedBigEarthNet:
            table = pd.read_parquet(f'{root}/metadata.parquet').set_index('patch_id')
            assert sorted(found) == sorted(table.loc[name]['labels'])
        elif own.read is PairedTreeSatAI:
            path = Path(root, 'labels', 'TreeSatBA_v9_60m_multi_labels.json')
            listed = json.loads(path.read_text())[f'{name}.tif']
            assert sorted(found) == sorted(genus for genus, _ in listed)
        elif own.task == 'multiclass':
            label_name, _, key = name.partition('/')
            assert train.classes[label] == label_name
            if own.read is PairedSEN12MS:
                assert key.endswith(f'_p{int(label)}')
            if own.read is PairedSo2Sat:
                h5py = pytest.importorskip('h5py')
                with h5py.File(f'{root}/training.h5') as file:
                    row = file['label'][int(key.partition('/')[2])]
                assert row.argmax() == label


def test_labels_of_version_1_are_joined_and_kept(tmp_path: Path) -> None:
    root = str(files.write_bigearthnet_v1(tmp_path))
    all_classes = PairedBigEarthNet(root, version='1', num_classes=43)
    names = BigEarthNet.class_sets[43]
    assert all_classes.classes == tuple(names)
    assert [row.nonzero().flatten().tolist() for row in all_classes.labels] == [
        list(range(n, 43, 4)) for n in range(4)
    ]
    joined = PairedBigEarthNet(root, version='1')
    convert = BigEarthNet.label_converter
    for n, row in enumerate(joined.labels):
        expected = {convert[i] for i in range(n, 43, 4) if i in convert}
        assert set(row.nonzero().flatten().tolist()) == expected
    kept = sorted(tmp_path.glob('.torchgeo_discomkd/labels-*.json'))
    # of three splits, with 19 and with 43 classes
    assert len(kept) == 6
    for path in tmp_path.rglob('*_labels_metadata.json'):
        path.write_text(json.dumps({'labels': [names[0]]}))
    assert torch.equal(PairedBigEarthNet(root, version='1').labels, joined.labels)
    for path in kept:
        path.write_text('[0')
    # what is damaged is read again
    with pytest.warns(UserWarning, match='no sample of Industrial'):
        again = PairedBigEarthNet(root, version='1')
    assert again.labels.sum(0).tolist() == [4, *[0] * 18]


MASKS = [
    # IGBP classes of the four quarters, and the label
    ((1, 2, 12, 12), 'Forest'),  # a tie: the first in the list
    ((1, 5, 12, 14), 'Forest'),
    ((12, 14, 17, 17), 'Croplands'),  # a tie with water
    ((12, 17, 17, 17), 'Water'),
    ((6, 7, 8, 10), 'Shrubland'),  # two classes of shrubland
    ((0, 255, 254, 15), 'Snow and ice'),  # pixels without a class do not count
]


def test_label_of_a_mask(sen12ms: str, tmp_path: Path) -> None:
    root = tmp_path / 'data'
    shutil.copytree(sen12ms, root, ignore=shutil.ignore_patterns('.*'))
    season = 'ROIs1158_spring'
    for n, (quarters, _) in enumerate(MASKS):
        mask = np.repeat(np.array(quarters, np.uint8), 16).reshape(1, 8, 8).repeat(4, 0)
        name = f'{season}_lc_50_p{n}.tif'
        files.write_tile(root / season / 'lc_50' / name, mask)
    found = identifiers(PairedSEN12MS(str(root), 'test'))
    for n, (_, label) in enumerate(MASKS):
        assert f'{label}/{season}_50_p{n}' in found


@pytest.fixture(scope='module')
def sen12ms(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(files.write_sen12ms(tmp_path_factory.mktemp('sen12ms')))


def test_scenes_are_held_out_whole(sen12ms: str) -> None:
    scenes = {
        split: {name.rsplit('_', 1)[0].partition('/')[2] for name in identifiers(data)}
        for split in files.SPLITS
        for data in [PairedSEN12MS(sen12ms, split)]
    }
    assert len(scenes['train']) == 3
    assert len(scenes['val']) == 1
    assert not scenes['train'] & scenes['val']


def test_tiles_of_other_classes_are_left(sen12ms: str) -> None:
    chosen = ('Water', 'Forest')
    dataset = PairedSEN12MS(sen12ms, classes=chosen)
    assert dataset.classes == chosen
    assert len(dataset) == 6
    assert 'left 48 files' in str(dataset.counts[0])
    with pytest.raises(LabelError, match='Jungle'):
        PairedSEN12MS(sen12ms, classes=['Jungle'])


def test_versions_of_so2sat(tmp_path: Path) -> None:
    root = str(files.write_so2sat(tmp_path, '3_block'))
    train = PairedSo2Sat(root, version='3_block')
    with pytest.warns(UserWarning, match='averages over classes'):
        val = PairedSo2Sat(root, 'val', version='3_block')
    assert (len(train), len(val)) == (46, 5)
    assert not {*identifiers(train)} & {*identifiers(val)}
    with pytest.warns(UserWarning, match='averages'):
        again = PairedSo2Sat(root, 'val', version='3_block')
    assert identifiers(again) == identifiers(val)
    with pytest.raises(SettingError, match='43'):
        PairedBigEarthNet(root, version='2', num_classes=43)


def test_missing_pixels_of_radar(tmp_path: Path) -> None:
    root = str(files.write_treesatai(tmp_path))
    name = 'Picea_abies_train_0_WEFL_NLF'
    values = np.full((3, 6, 6), -10, np.float32)
    values[1, 0, 0] = -9999
    files.write_tile(tmp_path / 's1' / '60m' / f'{name}.tif', values)
    train = PairedTreeSatAI(root)
    row = identifiers(train).index(name)
    missing = train[row]['image_sar'].isnan()
    assert missing.nonzero().tolist() == [[1, 0, 0]]
    with pytest.raises(UserError, match='1 missing values'):
        PairedTreeSatAI(root, missing_values='error')[row]


def write_wide_labels(root: Path) -> None:
    h5py = pytest.importorskip('h5py')
    with h5py.File(root / 'training.h5', 'a') as file:
        del file['label']
        file['label'] = np.eye(16)[np.arange(51) % 16]


def add_label_column(root: Path) -> None:
    path = root / 'bigearthnet_s1s2' / 'multilabel-train.csv'
    pd.read_csv(path).assign(more=1).to_csv(path, index=False)


def count_labels(root: Path) -> None:
    path = root / 'bigearthnet_s1s2' / 'multilabel-train.csv'
    table = pd.read_csv(path)
    table.iloc[0, 2] = 2
    table.to_csv(path, index=False)


def name_unknown_genus(root: Path) -> None:
    path = root / 'labels' / 'TreeSatBA_v9_60m_multi_labels.json'
    path.write_text(path.read_text().replace('"Abies"', '"Yucca"'))


def drop_labels(root: Path) -> None:
    (root / 'labels' / 'TreeSatBA_v9_60m_multi_labels.json').write_text('{}')


def remove_tiles(root: Path) -> None:
    for path in (root / 'BigEarthNet-S1').rglob('*.tif'):
        path.unlink()


def remove_band(root: Path) -> None:
    next((root / 'BigEarthNet-S2').rglob('*_02_B11.tif')).unlink()


def damage_table(root: Path) -> None:
    (root / 'metadata.parquet').write_bytes(b'PAR1')


def remove_lists(root: Path) -> None:
    (root / 'train_filenames.lst').unlink()


@pytest.mark.parametrize(
    ('name', 'damage', 'error', 'message'),
    [
        ('so2sat', write_wide_labels, LabelError, r'\(51, 16\).*\(51, 17\)'),
        (
            'copernicus_bigearthnet',
            add_label_column,
            LabelError,
            r'\[20\] labels, but 19',
        ),
        ('copernicus_bigearthnet', count_labels, LabelError, 'other than 0 and 1'),
        ('treesatai', name_unknown_genus, LabelError, 'Yucca'),
        ('treesatai', drop_labels, LabelError, 'cannot be read .KeyError'),
        ('treesatai', remove_lists, LayoutError, 'lacks a file'),
        ('bigearthnet_v2', remove_tiles, CorruptFileError, 'cannot be read'),
        ('bigearthnet_v2', remove_band, BandError, '_02 .* has 11 bands'),
        ('bigearthnet_v2', damage_table, CorruptFileError, 'cannot be opened'),
    ],
)
def test_damage_is_named(
    name: str,
    damage: Callable[[Path], None],
    error: type[UserError],
    message: str,
    tmp_path: Path,
) -> None:
    own = KINDS[name]
    damage(own.write(tmp_path))
    with pytest.raises(error, match=message):
        [*own.read(str(tmp_path))]


def test_h5py_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(files.write_so2sat(tmp_path))
    monkeypatch.setitem(__import__('sys').modules, 'h5py', None)
    with pytest.raises(SettingError, match='h5py'):
        PairedSo2Sat(root)


@pytest.mark.parametrize('name', SOME_SLOW)
def test_pack_holds_the_same_samples(name: str, tmp_path: Path) -> None:
    own = KINDS[name]
    root = str(own.write(tmp_path / 'data'))
    path = str(tmp_path / 'pack.safetensors')
    source = own.read(root)
    report = write_pack(source, path)
    assert {m: count for m, (count, _) in report.images.items()} == dict.fromkeys(
        own.bands, sum(own.sizes)
    )
    # whole numbers stay narrow, also the radar of BigEarthNet, which TorchGeo rounds
    kinds = {m: kind for m, (_, kind) in report.images.items()}
    assert kinds['ms'] == 'uint16'
    assert kinds['sar'] == ('int16' if name.startswith('big') else 'float32')
    for split in files.SPLITS:
        read, packed = own.read(root, split), own.read(path, split)
        assert packed.split_hash() == read.split_hash()
        assert packed.fingerprint() == read.fingerprint()
        assert (packed.bands, packed.units) == (read.bands, read.units)
        assert torch.equal(packed.labels, read.labels)
        for i in (0, len(read) - 1):
            one, other = read[i], packed[i]
            for key, value in one.items():
                assert torch.allclose(value, other[key], 0, 0, equal_nan=True), key
    chosen = {m: [*bands][-1:] for m, bands in own.bands.items()}
    assert own.read(path, bands=chosen).bands == {m: (b,) for m, [b] in chosen.items()}


@pytest.mark.slow
def test_settings_of_a_pack_are_compared(sen12ms: str, tmp_path: Path) -> None:
    path = str(tmp_path / 'pack.safetensors')
    write_pack(PairedSEN12MS(sen12ms), path)
    with pytest.raises(PackError, match=r"classes'.*Water.*use those settings"):
        PairedSEN12MS(path, classes=('Forest', 'Water'))
    with pytest.raises(PackError, match=r'SEN12MS.*So2Sat'):
        PairedSo2Sat(path)
    with pytest.raises(PackError, match=r"'aerial': None.*TreeSatAI"):
        PairedTreeSatAI(path)
    sources = PairedSEN12MS.sources(path)
    with pytest.raises(PackError, match=r"'multiclass'.*'multilabel'"):
        PairedDatasets(sources, root=path, task='multilabel')


def test_class_of_file_names_is_checked(tmp_path: Path) -> None:
    files.write_copernicus_eurosat(tmp_path)
    path = tmp_path / CopernicusBenchEuroSATS1.directory / 'eurosat-train.txt'
    path.write_text(path.read_text().replace('Forest_1', 'Wood_1'))
    with pytest.raises(LabelError, match='Wood'):
        PairedCopernicusBench('eurosat', str(tmp_path))


def test_damaged_table_of_samples_is_refused() -> None:
    samples = Samples('multiclass', ('Crop',), {'a': (0,)}, {'a': 'train'}, {})
    table = samples.to_json()
    assert Samples.from_json(table, 'pack') == samples
    damaged = (
        None,
        table[:-1],
        table.replace(b'[0]', b'[1]'),
        table.replace(b'[0]', b'[0, 0]'),
        table.replace(b'"train"', b'"x"'),
        table.replace(b'"multiclass"', b'"several"'),
    )
    for content in damaged:
        with pytest.raises(PackError, match='pack is damaged'):
            Samples.from_json(content, 'pack')

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset
from torchgeo.datasets import (
    CopernicusBenchEuroSATS1,
    EuroSAT,
    EuroSATSpatial,
    NonGeoClassificationDataset,
)
from torchgeo.datasets.utils import Sample, rasterio_loader

from tests.fakes import EUROSAT_CLASSES, write_pairs, write_torchgeo_eurosat
from torchgeo_discomkd.datamodules import PairedDatasetsDataModule
from torchgeo_discomkd.datasets import (
    DatasetSource,
    PairedDatasets,
    cached_statistics,
    file_stems,
    positions,
    sample_labels,
)
from torchgeo_discomkd.datasets.opened import open_source
from torchgeo_discomkd.datasets.splits import SPLITS
from torchgeo_discomkd.errors import (
    BandError,
    CorruptFileError,
    LabelError,
    ModalityError,
    PairingError,
    SettingError,
    SplitError,
    UnitError,
    UserError,
)


@pytest.fixture(scope='module')
def eurosat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('eurosat')
    write_torchgeo_eurosat(root, root)
    return root


def class_in_name(dataset: CopernicusBenchEuroSATS1) -> list[str]:
    return [name.split('_')[0] for name in dataset.files]


def joined(
    root: Path, ms: type[EuroSAT] = EuroSAT, split: str = 'train', **kwargs: Any
) -> PairedDatasets:
    sources = {
        'ms': DatasetSource(ms, {'root': root}, bands=('B04', 'B08')),
        'sar': DatasetSource(
            CopernicusBenchEuroSATS1, {'root': root}, labels=class_in_name, unit='dB'
        ),
    }
    return PairedDatasets(sources, split, root=str(root), **kwargs)


def test_eurosat_is_joined_by_name(eurosat: Path) -> None:
    dataset = joined(eurosat)
    # they number classes differently
    assert CopernicusBenchEuroSATS1.classes != EUROSAT_CLASSES
    assert dataset.classes == EUROSAT_CLASSES
    assert dataset.labels.tolist() == list(range(10))
    assert dataset.bands == {'ms': ('B04', 'B08'), 'sar': ('VV', 'VH')}
    assert dataset.units == {'ms': 'unknown', 'sar': 'dB'}
    sar = CopernicusBenchEuroSATS1(eurosat)
    ms = EuroSAT(eurosat)
    for i, name in enumerate(EUROSAT_CLASSES):
        assert dataset.identifier(i) == f'{name}/{name}_1'
        row = list(sar.files).index(f'{name}_1.jpg')
        assert torch.equal(dataset[i]['image_sar'], sar[row]['image'])
        assert torch.equal(dataset[i]['image_ms'], ms[i]['image'][[3, 7]])


def test_the_first_source_decides_the_split(eurosat: Path) -> None:
    dataset = joined(eurosat, EuroSATSpatial)
    assert dataset.identifier(0) == 'AnnualCrop/AnnualCrop_3'
    # so it does for the other alone
    other = joined(eurosat, EuroSATSpatial, modalities=['sar'])
    assert other.identifier(0) == dataset.identifier(0)
    assert torch.equal(other[5]['image_sar'], dataset[5]['image_sar'])
    assert other.split_hash() == dataset.split_hash()


def test_no_image_is_read_to_join(
    eurosat: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    load = CopernicusBenchEuroSATS1.__getitem__

    def count(self: CopernicusBenchEuroSATS1, index: int) -> Sample:
        read.append(index)
        return load(self, index)

    monkeypatch.setattr(CopernicusBenchEuroSATS1, '__getitem__', count)
    joined(eurosat)
    # the first one, for its bands
    assert len(read) == 1


def test_statistics_are_kept_where_they_are_asked_for(eurosat: Path) -> None:
    dataset = joined(eurosat)
    values = torch.stack([dataset[i]['image_sar'] for i in range(10)])
    mean = cached_statistics(dataset)['sar'].mean
    assert mean == pytest.approx(values.mean(dim=(0, 2, 3)).tolist(), rel=1e-5)
    assert len(list(eurosat.glob('.torchgeo_discomkd/*.json'))) == 2
    assert not list((eurosat / EuroSAT.base_dir).glob('.*'))
    # that of other splits is the same, that of other values is not
    assert joined(eurosat, split='val').fingerprint() == dataset.fingerprint()
    doubled = DatasetSource(EuroSAT, {'root': eurosat, 'transforms': double})
    other = PairedDatasets({'ms': doubled})
    once = PairedDatasets({'ms': DatasetSource(EuroSAT, {'root': eurosat})})
    assert other.fingerprint() != once.fingerprint()


def double(sample: Sample) -> Sample:
    return sample | {'image': 2 * sample['image']}


def folder_source(root: Path, **kwargs: Any) -> DatasetSource:
    """Source of a data set in class folders, without splits."""
    return DatasetSource(
        NonGeoClassificationDataset,
        {'root': root, 'loader': load_tile},
        splits={},
        **kwargs,
    )


def load_tile(path: str) -> Any:
    return rasterio_loader(path)


def test_data_sets_without_splits(tmp_path: Path) -> None:
    write_pairs(tmp_path, count=12)
    (tmp_path / 'sar' / 'Crop' / 'Crop_12.tif').unlink()
    sources = {m: folder_source(tmp_path / m) for m in ('ms', 'sar')}
    with pytest.raises(PairingError, match=r'1 of 24 .* sar lacks 1 \(Crop/Crop_12\)'):
        PairedDatasets(sources)
    names: dict[str, list[str]] = {}
    for split in ('train', 'val', 'test'):
        dataset = PairedDatasets(sources, split, missing='skip')
        names[split] = [dataset.identifier(i) for i in range(len(dataset))]
        kept = PairedDatasets(sources, split, ['ms'], missing='keep')
        # what is kept changes no split
        assert {kept.identifier(i) for i in range(len(kept))} >= set(names[split])
    found = [name for part in names.values() for name in part]
    assert len(found) == len(set(found)) == 23
    assert str(dataset.counts[0]).endswith(
        'left 1 file: 1 not in every modality, or of no class'
    )
    other = PairedDatasets(sources, missing='skip', run=1)
    assert [other.identifier(i) for i in range(len(other))] != names['train']


class Tiles(Dataset[Sample]):
    """A data set in memory, like those of TorchGeo that list no files."""

    def __init__(
        self,
        split: str = 'train',
        labels: Sequence[Any] = (0, 1, 0),
        classes: Sequence[str] | None = ('Forest', 'Water'),
        shape: Sequence[int] = (2, 8, 8),
        bands: Sequence[str] | None = None,
    ) -> None:
        assert split in {'train', 'val', 'test'}
        self.split, self.labels, self.shape = split, labels, shape
        if classes is not None:
            self.classes = classes
        if bands is not None:
            self.bands = bands

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Sample:
        image = torch.full(tuple(self.shape), -float(index))
        return {'image': image, 'label': torch.tensor(self.labels[index])}


def tiles(
    keys: Any = positions, labels: Any = sample_labels, **kwargs: Any
) -> DatasetSource:
    own = {k: kwargs.pop(k) for k in ('labels', 'classes', 'shape') if k in kwargs}
    own |= {'bands': b} if (b := kwargs.pop('names', None)) else {}
    if given := kwargs.pop('given', None):
        own |= given
    return DatasetSource(Tiles, own, keys=keys, labels=labels, **kwargs)


def test_classes_are_renamed_and_numbered_by_the_first_source() -> None:
    other = tiles(
        given={'labels': (1, 0, 1)}, classes=('Water', 'Forest'), bands=('B2',)
    )
    dataset = PairedDatasets({'a': tiles(), 'b': other})
    assert dataset.classes == ('Forest', 'Water')
    assert [dataset.identifier(i) for i in range(3)] == [
        'Forest/train/0',
        'Forest/train/2',
        'Water/train/1',
    ]
    assert dataset.bands == {'a': ('B1', 'B2'), 'b': ('B2',)}
    sample = dataset[1]
    assert sample['label'] == 0
    assert sample['image_b'].shape == (1, 8, 8)
    assert sample['image_b'].unique() == -2


class SplitClasses(Tiles):
    """A data set that lists the classes of each split, numbered by that list."""

    def __init__(self, split: str, listed: dict[str, list[str]]) -> None:
        names = {'train': 'BAB', 'val': 'AAB', 'test': 'AA'}[split]
        super().__init__(split, [listed[split].index(name) for name in names])
        self.classes = listed[split]


@pytest.mark.parametrize(
    ('val', 'test', 'expected'),
    [
        (['B', 'A'], ['A'], ('B', 'A')),
        (['A', 'B'], ['A', 'B'], ('B', 'A')),
        (['A', 'C', 'B'], ['D', 'A'], ('B', 'A', 'C', 'D')),
    ],
)
def test_splits_may_list_other_classes(
    val: list[str], test: list[str], expected: tuple[str, ...]
) -> None:
    listed = {'train': ['B', 'A'], 'val': val, 'test': test}
    # in whatever order they are named
    for names in (SPLITS, SPLITS[::-1]):
        splits = {name: name for name in names}
        source = DatasetSource(
            SplitClasses, {'listed': listed}, splits, positions, sample_labels
        )
        opened = open_source('a', source)
        assert opened.classes == expected
        assert opened.labels is not None
        found = [opened.labels[f'val/{i}'] for i in range(3)]
        assert found == [('A',), ('A',), ('B',)]
    if len(expected) == 2:
        dataset = PairedDatasets({'a': source, 'b': source})
        assert dataset.labels.tolist() == [0, 0, 1]


def test_values_are_converted_and_missing_ones_are_nan() -> None:
    source = tiles(unit='db_x10', nodata=-1)
    dataset = PairedDatasets({'sar': source})
    assert dataset.units == {'sar': 'dB'}
    values = [float(dataset[i]['image_sar'].unique()[0]) for i in range(3)]
    assert values[:2] == pytest.approx([0, -0.2])
    assert values[2] != values[2]
    assert dataset.number_in_file('sar', 0, -0.2) == pytest.approx(-2)
    assert dataset.encoding('sar') == 'unit db_x10, converted to dB; nodata -1'


def test_values_in_another_unit_are_refused_with_advice(tmp_path: Path) -> None:
    # -200 dB
    labels, keys = [0, 1] * 101, positions
    given = {'labels': labels, 'shape': (1, 2, 2)}
    dataset = PairedDatasets({'sar': tiles(keys, given=given, unit='dB')})
    dataset.root = str(tmp_path)
    with pytest.raises(UnitError, match=r"unit='db_x\d+' of the source of 'sar'"):
        cached_statistics(dataset)


def lengthened(dataset: Any) -> list[str]:
    return [*positions(dataset), 'one more']


def same(dataset: Any) -> list[str]:
    return ['a'] * len(dataset)


def many(dataset: Any) -> list[list[int]]:
    return [[0, 1]] * len(dataset)


def wrong(dataset: Any) -> list[int]:
    return [7] * len(dataset)


def turned(dataset: Any) -> list[str]:
    return ['Water', 'Forest', 'Water']


def apart(dataset: Any) -> list[str]:
    return [f'b{key}' for key in positions(dataset)]


@pytest.mark.parametrize(
    ('source', 'error', 'message'),
    [
        (lambda: tiles(keys=None), SettingError, 'lists no files'),
        (lambda: tiles(keys=lengthened), SettingError, 'returns 4 values for the 3'),
        (lambda: tiles(keys=same), PairingError, r'2 samples of .*\(a, a\)'),
        (lambda: tiles(keys=apart), PairingError, '18 of 18 samples are not in every'),
        (lambda: tiles(labels=many), LabelError, r'several labels .*\[0, 1\]'),
        (lambda: tiles(labels=wrong), LabelError, r"samples of \['7'\]"),
        (lambda: tiles(labels=turned), LabelError, 'Water, not Forest|Forest, not'),
        (lambda: tiles(classes=('Wood', 'Water')), LabelError, r"of \['Wood'\]"),
        (lambda: tiles(splits={'train': 'x'}), SettingError, 'cannot be opened with'),
        (lambda: tiles(splits={'valid': 'val'}), SplitError, "'valid'"),
        (lambda: tiles(given={'root': 'x'}), SettingError, "argument 'root'"),
        (lambda: tiles(bands=('B9',)), BandError, r"'b' are \['B9'\]"),
        (lambda: tiles(band_names=('VV',)), BandError, "named .*'VV'"),
        (lambda: tiles(given={'shape': (8, 8)}), CorruptFileError, r'\(8, 8\)'),
    ],
)
def test_what_does_not_fit_is_refused(
    source: Callable[[], DatasetSource], error: type[UserError], message: str
) -> None:
    with pytest.raises(error, match=message):
        PairedDatasets({'a': tiles(), 'b': source()})


def test_two_splits_are_not_the_same() -> None:
    splits = {'train': 'train', 'val': 'train'}
    with pytest.raises(SplitError, match='another one for each'):
        PairedDatasets({'a': tiles(splits=splits)})


@pytest.mark.parametrize(
    ('sources', 'error', 'message'),
    [
        ({}, ModalityError, 'modalities'),
        ({'a': tiles(labels=None)}, SettingError, 'sample_labels'),
        ({'a': tiles(given={'classes': None})}, LabelError, 'does not name'),
        ({'a': tiles(given={'labels': ([0, 1],)})}, LabelError, r'labels \[0, 1\]'),
        ({'a': tiles(given={'labels': (0,)})}, SplitError, 'no sample of Water'),
    ],
)
def test_what_cannot_be_labelled_is_refused(
    sources: dict[str, DatasetSource], error: type[UserError], message: str
) -> None:
    with pytest.raises(error, match=message):
        PairedDatasets(sources)


def test_unreadable_tiles_are_named(eurosat: Path, tmp_path: Path) -> None:
    write_pairs(tmp_path, count=12, shapes={'ms': (3, 8, 8)})
    dataset = PairedDatasets({'ms': folder_source(tmp_path / 'ms')})
    [path] = (tmp_path / 'ms').rglob(f'{dataset.identifier(3).split("/")[1]}.tif')
    path.write_bytes(b'II*')
    with pytest.raises(CorruptFileError, match=re.escape(path.stem)):
        dataset[3]


def test_sources_are_opened_once(eurosat: Path) -> None:
    opened: list[str] = []

    class Counted(EuroSAT):
        def __init__(self, root: Path, split: Any) -> None:
            opened.append(split)
            super().__init__(root, split)

    sources = {
        'ms': DatasetSource(Counted, {'root': eurosat}),
        'sar': DatasetSource(CopernicusBenchEuroSATS1, {'root': eurosat}, unit='dB'),
    }
    datamodule = PairedDatasetsDataModule(sources, root=str(eurosat), batch_size=4)
    datamodule.setup('fit')
    assert opened == ['train', 'val', 'test']
    batch, _, _ = next(iter(datamodule.train_dataloader()))
    # each sensor is drawn from alone
    assert batch['ms']['index'].tolist() != batch['sar']['index'].tolist()
    train: Any = datamodule.train_dataset
    for part in batch.values():
        assert part['label'].tolist() == train.labels[part['index']].tolist()


def test_stems_of_data_sets_with_lists(eurosat: Path) -> None:
    assert file_stems(CopernicusBenchEuroSATS1(eurosat))[0] == 'AnnualCrop_1'

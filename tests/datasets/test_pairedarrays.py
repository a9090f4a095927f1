# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from torch.utils.data import DataLoader

from tests.fakes import write_arrays
from torchgeo_discomkd.datasets import PairedArrays, cached_statistics
from torchgeo_discomkd.errors import (
    BandError,
    CorruptFileError,
    LabelError,
    LayoutError,
    ModalityError,
    PairingError,
    SplitError,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_arrays(tmp_path / 'arrays', classes=3)


def replace(path: Path, array: Any) -> None:
    np.save(path, np.asarray(array))


@pytest.mark.parametrize(
    ('split', 'name'),
    [('train', 'train_idx'), ('val', 'valid_idx'), ('test', 'test_idx')],
)
def test_sample(root: Path, split: str, name: str) -> None:
    dataset = PairedArrays(str(root), split)
    rows = np.load(root / f'{name}.npy')
    labels = np.load(root / 'labels.npy')
    assert dataset.modalities == ('ms', 'sar')
    assert dataset.classes == ('0', '1', '2')
    assert dataset.bands['sar'] == ('B1', 'B2')
    assert dataset.units == {'ms': 'unknown', 'sar': 'unknown'}
    assert dataset.labels.tolist() == labels[rows].tolist()
    for modality in ('ms', 'sar'):
        data = np.load(root / f'{modality.upper()}_data_normalized.npy')
        for index, row in enumerate(rows):
            assert np.array_equal(dataset[index][f'image_{modality}'], data[row])
    assert set(dataset[0]) == {'image_ms', 'image_sar', 'label', 'index'}
    assert dataset[0]['label'].dtype == torch.int64
    assert dataset.identifier(0) == f'{labels[rows[0]]}/{rows[0]}'
    assert dataset.georeference(0) is None


def test_runs(tmp_path: Path) -> None:
    write_arrays(tmp_path, seed=1, run=3)
    dataset = PairedArrays(str(tmp_path), run=3)
    assert len(dataset) == 12
    with pytest.raises(LayoutError, match=r'no file .*train_idx\.npy'):
        PairedArrays(str(tmp_path))


def test_names_bands_and_units(root: Path) -> None:
    dataset = PairedArrays(
        str(root),
        prefixes={'radar': 'SAR', 'optical': 'MS'},
        modalities=['radar'],
        classes=['Crop', 'Forest', 'Water'],
        band_names={'radar': ['VV', 'VH']},
        bands={'radar': ['VH'], 'optical': ['B1']},
        units={'radar': 'dB'},
    )
    data = np.load(root / 'SAR_data_normalized.npy')
    row = np.load(root / 'train_idx.npy')[4]
    assert np.array_equal(dataset[4]['image_radar'], data[row][[1]])
    assert dataset.bands == {'radar': ('VH',)}
    assert dataset.units == {'radar': 'dB'}
    assert dataset.identifier(4).split('/')[0] in dataset.classes


def test_one_modality_needs_no_other_on_disk(root: Path) -> None:
    before = PairedArrays(str(root), modalities=['sar'])
    (root / 'MS_data_normalized.npy').unlink()
    after = PairedArrays(str(root), modalities=['sar'])
    assert after.split_hash() == before.split_hash()
    with pytest.raises(LayoutError, match=r'no file .*MS_data_normalized\.npy'):
        PairedArrays(str(root), modalities=['ms'])


def test_float64_and_infinite_values(root: Path) -> None:
    path = root / 'SAR_data_normalized.npy'
    data = np.load(path).astype(np.float64)
    row = np.load(root / 'train_idx.npy')[0]
    data[row, 0, 0, :3] = [np.inf, np.nan, 1e300]
    replace(path, data)
    dataset = PairedArrays(str(root), bands={'sar': ['B1']})
    together, alone = dataset.__getitems__([3, 0])[1], dataset[0]
    for image in (together['image_sar'], alone['image_sar']):
        assert image.dtype == torch.float32
        assert image.shape == (1, 8, 8)
        assert torch.isnan(image).sum() == 3


def test_pickling_does_not_copy_the_arrays(root: Path) -> None:
    dataset = PairedArrays(str(root))
    assert isinstance(dataset.images['ms'].array, np.memmap)
    content = pickle.dumps(dataset)
    assert len(content) < 10_000 < (root / 'MS_data_normalized.npy').stat().st_size
    again = pickle.loads(content)
    assert torch.equal(again[5]['image_ms'], dataset[5]['image_ms'])
    batches = list(DataLoader(dataset, batch_size=18, num_workers=1))
    assert torch.equal(batches[0]['label'], dataset.labels)


def test_arrays_are_not_unpickled(root: Path) -> None:
    for name in ('labels', 'train_idx', 'SAR_data_normalized'):
        content = (root / f'{name}.npy').read_bytes()
        np.save(root / f'{name}.npy', np.array([{}]), allow_pickle=True)
        with pytest.raises(CorruptFileError, match=rf'{name}\.npy cannot be read'):
            PairedArrays(str(root))
        (root / f'{name}.npy').write_bytes(content[:-1])
        with pytest.raises(CorruptFileError, match=rf'{name}\.npy cannot be read'):
            PairedArrays(str(root))
        (root / f'{name}.npy').write_bytes(content)


@pytest.mark.parametrize(
    ('labels', 'message'),
    [
        (np.repeat([0, 1, 3], 10), '3 distinct labels, among them 3: .* 0 to 2'),
        (np.repeat([1, 2, 3], 10), 'among them 3:'),
        (np.repeat([-1, 0, 1], 10), 'among them -1:'),
        (np.repeat([0.0, 1.0, 2.0], 10), 'float64 values'),
        (np.zeros((30, 1), int), r'shape \(30, 1\)'),
    ],
)
def test_bad_labels(root: Path, labels: np.ndarray, message: str) -> None:
    replace(root / 'labels.npy', labels)
    with pytest.raises(LabelError, match=message):
        PairedArrays(str(root))


def test_labels_without_a_number_can_be_evaluated(root: Path) -> None:
    labels = np.load(root / 'labels.npy')
    replace(root / 'labels.npy', np.where(labels == 2, 7, labels))
    with pytest.raises(LabelError, match='among them 7: labels must be 0 to 2'):
        PairedArrays(str(root))
    dataset = PairedArrays(str(root), 'test')
    names, before = list(map(dataset.identifier, range(6))), dataset.split_hash()
    assert dataset.classes == ('0', '1', '7')
    with pytest.warns(UserWarning, match='The data lack 2, 3, 4, 5, 6, which'):
        dataset.join_classes(list(map(str, range(8))))
    rows = np.load(root / 'test_idx.npy')
    assert dataset.labels.tolist() == np.load(root / 'labels.npy')[rows].tolist()
    assert list(map(dataset.identifier, range(6))) == names
    assert dataset.split_hash() == before


def test_number_of_classes(root: Path) -> None:
    with pytest.raises(LabelError, match='among them 2: labels must be 0 to 1 for 2'):
        PairedArrays(str(root), classes=['a', 'b'])
    with pytest.raises(SplitError, match="'train' has no sample of d"):
        PairedArrays(str(root), classes=['a', 'b', 'c', 'd'])


@pytest.mark.parametrize(
    ('rows', 'message'),
    [
        ([0, 30], r'1 rows out of range \(30\): there are 30 samples, 0 to 29'),
        ([-1, 0], r'1 rows out of range \(-1\)'),
        ([0, 3, 0], r'lists samples twice \(0\)'),
        ([0.0, 1.0], 'holds float64 values'),
        ([True, False], 'holds bool values'),
        ([[0], [1]], r'shape \(2, 1\)'),
    ],
)
def test_bad_index(root: Path, rows: Any, message: str) -> None:
    replace(root / 'train_idx.npy', rows)
    with pytest.raises(SplitError, match=message):
        PairedArrays(str(root))
    with pytest.raises(SplitError, match=message):
        PairedArrays(str(root), 'test')


def test_overlapping_splits(root: Path) -> None:
    test = np.load(root / 'test_idx.npy')
    train = np.load(root / 'train_idx.npy')
    replace(root / 'train_idx.npy', np.concatenate([train, test]))
    message = '6 samples are in both train_idx.npy and test_idx.npy .8, 9, 18, 19, 28, '
    with pytest.raises(SplitError, match=message):
        PairedArrays(str(root))
    (root / 'train_idx.npy').unlink()
    assert len(PairedArrays(str(root), 'test')) == 6


def test_bad_split(root: Path) -> None:
    replace(root / 'train_idx.npy', np.arange(10))
    (root / 'valid_idx.npy').unlink()
    (root / 'test_idx.npy').unlink()
    with pytest.raises(SplitError, match="Split 'train' has no sample of 1, 2"):
        PairedArrays(str(root))
    replace(root / 'train_idx.npy', np.empty(0, int))
    with pytest.raises(SplitError, match="Split 'train' is empty"):
        PairedArrays(str(root))
    with pytest.raises(SplitError, match="Unknown split 'valid'"):
        PairedArrays(str(root), 'valid')


def test_bad_arrays(root: Path) -> None:
    path = root / 'SAR_data_normalized.npy'
    data = np.load(path)
    for array, error, message in [
        (data[:, 0], LayoutError, r'shape \(30, 8, 8\): it must hold numbers of shape'),
        (data.astype(np.complex64), LayoutError, 'holds complex64 values'),
        (data[:29], PairingError, r'has 29 samples, but labels\.npy has 30'),
    ]:
        replace(path, array)
        with pytest.raises(error, match=message):
            PairedArrays(str(root))


def test_bad_arguments(root: Path, tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match='There is no folder'):
        PairedArrays(str(tmp_path / 'nowhere'))
    (tmp_path / 'empty').mkdir()
    with pytest.raises(LayoutError, match='holds no array <PREFIX>'):
        PairedArrays(str(tmp_path / 'empty'))
    with pytest.raises(ModalityError, match=r"Unknown modalities \['rgb'\]"):
        PairedArrays(str(root), units={'rgb': 'dB'})
    with pytest.raises(ModalityError, match='modalities='):
        PairedArrays(str(root), modalities=['sar', 'sar'])
    with pytest.raises(BandError, match="bands of 'sar'"):
        PairedArrays(str(root), bands={'sar': ['VV']})
    with pytest.raises(BandError, match=r"2 bands of 'sar' in .* named \['VV'\]: give"):
        PairedArrays(str(root), band_names={'sar': ['VV']})


def test_fingerprint_and_statistics(root: Path) -> None:
    first = PairedArrays(str(root)).fingerprint()
    assert PairedArrays(str(root), 'test', modalities=['sar']).fingerprint() == first
    found = cached_statistics(PairedArrays(str(root)))
    data = np.load(root / 'SAR_data_normalized.npy')[np.load(root / 'train_idx.npy')]
    assert np.allclose(found['sar'].mean, data.mean(axis=(0, 2, 3)))
    path = root / 'SAR_data_normalized.npy'
    replace(path, 2 * np.load(path))
    assert PairedArrays(str(root)).fingerprint() != first


def test_plot(root: Path) -> None:
    dataset = PairedArrays(str(root), transforms=lambda sample: sample)
    figure = dataset.plot(dataset[0])
    assert len(figure.axes) == 2
    plt.close(figure)

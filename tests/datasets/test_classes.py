# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Joining the classes of data with those of a classifier."""

import warnings
from pathlib import Path

import pytest
import torch

from tests.fakes import pack_folders, write_pairs
from torchgeo_discomkd.datamodules.resident import RowLoader
from torchgeo_discomkd.datasets import PairedFolders
from torchgeo_discomkd.errors import LabelError

from .conftest import SMALL

CLASSES = ('Crop', 'For\u00eat', 'Water')


@pytest.fixture(params=['folders', 'pack'])
def dataset(request: pytest.FixtureRequest, tmp_path: Path) -> PairedFolders:
    root = write_pairs(tmp_path / 'pairs', CLASSES, 7, SMALL)
    if request.param == 'pack':
        root = pack_folders(root)
    return PairedFolders(str(root), 'test')


def test_samples_keep_their_class_and_their_order(dataset: PairedFolders) -> None:
    known = ('Water', 'Bog', 'Fore\u0302t', 'Crop')
    identifiers = [dataset.identifier(i) for i in range(len(dataset))]
    names = [dataset.classes[i] for i in dataset.labels.tolist()]
    before, images = dataset.split_hash(), dataset[3]['image_ms']
    with pytest.warns(UserWarning, match='The data lack Bog, which') as shown:
        dataset.join_classes(known)
    assert len(shown) == 1
    assert dataset.classes == known
    expected = {'Water': 0, 'For\u00eat': 2, 'Crop': 3}
    assert dataset.labels.tolist() == [expected[name] for name in names]
    assert dataset.labels.dtype == torch.int64
    assert [dataset.identifier(i) for i in range(len(dataset))] == identifiers
    assert dataset.split_hash() == before
    assert torch.equal(dataset[3]['image_ms'], images)
    batch = dataset.__getitems__([0, 5])
    assert [int(sample['label']) for sample in batch] == dataset.labels[[0, 5]].tolist()
    if dataset.mapped('ms') is not None:
        (rows,) = RowLoader(dataset, [[0, 5]])  # ty: ignore[invalid-argument-type]
        assert torch.equal(rows['label'], dataset.labels[[0, 5]])


def test_the_same_classes_change_nothing(dataset: PairedFolders) -> None:
    labels = dataset.labels
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        dataset.join_classes(list(CLASSES))
    assert dataset.labels is labels


def test_unknown_class(dataset: PairedFolders) -> None:
    with pytest.raises(
        LabelError, match=r"have the classes \['Water'\], but the class"
    ):
        dataset.join_classes(['For\u00eat', 'Crop', 'Rock'])
    assert dataset.classes == CLASSES

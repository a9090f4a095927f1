# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from torchgeo_discomkd.benchmark.resampling import pooled_scores
from torchgeo_discomkd.datasets import (
    DatasetSource,
    PairedArrays,
    PairedDatasets,
    write_pack,
)
from torchgeo_discomkd.errors import LabelError
from torchgeo_discomkd.models import choose_thresholds

from ..labels import LABELS, write_labels


class Tiles(Dataset[Any]):
    """Stands for a data set of TorchGeo with several labels."""

    classes = LABELS

    def __init__(self, split: str) -> None:
        self.files = [f'{split}_{i}.tif' for i in range(4)]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {'image': torch.zeros(2, 8, 8)}


ROWS = [[0, 0, 1], [1, 1, 1], [1, 0, 0], [0, 1, 0]]
NAMES = [['Water'], ['Water', 'Crop', 'Forest'], ['Crop'], ['Forest']]


def joined(first: Any, second: Any, **kwargs: Any) -> PairedDatasets:
    sources = {
        'ms': DatasetSource(Tiles, labels=lambda _: first),  # ty: ignore[invalid-argument-type]
        'sar': DatasetSource(Tiles, labels=lambda _: second),  # ty: ignore[invalid-argument-type]
    }
    return PairedDatasets(sources, **{'task': 'multilabel', **kwargs})


def test_sources_name_labels_or_mark_them() -> None:
    dataset = joined(NAMES, np.array(ROWS))
    assert dataset.labels.tolist() == ROWS
    assert dataset.identifier(1) == 'train_1'
    assert dataset[1]['label'].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ('first', 'task', 'message'),
    [
        (NAMES, 'multiclass', '--data.task multilabel'),
        ([0, 1, 2, 0], 'multilabel', 'one label'),
        ([[0, 1]] * 4, 'multilabel', r'\[2\] labels'),
        ([[0, 1, 2]] * 4, 'multilabel', 'other than 0 and 1'),
        ([['Ice']] * 4, 'multilabel', 'Ice'),
        (NAMES[::-1], 'multilabel', 'another class'),
    ],
)
def test_wrong_labels_of_sources(first: Any, task: str, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        joined(first, ROWS, task=task)


def test_arrays_keep_their_rows_also_in_a_pack(tmp_path: Path) -> None:
    root = write_labels(tmp_path / 'arrays')
    dataset = PairedArrays(str(root), classes=LABELS, task='multilabel')
    expected = np.load(root / 'labels.npy')[:16]
    assert dataset.labels.tolist() == expected.tolist()
    path = tmp_path / 'labels.safetensors'
    write_pack(dataset, path)
    packed = PairedArrays(str(path), classes=LABELS, task='multilabel')
    assert packed.labels.tolist() == expected.tolist()
    torch.testing.assert_close(packed[3]['image_sar'], dataset[3]['image_sar'])


@pytest.mark.parametrize(
    ('labels', 'classes', 'message'),
    [
        (np.full((32, 3), 2), LABELS, 'other than 0 and 1'),
        (np.zeros((32, 3)), LABELS, 'float64'),
        (np.arange(32) % 3, LABELS, r'shape \(32,\)'),
        (np.ones((32, 3), int), LABELS[:2], '3 columns'),
        (np.ones((32, 3), int), ('a;b', 'c', 'd'), 'semicolon'),
    ],
)
def test_wrong_arrays(tmp_path: Path, labels: Any, classes: Any, message: str) -> None:
    root = write_labels(tmp_path / 'arrays')
    np.save(root / 'labels.npy', labels)
    with pytest.raises(LabelError, match=message):
        PairedArrays(str(root), classes=classes, task='multilabel')


def test_unlabelled_rows_and_labels_that_never_occur(tmp_path: Path) -> None:
    root = write_labels(tmp_path / 'arrays')
    labels = np.load(root / 'labels.npy')
    labels[:, 2], labels[24:] = 0, -1
    np.save(root / 'labels.npy', labels)
    (root / 'test_idx.npy').rename(root / 'more_idx.npy')
    with pytest.warns(UserWarning, match='no sample of Water'):
        PairedArrays(
            str(root), classes=LABELS, task='multilabel', unlabelled='more_idx'
        )
    rest = PairedArrays(
        str(root),
        'unlabelled',
        classes=LABELS,
        task='multilabel',
        unlabelled='more_idx',
    )
    assert (rest.labels == -1).all()
    assert rest.labels.shape == (8, 3)


def test_labels_are_joined_by_name(tmp_path: Path) -> None:
    root = write_labels(tmp_path / 'arrays')
    dataset = PairedArrays(str(root), classes=LABELS, task='multilabel')
    before = dataset.labels
    with pytest.warns(UserWarning, match='lack Ice'):
        dataset.join_classes(['Water', 'Ice', 'Forest', 'Crop'])
    assert dataset.labels[:, [3, 2, 0]].equal(before)
    # what the data does not know is not learned as absent
    assert (dataset.labels[:, 1] == -1).all()


def test_thresholds_give_the_highest_f1() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, (40, 3))
    p = np.clip(0.3 * y + 0.7 * rng.random((40, 3)), 0, 1)
    y[:, 2] = 0
    found = choose_thresholds(torch.from_numpy(p), torch.from_numpy(y))
    assert found[2] == 0.5

    def f1(i: int, threshold: float) -> float:
        decided = p[:, i] > threshold
        return 2 * (decided & (y[:, i] == 1)).sum() / (decided.sum() + y[:, i].sum())

    for i in range(2):
        best = max(f1(i, t) for t in [0, *p[:, i]])
        assert f1(i, found[i]) == pytest.approx(best)


def test_resampled_scores_count_every_label() -> None:
    import pandas as pd

    frame = pd.DataFrame(
        {
            'run': 0,
            'group': '',
            'label': ['a; b', 'a', ''],
            'prediction': ['a', 'a; b', 'b'],
        }
    )
    [[[score]]] = pooled_scores([frame], 1, several=True)
    # a: F1 1 of 2 samples, b: 0 of 1
    assert score == pytest.approx(2 / 3)

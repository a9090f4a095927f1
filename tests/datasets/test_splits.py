# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import json
from pathlib import Path

import numpy as np
import pytest

from torchgeo_discomkd.datasets.splits import (
    SPLITS,
    check_split,
    group_split,
    stratified_split,
)
from torchgeo_discomkd.errors import SplitError

GOLDEN = json.loads(
    (Path(__file__).parents[1] / 'data' / 'golden_splits.json').read_text()
)['split_sizes']['expected']


@pytest.mark.parametrize(('count', 'sizes'), GOLDEN.items())
def test_published_sizes(count: str, sizes: list[int]) -> None:
    labels = np.zeros(int(count), int)
    assert [len(stratified_split(labels, 0, s)) for s in SPLITS] == sizes


@pytest.mark.parametrize('run', [0, 3])
def test_every_class_is_shuffled_by_itself(run: int) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [50, 20, 13]))
    expected = []
    for label, stop in zip([0, 1, 2], [35, 14, 9], strict=True):
        members = np.flatnonzero(labels == label)
        order = np.random.RandomState(1000 * run).permutation(len(members))
        expected += members[order][:stop].tolist()
    train = stratified_split(labels, run, 'train')
    assert train.dtype == np.int64
    assert train.tolist() == sorted(expected)


def test_splits_are_a_partition_that_depends_on_the_run() -> None:
    labels = np.repeat([0, 1], [40, 30])
    parts = [stratified_split(labels, 1, s) for s in SPLITS]
    assert sorted(np.concatenate(parts).tolist()) == list(range(70))
    assert parts[0].tolist() != stratified_split(labels, 2, 'train').tolist()
    assert len(stratified_split([], 0, 'train')) == 0


def test_named_groups() -> None:
    groups = ['a', 'b', 'c', 'a', 'd']
    named = {'val_groups': ['b'], 'test_groups': ['d']}
    assert group_split(groups, 0, 'train', **named).tolist() == [0, 2, 3]
    assert group_split(groups, 0, 'val', **named).tolist() == [1]
    assert group_split(groups, 7, 'test', **named).tolist() == [4]
    assert len(group_split(groups, 0, 'val', test_groups=['d'])) == 0


def test_rotation_of_groups() -> None:
    groups = [f'E{i % 10:02}' for i in range(40)]
    seen = []
    for run in range(5):
        parts = {
            split: {groups[i] for i in group_split(groups, run, split)}
            for split in SPLITS
        }
        assert [len(parts[s]) for s in SPLITS] == [7, 1, 2]
        assert len(set.union(*parts.values())) == 10
        seen += sorted(parts['test'])
    assert sorted(seen) == sorted(set(groups))
    assert {groups[i] for i in group_split(groups, 0, 'test')} == {'E00', 'E01'}


def test_groups_that_do_not_work() -> None:
    with pytest.raises(SplitError, match=r"Unknown groups \['x'\]: the data have"):
        group_split(['a', 'b'], 0, 'train', val_groups=['x'])
    with pytest.raises(SplitError, match=r"Groups \['a'\] are named for validation"):
        group_split(['a', 'b'], 0, 'train', val_groups=['a'], test_groups=['a'])
    with pytest.raises(SplitError, match=r"2 groups \['a', 'b'\] cannot make three"):
        group_split(['a', 'b'], 0, 'train')
    with pytest.raises(SplitError, match="Unknown split 'valid'"):
        group_split(['a', 'b', 'c'], 0, 'valid')
    with pytest.raises(SplitError, match='run=-1'):
        stratified_split([0], -1, 'train')


def test_check_split() -> None:
    check_split([0, 1, 1], ['a', 'b'], 'train')
    with pytest.raises(SplitError, match="Split 'val' is empty"):
        check_split([], ['a', 'b'], 'val')
    with pytest.raises(SplitError, match="Split 'train' has no sample of a, c:"):
        check_split([1], ['a', 'b', 'c'], 'train')
    with pytest.warns(UserWarning, match="Split 'val' has no sample of a, c:"):
        check_split([1], ['a', 'b', 'c'], 'val')

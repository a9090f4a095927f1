# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import pytest
import torch

from torchgeo_discomkd.datamodules import (
    RemainderBatchSampler,
    SeededSampler,
    seeded_generator,
)


def test_generators_are_independent() -> None:
    draws = {
        parts: torch.rand(4, generator=seeded_generator(*parts)).tolist()
        for parts in [(0, 'ms'), (0, 'sar'), (1, 'ms'), (0, 0, 'ms')]
    }
    assert len({tuple(draw) for draw in draws.values()}) == 4
    again = torch.rand(4, generator=seeded_generator(0, 'ms')).tolist()
    assert again == draws[0, 'ms']


def test_permutation_depends_on_seed_epoch_and_name() -> None:
    epoch = 0

    def order(seed: int = 0, name: str = 'ms') -> list[int]:
        return list(SeededSampler(50, seed, name, lambda: epoch))

    first = order()
    assert sorted(first) == list(range(50))
    assert first == order()
    assert first != order(seed=1)
    assert first != order(name='sar')
    epoch = 1
    assert first != order()


def test_second_pass_within_an_epoch_differs_and_epochs_do_not_depend_on_it() -> None:
    epoch = 0
    cycled = SeededSampler(50, 0, 'ms', lambda: epoch)
    plain = SeededSampler(50, 0, 'ms', lambda: epoch)
    first = list(cycled)
    assert list(cycled) != first
    assert list(plain) == first
    epoch = 1
    assert list(cycled) == list(plain)


@pytest.mark.parametrize(
    ('length', 'sizes'),
    [
        (8, [4, 4]),
        (9, [4, 5]),
        (10, [4, 4, 2]),
        (5, [5]),
        (4, [4]),
        (3, [3]),
        (1, [1]),
        (13, [4, 4, 5]),
    ],
)
def test_remainder_of_one_joins_the_batch_before(length: int, sizes: list[int]) -> None:
    batches = RemainderBatchSampler(range(length), batch_size=4, drop_last=False)
    assert [len(batch) for batch in batches] == sizes
    assert len(batches) == len(sizes)
    assert [i for batch in batches for i in batch] == list(range(length))

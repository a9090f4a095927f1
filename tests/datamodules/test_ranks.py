# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer

from torchgeo_discomkd.datamodules import PairedFoldersDataModule
from torchgeo_discomkd.datamodules.ranks import EvenBatches, RankBatches
from torchgeo_discomkd.datamodules.sampling import RemainderBatchSampler, SeededSampler
from torchgeo_discomkd.datamodules.unlabelled import UnlabelledBatchSampler
from torchgeo_discomkd.errors import BatchSizeError, SettingError, SplitError


def sampler(length: int, name: str = 'sar') -> SeededSampler:
    return SeededSampler(length, seed=0, name=name, epoch=lambda: 0)


@pytest.mark.parametrize('processes', [2, 3, 5])
@pytest.mark.parametrize('length', [28, 40, 41, 42, 43])
def test_training_batches_are_divided(length: int, processes: int) -> None:
    size = 2 * processes
    whole = list(RemainderBatchSampler(sampler(length), size, least=2 * processes))
    parts = [
        list(
            RankBatches(
                RemainderBatchSampler(sampler(length), size, least=2 * processes),
                rank,
                processes,
            )
        )
        for rank in range(processes)
    ]
    for step, batch in enumerate(whole):
        own = [part[step] for part in parts]
        assert sorted(p for part in own for p in part) == sorted(batch)
        assert min(map(len, own)) >= 2
        assert max(map(len, own)) - min(map(len, own)) <= 1
    assert all(len(part) == len(whole) for part in parts)
    assert sorted(p for batch in whole for p in batch) == list(range(length))


def test_a_batch_of_all_processes_is_that_of_one() -> None:
    # unless a remainder is too small for all of them
    one = list(RemainderBatchSampler(sampler(46), 16))
    assert list(RemainderBatchSampler(sampler(46), 16, least=6)) == one


def test_labelled_and_unlabelled_samples_are_divided() -> None:
    def batches(least: int) -> UnlabelledBatchSampler:
        pool = sampler(9, 'sar/unlabelled')
        return UnlabelledBatchSampler(sampler(23), 8, pool, ratio=0.5, least=least)

    parts = [list(RankBatches(batches(4), rank, 2)) for rank in (0, 1)]
    for step, batch in enumerate(batches(4)):
        labelled = [sum(p < 23 for p in part[step]) for part in parts]
        assert sorted(parts[0][step] + parts[1][step]) == sorted(batch)
        assert abs(labelled[0] - labelled[1]) <= 1


@pytest.mark.parametrize('processes', [1, 2, 3, 4])
@pytest.mark.parametrize('batch_size', [1, 2, 3, 100])
@pytest.mark.parametrize('length', [4, 5, 7, 12, 13])
def test_evaluated_once(length: int, batch_size: int, processes: int) -> None:
    samplers = [
        EvenBatches(length, batch_size, rank, processes) for rank in range(processes)
    ]
    parts = [list(s) for s in samplers]
    assert {len(part) for part in parts} == {len(s) for s in samplers}
    assert len({len(part) for part in parts}) == 1
    assert all(batch for part in parts for batch in part)
    assert max(len(b) for part in parts for b in part) <= batch_size + (processes > 1)
    found = [p for part in parts for batch in part for p in batch]
    assert sorted(found) == list(range(length))


def trainer(devices: int, **kwargs: Any) -> Trainer:
    return Trainer(accelerator='cpu', devices=devices, logger=False, **kwargs)


@pytest.mark.parametrize(
    ('devices', 'options', 'error', 'message'),
    [
        (2, {'batch_size': 28}, BatchSizeError, '2 processes, but only 1 batches'),
        (15, {'batch_size': 8}, BatchSizeError, 'training samples for 15 processes'),
        (7, {'batch_size': 4}, SplitError, "'val' has 2 samples, fewer than the 7"),
    ],
)
def test_too_many_processes(
    devices: int, options: dict[str, Any], error: type, message: str, pairs: Path
) -> None:
    datamodule = PairedFoldersDataModule(str(pairs), **options)
    datamodule.trainer = trainer(devices)
    with pytest.raises(error, match=message):
        datamodule.setup('fit')


def test_overfitting_is_for_one_process(pairs: Path) -> None:
    datamodule = PairedFoldersDataModule(str(pairs))
    datamodule.trainer = trainer(2, overfit_batches=1)
    with pytest.raises(SettingError, match='overfit_batches=1 is for one process'):
        datamodule.setup('fit')


def test_lightning_divides_nothing_once_more(pairs: Path) -> None:
    """With its own sampler, the order would depend on neither seed nor modality."""
    datamodule = PairedFoldersDataModule(str(pairs), batch_size=4, seed=0)
    datamodule.trainer = trainer(1, strategy='ddp')
    datamodule.setup('fit')
    alone = PairedFoldersDataModule(str(pairs), batch_size=4, seed=0)
    alone.setup('fit')
    connector = datamodule.trainer._data_connector
    loaders = [dm.train_dataloader() for dm in (datamodule, alone)]
    loaders[0].flattened = [
        connector._prepare_dataloader(loader, shuffle=True, mode=None)
        for loader in loaders[0].flattened
    ]
    for (own, _, _), (expected, _, _) in zip(*loaders, strict=True):
        for modality in ('ms', 'sar'):
            found = own[modality]['index'].tolist()
            assert found == expected[modality]['index'].tolist()

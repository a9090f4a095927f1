# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""A pack that lives on the device as a whole, and packs read by data modules."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler

from tests.fakes import pack_folders, write_tile
from torchgeo_discomkd.datamodules import MultiModalDataModule, PairedFoldersDataModule
from torchgeo_discomkd.datamodules.resident import ResidentImages, RowLoader
from torchgeo_discomkd.datasets import PairedFolders
from torchgeo_discomkd.errors import SettingError


def batches(module: MultiModalDataModule) -> list[dict[str, torch.Tensor]]:
    module.setup('fit')
    module.setup('test')
    loaders = [module.val_dataloader(), module.test_dataloader()]
    return [
        module.on_after_batch_transfer(module.on_before_batch_transfer(batch, 0), 0)
        for loader in loaders
        for batch in loader
    ]


@pytest.mark.parametrize('options', [{'resident': True}, {'num_workers': 2}])
def test_evaluation_from_a_pack(pairs: Path, options: dict[str, Any]) -> None:
    # values that no signed number of 16 bits is
    for tile in (pairs / 'ms').rglob('*.tif'):
        write_tile(tile, np.full((13, 8, 8), 40_000, np.uint16))
    kwargs: dict[str, Any] = {'eval_batch_size': 3, 'bands': {'ms': ['B3', 'B1']}}
    packed = pack_folders(pairs)
    expected = batches(PairedFoldersDataModule(str(pairs), **kwargs))
    found = batches(PairedFoldersDataModule(str(packed), **kwargs, **options))
    assert len(found) == len(expected) == 5
    for batch, other in zip(found, expected, strict=True):
        assert batch.keys() == other.keys()
        for key in other:
            assert torch.equal(batch[key], other[key])


@pytest.mark.parametrize('count', [0, 3])
def test_rows_of_an_epoch_are_on_the_device(pairs: Path, count: int) -> None:
    dataset = PairedFolders(str(pack_folders(pairs)))
    batches = BatchSampler(range(count), 2, drop_last=False)
    found = list(RowLoader(dataset, batches, 'meta'))
    assert [len(batch['index']) for batch in found] == [2, 1][:count]
    for batch in found:
        assert {x.device.type for x in batch.values()} == {'meta'}
    for batch, expected in zip(RowLoader(dataset, batches), batches, strict=True):
        assert batch['index'].tolist() == expected
        assert batch['label'].tolist() == dataset.labels[expected].tolist()


def test_resident_needs_a_pack(pairs: Path) -> None:
    module = PairedFoldersDataModule(str(pairs), resident=True)
    with pytest.raises(SettingError, match='needs a pack as root'):
        module.setup('fit')


def test_resident_reads_no_samples(pairs: Path) -> None:
    module = PairedFoldersDataModule(str(pack_folders(pairs)), resident=True)
    module.kwargs['transforms'] = lambda sample: sample
    with pytest.raises(SettingError, match='no samples that transforms could change'):
        module.setup('test')


def test_resident_without_room(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(torch.Tensor):
        def to(self, *args: Any, **kwargs: Any) -> Any:
            raise torch.OutOfMemoryError('CUDA out of memory')

    packed = PairedFolders(str(pack_folders(pairs)))
    from_numpy = torch.from_numpy
    monkeypatch.setattr(torch, 'from_numpy', lambda x: from_numpy(x).as_subclass(Full))
    with pytest.raises(
        SettingError, match=r"no room .* of 'ms'.*--data.resident false"
    ):
        ResidentImages(packed, 'ms', torch.device('cpu'))

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Samples without labels in training batches, and who decides that they are paired."""

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torchgeo.datasets.utils import Sample

from tests.fakes import pack_folders, write_pairs, write_tile
from torchgeo_discomkd.datamodules import PairedFoldersDataModule
from torchgeo_discomkd.datamodules.sampling import SeededSampler
from torchgeo_discomkd.datamodules.unlabelled import UnlabelledBatchSampler
from torchgeo_discomkd.errors import SettingError, SplitError, TileSizeError
from torchgeo_discomkd.tasks import DisCoMKD, FusionClassification


class Recorder(LightningModule):
    """Keeps the batches that a trainer hands to it."""

    def __init__(self, pairing: str | None = None, uses: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.pairing = pairing
        self.uses_unlabelled = uses
        self.epochs: list[list[Sample]] = []

    def on_train_epoch_start(self) -> None:
        self.epochs.append([])

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor:
        self.epochs[-1].append(batch)
        return self.weight.sum()

    def validation_step(self, batch: Sample, batch_idx: int) -> None:
        assert batch['label'].min() >= 0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(epochs: int = 1) -> Trainer:
    return Trainer(
        max_epochs=epochs,
        accelerator='cpu',
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )


def record(root: Path, epochs: int = 1, **kwargs: Any) -> list[list[Sample]]:
    recorder = Recorder()
    options = {'batch_size': 8, 'augment': False, 'unlabelled': 'pool', **kwargs}
    datamodule = PairedFoldersDataModule(str(root), **options)
    trainer(epochs).fit(recorder, datamodule=datamodule)
    return recorder.epochs


@pytest.fixture(scope='module')
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs, and 6 without labels whose pixels are their number; only for reading."""
    pairs = write_pairs(tmp_path_factory.mktemp('pool') / 'pairs', count=20)
    for modality, bands in {'ms': 13, 'sar': 2}.items():
        for n in range(6):
            image = np.full((bands, 8, 8), -10 - n, np.float32)
            write_tile(pairs / modality / 'pool' / f'p{n}.tif', image)
    return pairs


@pytest.fixture(scope='module')
def packed(pool: Path) -> Path:
    """:func:`pool` as a pack; only for reading."""
    return pack_folders(pool, unlabelled='pool')


def number(images: Tensor) -> list[int]:
    return (-10 - images[:, 0, 0, 0]).int().tolist()


@pytest.mark.parametrize(
    'options', [{}, {'num_workers': 1}, {'resident': True}, {'augment': True}]
)
def test_paired_batches(pool: Path, packed: Path, options: dict[str, Any]) -> None:
    root = packed if 'resident' in options else pool
    (batches,) = record(root, paired=True, unlabelled_ratio=0.5, **options)
    # 28 labelled samples: 8 + 8 + 8 + 4, and half as many without labels
    assert [len(b['label']) for b in batches] == [12, 12, 12, 6]
    drawn = []
    for batch in batches:
        none = batch['label'] == -1
        assert none.tolist() == sorted(none.tolist())
        assert int(none.sum()) * 2 == int((~none).sum())
        found = number(batch['image_sar'][none])
        assert found == number(batch['image_ms'][none])
        assert found == (batch['index'][none] - 28).tolist()
        drawn += found
    assert sorted(int(i) for b in batches for i in b['index'] if i < 28) == [*range(28)]
    # a cycle of permutations
    assert sorted(drawn[:6]) == sorted(drawn[6:12]) == [*range(6)]
    assert drawn[:6] != drawn[6:12]


def test_unpaired_batches(pool: Path) -> None:
    epochs = record(pool, epochs=2)
    drawn: dict[str, list[int]] = {'ms': [], 'sar': []}
    for batch in epochs[0] + epochs[1]:
        assert 'label' not in batch
        for modality, numbers in drawn.items():
            labels = batch[f'label_{modality}']
            none = labels == -1
            assert int(none.sum()) * 2 == len(labels)
            found = number(batch[f'image_{modality}'][none])
            assert found == (batch[f'index_{modality}'][none] - 28).tolist()
            numbers += found
    assert len(drawn['ms']) == len(drawn['sar']) == 56
    assert drawn['ms'] != drawn['sar']
    assert drawn['ms'][:28] != drawn['ms'][28:]
    again = record(pool, epochs=2)
    for one, other in zip(epochs[1], again[1], strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_later_epoch_does_not_depend_on_those_before() -> None:
    def batches(epoch: int, before: int) -> list[list[int]]:
        current = [0]
        samplers = (
            SeededSampler(n, 0, name, lambda: current[0])
            for n, name in ((9, 'sar'), (4, 'sar/unlabelled'))
        )
        first, second = samplers
        sampler = UnlabelledBatchSampler(first, 3, second, 1.0)
        for current[0] in range(before, epoch + 1):
            found = list(sampler)
        return found

    assert batches(2, before=0) == batches(2, before=2)


def test_labelled_samples_are_the_same_without_the_others(pool: Path) -> None:
    with_, without = (record(pool, paired=True, unlabelled_ratio=r) for r in (1, 0))
    for batch, plain in zip(with_[0], without[0], strict=True):
        assert plain['label'].min() >= 0
        labelled = batch['label'] >= 0
        assert all(torch.equal(batch[k][labelled], plain[k]) for k in plain)


def test_statistics_are_those_of_labelled_samples(pool: Path) -> None:
    modules = [
        PairedFoldersDataModule(str(pool), unlabelled='pool', unlabelled_ratio=r)
        for r in (0, 1)
    ]
    for module in modules:
        module.setup('fit')
    assert modules[0].statistics == modules[1].statistics
    assert modules[0].profiles == modules[1].profiles
    assert modules[0].any_dataset.split_hash() == modules[1].any_dataset.split_hash()


def test_transforms_see_samples_without_labels(pool: Path) -> None:
    def add(sample: Sample) -> Sample:
        moved = {k: v + 1 for k, v in sample.items() if k.startswith('image_')}
        return sample | moved

    (batches,) = record(pool, transforms=add, paired=True)
    none = batches[0]['label'] == -1
    index = batches[0]['index'][none] - 28
    assert number(batches[0]['image_sar'][none]) == (index - 1).tolist()


@pytest.mark.parametrize('ratio', [-0.5, math.inf, math.nan])
def test_ratio_out_of_range(ratio: float) -> None:
    with pytest.raises(SettingError, match='unlabelled_ratio='):
        PairedFoldersDataModule(unlabelled_ratio=ratio)


@pytest.mark.parametrize(
    ('options', 'uses', 'match'),
    [
        ({'unlabelled': None, 'unlabelled_ratio': 2}, True, 'have no samples without'),
        ({'unlabelled_ratio': 0.05}, True, 'adds no sample to 8 labelled ones'),
        ({}, False, r'cannot learn from the 6 .*--data\.unlabelled_ratio 0'),
    ],
)
def test_settings_without_effect(
    pool: Path, options: dict[str, Any], uses: bool, match: str
) -> None:
    kwargs = {'batch_size': 8, 'unlabelled': 'pool', **options}
    module = PairedFoldersDataModule(str(pool), **kwargs)
    with pytest.raises(SettingError, match=match):
        trainer().fit(Recorder(uses=uses), datamodule=module)


@pytest.fixture(scope='module')
def split_group(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2 classes in groups a, b and c; no place in the latter has both images."""
    root = write_pairs(tmp_path_factory.mktemp('groups') / 'pairs', count=6)
    classes = ('Crop', 'Water')
    rows = [f'{c}_{n},{group}' for c in classes for n, group in enumerate('aaabcc', 1)]
    (root / 'groups.csv').write_text('\n'.join(['file,group', *rows]))
    for name in classes:
        (root / 'ms' / name / f'{name}_5.tif').unlink()
        (root / 'sar' / name / f'{name}_6.tif').unlink()
    return root


def in_groups(root: Path, **kwargs: Any) -> PairedFoldersDataModule:
    options: dict[str, Any] = {'split_scheme': 'groups', 'groups': 'groups.csv'}
    options |= {'val_groups': ['b'], 'unlabelled_groups': ['c'], 'batch_size': 6}
    return PairedFoldersDataModule(str(root), **options, **kwargs)


@pytest.mark.parametrize(
    ('options', 'left'),
    [
        ({'missing': 'keep', 'paired': True}, r'ms and sar \('),
        ({'missing': 'skip', 'paired': True}, r'ms and sar \('),
        ({'missing': 'skip'}, r'ms, sar \('),
    ],
)
def test_no_unlabelled_sample_is_left(
    split_group: Path, options: dict[str, Any], left: str
) -> None:
    with pytest.raises(SplitError, match=rf'left for {left}.*unlabelled_ratio 0'):
        in_groups(split_group, **options).setup('fit')
    in_groups(split_group, **options, unlabelled_ratio=0).setup('fit')


def test_unpaired_modalities_have_their_own_unlabelled_samples(
    split_group: Path, tmp_path: Path
) -> None:
    recorder = Recorder()
    trainer().fit(recorder, datamodule=in_groups(split_group, missing='keep'))
    ((batch,),) = recorder.epochs
    for modality in ('ms', 'sar'):
        assert batch[f'label_{modality}'].tolist()[6:] == [-1] * 6
    # a modality without any
    root = shutil.copytree(split_group, tmp_path / 'pairs')
    for name in ('Crop', 'Water'):
        (root / 'ms' / name / f'{name}_6.tif').unlink()
    with pytest.raises(SplitError, match=r'left for ms \('):
        in_groups(root, missing='keep').setup('fit')


def test_samples_that_cannot_be_used_stop_before_training(
    pool: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(pool, tmp_path / 'pairs')
    write_tile(root / 'sar/pool/p4.tif', np.full((2, 9, 9), -9, np.float32))
    with pytest.raises(TileSizeError, match=r'pool/p4 \(sar\) is 9x9'):
        record(root)


def test_tasks_that_use_them() -> None:
    discomkd = DisCoMKD({'ms': 13, 'sar': 2}, 2, model='test_resnet')
    assert discomkd.uses_unlabelled
    fusion = FusionClassification({'ms': 13, 'sar': 2}, 2, model='test_resnet')
    assert not fusion.uses_unlabelled
    assert discomkd.pairing is None
    assert fusion.pairing is not None
    assert FusionClassification({'sar': 2}, 2, model='test_resnet').pairing is None


@pytest.mark.parametrize('setting', [None, True, False])
@pytest.mark.parametrize('reason', [None, 'transfer needs the same samples'])
def test_the_task_decides_unless_it_is_set(
    pool: Path,
    setting: bool | None,
    reason: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    options: dict[str, Any] = {'unlabelled': 'pool', 'unlabelled_ratio': 0}
    module = PairedFoldersDataModule(str(pool), paired=setting, **options)
    recorder = Recorder(reason)
    if setting is False and reason is not None:
        with pytest.raises(SettingError, match=r'transfer needs .* set --data\.paired'):
            trainer().fit(recorder, datamodule=module)
        return
    caplog.set_level('INFO', 'lightning.pytorch.utilities.rank_zero')
    trainer().fit(recorder, datamodule=module)
    paired = bool(setting) or reason is not None
    assert ('label' in recorder.epochs[0][0]) is paired
    asked = setting is None and reason is not None
    assert (f'training batches are paired: {reason}' in caplog.text) is asked

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torchgeo.datasets.utils import Sample

from tests.fakes import write_pairs, write_tile
from torchgeo_discomkd.datamodules import PairedFoldersDataModule
from torchgeo_discomkd.errors import BatchSizeError, SplitError


class Recorder(LightningModule):
    """Keeps the batches that a trainer hands to it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.epochs: list[list[Sample]] = []
        self.evaluated: list[Sample] = []

    def on_train_epoch_start(self) -> None:
        self.epochs.append([])

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor:
        self.epochs[-1].append(batch)
        return self.weight.sum()

    def validation_step(self, batch: Sample, batch_idx: int) -> None:
        self.evaluated.append(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def record(root: Path, epochs: int = 1, **kwargs: Any) -> Recorder:
    datamodule = PairedFoldersDataModule(str(root), **{'batch_size': 8, **kwargs})
    trainer = Trainer(
        max_epochs=epochs,
        accelerator='cpu',
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )
    recorder = Recorder()
    trainer.fit(recorder, datamodule=datamodule)
    return recorder


@pytest.fixture(scope='module')
def marked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs whose tile n has its one bright pixel at row n // 8, column n % 8.

    Only for reading.
    """
    root = tmp_path_factory.mktemp('marked')
    for modality, bands in {'ms': 13, 'sar': 2}.items():
        for name, first in {'Crop': 0, 'Water': 20}.items():
            for n in range(first, first + 20):
                array = np.zeros((bands, 8, 8), np.float32)
                array[:, n // 8, n % 8] = 1
                write_tile(root / modality / name / f'{name}_{n}.tif', array)
    return root


def marker(image: Tensor) -> list[int]:
    return image[:, 0].flatten(1).argmax(1).tolist()


def test_paired_modalities_stay_aligned_under_augmentation(marked: Path) -> None:
    recorder = record(marked, paired=True, epochs=2)
    plain = record(marked, paired=True, augment=False)
    for batch in recorder.epochs[0] + recorder.epochs[1]:
        assert {'image_ms', 'image_sar', 'label', 'index'} <= set(batch)
        assert torch.equal(batch['image_ms'][:, :2], batch['image_sar'])
    augmented = [m for b in recorder.epochs[0] for m in marker(b['image_ms'])]
    untouched = [m for b in plain.epochs[0] for m in marker(b['image_ms'])]
    assert augmented != untouched


def test_unpaired_modalities_are_shuffled_and_augmented_on_their_own(
    marked: Path,
) -> None:
    recorder = record(marked, epochs=2)
    datamodule = PairedFoldersDataModule(str(marked))
    datamodule.setup('fit')
    labels = datamodule.any_dataset.labels
    orders: dict[str, list[int]] = {'ms': [], 'sar': []}
    for batch in recorder.epochs[0]:
        assert 'label' not in batch
        for modality, order in orders.items():
            order.extend(batch[f'index_{modality}'].tolist())
            assert torch.equal(
                batch[f'label_{modality}'], labels[batch[f'index_{modality}']]
            )
    assert sorted(orders['ms']) == sorted(orders['sar']) == list(range(28))
    assert orders['ms'] != orders['sar']
    second = [i for batch in recorder.epochs[1] for i in batch['index_ms'].tolist()]
    assert second != orders['ms']


def test_evaluation_is_paired_ordered_and_untouched(marked: Path) -> None:
    recorder = record(marked)
    datamodule = PairedFoldersDataModule(str(marked))
    datamodule.setup('validate')
    assert datamodule.val_dataset is not None
    for batch in recorder.evaluated:
        for i, index in enumerate(batch['index'].tolist()):
            sample = datamodule.val_dataset[index]
            assert torch.equal(batch['image_ms'][i], sample['image_ms'])
            assert torch.equal(batch['image_sar'][i], sample['image_sar'])
            assert batch['label'][i] == sample['label']


@pytest.mark.parametrize('paired', [True, False])
def test_seed_fixes_every_batch(marked: Path, paired: bool) -> None:
    def images(seed: int) -> list[Tensor]:
        epochs = record(marked, epochs=2, paired=paired, seed=seed).epochs
        return [batch['image_sar'] for epoch in epochs for batch in epoch]

    one, two, other = images(0), images(0), images(1)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_workers_change_nothing(marked: Path) -> None:
    alone = record(marked).epochs[0]
    workers = record(
        marked, num_workers=1, prefetch_factor=2, persistent_workers=False
    ).epochs[0]
    for a, b in zip(alone, workers, strict=True):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_modalities_of_different_size_and_number_of_samples(tmp_path: Path) -> None:
    shapes = {'ms': (3, 8, 8), 'sar': (1, 6, 10)}
    write_pairs(tmp_path, count=20, shapes=shapes)
    for name in ('Crop', 'Water'):
        for n in range(11, 21):
            (tmp_path / 'ms' / name / f'{name}_{n}.tif').unlink()
    recorder = record(tmp_path, missing='keep')
    sizes = [
        (len(batch['image_ms']), len(batch['image_sar']))
        for batch in recorder.epochs[0]
    ]
    # the split is the same for both: 28 samples of SAR, those of them that MS has
    assert sum(sar for _, sar in sizes) == 28
    assert sum(ms for ms, _ in sizes) > len(
        {i for batch in recorder.epochs[0] for i in batch['index_ms'].tolist()}
    )
    assert recorder.epochs[0][0]['image_sar'].shape == (8, 1, 6, 10)
    assert recorder.epochs[0][0]['image_ms'].shape == (8, 3, 8, 8)


def test_one_oblong_modality_forbids_quarter_turns_to_a_pair(tmp_path: Path) -> None:
    shapes = {'ms': (1, 8, 8), 'sar': (1, 6, 10)}
    write_pairs(tmp_path, count=20, shapes=shapes)
    datamodule = PairedFoldersDataModule(str(tmp_path), paired=True, batch_size=28)
    record_ = record(tmp_path, paired=True, batch_size=28, epochs=3)
    datamodule.setup('fit')
    assert datamodule.train_dataset is not None
    for epoch in record_.epochs:
        for image, index in zip(
            epoch[0]['image_ms'], epoch[0]['index'].tolist(), strict=True
        ):
            tile = datamodule.train_dataset[index]['image_ms']
            flips = [tile, tile.flip(-1), tile.flip(-2), tile.flip(-1, -2)]
            assert any(torch.equal(image, flipped) for flipped in flips)


def test_last_batch_is_kept_and_never_alone(pairs: Path) -> None:
    for batch_size, sizes in {9: [9, 9, 10], 8: [8, 8, 8, 4]}.items():
        recorder = record(pairs, batch_size=batch_size)
        assert [len(b['image_sar']) for b in recorder.epochs[0]] == sizes


@pytest.mark.parametrize('batch_size', [0, 1])
def test_batch_of_one_is_refused(pairs: Path, batch_size: int) -> None:
    datamodule = PairedFoldersDataModule(str(pairs), batch_size=batch_size)
    with pytest.raises(BatchSizeError, match=f'batch_size={batch_size}'):
        datamodule.setup('fit')


def test_statistics_are_those_of_the_training_split(pairs: Path) -> None:
    datamodule = PairedFoldersDataModule(str(pairs))
    datamodule.setup('fit')
    assert datamodule.train_dataset is not None
    images = torch.stack([datamodule.train_dataset[i]['image_sar'] for i in range(28)])
    expected = images.double().transpose(0, 1).flatten(1)
    statistics = datamodule.statistics['sar']
    np.testing.assert_allclose(statistics.mean, expected.mean(1), rtol=1e-6)
    np.testing.assert_allclose(statistics.std, expected.std(1, correction=0), rtol=1e-6)


def test_any_dataset_before_setup(pairs: Path) -> None:
    with pytest.raises(AttributeError, match=r'setup\(\) must be called'):
        _ = PairedFoldersDataModule(str(pairs)).any_dataset


def test_empty_split_is_refused(tmp_path: Path) -> None:
    write_pairs(tmp_path, count=3)
    with pytest.raises(SplitError):
        PairedFoldersDataModule(str(tmp_path)).setup('fit')


def test_without_trainer_batches_come_raw(marked: Path) -> None:
    datamodule = PairedFoldersDataModule(str(marked), batch_size=8, seed=0)
    datamodule.setup('fit')
    batch, _, _ = next(iter(datamodule.train_dataloader()))
    flat = datamodule.on_before_batch_transfer(batch, 0)
    assert datamodule.on_after_batch_transfer(flat, 0) is flat
    assert set(flat) == {
        f'{key}_{modality}'
        for key in ('image', 'label', 'index')
        for modality in ('ms', 'sar')
    }

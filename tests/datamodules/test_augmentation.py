# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kornia.augmentation as K
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torchgeo.datasets.utils import Sample

from tests.fakes import write_tile
from torchgeo_discomkd.datamodules import PairedFoldersDataModule, SARTilesDataModule
from torchgeo_discomkd.datamodules.augmentation import SeededNoise
from torchgeo_discomkd.datasets import PairedFolders, write_pack
from torchgeo_discomkd.errors import SettingError

DOCS = Path(__file__).parents[2] / 'docs' / 'augmentation.md'


class Watcher(LightningModule):
    """Keeps what each stage of a trainer hands to it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen: dict[str, list[Sample]] = {}

    def keep(self, stage: str, batch: Sample) -> None:
        self.seen.setdefault(stage, []).append(batch)

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor:
        self.keep('train', batch)
        return self.weight.sum()

    def validation_step(self, batch: Sample, batch_idx: int) -> None:
        self.keep('val', batch)

    def test_step(self, batch: Sample, batch_idx: int) -> None:
        self.keep('test', batch)

    def predict_step(self, batch: Sample, batch_idx: int) -> Tensor:
        self.keep('predict', batch)
        return batch['image_sar']

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def add(value: float) -> Callable[[Sample], Sample]:
    """Return an augmentation that adds a number to all images."""

    def augment(batch: Sample) -> Sample:
        images = {k: v + value for k, v in batch.items() if k.startswith('image_')}
        return batch | images

    return augment


def make_trainer(**kwargs: Any) -> Trainer:
    return Trainer(
        accelerator='cpu',
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        **kwargs,
    )


def watch(datamodule: PairedFoldersDataModule) -> dict[str, list[Sample]]:
    watcher, trainer = Watcher(), make_trainer(max_epochs=1)
    trainer.fit(watcher, datamodule=datamodule)
    trainer.test(watcher, datamodule=datamodule, verbose=False)
    trainer.predict(watcher, datamodule=datamodule, return_predictions=False)
    return watcher.seen


def levels(seen: dict[str, list[Sample]]) -> dict[str, list[float]]:
    """Return the distinct values of the first pixel by stage."""
    return {
        stage: sorted({v for b in batches for v in b['image_sar'][:, 0, 0, 0].tolist()})
        for stage, batches in seen.items()
    }


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """Pairs whose pixels are 0 in one half and 100 in the other."""
    for modality, bands in {'ms': 13, 'sar': 2}.items():
        for name in ('Crop', 'Water'):
            for n in range(20):
                array = torch.zeros(bands, 8, 8)
                array[:, 4:] = 100
                path = tmp_path / modality / name / f'{name}_{n}.tif'
                write_tile(path, array.numpy())
    return tmp_path


def open_data(root: Path, **kwargs: Any) -> PairedFoldersDataModule:
    return PairedFoldersDataModule(str(root), batch_size=8, **kwargs)


@pytest.mark.parametrize('paired', [True, False])
def test_each_hook_is_called(flat: Path, paired: bool) -> None:
    datamodule = open_data(flat, paired=paired)
    datamodule.train_aug = add(1)
    datamodule.val_aug = add(2)
    datamodule.test_aug = add(3)
    datamodule.predict_aug = add(4)
    found = levels(watch(datamodule))
    assert found == {'train': [1], 'val': [2], 'test': [3], 'predict': [4]}


def test_aug_serves_the_splits_without_one(flat: Path) -> None:
    datamodule = open_data(flat, augment=False)
    datamodule.aug = add(5)
    datamodule.test_aug = add(3)
    found = levels(watch(datamodule))
    assert found == {'train': [5], 'val': [5], 'test': [3], 'predict': [5]}


def test_defaults_turn_training_batches_only(flat: Path) -> None:
    found = levels(watch(open_data(flat, paired=True)))
    assert found == {'train': [0, 100], 'val': [0], 'test': [0], 'predict': [0]}
    found = levels(watch(open_data(flat, paired=True, augment=False)))
    assert found['train'] == [0]


@pytest.mark.parametrize('paired', [True, False])
def test_noise_in_training_batches(flat: Path, paired: bool) -> None:
    options = {'paired': paired, 'augment': False}
    plain = watch(open_data(flat, **options))
    seen = watch(open_data(flat, noise={'sar': 0.1}, **options))
    for stage in ('val', 'test', 'predict'):
        assert torch.equal(seen[stage][0]['image_sar'], plain[stage][0]['image_sar'])
    pairs = [*zip(seen['train'], plain['train'], strict=True)]
    assert all(torch.equal(a['image_ms'], b['image_ms']) for a, b in pairs)
    noise = torch.cat([a['image_sar'] - b['image_sar'] for a, b in pairs])
    # half of the pixels are 0, half are 100: their standard deviation is 50
    assert noise.std(dim=(0, 2, 3)).tolist() == pytest.approx([5, 5], rel=0.05)
    assert noise.mean().abs() < 0.3
    # no pixel or band shares its draw with another one
    assert len(noise.unique()) > 0.99 * noise.numel()
    again = watch(open_data(flat, noise={'sar': 0.1}, **options))['train']
    for one, other in zip(seen['train'], again, strict=True):
        assert torch.equal(one['image_sar'], other['image_sar'])


def test_noise_is_added_to_what_train_aug_returns(flat: Path) -> None:
    datamodule = open_data(flat, noise={'sar': 1e-3}, paired=True)
    datamodule.train_aug = add(5)
    images = torch.cat([b['image_sar'] for b in watch(datamodule)['train']])
    assert images[images < 50].mean().item() == pytest.approx(5, abs=0.01)
    assert images[images < 50].std().item() == pytest.approx(0.05, rel=0.05)


def test_other_epochs_have_other_noise(flat: Path) -> None:
    state = [0, 0, 0]
    noise = SeededNoise({'sar': 0.1}, lambda: (state[0], state[1], state[2]))
    datamodule = open_data(flat)
    datamodule.setup('fit')
    images = torch.zeros(4, 2, 8, 8)

    def draw() -> Tensor:
        return noise({'image_sar': images}, datamodule.statistics)['image_sar']

    first, second = draw(), draw()
    noise.restart()
    assert torch.equal(draw(), first)
    assert not torch.equal(first, second)
    for position in range(3):
        state[position] += 1
        assert not torch.equal(draw(), first)


def test_noise_that_has_no_effect_is_refused(flat: Path) -> None:
    for level in (0.0, -0.1, float('nan')):
        with pytest.raises(SettingError, match=r'noise=.*give numbers above 0'):
            open_data(flat, noise={'sar': level})
    datamodule = open_data(flat, noise={'s1': 0.1})
    with pytest.raises(SettingError, match=r"noise for \['s1'\].*\['ms', 'sar'\]"):
        datamodule.setup('fit')


@pytest.mark.parametrize('paired', [True, False])
def test_another_training_begins_the_epoch_anew(flat: Path, paired: bool) -> None:
    def train(datamodule: PairedFoldersDataModule, **kwargs: Any) -> list[Sample]:
        watcher = Watcher()
        make_trainer(**kwargs).fit(watcher, datamodule=datamodule)
        return watcher.seen['train']

    datamodule = open_data(flat, paired=paired)
    # stopped in the first epoch
    train(datamodule, max_steps=1)
    again = train(datamodule, max_epochs=1)
    fresh = train(open_data(flat, paired=paired), max_epochs=1)
    for one, two in zip(again, fresh, strict=True):
        assert torch.equal(one['image_sar'], two['image_sar'])
        assert torch.equal(one['image_ms'], two['image_ms'])


def test_aug_beside_the_default_train_aug_warns(flat: Path) -> None:
    datamodule = open_data(flat)
    datamodule.aug = add(5)
    with pytest.warns(UserWarning, match='aug is not applied to training batches'):
        datamodule.setup('fit')


def test_kornia_module_keeps_paired_sensors_aligned(flat: Path) -> None:
    datamodule = open_data(flat, paired=True)
    flip = K.RandomVerticalFlip(p=1.0)
    datamodule.train_aug = K.AugmentationSequential(flip, data_keys=None, keepdim=True)
    for batch in watch(datamodule)['train']:
        assert batch['image_ms'][:, :, 0].eq(100).all()
        assert batch['image_sar'][:, :, 0].eq(100).all()
        assert batch['label'].dtype == torch.int64


def test_resident_pack_is_gathered_first(flat: Path, tmp_path: Path) -> None:
    pack = tmp_path / 'pack.safetensors'
    write_pack(PairedFolders(str(flat)), pack)
    datamodule = open_data(pack, resident=True)
    datamodule.train_aug = datamodule.test_aug = add(1)
    found = levels(watch(datamodule))
    assert found == {'train': [1], 'val': [0], 'test': [1], 'predict': [0]}


@pytest.mark.parametrize('paired', [True, False])
def test_transforms_change_samples_of_all_splits(flat: Path, paired: bool) -> None:
    datamodule = open_data(flat, paired=paired, augment=False, transforms=add(7))
    found = levels(watch(datamodule))
    assert found == {'train': [7], 'val': [7], 'test': [7], 'predict': [7]}
    # raw values, whatever transforms do to samples
    assert datamodule.statistics['sar'].minimum == (0, 0)


def test_normalising_twice_warns_once(flat: Path) -> None:
    datamodule = open_data(flat)
    normalize = K.Normalize(torch.tensor(50.0), torch.tensor(50.0))
    datamodule.train_aug = lambda batch: (
        batch | {k: normalize(v) for k, v in batch.items() if k.startswith('image_')}
    )
    match = "train_aug changes the scale of 'image_ms'.*normalization none"
    with pytest.warns(UserWarning, match=match) as caught:
        watch(datamodule)
    assert sum('changes the scale' in str(w.message) for w in caught) == 1


def stretch(sample: Sample) -> Sample:
    images = {k: x * 100 + 1000 for k, x in sample.items() if k.startswith('image_')}
    return sample | images


@pytest.mark.parametrize('paired', [True, False])
def test_transforms_that_rescale(flat: Path, paired: bool) -> None:
    datamodule = open_data(flat, paired=paired, transforms=stretch)
    match = "transforms change the scale of 'image_.*from mean 50 and .* to 6000 and"
    with pytest.warns(UserWarning, match=match) as caught:
        watch(datamodule)
    # for each of the data sets that training reads
    found = [w for w in caught if 'change the scale' in str(w.message)]
    assert len(found) == (1 if paired else 2)


def test_transforms_that_are_not_compared(flat: Path) -> None:
    def ratio(sample: Sample) -> Sample:
        """Add a band, and turn at random: other bands, same scale."""
        ms = torch.cat([sample['image_ms'], sample['image_ms'][:1] * 1000])
        noise = torch.randn(())
        return sample | {'image_ms': ms, 'image_sar': sample['image_sar'] + noise}

    datamodule = open_data(
        flat, modalities=['ms', 'sar'], paired=True, transforms=ratio
    )
    torch.manual_seed(0)
    expected = torch.randn(())
    torch.manual_seed(0)
    datamodule.setup('fit')
    # the numbers that training draws are still the first
    assert torch.equal(torch.randn(()), expected)


def test_aug_that_adds_a_band(flat: Path) -> None:
    datamodule = open_data(flat)

    def add_band(batch: Sample) -> Sample:
        sar = batch['image_sar']
        return batch | {'image_sar': torch.cat([sar, sar[:, :1]], dim=1)}

    datamodule.train_aug = add_band
    assert watch(datamodule)['train'][0]['image_sar'].shape[1] == 3


@pytest.mark.parametrize('paired', [True, False])
def test_recipe_of_the_docs(flat: Path, tmp_path: Path, paired: bool) -> None:
    [code] = re.findall(r'```python\n(.*?)```', DOCS.read_text(), re.DOTALL)
    recipe = tmp_path / 'recipe.py'
    recipe.write_text(code)
    datamodule = open_data(flat, modalities=['ms', 'sar'], paired=paired)
    datamodule.train_aug = runpy.run_path(str(recipe))['train_aug']
    batches = watch(datamodule)['train']
    noisy = [b for b in batches if b['image_sar'].unique().numel() > 2]
    assert noisy
    assert all(b['image_sar'].shape[1] == 2 for b in batches)


def test_tiles_honour_predict_aug(tmp_path: Path) -> None:
    write_tile(tmp_path / 'a.tif', torch.full((2, 8, 8), -10.0).numpy())
    datamodule = SARTilesDataModule(str(tmp_path), bands=['VV', 'VH'], unit='dB')
    datamodule.predict_aug = add(1)
    watcher = Watcher()
    trainer = Trainer(accelerator='cpu', logger=False, enable_progress_bar=False)
    trainer.predict(watcher, datamodule=datamodule, return_predictions=False)
    assert levels(watcher.seen) == {'predict': [-9]}

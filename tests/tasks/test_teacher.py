# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torchgeo.datasets.utils import Sample

from tests.fakes import write_pairs
from torchgeo_discomkd.datamodules import PairedFoldersDataModule
from torchgeo_discomkd.errors import (
    BandError,
    ClassifierFileError,
    ModalityError,
    UnitError,
)
from torchgeo_discomkd.losses import KD, DistillationLoss, OfficialMLKD
from torchgeo_discomkd.models import load_classifier
from torchgeo_discomkd.tasks import Distillation

from .distillation import CHANNELS, batch, changed, state, tiny, trainer, write_teacher

#: Losses are logged, which needs a trainer; some tests take a step without one.
pytestmark = pytest.mark.filterwarnings('ignore:You are trying to `self.log')


@pytest.mark.parametrize(
    'loss',
    [
        pytest.param(KD(), id='one view', marks=pytest.mark.slow),
        pytest.param(OfficialMLKD(), id='two views'),
    ],
)
def test_teacher_stays_as_it_is(
    loss: DistillationLoss, pairs: Path, tmp_path: Path
) -> None:
    for training_mode in (False, True):
        path = write_teacher(tmp_path / 'teacher.safetensors', CHANNELS)
        task = tiny(path, loss=loss, teacher_in_training_mode=training_mode)
        before = state(task.model)
        data = PairedFoldersDataModule(str(pairs), batch_size=8, paired=True)
        fit = trainer(tmp_path / str(training_mode))
        fit.fit(task, datamodule=data)
        parameters = {name for name, _ in task.model.named_parameters()}
        assert parameters <= changed(before, state(task.model))

        teacher = task.teacher
        moved = changed(state(load_classifier(path)), state(teacher))
        assert all(module.training == training_mode for module in teacher.modules())
        assert not any(p.requires_grad for p in teacher.parameters())
        assert all(p.grad is None for p in teacher.parameters())
        if training_mode:
            assert moved
            assert all('running_' in n or 'num_batches' in n for n in moved)
        else:
            assert not moved
        (optimizer,) = fit.optimizers
        trained = [p for group in optimizer.param_groups for p in group['params']]
        assert {id(p) for p in trained} == {id(p) for p in task.model.parameters()}
        assert not any('teacher' in name for name in task.state_dict())


def test_training_mode_of_the_student_leaves_the_teacher_alone(tmp_path: Path) -> None:
    task = tiny(write_teacher(tmp_path / 'teacher.safetensors'))
    assert not task.teacher.training
    task.train()
    assert not any(module.training for module in task.teacher.modules())


def test_resumed_run_has_the_same_teacher(pairs: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / 'run.ckpt'

    def fit(teacher: str, epochs: int, ckpt_path: Path | None = None) -> Trainer:
        data = PairedFoldersDataModule(str(pairs), batch_size=8, paired=True)
        fitted = trainer(tmp_path / 'run', epochs)
        fitted.fit(tiny(teacher), datamodule=data, ckpt_path=ckpt_path)
        return fitted

    first = write_teacher(tmp_path / 'first.safetensors')
    fit(first, 1).save_checkpoint(checkpoint)
    other = write_teacher(tmp_path / 'other.safetensors', seed=8)
    with pytest.raises(ClassifierFileError) as error:
        fit(other, 2, checkpoint)
    assert f'began with the teacher {first}' in str(error.value)
    assert f'{other} is a different one' in str(error.value)

    # the same weights elsewhere, in a file that notes another score
    Path(first).unlink()
    moved = write_teacher(tmp_path / 'moved.safetensors', scores={'val_F1Score': 0.5})
    assert fit(moved, 2, checkpoint).current_epoch == 2


def test_scoring_a_checkpoint_after_training_with_another_teacher(
    pairs: Path, tmp_path: Path
) -> None:
    data = PairedFoldersDataModule(str(pairs), batch_size=8, paired=True)
    first = tiny(write_teacher(tmp_path / 'first.safetensors'))
    fit = trainer(tmp_path / 'first')
    fit.fit(first, datamodule=data)
    fit.save_checkpoint(tmp_path / 'first.ckpt')
    second = tiny(write_teacher(tmp_path / 'second.safetensors', seed=8))
    fit = trainer(tmp_path / 'second')
    fit.fit(second, datamodule=data)
    fit.test(second, datamodule=data, ckpt_path=tmp_path / 'first.ckpt', verbose=False)
    assert not changed(state(first.model), state(second.model))


def test_unpaired_batches(tmp_path: Path) -> None:
    sample = batch()
    label = sample.pop('label')
    sample |= {'label_ms': label, 'label_sar': label}
    task = tiny(write_teacher(tmp_path / 'ms.safetensors'))
    with pytest.raises(ModalityError, match=r'--data\.paired true'):
        task.training_step(sample, 0)
    assert task.pairing is not None
    assert "student of ['sar'] and a teacher of ['ms']" in task.pairing
    # what both see is one tensor: nothing to pair
    own = tiny(write_teacher(tmp_path / 'sar.safetensors', {'sar': 2}))
    assert own.pairing is None
    assert own.training_step(sample, 0).isfinite()


@pytest.mark.parametrize(
    ('teacher', 'data', 'error', 'match'),
    [
        ({'classes': ('a', 'b', 'c')}, {}, ClassifierFileError, 'num_classes=2'),
        ({'classes': ('Crop', 'Wood')}, {}, ClassifierFileError, 'Wood'),
        ({}, {'modalities': ['sar']}, ModalityError, r"needs \['ms'\]"),
        ({'bands': 'X'}, {}, BandError, 'X13'),
        ({'unit': 'linear'}, {'units': {'ms': 'dB'}}, UnitError, 'said to be in dB'),
    ],
)
def test_teacher_that_does_not_fit_the_data(
    teacher: dict[str, Any],
    data: dict[str, Any],
    error: type[Exception],
    match: str,
    pairs: Path,
    tmp_path: Path,
) -> None:
    path = write_teacher(tmp_path / 'teacher.safetensors', **teacher)
    datamodule = PairedFoldersDataModule(str(pairs), paired=True, **data)
    with pytest.raises(error, match=match):
        trainer(tmp_path / 'run').fit(tiny(path), datamodule=datamodule)
    assert not (tmp_path / 'run' / 'best').exists()


def test_teacher_of_other_labels_without_a_data_module(tmp_path: Path) -> None:
    task = tiny(write_teacher(tmp_path / 't.safetensors'), labels=['Water', 'Crop'])
    with pytest.raises(ClassifierFileError, match='same order'):
        task.training_step(batch(), 0)


def test_student_and_teacher_see_the_same_transform(tmp_path: Path) -> None:
    """Both modalities have the same pixels, which shows any difference of a turn."""
    root = write_pairs(tmp_path / 'pairs', count=20, shapes={'ms': (2, 8, 8)})
    (root / 'sar').symlink_to(root / 'ms')
    seen: list[Sample] = []

    class Watch(Distillation):
        """Keeps the batches that it was trained on."""

        def training_inputs(self, batch: Sample) -> dict[str, Tensor]:
            seen.append(batch)
            inputs = super().training_inputs(batch)
            assert torch.equal(inputs['image_ms'], inputs['image_sar'])
            return inputs

    teacher = write_teacher(tmp_path / 'teacher.safetensors', {'ms': 2})
    task = Watch(teacher, None, {'sar': 2}, 2, 'test_resnet')
    # the task needs pairs, and the data module asks it
    data = PairedFoldersDataModule(str(root), batch_size=8)
    trainer(tmp_path / 'run').fit(task, datamodule=data)
    assert data.train_dataset is not None
    stored = {int(sample['index']): sample['image_ms'] for sample in data.train_dataset}
    turned = 0
    for sample in seen:
        assert torch.equal(sample['image_ms'], sample['image_sar'])
        for image, index in zip(sample['image_ms'], sample['index'], strict=True):
            turned += not torch.equal(image, stored[int(index)])
    assert 0 < turned < len(stored)


def test_teacher_moves_to_the_device_of_the_student(tmp_path: Path) -> None:
    task = tiny(write_teacher(tmp_path / 'teacher.safetensors'))
    assert all(x.device.type == 'cpu' for x in task.teacher.state_dict().values())
    task.trainer = Trainer(accelerator='cpu', logger=False, enable_checkpointing=False)
    task.to('meta').on_fit_start()
    assert all(x.device.type == 'meta' for x in task.teacher.state_dict().values())

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.nn.functional import cross_entropy
from torchgeo.datasets.utils import Sample

from tests.conftest import TINY
from tests.fakes import write_pairs
from torchgeo_discomkd.datamodules import PairedFoldersDataModule
from torchgeo_discomkd.errors import (
    BandError,
    BatchSizeError,
    ClassifierFileError,
    ModalityError,
    UnitError,
    UserError,
)
from torchgeo_discomkd.losses import dkd_loss, kd_loss, mlkd_loss, standardize_logits
from torchgeo_discomkd.main import main
from torchgeo_discomkd.models import (
    ClassifierMetadata,
    FusionClassifier,
    ModalityMetadata,
    load_classifier,
    load_metadata,
    save_classifier,
)
from torchgeo_discomkd.tasks import Distillation, FusionClassification

#: Losses are logged, which needs a trainer; some tests take a step without one.
pytestmark = pytest.mark.filterwarnings('ignore:You are trying to `self.log')

CHANNELS = {'ms': 13, 'sar': 2}


def write_teacher(
    path: Path,
    channels: dict[str, int] | None = None,
    classes: tuple[str, ...] = ('Crop', 'Water'),
    unit: str = '',
    bands: str = 'B',
) -> str:
    """Write an untrained teacher with an encoder that no student here has."""
    channels = channels or {'ms': 13}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = 'test_resnet'
        classifier = FusionClassifier(channels, len(classes), model)
    metadata = {
        m: ModalityMetadata(n, tuple(f'{bands}{i + 1}' for i in range(n)), unit, None)
        for m, n in channels.items()
    }
    save_classifier(
        path,
        classifier,
        ClassifierMetadata(
            *('fusion', model, classes, metadata, None, 'standardize', 1.0),
            *({}, None, '', '', 0, ''),
        ),
    )
    return str(path)


def tiny(teacher: str, **kwargs: Any) -> Distillation:
    torch.manual_seed(0)
    defaults: dict[str, Any] = {'num_classes': 2, 'model': 'test_resnet'}
    return Distillation(teacher, **{**defaults, **kwargs})


def batch(size: int = 6) -> Sample:
    generator = torch.Generator().manual_seed(0)
    sample: Sample = {
        f'image_{m}': torch.randn(size, n, 8, 8, generator=generator)
        for m, n in CHANNELS.items()
    }
    sample['label'] = torch.arange(size) % 2
    return sample


def state(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: x.clone() for name, x in module.state_dict().items()}


def changed(one: dict[str, Tensor], two: dict[str, Tensor]) -> set[str]:
    assert one.keys() == two.keys()
    return {name for name in one if not torch.equal(one[name], two[name])}


def trainer(folder: Path, epochs: int = 1) -> Trainer:
    return Trainer(
        max_epochs=epochs,
        default_root_dir=folder,
        accelerator='cpu',
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def arguments(teacher: str, pairs: Path, folder: Path, *further: str) -> list[str]:
    return [
        *('fit', '--model', 'Distillation', '--model.teacher', teacher, *TINY),
        *('--model.num_classes', '2', '--data', 'PairedFoldersDataModule'),
        *('--data.root', str(pairs), '--data.batch_size', '8'),
        *('--data.paired', 'true', '--trainer.default_root_dir', str(folder)),
        *('--trainer.max_epochs', '1', *further),
    ]


def last(folder: Path) -> dict[str, Any]:
    return torch.load(folder / 'last.ckpt', weights_only=True)


def test_student_of_a_disentangled_teacher(
    pairs: Path, tmp_path: Path, fit_pairs: Callable[..., Path]
) -> None:
    teacher = fit_pairs() / 'best' / 'ms.safetensors'
    before = teacher.read_bytes()
    folder = tmp_path / 'student'
    main(arguments(str(teacher), pairs, folder, '--model.method', 'ctkd'))
    assert teacher.read_bytes() == before
    assert [path.name for path in (folder / 'best').iterdir()] == ['sar.safetensors']
    assert list(load_metadata(folder / 'best' / 'sar.safetensors').modalities) == [
        'sar'
    ]
    checkpoint = last(folder)
    names = set(checkpoint['state_dict'])
    student = set(FusionClassifier({'sar': 2}, 2, 'test_resnet').state_dict())
    assert names == {f'model.{name}' for name in student} | {'curriculum.raw'}
    assert 'teacher_buffers' not in checkpoint
    (metrics,) = folder.glob('metrics/*/metrics.csv')
    header = metrics.read_text().splitlines()[0].split(',')
    assert {
        'train_loss',
        'train_classification_loss',
        'train_distillation_loss',
        'train_temperature',
    } <= set(header)

    # scoring a student needs no teacher any more
    teacher.unlink()
    config = ['--config', str(folder / 'config.yaml')]
    main(['test', *config])
    main(['test', *config, '--ckpt_path', str(folder / 'last.ckpt')])


def test_teacher_stays_as_it_is(pairs: Path, tmp_path: Path) -> None:
    for training_mode in (False, True):
        path = write_teacher(tmp_path / 'teacher.safetensors', CHANNELS)
        task = tiny(path, teacher_in_training_mode=training_mode)
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


EXPECTED: dict[str, tuple[dict[str, Any], Callable[..., Tensor]]] = {
    'kd': ({}, lambda s, t, y: 0.5 * cross_entropy(s, y) + 0.5 * kd_loss(s, t, 4.0)),
    'kdv1': ({'alpha': 0.0}, lambda s, t, y: kd_loss(s, t, 4.0)),
    'kd_lskd': (
        {'standardize': True},
        lambda s, t, y: (
            0.5 * cross_entropy(s, y)
            + 0.5 * kd_loss(standardize_logits(s), standardize_logits(t), 4.0)
        ),
    ),
    'kd_official': (
        {'preset': 'official', 'alpha': 0.1},
        lambda s, t, y: 0.1 * cross_entropy(s, y) + 0.9 * kd_loss(s, t, 1.0),
    ),
    'kd_official_lskd': (
        {'preset': 'official', 'standardize': True},
        lambda s, t, y: (
            0.5 * cross_entropy(s, y)
            + 0.5 * kd_loss(standardize_logits(s), standardize_logits(t), 2.0)
        ),
    ),
    'dkd': (
        {'method': 'dkd'},
        lambda s, t, y: cross_entropy(s, y) + dkd_loss(s, t, y, 1.0, 8.0, 4.0) / 20,
    ),
    'dkd_authors': (
        {'method': 'dkd', 'preset': 'authors'},
        lambda s, t, y: cross_entropy(s, y),
    ),
    'dkd_official_lskd': (
        {'method': 'dkd', 'preset': 'official', 'standardize': True},
        lambda s, t, y: (
            cross_entropy(s, y)
            + dkd_loss(standardize_logits(s), standardize_logits(t), y, 9.0, 72.0, 2.0)
            / 20
        ),
    ),
    'dkd_overrides': (
        {
            'method': 'dkd',
            'cross_entropy_weight': 2.0,
            'distillation_weight': 3.0,
            'target_weight': 5.0,
            'other_weight': 7.0,
            'temperature': 2.0,
            'warmup_epochs': 4,
        },
        lambda s, t, y: (
            2 * cross_entropy(s, y) + 3 / 4 * dkd_loss(s, t, y, 5.0, 7.0, 2.0)
        ),
    ),
    'ctkd': (
        {'method': 'ctkd'},
        lambda s, t, y: (
            0.1 * cross_entropy(s, y) + 0.9 * kd_loss(s, t, 1 + 20 / (1 + math.exp(-1)))
        ),
    ),
    'ctkd_official_lskd': (
        {'method': 'ctkd', 'preset': 'official', 'standardize': True},
        lambda s, t, y: (
            0.1 * cross_entropy(s, y)
            + 9
            * kd_loss(
                standardize_logits(s),
                standardize_logits(t),
                1 + 20 / (1 + math.exp(-1)),
            )
        ),
    ),
    'mlkd': (
        {'method': 'mlkd', 'class_weight': 0.5, 'batch_weight': 0.25},
        lambda s, t, y: (
            cross_entropy(s, y)
            + mlkd_loss(s, t, (2.0, 3.0, 4.0, 5.0, 6.0), 1.0, 0.5, 0.25)
        ),
    ),
    'mlkd_authors_lskd': (
        {'method': 'mlkd', 'preset': 'authors', 'standardize': True},
        lambda s, t, y: (
            cross_entropy(s, y)
            + mlkd_loss(standardize_logits(s), standardize_logits(t), variant='authors')
        ),
    ),
    'mlkd_unswapped': (
        {
            'method': 'mlkd',
            'preset': 'authors',
            'swapped_kl': False,
            'temperatures': [3.0],
        },
        lambda s, t, y: cross_entropy(s, y) + mlkd_loss(s, t, (3.0,)),
    ),
}


@pytest.mark.parametrize('name', EXPECTED)
def test_training_loss(name: str, tmp_path: Path) -> None:
    kwargs, expected = EXPECTED[name]
    path = write_teacher(tmp_path / 'teacher.safetensors', CHANNELS, ('a', 'b', 'c'))
    task = tiny(path, num_classes=3, **kwargs)
    sample = batch() | {'label': torch.arange(6) % 3}
    images = {m: sample[f'image_{m}'] for m in CHANNELS}
    teacher = load_classifier(path)(images)
    student = task.model(images['sar'])
    loss = task.training_step(sample, 0)
    torch.testing.assert_close(loss, expected(student, teacher, sample['label']))
    loss.backward()
    assert all(p.grad is not None for p in task.model.parameters())


def at_epoch(task: Distillation, epoch: int, folder: Path) -> Distillation:
    task.trainer = trainer(folder)
    task.trainer.fit_loop.epoch_progress.current.completed = epoch
    assert task.current_epoch == epoch
    return task


@pytest.mark.parametrize(
    ('preset', 'weights'),
    [('default', (1 / 20, 5 / 20, 1, 1)), ('authors', (0, 4 / 20, 19 / 20, 1))],
)
def test_warm_up_of_dkd(
    preset: Any, weights: tuple[float, ...], tmp_path: Path
) -> None:
    task = tiny('unread', method='dkd', preset=preset)
    for epoch, weight in zip((0, 4, 19, 50), weights, strict=True):
        assert at_epoch(task, epoch, tmp_path).loss_weights() == (1, weight)


@pytest.mark.parametrize(
    ('preset', 'loops', 'first'), [('default', 10, 1), ('authors', 5, 0)]
)
def test_curriculum_of_ctkd(
    preset: Any, loops: int, first: int, tmp_path: Path
) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 4, 5, generator=generator)
    raw = torch.tensor(1.0, requires_grad=True)
    kd_loss(student, teacher, 1 + 20 * raw.sigmoid()).backward()
    assert raw.grad is not None
    task = tiny('unread', method='ctkd', preset=preset)
    assert task.curriculum is not None
    for epoch in (0, 3, 30):
        at_epoch(task, epoch, tmp_path).zero_grad()
        task.distillation_loss(student, teacher, torch.zeros(4).long()).backward()
        turn = math.pi * min(epoch + first, loops) / loops
        factor = -(1 - math.cos(turn)) / 2
        torch.testing.assert_close(task.curriculum.raw.grad, factor * raw.grad)


def test_temperature_has_a_learning_rate_of_its_own() -> None:
    task = tiny('unread', method='ctkd', temperature_lr=0.25, lr=1e-3)
    student, temperature = task.configure_optimizers().param_groups
    assert (student['lr'], temperature['lr']) == (1e-3, 0.25)
    assert task.curriculum is not None
    assert temperature['params'] == [task.curriculum.raw]


def test_student_starts_as_the_plain_one() -> None:
    student = tiny('unread', method='ctkd')
    torch.manual_seed(0)
    plain = FusionClassification({'sar': 2}, 2, 'test_resnet')
    assert not changed(state(plain.model), state(student.model))


@pytest.mark.parametrize('training_mode', ['false', 'true'])
def test_resumed_run_equals_an_uninterrupted_one(
    training_mode: str, pairs: Path, tmp_path: Path
) -> None:
    path = write_teacher(tmp_path / 'teacher.safetensors', CHANNELS)
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    further = [
        *('--model.teacher_in_training_mode', training_mode),
        *('--model.method', 'ctkd', '--model.lr', '0.01'),
    ]
    two = ['--trainer.max_epochs', '2']
    main(arguments(path, pairs, whole, *further, *two))
    main(arguments(path, pairs, parts, *further))
    resume = ['--ckpt_path', str(parts / 'last.ckpt'), *two]
    main(['fit', '--config', str(parts / 'config.yaml'), *resume])
    one, other = last(whole), last(parts)
    assert not changed(one['state_dict'], other['state_dict'])
    assert ('teacher_buffers' in one) == (training_mode == 'true')
    if training_mode == 'true':
        assert not changed(one['teacher_buffers'], other['teacher_buffers'])


def test_unpaired_batches(tmp_path: Path) -> None:
    sample = batch()
    label = sample.pop('label')
    sample |= {'label_ms': label, 'label_sar': label}
    task = tiny(write_teacher(tmp_path / 'ms.safetensors'))
    with pytest.raises(ModalityError, match=r'--data\.paired true'):
        task.training_step(sample, 0)
    # what both see is one tensor: nothing to pair
    own = tiny(write_teacher(tmp_path / 'sar.safetensors', {'sar': 2}))
    assert own.training_step(sample, 0).isfinite()


def test_bad_batches(tmp_path: Path) -> None:
    task = tiny(write_teacher(tmp_path / 'teacher.safetensors'))
    with pytest.raises(BatchSizeError):
        task.training_step(batch(1), 0)
    sample = batch()
    del sample['image_ms']
    with pytest.raises(ModalityError, match='image_ms'):
        task.training_step(sample, 0)


@pytest.mark.parametrize(
    ('teacher', 'data', 'error', 'match'),
    [
        ({'classes': ('a', 'b', 'c')}, {}, ClassifierFileError, 'num_classes=2'),
        ({'classes': ('Crop', 'Wood')}, {}, ClassifierFileError, 'Wood'),
        ({}, {'modalities': ['sar']}, ModalityError, r"needs \['ms'\]"),
        ({'bands': 'X'}, {}, BandError, 'X13'),
        ({'unit': 'linear'}, {'units': {'ms': 'dB'}}, UnitError, 'linear'),
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


@pytest.mark.parametrize(
    ('kwargs', 'match'),
    [
        ({'temperature': 0.0}, r'temperature=0\.0: set --model\.temperature'),
        ({'temperature': math.nan}, 'temperature=nan'),
        ({'alpha': 1.5}, r'alpha=1\.5: set --model\.alpha to a number from 0 to 1'),
        ({'alpha': -0.1}, r'alpha=-0\.1'),
        ({'method': 'mlkd', 'temperatures': [2.0, 0.0]}, 'temperatures='),
        ({'method': 'mlkd', 'temperatures': []}, 'temperatures='),
        ({'method': 'mlkd', 'batch_weight': -1.0}, r'batch_weight=-1\.0'),
        ({'method': 'mlkd', 'swapped_kl': 'yes'}, 'swapped_kl=yes'),
        ({'method': 'dkd', 'warmup_epochs': 0}, 'warmup_epochs=0'),
        ({'method': 'dkd', 'first_epoch': 2}, 'first_epoch=2'),
        ({'method': 'dkd', 'alpha': 0.5}, r"no setting of method='dkd'"),
        ({'method': 'ctkd', 'temperature_lr': 0.0}, 'temperature_lr='),
        ({'method': 'fitnet'}, r"method='fitnet': use one of"),
        ({'preset': 'best'}, "preset='best'"),
        ({'method': 'mlkd', 'preset': 'official'}, 'official_mlkd_loss'),
        ({'in_channels': CHANNELS}, 'one modality'),
    ],
)
def test_bad_settings(kwargs: dict[str, Any], match: str) -> None:
    with pytest.raises(UserError, match=match):
        tiny('unread', **kwargs)


def test_mistakes_on_the_command_line(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = str(tmp_path / 'missing.safetensors')
    for further, message in (
        ((), 'there is no such file'),
        (('--model.method', 'fitnet'), 'fitnet'),
        (('--model.temperature', '0'), 'set --model.temperature'),
    ):
        with pytest.raises(SystemExit):
            main(arguments(missing, pairs, tmp_path / 'run', *further))
        assert message in capsys.readouterr().err
        assert not (tmp_path / 'run').exists()


def test_student_and_teacher_see_the_same_transform(tmp_path: Path) -> None:
    """Both modalities have the same pixels, which shows any difference of a turn."""
    root = write_pairs(tmp_path / 'pairs', count=20, shapes={'ms': (2, 8, 8)})
    (root / 'sar').symlink_to(root / 'ms')
    seen: list[Sample] = []

    class Watch(Distillation):
        """Keeps the batches that it was trained on."""

        def teacher_logits(self, batch: Sample) -> Tensor:
            seen.append(batch)
            return super().teacher_logits(batch)

    teacher = write_teacher(tmp_path / 'teacher.safetensors', {'ms': 2})
    task = Watch(teacher, {'sar': 2}, 2, 'test_resnet')
    data = PairedFoldersDataModule(str(root), batch_size=8, paired=True)
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
    task.to('meta').on_fit_start()
    assert all(x.device.type == 'meta' for x in task.teacher.state_dict().values())

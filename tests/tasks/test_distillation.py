# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from safetensors import safe_open
from torch import Tensor
from torch.nn.functional import cross_entropy
from torchgeo.datasets.utils import Sample

from tests.conftest import TINY
from tests.fakes import write_pairs
from torchgeo_discomkd.commands import main
from torchgeo_discomkd.datamodules import PairedFoldersDataModule
from torchgeo_discomkd.errors import (
    BandError,
    BatchSizeError,
    ClassifierFileError,
    LabelError,
    ModalityError,
    UnitError,
    UserError,
)
from torchgeo_discomkd.losses import (
    InstanceTemperature,
    dkd_loss,
    instance_kd_loss,
    kd_loss,
    mlkd_loss,
    official_mlkd_loss,
    standardize_logits,
)
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
    seed: int = 7,
    scores: dict[str, float] | None = None,
) -> str:
    """Write an untrained teacher with an encoder that no student here has."""
    channels = channels or {'ms': 13}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
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
            kind='fusion',
            model=model,
            classes=classes,
            modalities=metadata,
            head=None,
            normalization='standardize',
            temperature=1.0,
            scores=scores or {},
            epoch=None,
            data_fingerprint='',
            split_hash='',
            seed=0,
            version='',
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


@pytest.mark.parametrize(
    'kwargs', [{}, {'method': 'mlkd', 'preset': 'official'}], ids=['one', 'two views']
)
def test_teacher_stays_as_it_is(
    kwargs: dict[str, Any], pairs: Path, tmp_path: Path
) -> None:
    for training_mode in (False, True):
        path = write_teacher(tmp_path / 'teacher.safetensors', CHANNELS)
        task = tiny(path, teacher_in_training_mode=training_mode, **kwargs)
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
    'ctkd_range': (
        {'method': 'ctkd', 'temperature_start': 2.0, 'temperature_end': 6.0},
        lambda s, t, y: (
            0.1 * cross_entropy(s, y) + 0.9 * kd_loss(s, t, 2 + 6 / (1 + math.exp(-1)))
        ),
    ),
    'ctkd_instance': (
        {'method': 'ctkd', 'instance_temperature': True, 'temperature_start': 3.0},
        lambda s, t, y: (
            0.1 * cross_entropy(s, y)
            + 0.9
            * instance_kd_loss(s, t, torch.full((6,), 3 + 20 / (1 + math.exp(-1))))
        ),
    ),
    'ctkd_instance_lskd': (
        {'method': 'ctkd', 'instance_temperature': True, 'standardize': True},
        lambda s, t, y: (
            0.1 * cross_entropy(s, y)
            + 0.9
            * instance_kd_loss(
                standardize_logits(s),
                standardize_logits(t),
                torch.full((6,), 1 + 20 / (1 + math.exp(-1))),
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


def test_curriculum_of_instance_temperatures(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 4, 5, generator=generator)
    task = tiny('unread', method='ctkd', instance_temperature=True, num_classes=5)
    assert isinstance(task.curriculum, InstanceTemperature)
    # T = 1 + 20 sigmoid(1) for all samples at first, of slope 20 p (1 - p)
    p = 1 / (1 + math.exp(-1))
    temperatures = torch.full((4,), 1 + 20 * p, requires_grad=True)
    instance_kd_loss(student, teacher, temperatures).backward()
    assert temperatures.grad is not None
    expected = 20 * p * (1 - p) * temperatures.grad.sum()
    bias = task.curriculum.network[2].bias
    for epoch in (0, 3, 30):
        at_epoch(task, epoch, tmp_path).zero_grad()
        task.distillation_loss(student, teacher, torch.zeros(4).long()).backward()
        factor = -(1 - math.cos(math.pi * min(epoch + 1, 10) / 10)) / 2
        torch.testing.assert_close(bias.grad, (factor * expected).view(1))


def test_instance_temperatures_are_trained_but_not_deployed(
    pairs: Path, tmp_path: Path
) -> None:
    path = write_teacher(tmp_path / 'teacher.safetensors', CHANNELS)
    folder = tmp_path / 'student'
    further = ['--model.method', 'ctkd', '--model.instance_temperature', 'true']
    main(arguments(path, pairs, folder, *further, '--model.temperature_lr', '0.5'))
    checkpoint = last(folder)
    weights = {
        name.removeprefix('curriculum.'): value
        for name, value in checkpoint['state_dict'].items()
        if name.startswith('curriculum.')
    }
    start = InstanceTemperature(2).state_dict()
    assert weights.keys() == start.keys()
    # as it starts, the last layer has weights 0 and bias 1
    assert weights['network.2.weight'].any()
    assert weights['network.2.bias'] != 1
    groups = checkpoint['optimizer_states'][0]['param_groups']
    assert [group['lr'] for group in groups] == [1e-4, 0.5]
    with safe_open(folder / 'best' / 'sar.safetensors', framework='pt') as file:
        names = set(file.keys())
    assert names == set(FusionClassifier({'sar': 2}, 2, 'test_resnet').state_dict())
    (metrics,) = folder.glob('metrics/*/metrics.csv')
    assert 'train_temperature' in metrics.read_text().splitlines()[0]


class Doubled(Distillation):
    """A student whose strong view is twice the weak one."""

    def strong_view(self, images: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {m: 2 * x for m, x in images.items()}


@pytest.mark.parametrize('standardize', [False, True])
def test_training_loss_of_two_views(standardize: bool, tmp_path: Path) -> None:
    path = write_teacher(tmp_path / 'teacher.safetensors', CHANNELS, ('a', 'b', 'c'))
    torch.manual_seed(0)
    task = Doubled(
        *(path, {'sar': 2}, 3, 'test_resnet'),
        method='mlkd',
        preset='official',
        standardize=standardize,
        class_weight=0.5,
        batch_weight=0.25,
    )
    labels = torch.arange(6) % 3
    sample = batch() | {'label': labels}
    weak = {m: sample[f'image_{m}'] for m in CHANNELS}
    strong = {m: 2 * x for m, x in weak.items()}
    teacher = load_classifier(path)
    logits = [
        f(x) for x in (weak, strong) for f in (lambda x: task.model(x['sar']), teacher)
    ]
    temperature, weight = (2.0, 9.0) if standardize else (4.0, 0.9)
    entropy = cross_entropy(logits[0], labels) + cross_entropy(logits[2], labels)
    expected = 0.1 * entropy + weight * official_mlkd_loss(
        *logits, temperature, 1.0, 0.5, 0.25, standardize
    )
    loss = task.training_step(sample, 0)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(p.grad is not None for p in task.model.parameters())


def test_strong_view(tmp_path: Path) -> None:
    path = write_teacher(tmp_path / 'teacher.safetensors', CHANNELS)
    task = tiny(path, method='mlkd', preset='official')
    task.seed = 5
    # the student's own statistics count, and the teacher's for what it sees alone
    task.model.normalizations['sar'].fit((3, -4), (10, 20), (0, 0), (9, 9))
    task.teacher.classifier.normalizations['ms'].fit(*4 * ([2.0] * 13,), 'percentile')
    sample = batch(500)
    images = {m: sample[f'image_{m}'] for m in CHANNELS}
    views = at_epoch(task, 2, tmp_path).strong_view(images)
    assert list(views) == list(CHANNELS)
    holes = {m: x.isnan() for m, x in views.items()}
    assert torch.equal(holes['ms'][:, :1], holes['sar'][:, :1])
    assert 0.05 < holes['sar'].float().mean() < 0.15
    # a zero of the image is shifted by c (1 - contrast) + deviation * brightness
    shift = at_epoch(task, 3, tmp_path).strong_view(
        {m: torch.zeros_like(x) for m, x in images.items()}
    )['sar']
    most = torch.tensor([0.5 * 3 + 0.5 * 10, 0.5 * 4 + 0.5 * 20])
    found = shift.nan_to_num().abs().amax(dim=(0, 2, 3))
    assert (found <= most).all()
    assert (found > 0.8 * most).all()

    other = tiny(path, method='mlkd', preset='official')
    other.seed = 5
    other.model.load_state_dict(task.model.state_dict())
    other.teacher.load_state_dict(task.teacher.state_dict())
    again = at_epoch(other, 2, tmp_path).strong_view(images)
    for m in CHANNELS:
        torch.testing.assert_close(again[m], views[m], rtol=0, atol=0, equal_nan=True)
    further = other.strong_view(images)['sar'].isnan()
    assert not torch.equal(further, holes['sar'])
    assert not torch.equal(further, shift.isnan())


def test_strong_view_without_a_modality(tmp_path: Path) -> None:
    class Forgetful(Distillation):
        """A student whose strong view lacks what the teacher needs."""

        def strong_view(self, images: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {'sar': images['sar']}

    path = write_teacher(tmp_path / 'teacher.safetensors')
    task = Forgetful(
        *(path, {'sar': 2}, 2, 'test_resnet'), method='mlkd', preset='official'
    )
    with pytest.raises(ModalityError, match=r"without \['ms'\]"):
        task.training_step(batch(), 0)


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


@pytest.mark.parametrize(
    'further',
    [
        ['--model.method', 'ctkd'],
        ['--model.method', 'ctkd', '--model.teacher_in_training_mode', 'true'],
        ['--model.method', 'ctkd', '--model.instance_temperature', 'true'],
        ['--model.method', 'mlkd', '--model.preset', 'official'],
    ],
)
def test_resumed_run_equals_an_uninterrupted_one(
    further: list[str], pairs: Path, tmp_path: Path
) -> None:
    path = write_teacher(tmp_path / 'teacher.safetensors', CHANNELS)
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    further = [*further, '--model.lr', '0.01']
    two = ['--trainer.max_epochs', '2']
    main(arguments(path, pairs, whole, *further, *two))
    main(arguments(path, pairs, parts, *further))
    resume = ['--ckpt_path', str(parts / 'last.ckpt'), *two]
    main(['fit', '--config', str(parts / 'config.yaml'), *resume])
    one, other = last(whole), last(parts)
    assert not changed(one['state_dict'], other['state_dict'])
    training_mode = '--model.teacher_in_training_mode' in further
    assert ('teacher_buffers' in one) == training_mode
    if training_mode:
        assert not changed(one['teacher_buffers'], other['teacher_buffers'])


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
    assert f'{other} is another one' in str(error.value)

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
    for label in (2, -1):
        sample = batch()
        sample['label'][3] = label
        with pytest.raises(LabelError, match=f'the label {label}, but num_classes=2'):
            task.training_step(sample, 0)


@pytest.mark.parametrize('which', ['student', 'teacher'])
@pytest.mark.parametrize('method', ['kd', 'dkd', 'ctkd', 'mlkd'])
def test_equal_logits_standardised(method: Any, which: str, tmp_path: Path) -> None:
    task = tiny(
        write_teacher(tmp_path / 'teacher.safetensors'), method=method, standardize=True
    )
    classifier = task.model if which == 'student' else task.teacher.classifier
    torch.nn.init.zeros_(classifier.classifier.weight)
    torch.nn.init.zeros_(classifier.classifier.bias)
    loss = task.training_step(batch(), 0)
    assert loss.isfinite()
    loss.backward()
    assert all(p.grad.isfinite().all() for p in task.parameters())


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
        ({'temperature': -1.0}, r'temperature=-1\.0'),
        ({'temperature': math.nan}, 'temperature=nan'),
        ({'method': 'ctkd', 'temperature_start': 0.0}, r'temperature_start=0\.0'),
        ({'method': 'ctkd', 'temperature_end': -1.0}, r'temperature_end=-1\.0'),
        ({'method': 'ctkd', 'temperature_end': math.inf}, 'temperature_end=inf'),
        ({'method': 'ctkd', 'instance_temperature': 1}, 'instance_temperature=1'),
        ({'instance_temperature': True}, r"no setting of method='kd'"),
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
        (
            {'method': 'mlkd', 'preset': 'official', 'temperatures': [2.0]},
            "with preset='official', which has",
        ),
        ({'method': 'mlkd', 'preset': 'official', 'temperature': 0.0}, 'temperature=0'),
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

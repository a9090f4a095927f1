# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn.functional import cross_entropy

from torchgeo_discomkd.commands import main
from torchgeo_discomkd.errors import (
    BatchSizeError,
    CheckpointError,
    LabelError,
    ModalityError,
    SettingError,
)
from torchgeo_discomkd.losses import (
    CTKD,
    DKD,
    KD,
    MLKD,
    DistillationLoss,
    batch_consistency_loss,
    class_consistency_loss,
    dkd_terms,
    instance_kd_loss,
    kd_loss,
    standardize_logits,
)
from torchgeo_discomkd.models import FusionClassifier, load_classifier, load_metadata
from torchgeo_discomkd.tasks import Distillation, FusionClassification

from .distillation import (
    CHANNELS,
    arguments,
    batch,
    changed,
    last,
    state,
    tiny,
    trainer,
    write_teacher,
)

#: Losses are logged, which needs a trainer; some tests take a step without one.
pytestmark = pytest.mark.filterwarnings('ignore:You are trying to `self.log')

INSTANCE = ['--model.loss', 'CTKD', '--model.loss.instance_temperature', 'true']


@pytest.mark.slow
def test_student_of_a_disentangled_teacher(
    pairs: Path, tmp_path: Path, trained: Path
) -> None:
    teacher = trained / 'best' / 'ms.safetensors'
    before = teacher.read_bytes()
    folder = tmp_path / 'student'
    short = ['--trainer.limit_train_batches', '2']
    main(arguments(str(teacher), pairs, folder, '--model.loss', 'CTKD', *short))
    assert teacher.read_bytes() == before
    assert [path.name for path in (folder / 'best').iterdir()] == ['sar.safetensors']
    assert list(load_metadata(folder / 'best' / 'sar.safetensors').modalities) == [
        'sar'
    ]
    checkpoint = last(folder)
    names = set(checkpoint['state_dict'])
    student = set(FusionClassifier({'sar': 2}, 2, 'test_resnet').state_dict())
    assert names == {f'model.{name}' for name in student} | {'loss.raw'}
    assert 'teacher_buffers' not in checkpoint
    (metrics,) = folder.glob('metrics/*/metrics.csv')
    header = metrics.read_text().splitlines()[0].split(',')
    assert {
        'train_loss',
        'train_classification_loss',
        'train_distillation_loss',
        'train_temperature',
    } <= set(header)

    again = Distillation.load_from_checkpoint(folder / 'last.ckpt')
    assert isinstance(again.loss, CTKD)
    assert again.loss.config() == checkpoint['hyper_parameters']['loss']

    # scoring a student needs no teacher any more
    teacher.unlink()
    config = ['--config', str(folder / 'config.yaml')]
    main(['test', *config])
    main(['test', *config, '--ckpt_path', str(folder / 'last.ckpt')])


def dkd(s: Tensor, t: Tensor, y: Tensor, alpha: float, beta: float, x: float) -> Tensor:
    target_class, other_classes = dkd_terms(s, t, y, x)
    return (alpha * target_class + beta * other_classes).mean()


def ctkd(s: Tensor, t: Tensor, start: float = 1.0, width: float = 20.0) -> Tensor:
    return kd_loss(s, t, start + width / (1 + math.exp(-1)))


def instance(s: Tensor, t: Tensor, start: float = 1.0) -> Tensor:
    return instance_kd_loss(s, t, torch.full((6,), start + 20 / (1 + math.exp(-1))))


z = standardize_logits

#: Loss of the task, and what it should compute from student, teacher and labels.
EXPECTED: dict[str, tuple[DistillationLoss | None, Callable[..., Tensor]]] = {
    'default': (
        None,
        lambda s, t, y: 0.5 * cross_entropy(s, y) + 0.5 * kd_loss(s, t, 4.0),
    ),
    'kdv1': (KD(alpha=0.0), lambda s, t, y: kd_loss(s, t, 4.0)),
    'kd_lskd': (
        KD(standardize=True),
        lambda s, t, y: 0.5 * cross_entropy(s, y) + 0.5 * kd_loss(z(s), z(t), 4.0),
    ),
    'kd_official': (
        KD.preset('official', alpha=0.1),
        lambda s, t, y: 0.1 * cross_entropy(s, y) + 0.9 * kd_loss(s, t, 1.0),
    ),
    'kd_official_lskd': (
        KD.preset('official', standardize=True),
        lambda s, t, y: 0.5 * cross_entropy(s, y) + 0.5 * kd_loss(z(s), z(t), 2.0),
    ),
    'dkd': (
        DKD(),
        lambda s, t, y: cross_entropy(s, y) + dkd(s, t, y, 1.0, 8.0, 4.0) / 20,
    ),
    'dkd_authors': (DKD.preset('authors'), lambda s, t, y: cross_entropy(s, y)),
    'dkd_official_lskd': (
        DKD.preset('official', standardize=True),
        lambda s, t, y: cross_entropy(s, y) + dkd(z(s), z(t), y, 9.0, 72.0, 2.0) / 20,
    ),
    'dkd_overrides': (
        DKD(
            cross_entropy_weight=2.0,
            distillation_weight=3.0,
            target_weight=5.0,
            other_weight=7.0,
            temperature=2.0,
            warmup_epochs=4,
        ),
        lambda s, t, y: 2 * cross_entropy(s, y) + 3 / 4 * dkd(s, t, y, 5.0, 7.0, 2.0),
    ),
    'ctkd': (CTKD(), lambda s, t, y: 0.1 * cross_entropy(s, y) + 0.9 * ctkd(s, t)),
    'ctkd_official_lskd': (
        CTKD.preset('official', standardize=True),
        lambda s, t, y: 0.1 * cross_entropy(s, y) + 9 * ctkd(z(s), z(t)),
    ),
    'ctkd_range': (
        CTKD(temperature_start=2.0, temperature_end=6.0),
        lambda s, t, y: 0.1 * cross_entropy(s, y) + 0.9 * ctkd(s, t, 2.0, 6.0),
    ),
    'ctkd_instance': (
        CTKD(instance_temperature=True, num_classes=3, temperature_start=3.0),
        lambda s, t, y: 0.1 * cross_entropy(s, y) + 0.9 * instance(s, t, 3.0),
    ),
    'ctkd_instance_lskd': (
        CTKD(instance_temperature=True, num_classes=3, standardize=True),
        lambda s, t, y: 0.1 * cross_entropy(s, y) + 0.9 * instance(z(s), z(t)),
    ),
    'mlkd': (
        MLKD(class_weight=0.5, batch_weight=0.25),
        lambda s, t, y: (
            cross_entropy(s, y)
            + sum(
                kd_loss(s, t, x)
                + 0.5 * class_consistency_loss(s, t, x)
                + 0.25 * batch_consistency_loss(s, t, x)
                for x in (2.0, 3.0, 4.0, 5.0, 6.0)
            )
        ),
    ),
    'mlkd_authors_lskd': (
        MLKD.preset('authors', standardize=True),
        lambda s, t, y: cross_entropy(s, y) + MLKD(swapped_kl=True)(z(s), z(t), y, 0),
    ),
    'mlkd_unswapped': (
        MLKD.preset('authors', swapped_kl=False, temperatures=[3.0]),
        lambda s, t, y: (
            cross_entropy(s, y)
            + kd_loss(s, t, 3.0)
            + class_consistency_loss(s, t, 3.0)
            + batch_consistency_loss(s, t, 3.0)
        ),
    ),
}


@pytest.mark.parametrize('name', EXPECTED)
def test_training_loss(name: str, tmp_path: Path) -> None:
    loss, expected = EXPECTED[name]
    path = write_teacher(tmp_path / 'teacher.safetensors', CHANNELS, ('a', 'b', 'c'))
    task = tiny(path, loss=loss, num_classes=3)
    sample = batch() | {'label': torch.arange(6) % 3}
    images = {m: sample[f'image_{m}'] for m in CHANNELS}
    teacher = load_classifier(path)(images)
    student = task.model(images['sar'])
    loss = task.training_step(sample, 0)
    torch.testing.assert_close(loss, expected(student, teacher, sample['label']))
    loss.backward()
    assert all(p.grad is not None for p in task.model.parameters())


def test_instance_temperatures_are_trained_but_not_deployed(
    pairs: Path, tmp_path: Path
) -> None:
    path = write_teacher(tmp_path / 'teacher.safetensors', CHANNELS)
    folder = tmp_path / 'student'
    main(
        arguments(
            *(path, pairs, folder, *INSTANCE), *('--model.loss.temperature_lr', '0.5')
        )
    )
    checkpoint = last(folder)
    weights = {
        name.removeprefix('loss.'): value
        for name, value in checkpoint['state_dict'].items()
        if name.startswith('loss.')
    }
    start = CTKD(instance_temperature=True, num_classes=2).state_dict()
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


def test_temperature_has_a_learning_rate_of_its_own() -> None:
    task = tiny('unread', loss=CTKD(temperature_lr=0.25), lr=1e-3)
    student, temperature = task.configure_optimizers().param_groups
    assert (student['lr'], temperature['lr']) == (1e-3, 0.25)
    assert temperature['params'] == list(task.loss.parameters())


@pytest.mark.parametrize('instance_temperature', [False, True])
def test_student_starts_as_the_plain_one(instance_temperature: bool) -> None:
    torch.manual_seed(0)
    loss = CTKD(instance_temperature=instance_temperature)
    student = Distillation('unread', loss, None, 2, 'test_resnet')
    torch.manual_seed(0)
    plain = FusionClassification({'sar': 2}, 2, 'test_resnet')
    assert not changed(state(plain.model), state(student.model))


@pytest.mark.slow
@pytest.mark.parametrize(
    'further',
    [
        ['--model.loss', 'CTKD'],
        ['--model.loss', 'CTKD', '--model.teacher_in_training_mode', 'true'],
        INSTANCE,
        ['--model.loss', 'OfficialMLKD'],
    ],
)
def test_resumed_run_equals_an_uninterrupted_one(
    further: list[str], pairs: Path, tmp_path: Path
) -> None:
    path = write_teacher(tmp_path / 'teacher.safetensors', CHANNELS)
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    short = ['--trainer.limit_train_batches', '2', '--trainer.limit_val_batches', '1']
    further = [*further, '--model.lr', '0.01', *short]
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


@pytest.mark.filterwarnings('ignore:.*LSKD')
@pytest.mark.parametrize('which', ['student', 'teacher'])
@pytest.mark.parametrize('loss', [KD, DKD, CTKD, MLKD])
def test_equal_logits_standardised(
    loss: type[DistillationLoss], which: str, tmp_path: Path
) -> None:
    path = write_teacher(tmp_path / 'teacher.safetensors')
    task = tiny(path, loss=loss.preset(standardize=True))
    classifier = task.model if which == 'student' else task.teacher.classifier
    torch.nn.init.zeros_(classifier.classifier.weight)
    torch.nn.init.zeros_(classifier.classifier.bias)
    loss = task.training_step(batch(), 0)
    assert loss.isfinite()
    loss.backward()
    assert all(p.grad.isfinite().all() for p in task.parameters())


def test_more_than_one_modality() -> None:
    with pytest.raises(ModalityError, match='one modality'):
        tiny('unread', in_channels=CHANNELS)


@pytest.mark.filterwarnings('ignore:.*LSKD')
def test_stored_without_pickle(tmp_path: Path) -> None:
    """A task made in Python, without the command line."""
    task = tiny('unread', loss=MLKD(temperatures=(2.0, 3.0), standardize=True))
    fit = trainer(tmp_path)
    fit.strategy.connect(task)
    fit.save_checkpoint(tmp_path / 'run.ckpt')
    checkpoint = torch.load(tmp_path / 'run.ckpt', weights_only=True)
    stored = checkpoint['hyper_parameters']['loss']
    assert stored == task.loss.config()
    assert stored['class_path'] == 'torchgeo_discomkd.losses.mlkd.MLKD'
    again = Distillation.load_from_checkpoint(tmp_path / 'run.ckpt')
    assert isinstance(again.loss, MLKD)
    assert again.loss.config() == stored
    assert not changed(state(task), state(again))


def test_checkpoint_of_an_old_version(tmp_path: Path) -> None:
    task = tiny('unread')
    old = {'hyper_parameters': {'method': 'dkd'}, 'state_dict': task.state_dict()}
    with pytest.raises(CheckpointError, match=r"method='dkd'.*best/\*\.safetensors"):
        task.on_load_checkpoint(old)


def test_mistakes_on_the_command_line(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = str(tmp_path / 'missing.safetensors')
    for further, message in (
        ((), 'there is no such file'),
        (('--model.loss', 'FitNet'), 'FitNet'),
        (('--model.loss', 'KD', '--model.loss.alfa', '0'), 'alfa'),
        (
            ('--model.loss', 'KD', '--model.loss.temperature', '0'),
            'temperature=0.0: set --model.loss.temperature to a positive number',
        ),
    ):
        with pytest.raises(SystemExit):
            main(arguments(missing, pairs, tmp_path / 'run', *further))
        assert message in capsys.readouterr().err
        assert not (tmp_path / 'run').exists()


def test_rate_of_a_loss_is_not_replaced_silently(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = write_teacher(tmp_path / 'teacher.safetensors')
    args = ['--model.loss', 'CTKD', '--model.loss.temperature_lr', '0.25']
    args += ['--optimizer', 'SGD', '--trainer.limit_train_batches', '1']

    def fit(*rate: str) -> None:
        main(arguments(teacher, pairs, tmp_path / 'run', *args, *rate))

    with pytest.raises(SystemExit):
        fit('--optimizer.lr', '0.5')
    error = capsys.readouterr().err
    assert 'loss.temperature_lr=0.25 has no effect with --optimizer' in error
    fit('--optimizer.lr', '0.25')


def test_rates_that_a_task_is_given() -> None:
    task = tiny('unread', loss=CTKD(instance_temperature=True), lr=0.5)
    assert task.given_rates() == {'lr': 0.5, 'loss.temperature_lr': 1e-3}
    assert tiny('unread').given_rates() == {}


def test_loss_of_another_number_of_classes_is_refused() -> None:
    loss = CTKD(instance_temperature=True, num_classes=5)
    with pytest.raises(SettingError, match=r'omit --model\.loss\.num_classes'):
        tiny('unread', loss=loss)

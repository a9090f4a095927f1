# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Class weights, label smoothing and frozen encoders, in every task that trains."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch.cli import LightningArgumentParser
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from tests.callbacks.test_cuda_graphs import Watched, fit, same
from torchgeo_discomkd.commands import main
from torchgeo_discomkd.errors import (
    BandError,
    CheckpointError,
    LabelError,
    ModalityError,
    SettingError,
)
from torchgeo_discomkd.losses import DKD
from torchgeo_discomkd.tasks import DisCoMKD, Distillation, FusionClassification

from .distillation import batch, state, write_teacher
from .test_discomkd import Pairs, tiny, trainer

pytestmark = [
    pytest.mark.filterwarnings('ignore:You are trying to `self.log'),
    pytest.mark.filterwarnings('ignore:.*does not have many workers'),
    pytest.mark.filterwarnings('ignore:.*`val_dataloader`'),
    pytest.mark.filterwarnings('ignore:You defined a `validation_step`'),
    pytest.mark.filterwarnings('ignore:The number of training batches'),
    # Lightning cannot know that they are to be frozen
    pytest.mark.filterwarnings('ignore:Found .* in eval mode at the start'),
]

WEIGHTS = [0.5, 4.0]
OPTIONS: dict[str, Any] = {'class_weights': WEIGHTS, 'label_smoothing': 0.2}


def expected(logits: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(logits, labels, torch.tensor(WEIGHTS), label_smoothing=0.2)


@pytest.fixture
def weights(tmp_path: Path) -> str:
    """File of encoder weights for both modalities."""
    path = tmp_path / 'sar.safetensors'
    FusionClassification({'sar': 3}, 2, 'test_resnet').save_classifier(
        'sar', path, {}, 0
    )
    return str(path)


@pytest.fixture
def teacher(tmp_path: Path) -> str:
    return write_teacher(tmp_path / 'teacher.safetensors')


@pytest.mark.parametrize('formulation', ['paper', 'released'])
def test_terms_of_discomkd(formulation: str) -> None:
    logs = []
    for options in ({}, OPTIONS):
        torch.manual_seed(0)
        task = tiny(students='both', formulation=formulation, **options)
        inputs = task.training_inputs(batch())
        logs.append(task.objective(inputs)[1])
    plain, weighted = logs
    same_terms = {n for n in plain if torch.equal(plain[n], weighted[n])}
    unweighted = {'adversarial_loss', 'modality_loss', 'orthogonality_loss'}
    assert same_terms == unweighted | {'ms_logits', 'sar_logits'}
    y, shared = batch()['label'], task.model.auxiliary_classifier
    classification, auxiliary = [], []
    for m in task.modalities:
        x = inputs[f'image_{m}']
        for name, student in task._comparisons(m).items():
            torch.testing.assert_close(
                weighted[f'{name}_loss'], expected(student(x), y)
            )
        classification.append(expected(task(x, m), y))
        embeddings = task.model.classifiers[m].embed(x)
        auxiliary += [expected(shared(z), y) for z in embeddings[:2]]
    # the released code has one mean over the modalities, here of equal weights
    share = 1 if formulation == 'paper' else 0.5
    for name, terms in (('classification', classification), ('auxiliary', auxiliary)):
        torch.testing.assert_close(weighted[f'{name}_loss'], share * sum(terms))


@pytest.mark.parametrize('network', ['plain', 'same_size'])
def test_loss_of_one_modality(network: Any) -> None:
    task = FusionClassification(
        {'sar': 2}, 2, 'test_resnet', network=network, **OPTIONS
    )
    inputs = task.training_inputs(batch())
    loss, _ = task.objective(inputs)
    logits = task.model(inputs['image_sar'])
    torch.testing.assert_close(loss, expected(logits, inputs['label']))


def test_loss_of_a_student_with_a_teacher(teacher: str) -> None:
    logs = []
    for options in ({}, OPTIONS):
        torch.manual_seed(0)
        task = Distillation(teacher, DKD(), {'sar': 2}, 2, 'test_resnet', **options)
        inputs = task.training_inputs(batch())
        logs.append(task.objective(inputs)[1])
    plain, weighted = logs
    assert torch.equal(plain['distillation_loss'], weighted['distillation_loss'])
    torch.testing.assert_close(
        weighted['classification_loss'],
        expected(task.model(inputs['image_sar']), inputs['label']),
    )


@pytest.mark.parametrize(
    'given', [WEIGHTS, torch.tensor(WEIGHTS), np.array(WEIGHTS), (0.5, 4)]
)
def test_settings_are_plain_numbers_in_a_checkpoint(given: Any, teacher: str) -> None:
    options = {**OPTIONS, 'class_weights': given, 'freeze_backbone': {'sar': True}}
    student = Distillation(teacher, None, {'sar': 2}, 2, 'test_resnet', **options)
    for task in (tiny(**options), student):
        for hparams in (task.hparams, task.hparams_initial):
            kept = {name: hparams[name] for name in options}
            assert yaml.safe_load(yaml.safe_dump(kept)) == {**options, **kept}
            assert kept['class_weights'] == WEIGHTS
        assert task.criterion.weight is not None
        assert task.criterion.weight.tolist() == WEIGHTS


def test_validation_losses_are_those_of_the_whole_split(tmp_path: Path) -> None:
    channels = {'ms': 13, 'sar': 2}
    task = FusionClassification(channels, 2, 'test_resnet', **OPTIONS)
    run = trainer(tmp_path, limit_train_batches=1)
    data = Pairs()
    with torch.no_grad():
        run.fit(task, DataLoader(data, 6), DataLoader(data, 5))
        samples = [data[i] for i in range(len(data))]
        y = torch.tensor([s['label'] for s in samples])
        images = {m: torch.stack([s[f'image_{m}'] for s in samples]) for m in channels}
        loss = expected(task.eval().model(images), y)
    for name in ('val_loss', 'val_fusion_loss'):
        torch.testing.assert_close(run.callback_metrics[name], loss)


@pytest.mark.parametrize(
    ('setting', 'frozen', 'formulation'),
    [
        (True, ('ms', 'sar'), 'paper'),
        ({'sar': True, 'ms': False}, ('sar',), 'released'),
    ],
)
def test_frozen_encoders_stay_as_they_are(
    setting: Any, frozen: Any, formulation: str, weights: str
) -> None:
    task = tiny(
        weights=weights,
        freeze_backbone=setting,
        students='both',
        formulation=formulation,
    )
    assert len(list(task.encoders())) == 10
    optimizer, before = task.train().configure_optimizers(), state(task)
    task.training_step(batch(), 0).backward()
    optimizer.step()
    after = state(task)
    inside = {
        f'{name}.'
        for name, module in task.named_modules()
        if any(module is e for m, e in task.encoders() if m in frozen)
    }
    assert len(inside) == (10 if setting is True else 5)
    for name in after:
        if 'normalization' not in name:
            kept = name.startswith(tuple(inside))
            assert torch.equal(before[name], after[name]) == kept, name
    trained = {
        id(p) for g in task.configure_optimizers().param_groups for p in g['params']
    }
    assert trained == {id(p) for p in task.parameters() if p.requires_grad}
    assert trained == {
        id(p)
        for name, p in task.named_parameters()
        if not name.startswith(tuple(inside))
    }
    for mode in (True, False, True):
        task.train(mode)
        for m, encoder in task.encoders():
            expected_mode = mode and m not in frozen
            assert {x.training for x in encoder.modules()} == {expected_mode}
    # the projection is no part of it
    assert task.model.classifiers['sar'].encoder.projection.training


@pytest.mark.parametrize('kind', ['fusion', 'same_size', 'student'])
def test_frozen_encoders_of_other_tasks(kind: str, weights: str, teacher: str) -> None:
    options: dict[str, Any] = {'weights': weights, 'freeze_backbone': True}
    arguments = ({'sar': 2}, 2, 'test_resnet')
    task: FusionClassification
    match kind:
        case 'fusion':
            task = FusionClassification({'ms': 13, 'sar': 2}, *arguments[1:], **options)
        case 'same_size':
            task = FusionClassification(*arguments, network='same_size', **options)
        case _:
            task = Distillation(teacher, None, *arguments, **options)
    task.train()
    optimizer, before = task.configure_optimizers(), state(task)
    task.training_step(batch(), 0).backward()
    optimizer.step()
    after = state(task)
    moved = {n.split('.')[1] for n in after if not torch.equal(after[n], before[n])}
    assert moved == (
        {'classifier', 'encoder'} if kind == 'same_size' else {'classifier'}
    )
    assert not any(e.training for _, e in task.encoders())


@pytest.mark.slow
def test_replayed_steps_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # without a logger, the run folder is below the current one
    monkeypatch.chdir(tmp_path)

    def create() -> DisCoMKD:
        torch.manual_seed(0)
        options = {**OPTIONS, 'freeze_backbone': {'sar': True}}
        return DisCoMKD({'ms': 3, 'sar': 2}, 2, 'test_resnet', students=True, **options)

    tasks, watched = [create(), create()], Watched()
    before = state(tasks[0])
    for task, callbacks in zip(tasks, ([], [watched]), strict=True):
        with pytest.warns(UserWarning, match=r"encoders of \['sar'\] keep random"):
            fit(task, *callbacks)
    assert watched.replays == 2
    assert same(*tasks)
    assert not all(torch.equal(v, before[k]) for k, v in tasks[0].state_dict().items())


@pytest.mark.parametrize('kind', ['discomkd', 'plain', 'student'])
def test_label_smoothing_is_part_of_the_state(kind: str, teacher: str) -> None:
    arguments = ({'sar': 2}, 2, 'test_resnet')
    match kind:
        case 'discomkd':
            task = tiny()
        case 'plain':
            task = FusionClassification(*arguments)
        case _:
            task = Distillation(teacher, None, *arguments)
    before = task.objective_state
    task.criterion.label_smoothing = 0.1
    assert task.objective_state != before


@pytest.mark.parametrize('setting', ['true', 1, ['sar'], {'sar': 'yes'}])
def test_other_settings_of_freezing_are_refused(setting: Any) -> None:
    with pytest.raises(SettingError, match='give true or false, or these by'):
        FusionClassification({'sar': 2}, 2, 'test_resnet', freeze_backbone=setting)


def test_unknown_modalities_are_refused() -> None:
    with pytest.raises(ModalityError, match=r"'optical'.*freeze_backbone"):
        FusionClassification(
            {'sar': 2}, 2, 'test_resnet', freeze_backbone={'optical': True}
        )


def test_a_task_that_names_no_encoders_is_refused() -> None:
    class Own(FusionClassification):
        def encoders(self) -> list[tuple[str, nn.Module]]:
            return []

    with pytest.raises(SettingError, match=r'Own names no encoders of .*sar'):
        Own({'sar': 2}, 2, 'test_resnet', freeze_backbone=True)


@pytest.mark.slow
def test_command_line_and_resuming(
    fit_pairs: Callable[..., Path], weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fit_pairs(
        *('--model.weights', weights, '--model.class_weights', '[1, 3]'),
        *('--model.label_smoothing', '0.1', '--model.freeze_backbone', '{sar: true}'),
        *('--trainer.limit_train_batches', '2'),
    )
    settings = yaml.safe_load((folder / 'config.yaml').read_text())['model']
    assert settings['init_args']['weights'] == weights
    content = torch.load(folder / 'last.ckpt', weights_only=True)
    for found in (settings['init_args'], content['hyper_parameters']):
        assert found['class_weights'] == [1, 3]
        assert found['label_smoothing'] == 0.1
        assert found['freeze_backbone'] == {'sar': True}
    # through validation, callbacks and all; the stem was adapted to the bands
    network = 'model.classifiers.sar.encoder.specific_encoder.'
    kept = {
        network + name.partition('encoders.sar.')[2]: tensor
        for name, tensor in load_file(weights).items()
        if 'encoders.sar.' in name and '.conv1.0.' not in name
    }
    assert len(kept) == 89
    assert all(torch.equal(content['state_dict'][k], v) for k, v in kept.items())
    loaded = DisCoMKD.load_from_checkpoint(folder / 'last.ckpt', freeze_backbone=False)
    assert loaded.frozen == ()
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(
            [
                *('fit', '--config', str(folder / 'config.yaml')),
                *('--ckpt_path', str(folder / 'last.ckpt')),
                *('--trainer.max_epochs', '2', '--model.freeze_backbone', 'true'),
            ]
        )
    assert stop.value.code == CheckpointError.exit_code == 2
    assert "has freeze_backbone={'sar': True}, but the task" in capsys.readouterr().err


@pytest.mark.parametrize(
    ('text', 'weights'),
    [
        ('true', True),
        ('null', None),
        ('a.pth', 'a.pth'),
        ('ResNet18_Weights.SENTINEL2_ALL_MOCO', 'ResNet18_Weights.SENTINEL2_ALL_MOCO'),
        ('{ms: true, sar: a.pth}', {'ms': True, 'sar': 'a.pth'}),
    ],
)
def test_weights_of_the_command_line(text: str, weights: Any) -> None:
    for task in (DisCoMKD, FusionClassification):
        parser = LightningArgumentParser()
        parser.add_class_arguments(task, 'model')
        found = parser.parse_args(['--model.weights', text]).model.weights
        assert found == weights
        assert type(found) is type(weights)


ODD = {
    'multi-hot': {'label': torch.zeros(6, 4, dtype=torch.long)},
    'probabilities': {'label': torch.full((6, 2), 0.5)},
    'fractions': {'label': torch.zeros(6)},
    'flags': {'label': torch.zeros(6, dtype=torch.bool)},
    'dense': {'label': torch.zeros(6, 8, 8, dtype=torch.long)},
    'texts': {'label': ['a'] * 6},
    'mask': {'mask': torch.zeros(6, 8, 8, dtype=torch.long)},
    'nothing': {},
}


def test_other_labels_are_refused(teacher: str) -> None:
    arguments = ({'sar': 2}, 2, 'test_resnet')
    student = Distillation(teacher, None, *arguments)
    plain = FusionClassification(*arguments)
    for odd in ODD.values():
        sample = {k: v for k, v in batch().items() if k != 'label'} | odd
        for step in (
            *(task.training_step for task in (plain, student)),
            plain.validation_step,
            plain.test_step,
        ):
            with pytest.raises(LabelError, match='one class for each sample is'):
                step(sample, 0)
    with pytest.raises(LabelError, match=r'no label or label_ms: one class'):
        tiny().training_step(sample, 0)


@pytest.mark.parametrize('dtype', [torch.int32, torch.uint8])
def test_labels_of_another_integer_type(dtype: torch.dtype) -> None:
    task = FusionClassification({'sar': 2}, 2, 'test_resnet', **OPTIONS)
    inputs = task.training_inputs(batch() | {'label': batch()['label'].to(dtype)})
    assert torch.equal(inputs['label'], batch()['label'])
    assert inputs['label'].dtype == torch.long


def test_stacked_images_are_refused() -> None:
    task, sample = tiny(), batch()
    sample['image_sar'] = sample['image_sar'].unsqueeze(1).repeat(1, 3, 1, 1, 1)
    for step in (task.training_step, task.validation_step, task.predict_step):
        with pytest.raises(BandError, match='A stack, such as a time series, is not'):
            step(sample, 0)

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Transfer between paired samples: one modality guides the others."""

import json
import math
from collections.abc import Callable
from contextlib import nullcontext
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader

from torchgeo_discomkd.commands import main
from torchgeo_discomkd.errors import ModalityError, SettingError
from torchgeo_discomkd.losses import embedding_transfer_loss, prediction_transfer_loss
from torchgeo_discomkd.tasks import DisCoMKD, FusionClassification
from torchgeo_discomkd.tasks.transfer import SETTINGS, Transfer, check_settings

from .test_discomkd import Pairs, batch, tiny, trainer

THREE = {'ms': 13, 'sar': 2, 'lidar': 1}


def guided(**kwargs: Any) -> DisCoMKD:
    """Return a task whose transfer is active from the start."""
    defaults = {'transfer': True, 'transfer_guide': 'ms', 'transfer_warmup': 0}
    return tiny(**{**defaults, **kwargs})


def test_terms_are_added_with_their_weights() -> None:
    torch.manual_seed(0)
    plain = tiny()
    torch.manual_seed(0)
    weights = {'prediction_transfer_weight': 3.0, 'embedding_transfer_weight': 7.0}
    task = guided(**weights, transfer_temperature=2.0)
    loss, log = task.objective(task.training_inputs(batch()))
    # the paper's terms are the same to the last bit: no further random draw
    expected, terms = plain.objective(plain.training_inputs(batch()))
    for name, term in terms.items():
        assert name == 'loss' or torch.equal(term, log[name])
    output = task.model({m: batch()[f'image_{m}'] for m in task.modalities})
    invariant = {m: e.invariant for m, e in output.embeddings.items()}
    of_predictions = prediction_transfer_loss(output.logits, 'ms', 2.0)
    of_embeddings = embedding_transfer_loss(invariant, 'ms')
    torch.testing.assert_close(log['prediction_transfer_loss'], of_predictions)
    torch.testing.assert_close(log['embedding_transfer_loss'], of_embeddings)
    total = expected + 3 * of_predictions + 7 * of_embeddings
    torch.testing.assert_close(loss, total)
    torch.testing.assert_close(log['loss'], total)


@pytest.mark.parametrize('guide', THREE)
def test_nothing_flows_into_the_guide(guide: str) -> None:
    task = guided(in_channels=THREE, transfer_guide=guide)
    sample = batch(modalities=tuple(THREE))
    output = task.model({m: sample[f'image_{m}'] for m in THREE})
    sum(task.transfer_terms(output).values(), torch.zeros(())).backward()
    for m in THREE:
        encoder = task.model.classifiers[m].encoder
        gradients = [p.grad for p in encoder.invariant_encoder.parameters()]  # ty: ignore
        if m == guide:
            # batch normalisation included
            assert all(p.grad is None for p in task.model.classifiers[m].parameters())
        else:
            assert all(g is not None and g.any() for g in gradients)


def test_samples_without_a_label() -> None:
    task = guided(students='both')
    sample = batch(6)
    some = sample | {'label': torch.tensor([0, 1, 0, -1, -1, -1])}
    none = sample | {'label': torch.full((6,), -1)}
    _, full_log = task.objective(task.training_inputs(sample))
    _, some_log = task.objective(task.training_inputs(some))
    loss, none_log = task.objective(task.training_inputs(none))
    supervised = {'classification_loss', 'auxiliary_loss'} | {
        f'{m}_{kind}_loss' for m in ('ms', 'sar') for kind in ('student', 'same_size')
    }
    for name in supervised:
        assert none_log[name].item() == 0
        assert some_log[name].item() not in {0, full_log[name].item()}
    for name in full_log.keys() - supervised - {'loss'}:
        assert torch.equal(full_log[name], none_log[name])
        assert torch.equal(full_log[name], some_log[name])
    loss.backward()
    student = [p.grad for p in task.students.parameters()]
    assert all(g is not None and not g.any() for g in student)
    assert all(p.grad.isfinite().all() for p in task.parameters() if p.grad is not None)


def test_plain_classifiers_skip_samples_without_a_label() -> None:
    task = FusionClassification({'sar': 2}, 2, 'test_resnet').eval()
    sample = batch(6, modalities=('sar',))
    some = sample | {'label': torch.tensor([0, 1, 0, -1, -1, -1])}
    first = {k: v[:3] for k, v in sample.items()}
    losses = [task.training_step(x, 0) for x in (some, first)]
    torch.testing.assert_close(*losses)


def test_scores_skip_samples_without_a_label(tmp_path: Path) -> None:
    task = tiny().eval()
    some = batch(4) | {'label': torch.tensor([0, 1, 0, -1])}
    none = batch(2) | {'label': torch.tensor([-1, -1])}
    known = {k: v[:3] for k, v in some.items()}
    scores = [
        trainer(tmp_path).test(task, DataLoader(data, batch_size=None), verbose=False)  # ty: ignore[invalid-argument-type]
        for data in ([some, none], [known])
    ]
    assert scores[0][0] == pytest.approx(scores[1][0])
    assert 'test_sar_F1Score' in scores[0][0]


def test_a_loss_that_is_not_finite_is_logged(tmp_path: Path) -> None:
    """Early stopping must see it, and not the value of the epoch before."""
    task = tiny().eval()
    torch.nn.init.constant_(next(task.parameters()), torch.nan)
    loader: Any = DataLoader([batch(4)], batch_size=None)  # ty: ignore[invalid-argument-type]
    [scores] = trainer(tmp_path).test(task, loader, verbose=False)
    assert math.isnan(scores['test_loss'])


@pytest.mark.parametrize(
    ('settings', 'match'),
    [
        ({'transfer_temperature': 0}, 'transfer_temperature=0'),
        ({'transfer_temperature': float('nan')}, 'temperature=nan'),
        ({'prediction_transfer_weight': -1}, 'transfer_weight=-1'),
        ({'embedding_transfer_weight': float('inf')}, 'weight=inf'),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(SettingError, match=match):
        check_settings({'transfer': True, **SETTINGS, **settings})


def test_guide_and_warmup_out_of_range() -> None:
    with pytest.raises(ModalityError, match=r"'lidar': .*'ms', 'sar'"):
        Transfer(('ms', 'sar'), 'lidar', 1)
    with pytest.raises(SettingError, match='transfer_warmup=-1'):
        Transfer(('ms', 'sar'), 'ms', -1)
    with pytest.raises(SettingError, match='transfer_warmup=0: the guide'):
        Transfer(('ms', 'sar'), None, 0)
    # the task asks
    with pytest.raises(ModalityError, match='lidar'):
        guided(transfer_guide='lidar')


@pytest.mark.parametrize(
    ('name', 'value'), [*zip(SETTINGS, ('ms', 2, 2.0, 0.25, 0.5), strict=True)]
)
def test_no_setting_is_ignored(name: str, value: Any) -> None:
    with pytest.raises(SettingError, match=f'{name}=.*no effect without transfer'):
        check_settings({'transfer': False, **SETTINGS, name: value})


def test_the_task_has_these_defaults() -> None:
    parameters = signature(DisCoMKD).parameters
    assert {name: parameters[name].default for name in SETTINGS} == SETTINGS
    with pytest.raises(SettingError, match='no effect'):
        tiny(transfer_warmup=2)


def test_unpaired_batches_are_refused() -> None:
    sample = batch()
    label = sample.pop('label')
    unpaired = sample | {f'label_{m}': label for m in ('ms', 'sar')}
    with pytest.raises(ModalityError, match=r'same samples.*--data\.paired true'):
        guided().training_step(unpaired, 0)
    tiny().training_inputs(unpaired)
    reason = guided().pairing
    assert reason is not None
    assert 'same samples' in reason
    assert tiny().pairing is None


@pytest.mark.parametrize(
    ('settings', 'of_trainer', 'match'),
    [
        ({}, {'limit_val_batches': 0}, 'without validation'),
        ({'transfer_warmup': 2}, {}, 'after 2 epochs, but training ends after 2'),
        ({}, {'check_val_every_n_epoch': 2}, 'after 2 epochs'),
        ({'transfer_guide': 'ms', 'transfer_warmup': 3}, {}, 'after 3 epochs'),
    ],
)
def test_transfer_that_would_never_begin(
    settings: dict[str, Any], of_trainer: dict[str, Any], match: str, tmp_path: Path
) -> None:
    loader = DataLoader(Pairs(), batch_size=4)
    with pytest.raises(SettingError, match=match):
        trainer(tmp_path, 2, **of_trainer).fit(
            tiny(transfer=True, **settings), loader, loader
        )
    assert not list(tmp_path.iterdir())


def test_the_best_modality_guides(capsys: pytest.CaptureFixture[str]) -> None:
    transfer = Transfer(('ms', 'sar', 'lidar'), None, warmup=2)
    scores = {'val_ms_F1Score': 0.5, 'val_sar_F1Score': 0.75, 'val_lidar_F1Score': 0.75}
    # a validation that is less frequent than the epochs
    transfer.choose(epoch=1)
    assert transfer.guide is None
    transfer.record({'val_ms_F1Score': 0.5})
    with pytest.raises(SettingError, match=r"scored \['ms'\] of"):
        transfer.choose(epoch=1)
    transfer.record({k: torch.tensor(v) for k, v in scores.items()})
    transfer.choose(epoch=0)
    assert transfer.guide is None
    transfer.choose(epoch=1)
    # ties go to the first
    assert transfer.guide == 'sar'
    transfer.record({k: 1 - v for k, v in scores.items()})
    transfer.choose(epoch=2)
    assert transfer.guide == 'sar'
    assert [transfer.active_guide(epoch) for epoch in range(3)] == [None, None, 'sar']


class Guided(DisCoMKD):
    """Notes which modality guides in each epoch."""

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self.seen = [*getattr(self, 'seen', []), self.active_guide]


@pytest.mark.slow
def test_a_resumed_run_keeps_its_guide(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fit(name: str, epochs: int, **kwargs: Any) -> Guided:
        torch.manual_seed(0)
        settings = {'num_classes': 2, 'model': 'test_resnet', 'lr': 1e-3}
        task = Guided(**settings, transfer=True, normalization='none')
        loader = DataLoader(Pairs(), batch_size=6)
        trainer(tmp_path / name, epochs).fit(task, loader, loader, **kwargs)
        return task

    with caplog.at_level('INFO', 'lightning.pytorch.utilities.rank_zero'):
        whole = fit('whole', 3)
    guide = whole.transfer_guide
    (line,) = [x for x in caplog.messages if x.startswith('transfer: ')]
    assert line.startswith(f'transfer: {guide} guides ')
    assert 'from epoch 1 on (validation F1: ms ' in line
    assert whole.seen == [None, guide, guide]
    fit('parts', 2)
    last = tmp_path / 'parts' / 'last.ckpt'
    assert torch.load(last, weights_only=True)['transfer_guide'] == guide
    parts = fit('parts', 3, ckpt_path=last, weights_only=True)
    assert parts.seen == [guide]
    assert same(whole.state_dict(), parts.state_dict())
    # it is part of the state, not chosen again
    checkpoint = torch.load(last, weights_only=True)
    other = {'ms': 'sar', 'sar': 'ms'}[guide or '']
    for named, expected in ((None, other), (guide, guide)):
        task = tiny(transfer=True, transfer_guide=named)
        task.on_load_checkpoint(checkpoint | {'transfer_guide': other})
        assert task.transfer_guide == expected
    # unless it was named, and no longer is
    settings = checkpoint['hyper_parameters'] | {'transfer_guide': other}
    task = tiny(transfer=True)
    task.on_load_checkpoint(checkpoint | {'hyper_parameters': settings})
    assert task.transfer_guide is None


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore:Checkpoint directory')
def test_scores_of_before_a_checkpoint_still_decide(tmp_path: Path) -> None:
    def fit(name: str, **kwargs: Any) -> Guided:
        torch.manual_seed(0)
        settings = {'num_classes': 2, 'model': 'test_resnet', 'normalization': 'none'}
        task = Guided(**settings, transfer=True, transfer_warmup=3)
        loader = DataLoader(Pairs(), batch_size=6)
        last = trainer(tmp_path / name, 4, check_val_every_n_epoch=2)
        # right after a validation, which decides when the next epoch ends
        options = {'save_top_k': -1, 'save_on_train_epoch_end': False}
        of_validation = ModelCheckpoint(tmp_path, '{epoch}', **options)
        last.callbacks.append(of_validation)  # ty: ignore[missing-attribute]
        last.fit(task, loader, loader, **kwargs)
        return task

    whole = fit('whole')
    assert whole.transfer_guide is not None
    assert whole.seen == [None, None, None, whole.transfer_guide]
    path = tmp_path / 'epoch=1.ckpt'
    assert torch.load(path, weights_only=True)['transfer_guide'] is None
    resumed = fit('resumed', ckpt_path=path, weights_only=True)
    assert resumed.seen == [None, whole.transfer_guide]
    assert same(whole.state_dict(), resumed.state_dict())


@pytest.mark.parametrize(
    ('of_trainer', 'problem'),
    [
        ({'max_steps': 2}, 'after 1 epoch, with transfer_warmup=1 and the guide sar'),
        (
            {'check_val_every_n_epoch': None, 'val_check_interval': 7},
            'after 3 epochs, with transfer_warmup=1 and no guide chosen',
        ),
        ({'fast_dev_run': 1}, None),
    ],
)
def test_a_transfer_that_never_began_is_told(
    of_trainer: dict[str, Any], problem: str | None, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    task = tiny(transfer=True, normalization='none')
    loader = DataLoader(Pairs(), batch_size=6)
    # any other warning is an error
    told = pytest.warns(UserWarning, match=problem) if problem else nullcontext()
    with told:
        trainer(tmp_path, **{'epochs': 3, **of_trainer}).fit(task, loader, loader)


@pytest.mark.filterwarnings('ignore:no classifier file was written')
def test_an_untrained_average_chooses_no_guide(tmp_path: Path) -> None:
    def fit(start: int) -> Guided:
        torch.manual_seed(0)
        settings = {'num_classes': 2, 'model': 'test_resnet', 'normalization': 'none'}
        task = Guided(**settings, transfer=True)
        loader = DataLoader(Pairs(), batch_size=6)
        late = EMAWeightAveraging(decay=0.5, update_starting_at_step=start)
        fitted = trainer(tmp_path / str(start), 3)
        fitted.callbacks.append(late)  # ty: ignore[missing-attribute]
        fitted.fit(task, loader, loader)
        return task

    # of two steps in an epoch: the average begins in the second epoch
    task = fit(start=2)
    assert task.transfer_guide is not None
    assert task.seen == [None, None, task.transfer_guide]
    untold = 'no guide chosen.* no validation of trained weights'
    with pytest.warns(UserWarning, match=untold):
        assert fit(start=1000).transfer_guide is None


@pytest.mark.slow
def test_resumed_through_the_command_line(
    fit_pairs: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    options = ('--model.transfer', 'true', '--data.paired', 'true')
    options += ('--model.students', 'same_size', '--model.lr', '0.001')
    whole = fit_pairs(*options, name='whole', epochs=3)
    parts = fit_pairs(*options, name='parts', epochs=2)
    assert sum(x.startswith('transfer: ') for x in caplog.messages) == 2
    caplog.clear()
    resume = ['--ckpt_path', str(parts / 'last.ckpt'), '--trainer.max_epochs', '3']
    main(['fit', '--config', str(parts / 'config.yaml'), *resume])
    assert not any(x.startswith('transfer: ') for x in caplog.messages)
    one, two = (
        torch.load(folder / 'last.ckpt', weights_only=True) for folder in (whole, parts)
    )
    assert one['transfer_guide'] == two['transfer_guide'] is not None
    assert same(one['state_dict'], two['state_dict'])
    for file in (whole / 'best').rglob('*.safetensors'):
        assert same(load_file(file), load_file(parts / file.relative_to(whole)))
    best = [
        json.loads((f / 'manifest.json').read_text())['best'] for f in (whole, parts)
    ]
    assert best[0] == best[1]


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)

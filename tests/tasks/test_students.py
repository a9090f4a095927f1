# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Classifiers that DisCoM-KD is compared with: plain ones and those of equal size."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from tests.conftest import TINY
from torchgeo_discomkd.callbacks import BestClassifiers
from torchgeo_discomkd.callbacks.epoch_lines import scores_text
from torchgeo_discomkd.callbacks.run_folder import best_files
from torchgeo_discomkd.callbacks.run_summary import print_whole, summary_table
from torchgeo_discomkd.commands import main
from torchgeo_discomkd.errors import ModalityError, SettingError
from torchgeo_discomkd.models import DisentangledClassifier, load_classifier
from torchgeo_discomkd.tasks import DisCoMKD, FusionClassification

from .test_discomkd import Pairs, batch, tiny, trainer


def state(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def equal(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def test_equal_size_is_the_deployed_size() -> None:
    with torch.device('meta'):
        task = DisCoMKD(num_classes=10, students='same_size')
        alone = FusionClassification({'sar': 2}, 10, network='same_size')
    for module in (task.same_size['sar'], alone.model, task.model.classifiers['sar']):
        assert sum(p.numel() for p in module.parameters()) == 22_483_722
    assert not task.students


@pytest.mark.parametrize('plain', [False, True])
def test_the_control_leaves_everything_else_alone(plain: bool) -> None:
    def trained(students: Any) -> DisCoMKD:
        torch.manual_seed(0)
        task = tiny(students=students)
        optimizer = task.configure_optimizers()
        task.training_step(batch(), 0).backward()
        optimizer.step()
        return task

    one = trained('plain' if plain else False)
    two = trained('both' if plain else 'same_size')
    assert equal(state(one.model), state(two.model))
    assert equal(state(one.students), state(two.students))
    assert bool(one.students) == plain
    # and it starts from weights of its own
    torch.manual_seed(0)
    fresh = tiny(students='same_size')
    own, deployed = fresh.same_size['sar'], fresh.model.classifiers['sar']
    assert state(own).keys() == state(deployed).keys()
    assert not torch.equal(next(own.parameters()), next(deployed.parameters()))


def test_the_control_learns_by_cross_entropy_alone() -> None:
    torch.manual_seed(0)
    task = tiny(students='both')
    inputs = task.training_inputs(batch())
    loss, log = task.objective(inputs)
    y = batch()['label']
    total = log['loss']
    for m in task.modalities:
        for name, student in (
            (f'{m}_student', task.students[m]),
            (f'{m}_same_size', task.same_size[m]),
        ):
            expected = cross_entropy(student(inputs[f'image_{m}']), y)
            torch.testing.assert_close(log[f'{name}_loss'], expected)
            total = total + log[f'{name}_loss']
    torch.testing.assert_close(loss, total)
    gradients = torch.autograd.grad(loss, list(task.same_size['sar'].parameters()))
    sar = log['sar_same_size_loss']
    own = torch.autograd.grad(
        cross_entropy(task.same_size['sar'](inputs['image_sar']), y),
        list(task.same_size['sar'].parameters()),
    )
    assert sar > 0
    torch.testing.assert_close(gradients, own)


@pytest.mark.slow
def test_files_of_a_run(tmp_path: Path) -> None:
    loader = DataLoader(Pairs(), batch_size=6)
    task = tiny(students='both')
    fit = trainer(tmp_path)
    fit.fit(task, loader, loader)
    assert 'train_sar_same_size_loss' in fit.callback_metrics
    names = {f'{m}{s}' for m in ('ms', 'sar') for s in ('', '_student', '_same_size')}
    assert set(best_files(tmp_path)) == names
    assert set(best_files(tmp_path, students=False)) == {'ms', 'sar'}
    loaded = load_classifier(tmp_path / 'best' / 'sar_same_size.safetensors')
    assert isinstance(loaded.classifier, DisentangledClassifier)
    assert loaded.auxiliary is None
    assert 'val_CalibrationError_calibrated' in loaded.metadata.scores
    x = batch()['image_sar']
    torch.testing.assert_close(loaded(x), task.eval().same_size['sar'](x))


def test_file_of_the_control_alone(tmp_path: Path) -> None:
    task = FusionClassification({'sar': 2}, 2, 'test_resnet', network='same_size')
    task.training_step(batch(modalities=('sar',)), 0).backward()
    assert all(p.grad is not None for p in task.parameters())
    task.save_classifier('sar', tmp_path / 'sar.safetensors', {}, 0)
    loaded = load_classifier(tmp_path / 'sar.safetensors')
    assert isinstance(loaded.classifier, DisentangledClassifier)
    x = batch()['image_sar']
    logits = task.eval().evaluate({'image_sar': x}, 'val')
    torch.testing.assert_close(loaded(x), logits['sar'])
    ((modality, normalization),) = task.normalizations()
    assert (modality, normalization) == ('sar', task.model.normalization)


@pytest.mark.slow
def test_same_size_through_the_command_line(
    fit_pairs: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fit_pairs('--model.students', 'both')
    main(['test', '--config', str(folder / 'config.yaml')])
    assert 'F1      alone   size' in capsys.readouterr().out
    main(['predict', '--config', str(folder / 'config.yaml')])
    tables = [path.stem for path in (folder / 'predictions').glob('*.csv')]
    assert sorted(tables) == ['ms', 'sar']


@pytest.mark.slow
def test_alone_through_the_command_line(
    fit_pairs: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    control = ('--model', 'FusionClassification', '--model.num_classes', '2', *TINY)
    control += ('--model.network', 'same_size')
    folder = fit_pairs(*control, '--data.modalities', '[sar]')
    assert [path.name for path in (folder / 'best').iterdir()] == ['sar.safetensors']
    capsys.readouterr()
    both = ('--model.in_channels', '{ms: 13, sar: 2}', '--data.paired', 'true')
    with pytest.raises(SystemExit) as stop:
        fit_pairs(*control, *both, name='several')
    assert stop.value.code == 2
    assert 'one modality' in capsys.readouterr().err


def test_distillation_has_no_network_to_choose(
    fit_pairs: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        fit_pairs('--model', 'Distillation', '--model.network', 'same_size')
    assert 'network' in capsys.readouterr().err


def test_bad_settings() -> None:
    with pytest.raises(SettingError, match="students='equal': use plain"):
        tiny(students='equal')
    with pytest.raises(SettingError, match="network='deep': use plain"):
        FusionClassification(network='deep')  # ty: ignore[invalid-argument-type]
    with pytest.raises(SettingError, match='classifier of one modality'):
        FusionClassification({'ms': 13, 'sar': 2}, network='same_size')
    with pytest.raises(ModalityError, match='ms'):
        FusionClassification(network='same_size', weights={'ms': True})
    # its files would be taken for those of the control of 'sar'
    with pytest.raises(ModalityError, match='sar_same_size'):
        tiny(in_channels={'sar': 2, 'sar_same_size': 2})
    # its scores would be those of the read-out of 'sar'
    for name in ('sar_invariant', 'sar_informative'):
        with pytest.raises(ModalityError, match=f'{name}.*Rename the modality'):
            tiny(in_channels={'sar': 2, name: 2})


def test_names_of_the_plain_students() -> None:
    for students in (True, 'plain'):
        assert [n for n in tiny(students=students).comparison_names() if 'st' in n] == [
            'ms_student',
            'sar_student',
        ]


def test_summary_fits_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    best = BestClassifiers()
    names = ('opticals', 'opticals_student', 'opticals_same_size', 'sar', 'sar_student')
    best.scores = {name: 0.1 * i + 0.2 for i, name in enumerate(names)}
    best.epochs = dict.fromkeys(names, 99)
    errors = {'val_CalibrationError': 0.5, 'val_CalibrationError_calibrated': 0.25}
    print_whole(Console(width=80), summary_table(best, {'opticals': errors}))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split() for line in lines] == [
        ['same'],
        ['modality', 'epoch', 'F1', 'alone', 'size', 'ECE', 'calibrated', 'file'],
        [
            *('opticals', '99', '0.2000', '0.3000', '0.4000', '0.5000', '0.2500'),
            'best/opticals.safetensors',
        ],
        ['sar', '99', '0.5000', '0.6000', '-', '-', '-', 'best/sar.safetensors'],
    ]


def test_line_of_an_epoch() -> None:
    names = ('sar', 'sar_student', 'sar_same_size')
    metrics = {f'val_{n}_F1Score': torch.tensor(0.5) for n in names}
    assert scores_text(metrics) == 'sar 0.500 (alone 0.500, same size 0.500)'

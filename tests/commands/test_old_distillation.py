# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Configurations that were written when the loss of Distillation was no class."""

import shlex
from pathlib import Path

import pytest
import yaml
from jsonargparse import ArgumentParser

from torchgeo_discomkd.commands import main
from torchgeo_discomkd.commands.old_distillation import refuse_old_distillation
from torchgeo_discomkd.errors import SettingError
from torchgeo_discomkd.losses import CTKD, DKD, KD, MLKD, DistillationLoss, OfficialMLKD

#: What a run left behind, shortened.
OLD = """\
seed_everything: 0
trainer:
  default_root_dir: runs/dkd
model:
  class_path: torchgeo_discomkd.tasks.Distillation
  init_args:
    teacher: teacher.safetensors
    in_channels: null
    num_classes: 2
    method: dkd
    preset: authors
    standardize: true
    alpha: null
    temperature: 2.0
    temperatures: null
    other_weight: 8.0
    teacher_in_training_mode: false
    lr: 0.0001
data:
  class_path: PairedFoldersDataModule
"""


INSTANCE = '--model.method ctkd --model.instance_temperature true'
OF_EACH = {'instance_temperature': True, 'num_classes': 3}


def pasted(message: str) -> tuple[DistillationLoss, DistillationLoss]:
    """Return the losses of the YAML and of the options that a message offers."""
    _, lines, _, options, *_ = message.split('\n\n')
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(DistillationLoss, 'loss')
    words = [word.replace('--model.', '--') for word in shlex.split(options)]
    given = parser.instantiate(parser.parse_args(words)).loss
    config = yaml.safe_load(lines)
    return parser.instantiate(parser.parse_object(config)).loss, given


@pytest.mark.parametrize('command', ['fit', 'test'])
def test_old_file(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / 'config.yaml'
    path.write_text(OLD)
    with pytest.raises(SystemExit) as error:
        main([command, '--config', str(path)])
    assert error.value.code == 2
    message = capsys.readouterr().err
    assert (
        'error: Distillation no longer has method, other_weight, preset, s' in message
    )
    expected = DKD(first_epoch=0, standardize=True, temperature=2.0)
    for loss in pasted(message):
        assert loss.config() == expected.config()


@pytest.mark.parametrize(
    ('options', 'expected'),
    [
        ('--model.method kd', KD()),
        ('--model.alpha 0', KD(alpha=0.0)),
        ('--model.init_args.preset=official', KD(temperature=1.0)),
        ('--model.method=ctkd --model.temperature_lr 0.5', CTKD(temperature_lr=0.5)),
        (f'{INSTANCE} --model.num_classes 3', CTKD(**OF_EACH)),
        ('--model.method ctkd --model.num_classes 3', CTKD()),
        (
            '--model.method mlkd --model.temperatures [2,4]',
            MLKD(temperatures=[2.0, 4.0]),
        ),
        (
            '--model.method mlkd --model.preset official --model.standardize true',
            OfficialMLKD(0.1, 9.0, 2.0, standardize=True),
        ),
    ],
)
def test_old_options(options: str, expected: DistillationLoss) -> None:
    args = ['fit', '--model', 'Distillation', *options.split()]
    with pytest.raises(SettingError, match='no longer has') as error:
        refuse_old_distillation(args)
    for loss in pasted(str(error.value)):
        assert type(loss) is type(expected)
        assert loss.config() == expected.config()


def test_options_without_effect_are_named() -> None:
    args = ['--model.method', 'dkd', '--model.alpha', '0.3']
    with pytest.raises(SettingError, match=r'\(alpha had no effect on this method\.\)'):
        refuse_old_distillation(['fit', '--model', 'Distillation', *args])


def test_unknown_method() -> None:
    args = ['fit', '--model', 'Distillation', '--model.method', 'fitnet']
    with pytest.raises(SettingError, match=r'method=fitnet: set --model\.loss to one'):
        refuse_old_distillation(args)


def test_options_replace_those_of_files(tmp_path: Path) -> None:
    path = tmp_path / 'config.yaml'
    path.write_text(OLD)
    args = ['fit', '-c', str(path), '--model.temperature', '3']
    with pytest.raises(SettingError, match=r'temperature: 3\b'):
        refuse_old_distillation(args)


def test_others_are_left_to_the_parser(tmp_path: Path) -> None:
    path = tmp_path / 'config.yaml'
    for text in (
        'model: [',
        'nothing',
        'model: Distillation',
        'model: {class_path: Distillation, init_args: 5}',
        OLD.replace('Dist', 'X'),
    ):
        path.write_text(text)
        refuse_old_distillation(['fit', '--config', str(path)])
    refuse_old_distillation(['fit', '--config', str(tmp_path / 'missing.yaml')])
    refuse_old_distillation(['fit', '--model', 'DisCoMKD', '--model.method', 'dkd'])
    args = ['--model.loss', 'KD', '--model.loss.alpha', '0', '--model.num_classes', '2']
    refuse_old_distillation(['fit', '--model', 'Distillation', *args])
    refuse_old_distillation([])

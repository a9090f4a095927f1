# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Old configurations of Distillation, from before its loss was a class."""

from inspect import signature
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from ..errors import SettingError
from ..losses import CTKD, DKD, KD, MLKD
from ..rasters.text import read_utf8
from .aliases import refuse_expansion

#: Class of each method. Its settings have the names of the old options of the task.
LOSSES = {'kd': KD, 'dkd': DKD, 'ctkd': CTKD, 'mlkd': MLKD}


def refuse_old_distillation(args: list[str]) -> None:
    """Refuse options that Distillation had before its loss was a class.

    Args:
        args: Arguments of fit, validate, test or predict, the command first.

    Raises:
        SettingError: If there is one; the message contains the lines to use instead.
    """
    class_path, settings = _model(args)
    names = {'method', 'preset', 'standardize'}
    names |= {n for loss in LOSSES.values() for n in signature(loss).parameters}
    # still an option of the task
    given = sorted(settings.keys() & (names - {'num_classes'}))
    if class_path.rpartition('.')[2] == 'Distillation' and given:
        loss, known = _new_loss(settings)
        lines = yaml.safe_dump({'loss': loss}, sort_keys=False)
        options = [f'--model.loss {loss["class_path"]}']
        options += [f"--model.loss.{k} '{v}'" for k, v in loss['init_args'].items()]
        unknown = sorted(set(given) - known)
        note = (
            f'({", ".join(unknown)} had no effect on this method.)' if unknown else ''
        )
        raise SettingError(
            f'Distillation no longer has {", ".join(given)}: its method is a loss '
            'with its own settings. Replace them in init_args of the model by\n\n'
            f'{lines}\nor on the command line by\n\n{" ".join(options)}\n{note}'
        )


def _model(args: list[str]) -> tuple[str, dict[str, Any]]:
    """Return the class path of the model, '' if there is none, and its settings."""
    class_path, settings = '', {}
    words = [w for a in args[1:] for w in (a.split('=', 1) if a[:1] == '-' else [a])]
    for name, value in pairwise(words):
        if name in {'-c', '--config'}:
            model = _model_of_file(Path(value), args[0])
            class_path = model.get('class_path') or class_path
            init_args = model.get('init_args')
            settings |= init_args if isinstance(init_args, dict) else {}
        elif name in {'--model', '--model.class_path'}:
            class_path = value
        elif name.startswith('--model.'):
            key = name.removeprefix('--model.').removeprefix('init_args.')
            settings[key] = _value(value)
    return str(class_path), {k: v for k, v in settings.items() if v is not None}


def _model_of_file(path: Path, command: str) -> dict[str, Any]:
    text = read_utf8(path) if path.is_file() else '{}'
    refuse_expansion(text, path)
    content = _value(text)
    try:
        model = content.get(command, content).get('model')
    except AttributeError:
        # the parser reports what is wrong with it
        return {}
    return model if isinstance(model, dict) else {'class_path': model}


def _value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    except RecursionError as error:
        raise SettingError(
            f'{text[:40]!r}... is nested too deeply: correct the configuration.'
        ) from error


def _new_loss(settings: dict[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """Return class name and changed settings, and the options that it replaces."""
    method = str(settings.get('method', 'kd'))
    if method not in LOSSES:
        raise SettingError(
            f'method={method}: set --model.loss to one of '
            f'{[loss.__name__ for loss in LOSSES.values()]} instead.'
        )
    preset, standardize = settings.get('preset', 'default'), settings.get('standardize')
    loss = LOSSES[method].preset(preset, bool(standardize))
    defaults = {k: p.default for k, p in signature(type(loss)).parameters.items()}
    values = loss.config()['init_args']
    values |= {k: v for k, v in settings.items() if k in defaults}
    if not values.get('instance_temperature'):
        values.pop('num_classes', None)
    changed = {k: v for k, v in values.items() if v != defaults[k]}
    config = {'class_path': type(loss).__name__, 'init_args': changed}
    return config, {'method', 'preset', *defaults}

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Settings of the distillation methods and their presets."""

import math
from collections.abc import Mapping
from typing import Any, Literal

from ..errors import SettingError

Method = Literal['kd', 'dkd', 'ctkd', 'mlkd']
Preset = Literal['default', 'authors', 'official']

#: Every setting of each method, as the methods' papers describe them.
DEFAULT: dict[str, dict[str, Any]] = {
    'kd': {'alpha': 0.5, 'temperature': 4.0},
    'dkd': {
        'cross_entropy_weight': 1.0,
        'distillation_weight': 1.0,
        'temperature': 4.0,
        'target_weight': 1.0,
        'other_weight': 8.0,
        'warmup_epochs': 20,
        'first_epoch': 1,
    },
    'ctkd': {
        'cross_entropy_weight': 0.1,
        'distillation_weight': 0.9,
        'warmup_epochs': 10,
        'first_epoch': 1,
        # neither paper nor code has a rate for Adam: at most 1 in 1000 steps
        'temperature_lr': 1e-3,
        'temperature_start': 1.0,
        'temperature_end': 20.0,
        'instance_temperature': False,
    },
    'mlkd': {
        'cross_entropy_weight': 1.0,
        'distillation_weight': 1.0,
        'temperatures': (2.0, 3.0, 4.0, 5.0, 6.0),
        'class_weight': 1.0,
        'batch_weight': 1.0,
        'swapped_kl': False,
    },
}

#: What the authors of DisCoM-KD changed for the tables of their paper.
AUTHORS: dict[str, dict[str, Any]] = {
    'dkd': {'first_epoch': 0},
    'ctkd': {'warmup_epochs': 5, 'first_epoch': 0, 'temperature_lr': 1e-4},
    'mlkd': {'swapped_kl': True},
}

#: What the methods' own repositories have instead, for CIFAR-100 where they do.
OFFICIAL: dict[str, dict[str, Any]] = {
    'kd': {'temperature': 1.0},
    'ctkd': {'temperature_lr': 0.05},
}

#: Every setting of MLKD as its repository computes it, on two views of each image.
TWO_VIEWS: dict[str, Any] = {
    'cross_entropy_weight': 0.1,
    'distillation_weight': 0.9,
    'temperature': 4.0,
    'class_weight': 1.0,
    'batch_weight': 1.0,
}

#: What the repository of LSKD changes further.
OFFICIAL_STANDARDIZED: dict[str, dict[str, Any]] = {
    'kd': {'temperature': 2.0},
    'dkd': {'temperature': 2.0, 'distillation_weight': 9.0},
    'ctkd': {'distillation_weight': 9.0},
    'mlkd': {'temperature': 2.0, 'distillation_weight': 9.0},
}


def distillation_settings(
    method: Method, preset: Preset, standardize: bool, given: Mapping[str, Any]
) -> dict[str, Any]:
    """Return every setting of a method.

    Args:
        method: 'kd', 'dkd', 'ctkd' or 'mlkd'.
        preset: 'default', 'authors' or 'official'.
        standardize: Whether logits are standardised (LSKD), for which the official
            preset has other values.
        given: Values that replace those of the preset; None does not.

    Returns:
        The value of each setting that the method has.

    Raises:
        SettingError: If *method* or *preset* is unknown, a setting is not one of the
            method or its value is out of range.
    """
    if method not in DEFAULT:
        raise SettingError(f"method='{method}': use one of {list(DEFAULT)}.")
    every = TWO_VIEWS if needs_two_views(method, preset) else DEFAULT[method]
    settings = every | _changes(method, preset, standardize)
    for name, value in given.items():
        if value is None:
            continue
        if name not in settings:
            raise SettingError(
                f"{name}={value} is no setting of method='{method}' with "
                f"preset='{preset}', which has {', '.join(settings)}: leave it out."
            )
        settings[name] = value
    _check(settings)
    return settings


def needs_two_views(method: str, preset: str) -> bool:
    """Return whether the loss compares a weak and a strong view of each image.

    Args:
        method: The method.
        preset: The preset.

    Returns:
        True for the published code of MLKD.
    """
    return method == 'mlkd' and preset == 'official'


def _changes(method: str, preset: str, standardize: bool) -> dict[str, Any]:
    match preset:
        case 'default':
            return {}
        case 'authors':
            return AUTHORS.get(method, {})
        case 'official':
            further = OFFICIAL_STANDARDIZED[method] if standardize else {}
            return OFFICIAL.get(method, {}) | further
        case _:
            raise SettingError(
                f"preset='{preset}': use 'default', 'authors' or 'official'."
            )


def _check(settings: Mapping[str, Any]) -> None:
    for name, value in settings.items():
        match name:
            case 'alpha':
                valid, need = 0 <= value <= 1, 'a number from 0 to 1'
            case 'temperature' | 'temperature_lr' | 'temperature_start':
                valid, need = 0 < value < math.inf, 'a positive number'
            case 'temperatures':
                valid = bool(value) and all(0 < t < math.inf for t in value)
                need = 'one positive number or more'
            case 'warmup_epochs':
                valid, need = value >= 1, 'a number of epochs, 1 or more'
            case 'first_epoch':
                valid, need = value in (0, 1), '0 or 1'
            case 'swapped_kl' | 'instance_temperature':
                valid, need = isinstance(value, bool), 'true or false'
            case _:
                valid, need = 0 <= value < math.inf, '0 or a positive number'
        if not valid:
            raise SettingError(f'{name}={value}: set --model.{name} to {need}.')

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""The data of a benchmark."""

import inspect
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from .. import datamodules
from ..datamodules import MultiModalDataModule
from ..errors import BandError, LabelError, SettingError
from ..tasks.labels import check_data_task
from .config import BenchmarkConfig
from .predictions import group_column, sample_groups


def data_config(
    config: BenchmarkConfig, run: int, data_args: Mapping[str, Any]
) -> dict[str, Any]:
    """Return class and arguments of the data module in one run.

    Args:
        config: The configuration of the benchmark.
        run: Number of the run.
        data_args: Arguments that the training needs.

    Returns:
        'class_path' and 'init_args'.

    Raises:
        SettingError: If it is not a data module of this package, or there is noise for
            an unknown modality.
    """
    init_args = dict(config.data.get('init_args') or {})
    if 'run' in inspect.signature(data_class(config)).parameters:
        first = init_args.setdefault('run', 0)
        # None: arrays with a single split, which all runs share
        init_args['run'] = None if first is None else first + config.rotation(run)
    if config.run_data is not None:
        init_args |= config.run_data[config.rotation(run)]
    if config.has_unlabelled:
        # the same splits for all, whether or not a training uses this part
        init_args['unlabelled_ratio'] = 0.0
    if noise := init_args.get('noise'):
        if unknown := [m for m in noise if m not in config.modalities]:
            raise SettingError(
                f'noise for {unknown}, but in_channels has {list(config.modalities)}: '
                'correct the name of the modality.'
            )
        # a training of one modality has no noise of the others
        chosen = data_args.get('modalities', config.modalities)
        init_args['noise'] = {m: x for m, x in noise.items() if m in chosen}
    class_path = config.data['class_path']
    return {'class_path': class_path, 'init_args': {**init_args, **data_args}}


def data_class(config: BenchmarkConfig) -> type[MultiModalDataModule]:
    """Return the class of the data module.

    Args:
        config: The configuration of the benchmark.

    Raises:
        SettingError: If it is not a data module of this package.
    """
    class_path = config.data['class_path']
    found = getattr(datamodules, class_path.rpartition('.')[2], None)
    if not (inspect.isclass(found) and issubclass(found, MultiModalDataModule)):
        names = [n for n in datamodules.__all__ if n.endswith('DataModule')]
        raise SettingError(f'data.class_path={class_path}: use one of {names}.')
    return found


def open_data(config: BenchmarkConfig, download: bool = True) -> MultiModalDataModule:
    """Return the data module of the first run, ready to train.

    Args:
        config: The configuration of the benchmark.
        download: Whether data may be downloaded; simulated data are always generated.

    Raises:
        SettingError: If it is not a data module of this package, or its arguments are
            wrong.
        UserError: If the data cannot be used.
    """
    data_type = data_class(config)
    args = data_config(config, 0, {'modalities': list(config.modalities)})['init_args']
    if not download and 'download' in inspect.signature(data_type).parameters:
        args['download'] = False
    # like fit: data sets in them are named by their import paths
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(data_type, 'init_args')
    try:
        # it changes what it is given
        settings = parser.parse_object({'init_args': deepcopy(args)})
    except ArgumentError as error:
        raise SettingError(f'data: {error}') from error
    datamodule = parser.instantiate(settings).init_args
    datamodule.setup('fit')
    return datamodule


def check_data(config: BenchmarkConfig) -> None:
    """Check the data of the first run, so that a mistake does not fail every training.

    Args:
        config: The configuration of the benchmark.

    Raises:
        BandError: If the number of bands of a modality is wrong.
        LabelError: If the number of classes or the kind of labels is wrong.
        SettingError: If the groups to resample are not known.
        UserError: If the data cannot be used.
    """
    datamodule = open_data(config)
    dataset = datamodule.any_dataset
    if len(dataset.classes) != config.num_classes:
        raise LabelError(
            f'num_classes={config.num_classes}, but the data have '
            f'{len(dataset.classes)} classes ({", ".join(dataset.classes)}).'
        )
    check_data_task(config.task, dataset, option='--task')
    bands = {m: len(dataset.bands[m]) for m in dataset.modalities}
    if bands != config.in_channels:
        raise BandError(f'in_channels={config.in_channels}, but the data have {bands}.')
    if (column := group_column(config)) is not None:
        sample_groups(datamodule, dataset, column)

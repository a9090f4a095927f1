# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Reading the configuration file of a benchmark."""

from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from ..errors import SettingError
from .config import BenchmarkConfig


def read_config(
    path: str | Path, overrides: list[str] | None = None
) -> BenchmarkConfig:
    """Read a configuration file.

    Args:
        path: YAML file.
        overrides: Arguments that replace values of the file, for example
            ``['--runs', '2']``.

    Returns:
        The configuration.

    Raises:
        SettingError: If the file cannot be read, a field is unknown or a value invalid.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> text = '''
        ... results: runs/mine
        ... in_channels: {ms: 13, sar: 2}
        ... num_classes: 3
        ... data: {class_path: PairedFoldersDataModule, init_args: {root: my_tiles}}
        ... '''
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, 'mine.yaml')
        ...     _ = path.write_text(text)
        ...     config = read_config(path, ['--runs', '2', '--data.root', 'tiles'])
        >>> config.runs, config.data['init_args']
        (2, {'root': 'tiles'})
    """
    if not Path(path).is_file():
        raise SettingError(
            f'{path}: there is no such file. Give a benchmark configuration, for '
            'example configs/benchmark/quick.yaml.'
        )
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument('--config', action='config')
    parser.add_class_arguments(BenchmarkConfig)
    try:
        values = parser.parse_args(['--config', str(path), *(overrides or [])])
        given = {k: v for k, v in values.as_dict().items() if k != 'config'}
        for name in ('data', 'optimizer', 'lr_scheduler'):
            given[name] = _class_config(given[name])
        return BenchmarkConfig(**given)
    except (ArgumentError, RecursionError, ValueError) as error:
        raise SettingError(f'{path}: {error}') from error


def _class_config(value: dict[str, Any] | None) -> dict[str, Any] | None:
    """Move values from the command line, e.g. --data.root, to the arguments."""
    if value is None:
        return None
    names = ('class_path', 'init_args')
    replaced = {k: v for k, v in value.items() if k not in names}
    init_args = {**(value.get('init_args') or {}), **replaced}
    return {'class_path': value.get('class_path'), 'init_args': init_args}

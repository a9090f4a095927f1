# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""The configurations that come with the package, with or without a clone."""

import sys
from pathlib import Path


def configs_folder() -> Path:
    """Return the folder of the configurations."""
    installed = Path(__file__).parents[1] / 'configs'
    # in a checkout, it is next to the package
    return installed if installed.exists() else Path(__file__).parents[2] / 'configs'


def with_configs(args: list[str]) -> list[str]:
    """Replace names of configurations as the docs write them, where there is no clone.

    Args:
        args: Arguments of any command.

    Returns:
        The same, but with the file of the package for each ``configs/<name>.yaml`` that
        is not in the working directory.

    Example:
        >>> from torchgeo_discomkd.commands.configs import with_configs
        >>> with_configs(['fit', '--config', 'mine.yaml'])
        ['fit', '--config', 'mine.yaml']
    """
    return [_find(arg) for arg in args]


def _find(arg: str) -> str:
    option, equals, name = arg.rpartition('=')
    path = Path(name)
    if path.parts[:1] != ('configs',) or path.suffix != '.yaml' or path.exists():
        return arg
    file = configs_folder().parent / path
    if not file.is_file():
        return arg
    sys.stderr.write(f'{name} is not here: using {file}\n')
    return f'{option}{equals}{file}'

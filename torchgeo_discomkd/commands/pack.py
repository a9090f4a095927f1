# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""``python -m torchgeo_discomkd pack``."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml
from jsonargparse import ArgumentParser

from ..datamodules import MultiModalDataModule
from ..datasets.pack.packer import PackReport, pack
from ..errors import SettingError

EPILOG = (
    'Example: python -m torchgeo_discomkd pack --data EuroSATMSSARDataModule '
    '--data.root data --output eurosat.safetensors. Afterwards train with '
    '--data.root eurosat.safetensors, everything else as before.'
)


def run(args: Sequence[str]) -> None:
    """Pack a data set and tell what was packed.

    Args:
        args: Arguments after ``pack``.

    Raises:
        UserError: If the data, the output or a setting is wrong.
        SystemExit: If *args* are no such arguments or ask for help, or with 130 if
            interrupted.
    """
    parser = _parser()
    options = parser.parse_args(_expand_config(args))
    datamodule = parser.instantiate(options).data
    try:
        report = pack(
            datamodule,
            options.output,
            options.workers,
            options.overwrite,
            progress=True,
        )
    except KeyboardInterrupt:
        sys.stderr.write('interrupted: run the same command again to continue\n')
        sys.exit(130)
    sys.stdout.write(_text(report))


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog='python -m torchgeo_discomkd pack',
        description='Write all images of a data set into one file that is read fast.',
        epilog=EPILOG,
    )
    parser.add_argument('--config', help='run configuration whose data to pack')
    parser.add_subclass_arguments(MultiModalDataModule, 'data', required=True)
    parser.add_argument('--output', required=True, help='file to write, *.safetensors')
    parser.add_argument(
        '--workers', type=int | None, help='threads that read (default: one a core)'
    )
    parser.add_argument(
        '--overwrite', action='store_true', help='replace an existing file'
    )
    return parser


def _expand_config(args: Sequence[str]) -> list[str]:
    """Replace ``--config FILE`` by the data module that the file configures."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument('--config')
    given, others = parser.parse_known_args(args)
    if given.config is None:
        return others
    path = Path(given.config)
    try:
        config = yaml.safe_load(path.read_text(encoding='utf-8'))
        data = json.dumps(config['data'])
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise SettingError(
            f'{path} configures no data module ({error}): give the configuration of a '
            'run, with a section data:.'
        ) from error
    return ['--data', data, *others]


def _text(report: PackReport) -> str:
    kinds = ', '.join(f'{c} {m} ({kind})' for m, (c, kind) in report.images.items())
    return (
        f'{report.path}: {kinds}, {report.size / 1e9:.2f} GB\n'
        f'Train with --data.root {report.path}\n'
    )

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""``pack``: write a data set into one file."""

import json
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import SettingError

if TYPE_CHECKING:
    from ..datamodules import MultiModalDataModule
    from ..datasets import PackReport

EPILOG = (
    'Example: discomkd pack --data EuroSATMSSARDataModule '
    '--data.root data --output eurosat.safetensors. Afterwards train with '
    '--data.root eurosat.safetensors and all other settings unchanged.'
)


def run(args: Sequence[str]) -> None:
    """Pack a data set and report what was packed.

    Args:
        args: Arguments after ``pack``.

    Raises:
        UserError: If the data, the output or a setting is wrong.
        KeyboardInterrupt: If it is stopped.
        SystemExit: If *args* are invalid or ask for help.
    """
    parser = _parser()
    options, data = parser.parse_known_args(args)
    if options.config is not None:
        data = ['--data', _configured(Path(options.config)), *data]
    datamodule = _make_datamodule(data)
    if options.output is None:
        parser.error('--output is required: the file to write')
    # takes seconds: only after the arguments are known to be valid
    from ..datasets import write_pack

    dataset = datamodule.make_dataset('train')
    for line in dataset.report():
        sys.stderr.write(f'{line}\n')
    try:
        report = write_pack(
            dataset, options.output, options.workers, options.overwrite, progress=True
        )
    except KeyboardInterrupt:
        sys.stderr.write('interrupted: run the same command again to continue\n')
        raise
    sys.stdout.write(_text(report))


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog='discomkd pack',
        usage='discomkd pack (--config FILE | --data CLASS) [--data.ARGUMENT VALUE]\n'
        '                     --output FILE [--workers N] [--overwrite]',
        description='Write all images of a data set into one file that loads fast. '
        'Specify the data module as for fit: --data.help CLASS lists its arguments.',
        epilog=EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument('--config', help='configuration of a run whose data to pack')
    parser.add_argument('--output', help='file to write, *.safetensors')
    parser.add_argument(
        '--workers',
        type=int,
        help='number of threads that read (default: one per core)',
    )
    parser.add_argument(
        '--overwrite', action='store_true', help='replace an existing file'
    )
    return parser


def _make_datamodule(args: list[str]) -> 'MultiModalDataModule':
    """Return the data module that ``--data`` and ``--data.<argument>`` describe."""
    from jsonargparse import ArgumentParser

    from ..datamodules import MultiModalDataModule

    parser = ArgumentParser(prog='discomkd pack', add_help=False)
    parser.add_subclass_arguments(MultiModalDataModule, 'data', required=True)
    return parser.instantiate(parser.parse_args(args)).data


def _configured(path: Path) -> str:
    """Return the data module that a run's configuration describes, as JSON."""
    import yaml

    from ..rasters.text import read_text
    from .aliases import refuse_expansion

    try:
        text = read_text(path)
        refuse_expansion(text, path)
        config = yaml.safe_load(text)
        return json.dumps(config['data'])
    except SettingError:
        raise
    except (
        *(OSError, KeyError, TypeError, ValueError, RecursionError, yaml.YAMLError),
    ) as error:
        raise SettingError(
            f'{path} does not configure a data module ({error}): give the '
            'configuration of a run with a data section.'
        ) from error


def _text(report: 'PackReport') -> str:
    kinds = ', '.join(f'{c} {m} ({kind})' for m, (c, kind) in report.images.items())
    return (
        f'{report.path}: {kinds}, {report.size / 1e9:.2f} GB\n'
        f'Train with --data.root {report.path}\n'
    )

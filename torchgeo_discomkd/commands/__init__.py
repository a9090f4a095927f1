# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""The commands, one module each: only parser and messages."""

import os
import sys
import warnings
from argparse import SUPPRESS, ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence

from .. import __version__
from ..errors import UserError
from ..performance.memory import keep_freed_memory
from .configs import with_configs
from .quiet import quiet_rasterio, show_warning
from .stopping import Terminated, exit_code, sigterm_as_interrupt, terminated

__all__ = ('main',)

DESCRIPTION = """\
Train with several sensors, classify with one: DisCoM-KD for TorchGeo.

Every command has its own --help. `python -m torchgeo_discomkd` does the same.
"""

#: Purpose of each command, in order of use.
COMMANDS = {
    'fit': 'train; without arguments, on simulated data (the default run)',
    'validate': 'score the best classifiers of a run on the validation split',
    'test': 'score the best classifiers of a run on the test split',
    'predict': 'write tables of predictions for a data set or unlabelled tiles',
    'classify': 'turn tiles into a table, or scenes into maps',
    'export': 'write a classifier as one self-contained ONNX or PyTorch file',
    'pack': 'write a data set into one file that loads fast',
    'benchmark': "compare methods on your data: the paper's tables",
    'import': "turn weights of the authors' released code into classifier files",
}

#: Extensions of files that the parsers of several commands read.
CONFIGURATIONS = ('.yaml', '.yml', '.json')


def main(args: Sequence[str] | None = None) -> None:
    """Run a command.

    A user error ends with one message and exit code 2, or 1 if training has ended
    without a classifier; Ctrl-C ends with 130, SIGTERM with 143. None of them shows a
    traceback.

    Args:
        args: Arguments. Default: those of the process.

    Raises:
        SystemExit: If the command is wrong or failed, or help was requested.

    Example:
        >>> from contextlib import suppress
        >>> with suppress(SystemExit):
        ...     main(['--help'])  # doctest: +ELLIPSIS
        usage: discomkd [-h] [--version] COMMAND ...
        ...
    """
    if args is None:
        # only in a process of our own
        warnings.showwarning = show_warning  # ty: ignore[invalid-assignment]
    try:
        with sigterm_as_interrupt():
            _run(with_configs(list(sys.argv[1:] if args is None else args)))
    except KeyboardInterrupt as stop:
        # the command has said what is kept
        sys.exit(exit_code(stop))
    except Exception as error:
        if terminated():
            # compiled code has made an error of its own of the interrupt
            sys.stderr.write('Stopped: run the same command again.\n')
            sys.exit(exit_code(Terminated()))
        if not isinstance(error, UserError):
            raise
        if not error.told:
            sys.stderr.write(f'error: {error}\n')
        sys.exit(error.exit_code)


def _run(args: list[str]) -> None:
    command, others = (args[0], args[1:]) if args else ('', [])
    if command.startswith(('-c', '--config', '--print_config')):
        # Lightning also accepts a configuration that names its command
        command = 'fit'
    files = [arg for arg in args if arg.lower().endswith(CONFIGURATIONS)]
    if files and command not in ('classify', 'export', 'import'):
        from .aliases import refuse_expansions

        refuse_expansions(files)
    # imported here: no command waits for the imports of another one
    match command:
        case 'fit' | 'validate' | 'test' | 'predict':
            from .fit import run

            others = args
        case 'classify':
            from .classify import run
        case 'export':
            from .export import run
        case 'pack':
            from .pack import run
        case 'benchmark':
            from .benchmark import run
        case 'import':
            from .import_released import run
        case _:
            _parser().parse_args(args)
            return
    if not sys.stderr.isatty():
        # a progress bar in a log: one line per minute
        os.environ.setdefault('TQDM_MININTERVAL', '60')
        os.environ.setdefault('TQDM_MAXINTERVAL', '60')
    keep_freed_memory()
    quiet_rasterio()
    run(others)


def _parser() -> ArgumentParser:
    """Return the parser for everything but commands: help, version or a mistake."""
    lines = '\n'.join(f'  {name:<10} {text}' for name, text in COMMANDS.items())
    parser = ArgumentParser(
        prog='discomkd',
        usage='%(prog)s [-h] [--version] COMMAND ...',
        description=DESCRIPTION,
        epilog=f'commands:\n{lines}',
        formatter_class=RawDescriptionHelpFormatter,
    )
    version = f'%(prog)s {__version__}'
    parser.add_argument('--version', action='version', version=version)
    parser.add_argument('command', metavar='COMMAND', choices=COMMANDS, help=SUPPRESS)
    return parser

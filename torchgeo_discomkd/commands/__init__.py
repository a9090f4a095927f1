# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""The commands, one module each: parser and messages; the work is done elsewhere."""

import os
import sys
from collections.abc import Sequence

from ..errors import UserError
from ..performance.memory import keep_freed_memory

__all__ = ('main',)


def main(args: Sequence[str] | None = None) -> None:
    """Command-line interface to torchgeo_discomkd.

    A mistake of the user ends with exit code 2 and one message, without a traceback.

    Args:
        args: Arguments. Default: those of the process.
    """
    args = list(sys.argv[1:] if args is None else args)
    # imported here: commands that need neither TorchGeo nor Lightning start fast
    match args[:1]:
        case ['benchmark']:
            from .benchmark import run

            args = args[1:]
        case ['classify']:
            from .classify import run

            args = args[1:]
        case ['export']:
            from .export import run

            args = args[1:]
        case ['import']:
            from .import_released import run

            args = args[1:]
        case ['pack']:
            from .pack import run

            args = args[1:]
        case _:
            from .fit import run

    if not sys.stderr.isatty():
        # a progress bar in a log: a line a minute
        os.environ.setdefault('TQDM_MININTERVAL', '60')
        os.environ.setdefault('TQDM_MAXINTERVAL', '60')
    keep_freed_memory()
    try:
        run(args)
    except UserError as error:
        sys.stderr.write(f'error: {error}\n')
        sys.exit(2)

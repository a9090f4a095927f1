# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Command-line interface to torchgeo_discomkd."""

import sys
from collections.abc import Sequence

from .errors import UserError
from .memory import keep_freed_memory


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
            from .benchmark.command import run

            args = args[1:]
        case ['classify']:
            from .classify.command import run

            args = args[1:]
        case ['export']:
            from .export.command import run

            args = args[1:]
        case ['import']:
            from .released.command import run

            args = args[1:]
        case ['pack']:
            from .pack.command import run

            args = args[1:]
        case _:
            from .cli import run

    keep_freed_memory()
    try:
        run(args)
    except UserError as error:
        sys.stderr.write(f'error: {error}\n')
        sys.exit(2)

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Keep what only programmers need out of the output of commands."""

import sys
import warnings
from functools import cache
from types import TracebackType
from typing import TextIO


@cache
def quiet_rasterio() -> None:
    """Print no traceback if rasterio cannot pass a message of GDAL to its logger.

    Such a message quotes bytes of a damaged file that are no text. The error itself is
    raised all the same. Python prints the two parts of the traceback by two hooks.
    """
    unraisable, uncaught = sys.unraisablehook, sys.excepthook

    def ignore_unraisable(event: 'sys.UnraisableHookArgs') -> None:
        if event.object != 'rasterio._env.log_error':
            unraisable(event)

    def ignore_uncaught(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        # one that ends the process has a traceback
        if trace is not None or kind is not UnicodeDecodeError:
            uncaught(kind, error, trace)

    sys.unraisablehook, sys.excepthook = ignore_unraisable, ignore_uncaught


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning; one for users without the line of code that caused it.

    Args:
        message: What to print.
        category: Kind of the warning.
        filename: File of the code.
        lineno: Number of the line.
        file: Where to print. Default: standard error.
        line: The line.
    """
    from tqdm import tqdm

    text = f'warning: {message}'
    if not issubclass(category, UserWarning):
        origin = filename, lineno, line
        text = warnings.formatwarning(message, category, *origin).rstrip()
    # keeps the progress bar intact
    tqdm.write(text, file=file or sys.stderr)

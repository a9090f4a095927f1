# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Keep what rasterio prints about damaged files out of the output of commands."""

import sys
from functools import cache
from types import TracebackType


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

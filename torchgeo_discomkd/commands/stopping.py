# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""How a command ends that is stopped by a signal."""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

# whether SIGTERM has come: Ray turns what its handler raises into a plain interrupt
_came = threading.Event()


class Terminated(KeyboardInterrupt):
    """Raised by SIGTERM, and handled like Ctrl-C: what is finished is kept."""


@contextmanager
def sigterm_as_interrupt() -> Generator[None]:
    """Let SIGTERM raise :class:`Terminated`, unless it has a handler already.

    A second SIGTERM ends the process at once.
    """
    _came.clear()
    main_thread = threading.current_thread() is threading.main_thread()
    if not main_thread or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def terminated() -> bool:
    """Return whether SIGTERM has come."""
    return _came.is_set()


def exit_code(stop: KeyboardInterrupt) -> int:
    """Return the exit code of a stopped command: 128 + the number of the signal.

    Args:
        stop: What stopped it.
    """
    by_term = isinstance(stop, Terminated) or terminated()
    return 128 + (signal.SIGTERM if by_term else signal.SIGINT)


def _terminate(signum: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _came.set()
    raise Terminated

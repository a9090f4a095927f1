# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Commands in processes that start at once, to be killed.

A process is a copy of this one, which has imported all libraries: a kill meets the
work, not the imports.
"""

import os
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import NamedTuple, NoReturn

import torch

from torchgeo_discomkd.commands import main

#: Seconds after which a process that should end has hung.
PATIENCE = 120.0


class Ended(NamedTuple):
    """How a process ended.

    Attributes:
        code: Exit code; negative if a signal ended it.
        seconds: How long it ran.
        output: What it printed.
    """

    code: int
    seconds: float
    output: str


class Process:
    """A command in a process of its own."""

    def __init__(self, args: list[str], log: Path) -> None:
        """Start a command.

        Args:
            args: Its arguments, the first one the command.
            log: File for what it prints.
        """
        # a copy of a process with OpenMP threads would wait for them forever
        torch.set_num_threads(1)
        self._log = log
        self._started = time.monotonic()
        with warnings.catch_warnings():
            # of threads in this process, which a copy does not have
            warnings.simplefilter('ignore', DeprecationWarning)
            self.pid = os.fork()
        if not self.pid:
            _run(args, log)

    def send(self, number: int) -> None:
        """Send a signal.

        Args:
            number: The signal.
        """
        os.kill(self.pid, number)

    def ended(self) -> Ended:
        """Wait for the end.

        Raises:
            TimeoutError: If it does not end.
        """
        while (found := os.waitpid(self.pid, os.WNOHANG)) == (0, 0):
            if time.monotonic() - self._started > PATIENCE:
                self.send(signal.SIGKILL)
                os.waitpid(self.pid, 0)
                raise TimeoutError(f'it hangs: {self._log.read_text()}')
            time.sleep(0.002)
        seconds = time.monotonic() - self._started
        code = os.waitstatus_to_exitcode(found[1])
        return Ended(code, seconds, self._log.read_text())


def _run(args: list[str], log: Path) -> NoReturn:
    code = 70
    try:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        # what a test runner has replaced
        warnings.simplefilter('default')
        sys.stdout, sys.stderr = (os.fdopen(n, 'w', buffering=1) for n in (1, 2))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        main(args)
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0
    except BaseException:  # noqa: BLE001 (whatever it is, the process must end here)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""What the tests run in workers of Ray: imported there without TorchGeo."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torchgeo_discomkd.errors import LabelError

#: A number that ends the process that sees it.
DEADLY = 5


def square(number: int) -> int:
    return number * number


def refuse() -> None:
    raise LabelError('no such label')


def threads_and_folder() -> tuple[str, str]:
    return os.environ['OMP_NUM_THREADS'], str(Path.cwd())


def squares(_: object, numbers: Sequence[int]) -> list[tuple[str, str]]:
    """Return numbers and squares as text; die of a deadly one."""
    if DEADLY in numbers:
        os.kill(os.getpid(), signal.SIGKILL)
    return [(str(n), str(square(n))) for n in numbers]


def killed_once(file: Path, function: Callable[..., Any], *args: Any) -> Any:
    """Kill this process unless *file* is there; then run a function."""
    if not file.exists():
        file.touch()
        # what it answered before is on its way
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)
    return function(*args)

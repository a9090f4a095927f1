# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Processes that train together, and start at once.

They are copies of this one, which has imported all libraries, with the variables that
Lightning gives to those that it starts itself.
"""

import os
import pickle
import signal
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import torch
from lightning.pytorch.utilities import rank_zero_only

#: Seconds after which processes that should end have hung.
PATIENCE = 120.0


class Outcome(NamedTuple):
    """How a process ended.

    Attributes:
        code: Exit code; negative if a signal ended it.
        value: What the function has returned; None if it has not.
        output: What it printed.
    """

    code: int
    value: Any
    output: str


def in_processes(
    function: Callable[[int], Any], folder: Path, count: int = 2
) -> list[Outcome]:
    """Call a function with the rank in each of several processes, at the same time."""
    # a copy of a process with OpenMP threads would wait for them forever
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    environment = {
        'MASTER_ADDR': '127.0.0.1',
        'MASTER_PORT': str(port),
        'NODE_RANK': '0',
        'WORLD_SIZE': str(count),
    }
    sys.stdout.flush()
    with warnings.catch_warnings():
        # of threads in this process, which a copy does not have
        warnings.simplefilter('ignore', DeprecationWarning)
        pids = []
        for rank in range(count):
            if not (pid := os.fork()):
                variables = environment | {'LOCAL_RANK': str(rank)}
                _run(function, rank, variables, folder)
            pids.append(pid)
    codes = _wait(pids, folder)
    outcomes = []
    for rank, code in enumerate(codes):
        file = folder / f'{rank}.pickle'
        value = pickle.loads(file.read_bytes()) if file.exists() else None
        outcomes.append(Outcome(code, value, (folder / f'{rank}.log').read_text()))
    return outcomes


def _wait(pids: list[int], folder: Path) -> list[int]:
    started, codes = time.monotonic(), dict.fromkeys(pids, 0)
    running = set(pids)
    while running:
        for pid in list(running):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                running.remove(pid)
                codes[pid] = os.waitstatus_to_exitcode(status)
        if running and time.monotonic() - started > PATIENCE:
            for pid in running:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            logs = [p.read_text() for p in sorted(folder.glob('*.log'))]
            raise TimeoutError('they hang:\n' + '\n---\n'.join(logs))
        time.sleep(0.005)
    return [codes[pid] for pid in pids]


def _run(
    function: Callable[[int], Any], rank: int, variables: dict[str, str], folder: Path
) -> NoReturn:
    code = 70
    try:
        log = folder / f'{rank}.log'
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        # what a test runner has replaced
        sys.stdout, sys.stderr = (os.fdopen(n, 'w', buffering=1) for n in (1, 2))
        warnings.simplefilter('default')
        os.environ.update(variables)
        rank_zero_only.rank = rank  # ty: ignore[unresolved-attribute]
        value = function(rank)
        (folder / f'{rank}.pickle').write_bytes(pickle.dumps(value))
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0
    except BaseException:  # noqa: BLE001 (whatever it is, the process must end here)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Time alternatives side by side and tell how they compare."""

import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

# Lightning's own use of a class that PyTorch has renamed
warnings.filterwarnings('ignore', '.*LeafSpec', FutureWarning)
for name in ('lightning.pytorch', 'lightning.fabric'):
    logging.getLogger(name).setLevel(logging.ERROR)


@dataclass(frozen=True)
class Row:
    """One alternative of a comparison."""

    #: What was timed.
    name: str

    #: Median seconds of a round.
    seconds: float

    #: Fastest and slowest round in seconds.
    range: tuple[float, float]

    #: Items (samples, pixels) per second, by the median.
    rate: float

    #: How many times faster than the baseline: its median over this one's.
    ratio: float


def compare(
    actions: Mapping[str, Callable[[], object]],
    items: int,
    rounds: int = 5,
    baseline: str | None = None,
) -> list[Row]:
    """Time alternatives in turns, so that whatever slows the machine slows them all.

    Args:
        actions: What to time, by name. Each is run once before, untimed.
        items: Items that one call works off.
        rounds: How often each is timed.
        baseline: The one that the others are compared with. Default: the first.

    Returns:
        A row for each.
    """
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for action in actions.values():
        action()
    for _ in range(rounds):
        for name, action in actions.items():
            start = perf_counter()
            action()
            seconds[name].append(perf_counter() - start)
    return rows_of(seconds, items, baseline)


def in_turns(
    module: str, names: Iterable[str], rounds: int, *arguments: object
) -> dict[str, list[dict[str, float]]]:
    """Time alternatives that have a process of their own each, as in real use.

    Nothing that one leaves behind (memory, caches, settings) helps or harms another.

    Args:
        module: Name of the benchmark. With ``--time NAME`` it times an alternative and
            ends with a line of figures as JSON, 'seconds' among them.
        names: The alternatives, which take turns.
        rounds: How often each is timed.
        *arguments: Further arguments of the module.

    Returns:
        Figures of each round, by name.
    """
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    more = [str(argument) for argument in arguments]
    for _ in range(rounds):
        for name, figures in found.items():
            command = (sys.executable, '-m', module, '--time', name, *more)
            result = subprocess.run(
                command, check=True, stdout=subprocess.PIPE, text=True
            )
            figures.append(json.loads(result.stdout.splitlines()[-1]))
    return found


def seconds_of(found: Mapping[str, list[dict[str, float]]]) -> dict[str, list[float]]:
    """Take the seconds out of what :func:`in_turns` found."""
    return {name: [f['seconds'] for f in figures] for name, figures in found.items()}


def tell(**figures: float) -> None:
    """Print figures for :func:`in_turns`."""
    sys.stdout.write(f'{json.dumps(figures)}\n')


def rows_of(
    seconds: Mapping[str, list[float]], items: int, baseline: str | None = None
) -> list[Row]:
    """Compare times that were taken.

    Args:
        seconds: Seconds of each round, by name.
        items: Items that one round works off.
        baseline: The one that the others are compared with. Default: the first.

    Returns:
        A row for each.
    """
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    first = medians[baseline or next(iter(seconds))]
    return [
        Row(
            name=name,
            seconds=median,
            range=(min(seconds[name]), max(seconds[name])),
            rate=items / median,
            ratio=first / median,
        )
        for name, median in medians.items()
    ]


def parse(description: str | None, *options: tuple[str, dict[str, Any]]) -> Namespace:
    """Read the command line of a benchmark.

    Args:
        description: What it measures.
        *options: Name and keywords of further options.

    Returns:
        The options; ``json`` is the file to write, or None.
    """
    parser = ArgumentParser(description=description)
    parser.add_argument('--json', type=Path, help='also write the results to this file')
    for name, keywords in options:
        parser.add_argument(name, **keywords)
    return parser.parse_args()


def report(
    title: str, rows: list[Row], unit: str, path: Path | None = None, **facts: Any
) -> None:
    """Print a comparison and, if asked for, append it to a JSON file.

    Args:
        title: What was compared.
        rows: What :func:`compare` returned.
        unit: What an item is, e.g. 'pairs'.
        path: JSON file, a list of comparisons; made if need be.
        facts: What else a reader must know: batch size, scores, memory.
    """
    width = max(len(row.name) for row in rows)
    out = sys.stdout.write
    out(f'\n{title}\n')
    for row in rows:
        out(f'  {row.name:{width}} {row.rate:12,.1f} {unit}/s {row.ratio:7.2f} x\n')
    for name, value in facts.items():
        out(f'  {name}: {value}\n')
    sys.stdout.flush()
    if path is not None:
        known = json.loads(path.read_text()) if path.exists() else []
        known = [entry for entry in known if entry['title'] != title]
        entry = {'title': title, 'unit': unit, 'machine': machine(), 'facts': facts}
        known.append(entry | {'rows': [asdict(row) for row in rows]})
        path.write_text(json.dumps(known, indent=2) + '\n')


def machine() -> dict[str, Any]:
    """Return what the speed depends on beside the program."""
    return {
        'processor': _processor(),
        'cores': os.cpu_count(),
        'threads': torch.get_num_threads(),
        'cpu_capability': torch.backends.cpu.get_cpu_capability(),
        'gpu': torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        'python': platform.python_version(),
        'torch': torch.__version__,
    }


def _processor() -> str:
    info = Path('/proc/cpuinfo')
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith('model name'):
                return line.partition(':')[2].strip()
    return platform.processor()

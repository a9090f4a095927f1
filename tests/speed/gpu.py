# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""All figures of a GPU in ten minutes: steps, epochs, labels, scenes.

Each figure is a command of its own. What has no time left is left out, and said.

python -m tests.speed.gpu --json gpu.json
"""

import csv
import json
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
import rasterio
import torch

from torchgeo_discomkd.models import ModalityMetadata

from ..export.classifiers import write_classifier
from .labelled_tiles import random_tiles, write_tiles
from .measure import machine, parse
from .scene import write_scene
from .training_step import BEST, GRAPHED

SAR = ModalityMetadata(2, ('VV', 'VH'), 'dB', (64, 64))

STEP = ['tests.speed.training_step', '--rounds', '1']

#: Commands that write a comparison, by what they measure, the most important first.
COMMANDS: dict[str, list[str]] = {
    # twenty seconds for each alternative
    'step, batches of 128': [*STEP, '--only', BEST, *GRAPHED],
    'epochs': ['tests.speed.epoch', '--samples', '27000', '--epochs', '6'],
    'epochs without graphs': [
        *('tests.speed.epoch', '--samples', '6000'),
        '--no-graphs',
    ],
    'scene': ['tests.speed.scene', '--device', 'cuda'],
    'step, batches of 512': [*STEP, '--batch-size', '512', '--only', *GRAPHED],
}


class Budget:
    """Time that is left for commands."""

    def __init__(self, seconds: float) -> None:
        """Start the clock."""
        self._end = perf_counter() + seconds

    @property
    def left(self) -> float:
        """Seconds left."""
        return self._end - perf_counter()

    def run(self, name: str, arguments: Sequence[object]) -> bool:
        """Run a module of this repository; return whether it ended in time and well."""
        if self.left < 5:
            sys.stdout.write(f'{name}: left out, no time\n')
            return False
        command = [sys.executable, '-m', *map(str, arguments)]
        try:
            result = subprocess.run(
                command, check=False, timeout=self.left, capture_output=True, text=True
            )
        except subprocess.TimeoutExpired:
            sys.stdout.write(f'{name}: stopped, no time\n')
            return False
        if result.returncode:
            sys.stdout.write(f'{name}: failed\n{result.stderr[-2000:]}\n')
        return not result.returncode


def tables(budget: Budget, folder: Path) -> list[str]:
    """Run all commands; return the rows of a table in Markdown."""
    rows = []
    for name, command in COMMANDS.items():
        file = folder / 'figures.json'
        file.unlink(missing_ok=True)
        if budget.run(name, [*command, '--json', file]):
            for entry in json.loads(file.read_text()):
                facts = entry['facts']
                rows += [
                    f'| {name} | {r["name"]} | {r["rate"]:,.0f} {entry["unit"]}/s '
                    f'| {r["ratio"]:.2f} | {facts.get(r["name"], _short(facts))} |'
                    for r in entry['rows']
                ]
    return rows


def _short(facts: dict[str, object]) -> str:
    kept = ('hours_of_300_epochs', 'gib_at_most', 'seconds', 'windows_per_second')
    return ', '.join(f'{name} {facts[name]}' for name in kept if name in facts)


def labels(budget: Budget, folder: Path) -> list[str]:
    """Classify the same tiles and strip of a scene on both devices, and compare."""
    model = write_classifier(
        folder / 'sar.safetensors', model='resnet18', modalities={'sar': SAR}
    )
    tiles = write_tiles(folder / 'tiles', random_tiles(SAR, 1000).images)
    write_scene(folder / 'strip.tif', 1024, 10_980)
    rows = []
    for source, suffix in ((tiles, 'csv'), (folder / 'strip.tif', 'tif')):
        found = []
        for device in ('cuda', 'cpu'):
            output = folder / f'{device}.{suffix}'
            command = ['torchgeo_discomkd', 'classify', model, source]
            more = ['--output', output, '--device', device]
            if budget.run(f'{source.name} on {device}', [*command, *more]):
                found.append(_labels(output))
        if len(found) == 2:
            equal = (found[0] == found[1]).mean()
            rows.append(
                f'| labels of {source.name} | cuda, cpu | | | {equal:.4%} equal |'
            )
    return rows


def _labels(path: Path) -> np.ndarray:
    if path.suffix == '.tif':
        with rasterio.open(path) as file:
            return file.read(1)
    with path.open(newline='') as file:
        return np.array([row['label'] for row in csv.DictReader(file)])


def measure(options: Namespace) -> list[str]:
    """Return all rows for which there is time."""
    budget = Budget(60 * options.minutes)
    with tempfile.TemporaryDirectory() as name:
        return [*tables(budget, Path(name)), *labels(budget, Path(name))]


def main() -> int:
    """Measure; 2 if there is no GPU."""
    options = parse(
        __doc__,
        ('--minutes', {'type': float, 'default': 10, 'help': 'default: %(default)s'}),
    )
    if not torch.cuda.is_available():
        sys.stderr.write('No GPU: PyTorch finds no CUDA device here.\n')
        return 2
    rows = measure(options)
    sys.stdout.write('\n'.join([f'{machine()}', '', *rows, '']))
    if options.json is not None:
        figures = {'machine': machine(), 'rows': rows}
        options.json.write_text(json.dumps(figures, indent=2) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())

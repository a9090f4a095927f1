# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Draw and print the tables of all benchmarks of the study: python docs/gains.py."""

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from rich.console import Console

from torchgeo_discomkd.benchmark import BenchmarkConfig, Results
from torchgeo_discomkd.benchmark.figures import gain_bars
from torchgeo_discomkd.benchmark.gaps import Gap, gaps
from torchgeo_discomkd.benchmark.plan import extended_variant
from torchgeo_discomkd.benchmark.report import markdown
from torchgeo_discomkd.benchmark.tables import Table

mpl.use('Agg')

DOCS = Path(__file__).parent

#: Folder of each benchmark and what it tests.
BENCHMARKS = {
    'landcover_resnet18': 'land cover, held-out blocks, ResNet-18',
    'landcover_32x32': 'land cover, held-out blocks',
    'landcover_transfer_32x32': 'land cover, new place',
    'floods_32x32': 'floods, held-out events',
    'floods_transfer_32x32': 'floods, new scenes',
}

#: The same for the form of the method that the study adopted, where the place changes.
ADOPTED = {
    'landcover_transfer_adopted_32x32': 'land cover, new place, adopted form',
    'floods_adopted_32x32': 'floods, held-out events, adopted form',
}

#: What readers of the README call the lines.
NAMES = {
    'TEACHER': 'optical alone',
    'STUDENT': 'SAR alone',
    'STUDENT same size': 'SAR alone, same size',
}


def shown(name: str) -> str:
    """Return the name of a line for readers."""
    name = name.removesuffix(' -').removesuffix(' ORIG')
    return NAMES.get(name, name)


def read_gap(folder: Path, **settings: int) -> Gap:
    """Read the gap between SAR and optical from the files of a benchmark."""
    config = json.loads((folder / 'benchmark.json').read_text())
    config |= {'results': str(folder), **settings}
    [gap] = gaps(Results(BenchmarkConfig(**config)))
    return gap


def draw_cost(axes: Axes, found: list[Gap], names: list[str]) -> None:
    """Draw the operations of training, relative to a plain classifier."""
    costs: dict[str, list[float]] = {name: [] for name in names}
    for gap in found:
        cost = {x.line.name: x.line.gflop for x in gap.lines}
        for name in costs.keys() & cost:
            costs[name].append(cost[name] / cost['STUDENT'])
    means = [sum(c) / len(c) for c in costs.values()]
    axes.barh(range(len(names)), means, color='0.6')
    axes.set_title('cost of training', fontsize=8)
    axes.set_xlabel('operations,\nSAR alone = 1', fontsize=8)


def draw(found: dict[str, Gap], path: Path) -> None:
    """Draw the gain of all methods on all data, and their cost."""
    gains = {title: gap.gains() for title, gap in found.items()}
    names = [*dict.fromkeys(g.line.name for row in gains.values() for g in row)]
    figure = plt.figure(figsize=(12, 4), layout='constrained')
    axes = figure.subplots(1, len(found) + 1, sharey=True)
    for axis, (title, row) in zip(axes, gains.items(), strict=False):
        gain_bars(axis, row, names)
        axis.set_title(title.replace(', ', ',\n'), fontsize=8)
        axis.set_xlabel('')
    figure.supxlabel(
        'weighted F1 minus that of SAR alone, points (with 95 % interval)', fontsize=8
    )
    draw_cost(axes[-1], [*found.values()], names)
    axes[0].set_yticks(range(len(names)), [*map(shown, names)])
    axes[0].set_ylim(len(names) - 0.4, -0.6)
    for axis in axes:
        axis.tick_params(labelsize=8)
    figure.savefig(path, dpi=110)


def planned(config: BenchmarkConfig) -> Iterator[tuple[str, str]]:
    """Yield method and variant of all rows but those of plain classifiers."""
    yield from ((m, v) for m in config.methods for v in config.variants)
    extended = (extended_variant(config, e) for e in config.extensions)
    yield from (('DisCoM-KD', v) for v in (*config.formulations, *extended))


def print_tables(found: dict[str, Gap]) -> None:
    """Print difference and share of the gap, the control, and what optical pays."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    header = ['classifier', 'trainings', 'SAR', 'minus alone', 'share of the gap']
    header += ['minus same size', 'optical, minus alone']
    for title, gap in found.items():
        plain, control, guide = gap.tables(count(1))
        runs = {tuple(row[:2]): row[2:] for row in plain.rows}
        from_control = {tuple(row[:2]): row[2] for row in control.rows}
        optical = {tuple(row[:2]): row[3] for row in guide.rows}
        done = {(x.line.method, x.line.variant): len(x.runs) for x in gap.lines}
        config = gap.results.config
        rows = [
            [
                shown(' '.join(key)),
                f'{done[key]}/{len(config.all_runs)}',
                *cells,
                from_control[key],
                optical.get(key, '-'),
            ]
            for key, (_, *cells) in runs.items()
        ]
        left = [' '.join(key) for key in planned(config) if key not in runs]
        rows += [[shown(name), *['open'] * (len(header) - 1)] for name in left]
        console.print(markdown(Table(title, header, rows, plain.notes)))


def print_same_seeds(seeds: int) -> None:
    """Print SAR's scores without and with the changes of the adopted form."""
    rows = []
    for folder, title in ADOPTED.items():
        pooled = [
            {' '.join(row[:2]): row[3] for row in plain.rows}
            for name in (folder.replace('_adopted', ''), folder)
            for plain in [
                next(read_gap(DOCS / 'results' / name, seeds=seeds).tables(count(1)))
            ]
        ]
        shared = [name for name in pooled[0] if name in pooled[1]]
        rows += [[title, shown(n), pooled[0][n], pooled[1][n]] for n in shared]
    header = ['data', 'classifier', 'SAR, without', 'with the changes']
    table = Table(f'The first {seeds} seeds of both forms', header, rows)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(markdown(table))


if __name__ == '__main__':
    everything, adopted = (
        {title: read_gap(DOCS / 'results' / folder) for folder, title in found.items()}
        for found in (BENCHMARKS, ADOPTED)
    )
    print_tables(everything | adopted)
    print_same_seeds(2)
    draw(everything, DOCS / '_static' / 'gains.png')

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Figures of a benchmark."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .config import BenchmarkConfig
from .gaps import Difference, Gap
from .plan import SAME_SIZE
from .results import Line, discomkd, lines

Draw = Callable[[Axes, list[Line], str], None]


def figures(
    frame: pd.DataFrame, config: BenchmarkConfig, gaps: Iterable[Gap]
) -> Iterator[tuple[str, Figure]]:
    """Yield name and content of every figure.

    Args:
        frame: All rows.
        config: The configuration.
        gaps: The gaps between STUDENT and teacher.
    """
    for scenario in config.scenarios:
        found = lines(frame, config, scenario)
        students = [line for line in found if line.method != 'TEACHER']
        targets = config.students(scenario)
        if students and targets:
            yield f'{scenario}_scores', _grid(score_bars, students, targets)
            yield f'{scenario}_cost', _grid(score_against_cost, students, targets)
    for gap in gaps:
        gains = gap.gains()
        figure = Figure(figsize=(6, 1.2 + 0.28 * len(gains)))
        axes = figure.subplots()
        gain_bars(axes, gains)
        axes.set_title(gap.target.upper())
        figure.tight_layout()
        yield f'{gap.scenario}_{gap.target}_gain', figure
    own = discomkd(frame, config.formulations[0])
    plain = frame[(frame.method == 'STUDENT') & (frame.variant != SAME_SIZE)]
    targets = [
        m
        for m in config.targets or config.modalities
        if m in set(own.rows.modality) & set(plain.modality)
    ]
    if targets:
        yield 'class_differences', _class_differences(own, plain, targets)


def score_bars(axes: Axes, found: list[Line], modality: str) -> None:
    """Draw the weighted F1 of every method, with its standard deviation over runs.

    Args:
        axes: Where to draw.
        found: The methods.
        modality: The modality that is classified.
    """
    scores = [line.scores(modality) for line in found]
    means = [s.mean() for s in scores]
    spread = [s.std() if len(s) > 1 else 0.0 for s in scores]
    axes.barh(range(len(found)), means, xerr=spread, color=[_color(x) for x in found])
    axes.set_yticks(range(len(found)), [line.name for line in found])
    axes.invert_yaxis()
    for mean, line in zip(means, found, strict=True):
        if line.method == 'STUDENT':
            style = '--' if line.variant == SAME_SIZE else ':'
            axes.axvline(mean, color='0.3', linestyle=style, linewidth=1)
    low = min(m - s for m, s in zip(means, spread, strict=True))
    axes.set_xlim(left=max(0.0, low - 5))
    axes.set_xlabel('weighted F1 (%)')


def gain_bars(
    axes: Axes, gains: Sequence[Difference], names: Sequence[str] | None = None
) -> None:
    """Draw what every method gains over STUDENT, with its 95 % interval if it has one.

    A dashed line shows the gain of the control of equal size.

    Args:
        axes: Where to draw.
        gains: The methods.
        names: Names of all lines, methods without a gain among them; those of *gains*
            by default.
    """
    names = names or [gain.line.name for gain in gains]
    for gain in gains:
        place = names.index(gain.line.name)
        middle, color = gain.values[0], _color(gain.line)
        axes.plot(middle, place, 'o', color=color, markersize=5)
        if gain.interval is not None:
            axes.hlines(place, *gain.interval, color=color, linewidth=2)
        if gain.line.variant == SAME_SIZE:
            axes.axvline(middle, color='0.3', linestyle='--', linewidth=1)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.invert_yaxis()
    axes.axvline(0, color='0.3', linestyle=':', linewidth=1)
    axes.set_xlabel('weighted F1 minus that of STUDENT (points)')


def score_against_cost(axes: Axes, found: list[Line], modality: str) -> None:
    """Draw the weighted F1 of every method against the cost of its training.

    Args:
        axes: Where to draw.
        found: The methods.
        modality: The modality that is classified.
    """
    for line in found:
        x, y = line.gflop / 1e3, line.scores(modality).mean()
        axes.scatter(x, y, color=_color(line), s=30)
        axes.annotate(
            line.name, (x, y), xytext=(4, 3), textcoords='offset points', fontsize=7
        )
    axes.margins(x=0.25)
    axes.set_xlabel('training, teachers included (TFLOP)')
    axes.set_ylabel('weighted F1 (%)')


def _class_differences(own: Line, plain: pd.DataFrame, targets: list[str]) -> Figure:
    columns = [c for c in own.rows.columns if c.startswith('F1_')]
    figure = Figure(figsize=(7, 1.2 + 0.3 * len(columns) * len(targets)))
    axes = figure.subplots()
    height = 0.8 / len(targets)
    for number, modality in enumerate(targets):
        mine = own.rows[own.rows.modality == modality].set_index('run')[columns]
        theirs = plain[plain.modality == modality].set_index('run')[columns]
        difference = 100 * (mine - theirs).dropna(how='all')
        places = [i + number * height for i in range(len(columns))]
        spread = difference.std() if len(difference) > 1 else None
        axes.barh(
            places, difference.mean(), height, xerr=spread, label=modality.upper()
        )
    centre = 0.4 - height / 2
    axes.set_yticks(
        [i + centre for i in range(len(columns))],
        [c.removeprefix('F1_') for c in columns],
    )
    axes.invert_yaxis()
    axes.axvline(0, color='0.3', linewidth=1)
    axes.set_xlabel('F1 of DisCoM-KD minus F1 of STUDENT (points)')
    axes.legend()
    figure.tight_layout()
    return figure


def _grid(draw: Draw, found: list[Line], targets: list[str]) -> Figure:
    figure = Figure(figsize=(5.5 * len(targets), 1.2 + 0.28 * len(found) + 1))
    for axes, modality in zip(
        figure.subplots(1, len(targets), squeeze=False)[0], targets, strict=True
    ):
        draw(axes, found, modality)
        axes.set_title(modality.upper())
    figure.tight_layout()
    return figure


def _color(line: Line) -> str:
    match line.method:
        case 'DisCoM-KD':
            return 'tab:red'
        case 'STUDENT':
            return '0.7' if line.variant == SAME_SIZE else '0.5'
    return 'tab:blue'

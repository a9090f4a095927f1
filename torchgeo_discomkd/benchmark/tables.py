# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""The four tables of the paper, for any benchmark."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files

import pandas as pd

from .config import BenchmarkConfig, Scenario
from .plan import SYMBOLS
from .results import Line, discomkd, lines
from .significance import significance

#: Table of the paper and title for each scenario.
SCENARIOS: dict[Scenario, tuple[int, str]] = {
    'cross-modal': (1, 'Table 1. Cross-modal: one modality teaches another'),
    'multi-modal': (2, 'Table 2. Multi-modal: all modalities together teach one'),
}


@dataclass(frozen=True)
class Table:
    """A table of text cells.

    Attributes:
        title: Title.
        header: Titles of the columns.
        rows: Cells of each row.
        notes: Lines below the table.
    """

    title: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)


def tables(frame: pd.DataFrame, config: BenchmarkConfig) -> list[Table]:
    """Return all tables that have rows.

    Args:
        frame: All rows.
        config: The configuration.

    Returns:
        Tables 1 to 4 of the paper, except those for which nothing was trained.
    """
    found = [
        comparison_table(frame, config, scenario)
        for scenario in SCENARIOS
        if scenario in config.scenarios
    ]
    if config.ablations:
        names = [SYMBOLS[term] for term in SYMBOLS if term in config.ablations]
        ablations = {
            **{f'w/o {n}': discomkd(frame, config.formulations[0], n) for n in names},
            'full': discomkd(frame, config.formulations[0]),
        }
        title = 'Table 3. DisCoM-KD without one term of the loss'
        found.append(_variants_table(3, title, ablations, config))
    readouts = {
        name: discomkd(frame, config.formulations[0], readout=name)
        for name in ('only z_inv', 'only z_inf', 'full')
    }
    title = 'Table 4. DisCoM-KD read out from one embedding'
    found.append(_variants_table(4, title, readouts, config))
    return [table for table in found if table.rows]


def comparison_table(
    frame: pd.DataFrame, config: BenchmarkConfig, scenario: Scenario
) -> Table:
    """Return Table 1 or 2: all methods with their scores and costs.

    Args:
        frame: All rows.
        config: The configuration.
        scenario: The scenario.

    Returns:
        The table.
    """
    number, title = SCENARIOS[scenario]
    targets = config.students(scenario)
    found = list(lines(frame, config, scenario))
    student = next((line for line in found if line.name == 'STUDENT'), None)
    header, width = ['Method', 'Variant'], _width(config)
    for target in targets:
        header += [_paper_modality(config, number, target), 'Paper'][:width]
    header += ['Parameters (M)', 'Training (s)', 'Training (TFLOP)']
    cross = scenario == 'cross-modal'
    source = config.cross_modal_teacher if cross else 'fusion'
    rows = []
    for line in found:
        row = [line.method, line.variant]
        for target in targets:
            scores = line.scores(source if line.method == 'TEACHER' else target)
            compared = student is not None and line.name not in {'TEACHER', 'STUDENT'}
            text = cell(scores, student.scores(target).mean() if compared else None)
            row += [text, _published(config, number, target, line)][:width]
        row.append(f'{line.parameters / 1e6:.1f}')
        row += [f'{line.seconds:.0f}', f'{line.gflop / 1e3:.3g}']
        rows.append(row)
    return Table(title, header, rows, list(significance(found, targets, config)))


def _width(config: BenchmarkConfig) -> int:
    """Return the number of columns of a modality: measured and, if any, published."""
    return 1 if config.paper_dataset is None else 2


def _paper_modality(config: BenchmarkConfig, table: int, target: str) -> str:
    if table == 1:
        return f'{config.cross_modal_teacher.upper()}->{target.upper()}'
    return target.upper()


def _published(config: BenchmarkConfig, table: int, target: str, line: Line) -> str:
    modality = _paper_modality(config, table, target)
    if table == 2 and line.method == 'TEACHER':
        modality = '+'.join(m.upper() for m in config.modalities)
    # the paper has one DisCoM-KD, and no extension of it
    known = line.method == 'DisCoM-KD' and line.variant in config.formulations
    variant = '-' if known else line.variant
    return paper_value(config, table, modality, line.method, variant)


def _variants_table(
    number: int, title: str, variants: Mapping[str, Line], config: BenchmarkConfig
) -> Table:
    targets = config.targets or list(config.modalities)
    header, width = ['Variant'], _width(config)
    for target in targets:
        header += [target.upper(), 'Paper'][:width]
    rows = []
    for name, line in variants.items():
        if line.rows.empty:
            continue
        row = [name]
        for target in targets:
            value = paper_value(config, number, target.upper(), 'DisCoM-KD', name)
            row += [cell(line.scores(target)), value][:width]
        means = [line.scores(target).mean() for target in targets]
        rows.append([*row, f'{sum(means) / len(means):.2f}'])
    return Table(title, [*header, 'AVG'], rows)


def cell(scores: pd.Series, reference: float | None = None) -> str:
    """Return mean and standard deviation as text.

    Args:
        scores: A score for each run, in percent.
        reference: Mean to compare with by an arrow.
    """
    if scores.empty:
        return '-'
    mean = scores.mean()
    spread = f' ± {scores.std():.2f}' if len(scores) > 1 else ''
    arrow = ''
    if reference is not None:
        arrow = ' ↑' if mean > reference else ' ↓' if mean < reference else ' ='
    return f'{mean:.2f}{spread}{arrow}'


def paper_value(
    config: BenchmarkConfig, table: int, modality: str, method: str, variant: str
) -> str:
    """Return the published weighted F1 in percent.

    Args:
        config: The configuration with the *paper_dataset*.
        table: Number of the table.
        modality: Name of the modality in the paper, e.g. 'MS->SAR' in Table 1.
        method: Name of the method in the paper.
        variant: Name of the variant in the paper.

    Returns:
        The number as printed; '' if the paper has none.
    """
    if config.paper_dataset is None:
        return ''
    # read as text, so that numbers stay as printed
    path = files(__package__) / 'paper_tables.csv'
    with path.open() as file:
        frame = pd.read_csv(file, dtype=str)
    mask = (
        (frame.table == str(table))
        & (frame.dataset == config.paper_dataset)
        & (frame.modality == modality)
        & (frame.method == method)
        & (frame.variant == variant)
    )
    return next(iter(frame[mask].f1), '')

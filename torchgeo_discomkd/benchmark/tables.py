# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""The paper's four tables, from any benchmark, as Markdown and LaTeX."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from .config import BenchmarkConfig, Scenario
from .plan import SYMBOLS
from .summary import Line, compare, discomkd, lines, paper_value

#: Table of the paper and title for each scenario.
SCENARIOS: dict[Scenario, tuple[int, str]] = {
    'cross-modal': (1, 'Table 1. Cross-modal: one modality teaches another'),
    'multi-modal': (2, 'Table 2. Multi-modal: all modalities together teach one'),
}


@dataclass(frozen=True)
class Table:
    """Text cells in rows."""

    title: str
    header: list[str]
    rows: list[list[str]]

    #: Lines below the table.
    notes: list[str] = field(default_factory=list)


def tables(frame: pd.DataFrame, config: BenchmarkConfig) -> list[Table]:
    """Return the tables that the rows can fill.

    Args:
        frame: All rows.
        config: The configuration.

    Returns:
        Tables 1 to 4 of the paper, without those for which nothing was trained.
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
    title = 'Table 4. DisCoM-KD decided by one embedding'
    found.append(_variants_table(4, title, readouts, config))
    return [table for table in found if table.rows]


def comparison_table(
    frame: pd.DataFrame, config: BenchmarkConfig, scenario: Scenario
) -> Table:
    """Return Table 1 or 2: all methods, their scores and what they cost.

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
    student = next((line for line in found if line.method == 'STUDENT'), None)
    header = ['Method', 'Variant']
    for target in targets:
        header.append(_paper_modality(config, number, target))
        header += ['Paper'] if config.paper_dataset else []
    header += ['Parameters (M)', 'Training (s)', 'Training (TFLOP)']
    rows = []
    for line in found:
        row = [line.method, line.variant]
        for target in targets:
            teaches = line.method == 'TEACHER'
            cross = scenario == 'cross-modal'
            source = config.cross_modal_teacher if cross else 'fusion'
            scores = line.scores(source if teaches else target)
            row.append(_cell(scores, _reference(line, student, target)))
            if config.paper_dataset:
                row.append(_published(config, number, target, line))
        row.append(f'{line.parameters / 1e6:.1f}')
        row += [f'{line.seconds:.0f}', f'{line.gflop / 1e3:.3g}']
        rows.append(row)
    return Table(title, header, rows, list(_significance(found, targets)))


def _reference(line: Line, student: Line | None, target: str) -> float | None:
    if student is None or line.method in {'TEACHER', 'STUDENT'}:
        return None
    return student.scores(target).mean()


def _paper_modality(config: BenchmarkConfig, table: int, target: str) -> str:
    if table == 1:
        return f'{config.cross_modal_teacher.upper()}->{target.upper()}'
    return target.upper()


def _published(config: BenchmarkConfig, table: int, target: str, line: Line) -> str:
    modality = _paper_modality(config, table, target)
    if table == 2 and line.method == 'TEACHER':
        modality = '+'.join(m.upper() for m in config.modalities)
    variant = '-' if line.method == 'DisCoM-KD' else line.variant
    return paper_value(config, table, modality, line.method, variant)


def _variants_table(
    number: int, title: str, variants: Mapping[str, Line], config: BenchmarkConfig
) -> Table:
    targets = config.targets or list(config.modalities)
    header = ['Variant']
    for target in targets:
        header += [target.upper(), *(['Paper'] if config.paper_dataset else [])]
    rows = []
    for name, line in variants.items():
        if line.rows.empty:
            continue
        row, means = [name], []
        for target in targets:
            scores = line.scores(target)
            means.append(scores.mean())
            row.append(_cell(scores))
            if config.paper_dataset:
                value = paper_value(config, number, target.upper(), 'DisCoM-KD', name)
                row.append(value)
        rows.append([*row, f'{sum(means) / len(means):.2f}'])
    return Table(title, [*header, 'AVG'], rows)


def _cell(scores: pd.Series, reference: float | None = None) -> str:
    if scores.empty:
        return '-'
    mean = scores.mean()
    spread = f' ± {scores.std():.2f}' if len(scores) > 1 else ''
    arrow = ''
    if reference is not None:
        arrow = ' ↑' if mean > reference else ' ↓' if mean < reference else ' ='
    return f'{mean:.2f}{spread}{arrow}'


def _significance(found: Sequence[Line], targets: Sequence[str]) -> Iterator[str]:
    for target in targets:
        result = compare(found, target)
        if result is None:
            continue
        mean, number = result.differences.mean(), len(result.differences)
        best = f'{result.competitor.method} {result.competitor.variant}'
        test = 'no test' if result.p is None else f'paired t-test, p = {result.p:.3f}'
        yield (
            f'{target.upper()}: DisCoM-KD minus the best competitor ({best}) is '
            f'{mean:+.2f} points; {test}, n = {number} runs.'
        )


def markdown(table: Table) -> str:
    """Return a table as Markdown.

    Args:
        table: The table.
    """
    rows = [table.header, ['---'] * len(table.header), *table.rows]
    text = '\n'.join(f'| {" | ".join(row)} |' for row in rows)
    notes = ''.join(f'\n{note}\n' for note in table.notes)
    return f'## {table.title}\n\n{text}\n{notes}'


def latex(table: Table) -> str:
    """Return a table as LaTeX, for the booktabs package.

    Args:
        table: The table.
    """
    columns = 'l' * sum(h in {'Method', 'Variant'} for h in table.header)
    columns += 'r' * (len(table.header) - len(columns))
    lines = [' & '.join(map(_escape, row)) + r' \\' for row in table.rows]
    return '\n'.join(
        [
            r'\begin{table}',
            rf'\caption{{{_escape(table.title.partition(". ")[2])}.}}',
            rf'\begin{{tabular}}{{{columns}}}',
            r'\toprule',
            ' & '.join(map(_escape, table.header)) + r' \\',
            r'\midrule',
            *lines,
            r'\bottomrule',
            r'\end{tabular}',
            *(rf'\\ {_escape(note)}' for note in table.notes),
            r'\end{table}',
            '',
        ]
    )


def _escape(text: str) -> str:
    replacements = {
        '->': r'$\to$',
        '%': r'\%',
        '_': r'\_',
        '±': r'$\pm$',
        '↑': r'$\uparrow$',
        '↓': r'$\downarrow$',
    }
    for old, new in replacements.items():
        text = text.replace(old, new)
    return text

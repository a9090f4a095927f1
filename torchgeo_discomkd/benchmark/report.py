# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Write tables and figures of a benchmark."""

from io import BytesIO
from pathlib import Path

import pandas as pd

from ..files import write_atomically, writing
from .figures import figures
from .gaps import gap_tables, gaps
from .plan import plan
from .predictions import JOINED, KeptPredictions
from .results import ADDED, Results
from .tables import Table, tables

INTRODUCTION = """\
# {name}

Weighted F1 on the test split in percent: mean ± standard deviation (n - 1) over {runs}.
↑ ↓ compare the mean with that of STUDENT, one encoder trained alone. STUDENT *same
size* is the network that DisCoM-KD deploys, trained alone. *Training* is the cost of
the classifiers for all modalities of the table together, teachers included,
as the mean over runs: measured seconds and counted floating-point operations (forward
and backward). One DisCoM-KD training yields the classifiers of all modalities, also
those not in the table. *Parameters* are those of one deployed classifier: DisCoM-KD
deploys two encoders, a student only one. TEACHER needs modalities that students do not.
{paper}
"""

PAPER = """\
*Paper* is the published value for {dataset} (300 epochs, 5 runs).
"""


def write_report(results: Results) -> list[Path]:
    """Write tables, figures and all predictions into the folder of a benchmark.

    Args:
        results: The results so far; the tables of an unfinished benchmark are
            preliminary.

    Returns:
        The files.

    Raises:
        OutputError: If they cannot be written.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from torchgeo_discomkd.benchmark import BenchmarkConfig
        >>> folder = TemporaryDirectory()
        >>> config = BenchmarkConfig(
        ...     results=folder.name, data={'class_path': 'SimulatedMSSARDataModule'},
        ...     in_channels={'ms': 13, 'sar': 2}, num_classes=10, runs=1)
        >>> [path.name for path in write_report(Results(config))]  # no results yet
        ['tables.md', 'tables.tex']
        >>> folder.cleanup()
    """
    frame, config, folder = results.frame, results.config, results.folder
    found_gaps = gaps(results) if len(frame) else []
    found = tables(frame, config) if len(frame) else []
    found += gap_tables(found_gaps, first=5)
    count = frame.run.nunique()
    runs = f'{count} runs' if count != 1 else 'one run'
    dataset = config.paper_dataset
    head = INTRODUCTION.format(
        name=folder.name,
        runs=runs,
        paper=PAPER.format(dataset=dataset) if dataset else '',
    )
    body = '\n'.join(markdown(table) for table in found)
    text = f'{head}\n{body}{_left_out(results)}{_machines(frame)}'
    text += f'{_missing(results)}{_others(results)}'
    contents = {
        'tables.md': text.encode(),
        'tables.tex': '\n'.join(latex(table) for table in found).encode(),
    }
    trainings = ((row['run'], row['training']) for row in results.rows)
    if (predictions := KeptPredictions(folder).join(trainings)) is not None:
        contents[JOINED] = predictions
    if found:
        for name, figure in figures(frame, config, found_gaps):
            buffer = BytesIO()
            figure.savefig(buffer, dpi=150, format='png')
            contents[f'figures/{name}.png'] = buffer.getvalue()
    paths = []
    for name, data in contents.items():
        path = folder / name
        with writing(path):
            write_atomically(path, data)
        paths.append(path)
    return paths


def _left_out(results: Results) -> str:
    """Name competitors that are not defined for the kind of labels."""
    note = results.config.note_on_left_out
    return f'\n## Left out\n\n{note}\n' if note else ''


def _machines(frame: pd.DataFrame) -> str:
    """Say where the results come from, if code or machine are not always the same."""
    kinds = frame.groupby(list(ADDED)).training.count() if len(frame) else ()
    if len(kinds) < 2:
        return ''
    found = [f'- {v}, {hardware}: {n} rows' for (v, hardware), n in kinds.items()]
    text = 'Versions and machines differ: do not compare seconds between them.'
    return f'\n## Origin\n\n{text}\n\n' + '\n'.join(found) + '\n'


def _missing(results: Results) -> str:
    """List trainings that failed or are not done yet."""
    open_ones = [t for t in plan(results.config) if not results.finished(t)]
    if not open_ones:
        return ''
    lines = [
        f'- {t.label}: {results.failures.get(t.label, "not done yet")}'
        for t in open_ones
    ]
    return '\n## Missing\n\n' + '\n'.join(lines) + '\n'


def _others(results: Results) -> str:
    """Name finished trainings that the configuration does not ask for."""
    asked = {(t.run, t.name) for t in plan(results.config)}
    done = {(row['run'], row['training']) for row in results.rows}
    if not (others := sorted(done - asked)):
        return ''
    lines = '\n'.join(f'- run {run}: {name}' for run, name in others)
    text = 'Finished, but not asked for this time, and so in none of these tables:'
    return f'\n## Not asked for\n\n{text}\n\n{lines}\n'


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

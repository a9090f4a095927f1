# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""The scores of ``validate`` and ``test`` as tables for a terminal."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from ..models.modalities import COMPARISONS, READ_OUTS
from .run_summary import print_whole

#: Ends of the names of classifiers that belong to that of a modality, and their
#: headings.
COLUMNS = {'': 'F1', **COMPARISONS, **{f'_{name}': name for name in READ_OUTS}}


def score_table(metrics: Mapping[str, Tensor], split: str, names: list[str]) -> Table:
    """Return a row for each modality that was scored.

    Args:
        metrics: What a task of this package logs: scalars in [0, 1] by name.
        split: Either 'val' or 'test'.
        names: Names of all classifiers.

    Returns:
        The weighted F1 of the classifier, of those trained for comparison and of its
        read-outs, where there are any; last, the overall accuracy of the classifier.
        With names of up to 20 letters it fits 80 columns.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.callbacks.score_tables import score_table
        >>> keys = ('sar_F1Score', 'sar_student_F1Score', 'sar_OverallAccuracy')
        >>> scores = {f'test_{key}': torch.tensor(0.5) for key in keys}
        >>> table = score_table(scores, 'test', ['sar', 'sar_student'])
        >>> [column.header for column in table.columns]
        ['modality', 'F1', 'alone', 'accuracy']
        >>> [cell for column in table.columns for cell in column.cells]
        ['sar', '0.5000', '0.5000', '0.5000']
    """
    rows = own_rows(metrics, split, names)
    columns = [
        suffix
        for suffix in COLUMNS
        if any(f'{split}_{name}{suffix}_F1Score' in metrics for name in rows)
    ]
    headings = [COLUMNS[suffix].replace(' ', '\n') for suffix in columns]
    table = _table(['modality', *headings, 'accuracy'])
    for name in rows:
        keys = [f'{name}{suffix}_F1Score' for suffix in columns]
        keys.append(f'{name}_OverallAccuracy')
        scores = [_text(metrics.get(f'{split}_{key}')) for key in keys]
        table.add_row(escape(name), *scores)
    return table


def class_table(
    metrics: Mapping[str, Tensor], split: str, names: list[str], classes: Sequence[str]
) -> Table:
    """Return the F1 of each class, with a column for each modality.

    Args:
        metrics: What a task of this package logs: scalars in [0, 1] by name.
        split: Either 'val' or 'test'.
        names: Names of all classifiers.
        classes: Names of the classes.

    Returns:
        A row for each class; '-' for one without samples.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.callbacks.score_tables import class_table
        >>> scores = {'F1Score': 0.5, 'ClasswiseF1Score_Water': 0.25}
        >>> scores = {f'val_sar_{k}': torch.tensor(v) for k, v in scores.items()}
        >>> table = class_table(scores, 'val', ['sar'], ['Land', 'Water'])
        >>> [(column.header, *column.cells) for column in table.columns]
        [('F1 of class', 'Land', 'Water'), ('sar', '-', '0.2500')]
    """
    rows = own_rows(metrics, split, names)
    table = _table(['F1 of class', *rows])
    for name in classes:
        keys = [f'{split}_{row}_ClasswiseF1Score_{name}' for row in rows]
        table.add_row(escape(name), *(_text(metrics.get(key)) for key in keys))
    return table


def own_rows(
    metrics: Mapping[str, Tensor], split: str, names: Sequence[str]
) -> list[str]:
    """Return the names of classifiers that were scored and belong to no other.

    Args:
        metrics: Metrics by name.
        split: Either 'val' or 'test'.
        names: Names of all classifiers.
    """
    scored = [name for name in names if f'{split}_{name}_F1Score' in metrics]
    belonging = {f'{name}{suffix}' for name in scored for suffix in COLUMNS if suffix}
    return [name for name in scored if name not in belonging]


def print_scores(
    metrics: Mapping[str, Tensor], split: str, names: list[str], classes: Sequence[str]
) -> None:
    """Print both tables; nothing if no classifier was scored.

    Args:
        metrics: What a task of this package logs: scalars in [0, 1] by name.
        split: Either 'val' or 'test'.
        names: Names of all classifiers.
        classes: Names of the classes.
    """
    if not own_rows(metrics, split, names):
        return
    console, words = Console(), {'val': 'validation', 'test': 'test'}
    console.print(f'Scores of the {words[split]} split:', highlight=False)
    print_whole(console, score_table(metrics, split, names))
    console.print()
    print_whole(console, class_table(metrics, split, names, classes))


def _table(headings: list[str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in headings:
        table.add_column(escape(heading), no_wrap=True)
    return table


def _text(score: Tensor | None) -> str:
    return '-' if score is None else f'{float(score):.4f}'

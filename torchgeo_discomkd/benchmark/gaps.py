# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""How much of the gap to the richer modality each method closes."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import count

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .config import Scenario
from .plan import SAME_SIZE
from .predictions import KeptPredictions, group_column
from .resampling import RESAMPLES, interval, pooled_scores
from .results import Line, Results, discomkd, lines
from .tables import Table, cell

#: Largest part of resamples without a gap for which a share has an interval.
UNCERTAIN = 0.025


def gap_tables(results: Results, first: int) -> list[Table]:
    """Return tables for each scenario and modality to classify.

    The first ones show how much of the gap to the teacher is closed, counted from
    STUDENT and from the control; the last one whether the teaching modality pays for
    it.

    Args:
        results: The results.
        first: Number of the first table.

    Returns:
        The tables for which the plain classifier and the teacher are finished.
    """
    numbers = count(first)
    found = []
    for scenario in results.config.scenarios:
        for target in results.config.students(scenario):
            gap = _Gap(results, scenario, target)
            if gap.student is not None and gap.teacher is not None:
                found += gap.tables(numbers)
    return found


@dataclass(frozen=True)
class _Tested:
    """A classifier of one modality in several runs."""

    line: Line
    modality: str

    @property
    def runs(self) -> set[int]:
        return set(self.line.scores(self.modality).index)

    def predictions(self, kept: KeptPredictions) -> pd.DataFrame | None:
        """Return a row for each run and sample; None if some are not kept."""
        rows = self.line.rows[self.line.rows.modality == self.modality]
        parts = []
        for run, training in zip(rows.run, rows.training, strict=True):
            frame = kept.read(run, training)
            if frame is None:
                return None
            parts.append(frame[frame.modality == self.modality].assign(run=run))
        return pd.concat(parts)


class _Gap:
    """The gap between a plain classifier and a teacher in one scenario."""

    def __init__(self, results: Results, scenario: Scenario, target: str) -> None:
        self.results, self.target = results, target
        self.cross = scenario == 'cross-modal'
        config = results.config
        self.source = config.cross_modal_teacher if self.cross else 'fusion'
        found = list(lines(results.frame, config, scenario))
        self.lines = [
            _Tested(x, self.source if x.method == 'TEACHER' else target) for x in found
        ]
        self.lines = [x for x in self.lines if x.runs]
        by_name = {x.line.name: x for x in self.lines}
        self.teacher = by_name.get('TEACHER')
        self.student = by_name.get('STUDENT')
        self.control = by_name.get(f'STUDENT {SAME_SIZE}')
        self._kept = KeptPredictions(results.folder)
        self._predictions: dict[tuple[str, str], pd.DataFrame | None] = {}
        self._groups: set[str] = set()
        self._complete = True

    def tables(self, numbers: Iterator[int]) -> Iterator[Table]:
        """Yield the table counted from STUDENT, and that from the control."""
        source, target = self.source.upper(), self.target.upper()
        names = ['Method', 'Variant']
        header = [*names, 'F1', 'Pooled', 'minus STUDENT', 'Share closed']
        rows = [
            [
                *(x.line.method, x.line.variant, cell(x.line.scores(x.modality))),
                *(self._pooled(x), *self._compared(x, self.student)),
            ]
            for x in self.lines
        ]
        title = f'Table {next(numbers)}. {target}: share of the gap to {source} closed'
        yield Table(title, header, rows, [self._note()])
        if self.control is not None:
            header = [*names, f'minus {SAME_SIZE}', 'Share closed']
            rows = [
                [x.line.method, x.line.variant, *self._compared(x, self.control)]
                for x in self.lines
            ]
            title = f'{target}: share of the gap to {source}, from the control'
            yield Table(f'Table {next(numbers)}. {title}', header, rows, [self._note()])
        taught = [x for x in self.lines if x.line.method == 'DisCoM-KD']
        if self.cross and taught:
            header = [*names, 'F1', f'minus {source} alone']
            rows = [[x.line.method, x.line.variant, *self._guide(x)] for x in taught]
            title = f'{source}: what teaching {target} costs it'
            yield Table(f'Table {next(numbers)}. {title}', header, rows, [self._note()])

    def _values(self, tested: Sequence[_Tested]) -> NDArray[np.float64] | None:
        """Return percent on the samples that all have, as in :func:`pooled_scores`."""
        rotations = self.results.config.runs
        runs = _whole_seeds(set.intersection(*(x.runs for x in tested)), rotations)
        frames = [self._read(x) for x in tested]
        known = _common([f[f.run.isin(runs)] for f in frames if f is not None])
        if not runs or (known and known[0].empty):
            return None
        if len(known) < len(tested):
            self._complete = False
            means = [x.line.scores(x.modality)[sorted(runs)].mean() for x in tested]
            return np.array(means)[:, None]
        self._groups |= set(known[0].group)
        several = self.results.config.task == 'multilabel'
        return 100 * pooled_scores(known, rotations, several)

    def _read(self, tested: _Tested) -> pd.DataFrame | None:
        key = (tested.line.name, tested.modality)
        if key not in self._predictions:
            self._predictions[key] = tested.predictions(self._kept)
        return self._predictions[key]

    def _pooled(self, tested: _Tested) -> str:
        values = None if self._read(tested) is None else self._values([tested])
        return '-' if values is None else f'{values[0, 0]:.2f}'

    def _compared(self, tested: _Tested, start: _Tested | None) -> list[str]:
        """Return difference and share of the gap, counted from a classifier."""
        if start is None or self.teacher is None or tested is start:
            return ['-', '-']
        values = self._values([tested, start, self.teacher])
        if values is None:
            return ['-', '-']
        own, base, top = values
        difference = _bracketed(own - base, '+.1f')
        if tested is self.teacher:
            return [difference, '-']
        return [difference, _share(own - base, top - base)]

    def _guide(self, tested: _Tested) -> list[str]:
        """Return score and difference of the teaching modality's own classifier."""
        line = discomkd(self.results.frame, tested.line.variant)
        own = _Tested(line, self.source)
        return [cell(line.scores(self.source)), self._compared(own, self.teacher)[0]]

    def _note(self) -> str:
        if not self._complete:
            return (
                'Not all trainings kept their predictions (those of earlier versions '
                'did not): differences of means over runs, without intervals.'
            )
        pooled = 'Differences and shares: test samples of all rotations pooled'
        column = group_column(self.results.config)
        if len(self._groups) < 2:
            return f'{pooled}. No intervals: no groups to resample (see resample_by).'
        return (
            f'{pooled}; in brackets the 95 % interval from {RESAMPLES} resamples of '
            f"the {len(self._groups)} groups in '{column}'."
        )


def _whole_seeds(runs: set[int], rotations: int) -> set[int]:
    """Return the runs of seeds that are complete; all runs while none is."""
    finished = Counter(run // rotations for run in runs)
    whole = {run for run in runs if finished[run // rotations] == rotations}
    return whole or runs


def _common(frames: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """Return the rows of those samples that are in all frames."""
    keys = [pd.MultiIndex.from_frame(f[['run', 'sample']]) for f in frames]
    if not keys:
        return []
    shared = reduce(pd.Index.intersection, keys)
    return [f[key.isin(shared)] for f, key in zip(frames, keys, strict=True)]


def _bracketed(values: NDArray[np.float64], form: str, unit: str = '') -> str:
    text = f'{values[0]:{form}}{unit}'
    if len(values) == 1:
        return text
    low, high = interval(values[1:])
    return f'{text} [{low:{form}}, {high:{form}}]'


def _share(won: NDArray[np.float64], gap: NDArray[np.float64]) -> str:
    if not gap[0] > 0:
        return 'gap not above zero'
    closed = gap > 0
    share = 100 * won[closed] / gap[closed]
    if np.mean(~closed) > UNCERTAIN:
        return f'{share[0]:.0f} % [gap may be zero]'
    return _bracketed(share, '.0f', ' %')

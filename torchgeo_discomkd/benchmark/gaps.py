# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""How much of the gap to the richer modality each method closes."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
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


@dataclass(frozen=True)
class Difference:
    """How much better a classifier is than another, in points of the pooled F1.

    Attributes:
        line: The classifier.
        values: The mean over seeds, of all samples and of each resample, shape
            (1 + R,); R is 0 without groups.
        by_seed: That of all samples for each seed, shape (S,).
    """

    line: Line
    values: NDArray[np.float64]
    by_seed: NDArray[np.float64]

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval; None without resamples."""
        return interval(self.values[1:]) if len(self.values) > 1 else None

    def __str__(self) -> str:
        """Return the difference, its interval and how many seeds have its sign."""
        text = _bracketed(self.values, '+.1f')
        if len(self.by_seed) == 1:
            return text
        agreeing = (np.sign(self.by_seed) == np.sign(self.values[0])).sum()
        return f'{text} {agreeing}/{len(self.by_seed)}'


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


class Gap:
    """The gap between a plain classifier and a teacher in one scenario.

    Attributes:
        scenario: The scenario.
        target: The modality to classify.
        source: The modality of the teacher, or 'fusion'.
    """

    def __init__(self, results: Results, scenario: Scenario, target: str) -> None:
        """Find the classifiers.

        Args:
            results: The results.
            scenario: The scenario.
            target: The modality to classify.
        """
        self.results, self.scenario, self.target = results, scenario, target
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
        self._several_seeds = False

    def gains(self) -> list[Difference]:
        """Return what each classifier gains over STUDENT, the teacher first."""
        found = (self._compared(x, self.student) for x in self.lines)
        return [pair[0] for pair in found if pair is not None]

    def tables(self, numbers: Iterator[int]) -> Iterator[Table]:
        """Yield the tables of the gap.

        They show how much of it is closed, counted from STUDENT and from the control,
        and whether the teaching modality pays for it.

        Args:
            numbers: Numbers of the tables.
        """
        source, target = self.source.upper(), self.target.upper()
        names = ['Method', 'Variant']
        header = [*names, 'F1', 'Pooled', 'minus STUDENT', 'Share closed']
        rows = [
            [
                *(x.line.method, x.line.variant, cell(x.line.scores(x.modality))),
                *(self._pooled(x), *self._cells(x, self.student)),
            ]
            for x in self.lines
        ]
        title = f'Table {next(numbers)}. {target}: share of the gap to {source} closed'
        yield Table(title, header, rows, [self._note()])
        if self.control is not None:
            header = [*names, f'minus {SAME_SIZE}', 'Share closed']
            rows = [
                [x.line.method, x.line.variant, *self._cells(x, self.control)]
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
        """Return percent on the samples that all have, as in :func:`pooled_scores`.

        Without predictions, these are means over runs, shape (classifiers, 1, seeds).
        """
        rotations = self.results.config.runs
        runs = _whole_seeds(set.intersection(*(x.runs for x in tested)), rotations)
        frames = [self._read(x) for x in tested]
        known = _common([f[f.run.isin(runs)] for f in frames if f is not None])
        if not runs or (known and known[0].empty):
            return None
        self._several_seeds |= len({run // rotations for run in runs}) > 1
        if len(known) < len(tested):
            self._complete = False
            scores = [x.line.scores(x.modality)[sorted(runs)] for x in tested]
            means = [x.groupby(x.index // rotations).mean() for x in scores]
            return np.stack(means)[:, None]
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
        return '-' if values is None else f'{values[0, 0].mean():.2f}'

    def _compared(
        self, tested: _Tested, start: _Tested | None
    ) -> tuple[Difference, NDArray[np.float64]] | None:
        """Return a classifier and the teacher, each minus another classifier.

        All three are compared on the samples that they share.
        """
        if start is None or self.teacher is None or tested is start:
            return None
        values = self._values([tested, start, self.teacher])
        if values is None:
            return None
        own, gap = values[0] - values[1], values[2] - values[1]
        return Difference(tested.line, own.mean(-1), own[0]), gap.mean(-1)

    def _cells(self, tested: _Tested, start: _Tested | None) -> list[str]:
        """Return difference and share of the gap, counted from a classifier."""
        if (found := self._compared(tested, start)) is None:
            return ['-', '-']
        own, gap = found
        return [f'{own}', '-' if tested is self.teacher else _share(own.values, gap)]

    def _guide(self, tested: _Tested) -> list[str]:
        """Return score and difference of the teaching modality's own classifier."""
        line = discomkd(self.results.frame, tested.line.variant)
        own = _Tested(line, self.source)
        return [cell(line.scores(self.source)), self._cells(own, self.teacher)[0]]

    def _note(self) -> str:
        signs = ' k/n: k of n seeds have this sign.' if self._several_seeds else ''
        if not self._complete:
            return (
                'Not all trainings kept their predictions (those of earlier versions '
                f'did not): differences of means over runs, without intervals.{signs}'
            )
        pooled = 'Differences and shares: test samples of all rotations pooled'
        column = group_column(self.results.config)
        if len(self._groups) < 2:
            missing = 'No intervals: no groups to resample (see resample_by).'
            return f'{pooled}. {missing}{signs}'
        return (
            f'{pooled}; in brackets the 95 % interval from {RESAMPLES} resamples of '
            f"the {len(self._groups)} groups in '{column}'.{signs}"
        )


def gaps(results: Results) -> list[Gap]:
    """Return the gap of each scenario and modality to classify.

    Args:
        results: The results.

    Returns:
        Those of which the plain classifier and the teacher are finished.
    """
    found = [
        Gap(results, scenario, target)
        for scenario in results.config.scenarios
        for target in results.config.students(scenario)
    ]
    return [gap for gap in found if gap.student and gap.teacher]


def gap_tables(found: Iterable[Gap], first: int) -> list[Table]:
    """Return the tables of all gaps.

    Args:
        found: The gaps.
        first: Number of the first table.
    """
    numbers = count(first)
    return [table for gap in found for table in gap.tables(numbers)]


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

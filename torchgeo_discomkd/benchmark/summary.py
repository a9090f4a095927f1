# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""What the rows of a benchmark say about one method."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files

import pandas as pd
from scipy.stats import ttest_rel

from .config import BenchmarkConfig, Scenario

#: Columns of a row of the paper's tables that name it.
Key = tuple[str, str]


@dataclass(frozen=True)
class Line:
    """One line of a table: a method in a variant."""

    method: str
    variant: str

    #: Rows of the classifiers, one for each target and run.
    rows: pd.DataFrame

    def scores(self, modality: str) -> pd.Series:
        """Return the weighted F1 of every run in percent, by number of the run.

        Args:
            modality: The modality, or 'fusion'.
        """
        rows = self.rows[self.rows.modality == modality]
        return 100 * rows.set_index('run').F1.sort_index()

    @property
    def parameters(self) -> float:
        """Parameters of one deployed classifier, the mean over the targets."""
        return self.rows.parameters.mean()

    @property
    def seconds(self) -> float:
        """Seconds of training for all targets, teachers included, mean over runs."""
        return self._cost('seconds')

    @property
    def gflop(self) -> float:
        """GFLOP of training for all targets, teachers included, mean over runs."""
        return self._cost('gflop')

    def _cost(self, name: str) -> float:
        # one training may give several rows, and one teacher serves several students
        own = self.rows.drop_duplicates(['run', 'training'])[name].sum()
        taught = self.rows[self.rows.teacher != '-']
        teachers = taught.drop_duplicates(['run', 'teacher'])[f'teacher_{name}'].sum()
        return (own + teachers) / self.rows.run.nunique()


def lines(
    frame: pd.DataFrame, config: BenchmarkConfig, scenario: Scenario
) -> Iterator[Line]:
    """Yield the lines of Table 1 or 2 in the paper's order.

    Args:
        frame: All rows.
        config: The configuration.
        scenario: 'cross-modal' for Table 1, 'multi-modal' for Table 2.
    """
    targets = config.students(scenario)
    plain = frame[frame.method == 'STUDENT']
    if scenario == 'cross-modal':
        # the teacher is the student of its own modality
        teacher = plain[plain.modality == config.cross_modal_teacher]
    else:
        teacher = frame[frame.method == 'TEACHER']
    found = [
        Line('TEACHER', '-', teacher),
        Line('STUDENT', '-', plain[plain.modality.isin(targets)]),
    ]
    students = frame[frame.modality.isin(targets)]
    for method in config.methods:
        for variant in config.variants:
            mask = (students.method == method) & (students.variant == variant)
            rows = students[mask & (students.scenario == scenario)]
            found.append(Line(method, variant, rows))
    for formulation in config.formulations:
        found.append(discomkd(students, formulation))
    yield from (line for line in found if len(line.rows))


def discomkd(
    frame: pd.DataFrame, formulation: str, ablation: str = '-', readout: str = 'full'
) -> Line:
    """Return the line of DisCoM-KD.

    Args:
        frame: All rows.
        formulation: 'paper' or 'released'.
        ablation: Term that is left out, as in the paper's Table 3; '-' for none.
        readout: Embedding that decides, as in the paper's Table 4.
    """
    mask = (
        (frame.method == 'DisCoM-KD')
        & (frame.variant == formulation)
        & (frame.ablation == ablation)
        & (frame.readout == readout)
    )
    return Line('DisCoM-KD', formulation, frame[mask])


@dataclass(frozen=True)
class Comparison:
    """DisCoM-KD against the best competitor, over the runs that both have."""

    modality: str
    competitor: Line

    #: Difference of weighted F1 in points for each run.
    differences: pd.Series

    #: p value of the paired t-test; None if there is nothing to test.
    p: float | None


def compare(found: Sequence[Line], modality: str) -> Comparison | None:
    """Compare DisCoM-KD with the best competitor.

    The competitor is the best of several on the same test scores, which favours it.

    Args:
        found: Lines of one scenario.
        modality: The modality to classify.

    Returns:
        The comparison, or None if either is missing.
    """
    own = [line for line in found if line.method == 'DisCoM-KD'][:1]
    others = [
        line
        for line in found
        if line.method not in {'TEACHER', 'STUDENT', 'DisCoM-KD'}
        and len(line.scores(modality))
    ]
    if not own or not others or not len(own[0].scores(modality)):
        return None
    best = max(others, key=lambda line: line.scores(modality).mean())
    pairs = pd.concat(
        [own[0].scores(modality), best.scores(modality)], axis=1, join='inner'
    )
    differences = pairs.iloc[:, 0] - pairs.iloc[:, 1]
    p = None
    # equal differences have no spread to test against
    if len(pairs) > 1 and differences.std() > 0:
        p = float(ttest_rel(pairs.iloc[:, 0], pairs.iloc[:, 1]).pvalue)
    return Comparison(modality, best, differences, p)


def paper_value(
    config: BenchmarkConfig, table: int, modality: str, method: str, variant: str
) -> str:
    """Return the paper's own weighted F1 in percent.

    Args:
        config: The configuration, whose *paper_dataset* is looked up.
        table: Number of the table.
        modality: Modality as the paper names it, e.g. 'MS->SAR' in Table 1.
        method: Method as the paper names it.
        variant: Variant as the paper names it.

    Returns:
        The figure as printed, '' if the paper has none.
    """
    if config.paper_dataset is None:
        return ''
    # read as text, so that figures stay as printed
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

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Tests of DisCoM-KD against what it is compared with."""

from collections.abc import Iterator, Sequence

import pandas as pd
from scipy.stats import ttest_rel

from .config import BenchmarkConfig
from .results import Line


def significance(
    found: Sequence[Line], targets: Sequence[str], config: BenchmarkConfig
) -> Iterator[str]:
    """Compare DisCoM-KD with STUDENT, the control and the best competitor.

    The first formulation and its extensions are compared, on the rotations that both
    have. The competitor is the best of several on the same test scores, which favours
    it.

    Args:
        found: Lines of a table.
        targets: Modalities to classify.
        config: The configuration.

    Yields:
        A sentence for each comparison.
    """
    own = [x for x in found if x.method == 'DisCoM-KD']
    own = [x for x in own if x.variant not in config.formulations[1:]]
    for target in targets:
        known = [line for line in found if len(line.scores(target))]
        students = [x for x in known if x.method == 'STUDENT']
        others = [
            x for x in known if x.method not in {'TEACHER', 'STUDENT', 'DisCoM-KD'}
        ]
        compared = [(x.name, x) for x in students]
        if others:
            best = max(others, key=lambda line: line.scores(target).mean())
            compared.append((f'the best competitor ({best.name})', best))
        for line in own:
            for name, other in compared:
                if len(line.scores(target)):
                    yield _compare(line, other, name, target, config)


def _compare(
    own: Line, other: Line, name: str, target: str, config: BenchmarkConfig
) -> str:
    scores = [own.scores(target), other.scores(target)]
    pairs = pd.concat(scores, axis=1, join='inner')
    # runs of different seeds share the test samples of their rotation
    pairs = pairs.groupby(pairs.index % config.runs).mean()
    differences = pairs.iloc[:, 0] - pairs.iloc[:, 1]
    test = 'no test'
    # equal differences have no spread to test against
    if len(pairs) > 1 and differences.std() > 0:
        p = ttest_rel(pairs.iloc[:, 0], pairs.iloc[:, 1]).pvalue
        test = f'paired t-test, p = {p:.3f}'
    unit = 'runs' if config.seeds == 1 else f'rotations ({config.seeds} seeds each)'
    return (
        f'{target.upper()}: {own.name} minus {name} is {differences.mean():+.2f} '
        f'points; {test}, n = {len(differences)} {unit}.'
    )

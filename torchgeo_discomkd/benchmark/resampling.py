# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Scores of resampled groups of test samples."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..tables.prediction import SEPARATOR

#: Number of resamples, and the seed that draws them.
RESAMPLES = 10_000
SEED = 0


def weighted_f1(confusion: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the F1 averaged over classes, weighted by their numbers of samples.

    Args:
        confusion: Numbers of samples by class and predicted class, shape (..., K, K).

    Returns:
        From 0 to 1, shape (...); 0 without samples.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    support, predicted = confusion.sum(-1), confusion.sum(-2)
    # a class that neither occurs nor is predicted has no weight
    f1 = 2 * hits / np.maximum(support + predicted, 1)
    return (support * f1).sum(-1) / np.maximum(support.sum(-1), 1)


def pooled_scores(
    tested: Sequence[pd.DataFrame], rotations: int, several: bool = False
) -> NDArray[np.float64]:
    """Return the weighted F1 of classifiers, of all samples and of resampled groups.

    The rotations of a seed are pooled before scoring. Resamples draw as many groups as
    there are, with replacement, and the same ones for all classifiers. Samples of a
    group stay together, because they resemble each other.

    Args:
        tested: For each classifier, its predictions: a row for each run and sample,
            with the columns 'run', 'group', 'label' and 'prediction'.
        rotations: Number of runs with the same seed.
        several: Whether a sample may have several labels, separated by '; '.

    Returns:
        Shape (classifiers, 1 + :data:`RESAMPLES`, seeds), from 0 to 1: the scores of
        all samples come first. Only these, shape (classifiers, 1, seeds), if there are
        fewer than two groups.
    """
    everything = pd.concat(tested)
    groups = pd.Index(everything.group.unique()).sort_values()
    classes = pd.Index(everything.label).union(everything.prediction).unique()
    seeds = pd.Index((everything.run // rotations).unique()).sort_values()
    weights = np.ones((1, len(groups)))
    if len(groups) > 1:
        chances = np.full(len(groups), 1 / len(groups))
        drawn = np.random.default_rng(SEED).multinomial(
            len(groups), chances, size=RESAMPLES
        )
        weights = np.concatenate([weights, drawn])
    if several:
        return _label_scores(tested, rotations, groups, seeds, weights)
    scores = []
    for frame in tested:
        counts = np.zeros((len(groups), len(seeds), len(classes), len(classes)))
        place = (
            groups.get_indexer(frame.group),
            seeds.get_indexer(frame.run // rotations),
            classes.get_indexer(frame.label),
            classes.get_indexer(frame.prediction),
        )
        np.add.at(counts, place, 1)
        confusion = np.tensordot(weights, counts, axes=1)
        scores.append(weighted_f1(confusion))
    return np.stack(scores)


def _label_scores(
    tested: Sequence[pd.DataFrame],
    rotations: int,
    groups: pd.Index,
    seeds: pd.Index,
    weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the F1 of each label, weighted by its number of samples."""
    columns = ['label', 'prediction']
    names = pd.concat([frame[c] for frame in tested for c in columns])
    labels = pd.Index(names.str.split(SEPARATOR).explode().unique()).drop(
        '', errors='ignore'
    )
    scores = []
    for frame in tested:
        place = (
            groups.get_indexer(frame.group),
            seeds.get_indexer(frame.run // rotations),
        )
        true, predicted = (_indicators(frame[c], labels) for c in columns)
        sums = []
        for values in (true * predicted, true, predicted):
            counts = np.zeros((len(groups), len(seeds), len(labels)))
            np.add.at(counts, place, values)
            sums.append(np.tensordot(weights, counts, axes=1))
        hits, support, found = sums
        f1 = 2 * hits / np.maximum(support + found, 1)
        scores.append((support * f1).sum(-1) / np.maximum(support.sum(-1), 1))
    return np.stack(scores)


def _indicators(column: pd.Series, labels: pd.Index) -> NDArray[np.float64]:
    """Return 1 for each label that a sample has, shape (samples, labels)."""
    found = column.str.get_dummies(SEPARATOR)
    return found.reindex(columns=labels, fill_value=0).to_numpy(np.float64)


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % interval of resampled values, by percentiles.

    Args:
        values: The values, shape (N,).
    """
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)

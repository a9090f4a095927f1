# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from torchmetrics.functional import f1_score

from torchgeo_discomkd.benchmark.resampling import interval, pooled_scores, weighted_f1


def predictions(seed: int, groups: int, size: int = 40, run: int = 0) -> pd.DataFrame:
    """Return predictions of random samples, two of three right."""
    random = np.random.default_rng(seed)
    label = random.integers(0, 3, size)
    wrong = random.integers(0, 3, size)
    columns = {
        'run': run,
        'group': [f'g{i % groups}' for i in range(size)],
        'label': label.astype(str),
        'prediction': np.where(random.random(size) < 0.5, label, wrong).astype(str),
    }
    return pd.DataFrame(columns)


def reference(frame: pd.DataFrame) -> float:
    """Return the weighted F1 by torchmetrics."""
    columns = ('prediction', 'label')
    prediction, label = (torch.tensor(frame[c].astype(int).to_list()) for c in columns)
    arguments = {'task': 'multiclass', 'num_classes': 3, 'average': 'weighted'}
    return float(f1_score(prediction, label, **arguments))


def test_weighted_f1_of_all_samples() -> None:
    frames = [predictions(0, 4), predictions(1, 4)]
    scores = pooled_scores(frames, rotations=1)
    assert scores[:, 0, 0] == pytest.approx([reference(f) for f in frames])
    assert weighted_f1(np.zeros((2, 3, 3))).tolist() == [0, 0]
    # a seed draws them
    assert (scores == pooled_scores(frames, rotations=1)).all()


def test_rotations_are_pooled_and_seeds_kept_apart() -> None:
    frames = [predictions(run, 4, run=run) for run in range(4)]
    [scores] = pooled_scores([pd.concat(frames[::-1])], rotations=2)
    seeds = [pd.concat(frames[i : i + 2]) for i in (0, 2)]
    assert scores[0] == pytest.approx([reference(seed) for seed in seeds])


def test_resamples_of_two_groups_are_those_by_hand() -> None:
    frame, other = predictions(2, 2), predictions(3, 2)
    own, theirs = pooled_scores([frame, other], rotations=1)[..., 0]
    parts = [[f[f.group == g] for g in ('g0', 'g1')] for f in (frame, other)]
    # of two groups, there are three possible resamples: 1/4, 1/2, 1/4
    pairs = {
        tuple(round(reference(pd.concat([p[i], p[j]])), 5) for p in parts)
        for i, j in product((0, 1), repeat=2)
    }
    drawn = list(zip(own[1:].round(5), theirs[1:].round(5), strict=True))
    assert set(drawn) == pairs
    both = reference(frame).__round__(5), reference(other).__round__(5)
    assert drawn.count(both) / len(drawn) == pytest.approx(0.5, abs=0.02)
    assert interval(own[1:]) == pytest.approx((own[1:].min(), own[1:].max()))


def test_one_group_has_no_resamples() -> None:
    assert pooled_scores([predictions(0, 1)], rotations=1).shape == (1, 1, 1)

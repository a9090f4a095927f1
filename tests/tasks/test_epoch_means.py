# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import torch
from torch import tensor

from torchgeo_discomkd.tasks.epoch_means import EpochMeans


def test_means_are_weighted() -> None:
    means = EpochMeans()
    means.update({'a': tensor(1.0), 'b': tensor(4.0)}, 3)
    means.update({'a': tensor(5.0), 'b': tensor(0.0)}, tensor(1))
    assert means.compute() == {'a': tensor(2.0), 'b': tensor(3.0)}
    means.reset()
    means.update({'c': tensor(7.0)}, 2)
    assert means.compute() == {'c': tensor(7.0)}


def test_no_gradient_is_kept() -> None:
    weight = torch.ones((), requires_grad=True)
    means = EpochMeans()
    means.update({'a': 2 * weight}, 1)
    assert not means.compute()['a'].requires_grad


def test_without_samples_there_is_no_mean() -> None:
    means = EpochMeans()
    assert means.compute() == {}
    means.update({'a': tensor(1.0)}, tensor(0))
    assert means.compute() == {}


def test_loss_that_is_not_finite_shows() -> None:
    means = EpochMeans()
    means.update({'a': tensor(1.0)}, 1)
    means.update({'a': tensor(torch.nan)}, 1)
    assert means.compute()['a'].isnan()

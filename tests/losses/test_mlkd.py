# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from torchgeo_discomkd.errors import SettingError
from torchgeo_discomkd.losses import (
    MLKD,
    OfficialMLKD,
    batch_consistency_loss,
    class_consistency_loss,
)

from .distillation import (
    KINDS,
    NO_TARGET,
    Array,
    Result,
    batch_consistency,
    check,
    class_consistency,
    draw,
    kd,
    log_softmax,
    standardize,
    swapped_kd,
    through_standardize,
    weighted,
)

CONSISTENCY = (
    (class_consistency_loss, class_consistency),
    (batch_consistency_loss, batch_consistency),
)


def mlkd(s: Array, t: Array, temperatures: Any, weights: Any, swapped: bool) -> Result:
    instance = swapped_kd if swapped else kd
    return weighted(
        *(
            (weight, term(s, t, temperature))
            for temperature in temperatures
            for weight, term in zip(
                weights, (instance, class_consistency, batch_consistency), strict=True
            )
        )
    )


def two_views(loss: OfficialMLKD, *logits: Tensor) -> Tensor:
    """Return the loss of a weak student, weak teacher, strong student and teacher."""
    weak_s, weak_t, strong_s, strong_t = logits
    return loss(weak_s, weak_t, NO_TARGET, 0, strong=(strong_s, strong_t))


def fractions(t: Array) -> tuple[float, float]:
    # in float32, as there confidences near 1 are equal
    p = np.exp(log_softmax(t.astype(np.float64))).astype(np.float32)
    confidence, mass = p.max(axis=1), p.sum(axis=0)
    return (
        (confidence <= np.median(confidence)).mean(),
        (mass <= np.median(mass)).mean(),
    )


class TestConsistency:
    @pytest.mark.parametrize('kind', KINDS)
    @pytest.mark.parametrize(('loss', 'reference'), CONSISTENCY)
    @pytest.mark.parametrize('shape', [(6, 5), (3, 7), (1, 4)])
    @pytest.mark.parametrize('seed', range(3))
    def test_random_logits(
        self, kind: str, loss: Any, reference: Any, shape: tuple[int, int], seed: int
    ) -> None:
        s, t = draw(kind, seed, *shape), draw(kind, seed + 100, *shape)
        for temperature in (1.0, 3.0):
            check(
                lambda a, b, temperature=temperature: loss(a, b, temperature),
                s,
                t,
                reference(s, t, temperature),
            )

    @pytest.mark.parametrize('loss', [x for x, _ in CONSISTENCY])
    def test_zero_for_equal_logits(self, loss: Callable[..., Tensor]) -> None:
        logits = torch.from_numpy(draw('ordinary', 0)).requires_grad_()
        found = loss(logits, logits)
        assert found.item() == 0
        assert not torch.autograd.grad(found, logits)[0].any()

    def test_what_each_ignores(self) -> None:
        s, t = (torch.from_numpy(draw('ordinary', seed)) for seed in range(2))
        for loss, same, other in (
            (class_consistency_loss, s.roll(1, dims=0), s.roll(1, dims=1)),
            (batch_consistency_loss, s.roll(1, dims=1), s.roll(1, dims=0)),
        ):
            torch.testing.assert_close(loss(same, t), loss(s, t))
            assert not torch.isclose(loss(other, t), loss(s, t), rtol=0.01)

    @pytest.mark.parametrize(('rows', 'classes'), [(120, 10), (100, 100), (12, 2)])
    def test_scale(self, rows: int, classes: int) -> None:
        # a certain teacher of balanced classes and an undecided student
        s = torch.zeros(rows, classes)
        t = 1e4 * torch.eye(classes).repeat(rows // classes, 1)
        size, rest = rows / classes, 1 - 1 / classes
        assert class_consistency_loss(s, t).item() == pytest.approx(size**2 * rest)
        assert batch_consistency_loss(s, t).item() == pytest.approx(size * rest)

    @pytest.mark.parametrize('loss', [x for x, _ in CONSISTENCY])
    def test_matrix(self, loss: Callable[..., Tensor]) -> None:
        s, t = (torch.from_numpy(draw('ordinary', seed)) for seed in range(2))
        matrix = loss(s, t, 2.0, 'none')
        size = 5 if loss is class_consistency_loss else 6
        assert matrix.shape == (size, size)
        torch.testing.assert_close(matrix.sum(), loss(s, t, 2.0))
        with pytest.raises(ValueError, match="reduction='mean': use 'rowmean'"):
            loss(s, t, 2.0, 'mean')

    @pytest.mark.parametrize('loss', [x for x, _ in CONSISTENCY])
    def test_automatic_mixed_precision(self, loss: Callable[..., Tensor]) -> None:
        # a half-precision product would be wrong by more than the small difference
        t = torch.from_numpy(draw('ordinary', 0))
        s = t + 0.01 * torch.from_numpy(draw('ordinary', 1))
        with torch.autocast('cpu', torch.bfloat16):
            found = loss(s, t)
        assert torch.equal(found, loss(s, t))


class TestOneView:
    @pytest.mark.parametrize('kind', KINDS)
    @pytest.mark.parametrize('swapped', [False, True])
    @pytest.mark.parametrize('rows', [6, 1])
    @pytest.mark.parametrize('seed', range(2))
    def test_random_logits(
        self, kind: str, swapped: bool, rows: int, seed: int
    ) -> None:
        s, t = draw(kind, seed, rows), draw(kind, seed + 100, rows)
        loss = MLKD(
            temperatures=(1.0, 4.0),
            class_weight=2.0,
            batch_weight=3.0,
            swapped_kl=swapped,
        )
        check(
            lambda a, b: loss(a, b, NO_TARGET, 0),
            s,
            t,
            mlkd(s, t, (1.0, 4.0), (1, 2, 3), swapped),
        )

    def test_defaults(self) -> None:
        s, t = draw('ordinary', 0), draw('ordinary', 1)
        expected = mlkd(s, t, (2, 3, 4, 5, 6), (1, 1, 1), swapped=False)
        check(lambda a, b: MLKD()(a, b, NO_TARGET, 0), s, t, expected)

    def test_minimum_of_authors(self) -> None:
        p = torch.tensor([[0.9, 0.05, 0.03, 0.02]], dtype=torch.float64)
        student = p.clone().requires_grad_()
        loss = MLKD(
            temperatures=(1.0,), class_weight=0, batch_weight=0, swapped_kl=True
        )(student, p.log(), NO_TARGET, 0)
        torch.testing.assert_close(
            student.softmax(dim=1),
            torch.tensor([[0.442, 0.189, 0.185, 0.183]], dtype=torch.float64),
            rtol=0,
            atol=5e-4,
        )
        assert torch.autograd.grad(loss, student)[0].abs().max() < 1e-12

    def test_errors(self) -> None:
        for temperatures in ((), (2, 0)):
            with pytest.raises(SettingError, match='to one positive number or more'):
                MLKD(temperatures=temperatures)
        for loss in (MLKD, OfficialMLKD):
            for name in ('class_weight', 'batch_weight'):
                with pytest.raises(SettingError, match=f'{name}=-1: set'):
                    loss(**{name: -1})


class TestTwoViews:
    @pytest.mark.parametrize('kind', KINDS)
    @pytest.mark.parametrize('standard', [False, True])
    @pytest.mark.parametrize('rows', [7, 1])
    @pytest.mark.parametrize('seed', range(2))
    def test_random_logits(
        self, kind: str, standard: bool, rows: int, seed: int
    ) -> None:
        s_weak, t_weak, s_strong, t_strong = (
            draw(kind, 4 * seed + i, rows) for i in range(4)
        )
        m, c = fractions(t_weak)
        scale = standardize if standard else np.array
        views = {
            'weak': (scale(s_weak), scale(t_weak)),
            'strong': (scale(s_strong), scale(t_strong)),
        }
        weak = weighted(
            *((m, kd(*views['weak'], x)) for x in (4, 2, 3, 5, 6)),
            *((1, kd(*views['weak'], x)) for x in (2, 6)),
        )
        strong = weighted(*((1, kd(*views['strong'], x)) for x in (4, 3, 5)))
        if standard:
            weak = weak[0], through_standardize(s_weak, weak[1])
            strong = strong[0], through_standardize(s_strong, strong[1])
        weak = weighted(
            (1, weak),
            *((2 * c, class_consistency(s_weak, t_weak, x)) for x in (4, 2, 3, 5, 6)),
            *((3 * m, batch_consistency(s_weak, t_weak, x)) for x in (4, 2, 3, 5, 6)),
        )
        total = weak[0] + strong[0]
        constant = [torch.from_numpy(x) for x in (s_weak, t_weak, s_strong, t_strong)]

        loss = OfficialMLKD(class_weight=2, batch_weight=3, standardize=standard)

        def of_weak(a: Tensor, b: Tensor) -> Tensor:
            return two_views(loss, a, b, *constant[2:])

        def of_strong(a: Tensor, b: Tensor) -> Tensor:
            return two_views(loss, *constant[:2], a, b)

        check(of_weak, s_weak, t_weak, (total, weak[1]))
        check(of_strong, s_strong, t_strong, (total, strong[1]))

    def test_equal_confidence(self) -> None:
        # all samples and classes are at the median: both masks keep everything
        s = torch.from_numpy(draw('ordinary', 0, 5))
        t = torch.ones(5, 5)
        instance = MLKD(class_weight=0, batch_weight=0)(s, t, NO_TARGET, 0)
        for weights in ((0, 0), (1, 0), (0, 1)):
            options = dict(zip(('class_weight', 'batch_weight'), weights, strict=True))
            found = two_views(OfficialMLKD(**options), s, t, s, t)
            expected = MLKD(**options)(s, t, NO_TARGET, 0) + instance
            torch.testing.assert_close(found, expected)

    def test_other_shape_of_one_view(self) -> None:
        a, b = torch.ones(2, 3), torch.ones(3, 3)
        with pytest.raises(ValueError, match='two views: give strong='):
            OfficialMLKD()(a, a, NO_TARGET, 0)
        with pytest.raises(ValueError, match=r'shapes \(2, 3\) and \(3, 3\)'):
            two_views(OfficialMLKD(), a, a, b, b)


def test_no_host_synchronization() -> None:
    class Watch(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            assert func is not torch.ops.aten._local_scalar_dense.default
            return func(*args, **(kwargs or {}))

    s, t = (torch.from_numpy(draw('ordinary', seed)) for seed in range(2))
    with Watch():
        MLKD()(s, t, NO_TARGET, 0)
        MLKD(swapped_kl=True, standardize=True)(s, t, NO_TARGET, 0)
        two_views(OfficialMLKD(standardize=True), s, t, s, t)
        with pytest.raises(AssertionError):
            bool(s.sum() > 0)

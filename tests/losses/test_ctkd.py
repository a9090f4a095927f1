# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from torchgeo_discomkd.errors import SettingError
from torchgeo_discomkd.losses import CTKD, curriculum_lambda, instance_kd_loss, kd_loss

from .distillation import (
    KINDS,
    NO_TARGET,
    Array,
    Result,
    check,
    curriculum,
    draw,
    log_softmax,
)

#: Logits, where the temperature does not depend on them.
ANY = torch.ones(1, 2)

T_INITIAL = 1 + 20 / (1 + np.exp(-1))


def instance_kd(s: Array, t: Array, temperatures: Array) -> Result:
    s, t = s.astype(np.float64), t.astype(np.float64)
    column = temperatures[:, None]
    log_q = log_softmax(s / column)
    u = np.exp(log_softmax(t / column)) + 1e-7
    rows = (u * (np.log(u) - log_q)).sum(axis=1)
    slope = column * (np.exp(log_q) * u.sum(axis=1, keepdims=True) - u) / len(s)
    return (temperatures**2 * rows).mean(), slope


class TestLambda:
    def test_from_zero_to_minus_one(self) -> None:
        values = [curriculum_lambda(epoch, 8) for epoch in range(12)]
        assert values[0] == 0
        assert values[4] == pytest.approx(-0.5)
        assert values[8:] == [-1] * 4
        assert values[:9] == sorted(values[:9], reverse=True)

    def test_errors(self) -> None:
        with pytest.raises(ValueError, match='epoch=-1'):
            curriculum_lambda(-1)
        with pytest.raises(ValueError, match='loops=0'):
            curriculum_lambda(1, 0)


class TestCurriculumTemperature:
    def test_defaults(self) -> None:
        loss = CTKD()
        temperature = loss.temperature(ANY, ANY, 0)
        assert temperature.shape == ()
        assert temperature.item() == pytest.approx(T_INITIAL)
        assert [n for n, _ in loss.named_parameters()] == ['raw']
        assert list(loss.state_dict()) == ['raw']

    @pytest.mark.parametrize('raw', [-1e4, -3.0, 0.0, 1e4])
    def test_range(self, raw: float) -> None:
        loss = curriculum(raw, temperature_start=2, temperature_end=38)
        temperature = loss.temperature(ANY, ANY, 3).item()
        expected = 2 + 38 / (1 + np.exp(-np.clip(raw, -50, 50)))
        assert temperature == pytest.approx(expected)

    @pytest.mark.parametrize('first_epoch', [0, 1])
    @pytest.mark.parametrize('epoch', [0, 1, 2, 5])
    def test_reversed_gradient(self, first_epoch: Any, epoch: int) -> None:
        loss = curriculum(0.0, warmup_epochs=4, first_epoch=first_epoch)
        temperature = loss.temperature(ANY, ANY, epoch)
        (found,) = torch.autograd.grad(temperature, loss.raw)
        # the true slope of 1 + 20 sigmoid(r) at r = 0 is 5
        factor = curriculum_lambda(epoch + first_epoch, 4)
        assert found.item() == pytest.approx(5 * factor, abs=1e-12)
        assert (factor == 0) == (epoch == first_epoch == 0)

    def test_descent_ascends_the_loss(self) -> None:
        s, t = (torch.from_numpy(draw('ordinary', seed)) for seed in range(2))
        ctkd = CTKD(first_epoch=0)
        optimizer = torch.optim.SGD(ctkd.parameters(), lr=1)
        losses = []
        for _ in range(3):
            loss = ctkd(s, t, NO_TARGET, 10)
            losses.append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert losses[0] < losses[1] < losses[2]

    def test_nothing_but_the_parameter_is_state(self) -> None:
        s, t = (torch.from_numpy(draw('ordinary', seed)) for seed in range(2))
        first, second = curriculum(1.0), curriculum(-4.0)
        for epoch in range(5):
            first(s, t, NO_TARGET, epoch).backward()
        second.load_state_dict(first.state_dict())
        slopes = [
            torch.autograd.grad(m(s, t, NO_TARGET, 6), m.raw)[0]
            for m in (first, second)
        ]
        assert torch.equal(*slopes)

    @pytest.mark.parametrize(
        ('options', 'message'),
        [
            ({'temperature_start': 0}, 'temperature_start=0'),
            ({'temperature_end': -1}, 'temperature_end=-1'),
            ({'temperature_end': float('nan')}, 'temperature_end=nan'),
            ({'warmup_epochs': 0}, 'warmup_epochs=0'),
            ({'first_epoch': 2}, 'first_epoch=2'),
        ],
    )
    def test_errors(self, options: Any, message: str) -> None:
        with pytest.raises(SettingError, match=message):
            CTKD(**options)

    def test_negative_epoch(self) -> None:
        with pytest.raises(ValueError, match='epoch=-1'):
            CTKD().temperature(ANY, ANY, -2)


class TestInstanceTemperature:
    @pytest.fixture
    def logits(self) -> tuple[Tensor, Tensor]:
        s, t = (torch.from_numpy(draw('ordinary', seed)) for seed in range(2))
        return s.requires_grad_(), t.requires_grad_()

    @pytest.fixture
    def ctkd(self) -> CTKD:
        """A network whose temperatures differ between samples."""
        torch.manual_seed(0)
        loss = CTKD(instance_temperature=True, num_classes=5, warmup_epochs=4)
        torch.nn.init.normal_(loss.network[2].weight)  # ty: ignore
        return loss

    def test_starts_as_one_temperature(self, logits: Any) -> None:
        loss = CTKD(instance_temperature=True, num_classes=5)
        temperatures = loss.temperature(*logits, 0)
        expected = torch.full((6,), T_INITIAL, dtype=torch.float32)
        torch.testing.assert_close(temperatures, expected)

    def test_differs_between_samples(self, logits: Any, ctkd: Any) -> None:
        s, t = logits
        found = ctkd.temperature(s, t, 0)
        assert len(found.unique()) == 6
        assert (found > 1).all()
        assert (found < 21).all()
        assert not torch.isclose(ctkd.temperature(t, s, 0), found).any()
        assert not torch.isclose(ctkd.temperature(s, s, 0), found).any()
        assert not torch.isclose(ctkd.temperature(t, t, 0), found).any()

    def test_depends_on_probabilities(self, logits: Any, ctkd: Any) -> None:
        s, t = logits
        found = ctkd.temperature(s + 8, t - torch.arange(6)[:, None], 0)
        torch.testing.assert_close(found, ctkd.temperature(s, t, 0))

    def test_reversed_gradient(self, logits: Any, ctkd: Any) -> None:
        bias = ctkd.network[2].bias

        def slope(epoch: int) -> Tensor:
            loss = ctkd(*logits, NO_TARGET, epoch)
            return torch.autograd.grad(loss, bias)[0]

        def value(offset: float) -> float:
            with torch.no_grad():
                bias.add_(offset)
                loss = ctkd(*logits, NO_TARGET, 0).item()
                bias.sub_(offset)
            return loss

        ctkd.double()
        bias = ctkd.network[2].bias
        logits = tuple(x.detach().double() for x in logits)
        expected = (value(1e-4) - value(-1e-4)) / 2e-4
        assert abs(expected) > 1e-3
        for epoch in (0, 1, 7):
            factor = curriculum_lambda(epoch + 1, 4)
            assert slope(epoch).item() == pytest.approx(factor * expected, rel=1e-4)

    def test_trains_all_parameters_and_nothing_else(
        self, logits: Any, ctkd: Any
    ) -> None:
        ctkd.temperature(*logits, 3).sum().backward()
        assert all(p.grad.any() for p in ctkd.parameters())
        assert all(x.grad is None for x in logits)

    def test_large_logits(self, ctkd: Any) -> None:
        s, t = (torch.from_numpy(draw('extreme', seed)) for seed in range(2))
        s.requires_grad_()
        loss = ctkd(s, t, NO_TARGET, 9)
        assert loss.isfinite()
        for slope in torch.autograd.grad(loss, [s, *ctkd.parameters()]):
            assert slope.isfinite().all()

    def test_automatic_mixed_precision(self, logits: Any, ctkd: Any) -> None:
        expected = ctkd.temperature(*logits, 0)
        with torch.autocast('cpu', torch.bfloat16):
            found = ctkd.temperature(*logits, 0)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)

    def test_other_number_of_classes(self, ctkd: Any) -> None:
        with pytest.raises(ValueError, match=r'4 classes.*built for 5'):
            ctkd.temperature(torch.ones(2, 4), torch.ones(2, 4), 0)


class TestInstanceLoss:
    @pytest.mark.parametrize('kind', KINDS)
    @pytest.mark.parametrize('seed', range(3))
    def test_random_logits(self, kind: str, seed: int) -> None:
        s, t = draw(kind, seed), draw(kind, seed + 100)
        temperatures = np.array([1, 2, 4, 8, 16, 21], dtype=np.float32)
        check(
            lambda a, b: instance_kd_loss(a, b, torch.from_numpy(temperatures)),
            s,
            t,
            instance_kd(s, t, temperatures.astype(np.float64)),
        )

    def test_gradient_of_temperatures(self) -> None:
        s, t = draw('ordinary', 0), draw('ordinary', 1)
        temperatures = np.array([1.0, 2, 4, 8, 16, 21])
        tensor = torch.from_numpy(temperatures).requires_grad_()
        loss = instance_kd_loss(
            torch.from_numpy(s).double(), torch.from_numpy(t).double(), tensor
        )
        (found,) = torch.autograd.grad(loss, tensor)
        step = 1e-5 * np.eye(6)
        expected = [
            (
                instance_kd(s, t, temperatures + step[i])[0]
                - instance_kd(s, t, temperatures - step[i])[0]
            )
            / 2e-5
            for i in range(6)
        ]
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-8)

    def test_near_kd(self) -> None:
        s, t = (torch.from_numpy(draw('ordinary', seed)) for seed in range(2))
        found = instance_kd_loss(s, t, torch.full((6,), 4.0))
        torch.testing.assert_close(found, kd_loss(s, t, 4.0), rtol=1e-4, atol=0)

    def test_errors(self) -> None:
        logits = torch.ones(2, 3)
        with pytest.raises(ValueError, match=r'shape \(3,\): give \(2,\)'):
            instance_kd_loss(logits, logits, torch.ones(3))
        with pytest.raises(ValueError, match=r'temperature=-1\.0'):
            instance_kd_loss(logits, logits, torch.tensor([1.0, -1.0]))


@pytest.mark.parametrize(
    ('preset', 'loops', 'first'), [('default', 10, 1), ('authors', 5, 0)]
)
def test_curriculum_of_presets(preset: Any, loops: int, first: int) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 4, 5, generator=generator)
    raw = torch.tensor(1.0, requires_grad=True)
    kd_loss(student, teacher, 1 + 20 * raw.sigmoid()).backward()
    assert raw.grad is not None
    loss = CTKD.preset(preset)
    assert isinstance(loss, CTKD)
    for epoch in (0, 3, 30):
        loss.zero_grad()
        loss(student, teacher, NO_TARGET, epoch).backward()
        turn = math.pi * min(epoch + first, loops) / loops
        factor = -(1 - math.cos(turn)) / 2
        torch.testing.assert_close(loss.raw.grad, factor * raw.grad)


def test_curriculum_of_instance_temperatures() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 4, 5, generator=generator)
    loss = CTKD(instance_temperature=True, num_classes=5)
    # T = 1 + 20 sigmoid(1) for all samples at first, of slope 20 p (1 - p)
    p = 1 / (1 + math.exp(-1))
    temperatures = torch.full((4,), 1 + 20 * p, requires_grad=True)
    instance_kd_loss(student, teacher, temperatures).backward()
    assert temperatures.grad is not None
    expected = 20 * p * (1 - p) * temperatures.grad.sum()
    for epoch in (0, 3, 30):
        loss.zero_grad()
        loss(student, teacher, NO_TARGET, epoch).backward()
        factor = -(1 - math.cos(math.pi * min(epoch + 1, 10) / 10)) / 2
        bias = loss.network[2].bias.grad
        torch.testing.assert_close(bias, (factor * expected).view(1))
        mean = temperatures.detach().mean()
        torch.testing.assert_close(loss.monitored['temperature'], mean)

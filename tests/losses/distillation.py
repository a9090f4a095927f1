# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""NumPy float64 references of the distillation losses, and what their tests share.

Each reference returns the loss and its gradient with respect to the student's logits,
derived by hand.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchgeo_discomkd.losses import CTKD

type Array = np.ndarray
type Result = tuple[float, Array]

#: For losses that do not look at it.
NO_TARGET = torch.zeros(0, dtype=torch.long)

#: Kinds of random logits: ordinary, confident, extreme, and close ones far from zero.
KINDS = ('ordinary', 'confident', 'extreme', 'distant')


def draw(kind: str, seed: int, rows: int = 6, classes: int = 5) -> Array:
    """Return float32 logits of one kind."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, classes))
    match kind:
        case 'ordinary':
            logits *= 2
        case 'confident':
            logits *= 30
        case 'extreme':
            logits = rng.choice([-1e4, 0, 1e4], size=(rows, classes)) + logits
        case 'distant':
            logits += rng.choice([-1e4, 1e4], size=(rows, 1))
    return logits.astype(np.float32)


def check(
    loss: Callable[[Tensor, Tensor], Tensor], s: Array, t: Array, expected: Result
) -> None:
    """Compare a loss of float32 tensors with a reference of float64 arrays."""
    student = torch.from_numpy(s).requires_grad_()
    teacher = torch.from_numpy(t).requires_grad_()
    found = loss(student, teacher)
    gradient, none = torch.autograd.grad(found, (student, teacher), allow_unused=True)
    assert found.dtype == gradient.dtype == torch.float32
    assert none is None
    value, slope = expected
    assert np.isfinite(value)
    scale = max(1.0, float(np.abs(slope).max()))
    np.testing.assert_allclose(found.detach().numpy(), value, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(gradient.numpy(), slope, rtol=1e-4, atol=1e-5 * scale)


def log_softmax(x: Array) -> Array:
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def through_softmax(p: Array, slope: Array, temperature: float) -> Array:
    """Turn the gradient of probabilities into that of logits."""
    return p * (slope - (p * slope).sum(axis=1, keepdims=True)) / temperature


def kd(s: Array, t: Array, temperature: float) -> Result:
    s, t = s.astype(np.float64), t.astype(np.float64)
    log_q, log_p = log_softmax(s / temperature), log_softmax(t / temperature)
    q, p = np.exp(log_q), np.exp(log_p)
    value = temperature**2 * (p * (log_p - log_q)).sum() / len(s)
    return value, temperature * (q - p) / len(s)


def dkd(
    s: Array, t: Array, y: Array, alpha: float, beta: float, temperature: float
) -> Result:
    s, t = s.astype(np.float64), t.astype(np.float64)
    value, slope = 0.0, np.zeros_like(s)
    for i, own in enumerate(y):
        others = np.arange(s.shape[1]) != own
        rest_s, rest_t = s[i, others] / temperature, t[i, others] / temperature
        log_q = log_softmax(rest_s[None])[0]
        log_p = log_softmax(rest_t[None])[0]
        q, p = np.exp(log_q), np.exp(log_p)
        margin_s = s[i, own] / temperature - np.logaddexp.reduce(rest_s)
        margin_t = t[i, own] / temperature - np.logaddexp.reduce(rest_t)
        b_s, b_t = np.exp(-np.logaddexp(0, [-margin_s, -margin_t]))
        not_t = np.exp(-np.logaddexp(0, margin_t))
        tckd = b_t * (np.logaddexp(0, -margin_s) - np.logaddexp(0, -margin_t))
        tckd += not_t * (np.logaddexp(0, margin_s) - np.logaddexp(0, margin_t))
        nckd = (p * (log_p - log_q)).sum()
        value += temperature**2 * (alpha * tckd + beta * nckd) / len(s)
        slope[i, own] = alpha * (b_s - b_t)
        slope[i, others] = beta * (q - p) - alpha * (b_s - b_t) * q
    return value, temperature * slope / len(s)


def class_consistency(s: Array, t: Array, temperature: float) -> Result:
    s, t = s.astype(np.float64), t.astype(np.float64)
    q, p = (np.exp(log_softmax(x / temperature)) for x in (s, t))
    difference = np.einsum('ia,ib->ab', q, q) - np.einsum('ia,ib->ab', p, p)
    classes = s.shape[1]
    slope = 4 * q @ difference / classes
    return (difference**2).sum() / classes, through_softmax(q, slope, temperature)


def batch_consistency(s: Array, t: Array, temperature: float) -> Result:
    s, t = s.astype(np.float64), t.astype(np.float64)
    q, p = (np.exp(log_softmax(x / temperature)) for x in (s, t))
    difference = np.einsum('ia,ja->ij', q, q) - np.einsum('ia,ja->ij', p, p)
    slope = 4 * difference @ q / len(s)
    return (difference**2).sum() / len(s), through_softmax(q, slope, temperature)


def swapped_kd(s: Array, t: Array, temperature: float) -> Result:
    s, t = s.astype(np.float64), t.astype(np.float64)
    log_q, log_p = log_softmax(s / temperature), log_softmax(t / temperature)
    q, p = np.exp(log_q), np.exp(log_p)
    slope = (log_q - p + 1) / s.size
    return (q * (log_q - p)).sum() / s.size, through_softmax(q, slope, temperature)


def standardize(x: Array) -> Array:
    x = x.astype(np.float64)
    return (x - x.mean(1, keepdims=True)) / (x.std(1, ddof=1, keepdims=True) + 1e-7)


def through_standardize(x: Array, slope: Array) -> Array:
    """Turn the gradient of standardised logits into that of logits."""
    x = x.astype(np.float64)
    centered = x - x.mean(axis=1, keepdims=True)
    std = x.std(axis=1, ddof=1, keepdims=True)
    along = (slope * centered).sum(axis=1, keepdims=True)
    direct = (slope - slope.mean(axis=1, keepdims=True)) / (std + 1e-7)
    return direct - centered * along / ((x.shape[1] - 1) * std * (std + 1e-7) ** 2)


def weighted(*terms: tuple[float, Result]) -> Result:
    """Sum (weight, (value, gradient)) pairs."""
    value = sum(weight * result[0] for weight, result in terms)
    return value, np.sum([weight * result[1] for weight, result in terms], axis=0)


def curriculum(raw: float, **options: Any) -> CTKD:
    """Return CTKD in double precision, with another initial temperature."""
    loss = CTKD(**options).double()
    with torch.no_grad():
        loss.raw.fill_(raw)
    return loss

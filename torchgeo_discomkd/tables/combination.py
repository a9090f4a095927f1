# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Combine the probabilities of several classifiers of one tile."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ClassifierFileError, LabelError
from ..files import CHECKSUM, write_atomically
from ..metadata import ClassifierMetadata, Name, limits

#: Name of the file of weights, next to the classifier files of a run.
FILE = 'combination.json'

#: Version of the layout of the file.
FORMAT_VERSION = 1

#: Standard deviation of a weight, before any sample is seen.
PRIOR = 0.5

#: Largest weight.
MOST = 10

#: Smaller probabilities count as this: no classifier alone rules out a class.
LEAST = 1e-12

#: What reading a damaged file may raise.
UNREADABLE = (AttributeError, KeyError, RecursionError, TypeError, ValueError)

#: A weight.
type Weight = Annotated[float, limits(ge=0, le=MOST)]


def pool(probabilities: ArrayLike, weights: Sequence[float]) -> NDArray[np.float64]:
    """Combine probabilities by the weighted logarithmic opinion pool.

    The result is proportional to the product of the probabilities, each to the power of
    the weight of its classifier. Weights of sum 1 give a geometric mean; a larger sum
    means that the classifiers, which do not see the same image, confirm each other.

    Source: Genest and Zidek, Combining Probability Distributions: A Critique and an
    Annotated Bibliography, Statistical Science 1(1), 1986.

    Args:
        probabilities: One row of K probabilities for each of M classifiers, shape
            (M, ..., K), each row with sum 1.
        weights: M weights, 0 or more.

    Returns:
        Probabilities, float64, shape (..., K), each row with sum 1.

    Example:
        >>> from torchgeo_discomkd.tables import pool
        >>> pool([[0.8, 0.2], [0.5, 0.5]], weights=[1, 1]).round(2).tolist()
        [0.8, 0.2]
        >>> pool([[0.8, 0.2], [0.8, 0.2]], weights=[1, 1]).round(2).tolist()
        [0.94, 0.06]
    """
    logs = np.tensordot(np.asarray(weights, float), _logs(probabilities), axes=1)
    powers = np.exp(logs - logs.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def fit_weights(probabilities: ArrayLike, labels: ArrayLike) -> list[float]:
    """Find the weights of :func:`pool` that make the labels most probable.

    They minimise the negative log-likelihood of all samples under the prior that each
    weight is normal with mean 1/M and standard deviation 0.5. The problem is convex.

    Args:
        probabilities: Calibrated probabilities of M classifiers, shape (M, N, K).
        labels: Class of each sample, int, shape (N,), from 0 to K - 1.

    Returns:
        M weights in [0, 10]; 1/M each if there is no sample.

    Raises:
        LabelError: If the shapes do not match or a label is out of range.

    Example:
        >>> from torchgeo_discomkd.tables import fit_weights
        >>> right, guess = [[0.8, 0.2], [0.2, 0.8]] * 50, [[0.8, 0.2]] * 100
        >>> [round(w, 1) for w in fit_weights([right, guess], [0, 1] * 50)]
        [2.2, 0.2]
    """
    # imported here: classification does not fit weights
    from scipy.optimize import minimize

    logs, y = _logs(probabilities), np.asarray(labels)
    if logs.ndim != 3 or y.shape != logs.shape[1:2]:
        raise LabelError(
            f'probabilities of shape {logs.shape} and labels of shape {y.shape}: give '
            '(M, N, K) and (N,).'
        )
    equal = np.full(len(logs), 1 / len(logs))
    if not len(y):
        return equal.tolist()
    if not 0 <= y.min() <= y.max() < logs.shape[2]:
        raise LabelError(
            f'labels from {y.min()} to {y.max()}: give 0 to {logs.shape[2] - 1}.'
        )
    own = np.take_along_axis(logs, y[None, :, None], axis=2)[..., 0]

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scores = np.tensordot(weights, logs, axes=1)
        top = scores.max(axis=1)
        sums = top + np.log(np.exp(scores - top[:, None]).sum(axis=1))
        shares = np.exp(scores - sums[:, None])
        away = (weights - equal) / PRIOR
        value = (sums - weights @ own).sum() + 0.5 * away @ away
        gradient = np.einsum('nk,mnk->m', shares, logs) - own.sum(axis=1)
        return value, gradient + away / PRIOR

    result = minimize(
        loss, equal, jac=True, method='L-BFGS-B', bounds=[(0, MOST)] * len(logs)
    )
    return result.x.tolist()


def _logs(probabilities: ArrayLike) -> NDArray[np.float64]:
    return np.log(np.maximum(np.asarray(probabilities, float), LEAST))


@dataclass(frozen=True)
class _Entry:
    modalities: tuple[Name, ...]
    weights: tuple[Weight, ...]


@dataclass(frozen=True)
class Combination:
    """How much each classifier counts where several have classified a tile.

    Attributes:
        weights: Weights of :func:`pool` for sets of modalities, in the order of their
            names. For a set that is not there, all weights are one over their number.

    Example:
        >>> from torchgeo_discomkd.tables import Combination
        >>> both = {'ms': [0.9, 0.1], 'sar': [0.5, 0.5]}
        >>> [round(p, 2) for p in Combination().pool(both)]
        [0.75, 0.25]
        >>> fitted = Combination({('ms', 'sar'): (1.0, 0.5)})
        >>> [round(p, 2) for p in fitted.pool(both)]
        [0.9, 0.1]
        >>> fitted.pool({'sar': [0.6, 0.4]})  # a single one stays as it is
        (0.6, 0.4)
    """

    weights: Mapping[tuple[str, ...], tuple[float, ...]] = field(default_factory=dict)

    @classmethod
    def fit(cls, probabilities: Mapping[str, ArrayLike], labels: ArrayLike) -> Self:
        """Fit the weights of every set of two modalities or more.

        Args:
            probabilities: Calibrated probabilities of the same samples by modality,
                shape (N, K).
            labels: Their classes, shape (N,).

        Returns:
            The combination.

        Raises:
            LabelError: If the shapes do not match or a label is out of range.
        """
        names = sorted(probabilities)
        return cls(
            {
                some: tuple(fit_weights([probabilities[m] for m in some], labels))
                for size in range(2, len(names) + 1)
                for some in combinations(names, size)
            }
        )

    def pool(self, probabilities: Mapping[str, Sequence[float]]) -> tuple[float, ...]:
        """Combine the probabilities of one tile.

        Args:
            probabilities: K probabilities by modality, at least one.

        Returns:
            K probabilities; those of a single modality as they are.
        """
        names = tuple(sorted(probabilities))
        if len(names) == 1:
            return tuple(probabilities[names[0]])
        weights = self.weights.get(names, (1 / len(names),) * len(names))
        return tuple(pool([probabilities[m] for m in names], weights).tolist())

    def __str__(self) -> str:
        """Return all weights in one line."""
        sets = (
            ' '.join(f'{m} {w:.3g}' for m, w in zip(names, weights, strict=True))
            for names, weights in self.weights.items()
        )
        return ', '.join(sets) or 'equal weights'

    def write(self, path: Path, classifiers: Mapping[str, ClassifierMetadata]) -> None:
        """Write the weights to a file.

        Args:
            path: The file, :data:`FILE` next to the classifier files.
            classifiers: Metadata of the classifiers that the weights are for, by
                modality.

        Raises:
            OSError: If the file cannot be written.
        """
        content: dict[str, Any] = {
            'format_version': FORMAT_VERSION,
            'classifiers': {m: _digest(d) for m, d in classifiers.items()},
            'combinations': [
                {'modalities': names, 'weights': weights}
                for names, weights in self.weights.items()
            ],
        }
        content[CHECKSUM] = _checksum(content)
        write_atomically(path, (json.dumps(content, indent=2) + '\n').encode())

    @classmethod
    def read(
        cls, path: Path, classifiers: Mapping[str, ClassifierMetadata]
    ) -> Self | None:
        """Read what :meth:`write` wrote.

        Args:
            path: The file.
            classifiers: Metadata of the classifiers to combine, by modality.

        Returns:
            The combination; None if there is no such file, or it is for others.

        Raises:
            ClassifierFileError: If the file is damaged or from a later version.
        """
        # takes 20 ms: only when a file is read
        import msgspec

        if not path.is_file():
            return None
        try:
            content = json.loads(path.read_bytes())
            if content['format_version'] != FORMAT_VERSION:
                raise ValueError(f'format version {content["format_version"]}')
            if content.pop(CHECKSUM) != _checksum(content):
                raise ValueError('its checksum does not match its content')
            noted = msgspec.convert(content['classifiers'], dict[str, str])
            entries = msgspec.convert(content['combinations'], list[_Entry])
            weights = {e.modalities: e.weights for e in entries}
            if any(len(names) != len(values) for names, values in weights.items()):
                raise ValueError('other numbers of weights than of modalities')
        except UNREADABLE as error:
            raise ClassifierFileError(
                f'{path} is no file of weights that this version reads ({error}): '
                'remove it, and the classifiers have equal weights.'
            ) from error
        same = all(noted.get(m) == _digest(d) for m, d in classifiers.items())
        return cls(weights) if same else None


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _digest(metadata: ClassifierMetadata) -> str:
    """Return what tells the classifiers of two epochs or runs apart."""
    return hashlib.sha256(metadata.to_json().encode()).hexdigest()

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Temperature scaling: a probability of 0.8 should be right 8 times out of 10."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import exp, log
from pathlib import Path

import torch
from torch import Tensor

from ..errors import LabelError
from ..metadata import ClassifierMetadata
from .classifier_file import load_metadata
from .tensor_file import read_tensors, write_tensors

#: Bounds of the search for a temperature.
BOUNDS = (0.01, 100.0)

#: Standard deviation of the logarithm of temperatures, before any sample is seen.
PRIOR = 0.5

# Fine enough for one minimum between two neighbours: 5 % apart.
_STEPS = 185


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Find the divisor of the logits that makes the labels most probable.

    It minimises the negative log-likelihood of all samples, in float64, under the prior
    that the logarithm of the temperature is normal with mean 0 and standard deviation
    0.5. Hundreds of samples outweigh the prior. With a dozen, or where all are right
    and any lower temperature would be likelier still, it prevents extreme temperatures.
    The likelihood is never worse than with a temperature of 1. Labels by argmax do not
    change.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017
    (https://arxiv.org/abs/1706.04599), without a prior.

    Args:
        logits: Logits before calibration, shape (N, K); samples with a logit that is
            not finite are ignored.
        labels: int64 (N,), from 0 to K - 1; or, with several labels in a sample, (N, K)
            of 0 and 1, -1 for what is not known, whose probabilities are sigmoids.

    Returns:
        The temperature, in [0.01, 100]; 1 if there is no sample or nothing to choose.

    Raises:
        LabelError: If the shapes do not match or a label is out of range.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.models import fit_temperature
        >>> logits = torch.tensor([[4.0, 0.0], [0.0, 4.0]]).repeat(50, 1)
        >>> labels = torch.tensor([0, 1]).repeat(50)
        >>> labels[:20] = 0  # 10 of 100 are wrong, but every probability is 0.98
        >>> round(fit_temperature(logits, labels), 2)
        1.73
    """
    several = labels.ndim == 2
    if logits.ndim != 2 or labels.shape != logits.shape[: labels.ndim]:
        raise LabelError(
            f'logits of shape {tuple(logits.shape)} and labels of shape '
            f'{tuple(labels.shape)}: give (N, K) and (N,), or (N, K) with several '
            'labels.'
        )
    finite = logits.isfinite().all(dim=1).cpu()
    z = logits.detach().cpu()[finite].double()
    y = labels.cpu()[finite].long()
    if several:
        # every label is one of two classes, of the logits 0 and z
        known = y != -1
        z, y = z[known], y[known]
        z = torch.stack([torch.zeros_like(z), z], dim=1)
    if not len(y):
        return 1.0
    if not 0 <= int(y.min()) <= int(y.max()) < z.shape[1]:
        raise LabelError(
            f'labels from {int(y.min())} to {int(y.max())}: give 0 to {z.shape[1] - 1}.'
        )
    # the margin of each class over the label: nothing cancels in the sums below
    z = z - z.gather(1, y[:, None])

    def loss(log_temperature: float) -> float:
        likelihood = (z * exp(-log_temperature)).logsumexp(dim=1).sum()
        return float(likelihood) + 0.5 * (log_temperature / PRIOR) ** 2

    return exp(_minimize(loss, log(BOUNDS[0]), log(BOUNDS[1])))


def _minimize(loss: Callable[[float], float], low: float, high: float) -> float:
    """Return where a loss is least, even if it has several minima."""
    # imported here, so that reading a classifier file does not wait for it
    from scipy.optimize import minimize_scalar

    step = (high - low) / (_STEPS - 1)
    best = min((low + step * i for i in range(_STEPS)), key=loss)
    bracket = (max(low, best - step), min(high, best + step))
    result = minimize_scalar(
        loss, bounds=bracket, method='bounded', options={'xatol': 1e-9}
    )
    return min((best, float(result.x)), key=loss)


def store_temperature(
    path: str | Path,
    temperature: float,
    scores: Mapping[str, float],
    thresholds: Sequence[float] | None = None,
) -> ClassifierMetadata:
    """Write a temperature and scores into a classifier file, and thresholds of labels.

    The tensors stay the same, bit for bit. The file is never left half-written.

    Args:
        path: The file.
        temperature: Divisor of the logits; it replaces the one in the file.
        scores: Scores to add to those in the file.
        thresholds: Of a file with several labels, the probability above which a sample
            has each label; they replace those in the file.

    Returns:
        The new metadata.

    Raises:
        ClassifierFileError: If it is not a classifier file, *temperature* is not
            positive, or there is not one threshold from 0 to 1 for each label.
        OSError: If the file cannot be written.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from torchgeo_discomkd.models import store_temperature
        >>> from torchgeo_discomkd.tasks import FusionClassification
        >>> task = FusionClassification({'sar': 2}, num_classes=3, model='test_resnet')
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / 'sar.safetensors'
        ...     task.save_classifier('sar', path, scores={}, epoch=0)
        ...     metadata = store_temperature(path, 1.5, {'val_CalibrationError': 0.1})
        >>> metadata.temperature, metadata.scores
        (1.5, {'val_CalibrationError': 0.1})
    """
    old = load_metadata(path)
    new = replace(
        old,
        temperature=temperature,
        scores={**old.scores, **scores},
        thresholds=None if thresholds is None else tuple(thresholds),
    )
    if new != old:
        write_tensors(path, read_tensors(path), new)
    return new

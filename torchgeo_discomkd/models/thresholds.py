# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""From which probability on a sample has a label, if it may have several."""

import torch
from torch import Tensor


def choose_thresholds(probabilities: Tensor, labels: Tensor) -> tuple[float, ...]:
    """Find the threshold of each label that gives the highest F1.

    A threshold lies halfway between two neighbouring probabilities; of several that are
    equally good it is the one nearest to 0.5. On few samples it fits them by chance.

    Args:
        probabilities: Shape (N, C), finite.
        labels: int64 (N, C) of 0 and 1, -1 for what is not known.

    Returns:
        One threshold for each label, from 0 to 1, to three digits where that makes no
        difference; 0.5 for a label that no sample, or every one, has.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.models import choose_thresholds
        >>> probabilities = torch.tensor([[0.1, 0.2], [0.3, 0.9], [0.4, 0.6]])
        >>> labels = torch.tensor([[0, 0], [1, 0], [1, 0]])
        >>> choose_thresholds(probabilities, labels)
        (0.2, 0.5)
    """
    found = []
    for p, y in zip(probabilities.double().cpu().T, labels.cpu().T, strict=True):
        found.append(_best(p[y != -1], y[y != -1]))
    return tuple(found)


def _best(p: Tensor, y: Tensor) -> float:
    positives = int(y.sum())
    if not 0 < positives < len(y):
        return 0.5
    order = p.argsort(descending=True)
    p, hits = p[order], y[order].cumsum(0)
    # the first k samples are taken for positive, if the next one is less probable
    taken = torch.arange(1, len(p) + 1)
    below = torch.cat([p[1:], p.new_zeros(1)])
    f1 = 2 * hits / (taken + positives)
    # in float32, as probabilities are when they are compared
    middle = ((p + below) / 2).float()
    allowed = (p.float() > middle) & (below.float() <= middle)
    if not allowed.any():
        return 0.5
    f1, middle, p, below = (x[allowed] for x in (f1, middle.double(), p, below))
    best = f1 == f1.max()
    if ((below <= 0.5) & (p > 0.5) & best).any():
        return 0.5
    middle, p, below = middle[best], p[best], below[best]
    nearest = int((middle - 0.5).abs().argmin())
    value = float(middle[nearest])
    rounded = round(value, 3)
    return rounded if below[nearest] < rounded < p[nearest] else value

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Fit how much the classifiers of several modalities count together."""

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..metadata import ClassifierMetadata
from ..models.modalities import is_comparison
from ..tables import Combination
from ..tables.combination import FILE

logger = logging.getLogger(__name__)


def write_combination(
    folder: Path,
    found: Mapping[str, tuple[Tensor, Tensor]],
    described: Mapping[str, ClassifierMetadata],
) -> None:
    """Fit and write the weights of classifiers of one modality each.

    Nothing is written for fewer than two, or if they have not classified the same
    samples. Weights of an earlier run are removed then.

    Args:
        folder: Folder of the classifier files.
        found: Logits before calibration, shape (N, K), and labels, int64 (N,), by name
            of classifier; samples with a logit that is not finite are ignored.
        described: Metadata of the calibrated classifiers by name.
    """
    path = folder / FILE
    path.unlink(missing_ok=True)
    # the rule weighs the probabilities of classes that exclude each other
    names = [
        n
        for n in found
        if n in described[n].modalities
        and not is_comparison(n)
        and described[n].task != 'multilabel'
    ]
    if len(names) < 2:
        return
    labels = [found[name][1] for name in names]
    if any(not torch.equal(labels[0], other) for other in labels[1:]):
        logger.info('%s are not combined: other samples of each.', ', '.join(names))
        return
    logits = torch.stack([found[name][0].double() for name in names])
    finite = logits.isfinite().all(dim=2).all(dim=0)
    probabilities = {
        name: (own[finite] / described[name].temperature).softmax(dim=1).numpy()
        for name, own in zip(names, logits, strict=True)
    }
    combination = Combination.fit(probabilities, labels[0][finite].numpy())
    combination.write(path, {name: described[name] for name in names})

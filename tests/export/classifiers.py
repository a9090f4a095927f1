# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Writers of small classifier files, for the tests of exporting and predicting."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from torchgeo_discomkd.models import (
    ClassifierMetadata,
    DisentangledClassifier,
    FusionClassifier,
    ImageProfile,
    ModalityMetadata,
    save_classifier,
)

CLASSES = ('Forest', 'Forêt', 'Water')
MEAN, STD = (-11.0, -18.0), (4.0, 5.0)
SAR = ModalityMetadata(2, ('VV', 'VH'), 'dB', (32, 32))
#: The same after a training on tiles of 10 m around these values.
PROFILED = replace(
    SAR,
    profile=ImageProfile(
        quantiles=(
            (-26.0, -18.0, -16.0, -13.0, -11.0, -9.0, -6.0, -4.0, 4.0),
            (-33.0, -25.0, -23.0, -20.0, -18.0, -16.0, -13.0, -11.0, -3.0),
        ),
        means=((-14.0, -8.0), (-21.0, -15.0)),
        stds=((2.0, 5.0), (2.0, 5.0)),
        tiles=100,
        pixel_size=10.0,
        crs_kind='projected',
    ),
)
MS = ModalityMetadata(1, ('B04',), '', (32, 32))


def metadata(**changes: Any) -> ClassifierMetadata:
    """Return metadata of a SAR classifier of DisCoM-KD, with *changes*."""
    values: dict[str, Any] = {
        'kind': 'disentangled',
        'model': 'test_resnet',
        'classes': CLASSES,
        'modalities': {'sar': SAR},
        'head': 'linear_bn_relu',
        'normalization': 'standardize',
        'temperature': 1.7,
        'scores': {'val_F1Score': 0.75},
        'epoch': 3,
        'data_fingerprint': '0123456789abcdef',
        'split_hash': 'fedcba9876543210',
        'seed': 0,
        'version': '0.1.0',
    }
    return ClassifierMetadata(**(values | changes))


def write_classifier(
    path: Path,
    seed: int = 0,
    normalization: str = 'standardize',
    image_size: Sequence[int] = (32, 32),
    **changes: Any,
) -> Path:
    """Write a classifier file whose batch normalisation has seen some images."""
    described = metadata(normalization=normalization, **changes)
    channels = {m: v.in_channels for m, v in described.modalities.items()}
    number, auxiliary = len(described.classes), None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if described.kind == 'fusion':
            classifier: Any = FusionClassifier(channels, number, described.model)
            normalizations = classifier.normalizations
        else:
            (bands,) = channels.values()
            classifier = DisentangledClassifier(bands, number, described.model)
            normalizations = {next(iter(channels)): classifier.normalization}
            auxiliary = nn.Linear(classifier.encoder.embedding_size, number)
        for modality, count in channels.items():
            low, high = [-20.0] * count, [-5.0] * count
            normalizations[modality].fit(
                MEAN[:count], STD[:count], low, high, normalization
            )
        images = {
            m: torch.from_numpy(sar(8, seed, c, image_size))
            for m, c in channels.items()
        }
        with torch.no_grad():
            if described.kind == 'fusion':
                classifier(images)
            else:
                classifier(*images.values())
            # far from uniform, so that a wrong temperature cannot hide
            classifier.classifier.weight.mul_(8)
    save_classifier(path, classifier, described, auxiliary)
    return path


def sar(
    count: int, seed: int = 1, bands: int = 2, size: Sequence[int] = (32, 32)
) -> NDArray[np.float32]:
    """Return backscatter in dB, shape (count, bands, *size)."""
    rng = np.random.default_rng(seed)
    mean = np.array(MEAN[:bands]).reshape(-1, 1, 1)
    images = rng.normal(mean, 5, (count, bands, *size))
    # images differ by more than noise, and so do their probabilities
    return (images + rng.normal(0, 6, (count, bands, 1, 1))).astype(np.float32)

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Tiles on disk and classifiers for the tests of tables."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from torchgeo_discomkd.classify.predictor import Predictor
from torchgeo_discomkd.models import (
    ClassifierMetadata,
    DisentangledClassifier,
    ModalityMetadata,
    save_classifier,
)

CLASSES = ('Water', 'Land')


def make_metadata(
    unit: str = 'dB', size: tuple[int, int] | None = (8, 8)
) -> ClassifierMetadata:
    """Return the metadata of a classifier of VV and VH."""
    return ClassifierMetadata(
        kind='disentangled',
        model='test_resnet',
        classes=CLASSES,
        modalities={'sar': ModalityMetadata(2, ('VV', 'VH'), unit, size)},
        head='linear_bn_relu',
        normalization='standardize',
        temperature=1.0,
        scores={},
        epoch=0,
        data_fingerprint='',
        split_hash='',
        seed=0,
        version='0',
    )


def by_vv(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probability of land: the logistic function of mean VV above -15 dB."""
    assert images.dtype == np.float32
    mean = np.nanmean(images[:, 0].astype(np.float64), axis=(1, 2))
    land = 1 / (1 + np.exp(-(mean + 15)))
    return np.stack([1 - land, land], axis=1).astype(np.float32)


def make_predictor(
    metadata: ClassifierMetadata | None = None, description: str = 'by VV'
) -> Predictor:
    """Return a classifier that follows :func:`by_vv`."""
    metadata = metadata or make_metadata()
    return Predictor(metadata, 'sar', description, None, 'cpu', by_vv)


def write_model(path: Path, metadata: ClassifierMetadata | None = None) -> Path:
    """Write a classifier file with random weights."""
    torch.manual_seed(0)
    metadata = metadata or make_metadata()
    classifier = DisentangledClassifier(2, 2, 'test_resnet', 'linear_bn_relu')
    statistics = [-12.0, -19.0], [3.0, 3.0], [-20.0, -27.0], [-5.0, -12.0]
    classifier.normalization.fit(*statistics)
    save_classifier(path, classifier.eval(), metadata)
    return path


def db(
    mean: float, size: int | tuple[int, int] = 8, seed: int = 0
) -> NDArray[np.float32]:
    """Return a tile of VV around *mean* dB and VH 7 dB lower."""
    height, width = (size, size) if isinstance(size, int) else size
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 0.5, (2, height, width))
    noise -= noise.mean(axis=(1, 2), keepdims=True)
    return (np.array([mean, mean - 7])[:, None, None] + noise).astype(np.float32)


def write_tiles(folder: Path, count: int, suffix: str = '.tif') -> list[float]:
    """Write tiles 00000, 00001, ...; return the mean VV of each."""
    # it imports TorchGeo, which the processes that use this module do without
    from tests.fakes import write_tile

    means = np.linspace(-22, -8, count).round(3).tolist()
    for i, mean in enumerate(means):
        crs = 'EPSG:32631' if i % 2 else 'EPSG:32632'
        write_tile(folder / f'{i:05d}{suffix}', db(mean, seed=i), crs=crs)
    return means

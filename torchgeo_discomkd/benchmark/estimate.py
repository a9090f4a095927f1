# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""How long a benchmark will take."""

from time import perf_counter
from typing import cast

import torch
from torch.nn.functional import cross_entropy
from torch.optim import Adam
from torchgeo.datasets import DatasetNotFoundError

from ..datasets import MultiModalDataset
from ..errors import LayoutError
from ..models import FusionClassifier
from ..performance.precision import fast_precision
from .config import BenchmarkConfig
from .data import open_data
from .plan import Training

#: Training samples that are read, and steps that are taken, to measure the speed.
SAMPLES = 32
STEPS = 3


def estimate_seconds(
    config: BenchmarkConfig, trainings: list[Training]
) -> float | None:
    """Estimate the time of trainings from a few steps of one encoder on the CPU.

    Args:
        config: The configuration.
        trainings: The trainings.

    Returns:
        Seconds, without validation and start; None if the data are not at hand.
    """
    try:
        datamodule = open_data(config, download=False)
    except (LayoutError, DatasetNotFoundError):
        return None
    dataset = cast(MultiModalDataset, datamodule.train_dataset)
    batch = [dataset[i % len(dataset)] for i in range(SAMPLES)]
    started = perf_counter()
    for i in range(SAMPLES):
        dataset[i % len(dataset)]
    reading = (perf_counter() - started) / SAMPLES / len(config.modalities)
    modality = config.modalities[0]
    images = torch.stack([sample[f'image_{modality}'] for sample in batch])
    labels = torch.stack([sample['label'] for sample in batch])
    computing = _seconds_per_sample(config, modality, images, labels) / 3
    per_epoch = sum(
        t.work * computing + len(t.data_args['modalities']) * reading for t in trainings
    )
    epochs = config.trainer.get('max_epochs') or 1000
    return per_epoch * len(dataset) * epochs


def _seconds_per_sample(
    config: BenchmarkConfig, modality: str, images: torch.Tensor, labels: torch.Tensor
) -> float:
    channels = {modality: config.in_channels[modality]}
    with torch.random.fork_rng(devices=[]):
        network = FusionClassifier(channels, config.num_classes, config.model)
    optimizer = Adam(network.parameters(), fused=True)
    precision = str(config.trainer.get('precision', ''))
    if precision == 'auto':
        precision = fast_precision(torch.device('cpu')).name
    half = 'bf16' in precision
    started = 0.0
    for step in range(STEPS + 1):
        if step == 1:  # the first step prepares
            started = perf_counter()
        with torch.autocast('cpu', torch.bfloat16, enabled=half):
            loss = cross_entropy(network({modality: images}), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (perf_counter() - started) / (STEPS * len(images))

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""DisCoM-KD in plain PyTorch: what the training step of this package is held against.

It computes what the authors' released code computes, the way that code does: eager,
float32, torchvision's ResNet-18, transforms sample by sample, PyTorch's default Adam.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torchvision.transforms.functional as TF
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy
from torch.optim import Adam
from torchvision.models import resnet18

#: Size of each embedding.
SIZE = 256


class ReversedGradient(torch.autograd.Function):
    """Pass values on unchanged and gradients back with the opposite sign."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return -gradients[0]


def plain_encoder(channels: int) -> nn.Module:
    """Return a ResNet-18 without its last layer: (B, C, H, W) to (B, 512)."""
    encoder = resnet18(weights=None)
    encoder.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    encoder.fc = nn.Identity()
    return encoder


class PlainModality(nn.Module):
    """Two encoders, projection head and task classifier of one modality."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.invariant = plain_encoder(channels)
        self.specific = plain_encoder(channels)
        self.projection = nn.Sequential(
            nn.Linear(2 * SIZE, SIZE), nn.BatchNorm1d(SIZE), nn.ReLU()
        )
        self.classifier = nn.Linear(2 * SIZE, num_classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the three embeddings (B, 256) and the logits (B, classes)."""
        invariant = self.projection(self.invariant(x))
        informative, irrelevant = self.specific(x).split(SIZE, dim=1)
        logits = self.classifier(torch.cat([invariant, informative], dim=1))
        return invariant, informative, irrelevant, logits


class PlainDisCoMKD(nn.Module):
    """The whole training network and its loss, Eq. 7 of the paper."""

    def __init__(self, in_channels: Mapping[str, int], num_classes: int) -> None:
        super().__init__()
        self.modalities = nn.ModuleDict(
            {m: PlainModality(c, num_classes) for m, c in in_channels.items()}
        )
        self.discriminator = nn.Linear(SIZE, len(in_channels))
        self.informative = nn.Linear(SIZE, len(in_channels))
        self.irrelevant = nn.Linear(SIZE, len(in_channels))
        self.auxiliary = nn.Linear(SIZE, num_classes)

    def forward(self, images: dict[str, Tensor], labels: dict[str, Tensor]) -> Tensor:
        """Return the loss of a batch: images (B, C, H, W) and int64 labels (B,)."""
        loss = torch.zeros((), device=self.auxiliary.weight.device)
        for index, (name, network) in enumerate(self.modalities.items()):
            y = labels[name]
            modality = torch.full_like(y, index)
            invariant, informative, irrelevant, logits = network(images[name])
            adversarial = self.discriminator(ReversedGradient.apply(invariant))
            loss = loss + cross_entropy(logits, y)
            loss = loss + cross_entropy(adversarial, modality)
            loss = loss + cross_entropy(self.informative(informative), modality)
            loss = loss + cross_entropy(self.irrelevant(irrelevant), modality)
            loss = loss + cross_entropy(self.auxiliary(invariant), y)
            loss = loss + cross_entropy(self.auxiliary(informative), y)
            loss = loss + cosine_similarity(invariant, informative).mean()
            loss = loss + cosine_similarity(informative, irrelevant).mean()
        return loss


def plain_augmentation(image: Tensor) -> Tensor:
    """Flip and turn one image (C, H, W) or, half of the time, leave it alone."""
    if torch.rand(1) < 0.5:
        return image
    if torch.rand(1) < 0.5:
        image = TF.hflip(image)
    if torch.rand(1) < 0.5:
        image = TF.vflip(image)
    if torch.rand(1) < 0.5:
        image = TF.rotate(image, 90 * int(torch.randint(4, ())))
    return image


class PlainTraining:
    """Network and optimizer, and the step that they take together."""

    def __init__(
        self, in_channels: Mapping[str, int], num_classes: int, device: torch.device
    ) -> None:
        self.network = PlainDisCoMKD(in_channels, num_classes).to(device).train()
        self.optimizer = Adam(self.network.parameters(), lr=1e-4)

    def step(self, images: dict[str, Tensor], labels: dict[str, Tensor]) -> None:
        """Augment a batch sample by sample and take one step of the optimizer."""
        augmented = {
            name: torch.stack([plain_augmentation(image) for image in batch])
            for name, batch in images.items()
        }
        self.optimizer.zero_grad()
        self.network(augmented, labels).backward()
        self.optimizer.step()

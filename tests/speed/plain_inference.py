# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""What a user would write: the yardstick of :mod:`tests.speed.inference`."""

import torch
from torch import Tensor, nn
from torchvision.models import resnet18


class PlainClassifier(nn.Module):
    """Two ResNet-18 on one image, their features side by side, one linear layer."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.first = self._encoder(in_channels)
        self.second = self._encoder(in_channels)
        self.classifier = nn.Linear(2 * 512, num_classes)

    @staticmethod
    def _encoder(in_channels: int) -> nn.Module:
        encoder = resnet18()
        encoder.conv1 = nn.Conv2d(in_channels, 64, 7, 2, 3, bias=False)
        encoder.fc = nn.Identity()
        return encoder

    def forward(self, images: Tensor) -> Tensor:
        images = (images + 12) / 5
        return self.classifier(
            torch.cat([self.first(images), self.second(images)], dim=1)
        )

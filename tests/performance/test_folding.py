# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torchgeo_discomkd.models import DisentangledClassifier, FusionClassifier
from torchgeo_discomkd.performance.folding import fold_batch_norms


def norms(module: nn.Module) -> list[nn.Module]:
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d)
    return [child for child in module.modules() if isinstance(child, kinds)]


def trained(classifier: nn.Module, images: Any) -> Any:
    """Give each batch normalisation numbers of its own."""
    with torch.no_grad():
        classifier(images)
        for norm in norms(classifier):
            norm.weight.uniform_(0.5, 2)  # ty: ignore[not-callable]
            norm.bias.normal_()  # ty: ignore[not-callable]
        return classifier.eval().requires_grad_(False)


@pytest.mark.parametrize('model', ['test_resnet', 'resnet10t', 'resnet18'])
def test_disentangled(model: str) -> None:
    torch.manual_seed(0)
    images = torch.randn(4, 2, 64, 64)
    classifier = trained(DisentangledClassifier(2, 3, model), images)
    expected = classifier(images)
    assert norms(classifier)
    fold_batch_norms(classifier, classifier.backbones)
    assert not norms(classifier)
    torch.testing.assert_close(classifier(images), expected, rtol=1e-4, atol=1e-4)


def test_fusion() -> None:
    torch.manual_seed(0)
    images: Mapping[str, Tensor] = {
        'ms': torch.randn(4, 3, 32, 32),
        'sar': torch.randn(4, 2, 32, 32),
    }
    classifier = trained(
        FusionClassifier({'ms': 3, 'sar': 2}, 3, 'test_resnet'), images
    )
    expected = classifier(images)
    fold_batch_norms(classifier, classifier.backbones)
    assert not norms(classifier)
    torch.testing.assert_close(classifier(images), expected, rtol=1e-4, atol=1e-4)


class Undecided(nn.Module):
    """Its steps depend on the values of the images."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(x) if x.mean() > 0 else self.layers(-x)
        return x.mean(dim=(2, 3))


def test_what_cannot_be_followed_stays() -> None:
    torch.manual_seed(0)
    images = torch.randn(4, 2, 32, 32)
    classifier = FusionClassifier({'sar': 2}, 3, 'test_resnet')
    classifier.encoders['sar'] = Undecided()
    classifier.classifier = nn.Linear(4, 3)
    trained(classifier, images)
    expected = classifier(images), classifier(-images)
    fold_batch_norms(classifier, classifier.backbones)
    assert len(norms(classifier)) == 1
    torch.testing.assert_close((classifier(images), classifier(-images)), expected)

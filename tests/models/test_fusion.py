# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from torchgeo_discomkd.errors import BandError, ModalityError
from torchgeo_discomkd.models import FusionClassifier, Normalization

CHANNELS = {'ms': 13, 'sar': 2}


@pytest.fixture
def images() -> dict[str, Tensor]:
    return {m: torch.randn(3, c, 32, 32) for m, c in CHANNELS.items()}


def test_sum_of_features(images: dict[str, Tensor]) -> None:
    classifier = FusionClassifier(CHANNELS, 4, 'test_resnet').eval()
    assert classifier.modalities == ('ms', 'sar')
    features = [classifier.encoders[m](x) for m, x in images.items()]
    expected = classifier.classifier(features[0] + features[1])
    assert expected.shape == (3, 4)
    torch.testing.assert_close(classifier(images), expected)
    other = dict(reversed(images.items())) | {'dem': torch.zeros(0)}
    torch.testing.assert_close(classifier(other), expected)


def test_one_modality(images: dict[str, Tensor]) -> None:
    classifier = FusionClassifier({'sar': 2}, 4, 'test_resnet').eval()
    expected = classifier.classifier(classifier.encoders['sar'](images['sar']))
    assert torch.equal(classifier(images), expected)
    assert torch.equal(classifier(images['sar']), expected)


def test_normalization_is_the_first_layer(images: dict[str, Tensor]) -> None:
    classifier = FusionClassifier({'sar': 2}, 4, 'test_resnet').eval()
    expected = classifier(images)
    normalization = classifier.normalizations['sar']
    assert isinstance(normalization, Normalization)
    normalization.fit([5, 5], [2, 2], [0, 0], [1, 1])
    torch.testing.assert_close(
        classifier(images['sar'] * 2 + 5), expected, rtol=1e-3, atol=1e-4
    )


def test_weights_by_modality(tmp_path: Any) -> None:
    state_dict = timm.create_model('test_resnet', in_chans=2).state_dict()
    torch.save(state_dict, tmp_path / 'sar.pth')
    weights = {'sar': str(tmp_path / 'sar.pth')}
    classifier = FusionClassifier(CHANNELS, 3, 'test_resnet', weights)
    for modality, encoder in classifier.encoders.items():
        assert isinstance(encoder, nn.Module)
        found = encoder.state_dict()['layer1.0.conv1.weight']
        same = torch.equal(found, state_dict['layer1.0.conv1.weight'])
        assert same == (modality == 'sar')


def test_errors(images: dict[str, Tensor]) -> None:
    classifier = FusionClassifier(CHANNELS, 4, 'test_resnet')
    with pytest.raises(ModalityError, match=r"\['ms'\] is missing"):
        classifier({'sar': images['sar']})
    with pytest.raises(ModalityError, match='A single tensor given'):
        classifier(images['sar'])
    with pytest.raises(BandError, match='classifier of 13 bands'):
        classifier({'sar': images['sar'], 'ms': images['sar']})
    with pytest.raises(ModalityError, match='at least 1 are needed'):
        FusionClassifier({}, 4, 'test_resnet')
    with pytest.raises(ModalityError, match=r"\['dem'\] in weights"):
        FusionClassifier(CHANNELS, 4, 'test_resnet', {'dem': True})

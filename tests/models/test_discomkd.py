# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from torchgeo_discomkd.errors import BandError, ModalityError, WeightsError
from torchgeo_discomkd.losses import adversarial_loss, classification_loss
from torchgeo_discomkd.models import (
    DisCoMKDNetwork,
    DisentangledClassifier,
    DisentangledEncoder,
    FusionClassifier,
    read_outs,
)

CHANNELS = {'ms': 13, 'sar': 2}


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.fixture
def network() -> DisCoMKDNetwork:
    torch.manual_seed(0)
    return DisCoMKDNetwork(CHANNELS, 5, 'test_resnet')


@pytest.fixture
def images() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {'ms': torch.randn(4, 13, 32, 32), 'sar': torch.randn(3, 2, 48, 40)}


def test_parameter_counts_of_the_paper() -> None:
    network = DisCoMKDNetwork(CHANNELS, 10)
    assert count(network) == 45_040_548
    assert count(network.classifiers['ms']) == 22_552_714
    assert count(network.classifiers['sar']) == 22_483_722
    assert count(FusionClassifier({'sar': 2}, 10)) == 11_178_506
    assert count(FusionClassifier(CHANNELS, 10)) == 22_386_378


def test_shapes(network: DisCoMKDNetwork, images: dict[str, Tensor]) -> None:
    output = network(dict(reversed(images.items())))
    for field in output:
        assert list(field) == ['ms', 'sar']
    size = timm.create_model('test_resnet').num_features // 2
    for modality, number in (('ms', 4), ('sar', 3)):
        for embedding in output.embeddings[modality]:
            assert embedding.shape == (number, size)
        assert output.logits[modality].shape == (number, 5)
        assert output.adversarial_logits[modality].shape == (number, 2)
        assert output.informative_modality_logits[modality].shape == (number, 2)
        assert output.irrelevant_modality_logits[modality].shape == (number, 2)
        assert output.auxiliary_invariant_logits[modality].shape == (number, 5)
        assert output.auxiliary_informative_logits[modality].shape == (number, 5)


def test_wiring(network: DisCoMKDNetwork, images: dict[str, Tensor]) -> None:
    network.eval()
    output = network(images)
    for modality, x in images.items():
        classifier = network.classifiers[modality]
        assert isinstance(classifier, DisentangledClassifier)
        encoder, e = classifier.encoder, output.embeddings[modality]
        features = encoder.specific_encoder(x)
        half = features.shape[1] // 2
        assert torch.equal(e.informative, features[:, :half])
        assert torch.equal(e.irrelevant, features[:, half:])
        assert torch.equal(
            e.invariant, encoder.projection(encoder.invariant_encoder(x))
        )
        joined = torch.cat([e.invariant, e.informative], dim=1)
        assert torch.equal(output.logits[modality], classifier.classifier(joined))
        assert torch.equal(output.logits[modality], classifier(x))
        for logits, layer, embedding in (
            (output.adversarial_logits, network.discriminator, e.invariant),
            (
                output.informative_modality_logits,
                network.informative_modality_classifier,
                e.informative,
            ),
            (
                output.irrelevant_modality_logits,
                network.irrelevant_modality_classifier,
                e.irrelevant,
            ),
            (
                output.auxiliary_invariant_logits,
                network.auxiliary_classifier,
                e.invariant,
            ),
            (
                output.auxiliary_informative_logits,
                network.auxiliary_classifier,
                e.informative,
            ),
        ):
            assert torch.equal(logits[modality], layer(embedding))


def test_read_outs(network: DisCoMKDNetwork, images: dict[str, Tensor]) -> None:
    output = network.eval()(images)
    for modality, embeddings in output.embeddings.items():
        found = read_outs(embeddings, network.auxiliary_classifier)
        assert set(found) == {'invariant', 'informative'}
        for name, logits in (
            ('invariant', output.auxiliary_invariant_logits),
            ('informative', output.auxiliary_informative_logits),
        ):
            assert torch.equal(found[name], logits[modality])


@pytest.mark.parametrize('strength', [0.0, 1.0, 0.25])
def test_gradients_of_adversarial_loss(
    network: DisCoMKDNetwork, images: dict[str, Tensor], strength: float
) -> None:
    network.double().eval()  # batch statistics would couple rows
    images = {m: x.double() for m, x in images.items()}
    labels = {m: torch.arange(len(x)) for m, x in images.items()}

    def gradients(strength: float, adversarial: float) -> dict[str, Tensor]:
        network.zero_grad(set_to_none=False)
        output = network(images, strength)
        loss = classification_loss(output.logits, labels)
        loss = loss + adversarial * adversarial_loss(output.adversarial_logits)
        loss.backward()
        return {
            name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
            for name, p in network.named_parameters()
        }

    rest, plain = gradients(1.0, 0.0), gradients(-1.0, 1.0)
    reached = set()
    for name, found in gradients(strength, 1.0).items():
        adversarial = plain[name] - rest[name]
        sign = 1 if name.startswith('discriminator') else -strength
        expected = rest[name] + sign * adversarial
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
        if adversarial.any():
            reached.add(name)
    assert all('specific_encoder' not in name for name in reached)
    for modality in CHANNELS:
        assert f'classifiers.{modality}.encoder.projection.0.weight' in reached
        assert any(f'{modality}.encoder.invariant_encoder' in n for n in reached)
    assert 'discriminator.weight' in reached


def test_nothing_is_shared_between_modalities(
    network: DisCoMKDNetwork, images: dict[str, Tensor]
) -> None:
    network(images).logits['sar'].sum().backward()
    for name, parameter in network.named_parameters():
        if parameter.grad is not None:
            assert name.startswith('classifiers.sar.')


@pytest.mark.parametrize('modality', ['ms', 'sar'])
def test_single_modality(
    network: DisCoMKDNetwork, images: dict[str, Tensor], modality: str
) -> None:
    network.eval()
    both, one = network(images), network({modality: images[modality]})
    for expected, found in zip(both, one, strict=True):
        assert list(found) == [modality]
        for a, b in zip(expected[modality], found[modality], strict=True):
            assert torch.equal(a, b)


def test_three_modalities() -> None:
    channels = {'ms': 13, 'sar': 2, 'dem': 1}
    network = DisCoMKDNetwork(channels, 4, 'test_resnet').eval()
    images = {m: torch.randn(1, c, 32, 32) for m, c in channels.items()}
    output = network(images)
    assert network.modalities == ('ms', 'sar', 'dem')
    for logits in output.adversarial_logits.values():
        assert logits.shape == (1, 3)
    assert adversarial_loss(output.adversarial_logits).isfinite()


def test_heads() -> None:
    x = torch.randn(6, 2, 32, 32)
    released = DisentangledEncoder(2, 'test_resnet')
    paper = DisentangledEncoder(2, 'test_resnet', head='linear')
    assert [type(m) for m in released.projection] == [
        nn.Linear,
        nn.BatchNorm1d,
        nn.ReLU,
    ]
    assert [type(m) for m in paper.projection] == [nn.Linear]
    assert released(x).invariant.min() == 0
    assert paper(x).invariant.min() < 0


def test_normalization_is_the_first_layer() -> None:
    classifier = DisentangledClassifier(2, 3, 'test_resnet').eval()
    x = torch.randn(2, 2, 32, 32)
    expected = classifier(x)
    classifier.normalization.fit([5, -3], [2, 4], [0, 0], [1, 1])
    raw = x * torch.tensor([2.0, 4]).view(2, 1, 1) + torch.tensor([5.0, -3]).view(
        2, 1, 1
    )
    torch.testing.assert_close(classifier(raw), expected, rtol=1e-3, atol=1e-4)


def test_weights_by_modality(tmp_path: Any) -> None:
    state_dict = timm.create_model('test_resnet', in_chans=2).state_dict()
    torch.save(state_dict, tmp_path / 'sar.pth')
    weights = {'sar': str(tmp_path / 'sar.pth')}
    network = DisCoMKDNetwork(CHANNELS, 3, 'test_resnet', weights=weights)
    for modality in CHANNELS:
        classifier = network.classifiers[modality]
        assert isinstance(classifier, DisentangledClassifier)
        for encoder in (
            classifier.encoder.invariant_encoder,
            classifier.encoder.specific_encoder,
        ):
            found = encoder.state_dict()['layer1.0.conv1.weight']
            same = torch.equal(found, state_dict['layer1.0.conv1.weight'])
            assert same == (modality == 'sar')


class TestErrors:
    def test_one_modality(self) -> None:
        with pytest.raises(ModalityError, match='at least 2 are needed'):
            DisCoMKDNetwork({'sar': 2}, 3, 'test_resnet')

    @pytest.mark.parametrize('name', ['', 's.ar', 'keys', 'training', 'float'])
    def test_illegal_name(self, name: str) -> None:
        with pytest.raises(ModalityError, match='needs a name'):
            DisCoMKDNetwork({'ms': 3, name: 2}, 3, 'test_resnet')

    def test_unknown_modality(self, network: DisCoMKDNetwork) -> None:
        x = torch.zeros(2, 1, 32, 32)
        with pytest.raises(ModalityError, match=r"\['dem'\] in images"):
            network({'dem': x})
        with pytest.raises(ModalityError, match=r"\['dem'\] in weights"):
            DisCoMKDNetwork(CHANNELS, 3, 'test_resnet', weights={'dem': None})

    def test_no_images(self, network: DisCoMKDNetwork) -> None:
        with pytest.raises(ModalityError, match='No images'):
            network({})

    def test_wrong_bands(self, network: DisCoMKDNetwork) -> None:
        with pytest.raises(BandError, match='classifier of 13 bands'):
            network({'ms': torch.zeros(2, 2, 32, 32)})

    def test_unknown_head(self) -> None:
        with pytest.raises(ValueError, match="head='mlp'"):
            DisentangledEncoder(2, 'test_resnet', head='mlp')  # ty: ignore

    def test_odd_width(self) -> None:
        @timm.models.register_model
        def discomkd_odd_resnet(**kwargs: Any) -> nn.Module:
            model = timm.create_model('test_resnet', in_chans=kwargs['in_chans'])
            model.head_hidden_size = 63
            return model

        with pytest.raises(WeightsError, match='63 features, which cannot be halved'):
            DisentangledEncoder(2, 'discomkd_odd_resnet')

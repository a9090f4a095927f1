# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from torchgeo_discomkd.errors import BandError, WeightsError
from torchgeo_discomkd.models import create_encoder


@pytest.fixture
def state_dict() -> dict[str, torch.Tensor]:
    """State dict of a whole timm classifier: it has a layer that encoders lack."""
    return timm.create_model('test_resnet', in_chans=3, num_classes=7).state_dict()


@pytest.mark.parametrize('in_channels', [1, 2, 3, 13])
@pytest.mark.parametrize('model', ['test_resnet', 'test_vit', 'mobilenetv3_small_050'])
def test_pooled_features(model: str, in_channels: int) -> None:
    size = 160 if model == 'test_vit' else 32
    encoder = create_encoder(model, in_channels).eval()
    features = encoder(torch.randn(2, in_channels, size, size))
    assert features.shape == (2, encoder.num_features)


@pytest.mark.parametrize('size', [28, 64, 96])
def test_image_sizes(size: int) -> None:
    encoder = create_encoder('test_resnet', 2)
    assert encoder(torch.randn(2, 2, size, size + 8)).shape == (2, encoder.num_features)


@pytest.mark.parametrize('weights', [None, False])
def test_initialization_of_resnet18(weights: bool | None) -> None:
    torch.manual_seed(0)
    encoder = create_encoder('resnet18', 3, weights)
    norms = [m for m in encoder.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 20
    assert all((m.weight == 1).all() for m in norms)
    stem = encoder.get_submodule('conv1').weight
    # uniform on +-1/sqrt(fan in) instead of kaiming normal, whose std is 0.0250
    assert stem.std().item() == pytest.approx(1 / (3 * 147) ** 0.5, rel=0.03)
    assert stem.abs().max() <= 147**-0.5
    other = encoder.get_submodule('layer4.1.conv2').weight
    assert other.std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.01)


def test_other_families_start_as_in_timm() -> None:
    torch.manual_seed(0)
    expected = timm.create_model('test_convnext', in_chans=2, num_classes=0)
    torch.manual_seed(0)
    encoder = create_encoder('test_convnext', 2)
    for name, tensor in expected.state_dict().items():
        assert torch.equal(encoder.state_dict()[name], tensor)


@pytest.mark.parametrize('suffix', ['pth', 'pt', 'safetensors'])
def test_path(tmp_path: Path, state_dict: dict[str, torch.Tensor], suffix: str) -> None:
    path = tmp_path / f'weights.{suffix}'
    if suffix == 'safetensors':
        save_file(state_dict, path)
    else:
        torch.save(state_dict, path)
    encoder = create_encoder('test_resnet', 3, str(path))
    loaded = encoder.state_dict()
    assert not [name for name in loaded if name.startswith('fc.')]
    for name, tensor in loaded.items():
        assert torch.equal(tensor, state_dict[name])


@pytest.mark.parametrize('in_channels', [1, 2, 4, 13])
def test_adapted_stem(
    tmp_path: Path, state_dict: dict[str, torch.Tensor], in_channels: int
) -> None:
    torch.save(state_dict, tmp_path / 'weights.pth')
    encoder = create_encoder(
        'test_resnet', in_channels, str(tmp_path / 'weights.pth')
    ).eval()
    name = 'conv1.0.weight'
    stem, source = encoder.state_dict()[name], state_dict[name]
    assert stem.shape[1] == in_channels
    for channel in range(in_channels):
        kernel = source.sum(1) if in_channels == 1 else source[:, channel % 3]
        factor = 1 if in_channels == 1 else 3 / in_channels
        torch.testing.assert_close(stem[:, channel], kernel * factor)


def test_adapted_stem_is_timms(tmp_path: Path) -> None:
    path = tmp_path / 'weights.pth'
    torch.save(timm.create_model('test_resnet').state_dict(), path)
    for in_channels in (1, 2, 13):
        expected = timm.create_model(
            'test_resnet',
            pretrained=True,
            pretrained_cfg_overlay={'file': str(path)},
            in_chans=in_channels,
            num_classes=0,
        )
        encoder = create_encoder('test_resnet', in_channels, str(path))
        for name, tensor in expected.state_dict().items():
            torch.testing.assert_close(encoder.state_dict()[name], tensor)


class TestErrors:
    def test_unknown_model(self) -> None:
        with pytest.raises(WeightsError, match='Did you mean resnet18'):
            create_encoder('resnet81')
        with pytest.raises(WeightsError, match=r'model. timm\.list_models\(\)'):
            create_encoder('qqqqqqqqqqqq')

    def test_unknown_tag(self) -> None:
        with pytest.raises(WeightsError, match='Invalid pretrained tag'):
            create_encoder('resnet18.nope')

    def test_no_pretrained_weights(self) -> None:
        with pytest.raises(WeightsError, match="cannot create 'resnet50t'"):
            create_encoder('resnet50t', 3, True)

    def test_no_bands(self) -> None:
        with pytest.raises(BandError, match='in_channels=0'):
            create_encoder('test_resnet', 0)

    def test_no_such_file(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match=r'none\.pth.*no such file'):
            create_encoder('test_resnet', 3, str(tmp_path / 'none.pth'))

    @pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
    @pytest.mark.parametrize('content', [b'', b'not a state dict at all'])
    def test_not_a_state_dict(
        self, tmp_path: Path, suffix: str, content: bytes
    ) -> None:
        path = tmp_path / f'weights.{suffix}'
        path.write_bytes(content)
        with pytest.raises(WeightsError, match='is not a state dict'):
            create_encoder('test_resnet', 3, str(path))

    def test_list(self, tmp_path: Path) -> None:
        torch.save([1, 2], tmp_path / 'weights.pth')
        with pytest.raises(WeightsError, match='not a state dict'):
            create_encoder('test_resnet', 3, str(tmp_path / 'weights.pth'))

    def test_code_is_not_run(self, tmp_path: Path) -> None:
        torch.save({'conv1.weight': Path('/')}, tmp_path / 'weights.pth')
        with pytest.raises(WeightsError, match='read safely'):
            create_encoder('test_resnet', 3, str(tmp_path / 'weights.pth'))

    def test_other_model(
        self, tmp_path: Path, state_dict: dict[str, torch.Tensor]
    ) -> None:
        torch.save(state_dict, tmp_path / 'weights.pth')
        with pytest.raises(WeightsError, match="do not fit model='resnet10t'"):
            create_encoder('resnet10t', 3, str(tmp_path / 'weights.pth'))

    def test_incomplete(
        self, tmp_path: Path, state_dict: dict[str, torch.Tensor]
    ) -> None:
        del state_dict['conv1.0.weight']
        torch.save(state_dict, tmp_path / 'weights.pth')
        with pytest.raises(WeightsError, match=r'lacking: 1 \(conv1\.0\.weight\)'):
            create_encoder('test_resnet', 3, str(tmp_path / 'weights.pth'))

    def test_unknown_name(self) -> None:
        with pytest.raises(WeightsError, match='is neither a file nor the name'):
            create_encoder('test_resnet', 3, 'ResNet18_Weights.NOPE')


@pytest.mark.parametrize(
    ('in_channels', 'weights'), [(3, True), (13, 'ResNet18_Weights.SENTINEL2_ALL_MOCO')]
)
def test_unreachable(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    in_channels: int,
    weights: str | bool,
) -> None:
    # without it, the hub would try a refused connection again for 45 seconds
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path))
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setenv('https_proxy', 'http://127.0.0.1:9')
    with pytest.raises(WeightsError, match=r'cannot be reached .* weights=None'):
        create_encoder('resnet18', in_channels, weights)

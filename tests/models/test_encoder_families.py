# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Encoders other than ResNets: what they take, and their way into a classifier file."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from torch import Tensor

from tests.conftest import TINY
from tests.export.classifiers import write_classifier
from tests.fakes import write_pairs
from torchgeo_discomkd.classify import load_predictor
from torchgeo_discomkd.commands import main
from torchgeo_discomkd.errors import TileSizeError, WeightsError
from torchgeo_discomkd.export import export_classifier
from torchgeo_discomkd.models import check_tile_size, create_encoder, load_classifier
from torchgeo_discomkd.tasks import FusionClassification

#: A small Swin: timm has none for tests.
SWIN = 'swin_tiny_patch4_window7_224'


@pytest.mark.parametrize('in_channels', [2, 13])
@pytest.mark.parametrize(
    ('model', 'sizes'),
    [
        ('test_convnext', [(32, 32), (64, 48)]),
        # of 160 x 160 pixels, according to its name
        ('test_vit', [(16, 16), (64, 32)]),
        ('test_vit3', [(32, 32)]),
        pytest.param(SWIN, [(32, 32), (64, 48)], marks=pytest.mark.slow),
    ],
)
def test_sizes_that_fit(
    model: str, sizes: list[tuple[int, int]], in_channels: int
) -> None:
    encoder = create_encoder(model, in_channels)
    for size in sizes:
        check_tile_size(encoder, in_channels, size)
        features = encoder(torch.randn(2, in_channels, *size))
        assert features.shape == (2, encoder.num_features)
    assert encoder.training


@pytest.mark.parametrize(
    ('model', 'size'),
    [
        ('test_vit', (30, 32)),
        ('test_convnext', (8, 8)),
        ('test_maxvit', (64, 64)),
        ('test_coatnet', (32, 32)),
    ],
)
def test_sizes_that_do_not_fit(model: str, size: tuple[int, int]) -> None:
    encoder = create_encoder(model, 2)
    with pytest.raises(
        TileSizeError, match=rf'{model} does not take tiles of {size[0]}x'
    ):
        check_tile_size(encoder, 2, size)


def test_a_transformer_at_its_own_size_is_that_of_timm() -> None:
    torch.manual_seed(0)
    expected = timm.create_model('test_vit3', in_chans=2, num_classes=0).eval()
    torch.manual_seed(0)
    encoder = create_encoder('test_vit3', 2).eval()
    images = torch.randn(2, 2, 160, 160)
    with torch.no_grad():
        torch.testing.assert_close(encoder(images), expected(images))


def published_vit(grid: int) -> dict[str, Tensor]:
    """Return weights as TorchGeo publishes those of a ViT: 13 bands, with a head."""
    size = 16 * grid
    network = timm.create_model('test_vit3', in_chans=13, num_classes=5, img_size=size)
    return network.state_dict()


def test_positions_of_another_image_size_are_interpolated(tmp_path: Path) -> None:
    state = published_vit(4)
    # a ramp from left to right, which must stay one
    ramp = torch.arange(4.0).repeat(4)[None, :, None]
    prefix = state['pos_embed'].shape[1] - 16
    state['pos_embed'][:, prefix:] = ramp
    torch.save(state, tmp_path / 'vit.pth')
    encoder = create_encoder('test_vit3', 2, tmp_path / 'vit.pth')
    loaded = encoder.state_dict()
    assert torch.equal(
        loaded['blocks.0.attn.qkv.weight'], state['blocks.0.attn.qkv.weight']
    )
    # 13 bands cut to 2, as for other encoders
    stem = state['patch_embed.proj.weight'][:, :2] * 13 / 2
    torch.testing.assert_close(loaded['patch_embed.proj.weight'], stem)
    row = loaded['pos_embed'][0, prefix:].reshape(10, 10, -1)[3, :, 0]
    assert (row.diff() > -0.2).all()
    assert row[0] < 0.3
    assert row[-1] > 2.7
    # the same size: not touched
    torch.save(published_vit(10), tmp_path / 'same.pth')
    encoder = create_encoder('test_vit3', 13, tmp_path / 'same.pth')
    expected = torch.load(tmp_path / 'same.pth')['pos_embed']
    assert torch.equal(encoder.state_dict()['pos_embed'], expected)


def test_weights_of_torchvisions_swin_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchgeo.models import Swin_V2_T_Weights

    weights = Swin_V2_T_Weights.SENTINEL2_SI_RGB_SATLAS
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    folder = tmp_path / 'hub' / 'checkpoints'
    folder.mkdir(parents=True)
    names = ('features.0.0.weight', 'features.1.0.attn.qkv.weight')
    torch.save(
        dict.fromkeys(names, torch.zeros(1)), folder / weights.url.split('/')[-1]
    )
    with pytest.raises(WeightsError, match="'swin_v2_t', which is no timm model"):
        create_encoder('test_vit', 3, weights)


def train(model: str, root: Path, *args: str) -> Path:
    """Train a student on tiles of 32 x 32 pixels by the command line."""
    shapes = {'sar': (2, 32, 32)}
    if not (root / 'pairs').exists():
        write_pairs(root / 'pairs', count=12, shapes=shapes)
    main(
        [
            *('fit', '--model', 'FusionClassification', '--model.num_classes', '2'),
            *(*TINY, '--model.model', model, '--model.in_channels', '{sar: 2}'),
            *('--data', 'PairedFoldersDataModule', '--data.batch_size', '7'),
            *('--data.root', str(root / 'pairs'), '--trainer.max_epochs', '1'),
            *('--trainer.logger', 'false'),
            *('--trainer.default_root_dir', str(root / 'run'), *args),
        ]
    )
    return root / 'run' / 'best' / 'sar.safetensors'


@pytest.mark.slow
@pytest.mark.parametrize('model', ['test_vit', 'test_convnext', SWIN])
def test_from_training_to_a_table(model: str, tmp_path: Path) -> None:
    file = train(model, tmp_path, '--model.layer_decay', '0.7')
    tiles = tmp_path / 'pairs' / 'sar' / 'Crop'
    output = tmp_path / 'tiles.csv'
    main(['classify', str(file), str(tiles), '--output', str(output)])
    assert (pd.read_csv(output).status == 'ok').all()
    images = np.random.default_rng(0).normal(size=(3, 2, 32, 32)).astype(np.float32)
    loaded = load_classifier(file)
    expected = loaded.probabilities(torch.from_numpy(images)).numpy()
    predictor = load_predictor(file, device='cpu')
    np.testing.assert_allclose(predictor.probabilities(images), expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('model', ['test_vit', 'test_convnext', SWIN])
def test_exported_file(model: str, tmp_path: Path) -> None:
    file = write_classifier(tmp_path / 'sar.safetensors', model=model)
    images = np.random.default_rng(0).normal(-15, 5, (3, 2, 32, 32)).astype(np.float32)
    expected = load_predictor(file, device='cpu').probabilities(images)
    for suffix in ('.onnx', '.pt2'):
        export_classifier(file, tmp_path / f'sar{suffix}')
        predictor = load_predictor(tmp_path / f'sar{suffix}', device='cpu')
        found = predictor.probabilities(images)
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_training_says_which_tiles_do_not_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pairs(tmp_path / 'pairs', count=12, shapes={'sar': (2, 8, 8)})
    with pytest.raises(SystemExit) as error:
        train('test_vit', tmp_path)
    assert error.value.code == 2
    assert 'test_vit does not take tiles of 8x8 pixels' in capsys.readouterr().err


def test_layers_of_a_transformer_have_rates() -> None:
    task = FusionClassification({'sar': 2}, 2, 'test_vit', layer_decay=0.5)
    rates = {g['lr'] for g in task.configure_optimizers().param_groups}
    assert max(rates) == task.hparams['lr']
    assert len(rates) > 2

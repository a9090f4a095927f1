# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Pretrained weights in the layouts in which they are published."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn
from torchgeo.models import ResNet18_Weights, ResNet50_Weights

from torchgeo_discomkd.errors import ModalityError, WeightsError
from torchgeo_discomkd.models import create_encoder
from torchgeo_discomkd.tasks import DisCoMKD, Distillation, FusionClassification

from ..tasks.distillation import write_teacher

CHANNELS = {'ms': 13, 'sar': 2}


def published(in_channels: int = 13, model: str = 'test_resnet') -> dict[str, Tensor]:
    network = timm.create_model(model, in_chans=in_channels, num_classes=0)
    return network.state_dict()


def under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f'{prefix}{name}': tensor for name, tensor in state.items()}


def same(encoder: nn.Module, state: dict[str, Tensor]) -> bool:
    loaded = encoder.state_dict()
    return loaded.keys() == state.keys() and all(
        torch.equal(tensor, state[name]) for name, tensor in loaded.items()
    )


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder in which the hub finds what it has downloaded."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    folder = tmp_path / 'hub' / 'checkpoints'
    folder.mkdir(parents=True)
    return folder


MOCO = ResNet18_Weights.SENTINEL2_ALL_MOCO


@pytest.mark.parametrize('weights', [MOCO, {'ms': str(MOCO)}], ids=['member', 'name'])
def test_members_of_enums_and_their_names(cache: Path, weights: Any) -> None:
    expected = published(13, 'resnet18')
    torch.save(expected, cache / MOCO.url.rsplit('/', 1)[-1])
    task = FusionClassification({'ms': 13}, 2, weights=weights)
    assert same(task.model.encoders['ms'], expected)


def test_names_of_torchvision(cache: Path) -> None:
    from torchvision.models import ResNet18_Weights as Weights

    expected = published(3, 'resnet18')
    head = {'fc.weight': torch.zeros(1000, 512), 'fc.bias': torch.zeros(1000)}
    path = cache / Weights.IMAGENET1K_V1.url.rsplit('/', 1)[-1]
    torch.save(expected | head, path)
    encoder = create_encoder('resnet18', 3, 'ResNet18_Weights.IMAGENET1K_V1')
    assert same(encoder, expected)


def test_one_file_for_every_encoder(tmp_path: Path) -> None:
    expected = published(2)
    torch.save(expected, tmp_path / 'weights.pth')
    weights = str(tmp_path / 'weights.pth')
    channels = {'ms': 2, 'sar': 2}
    task = DisCoMKD(channels, 2, 'test_resnet', weights, students='both')
    encoders = list(task.encoders())
    assert [m for m, _ in encoders] == ['ms'] * 5 + ['sar'] * 5
    assert all(same(encoder, expected) for _, encoder in encoders)
    alone = FusionClassification(
        {'sar': 2}, 2, 'test_resnet', weights, network='same_size'
    )
    teacher = write_teacher(tmp_path / 'teacher.safetensors')
    student = Distillation(teacher, None, {'sar': 2}, 2, 'test_resnet', weights)
    for each in (*alone.encoders(), *student.encoders()):
        assert same(each[1], expected)


OTHER = {'encoder_k.', 'backbone_momentum.', 'target.model.'}


@pytest.mark.parametrize(
    ('prefix', 'more'),
    [
        ('module.', {}),
        ('model.', {'criterion.weight': torch.ones(2)}),
        ('encoder.', {'decoder.0.weight': torch.ones(2)}),
        ('module.encoder_q.', {'module.queue': torch.ones(2, 2)}),
        ('backbone.', {'projection_head.0.weight': torch.ones(2)}),
        ('backbone.model.', {'predictor.0.weight': torch.ones(2)}),
        ('model.backbone.model.', {}),
    ],
)
@pytest.mark.parametrize('container', [None, 'state_dict', 'net'])
def test_prefixes(
    tmp_path: Path, prefix: str, more: dict[str, Tensor], container: str | None
) -> None:
    expected = published()
    # the order of a file must not matter
    content = {}
    for copy in OTHER if 'encoder_q' in prefix or 'backbone' in prefix else ():
        content |= under(copy, published())
    content |= under(prefix, expected) | more
    content |= under(prefix, {'fc.0.weight': torch.ones(2), 'fc.0.bias': torch.ones(2)})
    file = {container: content, 'epoch': 3} if container else content
    torch.save(file, tmp_path / 'weights.pth')
    encoder = create_encoder('test_resnet', 13, tmp_path / 'weights.pth')
    assert same(encoder, expected)


def test_a_file_without_counters_of_batches(tmp_path: Path) -> None:
    expected = published()
    kept = {k: v for k, v in expected.items() if 'num_batches' not in k}
    torch.save(kept, tmp_path / 'weights.pth')
    encoder = create_encoder('test_resnet', 13, tmp_path / 'weights.pth')
    assert same(encoder, expected)


def test_a_student_file_starts_a_training(tmp_path: Path) -> None:
    first = FusionClassification({'sar': 2}, 2, 'test_resnet')
    path = tmp_path / 'sar.safetensors'
    first.save_classifier('sar', path, {}, 0)
    second = FusionClassification({'sar': 2}, 2, 'test_resnet', path)
    expected = first.model.encoders['sar'].state_dict()
    assert same(second.model.encoders['sar'], expected)


def test_several_encoders_in_a_file(tmp_path: Path) -> None:
    torch.save(DisCoMKD(CHANNELS, 2, 'test_resnet').state_dict(), tmp_path / 'w.pth')
    with pytest.raises(WeightsError, match=r'hold 4 encoders \(model\.classifiers\.ms'):
        create_encoder('test_resnet', 2, tmp_path / 'w.pth')


@pytest.mark.parametrize(
    'weights',
    [1, 0.5, ['a'], np.zeros(3), ResNet18_Weights, {'ms': 0}, {'sar': [MOCO]}],
)
def test_other_types_are_refused(weights: Any) -> None:
    with pytest.raises(WeightsError, match=r'is of type .* WeightsEnum') as error:
        DisCoMKD(CHANNELS, 2, 'test_resnet', weights)
    assert len(str(error.value)) < 350


def test_a_state_dict_itself_is_refused() -> None:
    weights: Any = published()
    with pytest.raises(WeightsError, match='give the path') as error:
        FusionClassification({'ms': 13}, 2, 'test_resnet', weights)
    assert len(str(error.value)) < 100


def test_an_unknown_modality() -> None:
    with pytest.raises(ModalityError, match="'optical'"):
        DisCoMKD(CHANNELS, 2, 'test_resnet', {'optical': True})


@pytest.mark.parametrize('weights', ['', 'SENTINEL2_ALL_MOCO', 'none.ckpt'])
def test_nothing_that_is_named_is_random(weights: str) -> None:
    with pytest.raises(WeightsError) as error:
        create_encoder('test_resnet', 13, weights)
    if weights == 'SENTINEL2_ALL_MOCO':
        assert f'did you mean {MOCO}' in str(error.value)


def test_a_misfit_takes_three_lines(tmp_path: Path) -> None:
    found, own = published(13, 'resnet26'), published(13, 'resnet18')
    torch.save(under('backbone.', found), tmp_path / 'w.pth')
    with pytest.raises(WeightsError) as error:
        create_encoder('resnet18', 13, tmp_path / 'w.pth')
    first, second, third = str(error.value).splitlines()
    assert "do not fit model='resnet18' (as tensors backbone.*)" in first
    needed = {k: v.shape for k, v in own.items() if 'num_batches' not in k}
    fitting = sum(found[k].shape == v for k, v in needed.items() if k in found)
    assert 0 < fitting < len(needed) == 100
    assert second.startswith(f'{fitting} of 100 tensors of the model fit; lacking: ')
    assert '(layer1.0.conv1.weight (64, 64, 1, 1) instead of (64, 64, 3, 3), ' in second
    assert third.startswith('Without a place in the model: ')
    assert third.endswith('Set model to the one that they were trained with.')
    assert max(map(len, (first, second, third))) < 400


def test_a_network_with_more_than_the_model_is_refused(tmp_path: Path) -> None:
    more = {'layer1.0.se.fc1.weight': torch.ones(2)}
    torch.save(under('model.', published() | more), tmp_path / 'w.pth')
    with pytest.raises(WeightsError, match=r'1 \(layer1\.0\.se\.fc1\.weight\)'):
        create_encoder('test_resnet', 13, tmp_path / 'w.pth')


def test_the_model_of_a_member_is_named(cache: Path) -> None:
    member = ResNet50_Weights.SENTINEL2_ALL_MOCO
    small = {'conv1.weight': torch.ones(64, 13, 7, 7)}
    torch.save(small, cache / member.url.rsplit('/', 1)[-1])
    with pytest.raises(WeightsError, match="Set model to 'resnet50'"):
        create_encoder('resnet18', 13, member)


def test_a_damaged_download(cache: Path) -> None:
    (cache / MOCO.url.rsplit('/', 1)[-1]).write_bytes(b'nothing')
    with pytest.raises(WeightsError, match=r'damaged.*cache, .*hub'):
        create_encoder('resnet18', 13, MOCO)

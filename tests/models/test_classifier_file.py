# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from torchgeo_discomkd.errors import ClassifierFileError, ModalityError
from torchgeo_discomkd.models import (
    ClassifierMetadata,
    DisCoMKDNetwork,
    DisentangledClassifier,
    FusionClassifier,
    LoadedClassifier,
    ModalityMetadata,
    load_classifier,
    load_metadata,
    save_classifier,
)
from torchgeo_discomkd.models.tensor_file import write_tensors

from ..test_metadata import FUSION, METADATA, MS

SINGLE = replace(METADATA, model='test_resnet')
MULTIPLE = replace(FUSION, model='test_resnet')
CHANNELS = {'ms': 1, 'sar': 2}


@pytest.fixture(scope='module')
def network() -> DisCoMKDNetwork:
    """Only for reading."""
    torch.manual_seed(0)
    network = DisCoMKDNetwork(CHANNELS, 3, 'test_resnet')
    for _ in range(3):  # running statistics that differ from the initial ones
        network({m: 3 + torch.randn(4, c, 32, 32) for m, c in CHANNELS.items()})
    sar(network).normalization.fit([1, 2], [3, 4], [0, 0], [1, 1], 'percentile')
    return network.eval()


def sar(network: DisCoMKDNetwork) -> DisentangledClassifier:
    classifier = network.classifiers['sar']
    assert isinstance(classifier, DisentangledClassifier)
    return classifier


@pytest.fixture(scope='module')
def written(tmp_path_factory: pytest.TempPathFactory, network: DisCoMKDNetwork) -> Path:
    path = tmp_path_factory.mktemp('run') / 'best' / 'sar.safetensors'
    save_classifier(path, sar(network), SINGLE, network.auxiliary_classifier)
    return path


@pytest.fixture
def path(tmp_path: Path, written: Path) -> Path:
    """A file to change, in a folder of its own."""
    path = tmp_path / 'run' / 'best' / 'sar.safetensors'
    path.parent.mkdir(parents=True)
    shutil.copy(written, path)
    return path


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 2, 32, 32, generator=torch.Generator().manual_seed(0))


def test_disentangled(path: Path, network: DisCoMKDNetwork, x: Tensor) -> None:
    loaded = load_classifier(path)
    assert isinstance(loaded, LoadedClassifier)
    assert loaded.modalities == ('sar',)
    assert loaded.metadata == SINGLE == load_metadata(path)
    assert not any(m.training for m in loaded.modules())
    assert not any(p.requires_grad for p in loaded.parameters())
    expected = sar(network)(x)
    assert torch.equal(loaded(x), expected)
    assert torch.equal(loaded({'sar': x}), expected)
    assert torch.equal(loaded({'ms': torch.zeros(0), 'sar': x}), expected)
    torch.testing.assert_close(loaded.probabilities(x), (expected / 1.5).softmax(1))
    with pytest.raises(ModalityError, match=r"\['sar'\] is missing"):
        loaded({'ms': x})
    # the embeddings can be read out one by one
    auxiliary = loaded.auxiliary
    assert auxiliary is not None
    invariant = sar(network).embed(x).invariant
    assert torch.equal(auxiliary(invariant), network.auxiliary_classifier(invariant))


def test_file_holds_one_modality_only(path: Path, network: DisCoMKDNetwork) -> None:
    classifier, tensors = sar(network), load_file(path)
    auxiliary = {name for name in tensors if name.startswith('auxiliary.')}
    assert auxiliary == {'auxiliary.weight', 'auxiliary.bias'}
    assert set(tensors) - auxiliary == set(classifier.state_dict())
    assert [f.name for f in path.parent.iterdir()] == ['sar.safetensors']


@pytest.mark.parametrize(
    'shapes',
    [
        {'weight': (3,), 'bias': (3,)},
        {'weight': (2**33, 0), 'bias': (0,)},
        {'weight': (3, 48), 'bias': (2,)},
        {'weight': (3, 48), 'bias': (3,), 'more': (1,)},
        {'bias': (3,)},
    ],
)
def test_auxiliary_of_another_form(
    path: Path, shapes: dict[str, tuple[int, ...]]
) -> None:
    tensors = {k: v for k, v in load_file(path).items() if not k.startswith('aux')}
    tensors |= {f'auxiliary.{k}': torch.zeros(shape) for k, shape in shapes.items()}
    write_tensors(path, tensors, SINGLE)
    with pytest.raises(ClassifierFileError, match='the auxiliary classifier has'):
        load_classifier(path)


def test_without_auxiliary(tmp_path: Path, network: DisCoMKDNetwork, x: Tensor) -> None:
    path = tmp_path / 'sar.safetensors'
    save_classifier(str(path), sar(network), SINGLE)
    assert torch.equal(load_classifier(str(path))(x), sar(network)(x))
    assert load_classifier(path).auxiliary is None


def test_fusion(tmp_path: Path, x: Tensor) -> None:
    classifier = FusionClassifier(CHANNELS, 3, 'test_resnet')
    path = tmp_path / 'fusion.safetensors'
    save_classifier(path, classifier, MULTIPLE)
    loaded = load_classifier(path)
    images = {'ms': torch.randn(2, 1, 32, 32), 'sar': x}
    assert loaded.modalities == ('sar', 'ms')
    torch.testing.assert_close(loaded(images), classifier.eval()(images))
    with pytest.raises(ModalityError, match=r"\['ms'\] is missing"):
        loaded({'sar': x})
    assert loaded.auxiliary is None


def test_random_numbers_are_untouched(path: Path) -> None:
    state = torch.random.get_rng_state()
    load_classifier(path)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_replaced_atomically(
    path: Path, network: DisCoMKDNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    better = replace(SINGLE, scores={'val_sar_F1Score': 0.9})
    save_classifier(path, sar(network), better)
    assert load_metadata(path).scores == {'val_sar_F1Score': 0.9}

    def fail(*args: Any) -> None:
        raise OSError('disk full')

    monkeypatch.setattr(Path, 'replace', fail)
    with pytest.raises(OSError, match='disk full'):
        save_classifier(path, sar(network), SINGLE)
    assert load_metadata(path) == better
    assert len(list(path.parent.iterdir())) == 1


def test_permissions_are_those_of_other_files(path: Path) -> None:
    other = path.with_name('other')
    other.touch()
    assert path.stat().st_mode == other.stat().st_mode


def test_channels_last(tmp_path: Path, network: DisCoMKDNetwork, x: Tensor) -> None:
    path = tmp_path / 'sar.safetensors'
    expected = sar(network)(x)
    turned = deepcopy(sar(network)).to(memory_format=torch.channels_last)
    save_classifier(path, turned, SINGLE)
    torch.testing.assert_close(load_classifier(path)(x), expected)


@pytest.mark.parametrize(
    'metadata',
    [
        replace(SINGLE, classes=('a', 'b')),
        replace(SINGLE, modalities={'ms': MS}),
        replace(SINGLE, kind='fusion', head=None),
    ],
)
def test_metadata_of_another_classifier(
    tmp_path: Path, network: DisCoMKDNetwork, metadata: ClassifierMetadata
) -> None:
    path = tmp_path / 'new' / 'sar.safetensors'
    with pytest.raises(ClassifierFileError, match='metadata describe another'):
        save_classifier(path, sar(network), metadata)
    assert not path.parent.exists()


def test_metadata_of_another_fusion(tmp_path: Path) -> None:
    classifier = FusionClassifier({'ms': 1, 'depth': 2}, 3, 'test_resnet')
    with pytest.raises(ClassifierFileError, match='metadata describe another'):
        save_classifier(tmp_path / 'fusion.safetensors', classifier, MULTIPLE)


class TestBadFiles:
    @pytest.fixture(params=[load_metadata, load_classifier])
    def load(self, request: pytest.FixtureRequest) -> Any:
        return request.param

    def test_missing(self, tmp_path: Path, load: Any) -> None:
        for path in (tmp_path / 'none.safetensors', tmp_path):
            with pytest.raises(ClassifierFileError, match='there is no such file'):
                load(path)

    @pytest.mark.parametrize('content', [b'', b'PK', b'not a safetensors file' * 9])
    def test_other_format(self, path: Path, load: Any, content: bytes) -> None:
        path.write_bytes(content)
        with pytest.raises(
            ClassifierFileError, match=r'sar\.safetensors is not a safe'
        ):
            load(path)

    @pytest.mark.parametrize('kept', [4, 100, 50_000, -1])
    def test_truncated(self, path: Path, load: Any, kept: int) -> None:
        path.write_bytes(path.read_bytes()[:kept])
        with pytest.raises(ClassifierFileError, match='or it is truncated'):
            load(path)

    @pytest.mark.parametrize('header', [None, {'format': 'pt'}])
    def test_not_ours(self, path: Path, load: Any, header: Any) -> None:
        save_file({'weight': torch.zeros(1)}, path, metadata=header)
        with pytest.raises(ClassifierFileError, match='not written by torchgeo_disc'):
            load(path)

    def test_metadata(self, path: Path, load: Any) -> None:
        save_file(load_file(path), path, metadata={'torchgeo_discomkd': '{}'})
        with pytest.raises(ClassifierFileError, match=r'sar\.safetensors: .* version'):
            load(path)

    @pytest.mark.parametrize(
        'metadata',
        [
            replace(SINGLE, classes=('a', 'b')),
            replace(SINGLE, model='no_such_model'),
            replace(SINGLE, model='resnet10t'),
            replace(SINGLE, head='linear'),
            replace(SINGLE, head='mlp'),
            replace(SINGLE, modalities={'ms': MS}),
            replace(SINGLE, kind='fusion', head=None),
            replace(
                SINGLE,
                kind='fusion',
                head=None,
                modalities={'': ModalityMetadata(2, ('VV', 'VH'), 'dB', None)},
            ),
        ],
    )
    def test_tensors_that_do_not_fit(
        self, path: Path, metadata: ClassifierMetadata
    ) -> None:
        header = {'torchgeo_discomkd': metadata.to_json()}
        save_file(load_file(path), path, metadata=header)
        with pytest.raises(ClassifierFileError, match=r'sar\.safetensors: its tensors'):
            load_classifier(path)

    @pytest.mark.parametrize('missing', ['auxiliary.weight', 'auxiliary.bias'])
    def test_half_an_auxiliary(self, path: Path, missing: str) -> None:
        tensors = load_file(path)
        del tensors[missing]
        header = {'torchgeo_discomkd': SINGLE.to_json()}
        save_file(tensors, path, metadata=header)
        with pytest.raises(ClassifierFileError, match='tensors do not fit'):
            load_classifier(path)

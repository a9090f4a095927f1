# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from tests.fakes import write_arrays
from torchgeo_discomkd.commands import main
from torchgeo_discomkd.errors import (
    BandError,
    ClassifierFileError,
    LabelError,
    ModalityError,
    RunFolderExistsError,
    SettingError,
    UserError,
    WeightsError,
)
from torchgeo_discomkd.models import (
    create_encoder,
    load_classifier,
    load_metadata,
    read_outs,
)
from torchgeo_discomkd.models.released import (
    import_released_checkpoint,
    load_released_checkpoint,
)

CHANNELS = {'ms': 13, 'sar': 2}
CLASSES = 10


def sequence(channels: int) -> nn.Sequential:
    """Return the children of a ResNet-18 but the last, with another stem."""
    network = resnet18(weights=None)
    network.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    return nn.Sequential(*list(network.children())[:-1])


class Block(nn.Module):
    """A linear layer by the name 'block.0'."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Linear(256, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class Projection(nn.Module):
    """A projection head with a layer that is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.l1 = nn.Linear(512, 256)
        self.bn1 = nn.BatchNorm1d(256)
        self.l2 = nn.LazyLinear(256)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn1(self.l1(x)).relu()


class Released(nn.Module):
    """DisCoM-KD with the documented names of the released checkpoints."""

    def __init__(self) -> None:
        super().__init__()
        first, second = CHANNELS.values()
        self.first_enc_inv, self.first_enc_spec = sequence(first), sequence(first)
        self.second_enc_inv, self.second_enc_spec = sequence(second), sequence(second)
        self.task_dom, self.task_dom2, self.discr = Block(2), Block(2), Block(2)
        self.task_cl, self.task_cl2 = nn.Linear(512, CLASSES), nn.Linear(512, CLASSES)
        self.task_cl3 = Block(CLASSES)
        self.projF, self.projS = Projection(), Projection()

    def outputs(self, x: Tensor, second: bool) -> dict[str, Tensor]:
        """Return all that is compared, of images of one modality."""
        parts = (self.first_enc_inv, self.first_enc_spec, self.projF, self.task_cl)
        if second:
            parts = (
                self.second_enc_inv,
                self.second_enc_spec,
                self.projS,
                self.task_cl2,
            )
        invariant_encoder, specific_encoder, projection, classifier = parts
        invariant = projection(invariant_encoder(x).flatten(1))
        specific = specific_encoder(x).flatten(1)
        informative, irrelevant = specific[:, :256], specific[:, 256:]
        return {
            'logits': classifier(torch.cat([invariant, informative], dim=1)),
            'invariant': invariant,
            'informative': informative,
            'irrelevant': irrelevant,
            'discriminator': self.discr(invariant),
            'informative modality': self.task_dom(informative),
            'irrelevant modality': self.task_dom2(irrelevant),
            'auxiliary invariant': self.task_cl3(invariant),
            'auxiliary informative': self.task_cl3(informative),
        }


@pytest.fixture(scope='module')
def network() -> Released:
    """A network whose every tensor has values of its own."""
    torch.manual_seed(0)
    network = Released().eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                assert module.num_batches_tracked is not None
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.5, 1.0)
                module.bias.normal_(0, 0.1)
                module.num_batches_tracked.fill_(7)
    return network


@pytest.fixture(scope='module')
def weights(network: Released, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as the released code writes it."""
    state = network.state_dict()
    assert len(state) == 510
    path = tmp_path_factory.mktemp('released') / 'WEIGHTS.pth'
    torch.save(state, path)
    return path


def images(modality: str, size: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(4, CHANNELS[modality], size, size, generator=generator)


def expected(network: Released, modality: str) -> dict[str, Tensor]:
    with torch.no_grad():
        return network.outputs(images(modality), second=modality == 'sar')


def assert_close(found: Tensor, wanted: Tensor) -> None:
    assert wanted.std() > 1e-3
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_outputs(network: Released, weights: Path) -> None:
    state = torch.get_rng_state()
    imported = load_released_checkpoint(weights, ['ms', 'sar'])
    assert torch.equal(torch.get_rng_state(), state)
    assert imported.modalities == ('ms', 'sar')
    assert not any(module.training for module in imported.modules())
    with torch.no_grad():
        output = imported({m: images(m) for m in CHANNELS})
    for m in CHANNELS:
        found = {
            'logits': output.logits[m],
            **output.embeddings[m]._asdict(),
            'discriminator': output.adversarial_logits[m],
            'informative modality': output.informative_modality_logits[m],
            'irrelevant modality': output.irrelevant_modality_logits[m],
            'auxiliary invariant': output.auxiliary_invariant_logits[m],
            'auxiliary informative': output.auxiliary_informative_logits[m],
        }
        wanted = expected(network, m)
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            assert_close(found[name], value)


def test_every_tensor_is_taken_over(network: Released, weights: Path) -> None:
    imported = load_released_checkpoint(weights, ['ms', 'sar']).state_dict()
    kept = {k: v for k, v in imported.items() if '.normalization.' not in k}
    assert len(kept) == 506  # all but the unused layers
    counts = [v.item() for k, v in kept.items() if k.endswith('num_batches_tracked')]
    assert counts == [7] * 82
    total = sum(v.double().abs().sum() for v in kept.values())
    released = network.state_dict()
    wanted = sum(v.double().abs().sum() for k, v in released.items() if '.l2.' not in k)
    torch.testing.assert_close(total, wanted)


def test_command(network: Released, weights: Path, tmp_path: Path) -> None:
    folder = tmp_path / 'run'
    before = weights.read_bytes()
    main(
        [
            *('import', str(weights), '--output', str(folder)),
            *('--modalities', 'ms', 'sar', '--tile-size', '{ms: 64}'),
            *('--bands', '{sar: [VV, VH]}', '--units', '{sar: scaled dB}'),
            *('--classes', *(f'Class {i}' for i in range(CLASSES))),
        ]
    )
    assert weights.read_bytes() == before
    files = sorted(path.relative_to(folder) for path in folder.rglob('*.*'))
    assert files == [Path('best/ms.safetensors'), Path('best/sar.safetensors')]
    for m in CHANNELS:
        path = folder / 'best' / f'{m}.safetensors'
        wanted = expected(network, m)
        loaded = load_classifier(path)
        assert_close(loaded(images(m)), wanted['logits'])
        embeddings = loaded.classifier.embed(images(m))  # ty: ignore
        for name, found in read_outs(embeddings, loaded.auxiliary).items():  # ty: ignore
            assert_close(found, wanted[f'auxiliary {name}'])
    ms, sar = (load_metadata(folder / 'best' / f'{m}.safetensors') for m in CHANNELS)
    assert (ms.normalization, ms.head, ms.model) == (
        *('none', 'linear_bn_relu', 'resnet18'),
    )
    assert ms.classes == sar.classes == tuple(f'Class {i}' for i in range(CLASSES))
    assert ms.modalities['ms'].bands == tuple(f'B{i + 1}' for i in range(13))
    assert ms.modalities['ms'].unit == 'normalised'
    assert ms.modalities['ms'].tile_size == (64, 64)
    assert sar.modalities['sar'].bands == ('VV', 'VH')
    assert sar.modalities['sar'].unit == 'scaled dB'
    assert sar.modalities['sar'].tile_size is None


@pytest.mark.slow
def test_one_checkpoint_for_each_modality(weights: Path, tmp_path: Path) -> None:
    def convert(*args: str) -> None:
        fixed = ['--output', str(tmp_path), '--modalities', 'ms', 'sar']
        main(['import', str(weights), *fixed, *args])

    convert('--keep', 'sar')
    assert [path.name for path in (tmp_path / 'best').iterdir()] == ['sar.safetensors']
    convert('--keep', 'ms')
    assert len(list((tmp_path / 'best').iterdir())) == 2


def test_nothing_is_overwritten(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    existing = tmp_path / 'best' / 'sar.safetensors'
    existing.parent.mkdir()
    existing.write_text('mine')
    with pytest.raises(RunFolderExistsError, match=r'sar\.safetensors exists already'):
        import_released_checkpoint(weights, tmp_path, ['ms', 'sar'])
    fixed = ['--output', str(tmp_path), '--modalities', 'ms', 'sar']
    with pytest.raises(SystemExit) as exit_info:
        main(['import', str(weights), *fixed])
    assert exit_info.value.code == 2
    assert capsys.readouterr().err.startswith('error: ')
    assert [path.name for path in existing.parent.iterdir()] == ['sar.safetensors']
    assert existing.read_text() == 'mine'


@pytest.mark.slow
def test_imported_classifiers_are_scored_on_the_arrays_of_the_released_code(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_arrays(tmp_path / 'arrays', classes=CLASSES, count=5)
    import_released_checkpoint(weights, tmp_path / 'run', ['ms', 'sar'])
    files = {m: str(tmp_path / 'run' / 'best' / f'{m}.safetensors') for m in CHANNELS}
    main(
        [
            *('test', '--model', 'PretrainedClassification'),
            *('--model.classifiers', str(files), '--data', 'PairedArraysDataModule'),
            *('--data.root', str(data), '--trainer.accelerator', 'cpu'),
            *('--trainer.default_root_dir', str(tmp_path / 'scores')),
            *('--trainer.logger', 'false', '--trainer.enable_progress_bar', 'false'),
        ]
    )
    printed = capsys.readouterr().out
    assert 'modality  F1      invariant  informative  accuracy' in printed
    assert re.search(r'^sar( +[01]\.\d{4}){4}', printed, re.MULTILINE)


class Payload:
    """Something that makes a file when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.function = function
        self.args = args

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.args


def payloads(marker: Path) -> dict[str, Any]:
    run = Payload(os.system, f'touch {marker}')
    return {
        'alone': run,
        'as a tensor': {'task_cl.weight': run},
        'as a name': {run: torch.zeros(1)},
        'next to the tensors': {'task_cl.weight': torch.zeros(1), 'extra': [(run,)]},
        'a line of code': {
            'x': Payload(exec, f'import os; os.system("touch {marker}")')
        },
        'a library': {'x': Payload(shutil.copy, __file__, str(marker))},
    }


@pytest.mark.parametrize('protocol', [2, 4])
@pytest.mark.parametrize('name', payloads(Path()))
def test_pickle_that_would_run_code(
    name: str, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker, path = tmp_path / 'marker', tmp_path / 'WEIGHTS.pth'
    torch.save(payloads(marker)[name], path, pickle_protocol=protocol)
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    match = 'asks for|cannot be read as tensors'
    with pytest.raises(ClassifierFileError, match=match) as error:
        load_released_checkpoint(path, ['ms', 'sar'])
    assert 'weights_only' not in str(error.value)
    assert not marker.exists()
    with pytest.raises(SystemExit):
        main(
            [
                *('import', str(path), '--output', str(tmp_path / 'run')),
                *('--modalities', 'ms', 'sar'),
            ]
        )
    assert not marker.exists()
    assert not (tmp_path / 'run').exists()
    # the payload is a real one
    torch.load(path, weights_only=False)
    assert marker.exists()


def test_old_format_is_refused(tmp_path: Path) -> None:
    marker, path = tmp_path / 'marker', tmp_path / 'WEIGHTS.pth'
    run = Payload(os.system, f'touch {marker}')
    torch.save({'x': run}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(ClassifierFileError, match=r'not a checkpoint of torch\.save'):
        load_released_checkpoint(path, ['ms', 'sar'])
    assert not marker.exists()


def test_what_is_allowed_here_is_allowed_nowhere_else(weights: Path) -> None:
    load_released_checkpoint(weights, ['ms', 'sar'])
    allowed = torch.serialization.get_safe_globals()
    assert nn.UninitializedParameter not in allowed
    with pytest.raises(WeightsError, match='be read safely'):
        create_encoder('resnet18', 13, str(weights))
    with pytest.raises(ClassifierFileError, match='not a safetensors file'):
        load_classifier(weights)


@pytest.mark.parametrize(
    ('damage', 'match'),
    [
        (lambda data: data[: len(data) // 2], 'truncated'),
        (lambda data: b'', 'truncated'),
        (lambda data: b'\x89PNG' + bytes(200), r'not a checkpoint of torch\.save'),
        (
            lambda data: data[:5000] + bytes([data[5000] ^ 1]) + data[5001:],
            'or damaged',
        ),
    ],
)
def test_damaged_file(
    damage: Callable[[bytes], bytes], match: str, tmp_path: Path
) -> None:
    path = tmp_path / 'WEIGHTS.pth'
    torch.save({'task_cl.weight': torch.rand(100, 100)}, path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ClassifierFileError, match=match):
        load_released_checkpoint(path, ['ms', 'sar'])


def test_archive_without_the_values(tmp_path: Path) -> None:
    whole, path = tmp_path / 'whole.pth', tmp_path / 'WEIGHTS.pth'
    torch.save({'task_cl.weight': torch.rand(2, 2)}, whole)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, 'w') as new:
        for name in old.namelist():
            if not name.endswith('data/0'):
                new.writestr(name, old.read(name))
    with pytest.raises(ClassifierFileError, match='cannot be read as tensors'):
        load_released_checkpoint(path, ['ms', 'sar'])


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / 'missing.pth'):
        with pytest.raises(ClassifierFileError, match='there is no such file'):
            load_released_checkpoint(path, ['ms', 'sar'])


def uninitialized() -> Any:
    return nn.LazyLinear(256).weight


def without(key: str) -> Callable[[dict[str, Any]], Any]:
    return lambda state: {k: v for k, v in state.items() if k != key}


def with_(**values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda state: state | {k.replace('__', '.'): v for k, v in values.items()}


@pytest.mark.parametrize(
    ('change', 'match'),
    [
        (without('second_enc_spec.7.1.bn2.running_var'), 'lacks .*running_var'),
        (without('second_enc_inv.0.weight'), 'lacks the weights of .*sar'),
        (without('task_cl3.block.0.weight'), 'lacks the weights of auxiliary'),
        (with_(task_cl4__weight=torch.zeros(1)), r'task_cl4\.weight'),
        (with_(first_enc_inv__3__weight=torch.zeros(1)), r'first_enc_inv\.3\.weight'),
        (with_(projF__l2__weight=torch.zeros(256, 256)), r'projF\.l2\.weight'),
        (with_(task_cl__weight=uninitialized()), 'before its network was used'),
        (with_(task_cl2__weight=torch.zeros(9, 512)), r'\(9, 512\) instead of'),
        (with_(discr__block__0__weight=torch.zeros(3, 256)), r'\(3, 256\)'),
        (with_(discr__block__0__bias=torch.zeros(2).double()), r'torch\.float64'),
        (with_(discr__block__0__bias=torch.zeros(2, device='meta')), 'be copied'),
        (with_(first_enc_inv__0__weight=torch.zeros(())), 'lacks the weights of'),
        (with_(epoch=3), "more than tensors by name .*'epoch'"),
        (lambda state: {'model': state, 'epoch': 3}, 'more than tensors by name'),
        (lambda state: list(state.values()), 'holds a list'),
        (lambda state: {}, 'lacks the weights of'),
    ],
)
def test_another_network(
    change: Callable[[dict[str, Any]], Any],
    match: str,
    network: Released,
    tmp_path: Path,
) -> None:
    path = tmp_path / 'WEIGHTS.pth'
    # one number in the file stands for all of a tensor
    state = {
        k: v if '.l2.' in k else torch.zeros((), dtype=v.dtype).expand(v.shape)
        for k, v in network.state_dict().items()
    }
    torch.save(change(state), path)
    with pytest.raises(ClassifierFileError, match=match):
        load_released_checkpoint(path, ['ms', 'sar'])


@pytest.mark.parametrize(
    ('kwargs', 'error', 'match'),
    [
        ({'modalities': ['ms']}, ModalityError, 'has two'),
        ({'modalities': ['ms', 'ms']}, ModalityError, 'has two'),
        ({'modalities': ['ms', 'sar', 'dem']}, ModalityError, 'has two'),
        ({'modalities': 'ms'}, ModalityError, 'has two'),
        ({'modalities': ['ms', 's.ar']}, ModalityError, 'without dots'),
        ({'keep': ['dem']}, ModalityError, "'dem'"),
        ({'bands': {'dem': ['z']}}, ModalityError, "'dem'"),
        ({'units': {'dem': 'm'}}, ModalityError, "'dem'"),
        ({'tile_size': {'dem': 8}}, ModalityError, "'dem'"),
        ({'tile_size': 0}, SettingError, 'tile_size=0'),
        ({'bands': {'sar': ['VV']}}, BandError, 'the checkpoint has 2'),
        ({'bands': {'sar': ['VV', 'VV']}}, BandError, 'a unique name'),
        ({'classes': ['Crop', 'Water']}, LabelError, 'the checkpoint has 10'),
        ({'classes': ['Crop'] * 10}, LabelError, 'name every class once'),
    ],
)
def test_bad_arguments(
    kwargs: dict[str, Any],
    error: type[UserError],
    match: str,
    weights: Path,
    tmp_path: Path,
) -> None:
    kwargs = {'modalities': ['ms', 'sar'], **kwargs}
    with pytest.raises(error, match=match):
        import_released_checkpoint(weights, tmp_path / 'run', **kwargs)
    assert not (tmp_path / 'run').exists()


def test_starts_fast() -> None:
    code = """
import sys
import torchgeo_discomkd.commands.import_released
print(sorted({'kornia', 'lightning', 'torchgeo'} & set(sys.modules)))
"""
    command = [sys.executable, '-W', 'ignore', '-c', code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == '[]'

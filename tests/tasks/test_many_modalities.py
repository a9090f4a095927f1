# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""DisCoM-KD with three modalities, and with samples that lack some."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.conftest import TINY
from tests.fakes import write_pairs
from torchgeo_discomkd.commands import main
from torchgeo_discomkd.datamodules import PairedFoldersDataModule
from torchgeo_discomkd.datasets import PairedFolders
from torchgeo_discomkd.errors import BatchSizeError, ModalityError, SettingError
from torchgeo_discomkd.tasks import DisCoMKD

from .test_discomkd import batch, tiny

THREE = {'ms': 3, 'sar': 2, 'dem': 1}
FORMS = ('joint', 'pairwise', 'one-vs-rest')


def three(seed: int = 0, **kwargs: Any) -> DisCoMKD:
    torch.manual_seed(seed)
    return tiny(in_channels=THREE, **kwargs)


def samples(size: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = {
        f'image_{m}': torch.randn(size, c, 8, 8, generator=generator)
        for m, c in THREE.items()
    }
    return {**images, 'label': torch.arange(size) % 2, 'index': torch.arange(size)}


@pytest.mark.parametrize('form', FORMS)
def test_what_guessing_gives(form: str) -> None:
    task = three(adversary=form)
    for layer in (
        task.model.discriminator,
        task.model.informative_modality_classifier,
        task.model.irrelevant_modality_classifier,
        task.model.auxiliary_classifier,
        *(task.model.classifiers[m].classifier for m in THREE),
    ):
        for parameter in layer.parameters():  # ty: ignore
            torch.nn.init.zeros_(parameter)
    state = task.state_dict()
    for scale in ('sum', 'constant_share'):
        scaled = three(adversary=form, term_scale=scale)
        scaled.load_state_dict(state)
        _, log = scaled.objective(scaled.training_inputs(samples(4)))
        for name, level in scaled.chance_levels().items():
            assert log[name].item() == pytest.approx(level, rel=1e-6), name
        if scale == 'constant_share':
            levels = tiny().chance_levels()
            assert scaled.chance_levels() == pytest.approx(levels, rel=1e-6)


def test_two_modalities_are_the_same_in_all_bits() -> None:
    losses = []
    for options in ({}, {'adversary': 'pairwise', 'term_scale': 'constant_share'}):
        torch.manual_seed(0)
        task = tiny(**options)
        loss, _ = task.objective(task.training_inputs(batch()))
        loss.backward()
        grads = [p.grad for p in task.parameters() if p.grad is not None]
        losses.append([loss.detach(), *grads])
    assert all(torch.equal(a, b) for a, b in zip(*losses, strict=True))


def test_a_checkpoint_without_these_settings_loads(tmp_path: Path) -> None:
    task = tiny()
    settings = {
        k: v for k, v in task.hparams.items() if k not in ('adversary', 'term_scale')
    }
    path = tmp_path / 'old.ckpt'
    checkpoint = {
        'state_dict': task.state_dict(),
        'hyper_parameters': settings,
        'pytorch-lightning_version': '2.0.0',
    }
    torch.save(checkpoint, path)
    loaded = DisCoMKD.load_from_checkpoint(path, map_location='cpu')
    assert loaded.hparams['adversary'] == 'joint'
    assert loaded.hparams['term_scale'] == 'sum'
    assert torch.equal(
        loaded.model.discriminator.weight, task.model.discriminator.weight
    )


@pytest.mark.parametrize(
    ('settings', 'match'),
    [
        ({'adversary': 'each'}, "adversary='each': use joint or pairwise or"),
        ({'term_scale': 'mean'}, "term_scale='mean': use sum or constant_share"),
        ({'adversary': 'pairwise', 'formulation': 'released'}, 'formulation paper'),
    ],
)
def test_bad_settings(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(SettingError, match=match):
        tiny(**settings)


def test_one_modality_names_the_control() -> None:
    with pytest.raises(ModalityError, match=r'--model\.network same_size'):
        tiny(in_channels={'sar': 2})


@pytest.mark.parametrize('form', FORMS)
def test_a_missing_row_changes_nothing(form: str) -> None:
    """A batch with gaps is the unpaired batch of what is there."""
    whole = samples(6)
    present = {
        'ms': torch.tensor([1, 1, 0, 1, 1, 1]).bool(),
        'sar': torch.tensor([1, 0, 1, 1, 0, 1]).bool(),
    }
    gaps = dict(whole)
    for m, flags in present.items():
        gaps[f'image_{m}'] = whole[f'image_{m}'].clone()
        gaps[f'image_{m}'][~flags] = torch.nan
        gaps[f'present_{m}'] = flags
    flags = present | {'dem': torch.ones(6).bool()}
    left = {}
    for m in THREE:
        left[f'image_{m}'] = whole[f'image_{m}'][flags[m]]
        left[f'label_{m}'] = whole['label'][flags[m]]
    results = []
    for given in (gaps, left):
        task = three(adversary=form, students='plain')
        loss, log = task.objective(task.training_inputs(given))
        loss.backward()
        grads = {n: p.grad for n, p in task.named_parameters()}
        results.append((log, grads, dict(task.named_buffers())))
    for one, other in zip(*results, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert isinstance(value, Tensor), name
            assert torch.equal(value, other[name]), name
    assert all(value.isfinite().all() for value in results[0][1].values())


def test_a_modality_that_a_batch_lacks_takes_no_step() -> None:
    given = samples(4) | {'present_sar': torch.tensor([0, 0, 1, 0]).bool()}
    given['image_sar'] = given['image_sar'] * torch.nan
    task = three(
        students='plain', transfer=True, transfer_guide='ms', transfer_warmup=0
    )
    loss, log = task.objective(task.training_inputs(given))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None for p in task.model.classifiers['sar'].parameters())
    assert all(p.grad is None for p in task.students['sar'].parameters())
    assert log['sar_student_loss'].item() == 0
    # what is logged has the same names in every step
    _, complete = task.objective(task.training_inputs(samples(4)))
    assert set(log) == set(complete)


def test_transfer_between_the_samples_that_both_have() -> None:
    whole = samples(6)
    given = whole | {
        'present_ms': torch.tensor([1, 1, 0, 1, 1, 1]).bool(),
        'present_sar': torch.tensor([0, 1, 1, 1, 0, 1]).bool(),
    }
    task = three(transfer=True, transfer_guide='ms', transfer_warmup=0).eval()
    inputs = task.training_inputs(given)
    _, log = task.objective(inputs)
    with torch.no_grad():
        found = {m: task.model.classifiers[m].embed(whole[f'image_{m}']) for m in THREE}
    invariant = {m: e.invariant.double().numpy() for m, e in found.items()}
    expected = 0.0
    for m, rows in (('sar', [1, 3, 5]), ('dem', [0, 1, 3, 4, 5])):
        a, b = invariant['ms'][rows], invariant[m][rows]
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        expected += (1 - (a * b).sum(axis=1) / np.maximum(norms, 1e-12)).mean()
    assert log['embedding_transfer_loss'].item() == pytest.approx(expected, rel=1e-4)


class NoWaiting(TorchDispatchMode):
    """Refuses what would make a GPU tell Python how many values there are."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        assert 'nonzero' not in func.name()
        return func(*args, **(kwargs or {}))


def test_the_loss_of_an_incomplete_batch_asks_for_no_numbers() -> None:
    absent = {
        'present_ms': torch.tensor([1, 1, 0, 1, 1, 1]).bool(),
        'present_sar': torch.tensor([0, 1, 1, 1, 0, 1]).bool(),
    }
    task = three(transfer=True, transfer_guide='ms', transfer_warmup=0)
    inputs = task.training_inputs(samples(6) | absent)
    assert inputs['pairs_sar'].tolist() == [[1, 2, 4], [0, 2, 3]]
    with NoWaiting():
        task.objective(inputs)


def test_samples_without_any_modality() -> None:
    none = torch.tensor([1, 1, 0, 1]).bool()
    given = samples(4) | {f'present_{m}': none for m in THREE}
    task = three()
    with pytest.raises(ModalityError, match=r'samples \[2\] of a batch have none of'):
        task.training_inputs(given)
    one = torch.eye(3).bool()
    flags = {f'present_{m}': one[i] for i, m in enumerate(THREE)}
    with pytest.raises(BatchSizeError, match='fewer than two images of every'):
        task.training_inputs(samples(3) | flags)


def write_three(root: Path) -> Path:
    """Write 2 x 20 samples, of which those for training lack 1, 14 and 0 images."""
    shapes = {'ms': (3, 8, 8), 'sar': (2, 8, 8), 'dem': (1, 8, 8)}
    write_pairs(root, count=20, shapes=shapes)
    train = PairedFolders(str(root))
    names = [train.identifier(i) for i in range(0, len(train), 2)]
    for name in names:
        (root / 'sar' / f'{name}.tif').unlink()
    (root / 'ms' / f'{train.identifier(1)}.tif').unlink()
    return root


def fit_three(data: Path, folder: Path, *args: str) -> None:
    main(
        [
            *('fit', '--model', 'DisCoMKD', '--model.num_classes', '2', *TINY),
            *('--model.in_channels', json.dumps(THREE)),
            *('--data', 'PairedFoldersDataModule', '--data.root', str(data)),
            *('--data.modalities', '[ms, sar, dem]', '--data.batch_size', '7'),
            *('--data.missing', 'keep', '--trainer.logger', 'false'),
            *('--trainer.default_root_dir', str(folder), *args),
        ]
    )


@pytest.mark.parametrize(
    'form', ['pairwise', pytest.param('one-vs-rest', marks=pytest.mark.slow)]
)
def test_fit_with_missing_modalities(
    form: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level('INFO', 'lightning.pytorch.utilities.rank_zero')
    data = write_three(tmp_path / 'data')
    fit_three(
        data,
        tmp_path / 'run',
        *('--model.adversary', form, '--model.term_scale', 'constant_share'),
        *('--model.transfer', 'true', '--model.transfer_guide', 'dem'),
        *('--model.transfer_warmup', '0', '--data.allow_missing', 'true'),
        *('--trainer.max_epochs', '1'),
    )
    present = {
        m: len(PairedFolders(str(data), modalities=[m], missing='keep')) for m in THREE
    }
    assert present['dem'] > present['ms'] > present['sar']
    text = ', '.join(f'{m} {n}' for m, n in present.items())
    assert f'with all modalities ({text})' in caplog.text
    checkpoint = torch.load(tmp_path / 'run' / 'last.ckpt', weights_only=True)
    size = 6 if form == 'pairwise' else 3
    assert checkpoint['state_dict']['model.discriminator.weight'].shape[0] == size
    moments = checkpoint['optimizer_states'][0]['state'].values()
    assert all(x['exp_avg'].abs().sum() > 0 for x in moments)
    assert (tmp_path / 'run' / 'best' / 'dem.safetensors').exists()


@pytest.mark.parametrize(
    ('settings', 'match'),
    [
        ({'paired': False, 'missing': 'keep'}, 'has no effect on unpaired batches'),
        ({'paired': True, 'missing': 'skip'}, r"missing='skip'\. Set it to keep"),
        ({'paired': True, 'missing': 'keep', 'resident': True}, 'with resident=True'),
    ],
)
def test_allow_missing_is_never_ignored(
    settings: dict[str, Any], match: str, pairs: Path
) -> None:
    (pairs / 'sar' / 'Crop' / 'Crop_3.tif').unlink()
    datamodule = PairedFoldersDataModule(str(pairs), allow_missing=True, **settings)
    with pytest.raises(SettingError, match=match):
        datamodule.setup('fit')


def test_allow_missing_is_for_one_process(pairs: Path) -> None:
    (pairs / 'sar' / 'Crop' / 'Crop_3.tif').unlink()
    datamodule = PairedFoldersDataModule(
        str(pairs), paired=True, missing='keep', allow_missing=True
    )
    datamodule.trainer = Trainer(
        accelerator='cpu', devices=2, strategy='ddp', logger=False
    )
    with pytest.raises(SettingError, match='for one process, not 2: set --trainer'):
        datamodule.setup('fit')

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from torchgeo.datasets.utils import Sample

from torchgeo_discomkd.callbacks import LastCheckpoint
from torchgeo_discomkd.datamodules import PairedFoldersDataModule
from torchgeo_discomkd.errors import (
    BandError,
    BatchSizeError,
    LabelError,
    ModalityError,
    RunFolderExistsError,
    SettingError,
)
from torchgeo_discomkd.models import load_classifier, load_metadata
from torchgeo_discomkd.tasks import DisCoMKD

#: Losses are logged, which needs a trainer; some tests take a step without one.
pytestmark = pytest.mark.filterwarnings('ignore:You are trying to `self.log')

TERMS = ('classification', 'adversarial', 'modality', 'auxiliary', 'orthogonality')


def tiny(**kwargs: Any) -> DisCoMKD:
    defaults = {'num_classes': 2, 'model': 'test_resnet', 'lr': 1e-3}
    return DisCoMKD(**{**defaults, **kwargs})


def trainer(folder: Path, epochs: int = 1, **kwargs: Any) -> Trainer:
    return Trainer(
        max_epochs=epochs,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        accelerator='cpu',
        logger=False,
        callbacks=LastCheckpoint(),
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        **kwargs,
    )


def batch(size: int = 4, modalities: tuple[str, ...] = ('ms', 'sar')) -> Sample:
    generator = torch.Generator().manual_seed(0)
    channels = {'ms': 13, 'sar': 2, 'lidar': 1}
    sample: Sample = {
        f'image_{m}': torch.randn(size, channels[m], 8, 8, generator=generator)
        for m in modalities
    }
    sample['label'] = torch.arange(size) % 2
    return sample


def test_fit_takes_steps_and_moves_every_weight(pairs: Path, tmp_path: Path) -> None:
    task = tiny(students=True)
    before = {n: p.detach().clone() for n, p in task.named_parameters()}
    fit = trainer(tmp_path / 'run')
    fit.fit(task, datamodule=PairedFoldersDataModule(str(pairs), batch_size=8))
    assert fit.global_step == 4
    still = [n for n, p in task.named_parameters() if torch.equal(p, before[n])]
    assert not still
    logged = fit.callback_metrics
    terms = torch.stack([logged[f'train_{term}_loss'] for term in TERMS])
    assert torch.isclose(logged['train_loss'], terms.sum(), rtol=1e-5)
    for name in ('ms', 'sar', 'ms_student', 'sar_student'):
        for score in ('F1Score', 'OverallAccuracy', 'AverageAccuracy'):
            assert 0 <= logged[f'val_{name}_{score}'] <= 1
        assert f'val_{name}_ClasswiseF1Score_Crop' in logged


@pytest.mark.slow
def test_normalization_is_that_of_the_training_split(
    pairs: Path, tmp_path: Path
) -> None:
    for kind in ('standardize', 'percentile'):
        task = tiny(normalization=kind, students=True)
        datamodule = PairedFoldersDataModule(str(pairs), batch_size=8)
        short = trainer(tmp_path / kind, limit_train_batches=1, limit_val_batches=1)
        short.fit(task, datamodule=datamodule)
        dataset = datamodule.train_dataset
        assert dataset is not None
        samples = [dataset[i] for i in range(28)]
        for modality in ('ms', 'sar'):
            x = torch.stack([sample[f'image_{modality}'] for sample in samples])
            for module in (
                task.model.classifiers[modality].normalization,
                task.students[modality].normalizations[modality],  # ty: ignore[not-subscriptable, invalid-argument-type]
            ):
                y = module(x).transpose(0, 1).flatten(1)
                if kind == 'percentile':
                    assert y.min().item() == 0
                    assert y.max().item() == pytest.approx(1)
                else:
                    torch.testing.assert_close(
                        y.mean(1), torch.zeros(len(y)), rtol=0, atol=1e-3
                    )
                    torch.testing.assert_close(
                        y.std(1, correction=0), torch.ones(len(y)), rtol=0, atol=1e-3
                    )


def test_weights_of_the_terms() -> None:
    weights = dict(zip((f'{t}_weight' for t in TERMS), (2.0, 3, 5, 7, 11), strict=True))
    torch.manual_seed(0)
    task = tiny(**weights)
    labels = {m: batch()['label'] for m in task.modalities}
    output = task.model({m: batch()[f'image_{m}'] for m in task.modalities})
    terms = task.loss_terms(output, labels)
    loss = task.training_step(batch(), 0)
    expected = sum(weights[f'{name}_weight'] * terms[name] for name in TERMS)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize('formulation', ['paper', 'released'])
def test_formulations(formulation: str) -> None:
    torch.manual_seed(0)
    task = tiny(formulation=formulation)
    y = batch()['label']
    output = task.model({m: batch()[f'image_{m}'] for m in task.modalities})
    terms = task.loss_terms(output, {'ms': y, 'sar': y})
    losses = [cross_entropy(output.logits[m], y) for m in ('ms', 'sar')]
    adversarial = output.adversarial_logits
    if formulation == 'paper':
        index = [cross_entropy(adversarial['ms'], 0 * y), None]
        index[1] = cross_entropy(adversarial['sar'], 0 * y + 1)
        torch.testing.assert_close(terms['classification'], losses[0] + losses[1])
        torch.testing.assert_close(terms['adversarial'], index[0] + index[1])
    else:
        soft = -adversarial['ms'].log_softmax(1).sum(1)
        torch.testing.assert_close(terms['classification'], sum(losses) / 2)
        torch.testing.assert_close(terms['adversarial'], soft.mean() / 2)


def test_reversal_strength_scales_the_discriminators_pull() -> None:
    def gradient(strength: float, weight: float) -> Tensor:
        torch.manual_seed(0)
        task = tiny(adversarial_weight=weight, reversal_strength=strength)
        task.training_step(batch(), 0).backward()
        encoder = task.model.classifiers['sar'].encoder.invariant_encoder
        return torch.cat([p.grad.flatten() for p in encoder.parameters()])

    rest = gradient(1.0, 0.0)
    pull = gradient(1.0, 1.0) - rest
    assert pull.abs().max() > 1e-6
    torch.testing.assert_close(
        gradient(0.5, 1.0) - rest, pull / 2, rtol=1e-2, atol=1e-5
    )


def test_students_share_nothing_with_the_network() -> None:
    def gradients(students: bool) -> list[Tensor]:
        torch.manual_seed(0)
        task = tiny(students=students)
        task.training_step(batch(), 0).backward()
        return [p.grad for p in task.model.parameters() if p.grad is not None]

    one, two = gradients(True), gradients(False)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_three_modalities() -> None:
    task = tiny(in_channels={'ms': 13, 'sar': 2, 'lidar': 1})
    task.training_step(batch(modalities=('ms', 'sar', 'lidar')), 0).backward()
    assert task.model.discriminator.out_features == 3


def test_whichever_modalities_the_batch_has() -> None:
    task = tiny(students=True).eval()
    sample = batch(modalities=('sar',))
    prediction = task.predict_step(sample, 0)
    assert set(prediction) == {'sar'}
    torch.testing.assert_close(prediction['sar'].sum(1), torch.ones(4))
    x = sample['image_sar']
    torch.testing.assert_close(prediction['sar'], task(x, 'sar').softmax(1))


def test_read_outs_of_the_test_stage() -> None:
    task = tiny().eval()
    sample = batch(modalities=('sar',))
    logits = task.evaluate(sample, 'test')
    x = sample['image_sar']
    for use in ('invariant', 'informative'):
        embedding = getattr(task.model.classifiers['sar'].embed(x), use)  # ty: ignore
        expected = task.model.auxiliary_classifier(embedding)
        torch.testing.assert_close(logits[f'sar_{use}'], expected)


def test_metrics_against_counts(tmp_path: Path) -> None:
    class Fixed(DisCoMKD):
        """Answers 0, 0, 1, 1 whatever it sees."""

        def evaluate(self, batch: Sample, stage: str) -> dict[str, Tensor]:
            logits = torch.tensor([[2.0, 0], [2, 0], [0, 2], [0, 2]])
            return {'sar': logits.requires_grad_()}

    sample = batch(modalities=('sar',))
    sample['label'] = torch.tensor([0, 1, 1, 1])
    task = Fixed(num_classes=2, model='test_resnet', labels=['land', 'water'])
    loader = DataLoader([sample], batch_size=None)
    (scores,) = trainer(tmp_path).test(task, loader, verbose=False)
    # land: precision 1/2, recall 1, F1 2/3; water: precision 1, recall 2/3, F1 4/5
    assert scores['test_sar_ClasswiseF1Score_land'] == pytest.approx(2 / 3)
    assert scores['test_sar_ClasswiseF1Score_water'] == pytest.approx(4 / 5)
    assert scores['test_sar_F1Score'] == pytest.approx(2 / 3 / 4 + 4 / 5 * 3 / 4)
    assert scores['test_sar_OverallAccuracy'] == pytest.approx(3 / 4)
    assert scores['test_sar_AverageAccuracy'] == pytest.approx((1 + 2 / 3) / 2)
    assert 'test_ms_F1Score' not in scores


class Pairs(Dataset[Sample]):
    """A data set that knows nothing of this package."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Sample:
        generator = torch.Generator().manual_seed(index)
        return {
            'image_ms': torch.randn(13, 8, 8, generator=generator),
            'image_sar': torch.randn(2, 8, 8, generator=generator),
            'label': torch.tensor(index % 2),
        }


def test_foreign_loaders(tmp_path: Path) -> None:
    task = tiny(labels=['dry', 'flooded'])
    fit = trainer(tmp_path)
    loader = DataLoader(Pairs(), batch_size=4)
    fit.fit(task, loader, loader)
    assert fit.global_step == 3
    metadata = load_metadata(tmp_path / 'best' / 'sar.safetensors')
    assert metadata.classes == ('dry', 'flooded')
    assert metadata.modalities['sar'].bands == ('B1', 'B2')
    loaded = load_classifier(tmp_path / 'best' / 'sar.safetensors')
    x = torch.randn(3, 2, 8, 8)
    torch.testing.assert_close(loaded(x), task.eval()(x, 'sar'))


@pytest.mark.parametrize(
    ('kwargs', 'data', 'error', 'match'),
    [
        ({'num_classes': 3}, {}, LabelError, '--model.num_classes 2'),
        ({}, {'modalities': ['sar']}, ModalityError, 'ms'),
        ({'in_channels': {'ms': 4, 'sar': 2}}, {}, BandError, '{ms: 13, sar: 2}'),
        ({'in_channels': {'ms': 13, 'x': 2}}, {}, ModalityError, "'x'"),
    ],
)
def test_task_that_does_not_fit_the_data(
    pairs: Path,
    tmp_path: Path,
    kwargs: dict[str, Any],
    data: dict[str, Any],
    error: type[Exception],
    match: str,
) -> None:
    datamodule = PairedFoldersDataModule(str(pairs), **data)
    with pytest.raises(error, match=match):
        trainer(tmp_path).fit(tiny(**kwargs), datamodule=datamodule)
    assert not (tmp_path / 'best').exists()


def test_bad_batches() -> None:
    task = tiny()
    with pytest.raises(BatchSizeError, match='ms'):
        task.training_step(batch(1), 0)
    with pytest.raises(ModalityError, match='image_ms'):
        task.training_step(batch(modalities=('sar',)), 0)
    with pytest.raises(ModalityError, match='image_sar'):
        task.predict_step({'label': torch.zeros(1)}, 0)


def test_bad_settings() -> None:
    with pytest.raises(ModalityError):
        tiny(in_channels={'sar': 2})
    with pytest.raises(ModalityError, match='lidar'):
        tiny(weights={'lidar': True})
    with pytest.raises(LabelError, match='num_classes=2'):
        tiny(labels=['one', 'two', 'three'])
    with pytest.warns(UserWarning, match='opposite'):
        tiny(head='linear')
    tiny(head='linear', orthogonality='squared')


def test_released_formulation_has_two_modalities() -> None:
    three = {'ms': 13, 'sar': 2, 'dem': 1}
    with pytest.raises(SettingError, match='formulation paper'):
        DisCoMKD(three, formulation='released')


@pytest.mark.slow
def test_another_runs_classifiers_are_not_overwritten(
    pairs: Path, trained: Path
) -> None:
    datamodule = PairedFoldersDataModule(str(pairs), batch_size=8)
    before = (trained / 'best' / 'sar.safetensors').read_bytes()
    with pytest.raises(RunFolderExistsError, match=r'last\.ckpt'):
        trainer(trained).fit(tiny(), datamodule=datamodule)
    assert (trained / 'best' / 'sar.safetensors').read_bytes() == before


def test_checkpoint_of_another_task(trained: Path, tmp_path: Path) -> None:
    checkpoint = str(trained / 'last.ckpt')
    other = trainer(tmp_path / 'other')
    for kwargs, error in (
        ({'in_channels': {'ms': 13, 'sar': 2, 'x': 1}}, ModalityError),
        ({'in_channels': {'sar': 2, 'ms': 13}}, ModalityError),
        ({'num_classes': 3}, LabelError),
    ):
        with pytest.raises(error, match='the checkpoint has'):
            other.test(
                tiny(**kwargs),
                DataLoader(Pairs(), batch_size=4),
                ckpt_path=checkpoint,
                weights_only=False,
            )


@pytest.mark.slow
def test_checkpoint_of_other_data(pairs: Path, tmp_path: Path, trained: Path) -> None:
    checkpoint = trained / 'last.ckpt'
    moved = PairedFoldersDataModule(str(pairs), batch_size=8, run=1)
    with pytest.warns(UserWarning, match='another training split'):
        trainer(tmp_path / 'other', 2).fit(
            tiny(lr=1e-4), datamodule=moved, ckpt_path=checkpoint, weights_only=False
        )
    for modality in ('ms', 'sar'):
        (pairs / modality / 'Crop').rename(pairs / modality / 'Corn')
    renamed = PairedFoldersDataModule(str(pairs), batch_size=8)
    with pytest.raises(LabelError, match='Corn'):
        trainer(tmp_path / 'third', 2).fit(
            tiny(), datamodule=renamed, ckpt_path=checkpoint, weights_only=False
        )


def test_golden_short_run(pairs: Path, tmp_path: Path) -> None:
    """A change of numerics shows here first; a refactor leaves these losses alone."""
    golden = json.loads(
        (Path(__file__).parents[1] / 'data' / 'golden_run.json').read_text()
    )
    torch.manual_seed(0)
    fit = trainer(tmp_path, epochs=2)
    fit.fit(
        tiny(lr=1e-4),
        datamodule=PairedFoldersDataModule(str(pairs), batch_size=8, seed=0),
    )
    for term, expected in golden.items():
        assert fit.callback_metrics[f'train_{term}_loss'].item() == pytest.approx(
            expected, rel=2e-3
        ), term

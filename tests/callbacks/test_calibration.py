# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import csv
import json
import logging
import signal
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchgeo.datasets.utils import Sample
from torchmetrics.classification import MulticlassCalibrationError

from tests.conftest import TINY
from torchgeo_discomkd.callbacks import BestClassifiers
from torchgeo_discomkd.callbacks.run_summary import print_whole, summary_table
from torchgeo_discomkd.commands import main
from torchgeo_discomkd.models import fit_temperature, load_classifier, load_metadata
from torchgeo_discomkd.tasks import FusionClassification, PretrainedClassification

KEYS = {'temperature', 'val_CalibrationError', 'val_CalibrationError_calibrated'}


def write_overlapping_arrays(root: Path, number: int = 200) -> Path:
    """Write arrays whose classes overlap: the best classifier is right in 3 of 4."""
    root.mkdir()
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=number)
    np.save(root / 'labels.npy', labels)
    for prefix in ('MS', 'SAR'):
        data = rng.normal(0.12 * labels[:, None, None, None], 1, (number, 2, 8, 8))
        np.save(root / f'{prefix}_data_normalized.npy', data.astype(np.float32))
    parts = np.split(np.arange(number), [number // 2, number * 3 // 4])
    for name, part in zip(('train', 'valid', 'test'), parts, strict=True):
        np.save(root / f'{name}_idx.npy', part)
    return root


def split(root: Path, name: str, prefix: str = 'SAR') -> tuple[Tensor, Tensor]:
    """Read a split without the package."""
    chosen = np.load(root / f'{name}_idx.npy')
    data = np.load(root / f'{prefix}_data_normalized.npy')[chosen]
    labels = np.load(root / 'labels.npy')[chosen]
    return torch.from_numpy(data), torch.from_numpy(labels)


def calibration_error(logits: Tensor, labels: Tensor) -> float:
    return float(MulticlassCalibrationError(2)(logits.softmax(1), labels))


def fit_arrays(arrays: Path, folder: Path, *args: str, epochs: int = 6) -> Path:
    main(
        [
            *('fit', '--model', 'DisCoMKD', '--model.num_classes', '2', *TINY),
            *('--model.in_channels', '{ms: 2, sar: 2}', '--model.lr', '0.01'),
            *('--data', 'PairedArraysDataModule', '--data.root', str(arrays)),
            *('--data.classes', '[dry, flooded]', '--data.batch_size', '25'),
            *('--data.augment', 'false', '--trainer.max_epochs', str(epochs)),
            *('--trainer.default_root_dir', str(folder), *args),
        ]
    )
    return folder


@pytest.fixture(scope='module')
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_overlapping_arrays(tmp_path_factory.mktemp('data') / 'arrays')


@pytest.fixture
def fit(arrays: Path, tmp_path: Path) -> Callable[..., Path]:
    def fit(*args: str, name: str = 'run', epochs: int = 6) -> Path:
        return fit_arrays(arrays, tmp_path / name, *args, epochs=epochs)

    return fit


class Calibrated(NamedTuple):
    folder: Path
    printed: str


@pytest.fixture(scope='module')
def calibrated(arrays: Path) -> Calibrated:
    """Run with students, only for reading, and what it printed."""
    with redirect_stdout(StringIO()) as printed:
        folder = fit_arrays(arrays, arrays.parent / 'run', '--model.students', 'true')
    return Calibrated(folder, printed.getvalue())


def test_calibrated_at_the_end_of_fit(calibrated: Calibrated, arrays: Path) -> None:
    folder, printed = calibrated
    manifest = json.loads((folder / 'manifest.json').read_text())
    rows = []
    for path in folder.glob('metrics/*/metrics.csv'):
        with path.open() as file:
            rows += list(csv.DictReader(file))
    events = EventAccumulator(str(folder)).Reload()
    files = sorted((folder / 'best').rglob('*.safetensors'))
    assert len(files) == 4
    for path in files:
        student = '_student' if path.parent.name == 'students' else ''
        name, loaded = path.stem + student, load_classifier(path)
        images, labels = split(arrays, 'valid', path.stem.upper())
        logits = loaded(images)
        metadata = loaded.metadata
        assert metadata.temperature == pytest.approx(
            fit_temperature(logits, labels), rel=1e-5
        )
        before = calibration_error(logits, labels)
        after = calibration_error(logits / metadata.temperature, labels)
        scores = {k: metadata.scores[k] for k in KEYS - {'temperature'}}
        assert scores == {
            'val_CalibrationError': pytest.approx(before, abs=1e-5),
            'val_CalibrationError_calibrated': pytest.approx(after, abs=1e-5),
        }
        expected = scores | {'temperature': metadata.temperature}
        noted = manifest['best'][name]
        assert noted == expected | {
            'val_F1Score': metadata.scores['val_F1Score'],
            'epoch': metadata.epoch,
        }
        for key, value in expected.items():
            column = f'val_{name}_{key.removeprefix("val_")}'
            (logged,) = [row[column] for row in rows if row[column]]
            assert float(logged) == pytest.approx(value, abs=1e-5)
            assert column in events.Tags()['scalars']
        if not student:
            assert f'{before:.4f}' in printed
    # the aim of it all, on samples that no step has seen
    sar = load_classifier(folder / 'best' / 'sar.safetensors')
    images, labels = split(arrays, 'test')
    logits = sar(images)
    calibrated = logits / sar.metadata.temperature
    assert sar.metadata.temperature > 1.2
    assert calibration_error(calibrated, labels) < calibration_error(logits, labels)
    assert torch.equal(calibrated.argmax(1), logits.argmax(1))


def test_summary_fits_a_terminal_and_breaks_no_name(calibrated: Calibrated) -> None:
    lines = [line.rstrip() for line in calibrated.printed.splitlines()]
    (header,) = [line for line in lines if line.startswith('modality')]
    names = ['modality', 'epoch', 'F1', 'alone', 'ECE', 'calibrated', 'file']
    assert header.split() == names
    rows = lines[lines.index(header) + 1 :][:2]
    for name, row in zip(('ms', 'sar'), rows, strict=True):
        assert row.startswith(f'{name} ')
        assert row.endswith(f' best/{name}.safetensors')
        assert len(row) <= 80
    # this run has its progress bar disabled
    assert not any(line.startswith('epoch') for line in lines)


def test_summary_of_long_names_is_wider(capsys: pytest.CaptureFixture[str]) -> None:
    best, name = BestClassifiers(), 'sentinel-1_ascending_' * 4
    best.scores, best.epochs = {name: 0.5}, {name: 0}
    print_whole(Console(width=80), summary_table(best, calibration={}))
    _, row = capsys.readouterr().out.splitlines()
    assert row.split() == [name, '0', '0.5000', f'best/{name}.safetensors']


def test_scores_do_not_change_and_predictions_are_calibrated(
    calibrated: Calibrated, arrays: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = calibrated.folder
    path = folder / 'best' / 'sar.safetensors'
    metadata = load_metadata(path)
    main(['validate', '--config', str(folder / 'config.yaml')])
    lines = capsys.readouterr().out.splitlines()
    (line,) = [text for text in lines if text.startswith('sar ')]
    assert line.split()[1] == f'{metadata.scores["val_F1Score"]:.4f}'
    task = PretrainedClassification({'sar': str(path)})
    images, _ = split(arrays, 'test')
    probabilities = task.predict_step({'image_sar': images}, 0)['sar']
    expected = (load_classifier(path)(images) / metadata.temperature).softmax(1)
    torch.testing.assert_close(probabilities, expected)


@pytest.mark.slow
def test_resumed_run_starts_from_the_logits(fit: Callable[..., Path]) -> None:
    whole = fit(name='whole', epochs=2)
    parts = fit(name='parts', epochs=1)
    resume = ['--ckpt_path', str(parts / 'last.ckpt')]
    config = ['--config', str(parts / 'config.yaml')]
    # a complete run is calibrated once more and ends where it was
    before = {p: p.read_bytes() for p in (parts / 'best').iterdir()}
    main(['fit', *config, *resume])
    assert {p: p.read_bytes() for p in (parts / 'best').iterdir()} == before
    main(['fit', *config, *resume, '--trainer.max_epochs', '2'])
    for modality in ('ms', 'sar'):
        one, two = (f / 'best' / f'{modality}.safetensors' for f in (whole, parts))
        assert load_metadata(one) == load_metadata(two)
        assert load_metadata(one).temperature != 1
    one, two = (json.loads((f / 'manifest.json').read_text()) for f in (whole, parts))
    assert one['best'] == two['best']


@pytest.mark.usefixtures('handlers')
def test_run_that_was_stopped_is_not_calibrated(
    fit: Callable[..., Path], tmp_path: Path
) -> None:
    callback = ('--trainer.callbacks+=tests.commands.test_fit.Signal',)
    number = ('--trainer.callbacks.number', str(int(signal.SIGINT)))
    with pytest.raises(SystemExit):
        fit(*callback, *number, '--trainer.callbacks.epoch', '2', epochs=3)
    folder = tmp_path / 'run'
    for path in (folder / 'best').glob('*.safetensors'):
        metadata = load_metadata(path)
        assert metadata.temperature == 1
        assert 'val_CalibrationError' not in metadata.scores
    assert 'temperature' not in (folder / 'manifest.json').read_text()


class Tiles(Dataset[Sample]):
    """Overlapping classes, as somebody else's data set delivers them."""

    def __init__(self, number: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(2, (number,), generator=generator)
        noise = torch.randn(number, 2, 8, 8, generator=generator)
        self.images = noise + 0.12 * self.labels[:, None, None, None]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Sample:
        return {'image_sar': self.images[index], 'label': self.labels[index]}


class Foreign(LightningDataModule):
    """A data module of somebody else, which spoils batches of training."""

    def __init__(self) -> None:
        super().__init__()
        self.stages: list[str] = []

    def train_dataloader(self) -> DataLoader[Sample]:
        return DataLoader(Tiles(64, 0), batch_size=16)

    def val_dataloader(self) -> list[DataLoader[Sample]]:
        return [DataLoader(Tiles(30, seed), batch_size=16) for seed in (1, 2)]

    def on_after_batch_transfer(self, batch: Sample, dataloader_idx: int) -> Sample:
        assert self.trainer is not None
        if self.trainer.training:
            return batch | {'image_sar': batch['image_sar'] + 100}
        return batch


def train(folder: Path, data: Any = None, **kwargs: Any) -> Path:
    torch.manual_seed(0)
    task = FusionClassification(num_classes=2, model='test_resnet', lr=0.01)
    trainer = Trainer(
        accelerator='cpu',
        logger=False,
        default_root_dir=folder,
        max_epochs=2,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        **kwargs,
    )
    if data is None:
        trainer.fit(task, DataLoader(Tiles(64, 0), batch_size=16))
    else:
        trainer.fit(task, datamodule=data)
    return folder / 'best' / 'sar.safetensors'


def test_data_module_of_somebody_else(tmp_path: Path) -> None:
    loaded = load_classifier(train(tmp_path, Foreign()))
    both = [Tiles(30, seed) for seed in (1, 2)]
    logits = loaded(torch.cat([tiles.images for tiles in both]))
    labels = torch.cat([tiles.labels for tiles in both])
    expected = fit_temperature(logits, labels)
    assert loaded.metadata.temperature == pytest.approx(expected, rel=1e-5)
    assert expected != 1


def test_limit_of_batches_holds(tmp_path: Path) -> None:
    loaded = load_classifier(train(tmp_path, Foreign(), limit_val_batches=1))
    tiles = [Tiles(30, seed)[:16] for seed in (1, 2)]
    logits = loaded(torch.cat([t['image_sar'] for t in tiles]))
    expected = fit_temperature(logits, torch.cat([t['label'] for t in tiles]))
    assert loaded.metadata.temperature == pytest.approx(expected, rel=1e-5)
    assert expected != 1


@pytest.mark.filterwarnings('ignore:.*validation_step.*')
def test_without_validation(tmp_path: Path) -> None:
    assert not train(tmp_path).exists()


def test_validation_that_lacks_the_modality(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class OpticalInTheEnd(Foreign):
        def on_after_batch_transfer(self, batch: Sample, dataloader_idx: int) -> Sample:
            assert self.trainer is not None
            if self.trainer.validating and self.trainer.current_epoch == 2:
                return {'image_ms': batch['image_sar'], 'label': batch['label']}
            return batch

    with caplog.at_level(logging.INFO):
        path = train(tmp_path, OpticalInTheEnd())
    assert 'sar is not calibrated' in caplog.text
    assert load_metadata(path).temperature == 1

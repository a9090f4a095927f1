# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyogrio
import pytest
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from torchgeo_discomkd.commands import main
from torchgeo_discomkd.datamodules import PairedArraysDataModule
from torchgeo_discomkd.errors import ClassifierFileError, LabelError, SettingError
from torchgeo_discomkd.export import export_classifier
from torchgeo_discomkd.losses import DKD
from torchgeo_discomkd.models import load_classifier, load_metadata
from torchgeo_discomkd.tasks import (
    DisCoMKD,
    Distillation,
    FusionClassification,
    PretrainedClassification,
    multilabel_metrics,
)

from ..labels import LABELS, fit_labels, write_labels

pytestmark = pytest.mark.filterwarnings('ignore:You are trying to `self.log')


@pytest.fixture(scope='session')
def labelled_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the data 'arrays' and a run of several labels; for reading."""
    root = tmp_path_factory.mktemp('labels')
    arrays = write_labels(root / 'arrays')
    fit_labels(
        arrays,
        root / 'run',
        *('--model.students', 'plain', '--model.transfer', 'true'),
        *('--model.transfer_guide', 'ms', '--model.transfer_warmup', '0'),
        *('--model.class_weights', '[1, 2, 1]', '--trainer.max_epochs', '3'),
    )
    return root


def weighted_f1(y: ArrayLike, decided: ArrayLike) -> float:
    y, decided = np.asarray(y), np.asarray(decided)
    hits, support, found = (x.sum(0) for x in (y * decided, y, decided))
    f1 = 2 * hits / np.maximum(support + found, 1)
    return float((support * f1).sum() / support.sum())


def average_precision(y: ArrayLike, p: ArrayLike) -> float:
    """Mean precision at the rank of each positive sample; no two p are equal."""
    ranked = np.asarray(y)[np.argsort(-np.asarray(p))]
    precision = np.cumsum(ranked) / np.arange(1, len(ranked) + 1)
    return float(precision[ranked == 1].mean())


def arrays_of(root: Path) -> Tensor:
    return torch.from_numpy(np.load(root / 'arrays' / 'SAR_data_normalized.npy'))


def test_training_writes_files_of_several_labels(labelled_run: Path) -> None:
    for path in ('sar', 'ms', 'students/sar'):
        metadata = load_metadata(labelled_run / 'run/best' / f'{path}.safetensors')
        assert metadata.task == 'multilabel'
        assert metadata.classes == LABELS
        assert metadata.thresholds is not None
        assert all(0 <= t <= 1 for t in metadata.thresholds)
        scores = metadata.scores
        # 0.5 is one of the thresholds to choose from
        assert scores['val_F1Score_thresholds'] >= 0
        assert 0 <= scores['val_CalibrationError_calibrated'] <= 1
    config = (labelled_run / 'run/config.yaml').read_text()
    assert config.count('task: multilabel') == 2
    # trained: the weights moved, and separable labels are better than chance
    loaded = load_classifier(labelled_run / 'run/best/sar.safetensors')
    torch.manual_seed(0)
    assert (loaded.classifier.classifier.bias != 0).all()
    probabilities = loaded.probabilities(arrays_of(labelled_run)[:4])
    assert not torch.allclose(probabilities.sum(1), torch.ones(4), atol=1e-3)


def test_scores_use_the_thresholds_of_the_file(
    labelled_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = labelled_run / 'run/best/sar.safetensors'
    task = PretrainedClassification({'sar': str(file)})
    data = PairedArraysDataModule(
        str(labelled_run / 'arrays'),
        modalities=['sar'],
        classes=LABELS,
        task='multilabel',
    )
    trainer = silent_trainer()
    [scores] = trainer.test(task, datamodule=data, verbose=False)
    loaded = load_classifier(file)
    p = loaded.probabilities(arrays_of(labelled_run)[24:]).numpy()
    y = np.load(labelled_run / 'arrays/labels.npy')[24:]
    decided = p > np.array(loaded.metadata.thresholds)
    assert scores['test_sar_F1Score'] == pytest.approx(weighted_f1(y, decided))
    precision = np.mean([average_precision(y[:, i], p[:, i]) for i in range(3)])
    assert scores['test_sar_MeanAveragePrecision'] == pytest.approx(precision)
    # thresholds of this head say nothing about another one
    assert task.thresholds('sar_invariant') == (0.5,) * 3 != task.thresholds('sar')
    logits = task.evaluate({'image_sar': arrays_of(labelled_run)[24:]}, 'test')
    decided = logits['sar_invariant'].detach().numpy() > 0
    assert scores['test_sar_invariant_F1Score'] == pytest.approx(
        weighted_f1(y, decided)
    )


def test_files_of_another_kind_of_labels(labelled_run: Path, tmp_path: Path) -> None:
    file = labelled_run / 'run/best/sar.safetensors'
    task = PretrainedClassification({'sar': str(file)})
    root = write_labels(tmp_path / 'arrays', np.arange(32) % 3)
    data = PairedArraysDataModule(str(root), modalities=['sar'], classes=LABELS)
    with pytest.raises(LabelError, match='or another classifier') as error:
        silent_trainer().test(task, datamodule=data)
    assert '--model.task' not in str(error.value)


def silent_trainer(**kwargs: Any) -> Any:
    from lightning.pytorch import Trainer

    return Trainer(
        accelerator='cpu',
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **kwargs,
    )


@pytest.fixture(scope='session')
def tiles(labelled_run: Path) -> Path:
    folder = labelled_run / 'tiles'
    folder.mkdir()
    for i, image in enumerate(arrays_of(labelled_run)[:5].numpy()):
        np.save(folder / f'{i}.npy', image)
    return folder


@pytest.mark.parametrize('suffix', ['.parquet', '.csv', '.gpkg'])
def test_tables_have_a_column_of_labels(
    labelled_run: Path, tiles: Path, tmp_path: Path, suffix: str
) -> None:
    file = labelled_run / 'run/best/sar.safetensors'
    output = tmp_path / f'tiles{suffix}'
    main(['classify', str(file), str(tiles), '--output', str(output)])
    match suffix:
        case '.csv':
            table = pd.read_csv(output, keep_default_na=False)
        case '.parquet':
            table = pd.read_parquet(output)
        case _:
            # the geometry is no longer the last column
            table = pyogrio.read_dataframe(output, read_geometry=False)
    columns = ['path', 'labels', 'entropy', *(f'probability_{c}' for c in LABELS)]
    assert list(table.columns)[:6] == columns
    loaded = load_classifier(file)
    p = loaded.probabilities(arrays_of(labelled_run)[:5]).numpy()
    np.testing.assert_allclose(table[columns[3:]], p, atol=1e-4)
    thresholds = loaded.metadata.decision_thresholds or ()
    for row, labels in zip(p, table.labels, strict=True):
        found = [c for c, q, t in zip(LABELS, row, thresholds, strict=True) if q > t]
        assert labels == '; '.join(found)
    bits = -(p * np.log2(p) + (1 - p) * np.log2(1 - p)).mean(axis=1)
    np.testing.assert_allclose(table.entropy, bits, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('suffix', ['.onnx', '.pt2'])
def test_exported_programs_answer_the_same(
    labelled_run: Path, tiles: Path, tmp_path: Path, suffix: str
) -> None:
    file = labelled_run / 'run/best/students/sar.safetensors'
    program = tmp_path / f'sar{suffix}'
    export_classifier(file, program)
    tables = []
    for model in (file, program):
        output = tmp_path / f'{model.suffix[1:]}.parquet'
        main(['classify', str(model), str(tiles), '--output', str(output)])
        tables.append(pd.read_parquet(output))
    own, other = tables
    names = [f'probability_{c}' for c in LABELS]
    np.testing.assert_allclose(own[names], other[names], atol=1e-5)
    assert own.labels.tolist() == other.labels.tolist()
    if suffix == '.onnx':
        import onnx

        properties = {p.key: p.value for p in onnx.load(program).metadata_props}
        assert properties['task'] == 'multilabel'
        assert len(json.loads(properties['thresholds'])) == 3


@pytest.mark.slow
def test_predictions_and_checkpoints(labelled_run: Path, tmp_path: Path) -> None:
    main(
        [
            *('predict', '--config', str(labelled_run / 'run/config.yaml')),
            *('--ckpt_path', str(labelled_run / 'run/last.ckpt')),
            *('--trainer.default_root_dir', str(tmp_path)),
        ]
    )
    [table] = [pd.read_csv(p) for p in tmp_path.rglob('sar.csv')]
    assert table.columns[1] == 'labels'
    assert len(table) == 8


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['--min-confidence', '0.5'], 'min_confidence=0.5'),
        (['--scene'], 'one class in each cell'),
    ],
)
def test_what_needs_one_class_is_refused(
    labelled_run: Path,
    tiles: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    args: list[str],
    message: str,
) -> None:
    file = labelled_run / 'run/best/sar.safetensors'
    given, output = str(tiles), tmp_path / 'tiles.csv'
    if args == ['--scene']:
        given, output, args = str(tiles / '0.npy'), tmp_path / 'map.tif', []
    command = ['classify', str(file), given, '--output', str(output), *args]
    with pytest.raises(SystemExit) as stopped:
        main(command)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ('given', 'model', 'message'),
    [
        ('multilabel', 'multiclass', 'set --model.task multilabel'),
        ('multiclass', 'multilabel', 'set --model.task multiclass'),
        ('binary', 'multiclass', 'set --model.task binary'),
    ],
)
def test_kinds_of_labels_must_agree(
    tmp_path: Path, given: Any, model: str, message: str
) -> None:
    labels = None if given == 'multilabel' else np.arange(32) % 2
    root = write_labels(tmp_path / 'arrays', labels)
    data = PairedArraysDataModule(str(root), task=given, batch_size=8)
    number = 3 if given == 'multilabel' else 2
    task = DisCoMKD({'ms': 3, 'sar': 2}, number, 'test_resnet', task=model)  # ty: ignore[invalid-argument-type]
    with pytest.raises(LabelError, match=message):
        silent_trainer(max_epochs=1).fit(task, datamodule=data)


def test_several_labels_are_not_guessed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_labels(tmp_path / 'arrays')
    with pytest.raises(SystemExit) as stopped:
        fit_labels(root, tmp_path / 'run', '--data.task', 'multiclass')
    assert stopped.value.code == 2
    assert '--data.task multilabel' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('label', 'message'),
    [
        (torch.tensor([0, 1]), r'shape \(2,\)'),
        (torch.zeros(2, 4, dtype=torch.long), r'shape \(2, 4\)'),
        (torch.tensor([[0, 1, 2], [0, 0, 0]]), 'holds 2'),
        (torch.zeros(2, 3), 'float32'),
        ([0, 1], 'list'),
    ],
)
def test_wrong_labels_are_refused(label: Any, message: str) -> None:
    task = FusionClassification({'sar': 2}, 3, 'test_resnet', task='multilabel')
    batch = {'image_sar': torch.zeros(2, 2, 8, 8), 'label': label}
    with pytest.raises(LabelError, match=message):
        task.training_inputs(batch)
    with pytest.raises(LabelError, match=message):
        task.validation_step(batch, 0)


def test_one_logit_trains_and_is_read_again(tmp_path: Path) -> None:
    root = write_labels(tmp_path / 'arrays', np.arange(32) % 2)
    data = PairedArraysDataModule(
        str(root), task='binary', classes=('Land', 'Water'), batch_size=8
    )
    task = DisCoMKD(
        {'ms': 3, 'sar': 2}, 2, 'test_resnet', task='binary', lr=0.01, students='both'
    )
    before = task.model.auxiliary_classifier.weight.clone()
    trainer = silent_trainer(
        max_epochs=1, default_root_dir=tmp_path, num_sanity_val_steps=0
    )
    trainer.fit(task, datamodule=data)
    assert before.shape[0] == 1
    assert not torch.equal(before, task.model.auxiliary_classifier.weight)
    metadata = load_metadata(tmp_path / 'best/sar.safetensors')
    assert (metadata.task, metadata.classes) == ('binary', ('Land', 'Water'))
    loaded = load_classifier(tmp_path / 'best/sar.safetensors')
    assert loaded.auxiliary is not None
    assert loaded.auxiliary.weight.shape[0] == 1
    images = torch.randn(3, 2, 8, 8)
    p = loaded.probabilities(images)
    torch.testing.assert_close(p.sum(1), torch.ones(3))
    z = loaded(images)[:, 1] / metadata.temperature
    torch.testing.assert_close(p[:, 1], z.sigmoid())


def test_student_and_teacher_have_the_same_kind_of_labels(labelled_run: Path) -> None:
    teacher = str(labelled_run / 'run/best/ms.safetensors')
    settings: dict[str, Any] = {
        'in_channels': {'sar': 2},
        'num_classes': 3,
        'model': 'test_resnet',
    }
    with pytest.raises(ClassifierFileError, match=r'set --model\.task multilabel'):
        Distillation(teacher, **settings).load_teacher()
    with pytest.raises(SettingError, match='DKD'):
        Distillation(teacher, DKD(), **settings, task='multilabel')
    task = Distillation(teacher, **settings, task='multilabel')
    batch = {
        'image_sar': torch.randn(4, 2, 8, 8),
        'image_ms': torch.randn(4, 3, 8, 8),
        'label': torch.tensor([[0, 1, 1]] * 4),
    }
    loss, terms = task.objective(task.training_inputs(batch))
    loss.backward()
    assert terms['distillation_loss'] > 0
    assert task.model.classifier.weight.grad.abs().sum() > 0


def test_unsuitable_settings_are_refused() -> None:
    with pytest.raises(LabelError, match='two classes'):
        FusionClassification({'sar': 2}, 3, 'test_resnet', task='binary')
    with pytest.raises(SettingError, match='multiclass, multilabel or binary'):
        FusionClassification({'sar': 2}, 3, 'test_resnet', task='several')  # ty: ignore[invalid-argument-type]


def test_metrics_leave_out_labels_that_do_not_occur() -> None:
    metrics = multilabel_metrics(3, LABELS)
    p = torch.tensor([[0.9, 0.2, 0.7], [0.6, 0.8, 0.1], [0.2, 0.3, 0.9]])
    y = torch.tensor([[1, 0, 0], [0, 1, -1], [1, 0, 0]])
    scores = {k: float(v) for k, v in metrics(p, y).items()}
    assert np.isnan(scores.pop('ClasswiseF1Score_Water'))
    assert np.isfinite(list(scores.values())).all()
    assert scores['ClasswiseF1Score_Crop'] == pytest.approx(0.5)
    assert scores['F1Score'] == pytest.approx((2 * 0.5 + 1) / 3)
    assert scores['MacroF1Score'] == pytest.approx(0.75)
    # 2 of 3, all of 3 and none of 2 known decisions
    crop = 1 / 3
    assert scores['OverallAccuracy'] == pytest.approx(4 / 8)
    assert scores['AverageAccuracy'] == pytest.approx((crop + 1 + 0) / 3)
    precision = average_precision([1, 0, 1], p[:, 0])
    assert scores['MeanAveragePrecision'] == pytest.approx((precision + 1) / 2)


@pytest.mark.parametrize('kind', ['multilabel', 'multiclass'])
def test_a_process_without_samples_adds_nothing(
    kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process has scored some, so this one computes with it."""
    monkeypatch.setattr('torchgeo_discomkd.tasks.base.summed', lambda _, x: x + 1)
    task = FusionClassification({'sar': 2}, 3, 'test_resnet', task=kind)
    task.trainer = silent_trainer()
    metrics, expected = (task.metrics[f'{split}_sar'] for split in ('val', 'test'))
    assert task._is_scored(metrics)
    p = torch.rand(6, 3, generator=torch.Generator().manual_seed(0))
    y = p.argmax(1) if kind == 'multiclass' else (p.roll(1, 0) > 0.5).long()
    for each in (metrics, expected):
        each.update(p, y)
    for name, value in expected.compute().items():
        torch.testing.assert_close(metrics.compute()[name], value, equal_nan=True)

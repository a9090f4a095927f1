# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from tests.fakes import write_tile
from torchgeo_discomkd.datamodules import PairedFoldersDataModule
from torchgeo_discomkd.errors import (
    BandError,
    ClassifierFileError,
    LayoutError,
    ModalityError,
    SettingError,
    UnitError,
)
from torchgeo_discomkd.models import DisentangledClassifier, load_classifier
from torchgeo_discomkd.tasks import FusionClassification, PretrainedClassification


@pytest.fixture
def run(trained_in_db: Path) -> Path:
    return trained_in_db


def score(
    task: PretrainedClassification, root: Path, **kwargs: Any
) -> dict[str, float]:
    trainer = Trainer(accelerator='cpu', logger=False, enable_progress_bar=False)
    datamodule = PairedFoldersDataModule(str(root), **kwargs)
    (scores,) = trainer.test(task, datamodule=datamodule, verbose=False)
    return scores


def test_logits_are_those_of_the_file(run: Path) -> None:
    path = str(run / 'best' / 'sar.safetensors')
    task = PretrainedClassification({'radar': path})
    x = torch.randn(3, 2, 8, 8) - 13
    batch = {'image_sar': x, 'image_other': x}
    for stage in ('val', 'predict'):
        assert set(task.evaluate(batch, stage)) == {'radar'}
    logits = task.evaluate(batch, 'test')
    loaded = load_classifier(path)
    assert loaded.metadata.temperature != 1
    expected = loaded(x) / loaded.metadata.temperature
    torch.testing.assert_close(logits['radar'], expected)
    classifier, auxiliary = loaded.classifier, loaded.auxiliary
    assert isinstance(classifier, DisentangledClassifier)
    assert auxiliary is not None
    embeddings = classifier.embed(x)
    for use in ('invariant', 'informative'):
        expected = auxiliary(getattr(embeddings, use))
        torch.testing.assert_close(logits[f'radar_{use}'], expected)


def test_impossible_values_are_missing(run: Path) -> None:
    path = str(run / 'best' / 'sar.safetensors')
    task = PretrainedClassification({'radar': path})
    x = torch.randn(3, 2, 16, 16) - 13
    x[0, 1, 2, 2] = torch.nan
    [found] = task.evaluate({'image_sar': x.nan_to_num(-9999)}, 'predict').values()
    loaded = load_classifier(path)
    torch.testing.assert_close(found, loaded(x) / loaded.metadata.temperature)


def test_files_named_like_a_read_out(run: Path) -> None:
    path = str(run / 'best' / 'sar.safetensors')
    PretrainedClassification({'sar_invariant': path})
    with pytest.raises(SettingError, match=r"'sar_invariant'\].*another name"):
        PretrainedClassification({'sar': path, 'sar_invariant': path})


def test_files_whose_modality_the_data_lacks_are_left_out(
    run: Path, pairs: Path
) -> None:
    files = {m: str(run / 'best' / f'{m}.safetensors') for m in ('ms', 'sar')}
    scores = score(PretrainedClassification(files), pairs, modalities=['sar'])
    assert 'test_sar_F1Score' in scores
    assert 'test_ms_F1Score' not in scores


def test_data_that_does_not_fit(run: Path, pairs: Path, tmp_path: Path) -> None:
    path = str(run / 'best' / 'sar.safetensors')

    def check(**kwargs: Any) -> None:
        root = kwargs.pop('root', pairs)
        score(PretrainedClassification({'sar': path}), root, **kwargs)

    with pytest.raises(ModalityError, match=r"\['ms'\]"):
        check(modalities=['ms'])
    with pytest.raises(BandError, match=r'--data\.bands'):
        check(bands={'sar': ['B2', 'B1']})
    with pytest.raises(UnitError, match='dB'):
        check(units={'sar': 'linear'})
    for path_ in pairs.glob('sar/*/*.tif'):
        write_tile(path_, np.full((2, 8, 8), 0.1, np.float32))
    with pytest.raises(UnitError, match='dB'):
        check()
    other = tmp_path / 'other.safetensors'
    labels = ['Crop', 'Rock']
    untrained = FusionClassification({'sar': 2}, 2, 'test_resnet', labels=labels)
    untrained.save_classifier('sar', other, {}, 0)
    files = {'a': str(run / 'best' / 'sar.safetensors'), 'b': str(other)}
    with pytest.raises(ClassifierFileError, match='different classes'):
        PretrainedClassification(files)


def test_no_classifier_for_the_batch(run: Path) -> None:
    task = PretrainedClassification({'sar': str(run / 'best' / 'sar.safetensors')})
    with pytest.raises(ModalityError, match=r"\['ms'\]"):
        task.evaluate({'image_ms': torch.zeros(1, 13, 8, 8)}, 'predict')


def test_missing_data(run: Path, tmp_path: Path) -> None:
    task = PretrainedClassification({'sar': str(run / 'best' / 'sar.safetensors')})
    with pytest.raises(LayoutError):
        score(task, tmp_path / 'nowhere')

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import minimize

from torchgeo_discomkd.commands import main
from torchgeo_discomkd.datamodules import PairedFoldersDataModule
from torchgeo_discomkd.models import load_classifier, store_temperature

from ..classify.tile_data import write_model
from .test_classify import command, fails


def stems(output: Path) -> pd.DataFrame:
    frame = pd.read_csv(output)
    return frame.set_index(frame.path.map(lambda path: Path(path).stem))


def test_fit_writes_weights_and_classify_uses_them(
    trained_once: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best, pairs = trained_once / 'run' / 'best', trained_once / 'pairs'
    content = json.loads((best / 'combination.json').read_text())
    [entry] = content['combinations']
    assert entry['modalities'] == ['ms', 'sar']

    # the weights, independently, from the validation split
    module = PairedFoldersDataModule(str(pairs), batch_size=8, num_workers=0)
    module.setup('fit')
    samples = [module.val_dataset[i] for i in range(len(module.val_dataset))]
    labels = np.array([int(sample['label']) for sample in samples])
    logs = []
    for modality in ('ms', 'sar'):
        images = torch.stack([sample[f'image_{modality}'] for sample in samples])
        classifier = load_classifier(best / f'{modality}.safetensors')
        logs.append(np.log(classifier.probabilities(images).double().numpy()))

    def loss(w: np.ndarray) -> float:
        powers = np.exp(w[0] * logs[0] + w[1] * logs[1])
        p = powers / powers.sum(axis=1, keepdims=True)
        likelihood = np.log(p[np.arange(len(labels)), labels]).sum()
        return -likelihood + 2 * ((w - 0.5) ** 2).sum()

    found = minimize(loss, [0.5, 0.5], bounds=[(0, 10)] * 2)
    np.testing.assert_allclose(entry['weights'], found.x, atol=1e-3)

    # tiles of which some lack a sensor
    for modality in ('ms', 'sar'):
        shutil.copytree(pairs / modality / 'Crop', tmp_path / modality)
    (tmp_path / 'ms' / 'Crop_1.tif').unlink()
    (tmp_path / 'sar' / 'Crop_2.tif').unlink()
    (tmp_path / 'cloudy.txt').write_text('# seen by eye\nCrop_3\n\nCrop_99\n')
    models = [best / 'ms.safetensors', best / 'sar.safetensors']
    out = tmp_path / 'both.csv'
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('warnings.filters', [])
        command(
            *(*models, f'ms={tmp_path}/ms', f'sar={tmp_path}/sar', '--output', out),
            *('--skip', f'ms={tmp_path}/cloudy.txt'),
        )
    captured = capsys.readouterr()
    assert "skip: 1 of 2 names are those of no tile of 'ms'" in captured.err
    assert '20 tiles: 18 of ms+sar, 1 of sar, 1 of ms; 1 of ms skipped' in captured.err
    assert 'weights: ms ' in captured.err
    assert 'used 17 ms+sar, 2 sar, 1 ms\n' in captured.out
    frame, single = stems(out), {}
    for model in models:
        one = tmp_path / f'only_{model.stem}.csv'
        command(model, tmp_path / model.stem, '--output', one)
        single[model.stem] = stems(one)
    columns = ['label', 'confidence', 'entropy', 'probability_Crop']
    # other tiles in a batch may change the last bits
    assert frame.unused[['Crop_1', 'Crop_3', 'Crop_2']].tolist() == [
        *('ms: no tile', 'ms: skipped', 'sar: no tile')
    ]
    for name, modality in (('Crop_1', 'sar'), ('Crop_3', 'sar'), ('Crop_2', 'ms')):
        expected = single[modality].loc[name, columns]
        assert frame.loc[name, 'label'] == expected['label']
        values = frame.loc[name, columns[1:]].astype(float)
        np.testing.assert_allclose(values, expected[columns[1:]].astype(float), 1e-5)
    rest = frame.index.difference(['Crop_1', 'Crop_2', 'Crop_3'])
    odds = 1.0
    for modality, weight in zip(('ms', 'sar'), entry['weights'], strict=True):
        p = single[modality].probability_Crop[rest]
        odds = odds * (p / (1 - p)) ** weight
    np.testing.assert_allclose(frame.probability_Crop[rest], odds / (1 + odds), 1e-4)


def test_weights_of_other_files_are_not_used(
    trained_once: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = shutil.copytree(trained_once / 'run' / 'best', tmp_path / 'best')
    store_temperature(best / 'sar.safetensors', 3.0, {})
    inputs = [f'{m}={trained_once}/pairs/{m}/Crop' for m in ('ms', 'sar')]
    models = [best / 'ms.safetensors', best / 'sar.safetensors']
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('warnings.filters', [])
        command(*models, *inputs, '--output', tmp_path / 'out.csv')
    err = capsys.readouterr().err
    assert 'have equal weights, because no combination.json is for them' in err
    assert 'weights: equal weights' in err


@pytest.fixture
def models(trained_once: Path) -> list[Path]:
    best = trained_once / 'run' / 'best'
    return [best / 'ms.safetensors', best / 'sar.safetensors']


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        ([], 'are model files: give the tiles of each modality'),
        (['tiles'], 'tiles: with several classifiers, write the modality before it'),
        (['ms=ms'], "there is a classifier of 'sar', but no tiles of it"),
        (['ms=ms', 'sar=sar', 'dem=ms'], "tiles of 'dem', but no classifier of it"),
        (['ms=ms', 'sar=none'], 'none does not exist'),
        (['ms=ms', 'sar=sar', '--modality', 'sar'], '--modality: only for one'),
        (['ms=ms', 'sar=sar', '--bands', '1,2'], '--bands: only for one classifier'),
        (['ms=ms', 'sar=sar', '--skip', 'ms=no.txt'], 'no.txt cannot be read'),
        (['ms=ms', 'sar=sar', '--skip', 'no.txt'], '--skip no.txt: with several'),
        (
            ['ms=ms', 'sar=sar', *('--stem-pattern', 'ms=a') * 2],
            "--stem-pattern: 2 patterns for 'ms' (a, a): give one",
        ),
        (['ms=ms', 'sar=sar', '--output', 'map.tif'], 'only combined for tiles'),
        (['ms=ms', 'sar=sar', '--output', 'maps/'], 'only combined for tiles'),
    ],
)
def test_mistakes(
    trained_once: Path,
    models: list[Path],
    args: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(trained_once / 'pairs')
    output = [] if '--output' in args else ['--output', str(tmp_path / 'out.csv')]
    _, err = fails(capsys, 2, *models, *args, *output)
    assert message in err.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_files_that_do_not_belong_together(
    models: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_model(tmp_path / 'sar.safetensors')
    end = ['ms=x', 'sar=x', '--output', 'out.csv']
    _, err = fails(capsys, 2, models[0], other, *end)
    assert 'combine classifiers of the same classes' in err.splitlines()[-1]
    _, err = fails(capsys, 2, models[1], other, *end)
    assert "both classify 'sar'" in err.splitlines()[-1]


def test_options_of_several_classifiers(
    models: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(['classify', str(models[0]), 'x', '--output', 'o.csv', '--skip', 'ms=a'])
    assert '--skip: only for several classifiers' in capsys.readouterr().err

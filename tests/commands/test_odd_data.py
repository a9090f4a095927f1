# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Training and scoring on odd files, through the command line."""

import logging
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml

from tests.conftest import TINY
from tests.datasets.radar import amplitude, filled, grey, power, times, write_radar
from torchgeo_discomkd.classify.checkpoint import load_checkpoint
from torchgeo_discomkd.commands import main
from torchgeo_discomkd.datasets import PairedFolders, band_statistics, image_profile
from torchgeo_discomkd.models import load_metadata

ASSUMED = ' (assumed from the values: state it with units)'


def fit(root: Path, folder: Path, *args: str) -> None:
    """Train one classifier of SAR for one epoch."""
    main(
        [
            *('fit', '--model', 'FusionClassification', '--model.num_classes', '2'),
            *('--model.in_channels', '{sar: 2}', *TINY, '--trainer.max_epochs', '1'),
            *('--data', 'PairedFoldersDataModule', '--data.root', str(root)),
            *('--data.batch_size', '7', '--trainer.default_root_dir', str(folder)),
            *args,
        ]
    )


def fails(
    capsys: pytest.CaptureFixture[str], command: Any, *args: Any, code: int = 2
) -> str:
    """Run a command that ends with *code*; return what it says."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        command(*args)
    assert stop.value.code == code
    error = capsys.readouterr().err
    assert 'Traceback' not in error
    return error


#: Enough to read, check and train, but no file is written.
SHORT = ('--trainer.fast_dev_run', 'true')


@pytest.mark.parametrize(
    ('writing', 'args', 'line'),
    [
        ({}, [], f'by name; unit dB{ASSUMED}'),
        (
            {'encode': times(100), 'dtype': 'int16', 'scale': 0.01},
            [],
            f'by name; scale 0.01 from the file; unit dB{ASSUMED}',
        ),
        (
            {'encode': amplitude},
            ['--data.units', '{sar: amplitude}'],
            'by name; unit amplitude, converted to dB',
        ),
        # nothing is known of 8 bits, and nothing is assumed
        (
            {'encode': grey, 'dtype': 'uint8', 'names': None},
            [],
            'by order; unit unknown',
        ),
    ],
)
def test_reading_is_said_in_one_line(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    writing: dict[str, Any],
    args: list[str],
    line: str,
) -> None:
    root = write_radar(tmp_path / 'data', **writing)
    with caplog.at_level(logging.INFO, 'lightning.pytorch'):
        fit(root, tmp_path / 'run', *SHORT, *args)
    said = [m for m in caplog.messages if m.startswith('sar: bands')]
    assert said == [f'sar: bands {line}']


@pytest.mark.slow
def test_fill_value_that_is_not_declared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, run = write_radar(tmp_path / 'data', filled(-9999)), tmp_path / 'run'
    error = fails(capsys, fit, root, run)
    assert '12 % are -9999' in error
    assert not (run / 'best').exists()
    # the option, as it is printed
    option, value = error.split(' add ')[1].strip().rstrip('.').split(' ', 1)
    assert (option, value) == ('--data.nodata', "'{sar: -9999}'")
    with pytest.warns(UserWarning, match='per band: VV 448, VH 448'):
        fit(root, run, option, value.strip("'"), *SHORT)
    pack = ['pack', '--data', 'PairedFoldersDataModule', '--data.root', str(root)]
    pack += [option, value.strip("'"), '--output', str(tmp_path / 'x.safetensors')]
    main(pack)
    assert f'unit dB{ASSUMED}; nodata -9999\n' in capsys.readouterr().err
    with pytest.warns(UserWarning, match='per band: VV 448, VH 448'):
        fit(tmp_path / 'x.safetensors', run, option, value.strip("'"), *SHORT)
    error = fails(
        capsys, fit, tmp_path / 'x.safetensors', run, option, '{sar: 0}', *SHORT
    )
    assert "was packed with {'nodata': -9999" in error


@pytest.mark.parametrize(
    ('writing', 'args', 'message'),
    [
        (
            {'encode': times(100), 'dtype': 'int16'},
            [],
            "times 100, without a tag that says so: add --data.units '{sar: db_x100}'",
        ),
        ({'encode': power}, ['--data.units', '{sar: dB}'], "state the unit 'linear'"),
        ({}, ['--data.nodata', '{s1: 0}'], "Unknown modalities ['s1']"),
        ({'names': ('VV', 'VV')}, [], 'give each a unique name with band_names'),
    ],
)
def test_data_that_cannot_be_used(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    writing: dict[str, Any],
    args: list[str],
    message: str,
) -> None:
    root = write_radar(tmp_path / 'data', **writing)
    assert message in fails(capsys, fit, root, tmp_path / 'run', *args)


def test_tile_of_other_polarizations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_radar(tmp_path / 'data')
    for path in (root / 'sar' / 'Water').iterdir():
        with rasterio.open(path, 'r+') as file:
            file.descriptions = ('HH', 'HV')
    error = fails(capsys, fit, root, tmp_path / 'run')
    assert 'names its bands HH, HV, not VV, VH' in error


def test_zeros_in_half_of_the_tiles(tmp_path: Path) -> None:
    root = write_radar(tmp_path / 'data', filled(0, 9))
    message = r"56 % of band V. of 'sar' have the same value, 0 \(.*'\{sar: 0\}'\)"
    with pytest.warns(UserWarning, match=message):
        fit(root, tmp_path / 'run', *SHORT)


@pytest.fixture(scope='module')
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the data 'data' and the run 'run', whose unit is assumed."""
    root = tmp_path_factory.mktemp('odd')
    fit(write_radar(root / 'data'), root / 'run')
    return root


def classifier(trained: Path) -> Path:
    return trained / 'run' / 'best' / 'sar.safetensors'


def test_file_keeps_unit_and_profile(trained: Path) -> None:
    dataset = PairedFolders(str(trained / 'data'))
    sar = load_metadata(classifier(trained)).modalities['sar']
    assert (sar.bands, sar.unit, sar.tile_size) == (('VV', 'VH'), 'dB', (16, 16))
    profile, x = sar.profile, np.stack([s['image_sar'].numpy() for s in dataset])
    assert profile == image_profile(dataset, 'sar', band_statistics(dataset, 'sar'))
    assert profile is not None
    for band, quantiles in enumerate(profile.quantiles):
        expected = np.quantile(
            x[:, band].astype(np.float64),
            (0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1),
        )
        np.testing.assert_allclose(quantiles, expected, rtol=1e-6)
    assert (profile.tiles, profile.pixel_size, profile.crs_kind) == (
        (14, 10, 'projected')
    )


def test_checkpoint_takes_the_profile_of_its_run(trained: Path, tmp_path: Path) -> None:
    sar = load_metadata(classifier(trained)).modalities['sar']
    last = trained / 'run' / 'last.ckpt'
    assert load_checkpoint(last).metadata.modalities == {'sar': sar}
    alone = shutil.copy(last, tmp_path)
    with pytest.warns(UserWarning, match='does not contain the names and the unit'):
        images = load_checkpoint(alone).metadata.modalities['sar']
    assert images.profile is None


def evaluate(trained: Path, root: Path, command: str = 'test', *args: str) -> None:
    """Score the classifier on other data."""
    main(
        [
            *(command, '--model', 'PretrainedClassification'),
            *('--model.classifiers', f'{{sar: {classifier(trained)}}}'),
            *('--data', 'PairedFoldersDataModule', '--data.root', str(root)),
            *('--trainer.default_root_dir', str(root.parent / 'scores')),
            *('--trainer.accelerator', 'cpu', '--trainer.logger', 'false'),
            *('--trainer.enable_progress_bar', 'false', *args),
        ]
    )


def scores(capsys: pytest.CaptureFixture[str]) -> list[float]:
    """Return the scores of the last test, in the order of the table."""
    lines = capsys.readouterr().out.splitlines()
    return [float(x) for line in lines for x in re.findall(r'\b[01]\.\d{3,}', line)]


@pytest.mark.slow
def test_same_scores(
    tmp_path: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(trained, trained / 'data')
    expected = scores(capsys)
    assert len(expected) > 3
    other_names = {'names': ('Sigma0_VV_db', 'Sigma0_VH_db'), 'pixel': 12}
    tagged: dict[str, Any] = {'encode': times(100), 'dtype': 'int16', 'scale': 0.01}
    evaluate(trained, write_radar(tmp_path / 'tagged', **tagged, **other_names))
    assert scores(capsys) == pytest.approx(expected, abs=1e-4)
    root = write_radar(tmp_path / 'amplitude', amplitude)
    evaluate(trained, root, 'test', '--data.units', '{sar: amplitude}')
    assert scores(capsys) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ('command', 'writing', 'message'),
    [
        (
            'test',
            {'encode': lambda v: v + 9},
            'differ from those of training: 100 % of',
        ),
        ('validate', {'pixel': 30}, "'sar' has pixels of 30 m, in training 10 m"),
        ('test', {'encode': filled(0, 8)}, '50 % of VV have the same value, 0 '),
    ],
)
def test_other_data_are_doubted(
    tmp_path: Path, trained: Path, command: str, writing: dict[str, Any], message: str
) -> None:
    root = write_radar(tmp_path / 'data', **writing)
    with pytest.warns(UserWarning, match=message):
        evaluate(trained, root, command)


@pytest.mark.parametrize(
    ('writing', 'message'),
    [
        ({'encode': power}, "takes 'sar' in dB, but the data is in linear"),
        (
            {'names': None},
            "takes the 'sar' bands ['VV', 'VH'], but the data has ['B1', 'B2']",
        ),
        ({'names': ('HH', 'HV')}, "but the data has ['HH', 'HV']"),
        ({'encode': times(100), 'dtype': 'int16'}, "--data.units '{sar: db_x100}'"),
        ({'encode': filled(-9999)}, "add --data.nodata '{sar: -9999}'"),
        ({'encode': grey, 'dtype': 'uint8'}, 'said to be in dB, but ranges from'),
    ],
)
def test_other_data_are_refused(
    tmp_path: Path,
    trained: Path,
    capsys: pytest.CaptureFixture[str],
    writing: dict[str, Any],
    message: str,
) -> None:
    root = write_radar(tmp_path / 'data', **writing)
    assert message in fails(capsys, evaluate, trained, root)


def write_benchmark(folder: Path, **options: Any) -> Path:
    """Write the configuration of a benchmark on 'ms' and 'sar' below *folder*."""
    config = {
        'results': str(folder / 'results'),
        'in_channels': {'ms': 2, 'sar': 2},
        'num_classes': 2,
        'scenarios': ['cross-modal'],
        'methods': ['KDv1'],
        'variants': ['ORIG'],
        'ablations': [],
        'runs': 1,
        'model': 'test_resnet',
        'trainer': {'max_epochs': 1, 'accelerator': 'cpu'},
        'data': {
            'class_path': 'PairedFoldersDataModule',
            'init_args': {'root': str(folder / 'data'), 'batch_size': 7, **options},
        },
    }
    path = folder / 'benchmark.yaml'
    path.write_text(yaml.safe_dump(config))
    return path


def test_benchmark_checks_the_data_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_radar(tmp_path / 'data', filled(-9999))
    write_radar(tmp_path / 'data', grey, 'uint8', names=('a', 'b'), modality='ms')
    config = str(write_benchmark(tmp_path))
    for args in (['--dry-run'], []):
        error = fails(capsys, main, ['benchmark', config, *args])
        assert "add --data.nodata '{sar: -9999}'" in error
    assert not (tmp_path / 'results' / 'runs').exists()
    config = str(write_benchmark(tmp_path, nodata={'sar': -9999}))
    with pytest.warns(UserWarning, match='per band: VV 448, VH 448'):
        main(['benchmark', config, '--dry-run'])
    assert 'About 0:' in capsys.readouterr().out

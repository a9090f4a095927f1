# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import json
import logging
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from torchgeo_discomkd import datasets
from torchgeo_discomkd.commands import main
from torchgeo_discomkd.datasets import PairedFolders
from torchgeo_discomkd.models import load_metadata


def rename(pairs: Path) -> dict[str, str]:
    """Rename tiles as archives do; return the patterns of their stems.

    Stems name the sensor, 'sar' lies in a subfolder, and one class has an accent, in
    another Unicode form in each modality.
    """
    for modality, form in {'ms': 'NFC', 'sar': 'NFD'}.items():
        folder = pairs / modality / unicodedata.normalize(form, 'Forêt')
        (pairs / modality / 'Crop').rename(folder)
        for path in sorted((pairs / modality).rglob('*.tif')):
            stem = path.stem.replace('_', f'_{modality}_')
            target = path.parent / ('x' if modality == 'sar' else '') / f'{stem}.tif'
            target.parent.mkdir(exist_ok=True)
            path.rename(target)
    (pairs / 'sar' / 'Water' / 'notes.txt').touch()
    shutil.copy(pairs / 'ms/Water/Water_ms_1.tif', pairs / 'ms/Water/map.tif')
    return {'ms': '(.+)_ms_(.+)', 'sar': '(.+)_sar_(.+)'}


@pytest.mark.slow
def test_training_from_a_pack_is_the_same(
    pairs: Path,
    fit_pairs: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    patterns = json.dumps(rename(pairs))
    config = {
        'trainer': {'max_epochs': 1},
        'data': {
            'class_path': 'PairedFoldersDataModule',
            'init_args': {'root': str(pairs), 'stem_pattern': json.loads(patterns)},
        },
    }
    (pairs.parent / 'run.yaml').write_text(json.dumps(config))
    packed = pairs.parent / 'pairs.safetensors'
    main(['pack', '--config', str(pairs.parent / 'run.yaml'), '--output', str(packed)])
    reasons = {'ms': 'not matching stem_pattern', 'sar': 'of other types (.txt)'}
    lines = [
        f'{m}: 40 images in 2 classes below {pairs}/{m}; left 1 file: 1 {reason}'
        for m, reason in reasons.items()
    ]
    assert capsys.readouterr().err.splitlines()[:2] == lines
    stems = ('--data.stem_pattern', patterns)
    with caplog.at_level(logging.INFO, 'lightning.pytorch'):
        first = fit_pairs(*stems, name='folders')
    assert [m for m in caplog.messages if ' images in ' in m] == lines
    second = fit_pairs(*stems, '--data.root', str(packed), name='packed')
    resident = ('--data.root', str(packed), '--data.resident', 'true')
    third = fit_pairs(*stems, *resident, name='resident')
    for name in ('ms', 'sar'):
        runs = (first, second, third)
        files = [run / 'best' / f'{name}.safetensors' for run in runs]
        assert len({file.read_bytes() for file in files}) == 1
    assert load_metadata(files[0]).classes == ('Forêt', 'Water')


def fails(capsys: pytest.CaptureFixture[str], code: int, *args: str | Path) -> str:
    """Run a command that ends with *code*; return what it says."""
    with pytest.raises(SystemExit) as error:
        main(['pack', *map(str, args)])
    assert error.value.code == code
    return ''.join(capsys.readouterr())


def test_arguments_of_the_data_module(
    pairs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pairs.parent / 'run.yaml').write_text(
        'data: {class_path: PairedFoldersDataModule, init_args: {root: nowhere}}'
    )
    output = pairs.parent / 'x.safetensors'
    arguments = ['--data.root', str(pairs), '--workers=2', '--data.units={sar: dB}']
    config = ['--config', str(pairs.parent / 'run.yaml'), '--output', str(output)]
    main(['pack', *config, *arguments])
    assert '40 ms (uint16), 40 sar (float32)' in capsys.readouterr().out
    assert PairedFolders(str(output)).units['sar'] == 'dB'
    assert '--overwrite' in fails(capsys, 2, *config, *arguments)
    main(['pack', *config, *arguments, '--overwrite'])


def test_wrong_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / 'run.yaml').write_text('trainer: {max_epochs: 1}\n')
    output = ('--output', tmp_path / 'x.safetensors')
    message = fails(capsys, 2, '--config', tmp_path / 'run.yaml', *output)
    assert 'does not configure a data module' in message
    data = ('--data', 'PairedFoldersDataModule', '--data.root', tmp_path)
    assert '--output is required' in fails(capsys, 2, *data)
    assert 'nonsense' in fails(capsys, 2, *data, *output, '--nonsense')
    assert 'data' in fails(capsys, 2, *output)
    assert '--data.units' in fails(capsys, 0, '--data.help', 'PairedFoldersDataModule')


def test_interrupted(
    pairs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(datasets, 'write_pack', interrupt)
    data = ('--data', 'PairedFoldersDataModule', '--data.root', pairs)
    message = fails(capsys, 130, *data, '--output', pairs / 'x.safetensors')
    assert 'run the same command again to continue' in message


def test_help_imports_nothing_heavy() -> None:
    code = """
import sys
from torchgeo_discomkd.commands.pack import run
try:
    run(['--help'])
except SystemExit:
    print({'jsonargparse', 'lightning', 'torch', 'numpy', 'yaml'} & {*sys.modules})
"""
    command = [sys.executable, '-c', code]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert out.startswith('usage: discomkd pack ')
    assert '--data.help' in out
    assert out.splitlines()[-1] == 'set()'

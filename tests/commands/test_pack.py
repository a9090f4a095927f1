# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from torchgeo_discomkd import datasets
from torchgeo_discomkd.commands import main
from torchgeo_discomkd.datasets import PairedFolders


def test_training_from_a_pack_is_the_same(
    pairs: Path, trained: Path, fit_pairs: Callable[..., Path]
) -> None:
    config = {
        'trainer': {'max_epochs': 1},
        'data': {
            'class_path': 'PairedFoldersDataModule',
            'init_args': {'root': str(pairs)},
        },
    }
    (pairs.parent / 'run.yaml').write_text(json.dumps(config))
    packed = pairs.parent / 'pairs.safetensors'
    main(['pack', '--config', str(pairs.parent / 'run.yaml'), '--output', str(packed)])
    second = fit_pairs('--data.root', str(packed), name='packed')
    third = fit_pairs(
        *('--data.root', str(packed), '--data.resident', 'true'), name='resident'
    )
    for name in ('ms', 'sar'):
        runs = (trained, second, third)
        files = [run / 'best' / f'{name}.safetensors' for run in runs]
        assert len({file.read_bytes() for file in files}) == 1


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

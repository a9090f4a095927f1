# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from torchgeo_discomkd.commands import main

from ..export.classifiers import SAR, write_classifier


def test_export(
    sar_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / 'new' / 'sar.pt2'
    card = ['--license', 'MIT', '--data-name', 'Tiles', '--card', 'contact=a=b']
    main(['export', str(sar_file), '--output', str(output), *card])
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{output}: 'sar', PyTorch program, 32x32 pixels, 750,")
    assert second.endswith(' (16 random images)')
    difference = float(second.partition('classifier file: ')[2].split()[0])
    assert 0 <= difference < 1e-5
    with zipfile.ZipFile(output) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith('extra/model_card'))
        written = json.loads(archive.read(name))
    assert (written['license'], written['data_name']) == ('MIT', 'Tiles')
    assert written['contact'] == 'a=b'


@pytest.mark.slow
def test_any_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_classifier(
        tmp_path / 'sar.safetensors', modalities={'sar': replace(SAR, tile_size=None)}
    )
    main(['export', str(source), '--output', str(tmp_path / 'sar.pt2')])
    out = capsys.readouterr().out
    assert "'sar', PyTorch program, any height and width, 750" in out


@pytest.mark.parametrize(
    ('output', 'arguments', 'message'),
    [
        ('sar.onnx', ['--card', 'license'], 'error: --card license: give KEY=VALUE'),
        ('sar.onnx', ['--card', '=x'], 'error: --card =x: give KEY=VALUE'),
        ('sar.tflite', [], "the extension '.tflite' is unknown"),
        ('taken.pt2', [], 'or replace it with --overwrite'),
        ('sar.onnx', ['--check', 'nowhere'], 'nowhere: there is no such file'),
        ('sar.onnx', ['--unknown'], 'unrecognized arguments: --unknown'),
    ],
)
def test_mistakes(
    sar_file: Path,
    tmp_path: Path,
    output: str,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / 'taken.pt2').touch()
    with pytest.raises(SystemExit) as exit_:
        main(['export', str(sar_file), '--output', str(tmp_path / output), *arguments])
    captured = capsys.readouterr()
    assert exit_.value.code == 2
    assert message in captured.err
    assert not captured.out
    assert [file.name for file in tmp_path.iterdir()] == ['taken.pt2']


def test_help_does_not_wait_for_pytorch() -> None:
    code = (
        'import atexit, sys\n'
        'from torchgeo_discomkd.commands import main\n'
        "heavy = {'torch', 'rasterio', 'onnx', 'lightning', 'torchgeo'}\n"
        "atexit.register(lambda: print('heavy:', heavy & set(sys.modules)))\n"
        "main(['export', '--help'])\n"
    )
    command = [sys.executable, '-c', code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert '--output' in result.stdout
    assert result.stdout.endswith('heavy: set()\n')


@pytest.mark.slow
def test_neither_torchgeo_nor_lightning(student_file: Path, tmp_path: Path) -> None:
    code = (
        'import sys\n'
        'from torchgeo_discomkd.commands import main\n'
        'main(sys.argv[1:])\n'
        "heavy = {'torchgeo', 'lightning', 'kornia', 'onnx', 'onnxruntime'}\n"
        'raise SystemExit(len(heavy & set(sys.modules)))\n'
    )
    arguments = ['export', str(student_file), '--output', str(tmp_path / 'sar.pt2')]
    subprocess.run([sys.executable, '-c', code, *arguments], check=True)


@pytest.mark.parametrize('package', ['onnx', 'onnxruntime', 'onnxscript'])
def test_without_onnx(
    sar_file: Path,
    tmp_path: Path,
    package: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    with pytest.raises(SystemExit) as exit_:
        main(['export', str(sar_file), '--output', str(tmp_path / 'sar.onnx')])
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f'error: ONNX files need the package {package},')
    assert "pip install 'torchgeo_discomkd[onnx]'" in error
    assert not list(tmp_path.iterdir())

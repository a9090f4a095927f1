# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from tests.performance.ray_tasks import DEADLY, squares
from torchgeo_discomkd.classify import RayEngine, load_predictor
from torchgeo_discomkd.commands import main

from .scene.scenes import random_scene, write_scene
from .tile_data import write_tiles


def classify(*args: str | Path) -> int:
    """Run the command; return its exit code."""
    with pytest.raises(SystemExit) as end:
        main(['classify', *map(str, args), '--device', 'cpu'])
    assert isinstance(end.value.code, int)
    return end.value.code


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['--output', 'a.csv', '--address', 'auto'], '--address: only with --engine'),
        (['--output', 'a.csv', '--jobs', '2'], '--jobs: only with --engine ray'),
        (['--output', 'a.tif', '--engine', 'ray'], '--engine: only for tables and'),
        (['--output', 'a.csv', '--engine', 'ray', '--jobs', '0'], 'jobs=0: give 1'),
    ],
)
def test_options_without_meaning(
    args: list[str],
    message: str,
    student_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_tiles(tmp_path / 'tiles', 1)
    assert classify(student_file, 'tiles', *args) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ['tiles']


@pytest.mark.slow
def test_a_deadly_image_is_one_row(
    exported: dict[str, Path], ray: None, capsys: pytest.CaptureFixture[str]
) -> None:
    predictor = load_predictor(exported['onnx'], device='cpu')
    engine = RayEngine(exported['onnx'], device='cpu', jobs=2)
    numbers = list(range(21))
    chunks = engine.classify(squares, predictor, numbers, 2, str, lambda *r: r)
    rows = [row for chunk in chunks for row in chunk]
    assert [row[0] for row in rows] == list(map(str, numbers))
    _, reason = rows.pop(DEADLY)
    assert reason.startswith('unreadable: its worker died 2 times (')
    assert rows == [(str(n), str(n * n)) for n in numbers if n != DEADLY]
    lines = capsys.readouterr().err.splitlines()
    assert sum(': the worker of 4 to 5 died' in line for line in lines) == 2
    assert sum(': the worker of 5 died' in line for line in lines) == 2


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['onnx', 'safetensors'])
def test_the_table_is_the_local_one(
    kind: str,
    files: dict[str, Path],
    tmp_path: Path,
    ray: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_tiles(tmp_path / 'tiles', 2000)
    (tmp_path / 'tiles/00700.tif').write_text('no image')
    run = partial(classify, files[kind], 'tiles', '--batch-size', 64)
    assert run('--output', 'local.csv') == 3
    assert run('--output', 'ray.csv', '--engine', 'ray', '--jobs', '2') == 3
    assert Path('ray.csv').read_bytes() == Path('local.csv').read_bytes()
    rows = pd.read_csv('ray.csv')
    assert len(rows) == 2000
    assert rows.status[700].startswith('unreadable: ')


@pytest.mark.slow
def test_maps_are_the_local_ones(
    files: dict[str, Path],
    tmp_path: Path,
    ray: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path('scenes').mkdir()
    for i in range(5):
        write_scene(Path(f'scenes/{i}.tif'), random_scene(48, 64, seed=i))
    Path('scenes/2.tif').write_text('no image')
    run = partial(classify, files['onnx'], 'scenes')
    assert run('--output', 'local/') == 3
    engine = '--engine', 'ray', '--jobs', '2'
    assert run('--output', 'ray/', *engine) == 3
    names = sorted(path.name for path in Path('local').iterdir())
    assert sorted(path.name for path in Path('ray').iterdir()) == names
    for name in ('0.tif', '4_confidence.tif', '3.qml', 'summary.csv'):
        assert Path('ray', name).read_bytes() == Path('local', name).read_bytes()
    capsys.readouterr()
    Path('ray/3.tif').unlink()
    assert run('--output', 'ray/', '--resume', *engine) == 3
    assert capsys.readouterr().out.count(', kept') == 3
    assert Path('ray/3.tif').read_bytes() == Path('local/3.tif').read_bytes()

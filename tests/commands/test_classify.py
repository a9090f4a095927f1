# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio

from tests.fakes import write_tile
from torchgeo_discomkd.commands import main

from ..classify.tile_data import db, make_metadata, write_model, write_tiles


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / 'sar.safetensors')


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    write_tiles(tmp_path / 'tiles', 6)
    return tmp_path / 'tiles'


def command(*args: str | Path) -> None:
    main(['classify', *map(str, args), '--device', 'cpu'])


def fails(
    capsys: pytest.CaptureFixture[str], code: int, *args: str | Path
) -> tuple[str, str]:
    """Run a command that ends with *code*; return its two outputs."""
    with pytest.raises(SystemExit) as error:
        command(*args)
    assert error.value.code == code
    return capsys.readouterr()


def test_three_words_make_a_table(
    tmp_path: Path, model: Path, tiles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'out.parquet'
    command(model, tiles, '--output', out)
    captured = capsys.readouterr()
    assert captured.out == (
        'read 6 tiles: bands by order; dB by its values\n'
        f'{out}: 6 tiles, 0 without a label (6 ok)\n'
    )
    assert '6/6' in captured.err
    assert 'tiles/s' in captured.err
    assert len(geopandas.read_parquet(out)) == 6
    _, err = fails(capsys, 2, model, tiles, '--output', out)
    assert err.splitlines()[-1].startswith(f'error: {out} exists')
    command(model, tiles / '00001.tif', '--output', out, '--overwrite')
    assert len(geopandas.read_parquet(out)) == 1


def test_all_options(tmp_path: Path, model: Path, tiles: Path) -> None:
    write_tile(tmp_path / 'linear.tif', 10 ** (db(-10)[::-1] / 10), crs='EPSG:32631')
    out = tmp_path / 'out.csv'
    command(
        *(
            '--batch-size',
            '2',
            '--workers',
            '3',
            '--scale',
            'Linear',
            '--bands',
            '2, 1',
        ),
        *('--min-confidence', '1', '--max-nodata', '0.5', '--crs', 'EPSG:3857'),
        *('--modality', 'sar', model, tmp_path / 'linear.tif', '--output', out),
    )
    frame = pd.read_csv(out)
    assert frame.status.tolist() == ['ok']
    assert frame.label.tolist() == ['uncertain']
    # 3 degrees east in metres
    assert f'{np.radians(3) * 6378137:.0f}' in frame.WKT[0]


def test_some_tiles_have_no_label(
    tmp_path: Path, model: Path, tiles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tiles / '00002.tif').write_text('hello')
    out = tmp_path / 'out.geojson'
    stdout, stderr = fails(capsys, 3, model, tiles, '--output', out)
    assert stdout.splitlines()[-1] == (
        f'{out}: 6 tiles, 1 without a label (5 ok, 1 unreadable)'
    )
    assert f'first tile without a label: {tiles}/00002.tif: unreadable: ' in stderr
    assert geopandas.read_file(out).status.str.startswith('unreadable').sum() == 1


def test_swapped_bands_are_a_line_without_code(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tile(tmp_path / 'a.tif', db(-10)[::-1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('warnings.filters', [])
        command(model, tmp_path / 'a.tif', '--output', tmp_path / 'out.csv')
    [line] = [x for x in capsys.readouterr().err.splitlines() if 'warning' in x]
    assert line.startswith('warning: In 1 of the first 1 tiles VV is weaker than VH')


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['nothing', '--output', 'out.csv'], 'nothing does not exist'),
        (
            ['empty', '--output', 'out.csv'],
            'empty: no .tif, .tiff, .png, .jpg, .jpeg, .npy file is in it',
        ),
        (['x*.tif', '--output', 'out.csv'], 'no file matches this pattern'),
        (['tiles', '--output', 'out.shp'], "extension '.shp' is unknown"),
        (['tiles', '--output', 'out.csv', '--crs', 'EPSG:1'], "crs='EPSG:1'"),
        (['tiles', '--output', 'out.csv', '--workers', '0'], 'workers=0'),
        (['tiles', '--output', 'out.csv', '--stride', '8'], '--stride: only for maps'),
        (['tiles', '--output', 'o.csv', '--overwrite', '--resume'], 'exclude'),
        (['tiles', '--output', 'map.tif'], 'map of one scene, but 6 images'),
        (['tiles', '--output', 'map.tif', '--resume'], '--resume: only for tables and'),
        (['tiles', '--output', '/proc/x/out.csv'], '/proc/x/out.csv cannot be written'),
        (['tiles', '--output', '/proc/out.csv'], '/proc/out.csv cannot be written'),
        (['tiles', '--output', 'o.csv', '--modality', 'ms'], "'sar', not 'ms'"),
    ],
)
def test_mistakes(
    model: Path,
    tiles: Path,
    args: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tiles.parent / 'empty').mkdir()
    monkeypatch.chdir(tiles.parent)
    before = sorted(tiles.parent.iterdir())
    _, err = fails(capsys, 2, model, *args)
    [line] = [line for line in err.splitlines() if line.startswith('error: ')]
    assert message in line
    assert sorted(tiles.parent.iterdir()) == before


def test_model_that_is_none(
    tmp_path: Path, tiles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, err = fails(capsys, 2, 'no.safetensors', tiles, '--output', 'out.csv')
    assert 'error: no.safetensors: there is no such file' in err
    (tmp_path / 'bad.safetensors').write_bytes(b'hello')
    out = tmp_path / 'out.csv'
    _, err = fails(capsys, 2, tmp_path / 'bad.safetensors', tiles, '--output', out)
    assert 'bad.safetensors' in err
    assert not out.exists()


@pytest.mark.parametrize('args', [['--scale', 'x'], ['--batch-size', 'x'], ['--hm']])
def test_arguments_that_are_none(
    model: Path, tiles: Path, args: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    _, err = fails(capsys, 2, model, tiles, '--output', 'o.csv', *args)
    assert 'usage: discomkd classify' in err


def test_map_of_a_scene_in_two_files(tmp_path: Path) -> None:
    model = write_model(tmp_path / 'sar.safetensors', make_metadata(size=(8, 8)))
    array = db(-10, 32)
    for i, band in enumerate(('VV', 'VH')):
        write_tile(tmp_path / f'{band}.tif', array[[i]], crs='EPSG:32631')
    out = tmp_path / 'map.tif'
    command(
        *(model, f'VH={tmp_path}/VH.tif', f'VV={tmp_path}/VV.tif'),
        *('--output', out, '--stride', '4'),
    )
    with rasterio.open(out) as file:
        assert file.shape == (8, 8)
        assert file.transform.a == 40


def test_options_of_the_other_kind(
    tmp_path: Path, model: Path, tiles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extra = ('--polygons', 'a.gpkg', '--preview', 'a.png')
    _, err = fails(capsys, 2, model, tiles, '--output', tmp_path / 'o.csv', *extra)
    assert '--polygons, --preview: only for maps of scenes (.tif, or a folder)' in err
    extra = ('--crs', 'EPSG:4326')
    for output in ('o.tif', f'{tmp_path}/'):
        _, err = fails(capsys, 2, model, tiles, '--output', output, *extra)
        assert '--crs: only for tables;' in err


SLOW_MODEL = """
import signal, sys, time
# tests that run in the background of a shell ignore it
signal.signal(signal.SIGINT, signal.default_int_handler)
from torchgeo_discomkd.classify import predictor
from torchgeo_discomkd.commands import main
from torchgeo_discomkd.tables import table
table._SECONDS = 0.5
fast = predictor.Predictor.probabilities
def slow(self, images):
    time.sleep(0.05)
    return fast(self, images)
predictor.Predictor.probabilities = slow
main(['classify', *sys.argv[1:], '--device', 'cpu'])
"""


def start(*args: str | Path) -> subprocess.Popen[str]:
    """Start a command that classifies 40 tiles a second, at the most."""
    return subprocess.Popen(
        [sys.executable, '-c', SLOW_MODEL, *map(str, args), '--batch-size', '2'],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {'OMP_NUM_THREADS': '1'},
    )


def wait_for(process: subprocess.Popen[str], folder: Path, pattern: str) -> None:
    for _ in range(1200):
        if any(folder.glob(pattern)):
            return
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)
    pytest.fail('no rows after two minutes')


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tiles(tmp_path / 'tiles', 600)
    out, whole = tmp_path / 'out.parquet', tmp_path / 'whole.parquet'
    args = model, tmp_path / 'tiles', '--output', out
    process = start(*args)
    wait_for(process, tmp_path, 'out.parquet.partial/part*.parquet')
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not out.exists()
    _, err = fails(capsys, 2, *args)
    assert '--resume' in err
    command(*args, '--resume')
    command(model, tmp_path / 'tiles', '--output', whole)
    found, expected = map(geopandas.read_parquet, (out, whole))
    assert found.path.is_unique
    pd.testing.assert_frame_equal(found, expected, rtol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [out.name, whole.name, 'sar.safetensors', 'tiles']
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ('number', 'code'), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_stopped(number: int, code: int, tmp_path: Path, model: Path) -> None:
    write_tiles(tmp_path / 'tiles', 200)
    out = tmp_path / 'out.parquet'
    process = start(model, tmp_path / 'tiles', '--output', out)
    wait_for(process, tmp_path, 'out.parquet.partial/part*.parquet')
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert 'interrupted: run the same command with --resume to continue' in err
    assert 'Traceback' not in err
    command(model, tmp_path / 'tiles', '--output', out, '--resume')
    frame = geopandas.read_parquet(out)
    assert len(frame) == frame.path.nunique() == 200


IMPORTS = """
import sys
from torchgeo_discomkd.commands import main
wrong = {'torchgeo', 'lightning', 'pytorch_lightning', 'kornia', *sys.argv[1].split()}
try:
    main(sys.argv[2:])
except SystemExit as error:
    assert not error.code, error.code
print(sorted(wrong & set(sys.modules)), file=sys.stderr)
"""


def without(libraries: str, *args: object) -> str:
    """Run a command, check that it imported none of these, return what it printed."""
    result = subprocess.run(
        [sys.executable, '-c', IMPORTS, libraries, *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr.splitlines()[-1] == '[]'
    return result.stdout


def test_help_starts_fast() -> None:
    printed = without('torch rasterio pyarrow numpy', 'classify', '--help')
    assert 'usage: ' in printed


@pytest.mark.slow
def test_tiles_start_fast(tmp_path: Path, model: Path, tiles: Path) -> None:
    without('', 'classify', model, tiles, '--output', tmp_path / 'out.gpkg')


def test_onnx_file_starts_without_torch(
    tmp_path: Path, exported: dict[str, Path]
) -> None:
    onnx, scene = exported['onnx'], tmp_path / 'scene.tif'
    write_tile(scene, db(-10, 32), crs='EPSG:32632')
    table, classes = tmp_path / 'out.parquet', tmp_path / 'map.tif'
    for output in (table, classes):
        without('torch timm', 'classify', onnx, scene, '--output', output)
    assert len(geopandas.read_parquet(table)) == 1
    with rasterio.open(classes) as file:
        assert file.read(1).any()

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Files that are not what the classifier was trained on, through the command line."""

import json
import re
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pyogrio
import pytest
import rasterio
from numpy.typing import NDArray

from tests.export.classifiers import CLASSES, PROFILED, write_classifier
from torchgeo_discomkd.commands import main
from torchgeo_discomkd.export import export_classifier

from .odd_files import ODD, is_hole, make_image
from .scene.scenes import read, write_scene

SCENE, TILE = 80, 32

#: Enough to see that every kind of model file knows the profile.
FEW = ['power', 'x 100', 'filled with -9999', 'amplitude', 'pixels of 5 m']

Map = tuple[NDArray[np.uint8], NDArray[np.float32], dict[str, str]]


class Exported(dict[str, Path]):
    """Model files, which are exported once they are asked for."""

    def __missing__(self, kind: str) -> Path:
        self[kind] = self['safetensors'].with_suffix(f'.{kind}')
        export_classifier(self['safetensors'], self[kind], card={})
        return self[kind]


#: The program of PyTorch takes twice as long to export.
EXPORTS = ['onnx', pytest.param('pt2', marks=pytest.mark.slow)]


@pytest.fixture(scope='module')
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A classifier with a profile of its training tiles, in every kind of file."""
    folder = tmp_path_factory.mktemp('model')
    described = {'modalities': {'sar': PROFILED}, 'kind': 'fusion', 'head': None}
    # far from uniform
    described['temperature'] = 0.3
    model = write_classifier(folder / 'sar.safetensors', seed=12, **described)
    return Exported(safetensors=model)


@pytest.fixture(scope='module')
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All odd scenes, and one with missing pixels, 'holes'."""
    folder, image = tmp_path_factory.mktemp('scenes'), make_image(SCENE)
    for name, odd in ODD.items():
        odd.write(folder / f'{name}.tif', image)
    write_scene(
        folder / 'holes.tif', np.where(is_hole(image), np.float32('nan'), image)
    )
    return folder


@pytest.fixture(scope='module')
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All odd tiles, and one with missing pixels, 'holes'."""
    folder, image = tmp_path_factory.mktemp('tiles'), make_image(TILE)
    for name, odd in ODD.items():
        odd.write(folder / f'{name}.tif', image)
    write_scene(
        folder / 'holes.tif', np.where(is_hole(image), np.float32('nan'), image)
    )
    return folder


@pytest.fixture(autouse=True)
def shown_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command print its warnings."""
    monkeypatch.setattr('warnings.filters', [])


def classify(*args: str | Path) -> int:
    """Run the command and return its exit code."""
    try:
        main(['classify', *map(str, args), '--device', 'cpu', '--overwrite'])
    except SystemExit as error:
        return int(error.code or 0)
    return 0


def read_map(path: Path) -> Map:
    with rasterio.open(path) as file:
        tags = file.tags()
    return read(path), read(path.with_name(f'{path.stem}_confidence.tif')), tags


@pytest.fixture(scope='module')
def maps(models: dict[str, Path], scenes: Path) -> dict[bool, Map]:
    """Maps of the plain scene and of that with missing pixels."""
    maps = {}
    for holes, name in ((False, 'plain'), (True, 'holes')):
        output = scenes / 'maps' / f'{name}.tif'
        output.parent.mkdir(exist_ok=True)
        code = classify(
            models['safetensors'], scenes / f'{name}.tif', '--output', output
        )
        assert code == 0
        maps[holes] = read_map(output)
    classes, confidence, _ = maps[False]
    assert len(np.unique(classes)) > 1
    assert np.ptp(confidence) > 0.1
    return maps


def assert_same_map(found: Map, expected: Map, tolerance: float) -> None:
    assert np.array_equal(found[0] == 0, expected[0] == 0)
    # rounding may turn a cell between two classes
    assert np.mean(found[0] != expected[0]) <= tolerance
    assert np.allclose(found[1], expected[1], rtol=0, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize('name', ODD)
def test_scene(
    models: dict[str, Path],
    scenes: Path,
    maps: dict[bool, Map],
    name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    check_scene(models['safetensors'], scenes, maps, name, tmp_path, capsys)


@pytest.mark.slow
@pytest.mark.parametrize('kind', EXPORTS)
@pytest.mark.parametrize('name', FEW)
def test_scene_with_an_exported_classifier(
    models: dict[str, Path],
    scenes: Path,
    maps: dict[bool, Map],
    name: str,
    kind: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    check_scene(models[kind], scenes, maps, name, tmp_path, capsys)


def check_scene(
    model: Path,
    scenes: Path,
    maps: dict[bool, Map],
    name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Classify a scene as it is, strictly, and with the options that mend it."""
    odd, output = ODD[name], tmp_path / 'map.tif'
    command = (model, scenes / f'{name}.tif', '--output', output)
    expected = maps[odd.holes]
    capsys.readouterr()
    assert classify(*command) == (2 if odd.refused else 0)
    out, err = capsys.readouterr()
    assert output.exists() != odd.refused
    if odd.problem is None:
        assert 'warning' not in err
        assert 'UNUSUAL' not in read_map(output)[2]
        assert_same_map(read_map(output), expected, odd.tolerance)
    else:
        assert re.search(odd.problem, err)
        assert ('warning: ' in err) != odd.refused
    if not odd.refused:
        tags = read_map(output)[2]
        assert f'read {scenes / name}.tif: {tags["READING"]}\n' in out
        assert re.search(odd.problem or '^$', tags.get('UNUSUAL', ''))
    output.unlink(missing_ok=True)
    # strict: what was a warning is an error
    assert classify(*command, '--strict') == (2 if odd.problem else 0)
    assert output.exists() == (odd.problem is None)
    assert re.search(odd.problem or '', capsys.readouterr().err)
    if odd.options:
        assert classify(*command, '--strict', *odd.options) == 0
        assert 'warning' not in capsys.readouterr().err
        assert_same_map(read_map(output), expected, odd.tolerance)


@pytest.mark.parametrize('kind', ['swapped', 'named by its file'])
def test_bands_without_names(
    models: dict[str, Path],
    maps: dict[bool, Map],
    kind: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    image, output = make_image(SCENE), tmp_path / 'map.tif'
    if kind == 'swapped':
        write_scene(tmp_path / 'a.tif', image[::-1], descriptions=None)
        inputs = [tmp_path / 'a.tif']
    else:
        stem = 's1a-iw-grd-{}-20210101t053400-20210101t053425-035961-043637-00{}.tiff'
        paths = [tmp_path / stem.format(b, i) for i, b in enumerate(('vv', 'vh'), 1)]
        for path, band in zip(paths, image, strict=True):
            write_scene(path, band[None], descriptions=None)
        inputs = [f'VV={paths[0]}', f'VH={paths[1]}']
        # the other way round contradicts the names
        swapped = [f'VV={paths[1]}', f'VH={paths[0]}']
        code = classify(models['safetensors'], *swapped, '--output', output)
        assert code == 2
        assert re.search(r'1 band \(VH\)', capsys.readouterr().err)
    assert classify(models['safetensors'], *inputs, '--output', output) == 0
    err = capsys.readouterr().err
    if kind == 'swapped':
        assert 'add --bands 2,1' in err or 'not name its bands' in err
        bands = ['--bands', '2,1']
        code = classify(models['safetensors'], *inputs, '--output', output, *bands)
        assert code == 0
        err = capsys.readouterr().err
    assert 'warning' not in err
    assert_same_map(read_map(output), maps[False], 1e-6)


def test_folder_of_maps(models: dict[str, Path], scenes: Path, tmp_path: Path) -> None:
    output = tmp_path / 'maps'
    paths = [scenes / f'{name}.tif' for name in ODD]
    model = models['safetensors']
    assert classify(model, *paths, '--output', f'{output}/') == 3
    summary = pd.read_csv(output / 'summary.csv', keep_default_na=False)
    output = tmp_path / 'strict'
    assert classify(model, *paths, '--output', f'{output}/', '--strict') == 3
    strict = pd.read_csv(output / 'summary.csv', keep_default_na=False)
    for row, strict_row, odd in zip(
        summary.itertuples(), strict.itertuples(), ODD.values(), strict=True
    ):
        assert (row.status == 'ok') != odd.refused
        assert re.search(
            odd.problem or '^$', row.status if odd.refused else row.unusual
        )
        assert re.search(odd.problem or '^ok$', strict_row.status)
        assert bool(row.reading) != odd.refused
    names = [Path(row.scene).stem for row in strict.itertuples() if row.status == 'ok']
    assert names == [name for name, odd in ODD.items() if odd.problem is None]
    maps = {path.stem for path in output.glob('*.tif')}
    assert {name for name in maps if not name.endswith('_confidence')} == {*names}


def metadata_of(table: Path) -> dict[str, dict[str, object]]:
    """Return what a table keeps about itself."""
    match table.suffix:
        case '.parquet':
            text = pq.read_schema(table).metadata[b'torchgeo_discomkd']
        case '.gpkg':
            info = pyogrio.read_info(table, layer='tiles')
            text = info['layer_metadata']['torchgeo_discomkd']
        case _:
            text = json.loads(table.read_text())['description']
    return json.loads(text)


@pytest.mark.parametrize('suffix', ['.parquet', '.gpkg', '.geojson', '.csv'])
def test_tiles(
    models: dict[str, Path],
    tiles: Path,
    suffix: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / f'tiles{suffix}'
    assert classify(models['safetensors'], tiles, '--output', output) == 3
    out, err = capsys.readouterr()
    frame = read_table(output)
    check_tiles(frame)
    warned = [odd for odd in ODD.values() if odd.problem and not odd.refused]
    assert f'{len(warned)} of {len(frame)} tiles are unusual' in err
    if suffix == '.csv':
        return
    readings = metadata_of(output)['readings']
    assert sum(readings.values()) == frame.label.notna().sum()
    assert any('scale 0.01 from the file' in reading for reading in readings)
    assert any('linear power by its values, conv' in reading for reading in readings)
    [most] = [r for r, count in readings.items() if count == max(readings.values())]
    assert f'read {readings[most]} tiles: {most}\n' in out
    assert metadata_of(output)['settings']['strict'] == 'False'


def read_table(path: Path) -> pd.DataFrame:
    """Return a table by the names of tiles."""
    match path.suffix:
        case '.parquet':
            frame = geopandas.read_parquet(path)
        case '.csv':
            frame = pd.read_csv(path)
        case _:
            frame = geopandas.read_file(path, layer='tiles')
    frame.index = [Path(text).stem for text in frame.path]
    return frame


def check_tiles(frame: pd.DataFrame) -> None:
    """Check status, doubts and probabilities of all odd tiles."""
    columns = [f'probability_{name}' for name in CLASSES]
    values, unusual = frame[columns].astype(float), frame.unusual.fillna('')
    for name, odd in ODD.items():
        status = frame.status[name]
        if odd.refused:
            assert re.match('(bands|unit): ', status)
            assert re.search(odd.problem or '', status)
            assert values.loc[name].isna().all()
            continue
        assert status in ('ok', 'mixed_size')
        assert re.search(odd.problem or '^$', unusual[name])
        if odd.problem is None:
            expected = values.loc['holes' if odd.holes else 'plain']
            found = values.loc[name]
            assert np.allclose(found, expected, rtol=0, atol=odd.tolerance)


def test_strict_tiles(models: dict[str, Path], tiles: Path, tmp_path: Path) -> None:
    output = tmp_path / 'tiles.parquet'
    assert classify(models['safetensors'], tiles, '--output', output, '--strict') == 3
    frame = read_table(output)
    for name, odd in ODD.items():
        assert re.search(odd.problem or '^ok$', frame.status[name])
        if odd.problem and not odd.refused:
            assert frame.status[name].startswith('unusual: ')
            assert pd.isna(frame.label[name])
    assert metadata_of(output)['settings']['strict'] == 'True'


@pytest.mark.parametrize('name', [n for n, odd in ODD.items() if odd.options])
def test_tile_with_the_option_that_mends_it(
    models: dict[str, Path], tiles: Path, name: str, tmp_path: Path
) -> None:
    odd, output = ODD[name], tmp_path / 'tiles.parquet'
    model, tile = models['safetensors'], tiles / f'{name}.tif'
    args = ['--output', output, '--strict', *odd.options]
    assert classify(model, tile, *args) == 0
    expected = tmp_path / 'expected.parquet'
    plain = tiles / ('holes.tif' if odd.holes else 'plain.tif')
    assert classify(model, plain, '--output', expected) == 0
    columns = [f'probability_{name}' for name in CLASSES]
    tables = [read_table(path)[columns].to_numpy() for path in (output, expected)]
    assert np.allclose(*tables, rtol=0, atol=odd.tolerance)


@pytest.mark.parametrize('kind', EXPORTS)
def test_tiles_with_an_exported_classifier(
    models: dict[str, Path], tiles: Path, kind: str, tmp_path: Path
) -> None:
    output = tmp_path / 'tiles.parquet'
    assert classify(models[kind], tiles, '--output', output) == 3
    check_tiles(read_table(output))


def test_tiles_with_predict(
    models: dict[str, Path], tiles: Path, tmp_path: Path
) -> None:
    main(
        [
            *('predict', '--model', 'PretrainedClassification'),
            *('--model.classifiers', f'{{sar: {models["safetensors"]}}}'),
            *('--data', 'SARTilesDataModule', '--trainer.accelerator', 'cpu'),
            *('--data.paths', str(tiles), '--data.num_workers', '0'),
            *('--trainer.default_root_dir', str(tmp_path)),
        ]
    )
    check_tiles(read_table(tmp_path / 'predictions' / 'sar.parquet'))

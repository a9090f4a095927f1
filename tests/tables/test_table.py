# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import json
import subprocess
import sys
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import pytest
import shapely
from pyarrow import parquet as pq

from torchgeo_discomkd.commands import main
from torchgeo_discomkd.errors import (
    CorruptFileError,
    OutputError,
    OutputExistsError,
    SettingError,
)
from torchgeo_discomkd.tables import Prediction, PredictionTable, TableFormat
from torchgeo_discomkd.tables.colors import class_colors
from torchgeo_discomkd.tables.formats import FORMATS
from torchgeo_discomkd.tables.styles import polygon_style
from torchgeo_discomkd.tables.text import cell_text, read_cell

from .styles import polygon_colors, read_styles

CLASSES = ('Crop', 'Wet land')
COLUMNS = [
    *('path', 'label', 'confidence', 'entropy'),
    *('probability_Crop', 'probability_Wet land', 'status', 'unusual', 'geometry'),
]
BOX = shapely.box(3, 40, 4, 41)
PARTS = shapely.MultiPolygon(
    [shapely.box(179, 0, 180, 1), shapely.box(-180, 0, -179, 1)]
)
SUFFIXES = tuple(FORMATS)


def rows(count: int = 3, first: int = 0) -> list[Prediction]:
    """Return rows of all kinds, one after the other."""
    kinds = [
        lambda path: Prediction.from_probabilities(
            path, [0.25, 0.75], CLASSES, 'ok', BOX
        ),
        lambda path: Prediction.missing(path, 'unreadable: "a", b\u00e9'),
        lambda path: Prediction.from_probabilities(
            path, [1, 0], CLASSES, 'mixed_size', PARTS
        ),
    ]
    return [kinds[i % 3](f'd/{i:05d}.tif') for i in range(first, first + count)]


def write(path: Path, count: int = 3, **kwargs: object) -> Path:
    with PredictionTable(path, CLASSES, **kwargs) as table:
        table.write(rows(count))
        return table.finish()


def read(path: Path) -> geopandas.GeoDataFrame:
    """Read a table with another program."""
    if path.suffix == '.parquet':
        return geopandas.read_parquet(path)
    if path.suffix == '.csv':
        frame = pd.read_csv(path)
        shapes = geopandas.GeoSeries.from_wkt(frame.pop('WKT'), crs='EPSG:4326')
        return geopandas.GeoDataFrame(frame, geometry=shapes)
    return geopandas.read_file(path, layer='tiles')


def names_of(path: Path) -> list[str]:
    """Return the names of the files of a table with outlines."""
    return [path.name] + [f'{path.stem}.prj'] * (path.suffix == '.csv')


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_every_format_has_a_name_and_is_in_the_help(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert tuple(f'.{name}' for name in get_args(TableFormat)) == SUFFIXES
    with pytest.raises(SystemExit):
        main(['classify', '--help'])
    assert f'({", ".join(SUFFIXES)})' in ' '.join(capsys.readouterr().out.split())


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_round_trip(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / 'new' / f'tiles{suffix}', 6)
    frame = read(path)
    assert list(frame.columns) == COLUMNS
    assert frame.crs == 'EPSG:4326'
    assert frame.path.tolist() == [f'd/{i:05d}.tif' for i in range(6)]
    assert frame.label.fillna('').tolist() == ['Wet land', '', 'Crop'] * 2
    assert frame.status.tolist() == ['ok', 'unreadable: "a", b\u00e9', 'mixed_size'] * 2
    assert np.allclose(frame.confidence, [0.75, np.nan, 1] * 2, equal_nan=True)
    assert np.allclose(frame.entropy, [0.811278, np.nan, 0] * 2, equal_nan=True)
    assert np.allclose(frame['probability_Crop'], [0.25, np.nan, 1] * 2, equal_nan=True)
    assert frame.geometry.isna().tolist() == [False, True, False] * 2
    assert frame.geometry[0].normalize().equals(BOX.normalize())
    assert frame.geometry[5].equals(PARTS)
    assert left(path.parent) == names_of(path)


@pytest.mark.parametrize('suffix', SUFFIXES)
@pytest.mark.parametrize('count', [0, 1])
def test_empty_table_and_no_outline(tmp_path: Path, suffix: str, count: int) -> None:
    path = tmp_path / f'tiles{suffix}'
    with PredictionTable(path, CLASSES) as table:
        table.write([Prediction.missing('a.tif', 'nodata')] * count)
        table.finish()
    if suffix == '.csv':
        frame = pd.read_csv(path)
    else:
        frame = read(path)
        assert frame.crs == 'EPSG:4326'
    assert len(frame) == count
    # GeoJSON has no columns without rows
    names = [*COLUMNS[:-1], 'WKT'] if suffix == '.csv' else COLUMNS
    assert suffix == '.geojson' or list(frame.columns) == names
    assert left(tmp_path) == [path.name]


@pytest.mark.parametrize('suffix', SUFFIXES)
@pytest.mark.parametrize('crs', ['EPSG:32631', '32631'])
def test_other_crs(tmp_path: Path, suffix: str, crs: str) -> None:
    path = write(tmp_path / f'tiles{suffix}', crs=crs)
    # GDAL finds the outlines of comma-separated values, as QGIS does
    frame = geopandas.read_file(path) if suffix == '.csv' else read(path)
    assert frame.crs == 'EPSG:32631'
    assert frame.total_bounds[3] == 41


def test_geoparquet_as_specified(tmp_path: Path) -> None:
    path = write(tmp_path / 'tiles.parquet')
    geo = json.loads(pq.read_metadata(path).metadata[b'geo'])
    assert geo['version'] == '1.1.0'
    assert geo['primary_column'] == 'geometry'
    assert geo['columns']['geometry']['encoding'] == 'WKB'
    assert set(geo['columns']['geometry']['geometry_types']) == {
        *('Polygon', 'MultiPolygon')
    }


def test_geopackage_is_one_layer_of_one_type(tmp_path: Path) -> None:
    path = write(tmp_path / 'tiles.gpkg')
    layers = dict(pyogrio.list_layers(path).tolist())
    assert layers == {'tiles': 'MultiPolygon', 'layer_styles': None}


def test_geopackage_has_the_colours_of_maps(tmp_path: Path) -> None:
    path = write(tmp_path / 'tiles.gpkg')
    [style] = read_styles(path)
    column = pyogrio.read_info(path, layer='tiles')['geometry_name']
    assert (style['f_table_name'], style['f_geometry_column']) == ('tiles', column)
    assert style['useAsDefault'] == 1
    colors = polygon_colors(style['styleQML'], 'label')
    assert [colors.pop(name) for name in CLASSES] == list(class_colors(CLASSES))
    # rows without a label are outlines
    assert colors == {'uncertain': (189, 189, 189), '': None}


def test_only_rows_of_a_region_are_read(tmp_path: Path) -> None:
    path = tmp_path / 'tiles.parquet'
    with PredictionTable(path, CLASSES) as table:
        for i in range(6):
            box = shapely.box(i, 40, i + 1, 41)
            table.write([Prediction.missing(f'{i}', 'nodata', box)])
        table.write([Prediction.missing('x', 'nodata')])
        table.finish()
    frame = geopandas.read_parquet(path, bbox=(2.2, 40.5, 3.4, 50))
    assert frame.path.tolist() == ['2', '3']
    assert list(frame.columns) == COLUMNS
    assert len(geopandas.read_parquet(path)) == 7
    assert pq.read_table(path, columns=['bbox']).to_pylist()[::6] == [
        {'bbox': {'xmin': 0, 'ymin': 40, 'xmax': 1, 'ymax': 41}},
        {'bbox': None},
    ]


def test_the_crs_next_to_a_csv(tmp_path: Path) -> None:
    (tmp_path / 'tiles.prj').write_text('of another file')
    with pytest.raises(OutputExistsError, match=r'tiles\.prj exists.*--overwrite'):
        PredictionTable(tmp_path / 'tiles.csv', CLASSES)
    assert left(tmp_path) == ['tiles.prj']
    write(tmp_path / 'tiles.csv', overwrite=True)
    assert (tmp_path / 'tiles.prj').read_text().startswith('GEOGCRS')
    # without outlines, an old one would be wrong
    with PredictionTable(tmp_path / 'tiles.csv', CLASSES, overwrite=True) as table:
        table.finish()
    assert left(tmp_path) == ['tiles.csv']


def test_few_row_groups(tmp_path: Path) -> None:
    path = tmp_path / 'tiles.parquet'
    with PredictionTable(path, CLASSES) as table:
        for first in range(0, 300, 10):
            table.write(rows(10, first))
            table.close()
        assert len(list((tmp_path / 'tiles.parquet.partial').glob('*.parquet'))) == 30
        table.finish()
    metadata = pq.read_metadata(path)
    assert (metadata.num_rows, metadata.num_row_groups) == (300, 1)


def test_shards_are_written_by_number_and_by_age(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / 'tiles.parquet'
    with PredictionTable(path, CLASSES) as table:
        table.write(rows(4095))
        assert list(table.finished()) == []
        table.write(rows(1, 4095))
        assert len(list(table.finished())) == 4096
        table.write(rows(1, 5000))
        assert len(list(table.finished())) == 4096
        monkeypatch.setattr('time.monotonic', lambda: float('inf'))
        table.write(rows(1, 5001))
        assert len(list(table.finished())) == 4098


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_resumed_equals_uninterrupted(tmp_path: Path, suffix: str) -> None:
    whole = write(tmp_path / f'whole{suffix}', 9)
    path = tmp_path / f'tiles{suffix}'
    for stop in (4, 7):
        with (
            pytest.raises(KeyboardInterrupt),
            PredictionTable(path, CLASSES, resume=True, settings={'a': 'b'}) as table,
        ):
            done = {path for path, _ in table.finished()}
            table.write(r for r in rows(stop) if r.path not in done)
            raise KeyboardInterrupt
        assert not path.exists()
    with PredictionTable(path, CLASSES, resume=True, settings={'a': 'b'}) as table:
        done = {path for path, _ in table.finished()}
        assert len(done) == 7
        assert len(list(table.finished())) == 7
        table.write(r for r in rows(9) if r.path not in done)
        table.finish()
    pd.testing.assert_frame_equal(read(path), read(whole))
    assert left(tmp_path) == sorted(names_of(path) + names_of(whole))


def test_resume_without_earlier_run(tmp_path: Path) -> None:
    assert len(read(write(tmp_path / 'tiles.parquet', resume=True))) == 3


def interrupt(path: Path, **kwargs: object) -> None:
    with PredictionTable(path, CLASSES, **kwargs) as table:
        table.write(rows(2))


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    path = write(tmp_path / 'tiles.csv')
    content = path.read_bytes()
    for resume in (False, True):
        with pytest.raises(OutputExistsError, match=r'tiles\.csv exists.*--overwrite'):
            PredictionTable(path, CLASSES, resume=resume)
    assert left(tmp_path) == ['tiles.csv', 'tiles.prj']
    interrupt(path, overwrite=True)
    assert path.read_bytes() == content
    with pytest.raises(OutputExistsError, match=r'tiles\.csv exists'):
        PredictionTable(path, CLASSES)
    # the interrupted run was told to overwrite
    with PredictionTable(path, CLASSES, resume=True) as table:
        table.finish()
    assert len(read(path)) == 2


def test_rows_of_an_earlier_run(tmp_path: Path) -> None:
    path = tmp_path / 'tiles.csv'
    interrupt(path)
    with pytest.raises(OutputExistsError, match=r'--resume, or .* --overwrite'):
        PredictionTable(path, CLASSES)
    with PredictionTable(path, CLASSES, overwrite=True) as table:
        assert list(table.finished()) == []


def test_resume_with_other_settings(tmp_path: Path) -> None:
    path = tmp_path / 'tiles.parquet'
    interrupt(path, settings={'model': 'a', 'scale': 'db'})
    with pytest.raises(SettingError, match=r"model was 'a' and is 'b'\).*--overwrite"):
        interrupt(path, settings={'model': 'b', 'scale': 'db'}, resume=True)
    with pytest.raises(SettingError, match="crs was 'EPSG:4326' and is 'EPSG:3857'"):
        interrupt(path, settings={'model': 'a'}, crs='EPSG:3857', resume=True)
    with pytest.raises(SettingError, match="classes was 'Crop, Wet land' and is 'A'"):
        PredictionTable(path, ['A'], resume=True)
    (tmp_path / 'tiles.parquet.partial' / 'settings.json').write_text('[')
    with pytest.raises(SettingError, match=r'settings\.json is damaged'):
        interrupt(path, resume=True)


def test_damaged_shard(tmp_path: Path) -> None:
    path = tmp_path / 'tiles.parquet'
    interrupt(path)
    [shard] = (tmp_path / 'tiles.parquet.partial').glob('*.parquet')
    shard.write_bytes(shard.read_bytes()[:-9])
    with PredictionTable(path, CLASSES, resume=True) as table:
        with pytest.raises(CorruptFileError, match=r'is damaged .* remove it'):
            list(table.finished())
        with pytest.raises(CorruptFileError):
            table.finish()
    assert not path.exists()


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_several_processes(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f'tiles{suffix}'
    tables = [PredictionTable(path, CLASSES, part=part) for part in range(3)]
    for part, table in reversed(list(enumerate(tables))):
        for first in (part, part + 3):
            table.write(rows(1, first))
            table.close()
    tables[0].finish()
    assert [int(p[2:7]) for p in read(path).path] == [0, 3, 1, 4, 2, 5]


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('tiles.shp', r"extension '\.shp' is unknown: use \.parquet .*\.csv"),
        ('tiles', "extension '' is unknown"),
    ],
)
def test_unknown_extension(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        PredictionTable(tmp_path / name, CLASSES)
    assert left(tmp_path) == []


def test_wrong_arguments(tmp_path: Path) -> None:
    path = tmp_path / 'tiles.gpkg'
    with pytest.raises(SettingError, match="crs='EPSG:1' is unknown"):
        PredictionTable(path, CLASSES, crs='EPSG:1')
    with pytest.raises(SettingError, match='cannot tell apart'):
        PredictionTable(path, ('water', 'Water'))
    with pytest.raises(SettingError, match='exclude each other'):
        PredictionTable(path, CLASSES, overwrite=True, resume=True)
    path.mkdir()
    with pytest.raises(OutputExistsError, match='is a folder'):
        PredictionTable(path, CLASSES, overwrite=True)
    assert left(tmp_path) == ['tiles.gpkg']


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    with pytest.raises(OutputError, match=r'tiles\.csv cannot be written.*Not a dir'):
        PredictionTable(tmp_path / 'file' / 'tiles.csv', CLASSES)


FULL_DISK = """
import resource, sys
sys.path.insert(0, '.')
from tests.tables.test_table import CLASSES, rows
from torchgeo_discomkd.errors import OutputError
from torchgeo_discomkd.tables import PredictionTable
table = PredictionTable(sys.argv[1], CLASSES)
# small files fit, the table does not
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    with table:
        for first in range(0, 3000, 300):
            table.write(rows(300, first))
            table.close()
        table.finish()
except OutputError as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize(
    ('suffix', 'limit'),
    [
        ('.parquet', 1000),
        *(
            pytest.param(
                suffix, 9000, marks=() if suffix == '.csv' else pytest.mark.slow
            )
            for suffix in SUFFIXES
        ),
    ],
)
def test_full_disk(tmp_path: Path, suffix: str, limit: int) -> None:
    path = tmp_path / f'tiles{suffix}'
    command = [sys.executable, '-c', FULL_DISK, path, str(limit)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith(f'{path} cannot be written (')
    assert 'continue with --resume' in result.stderr
    assert left(tmp_path) == [f'{path.name}.partial']
    with PredictionTable(path, CLASSES, resume=True) as table:
        done = {path for path, _ in table.finished()}
        assert len(done) == (0 if limit == 1000 else 3000)
        table.write(r for r in rows(3000) if r.path not in done)
        table.finish()
    assert read(path).path.tolist() == [row.path for row in rows(3000)]


MEMORY = """
import resource, sys
sys.path.insert(0, '.')
from tests.tables.test_table import CLASSES, rows
from torchgeo_discomkd.tables import PredictionTable
import geopandas
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
for count in (4096, 60 * 4096):
    path = f'{sys.argv[1]}/{count}{sys.argv[2]}'
    with PredictionTable(path, CLASSES) as table:
        for first in range(0, count, 4096):
            table.write(rows(4096, first))
        table.finish()
    print(peak())
"""


@pytest.mark.slow
@pytest.mark.parametrize('suffix', SUFFIXES)
def test_memory_is_flat(tmp_path: Path, suffix: str) -> None:
    command = [sys.executable, '-c', MEMORY, tmp_path, suffix]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    few, many = map(int, result.stdout.split())
    # 250 000 rows are 130 MiB of outlines alone
    assert many - few < 60, result.stdout


#: What a spreadsheet would compute, what it would not, and what looks like our mark.
CELLS = ['=1+1', '+1', '-1 m', '@a', '\ta', '\ra', "'=a", "''a", "'a", 'a=1', '']


@pytest.mark.parametrize('text', CELLS)
def test_cells_are_no_formulas(text: str) -> None:
    cell = cell_text(text)
    assert read_cell(cell) == text
    assert cell[:1] not in {'=', '+', '-', '@', '\t', '\r'}
    assert (cell == text) == (text in {'a=1', ''})


def test_formulas_in_a_table(tmp_path: Path) -> None:
    names = [f'{text}{i}' for i, text in enumerate(CELLS)]
    classes = ('=cmd|A1', 'Crop')
    with PredictionTable(tmp_path / 'tiles.csv', classes) as table:
        table.write(
            Prediction.from_probabilities(n, [1, 0], classes, f'={n}') for n in names
        )
        path = table.finish()
    frame = pd.read_csv(path, keep_default_na=False, dtype=str)
    assert frame.path.tolist() == [cell_text(name) for name in names]
    assert frame.path.map(read_cell).tolist() == names
    assert set(frame.label.map(read_cell)) == {'=cmd|A1'}
    text = [*frame.path, *frame.label, *frame.status]
    assert not [cell for cell in text if cell[0] in '=+-@\t\r']
    # numbers stay numbers
    assert set(frame.confidence) == {'1'}
    # formats for programs keep the names
    with PredictionTable(tmp_path / 'tiles.parquet', classes) as table:
        table.write([Prediction.from_probabilities('=a', [1, 0], classes)])
        frame = pd.read_parquet(table.finish())
    assert frame[['path', 'label']].values.tolist() == [['=a', '=cmd|A1']]


def test_xml_of_any_name() -> None:
    names = ['\x07', 'a\x00b', '<&>"', '\ud800', '\ufffe', 'For\u00eat \U0001f332']
    style = polygon_style('label', dict.fromkeys(names, (1, 2, 3)), rest=None)
    root = ElementTree.fromstring(style)
    values = [entry.get('value') for entry in root.iter('category')]
    assert values == ['\\x07', 'a\\x00b', '<&>"', '\\ud800', '\\ufffe', names[-1]]

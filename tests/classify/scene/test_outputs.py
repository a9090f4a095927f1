# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import math
import os
import struct
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import geopandas
import numpy as np
import pytest
import rasterio
from matplotlib.image import imread
from pyproj import Geod
from rasterio import Affine
from rasterio.shutil import copy

from torchgeo_discomkd.classify.scene import classify_scene
from torchgeo_discomkd.classify.scene.outputs import SceneSummary
from torchgeo_discomkd.classify.scene.preview import _View
from torchgeo_discomkd.commands import main
from torchgeo_discomkd.errors import CorruptFileError, OutputError, OutputExistsError
from torchgeo_discomkd.rasters.finding import ImageFiles
from torchgeo_discomkd.tables.colors import class_colors

from ...export.classifiers import write_classifier
from .scenes import CLASSES, TYPICAL, make_predictor, random_scene, read, write_scene

#: Files of a map without polygons and picture.
FILES = {
    *('map.tif', 'map.tif.aux.xml', 'map_confidence.tif'),
    *('map.qml', 'map_confidence.qml'),
}


def classify(source: ImageFiles, folder: Path, **settings: Any) -> SceneSummary:
    """Write a map into a folder."""
    predictor = settings.pop('predictor', None) or make_predictor()
    return classify_scene(
        predictor, source, folder / 'map.tif', progress=False, **settings
    )


def directories(path: Path) -> list[tuple[int, int, list[int]]]:
    """Return offset, width and offsets of tiles of each image of a TIFF file."""
    data = path.read_bytes()
    assert data[:4] == b'II*\x00'
    (offset,) = struct.unpack_from('<I', data, 4)
    found = []
    while offset:
        (count,) = struct.unpack_from('<H', data, offset)
        tags = {}
        for i in range(count):
            tag, kind, number, value = struct.unpack_from(
                '<HHII', data, offset + 2 + 12 * i
            )
            if tag == 256:
                tags[tag] = [value & 0xFFFF if kind == 3 else value]
            if tag == 324:
                where = offset + 10 + 12 * i if number == 1 else value
                tags[tag] = list(struct.unpack_from(f'<{number}I', data, where))
        found.append((offset, tags[256][0], tags[324]))
        (offset,) = struct.unpack_from('<I', data, offset + 2 + 12 * count)
    return found


def test_maps_are_cloud_optimized(tmp_path: Path) -> None:
    source = write_scene(tmp_path / 'scene.tif', random_scene(600, 700))
    classify(source, tmp_path, stride=1, predictor=make_predictor((2, 2)))
    for name in ('map.tif', 'map_confidence.tif'):
        with rasterio.open(tmp_path / name) as file:
            assert file.profile['tiled']
            assert file.profile['compress'] == 'deflate'
            assert file.tags(ns='IMAGE_STRUCTURE')['LAYOUT'] == 'COG'
            assert file.overviews(1) == [2, 4]
        images = directories(tmp_path / name)
        assert [width for _, width, _ in images] == [700, 350, 175]
        offsets = [offset for offset, _, _ in images]
        tiles = [min(t for t in own if t) for _, _, own in images]
        # all directories are in front of all data, overviews in front of the map
        assert offsets == sorted(offsets)
        assert max(offsets) < min(tiles)
        assert tiles == sorted(tiles, reverse=True)


def test_overviews_show_the_most_frequent_class_and_the_mean_confidence(
    tmp_path: Path,
) -> None:
    array = np.random.default_rng(0).uniform(-24, 0, (2, 300, 300)).astype(np.float32)
    source = write_scene(tmp_path / 'scene.tif', array)
    classify(source, tmp_path, stride=1, predictor=make_predictor((1, 1)))
    classes, confidence = (
        read(tmp_path / n) for n in ('map.tif', 'map_confidence.tif')
    )
    quads = classes.reshape(150, 2, 150, 2).swapaxes(1, 2).reshape(150, 150, 4)
    with rasterio.open(tmp_path / 'map.tif', overview_level=0) as file:
        overview = file.read(1)
    for value in (1, 2, 3):
        most = (quads == value).sum(axis=-1) >= 3
        assert most.sum() > 1000
        assert (overview[most] == value).all()
    with rasterio.open(tmp_path / 'map_confidence.tif', overview_level=0) as file:
        mean = confidence.reshape(150, 2, 150, 2).mean(axis=(1, 3))
        np.testing.assert_allclose(file.read(1), mean, atol=1e-6)


def test_gdal_finds_colours_and_names_of_the_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # what `fit` sets for its process hides the file with the names
    monkeypatch.delenv('GDAL_DISABLE_READDIR_ON_OPEN', raising=False)
    names = ('Water', 'Wald & Forêt', 'City')
    source = write_scene(tmp_path / 'scene.tif', random_scene(40, 40, missing=0.2))
    summary = classify(
        source, tmp_path, predictor=make_predictor(classes=names), min_confidence=0.8
    )
    with rasterio.open(tmp_path / 'map.tif') as file:
        assert file.dtypes == ('uint8',)
        assert file.nodata == 0
        assert file.colorinterp == (rasterio.enums.ColorInterp.palette,)
        assert file.descriptions == ('class',)
        colors = file.colormap(1)
        assert file.tags()['CLASS_2'] == 'Wald & Forêt'
        assert file.tags()['STRIDE'] == '4'
    assert colors[0] == (0, 0, 0, 0)
    assert [colors[i] for i in (1, 2, 3)] == [(*c, 255) for c in class_colors(names)]
    # a virtual copy lists what GDAL, and so QGIS, knows about the file
    copy(tmp_path / 'map.tif', tmp_path / 'map.vrt', driver='VRT')
    band = ElementTree.parse(tmp_path / 'map.vrt').find('VRTRasterBand')
    assert band is not None
    categories = [c.text for c in band.iterfind('CategoryNames/Category')]
    assert categories == ['nodata', *names, 'uncertain']
    table = [
        [cell.text for cell in row]
        for row in band.iterfind('GDALRasterAttributeTable/Row')
    ]
    counts = np.bincount(read(tmp_path / 'map.tif').ravel(), minlength=5)
    assert [row[:3] for row in table] == [
        [str(i), name, str(counts[i])]
        for i, name in enumerate([*names, 'uncertain'], 1)
    ]
    assert [row[3:] for row in table] == [
        [str(value) for value in colors[i]] for i in range(1, 5)
    ]
    assert list(summary.cells.values()) == counts[1:].tolist()
    with rasterio.open(tmp_path / 'map_confidence.tif') as file:
        assert file.dtypes == ('float32',)
        assert math.isnan(file.nodata)
        assert file.descriptions == ('confidence',)


def blocks(labels: Any, cell: int = 8) -> np.ndarray:
    """Return a scene of blocks of known class; -1 is missing."""
    values = np.array([*TYPICAL, np.nan])[np.array(labels)]
    backscatter = np.kron(values, np.ones((cell, cell)))
    scene = np.stack([backscatter, backscatter - 6])
    noise = np.random.default_rng(0).normal(0, 0.01, scene.shape)
    return (scene + noise).astype(np.float32)


def test_polygons_in_utm(tmp_path: Path) -> None:
    source = write_scene(
        tmp_path / 'scene.tif', blocks([[0, 0, 1], [0, -1, 2], [1, 2, 2]])
    )
    classify(source, tmp_path, stride=8, polygons=tmp_path / 'map.gpkg')
    table = geopandas.read_file(tmp_path / 'map.gpkg', layer='classes')
    assert table.columns.tolist() == ['value', 'class', 'area_ha', 'geometry']
    assert table['value'].tolist() == [1, 2, 3]
    assert table['class'].tolist() == list(CLASSES)
    # a cell is 80 x 80 m
    np.testing.assert_allclose(table['area_ha'], [3 * 0.64, 2 * 0.64, 3 * 0.64])
    assert table.crs == 'EPSG:32633'
    assert table.geom_type.unique().tolist() == ['MultiPolygon']
    assert table.is_valid.all()
    # cells that touch at a corner are two polygons
    assert [len(geometry.geoms) for geometry in table.geometry] == [1, 2, 1]
    assert table.geometry[1].bounds == (500_000, 3_999_760, 500_240, 4_000_000)


@pytest.mark.parametrize('latitude', [0.0, 60.0, -75.0])
def test_polygons_in_degrees_have_their_area_on_the_ellipsoid(
    tmp_path: Path, latitude: float
) -> None:
    transform = Affine(0.002, 0, 179.99, 0, -0.001, latitude)
    labels = [[0] * 4, [0, 0, 1, 1]]
    source = write_scene(tmp_path / 'scene.tif', blocks(labels), transform, 'EPSG:4326')
    classify(source, tmp_path, stride=8, polygons=tmp_path / 'map.gpkg')
    table = geopandas.read_file(tmp_path / 'map.gpkg', layer='classes')
    # a parallel is not the shortest way: many points follow it
    geod = Geod(ellps='WGS84')
    for value, west, east, south, north in (
        (1, 0, 4, 1, 0),
        (1, 0, 2, 2, 1),
        (2, 2, 4, 2, 1),
    ):
        x = np.linspace(179.99 + 0.016 * west, 179.99 + 0.016 * east, 500)
        y = latitude - 0.008 * np.array([south, north])
        area, _ = geod.polygon_area_perimeter(
            [*x, *x[::-1]], [*np.full(500, y[0]), *np.full(500, y[1])]
        )
        table.loc[table['value'] == value, 'area_ha'] -= area / 10_000
    np.testing.assert_allclose(table['area_ha'], 0, atol=1e-3)


def test_polygons_in_web_mercator_are_not_those_of_the_plane(tmp_path: Path) -> None:
    transform = Affine(10, 0, 1_000_000, 0, -10, 8_399_737.889818357)
    source = write_scene(
        tmp_path / 'scene.tif', blocks([[0, 0]]), transform, 'EPSG:3857'
    )
    classify(source, tmp_path, stride=8, polygons=tmp_path / 'map.gpkg')
    table = geopandas.read_file(tmp_path / 'map.gpkg', layer='classes')
    # at 60 degrees north lengths are doubled
    assert table['area_ha'][0] == pytest.approx(1.28 / 4, rel=0.01)


@pytest.mark.parametrize('angle', [0.0, 30.0])
def test_polygons_end_with_the_scene(tmp_path: Path, angle: float) -> None:
    transform = Affine(10, 0, 5e5, 0, -10, 4e6) @ Affine.rotation(angle)
    source = write_scene(tmp_path / 'scene.tif', random_scene(29, 42), transform)
    classify(source, tmp_path, stride=8, polygons=tmp_path / 'map.gpkg')
    table = geopandas.read_file(tmp_path / 'map.gpkg', layer='classes')
    assert table['area_ha'].sum() == pytest.approx(29 * 42 * 0.01)
    assert table.is_valid.all()


def test_polygons_without_crs_have_no_area(tmp_path: Path) -> None:
    source = write_scene(tmp_path / 'scene.tif', blocks([[0, 1]]), crs=None)
    with pytest.warns(UserWarning, match='no coordinate reference system'):
        classify(source, tmp_path, stride=8, polygons=tmp_path / 'map.gpkg')
    table = geopandas.read_file(tmp_path / 'map.gpkg', layer='classes')
    assert table['area_ha'].isna().all()
    assert table.geometry[1].bounds == (500_080, 3_999_920, 500_160, 4_000_000)


@pytest.mark.parametrize(
    'crs', ['LOCAL_CS["arbitrary",UNIT["metre",1]]', 'EPSG:4978', 'IAU_2015:30110']
)
def test_map_without_a_place_on_the_earth(tmp_path: Path, crs: str) -> None:
    source = write_scene(tmp_path / 'scene.tif', blocks([[0, 1]]), crs=crs)
    extra = {'polygons': tmp_path / 'map.gpkg', 'preview': tmp_path / 'map.png'}
    with pytest.warns(UserWarning, match=r'does not say where on the Earth') as found:
        summary = classify(source, tmp_path, stride=8, **extra)
    assert len(found) == 1
    assert summary.cells == {'Water': 1, 'Crop': 1, 'City': 0}
    assert extra['preview'].exists()
    table = geopandas.read_file(extra['polygons'], layer='classes')
    assert table['class'].tolist() == ['Water', 'Crop']
    assert table['area_ha'].isna().all()


@pytest.mark.parametrize('size', [(60, 50), (20, 150), (150, 20), (4, 4)])
def test_preview_shows_the_classes(tmp_path: Path, size: tuple[int, int]) -> None:
    source = write_scene(tmp_path / 'scene.tif', random_scene(*size, missing=0.1))
    summary = classify(source, tmp_path, preview=tmp_path / 'map.png')
    picture = (imread(tmp_path / 'map.png')[..., :3] * 255).round().astype(int)
    assert min(picture.shape[:2]) > 300
    assert max(picture.shape[:2]) < 3000
    for color, count in zip(class_colors(CLASSES), summary.cells.values(), strict=True):
        pixels = (picture == color).all(axis=-1)
        # also a class that does not occur is in the legend
        assert pixels.sum() > (2000 if count else 100)
        rows, columns = np.nonzero(pixels)
        # and nothing is cut off
        assert rows.min() > 0 < columns.min()
        assert rows.max() < picture.shape[0] - 1
        assert columns.max() < picture.shape[1] - 1


@pytest.mark.parametrize(
    ('crs', 'transform', 'metres', 'aspect'),
    [
        ('EPSG:32633', Affine(80, 0, 5e5, 0, -80, 4e6), 80, 1),
        ('EPSG:2263', Affine(80, 0, 1e6, 0, -40, 2e5), 80 * 0.3048, 0.5),
        ('EPSG:4326', Affine(1e-3, 0, 15, 0, -1e-3, 60.001), 111.32 / 2, 2),
        # half as wide on the ground as on the map
        ('EPSG:3857', Affine(80, 0, 1e6, 0, -80, 8_399_737.9), 40, 1),
        ('EPSG:4087', Affine(80, 0, 1e6, 0, -80, 6_679_169.4), 40, 2),
        # not narrower than this, near the pole
        ('EPSG:4326', Affine(1e-3, 0, 15, 0, -1e-3, 89.501), 0.9714, 20),
        (None, Affine(80, 0, 5e5, 0, -40, 4e6), None, 0.5),
        ('LOCAL_CS["a",UNIT["metre",1]]', Affine(80, 0, 0, 0, -80, 0), None, 1),
    ],
)
def test_scale_of_a_preview(
    tmp_path: Path,
    crs: str | None,
    transform: Affine,
    metres: float | None,
    aspect: float,
) -> None:
    write_scene(tmp_path / 'map.tif', random_scene(2, 2), transform, crs)
    with rasterio.open(tmp_path / 'map.tif') as file:
        view = _View(file)
    assert view.metres == (None if metres is None else pytest.approx(metres, rel=0.005))
    assert view.aspect == pytest.approx(aspect, rel=0.005)


def test_preview_of_a_map_larger_than_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('torchgeo_discomkd.classify.scene.preview._MOST_CELLS', 50)
    source = write_scene(tmp_path / 'scene.tif', blocks([[0, 1], [2, -1]], 201))
    predictor = make_predictor((3, 3))
    preview = tmp_path / 'map.png'
    classify(source, tmp_path, predictor=predictor, stride=3, preview=preview)
    picture = (imread(preview)[..., :3] * 255).round().astype(int)
    areas = [(picture == color).all(axis=-1).sum() for color in class_colors(CLASSES)]
    assert max(areas) / min(areas) == pytest.approx(1, rel=0.1)


def test_existing_files_are_kept(tmp_path: Path) -> None:
    source = write_scene(tmp_path / 'scene.tif', random_scene(30, 30))
    extra = {'polygons': tmp_path / 'map.gpkg', 'preview': tmp_path / 'map.png'}
    # GDAL would take the last two for parts of the map
    parts = 'map.tif.msk', 'map_confidence.tif.ovr'
    for name in (*FILES, 'map.gpkg', 'map.png', *parts):
        (tmp_path / name).write_text('mine')
        with pytest.raises(OutputExistsError, match=f'{name} exists: .*--overwrite'):
            classify(source, tmp_path, **extra)
        assert (tmp_path / name).read_text() == 'mine'
        assert len(list(tmp_path.iterdir())) == 2
        (tmp_path / name).unlink()
    (tmp_path / 'map.tif').mkdir()
    with pytest.raises(OutputExistsError, match='is a folder'):
        classify(source, tmp_path, overwrite=True)


def test_overwrite_leaves_nothing_of_the_old_map(tmp_path: Path) -> None:
    source = write_scene(tmp_path / 'scene.tif', random_scene(30, 30))
    for name in FILES:
        (tmp_path / name).write_text('old')
    # GDAL would take them for overviews and statistics of the new map
    for name in ('map.tif.ovr', 'map_confidence.tif.aux.xml'):
        (tmp_path / name).write_text('old')
    classify(source, tmp_path, overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {*FILES, 'scene.tif'}
    assert read(tmp_path / 'map.tif').all()


@pytest.mark.parametrize('name', ['map.tif', 'map_confidence.tif'])
def test_the_scene_is_never_overwritten(tmp_path: Path, name: str) -> None:
    source = write_scene(tmp_path / name, random_scene(30, 30))
    content = (tmp_path / name).read_bytes()
    with pytest.raises(OutputExistsError, match='is the scene itself'):
        classify(source, tmp_path, overwrite=True)
    assert (tmp_path / name).read_bytes() == content


def test_folders_are_made(tmp_path: Path) -> None:
    source = write_scene(tmp_path / 'scene.tif', random_scene(30, 30))
    classify(
        source, tmp_path / 'new' / 'folder', preview=tmp_path / 'other' / 'map.png'
    )
    assert {path.name for path in (tmp_path / 'new/folder').iterdir()} == FILES
    assert {path.name for path in (tmp_path / 'other').iterdir()} == {'map.png'}


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    source = write_scene(tmp_path / 'scene.tif', random_scene(30, 30))
    (tmp_path / 'file').write_text('')
    with pytest.raises(OutputError, match=r'map.tif cannot be written .*make room'):
        classify(source, tmp_path / 'file')


@pytest.mark.parametrize('error', [KeyboardInterrupt, MemoryError])
def test_failure_leaves_nothing_behind(
    tmp_path: Path, error: type[BaseException]
) -> None:
    seen = []

    def compute(images: np.ndarray) -> np.ndarray:
        folders = [path.name for path in tmp_path.glob('map.*') if path.is_dir()]
        # parts can be told from results
        assert folders
        assert all(name.endswith('.partial') for name in folders)
        seen.append(images)
        if len(seen) == 3:
            raise error
        return np.full((len(images), 3), 1 / 3, np.float32)

    source = write_scene(tmp_path / 'scene.tif', random_scene(60, 60))
    with pytest.raises(error):
        classify(
            source,
            tmp_path,
            predictor=make_predictor(compute=compute),
            batch_size=8,
            polygons=tmp_path / 'map.gpkg',
        )
    assert list(tmp_path.iterdir()) == [tmp_path / 'scene.tif']


def test_unreadable_scenes(tmp_path: Path) -> None:
    folder = tmp_path / 'out'
    with pytest.raises(CorruptFileError, match=r'none.tif cannot be read'):
        classify(ImageFiles((str(tmp_path / 'none.tif'),)), folder)
    (tmp_path / 'text.tif').write_text('no image')
    with pytest.raises(CorruptFileError, match=r'text.tif cannot be read'):
        classify(ImageFiles((str(tmp_path / 'text.tif'),)), folder)
    write_scene(tmp_path / 'whole.tif', random_scene(900, 900))
    path = tmp_path / 'scene.tif'
    # the header is in front, so that the loss is noticed late
    copy(tmp_path / 'whole.tif', path, driver='COG', blocksize=256, overviews='NONE')
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CorruptFileError, match=r'scene.tif cannot be read in rows'):
        classify(ImageFiles((str(path),)), folder)
    assert not folder.exists() or not list(folder.iterdir())


@pytest.mark.parametrize('limit', [1_000, 100_000, 300_000, 1_048_000])
def test_full_disk(tmp_path: Path, limit: int) -> None:
    resource = pytest.importorskip('resource', reason='Windows has no such limit')
    source = write_scene(tmp_path / 'scene.tif', random_scene(500, 500))
    predictor = make_predictor((2, 2))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # beyond it each write fails, as on a full disk: in the map of classes, in that of
    # confidence, in the compressed ones
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(OutputError, match=r'(?i)make room'):
            classify(source, tmp_path, predictor=predictor, stride=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == [tmp_path / 'scene.tif']


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_classifier(tmp_path / 'sar.safetensors')
    array = random_scene(100, 130)
    for i, name in enumerate(('VV', 'VH')):
        write_scene(tmp_path / f's1_{name}.tif', array[i : i + 1], descriptions=None)
    output = tmp_path / 'out' / 'map.tif'
    args = ['classify', str(model), str(tmp_path), '--output', str(output)]
    main([*args, '--stride', '16', '--preview', str(output.with_suffix('.png'))])
    classes = read(output)
    assert classes.shape == (7, 9)
    assert set(np.unique(classes)) <= {1, 2, 3}
    assert output.with_suffix('.png').exists()
    with pytest.raises(SystemExit, match='2'):
        main(args)
    assert 'error: ' in capsys.readouterr().err


def test_real_scenes(
    real_data: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    sources = {
        's1': ImageFiles(
            tuple(str(real_data / f's1_scene/{b}.tif') for b in ('VV', 'VH'))
        ),
        'chip': ImageFiles(
            tuple(map(str, (real_data / 'sen1floods11_chip').glob('*_S1Hand.tif')))
        ),
    }
    for name, source in sources.items():
        folder = tmp_path / name
        summary = classify(
            source,
            folder,
            predictor=make_predictor((32, 32)),
            polygons=folder / 'map.gpkg',
            preview=folder / 'map.png',
        )
        assert summary.shape == (32, 32)
        with (
            rasterio.open(source.paths[0]) as scene,
            rasterio.open(folder / 'map.tif') as file,
        ):
            assert file.crs == scene.crs
            assert file.bounds == pytest.approx(scene.bounds)
            # some pixels of the scene are missing, but no whole cell
            assert file.read(1).all()
    assert not recwarn.list


def test_names_that_are_formulas_or_control_characters(tmp_path: Path) -> None:
    source = write_scene(tmp_path / 'scene.tif', blocks([[0, 1]]))
    classes = (r'$\frac{1}{$', '_Crop\x07', '=City')
    output, preview = tmp_path / 'map.tif', tmp_path / 'map.png'
    classify(
        source, tmp_path, predictor=make_predictor(classes=classes), preview=preview
    )
    assert preview.stat().st_size > 0
    for path in (output.with_suffix('.qml'), Path(f'{output}.aux.xml')):
        root = ElementTree.parse(path).getroot()
        assert r'_Crop\x07' in ElementTree.tostring(root, 'unicode')


def test_scene_whose_name_is_not_utf8(tmp_path: Path) -> None:
    scene = random_scene(16, 16)
    (plain,) = write_scene(tmp_path / 'scene.tif', scene).paths
    (tmp_path / 'plain').mkdir()
    classify(ImageFiles((plain,)), tmp_path / 'plain')
    named = os.fsencode(tmp_path) + b'/caf\xe9.tif'
    Path(plain).rename(os.fsdecode(named))
    classify(ImageFiles((os.fsdecode(named),)), tmp_path)
    with (
        rasterio.open(tmp_path / 'map.tif') as one,
        rasterio.open(tmp_path / 'plain' / 'map.tif') as other,
    ):
        assert np.array_equal(one.read(), other.read())
        assert one.tags()['SCENE'] == r'caf\udce9.tif'

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""What QGIS shows: colours and names of the classes, outlines of tables."""

import json
import os
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
import rasterio
import shapely

from torchgeo_discomkd.classify.scene import classify_scene
from torchgeo_discomkd.classify.scene.outputs import SceneSummary
from torchgeo_discomkd.rasters.finding import ImageFiles
from torchgeo_discomkd.tables import Prediction, PredictionTable
from torchgeo_discomkd.tables.colors import UNCERTAIN_COLOR, class_colors

from ...tables.styles import polygon_colors, read_styles
from .scenes import make_predictor, random_scene, write_scene

#: The Python that QGIS is installed for, which is not that of the tests.
QGIS_PYTHON = Path('/usr/bin/python3')

NAMES = ('Water', 'Wald & Forêt', 'City <1>')


def classify(scene: ImageFiles, folder: Path) -> SceneSummary:
    return classify_scene(
        make_predictor(classes=NAMES),
        scene,
        folder / 'map.tif',
        min_confidence=0.5,
        polygons=folder / 'map.gpkg',
        progress=False,
    )


def write_files(folder: Path) -> None:
    """Write a map and the same tables in the formats that QGIS reads."""
    classify(write_scene(folder / 'scene.tif', random_scene(24, 24)), folder)
    for suffix in ('gpkg', 'csv'):
        with PredictionTable(folder / f'tiles.{suffix}', NAMES) as table:
            box = shapely.box(3, 40, 4, 41)
            table.write(
                [Prediction.from_probabilities('a', [0, 1, 0], NAMES, footprint=box)]
            )
            table.finish()


def renderer(path: Path) -> ElementTree.Element:
    found = ElementTree.parse(path).find('pipe/rasterrenderer')
    assert found is not None
    assert found.attrib['band'] == '1'
    return found


def test_styles_of_a_map(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / 'scene.tif', random_scene(24, 24))
    classify(scene, tmp_path)
    classes = renderer(tmp_path / 'map.qml')
    assert classes.attrib['type'] == 'paletted'
    entries = [entry.attrib for entry in classes.iterfind('colorPalette/paletteEntry')]
    assert [entry['label'] for entry in entries] == [*NAMES, 'uncertain']
    with rasterio.open(tmp_path / 'map.tif') as file:
        colors = file.colormap(1)
    for value, entry in enumerate(entries, 1):
        assert entry['value'] == str(value)
        assert entry['color'] == '#{:02x}{:02x}{:02x}'.format(*colors[value][:3])
        assert entry['alpha'] == '255'


def test_style_of_the_confidence(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / 'scene.tif', random_scene(24, 24))
    classify(scene, tmp_path)
    confidence = renderer(tmp_path / 'map_confidence.qml')
    assert confidence.attrib['type'] == 'singlebandpseudocolor'
    items = [item.attrib for item in confidence.iterfind('*/colorrampshader/item')]
    values = [float(item['value']) for item in items]
    assert values == np.linspace(0, 1, len(items)).tolist()
    # as in the preview
    palette = matplotlib.colormaps['viridis']
    assert [item['color'] for item in items] == [
        matplotlib.colors.to_hex(palette(value)) for value in values
    ]


def test_polygons_have_the_colours_of_the_map(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / 'scene.tif', random_scene(24, 24))
    classify(scene, tmp_path)
    [style] = read_styles(tmp_path / 'map.gpkg')
    assert (style['f_table_name'], style['f_geometry_column']) == ('classes', 'geom')
    assert polygon_colors(style['styleQML'], 'class') == {
        **dict(zip(NAMES, class_colors(NAMES), strict=True)),
        'uncertain': UNCERTAIN_COLOR,
    }


def test_map_says_when_the_scene_was_taken(tmp_path: Path) -> None:
    taken = '2024:05:17 05:48:12'
    paths = []
    for name, band in zip(('VV', 'VH'), random_scene(24, 24), strict=True):
        write_scene(tmp_path / f'{name}.tif', band[np.newaxis], descriptions=(name,))
        paths.append(str(tmp_path / f'{name}.tif'))
    with rasterio.open(paths[1], 'r+') as file:
        file.update_tags(TIFFTAG_DATETIME=taken, ACQUISITION_STOP_TIME='05:48:37')
        file.update_tags(TIFFTAG_ARTIST='nobody')
        file.update_tags(ns='IMAGERY', ACQUISITIONDATETIME='2024-05-17 05:48:12')
    classify(ImageFiles(tuple(paths)), tmp_path)
    for name in ('map.tif', 'map_confidence.tif'):
        with rasterio.open(tmp_path / name) as file:
            tags = file.tags()
        assert tags['TIFFTAG_DATETIME'] == taken
        assert tags['ACQUISITION_STOP_TIME'] == '05:48:37'
        assert tags['ACQUISITIONDATETIME'] == '2024-05-17 05:48:12'
        assert 'TIFFTAG_ARTIST' not in tags
    classify(
        write_scene(tmp_path / 'plain.tif', random_scene(24, 24)), tmp_path / 'undated'
    )
    with rasterio.open(tmp_path / 'undated' / 'map.tif') as file:
        assert 'TIFFTAG_DATETIME' not in file.tags()


QGIS = """
import json, sys
from qgis.core import QgsApplication, QgsRasterLayer, QgsVectorLayer
application = QgsApplication([], False)
application.initQgis()
folder = sys.argv[1]
found = {}
for name in ('map', 'map_confidence'):
    layer = QgsRasterLayer(f'{folder}/{name}.tif', name)
    assert layer.isValid(), name
    renderer = layer.renderer()
    found[name] = [renderer.type()]
    if renderer.type() == 'paletted':
        found[name] += [[c.label, c.color.name()] for c in renderer.classes()]
for name in ('map.gpkg|layername=classes', 'tiles.gpkg|layername=tiles', 'tiles.csv'):
    layer = QgsVectorLayer(f'{folder}/{name}', name, 'ogr')
    assert layer.isValid(), name
    found[name] = [
        layer.renderer().type(), layer.crs().authid(), int(layer.geometryType())
    ]
    if layer.renderer().type() == 'categorizedSymbol':
        found[name] += [
            [c.label(), c.symbol().color().name()]
            for c in layer.renderer().categories()
            if c.value()
        ]
print('RESULT', json.dumps(found))
application.exitQgis()
"""


def test_qgis_opens_all_files(tmp_path: Path) -> None:
    environment = {**os.environ, 'QT_QPA_PLATFORM': 'offscreen'}
    # the libraries of this environment are not those of QGIS
    for name in ('PYTHONPATH', 'PROJ_DATA', 'PROJ_LIB', 'GDAL_DATA', 'VIRTUAL_ENV'):
        environment.pop(name, None)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(QGIS_PYTHON), *arguments]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False
        )

    if not QGIS_PYTHON.exists() or run('-c', 'import qgis.core').returncode:
        pytest.skip(f'{QGIS_PYTHON} has no QGIS')
    write_files(tmp_path)
    result = run('-c', QGIS, str(tmp_path))
    line = next((s for s in result.stdout.splitlines() if s.startswith('RESULT')), None)
    assert line is not None, result.stderr
    found = json.loads(line.removeprefix('RESULT '))
    legend = [
        [name, matplotlib.colors.to_hex(np.array(color) / 255)]
        for name, color in zip(
            (*NAMES, 'uncertain'), (*class_colors(NAMES), UNCERTAIN_COLOR), strict=True
        )
    ]
    polygons = 2
    assert found == {
        'map': ['paletted', *legend],
        'map_confidence': ['singlebandpseudocolor'],
        'map.gpkg|layername=classes': [
            *('categorizedSymbol', 'EPSG:32633', polygons),
            *legend,
        ],
        'tiles.gpkg|layername=tiles': [
            *('categorizedSymbol', 'EPSG:4326', polygons),
            *legend,
        ],
        'tiles.csv': ['singleSymbol', 'EPSG:4326', polygons],
    }

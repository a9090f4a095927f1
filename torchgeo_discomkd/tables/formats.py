# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Write a stream of rows to a file, with only a few thousand in memory at a time."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv
from pyarrow import parquet as pq

from ..errors import SettingError
from ..metadata import KEY
from .colors import UNCERTAIN_COLOR, class_colors
from .prediction import UNCERTAIN
from .styles import add_layer_style, polygon_style
from .text import FORMULA

#: Name of the column of outlines.
GEOMETRY = 'geometry'

#: Its name in comma-separated values, by which GDAL, and so QGIS, finds it.
WKT = 'WKT'

# Columns of the boxes around outlines that GeoParquet calls a covering.
_BOX = ('xmin', 'ymin', 'xmax', 'ymax')

#: Names of the formats: the extensions in :data:`FORMATS` without the dot.
TableFormat = Literal['parquet', 'gpkg', 'geojson', 'csv']

#: Extensions of the files that can be written, and their formats.
FORMATS = {
    '.parquet': 'GeoParquet',
    '.gpkg': 'GeoPackage',
    '.geojson': 'GeoJSON',
    '.csv': 'comma-separated values, outlines as well-known text, their CRS in .prj',
}

#: Name of the layer in a GeoPackage.
LAYER = 'tiles'

# Rows in a row group: enough to compress well, few enough to keep in memory.
_ROW_GROUP = 16_384


def check_format(path: Path, classes: Sequence[str]) -> None:
    """Check that a table can be written under this name.

    Args:
        path: The table.
        classes: Names of the classes, which become names of columns.

    Raises:
        SettingError: If the extension is unknown, or two classes of a GeoPackage differ
            only in case.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        known = ', '.join(f'{key} ({value})' for key, value in FORMATS.items())
        raise SettingError(
            f"{path}: the extension '{path.suffix}' is unknown: use {known}, or .tif "
            'for the map of a scene, or a folder (maps/) for those of many.'
        )
    if suffix == '.gpkg' and len({name.casefold() for name in classes}) < len(classes):
        raise SettingError(
            f'{path}: the classes {list(classes)} would become columns that a '
            'GeoPackage cannot tell apart: use .parquet.'
        )


def write_table(
    path: Path,
    suffix: str,
    tables: Iterator[pa.Table],
    schema: pa.Schema,
    crs: str,
    classes: Sequence[str],
    metadata: str = '{}',
) -> None:
    """Write rows to a new file.

    GeoParquet gets a column 'bbox', by which readers skip rows elsewhere; a GeoPackage
    a style for QGIS, in the colours of maps. Next to comma-separated values with
    outlines, their CRS is written to a file with the extension .prj; what a spreadsheet
    would take for a formula is marked, see :func:`.cell_text`.

    Args:
        path: File to write, whatever its extension.
        suffix: Extension that determines the format, one of :data:`FORMATS`.
        tables: The rows, a few thousand at a time.
        schema: Their columns.
        crs: Coordinate reference system of the outlines.
        classes: Names of the classes.
        metadata: JSON that describes the table, for formats that can keep it: all but
            comma-separated values.

    Raises:
        OSError: If the file cannot be written.
    """
    match suffix:
        case '.parquet':
            _write_parquet(path, tables, schema, metadata)
        case '.csv':
            _write_csv(path, tables, schema, crs)
        case '.gpkg':
            rows = map(_with_multipolygons, tables)
            kept: dict[str, Any] = {'layer_metadata': {KEY: metadata}}
            _write_layer(path, 'GPKG', rows, schema, crs, kept)
            if 'label' in schema.names:
                # several labels have no single colour
                colors = dict(zip(classes, class_colors(classes), strict=True))
                colors[UNCERTAIN] = UNCERTAIN_COLOR
                style = polygon_style('label', colors, rest='no label')
                add_layer_style(path, LAYER, style)
        case '.geojson':
            _write_layer(
                path, 'GeoJSON', tables, schema, crs, {'DESCRIPTION': metadata}
            )


def _write_parquet(
    path: Path, tables: Iterator[pa.Table], schema: pa.Schema, metadata: str
) -> None:
    geo = json.loads(schema.metadata[b'geo'])
    covering = {side: ['bbox', side] for side in _BOX}
    geo['columns'][GEOMETRY]['covering'] = {'bbox': covering}
    boxed = _with_boxes(schema.empty_table()).schema
    boxed = boxed.with_metadata({'geo': json.dumps(geo), KEY: metadata})
    with pq.ParquetWriter(path, boxed, compression='zstd') as writer:
        for table in _join(tables, schema):
            writer.write_table(_with_boxes(table))


def _write_csv(
    path: Path, tables: Iterator[pa.Table], schema: pa.Schema, crs: str
) -> None:
    located = False
    with csv.CSVWriter(path, _with_text(schema.empty_table()).schema) as writer:
        for table in tables:
            writer.write_table(_with_text(table))
            located = located or table[GEOMETRY].null_count < len(table)
    if located:
        path.with_suffix('.prj').write_text(_to_wkt(crs), encoding='utf-8')


def _join(tables: Iterator[pa.Table], schema: pa.Schema) -> Iterator[pa.Table]:
    """Join small tables, so that the file has few row groups."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(map(len, waiting)) >= _ROW_GROUP:
            yield pa.concat_tables(waiting)
            waiting = []
    yield pa.concat_tables([schema.empty_table(), *waiting])


def _write_layer(
    path: Path,
    driver: str,
    tables: Iterator[pa.Table],
    schema: pa.Schema,
    crs: str,
    options: dict[str, Any],
) -> None:
    # imported here because it takes a second
    import pyogrio

    batches = (batch for table in tables for batch in table.to_batches())
    try:
        pyogrio.write_arrow(
            pa.RecordBatchReader.from_batches(schema, batches),
            path,
            layer=LAYER,
            driver=driver,
            geometry_name=GEOMETRY,
            # a single type, because QGIS would show a mixed layer as several
            geometry_type='MultiPolygon' if driver == 'GPKG' else 'Unknown',
            crs=_to_wkt(crs),
            **options,
        )
    except RuntimeError as error:
        raise OSError(str(error)) from error


def _to_wkt(crs: str) -> str:
    """Describe a CRS for GDAL, which knows fewer notations than PROJ."""
    import pyproj

    return pyproj.CRS.from_user_input(crs).to_wkt()


def _with_multipolygons(table: pa.Table) -> pa.Table:
    from shapely import MultiPolygon, Polygon, from_wkb, to_wkb

    shapes = from_wkb(table[GEOMETRY].to_pylist())
    multiple = [MultiPolygon([s]) if isinstance(s, Polygon) else s for s in shapes]
    return _with_geometry(table, pa.array(to_wkb(multiple), pa.binary()))


def _with_text(table: pa.Table) -> pa.Table:
    from shapely import from_wkb, to_wkt

    texts = to_wkt(from_wkb(table[GEOMETRY].to_pylist()), rounding_precision=-1)
    table = _with_geometry(table, pa.array(texts, pa.string()))
    for i, field in enumerate(table.schema):
        if field.type == pa.string():
            # as cell_text does
            cells = pc.replace_substring_regex(  # ty: ignore[missing-attribute]
                table[i], FORMULA, r"'\1"
            )
            table = table.set_column(i, field, cells)
    return table.rename_columns({GEOMETRY: WKT})


def _with_boxes(table: pa.Table) -> pa.Table:
    from shapely import bounds, from_wkb

    sides = bounds(from_wkb(table[GEOMETRY].to_pylist())).reshape(-1, len(_BOX))
    missing = pa.array(np.isnan(sides[:, 0]))
    boxes = pa.StructArray.from_arrays(list(sides.T), names=list(_BOX), mask=missing)
    return table.append_column('bbox', boxes)


def _with_geometry(table: pa.Table, column: pa.Array) -> pa.Table:
    return table.set_column(table.schema.get_field_index(GEOMETRY), GEOMETRY, column)

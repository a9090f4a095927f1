# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Columns of a table of predictions, in the memory layout of Apache Arrow."""

import json
from collections.abc import Sequence

import pyarrow as pa

from .prediction import Prediction

#: Column of the outlines.
GEOMETRY = 'geometry'


def probability_column(class_name: str) -> str:
    """Return the name of the column of a class's probabilities.

    Args:
        class_name: Name of the class.

    Returns:
        For example 'probability_Forest'.
    """
    return f'probability_{class_name}'


def make_schema(classes: Sequence[str], crs: str) -> pa.Schema:
    """Return the columns: path, label, confidence, entropy, one for each class, status.

    The last column is the outline as well-known binary, with the metadata of
    GeoParquet 1.1 (https://geoparquet.org/releases/v1.1.0/).

    Args:
        classes: Names of the classes.
        crs: Coordinate reference system of the outlines, anything that PROJ knows.

    Returns:
        The schema.
    """
    # imported here: the command's --help needs no geometry
    import pyproj

    column = {
        'encoding': 'WKB',
        'geometry_types': ['Polygon', 'MultiPolygon'],
        'crs': pyproj.CRS.from_user_input(crs).to_json_dict(),
    }
    geo = {
        'version': '1.1.0',
        'primary_column': GEOMETRY,
        'columns': {GEOMETRY: column},
    }
    fields = [
        pa.field('path', pa.string(), nullable=False),
        pa.field('label', pa.string()),
        pa.field('confidence', pa.float32()),
        pa.field('entropy', pa.float32()),
        *(pa.field(probability_column(name), pa.float32()) for name in classes),
        pa.field('status', pa.string(), nullable=False),
        pa.field(GEOMETRY, pa.binary()),
    ]
    return pa.schema(fields, {'geo': json.dumps(geo)})


def to_arrow(
    rows: Sequence[Prediction], classes: Sequence[str], schema: pa.Schema
) -> pa.Table:
    """Convert rows to columns.

    Args:
        rows: The rows.
        classes: Names of the classes.
        schema: What :func:`make_schema` returned.

    Returns:
        A table with that schema.
    """
    from shapely import to_wkb

    nothing = (None,) * len(classes)
    probabilities = zip(*(row.probabilities or nothing for row in rows), strict=True)
    columns = [
        [row.path for row in rows],
        [row.label for row in rows],
        [row.confidence for row in rows],
        [row.entropy for row in rows],
        *map(list, probabilities),
        [row.status for row in rows],
        [None if row.footprint is None else to_wkb(row.footprint) for row in rows],
    ]
    arrays = [
        pa.array(values, field.type)
        for values, field in zip(columns, schema, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Tables of predictions that survive a kill."""

import json
import time
import warnings
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc

from ..errors import OutputError, OutputExistsError, SettingError, UserError
from .formats import GEOMETRY, check_format, write_table
from .prediction import Prediction
from .shards import Shards

#: Column of shards that becomes metadata of the table.
READING = 'reading'

#: Columns of tables for which several classifiers are combined.
COMBINED = ('modalities', 'unused')

# A shard is written once it has this many rows or is this old: a kill loses no more.
_ROWS = 4096
_SECONDS = 5.0


class PredictionTable:
    """Write any number of predictions to one table, batch by batch.

    Finished rows are kept as small Parquet files in ``<path>.partial/``. :meth:`finish`
    streams them into the table, which appears under its name once it is complete, and
    removes the folder. After a kill, a new instance with *resume* continues.

    Several processes may write one table: each has its own *part*, part 0 is created
    first, and one of them calls :meth:`finish` after all have closed theirs.

    Example:
        >>> import tempfile
        >>> from torchgeo_discomkd.tables import Prediction
        >>> classes = ('Forest', 'Water')
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with PredictionTable(f'{folder}/tiles.csv', classes) as table:
        ...         row = Prediction.from_probabilities('a.tif', [0.75, 0.25], classes)
        ...         table.write([row, Prediction.missing('b.tif', 'nodata')])
        ...         header, first, second = table.finish().read_text().splitlines()
        >>> header.split(',')[:4]
        ['"path"', '"label"', '"confidence"', '"entropy"']
        >>> first.split(',')[:3], second.split(',')[:3]
        (['"a.tif"', '"Forest"', '0.75'], ['"b.tif"', '', ''])
    """

    def __init__(
        self,
        path: str | Path,
        classes: Sequence[str],
        crs: str = 'EPSG:4326',
        overwrite: bool = False,
        resume: bool = False,
        part: int = 0,
        settings: Mapping[str, str] | None = None,
        combined: bool = False,
        several: bool = False,
    ) -> None:
        """Initialize a new PredictionTable instance.

        Args:
            path: Table to write; its extension is one of
                :data:`~torchgeo_discomkd.tables.formats.FORMATS`.
            classes: Names of the classes.
            crs: Coordinate reference system of the outlines, anything that PROJ knows.
            overwrite: Whether to replace an existing table and discard rows of an
                earlier run.
            resume: Whether to keep the rows of an earlier, unfinished run.
            part: Number of this process, from 0, if several write the table.
            settings: Everything that the rows depend on, for example the model: a run
                with other settings is not resumed.
            several: Whether a tile may have several labels: the table then has a column
                'labels' in place of 'label', and none of a confidence.
            combined: Whether the rows say which classifiers were combined, in the
                columns 'modalities' and 'unused'.

        Raises:
            OutputError: If the folder of the table cannot be written.
            OutputExistsError: If the table or rows of an earlier run exist and neither
                *overwrite* nor *resume* allows it.
            SettingError: If the extension or *crs* is unknown, *overwrite* and
                *resume* are both given, or the earlier rows have other settings.
        """
        self.path = Path(path)
        self.classes = tuple(classes)
        self.crs = crs
        self.combined = combined
        if overwrite and resume:
            raise SettingError(
                'overwrite and resume exclude each other: give only one.'
            )
        check_format(self.path, self.classes)
        self._schema = _make_schema(self.classes, crs, several, combined)
        self._shards = Shards(self.path.with_name(f'{self.path.name}.partial'), part)
        # the run that is resumed may have been started with overwrite
        allowed = overwrite or part > 0 or (resume and self._shards.folder.exists())
        if self.path.is_dir():
            raise OutputExistsError(f'{path} is a folder: give the name of a file.')
        for existing in filter(None, (self.path, self._companion)):
            if existing.exists() and not allowed:
                raise OutputExistsError(
                    f'{existing} exists: choose another name, or replace it with '
                    '--overwrite.'
                )
        self._settings = {
            **(settings or {}),
            'classes': ', '.join(self.classes),
            'crs': crs,
        }
        with self._writing():
            self._shards.open(self._settings, overwrite, resume)
        self._rows: list[Prediction] = []
        self._since = time.monotonic()

    def finished(self) -> Iterator[tuple[str, str]]:
        """Read path and status of all rows on disk, including those of earlier runs.

        Yields:
            Path and status of each row.

        Raises:
            CorruptFileError: If a file of rows is damaged.
        """
        for table in self._shards.read(['path', 'status']):
            columns = (table[name].to_pylist() for name in ('path', 'status'))
            yield from zip(*columns, strict=True)

    def warn_of_unusual(self) -> int:
        """Warn of rows on disk whose tiles are unusual.

        Returns:
            Their number.

        Raises:
            CorruptFileError: If a file of rows is damaged.

        Warns:
            UserWarning: If there are some, with the first one.
        """
        total, first, number = 0, None, 0
        for table in self._shards.read(['path', 'unusual']):
            rows = table.filter(pc.field('unusual').is_valid())
            total, number = total + len(table), number + len(rows)
            if first is None and len(rows):
                first = '{path}: {unusual}'.format(**rows.slice(0, 1).to_pylist()[0])
        if first is not None:
            warnings.warn(
                f'{number} of {total} tiles are unusual, see the column of this name; '
                f'the first is {first}. Their labels may be wrong: check the unit of '
                'the files, their bands, and whether the classifier was trained on '
                'such tiles.',
                stacklevel=3,
            )
        return number

    def readings(self) -> Counter[str]:
        """Count how the files of all rows on disk were understood.

        Returns:
            Number of tiles by description.

        Raises:
            CorruptFileError: If a file of rows is damaged.
        """
        return self.count(READING)

    def count(self, column: str) -> Counter[str]:
        """Count the different values in a column of text.

        Args:
            column: Name of the column.

        Returns:
            Number of rows on disk by value, without those that have none.

        Raises:
            CorruptFileError: If a file of rows is damaged.
        """
        counts: Counter[str] = Counter()
        for table in self._shards.read([column]):
            counts.update(v for v in table[column].to_pylist() if v is not None)
        return counts

    def write(self, rows: Iterable[Prediction]) -> None:
        """Add rows; they are on disk after 5 seconds, 4096 rows or :meth:`close`.

        Args:
            rows: The rows, each path once.

        Raises:
            OutputError: If they cannot be written.
        """
        self._rows.extend(rows)
        old = time.monotonic() - self._since > _SECONDS
        if len(self._rows) >= _ROWS or old:
            self.close()

    def close(self) -> None:
        """Write all rows to disk.

        Raises:
            OutputError: If they cannot be written.
        """
        if self._rows:
            with self._writing():
                schema = self._schema.append(pa.field(READING, pa.string()))
                self._shards.write(_to_arrow(self._rows, self.classes, schema))
            self._rows = []
        self._since = time.monotonic()

    def finish(self) -> Path:
        """Write the table from the rows of all parts and remove their folder.

        The rows are in the order of writing, those of part 0 first. Settings and
        readings become metadata of the file, under the key 'torchgeo_discomkd'.

        Returns:
            The table.

        Raises:
            CorruptFileError: If a file of rows is damaged.
            OutputError: If the table cannot be written; all rows are kept.
        """
        self.close()
        suffix = self.path.suffix.lower()
        # with its extension, because GDAL's GeoPackage driver insists on it
        complete = self._shards.folder / f'complete{suffix}'
        with self._writing():
            complete.unlink(missing_ok=True)
            described = {'settings': self._settings, 'readings': self.readings()}
            write_table(
                complete,
                suffix,
                self._shards.read(self._schema.names),
                self._schema,
                self.crs,
                self.classes,
                json.dumps(described),
            )
            if self._companion is not None:
                self._companion.unlink(missing_ok=True)
                if (part := complete.with_suffix('.prj')).exists():
                    part.replace(self._companion)
            complete.replace(self.path)
            self._shards.remove()
        return self.path

    @property
    def _companion(self) -> Path | None:
        """File next to the table that says where its outlines are."""
        is_csv = self.path.suffix.lower() == '.csv'
        return self.path.with_suffix('.prj') if is_csv else None

    def __enter__(self) -> Self:
        """Return the table itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Write all rows to disk, even after an error or an interrupt.

        Args:
            kind: Class of the error.
            error: The error; None if there was none.
            traceback: Its traceback.
        """
        # a full disk has been reported already
        if not isinstance(error, OutputError):
            self.close()

    @contextmanager
    def _writing(self) -> Generator[None]:
        try:
            yield
        except UserError:
            raise
        except OSError as error:
            raise OutputError(
                f'{self.path} cannot be written ({error}). Finished rows are kept in '
                f'{self._shards.folder}: free some space or choose a writable folder, '
                'then continue with --resume.'
            ) from error


def _make_schema(
    classes: Sequence[str], crs: str, several: bool, combined: bool
) -> pa.Schema:
    """Return the columns: path, label, confidence, entropy, one for each class, ...

    With several labels in a tile: path, labels, entropy, one for each label, ...

    The last column is the outline as well-known binary, with the metadata of
    GeoParquet 1.1 (https://geoparquet.org/releases/v1.1.0/).
    """
    # imported here: the command's --help needs no geometry
    import pyproj

    try:
        described = pyproj.CRS.from_user_input(crs).to_json_dict()
    except pyproj.exceptions.CRSError as error:
        raise SettingError(
            f"crs='{crs}' is unknown ({error}): use, for example, 'EPSG:4326'."
        ) from error
    column = {
        'encoding': 'WKB',
        'geometry_types': ['Polygon', 'MultiPolygon'],
        'crs': described,
    }
    geo = {
        'version': '1.1.0',
        'primary_column': GEOMETRY,
        'columns': {GEOMETRY: column},
    }
    single = [pa.field('label', pa.string()), pa.field('confidence', pa.float32())]
    fields = [
        pa.field('path', pa.string(), nullable=False),
        *([pa.field('labels', pa.string())] if several else single),
        pa.field('entropy', pa.float32()),
        *(pa.field(f'probability_{name}', pa.float32()) for name in classes),
        pa.field('status', pa.string(), nullable=False),
        pa.field('unusual', pa.string()),
        *(pa.field(name, pa.string()) for name in (COMBINED if combined else ())),
        pa.field(GEOMETRY, pa.binary()),
    ]
    return pa.schema(fields, {'geo': json.dumps(geo)})


def _to_arrow(
    rows: Sequence[Prediction], classes: Sequence[str], schema: pa.Schema
) -> pa.Table:
    from shapely import to_wkb

    nothing = (None,) * len(classes)
    probabilities = zip(*(row.probabilities or nothing for row in rows), strict=True)
    columns = [
        [row.path for row in rows],
        [row.label for row in rows],
        *([] if 'labels' in schema.names else [[row.confidence for row in rows]]),
        [row.entropy for row in rows],
        *map(list, probabilities),
        [row.status for row in rows],
        [row.unusual for row in rows],
        *([getattr(row, c) for row in rows] for c in COMBINED if c in schema.names),
        [None if row.footprint is None else to_wkb(row.footprint) for row in rows],
        [row.reading for row in rows],
    ]
    arrays = [
        pa.array(values, field.type)
        for values, field in zip(columns, schema, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)

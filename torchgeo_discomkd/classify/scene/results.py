# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""What became of many scenes: one result each, and a table of all."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...files import write_atomically, writing
from ...tables.text import cell_text
from .outputs import SceneSummary

# The first columns of the table.
_COLUMNS = ('scene', 'map', 'status', 'rows', 'columns', 'stride', 'nodata')

#: Status of scenes that an interrupted run did not reach.
PENDING = 'pending'


@dataclass(frozen=True)
class SceneResult:
    """What became of one of many scenes.

    Attributes:
        scene: Its path, several joined by ';'.
        status: 'ok'; 'pending' if the run did not reach it; otherwise the reason why it
            has no map, as in tables of tiles.
        summary: Summary of its map; None if it has none.
        kept: Whether an earlier run made the map.

    Example:
        >>> print(SceneResult('b.tif', 'unreadable: truncated'))
        b.tif has no map: unreadable: truncated
    """

    scene: str
    status: str
    summary: SceneSummary | None = None
    kept: bool = False

    def __str__(self) -> str:
        """Return a summary in one line."""
        if self.summary is None:
            return f'{self.scene} has no map: {self.status}'
        return f'{self.summary}{", kept" if self.kept else ""}'


@dataclass
class ScenesSummary:
    """What became of many scenes.

    Attributes:
        table: Table with one row per scene.
        results: One result per scene.

    Example:
        >>> from torchgeo_discomkd.classify import SceneOutputs
        >>> outputs = SceneOutputs(Path('maps/a.tif'), polygons=None, preview=None)
        >>> cells = {'Land': 9, 'Water': 3}
        >>> done = SceneSummary(outputs, (4, 4), 16, cells, 4, 9, 0, 0.8)
        >>> summary = ScenesSummary(Path('maps/summary.csv'))
        >>> summary.results.append(SceneResult('a.tif', 'ok', done))
        >>> summary.results.append(SceneResult('b.tif', 'unreadable: truncated'))
        >>> print(summary)
        maps/summary.csv: 2 scenes, 1 without a map
        >>> summary.failed
        1
    """

    table: Path
    results: list[SceneResult] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """Number of scenes without a map."""
        return sum(result.summary is None for result in self.results)

    def __str__(self) -> str:
        """Return a summary in one line."""
        count = len(self.results)
        return (
            f'{self.table}: {count} scene{"s"[: count != 1]}, {self.failed} without a '
            'map'
        )


def is_table(path: Path) -> bool:
    """Return whether a file is a table of :func:`write_results`.

    Args:
        path: Any file; it need not exist.
    """
    if not path.is_file():
        return False
    with path.open('rb') as file:
        return file.readline(1000).startswith(','.join(_COLUMNS).encode())


def write_results(summary: ScenesSummary, names: Sequence[str]) -> None:
    """Write the table, completely or not at all.

    Args:
        summary: What became of the scenes.
        names: Names of the classes of the maps.

    Raises:
        OutputError: If it cannot be written.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator='\n')
    columns = [*_COLUMNS, 'windows', 'mean_confidence', 'unusual', 'reading']
    columns += [f'share_{name}' for name in names]
    table.writerow(columns)
    for result in summary.results:
        values = [] if result.summary is None else _values(result.summary)
        name = '' if result.summary is None else result.summary.outputs.classes.name
        row = [result.scene, name, result.status, *values]
        row = [cell_text(v) if isinstance(v, str) else v for v in row]
        table.writerow(row + [''] * (len(columns) - len(row)))
    with writing(summary.table):
        write_atomically(summary.table, text.getvalue().encode())


def _values(summary: SceneSummary) -> list[int | str]:
    shares = map(_number, summary.shares().values())
    return [
        *summary.shape,
        summary.stride,
        summary.nodata,
        summary.windows,
        _number(summary.mean_confidence),
        summary.unusual or '',
        summary.reading,
        *shares,
    ]


def _number(value: float) -> str:
    """Return a number as text, empty if there is none."""
    return '' if math.isnan(value) else f'{value:.6f}'

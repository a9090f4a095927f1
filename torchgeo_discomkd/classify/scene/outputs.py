# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Output files of a scene, and a summary of the map."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ...errors import OutputExistsError, SettingError
from ...files import find_abandoned, only_writer, remove_abandoned, writing
from ...rasters.finding import ImageFiles
from .legend import Legend
from .map_writer import MapWriter
from .polygons import write_polygons
from .preview import write_preview
from .reader import Grid
from .replacing import complete, list_path, replace_together
from .styles import class_style, confidence_style

# Files that GDAL would take for parts of a map of the same name.
_SIDECARS = ('.aux.xml', '.msk', '.ovr')


@dataclass(frozen=True)
class SceneOutputs:
    """Output files of a scene.

    Attributes:
        classes: Map of classes.
        polygons: Polygons; None to omit them.
        preview: Figure; None to omit it.

    Example:
        >>> preview = Path('map.png')
        >>> outputs = SceneOutputs(Path('map.tif'), polygons=None, preview=preview)
        >>> [path.name for path in outputs.files[:4]]
        ['map.tif', 'map.png', 'map_confidence.tif', 'map.tif.aux.xml']
        >>> [path.name for path in outputs.styles]
        ['map.qml', 'map_confidence.qml']
    """

    classes: Path
    polygons: Path | None
    preview: Path | None

    @property
    def confidence(self) -> Path:
        """Map of confidence."""
        return self.classes.with_name(
            f'{self.classes.stem}_confidence{self.classes.suffix}'
        )

    @property
    def aux_xml(self) -> Path:
        """Names of the classes."""
        return self.classes.with_name(f'{self.classes.name}.aux.xml')

    @property
    def styles(self) -> tuple[Path, Path]:
        """How QGIS draws the map of classes and that of confidence."""
        return self.classes.with_suffix('.qml'), self.confidence.with_suffix('.qml')

    @property
    def asked(self) -> list[Path]:
        """Files that the user specified."""
        named = (self.classes, self.polygons, self.preview)
        return [path for path in named if path is not None]

    @property
    def files(self) -> list[Path]:
        """All files."""
        return [*self.asked, self.confidence, self.aux_xml, *self.styles]

    @property
    def sidecars(self) -> list[Path]:
        """Files that GDAL would take for parts of the maps."""
        return [
            path.with_name(path.name + suffix)
            for path in (self.confidence, self.classes)
            for suffix in _SIDECARS
        ]


@dataclass(frozen=True)
class SceneSummary:
    """The files, and a summary of the map.

    Attributes:
        outputs: Files that were written.
        shape: Rows and columns of the map.
        stride: Height and width of a cell in pixels of the scene.
        cells: Number of cells of each class, including 'uncertain' if there was a
            minimum confidence.
        nodata: Number of cells without enough pixels.
        windows: Number of windows that were classified.
        skipped: Number of windows that were not, because they cover no cell with enough
            pixels.
        mean_confidence: Mean confidence of all cells with a class; NaN if there is
            none.
        reading: How the numbers in the files were understood.
        unusual: What speaks against the map; None if nothing does.

    Example:
        >>> outputs = SceneOutputs(Path('map.tif'), polygons=None, preview=None)
        >>> cells = {'Land': 9, 'Water': 3}
        >>> summary = SceneSummary(outputs, (4, 4), 16, cells, 4, 9, 0, 0.8)
        >>> print(summary)  # doctest: +NORMALIZE_WHITESPACE
        map.tif: 4 x 4 cells of 16 pixels, 4 nodata
        (Land 75.0 %, Water 25.0 %; mean confidence 0.800)
    """

    outputs: SceneOutputs
    shape: tuple[int, int]
    stride: int
    cells: dict[str, int]
    nodata: int
    windows: int
    skipped: int
    mean_confidence: float
    reading: str = ''
    unusual: str | None = None

    @classmethod
    def from_counts(
        cls,
        outputs: SceneOutputs,
        shape: tuple[int, int],
        stride: int,
        names: Sequence[str],
        counts: NDArray[np.int64],
        confidence: float,
        windows: tuple[int, int],
    ) -> Self:
        """Summarize a map by the number of its cells.

        Args:
            outputs: Files that were written.
            shape: Rows and columns of the map.
            stride: Height and width of a cell in pixels of the scene.
            names: Name of each value, beginning with that of 1.
            counts: Number of cells by value, int64, shape (1 + names,).
            confidence: Sum of the confidence of all cells.
            windows: Number of windows that were classified, and that were not.

        Returns:
            The summary.
        """
        nodata, *cells = counts.tolist()
        return cls(
            outputs=outputs,
            shape=shape,
            stride=stride,
            cells=dict(zip(names, cells, strict=True)),
            nodata=nodata,
            windows=windows[0],
            skipped=windows[1],
            mean_confidence=confidence / sum(cells) if any(cells) else float('nan'),
        )

    def shares(self) -> dict[str, float]:
        """Return the share of each class in the cells that have one; NaN if none has.

        Returns:
            Shares from 0 to 1 by class.
        """
        mapped = sum(self.cells.values())
        return {
            name: count / mapped if mapped else float('nan')
            for name, count in self.cells.items()
        }

    def __str__(self) -> str:
        """Return a summary in one line."""
        shares = ', '.join(f'{n} {100 * s:.1f} %' for n, s in self.shares().items())
        rows, columns = self.shape
        text = f'{self.outputs.classes}: {rows} x {columns} cells of {self.stride} '
        text += f'pixels, {self.nodata} nodata'
        if any(self.cells.values()):
            text += f' ({shares}; mean confidence {self.mean_confidence:.3f})'
        return text


def plan_outputs(
    output: str | Path,
    polygons: str | Path | None,
    preview: str | Path | None,
    scene: ImageFiles,
) -> SceneOutputs:
    """Name the output files.

    Args:
        output: Map of classes.
        polygons: Polygons; None to omit them.
        preview: Figure; None to omit it.
        scene: The scene.

    Returns:
        The files.

    Raises:
        OutputExistsError: If a file is the scene.
        SettingError: If an extension is wrong.
    """
    for path, suffixes in (
        (output, ('.tif', '.tiff')),
        (polygons, ('.gpkg',)),
        (preview, ('.png',)),
    ):
        if path is not None and Path(path).suffix.lower() not in suffixes:
            raise SettingError(
                f'{path} must end in {" or ".join(suffixes)}: choose another name.'
            )
    outputs = SceneOutputs(
        Path(output),
        None if polygons is None else Path(polygons),
        None if preview is None else Path(preview),
    )
    read = {Path(path).resolve() for path in scene.paths}
    for path in outputs.files:
        if path.resolve() in read:
            raise OutputExistsError(
                f'{path} is the scene itself: choose another name for the map.'
            )
    return outputs


def clear_outputs(outputs: SceneOutputs) -> None:
    """Complete or remove what a killed run for the same map has left behind.

    Args:
        outputs: The files, of which this process is the only writer.

    Raises:
        OutputError: If a file cannot be written.
    """
    begun = list_path(outputs.classes)
    if begun.exists():
        complete(outputs.classes, [*outputs.files, *outputs.sidecars])
    remove_abandoned(*outputs.asked, begun)


def clear_folder(plans: Sequence[SceneOutputs]) -> None:
    """Do the same for many maps.

    Args:
        plans: Files of each map.

    Raises:
        OutputError: If a file cannot be written.
        OutputInUseError: If another process writes a map that has such parts.
    """
    lists = [list_path(plan.classes) for plan in plans]
    parts = find_abandoned(*lists, *(path for plan in plans for path in plan.asked))
    for plan, begun in zip(plans, lists, strict=True):
        if begun.exists() or not parts.keys().isdisjoint([*plan.asked, begun]):
            with only_writer(*plan.asked):
                clear_outputs(plan)


def warn_of_older(plans: Iterable[SceneOutputs]) -> None:
    """Warn of polygons and figures of older maps, which stay next to the new ones.

    Args:
        plans: Files of each map that is made now.

    Warns:
        UserWarning: If there are some, with the first one.
    """
    found = [
        path
        for plan in plans
        if plan.classes.exists()
        for asked, suffix in ((plan.polygons, '.gpkg'), (plan.preview, '.png'))
        if asked is None and (path := plan.classes.with_suffix(suffix)).exists()
    ]
    if found:
        others = f' and {len(found) - 1} others' if len(found) > 1 else ''
        warnings.warn(
            f'{found[0]}{others} may belong to the older map, and will not be '
            'replaced: remove it, or add --polygons or --preview.',
            stacklevel=4,
        )


def finish_outputs(
    summary: SceneSummary,
    folders: Mapping[Path, Path],
    writer: MapWriter,
    legend: Legend,
    scene: Grid,
) -> None:
    """Write styles, polygons and figure, then put all files in place.

    Args:
        summary: The files, and a summary of the map.
        folders: Folder for the parts of each file that the user specified.
        writer: The finished map.
        legend: Classes of the map.
        scene: Grid of the scene.

    Raises:
        OutputError: If a file cannot be written.
    """
    outputs = summary.outputs
    parts = {outputs.confidence: writer.confidence, outputs.aux_xml: writer.aux_xml}
    contents = class_style(legend), confidence_style()
    for path, content in zip(outputs.styles, contents, strict=True):
        parts[path] = folders[outputs.classes] / path.name
        with writing(path):
            parts[path].write_bytes(content)
    if outputs.polygons is not None:
        part = folders[outputs.polygons] / 'polygons.gpkg'
        extent = scene.height / summary.stride, scene.width / summary.stride
        write_polygons(writer.classes, legend, extent, part)
        parts[outputs.polygons] = part
    if outputs.preview is not None:
        part = folders[outputs.preview] / 'preview.png'
        write_preview(writer.classes, writer.confidence, legend, summary.cells, part)
        parts[outputs.preview] = part
    # the last one: a run is resumed behind the scenes that have a map
    parts[outputs.classes] = writer.classes
    replace_together(outputs.classes, parts, outputs.sidecars)

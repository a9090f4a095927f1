# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Files that a scene is classified into."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import OutputExistsError, SettingError
from ..files import refuse_existing, writing
from ..rasters.sources import Source
from .map_legend import Legend
from .map_writer import MapWriter
from .polygons import write_polygons
from .preview import write_preview
from .scene_reader import Grid
from .scene_summary import SceneSummary

# Files that GDAL would take for parts of a map of the same name.
_SIDECARS = ('.aux.xml', '.msk', '.ovr')


@dataclass(frozen=True)
class SceneOutputs:
    """Where the results go."""

    #: Map of classes.
    output: Path

    #: Polygons; None if not asked for.
    polygons: Path | None

    #: Picture; None if not asked for.
    preview: Path | None

    @property
    def confidence(self) -> Path:
        """Map of confidence."""
        return self.output.with_name(
            f'{self.output.stem}_confidence{self.output.suffix}'
        )

    @property
    def aux_xml(self) -> Path:
        """Names of the classes."""
        return self.output.with_name(f'{self.output.name}.aux.xml')

    @property
    def asked(self) -> list[Path]:
        """Files that the user named."""
        named = (self.output, self.polygons, self.preview)
        return [path for path in named if path is not None]

    @property
    def files(self) -> list[Path]:
        """All files."""
        return [*self.asked, self.confidence, self.aux_xml]


def plan_outputs(
    output: str | Path,
    polygons: str | Path | None,
    preview: str | Path | None,
    source: Source,
    overwrite: bool,
) -> SceneOutputs:
    """Check where the results are to go, before anything is computed.

    Args:
        output: Map of classes.
        polygons: Polygons; None for none.
        preview: Picture; None for none.
        source: The scene.
        overwrite: Whether existing files may be replaced.

    Returns:
        The files.

    Raises:
        OutputExistsError: If a file exists and may not be replaced, or is the scene.
        SettingError: If an extension is another one than expected.
    """
    for path, suffixes in (
        (output, ('.tif', '.tiff')),
        (polygons, ('.gpkg',)),
        (preview, ('.png',)),
    ):
        if path is not None and Path(path).suffix.lower() not in suffixes:
            raise SettingError(
                f'{path} should end in {" or ".join(suffixes)}: give another name.'
            )
    outputs = SceneOutputs(
        Path(output),
        None if polygons is None else Path(polygons),
        None if preview is None else Path(preview),
    )
    scene = {Path(path).resolve() for path in source.paths}
    for path in outputs.files:
        if path.resolve() in scene:
            raise OutputExistsError(
                f'{path} is the scene itself: choose another name for the map.'
            )
    refuse_existing(outputs.files, overwrite)
    return outputs


def finish_outputs(
    outputs: SceneOutputs,
    folders: Mapping[Path, Path],
    writer: MapWriter,
    legend: Legend,
    scene: Grid,
    summary: SceneSummary,
) -> None:
    """Draw polygons and picture, then put all files in place.

    Args:
        outputs: The files.
        folders: Folder for the parts of each file that the user named.
        writer: The finished map.
        legend: Classes of the map.
        scene: Grid of the scene.
        summary: What the map shows.

    Raises:
        OutputError: If a file cannot be written.
    """
    parts = {
        outputs.confidence: writer.confidence,
        outputs.aux_xml: writer.aux_xml,
        outputs.output: writer.classes,
    }
    if outputs.polygons is not None:
        part = folders[outputs.polygons] / 'polygons.gpkg'
        extent = scene.height / summary.stride, scene.width / summary.stride
        write_polygons(writer.classes, legend, extent, part)
        parts[outputs.polygons] = part
    if outputs.preview is not None:
        part = folders[outputs.preview] / 'preview.png'
        write_preview(writer.classes, writer.confidence, legend, summary.cells, part)
        parts[outputs.preview] = part
    for path in (outputs.confidence, outputs.output):
        for suffix in _SIDECARS:
            with writing(path):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
    for path, part in parts.items():
        with writing(path):
            part.replace(path)

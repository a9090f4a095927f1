# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Classify tiles or a scene: the function behind the command."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import SettingError

if TYPE_CHECKING:
    from ..rasters.sources import Source
    from .predictor import Predictor
    from .scene_summary import SceneSummary
    from .summary import Summary

#: Extensions of a map; all others are those of tables.
MAPS = ('.tif', '.tiff')


def classify(
    model: str | Path,
    inputs: Sequence[str | Path],
    output: str | Path,
    *,
    modality: str | None = None,
    scale: Literal['auto', 'db', 'linear'] = 'auto',
    bands: Sequence[str] | None = None,
    batch_size: int = 128,
    workers: int = 1,
    device: str = 'auto',
    precision: Literal['auto', 'float32', 'bfloat16'] = 'auto',
    min_confidence: float = 0.0,
    max_nodata: float | None = None,
    crs: str | None = None,
    resume: bool = False,
    stride: int | None = None,
    polygons: str | Path | None = None,
    preview: str | Path | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> 'Summary | SceneSummary':
    """Classify tiles into a table, or a scene into a map.

    Details are those of :func:`.tiles.classify_tiles` and
    :func:`.scene.classify_scene`.

    Args:
        model: Classifier file, exported file or checkpoint.
        inputs: Tiles, folders, patterns, text lists, URLs or ``band=path`` pairs, as
            for :func:`find_sources`; one scene for a map.
        output: .parquet, .gpkg, .geojson or .csv for a table, .tif for a map.
        modality: Modality of the images; only a checkpoint of several needs it.
        scale: Unit of SAR images: 'db', 'linear', or 'auto' to guess it.
        bands: Names or numbers (from 1) of the bands of the files, one for each band of
            the classifier; None finds them by name, or else by order.
        batch_size: Images that are classified at a time.
        workers: Threads that read.
        device: 'auto', or a device of PyTorch such as 'cpu' or 'cuda'.
        precision: As for :func:`.load_predictor`: 'auto' for that of the file,
            'float32' or the faster, less exact 'bfloat16'.
        min_confidence: Below this confidence the label is 'uncertain'.
        max_nodata: A tile or a cell of the map is nodata if at least this part of its
            pixels is missing. Default: 1 for tiles, 0.5 for a map.
        crs: For a table: coordinate reference system of all outlines. Default:
            'EPSG:4326'.
        resume: For a table: continue a run that did not end.
        stride: For a map: step of the window, the size of a cell, in pixels.
        polygons: For a map: GeoPackage of its classes as polygons.
        preview: For a map: PNG of it with a legend.
        overwrite: Replace existing files.
        progress: Show a progress bar.

    Returns:
        Numbers of tiles by status for a table; files and classes for a map.

    Raises:
        UserError: If the model, the images, the output or a setting is wrong.
    """
    scene = Path(output).suffix.lower() in MAPS
    _check_options(
        scene,
        of_tables={'crs': crs, 'resume': resume or None},
        of_maps={'stride': stride, 'polygons': polygons, 'preview': preview},
    )
    # takes seconds: not before the arguments are known to be right
    from ..rasters.sources import find_sources
    from .predictor import load_predictor

    predictor = load_predictor(model, modality, device, precision)
    sources = find_sources(
        inputs, predictor.metadata.modalities[predictor.modality].bands
    )
    settings: dict[str, Any] = {
        'scale': scale,
        'bands': bands,
        'batch_size': batch_size,
        'workers': workers,
        'min_confidence': min_confidence,
        'overwrite': overwrite,
        'progress': progress,
    }
    if max_nodata is not None:
        settings['max_nodata'] = max_nodata
    if scene:
        settings |= {'stride': stride, 'polygons': polygons, 'preview': preview}
        return _map(predictor, sources, output, settings)
    from .tiles import classify_tiles

    settings |= {'crs': crs or 'EPSG:4326', 'resume': resume}
    return classify_tiles(predictor, sources, output, **settings)


def _map(
    predictor: 'Predictor',
    sources: 'Sequence[Source]',
    output: str | Path,
    settings: dict[str, Any],
) -> 'SceneSummary':
    if len(sources) > 1:
        bands = predictor.metadata.modalities[predictor.modality].bands
        by_band = ' '.join(f'{band}=<file>' for band in bands)
        raise SettingError(
            f'{output} is the map of one scene, but {len(sources)} images are given, '
            f'{sources[0].name}, {sources[1].name}, ...: give one, or its files by band '
            f'({by_band}), or a table (.parquet) as output for tiles.'
        )
    from .scene import classify_scene

    return classify_scene(predictor, sources[0], output, **settings)


def _check_options(
    scene: bool, of_tables: dict[str, object], of_maps: dict[str, object]
) -> None:
    wrong, kind = (of_tables, 'tables') if scene else (of_maps, 'maps of scenes (.tif)')
    given = [name for name, value in wrong.items() if value is not None]
    if given:
        names = ', '.join(f'--{name}' for name in given)
        raise SettingError(f'{names}: only for {kind}; leave it out for this output.')

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Classify a whole scene into a map."""

import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from tqdm import tqdm

from ...files import only_writer, partial_folder, refuse_existing
from ...rasters.finding import ImageFiles
from ...rasters.places import to_lonlat
from ...rasters.scale import Scale
from ..band_order import warn_of_swapped_scene
from ..options import CACHE_BYTES
from ..predictor import Predictor
from .legend import NODATA
from .map_writer import MapWriter
from .outputs import (
    SceneOutputs,
    SceneSummary,
    clear_outputs,
    finish_outputs,
    plan_outputs,
    warn_of_older,
)
from .panels import MapRow, PanelAverage, Strip, iterate_strips
from .reader import Grid, SceneReader, open_scene
from .replacing import list_path
from .report import report_doubts
from .settings import SceneSettings, make_settings, split_panels
from .tags import make_reading_tags, make_tags, make_window_tags
from .windows import place_windows


def classify_scene(
    predictor: Predictor,
    scene: ImageFiles,
    output: str | Path,
    *,
    scale: Scale = 'auto',
    bands: Sequence[str] | None = None,
    stride: int | None = None,
    max_nodata: float = 0.5,
    batch_size: int = 128,
    workers: int = 1,
    min_confidence: float = 0.0,
    polygons: str | Path | None = None,
    preview: str | Path | None = None,
    overwrite: bool = False,
    progress: bool = True,
    nodata: float | None = None,
    strict: bool = False,
    resample: bool = False,
) -> SceneSummary:
    """Classify a scene into a map of classes and a map of confidence.

    A window of the classifier's tile size slides over the scene. A cell of the map is
    *stride* x *stride* pixels, beginning at the upper left corner of the scene; its
    probabilities are the mean over all windows that cover it, its confidence is the
    highest of them. At the borders of the scene, windows are shifted inwards, so that
    the classifier sees real pixels; a scene smaller than a window is padded with
    missing pixels at the bottom and on the right. Cells at the lower and right border
    may reach beyond the scene. The classifier fills missing pixels itself; windows that
    only cover nodata cells are not classified. Windows for which it returns NaN are
    left out of the mean; cells without another window are nodata.

    When all files are complete, these are written:

    * *output*: classes, a Cloud Optimized GeoTIFF (see :class:`.MapWriter`), and the
      names of the classes for GDAL in *output*.aux.xml, to be kept next to it;
    * *output* with '_confidence' before its extension: confidence, on the same grid;
    * both names with the extension .qml: how QGIS draws them;
    * *polygons* and *preview*, if given.

    The scene is read once, in strips; memory does not depend on its size. A scene that
    only has ground control points is warped while it is read. Without georeference,
    the map has none either; a scene with a transform but no CRS keeps the transform.

    Args:
        predictor: The classifier.
        scene: One file with all bands, or one file per band on the same grid, from
            :func:`.find_images`.
        output: Map to write, .tif.
        scale: As for :func:`.classify_tiles`; 'auto' guesses it from samples of the
            scene.
        bands: As for :func:`.classify_tiles`.
        stride: Height and width of a map cell in pixels, 1 to the size of the windows.
            Default: half of it.
        max_nodata: A cell with at least this share of missing pixels is nodata, above 0
            to 1. A pixel is missing if it is missing in any band.
        batch_size: Largest number of windows classified at a time; fewer if they are
            large (96 MiB).
        workers: Number of threads that decode and compress, in addition to the one that
            reads ahead.
        min_confidence: Cells with a lower confidence get a separate class, 'uncertain'.
        polygons: GeoPackage to write, .gpkg: one multipolygon per class with its area.
        preview: Figure to write, .png: classes with legend, and confidence.
        overwrite: Replace existing files.
        progress: Show a progress bar.
        nodata: As for :func:`.classify_tiles`.
        strict: Refuse the scene if it is unusual, see :func:`.classify_tiles`.
        resample: As for :func:`.classify_tiles`; the cells of the map are *stride*
            pixels of this size.

    Returns:
        The files, and a summary of the map.

    Raises:
        BandError: If bands are missing, or the files of the bands have different grids.
        CorruptFileError: If the scene cannot be read.
        OutputError: If a file cannot be written.
        OutputExistsError: If a file exists, or is the scene itself.
        OutputInUseError: If another process writes one of the files.
        SettingError: If a setting is unknown or out of range.
        UnitError: If the values contradict *scale* or the classifier's unit, or cannot
            be backscatter.
        UnusualImageError: If *strict* is set and the scene is unusual.

    Warns:
        UserWarning: If the scene has no georeference, no CRS or one without a place on
            the Earth, its bands seem to be swapped, or it is unusual; if the classifier
            returns NaN; or if *polygons* or *preview* of an older map with other
            options would stay.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from torchgeo_discomkd.models import ClassifierMetadata, ModalityMetadata
        >>> from torchgeo_discomkd.rasters import find_images
        >>> sar = ModalityMetadata(2, ('VV', 'VH'), 'dB', tile_size=(32, 32))
        >>> metadata = ClassifierMetadata(
        ...     'disentangled', 'test_resnet', ('Land', 'Water'), {'sar': sar},
        ...     'linear_bn_relu', 'none', 1.0, {}, None, '', '', None, '')
        >>> def compute(images):  # any function from pixels to probabilities
        ...     water = np.float32(images.mean(axis=(1, 2, 3)) < -15)
        ...     return np.stack([1 - water, water], axis=1)
        >>> predictor = Predictor(metadata, 'sar', 'threshold', None, 'cpu', compute)
        >>> pixels = np.float32(np.random.default_rng(0).normal(-10, 1, (2, 64, 64)))
        >>> pixels[:, :, 32:] -= 10
        >>> with TemporaryDirectory() as folder:
        ...     with rasterio.open(
        ...         f'{folder}/scene.tif', 'w', width=64, height=64, count=2,
        ...         dtype='float32', crs='EPSG:32633',
        ...         transform=Affine(10, 0, 500000, 0, -10, 5000000)
        ...     ) as file:
        ...         file.write(pixels)
        ...         file.descriptions = 'VV', 'VH'
        ...     [scene] = find_images([f'{folder}/scene.tif'], predictor.bands)
        ...     summary = classify_scene(
        ...         predictor, scene, f'{folder}/map.tif', stride=32, progress=False)
        >>> summary.shape, summary.cells
        ((2, 2), {'Land': 2, 'Water': 2})
    """
    settings = make_settings(
        predictor,
        scale=scale,
        bands=bands,
        stride=stride,
        max_nodata=max_nodata,
        batch_size=batch_size,
        workers=workers,
        min_confidence=min_confidence,
        nodata=nodata,
        strict=strict,
        resample=resample,
    )
    outputs = plan_outputs(output, polygons, preview, scene)
    with only_writer(*outputs.asked):
        clear_outputs(outputs)
        refuse_existing([*outputs.files, *outputs.sidecars], overwrite)
        warn_of_older([outputs])
        return make_map(predictor, scene, outputs, settings, progress)


def make_map(
    predictor: Predictor,
    scene: ImageFiles,
    outputs: SceneOutputs,
    settings: SceneSettings,
    progress: bool,
    title: str | None = None,
) -> SceneSummary:
    """Classify a scene as :func:`classify_scene` does; existing files are replaced.

    Args:
        predictor: The classifier.
        scene: The scene.
        outputs: The files to write.
        settings: How to classify it.
        progress: Show a progress bar.
        title: Text in front of a bar that disappears when it is full; None for a bar
            that stays.

    Returns:
        The files, and a summary of the map.

    Raises:
        BandError: As for :func:`classify_scene`.
        CorruptFileError: If the scene cannot be read.
        OutputError: If a file cannot be written.
        SettingError: If bands are selected from several files.
        UnitError: As for :func:`classify_scene`.
        UnusualImageError: As for :func:`classify_scene`.

    Warns:
        UserWarning: As for :func:`classify_scene`.
    """
    gdal = {'GDAL_CACHEMAX': CACHE_BYTES, 'GDAL_NUM_THREADS': f'{settings.workers}'}
    with rasterio.Env(**gdal), ExitStack() as stack:
        reader = stack.enter_context(open_scene(scene, settings.spec))
        sample = reader.sample()
        if not reader.named:
            flat = sample.windows.swapaxes(0, 1).reshape(reader.bands, -1)
            warn_of_swapped_scene(flat, predictor.bands, scene.name)
        unusual = report_doubts(reader.name, sample, settings.spec)
        grid = _map_grid(reader, settings.stride)
        tags = make_tags(predictor, scene, settings)
        # parts that are listed are needed by the next run
        begun = list_path(outputs.classes).exists
        folders = {
            p: stack.enter_context(partial_folder(p, begun)) for p in outputs.asked
        }
        writer = MapWriter(
            folders[outputs.classes], grid, settings.legend, tags, settings.workers
        )
        stack.enter_context(closing(writer))
        new_bar = partial(
            tqdm, desc=title, leave=title is None, unit=' windows', disable=not progress
        )
        windows = _classify(predictor, reader, settings, writer, new_bar)
        reader.check_all()
        found = make_window_tags(windows) | make_reading_tags(reader.reading, unusual)
        writer.finish({**found, **reader.dates})
        summary = SceneSummary.from_counts(
            outputs=outputs,
            shape=(grid.height, grid.width),
            stride=settings.stride,
            names=settings.legend.names,
            counts=writer.counts,
            confidence=writer.total,
            windows=windows,
        )
        summary = replace(summary, reading=reader.reading, unusual=unusual)
        finish_outputs(summary, folders, writer, settings.legend, reader.grid)
    return summary


def _classify(
    predictor: Predictor,
    reader: SceneReader,
    settings: SceneSettings,
    writer: MapWriter,
    new_bar: Callable[..., tqdm],
) -> tuple[int, int]:
    """Write the map; return how many windows were classified and skipped."""
    classes = len(predictor.metadata.classes)
    scene = reader.grid
    rows = place_windows(scene.height, settings.tile[0], settings.stride)
    columns = place_windows(scene.width, settings.tile[1], settings.stride)
    panels = split_panels(columns, settings, reader.bands, reader.block_rows, classes)
    total = len(rows.starts) * sum(len(panel.starts) for panel in panels)
    classified = lost = 0
    with new_bar(total=total) as bar:
        for panel in panels:
            average = PanelAverage(predictor, rows, panel, settings.batch_size)
            strips = iterate_strips(reader, rows, panel, settings)
            left = panel.offset // settings.stride
            # an error must not leave a thread behind that reads from closed files
            with closing(_read_ahead(strips)) as ahead:
                for strip in ahead:
                    for row in average.add(strip):
                        _write_row(writer, left, row, settings.min_confidence)
                    bar.update((strip.end - strip.begin) * len(panel.starts))
            classified += average.classified
            lost += average.lost
    if lost:
        warnings.warn(
            f'{reader.name}: the classifier returned numbers that are not finite for '
            f'{lost} of {classified} windows. They are left out, and cells without '
            'another window are nodata: check the model file on other images, or '
            'export the classifier again.',
            stacklevel=4,
        )
    return classified, total - classified


def _read_ahead(strips: Iterator[Strip]) -> Generator[Strip]:
    """Read the next strip while the last one is classified."""

    def read() -> Strip | None:
        return next(strips, None)

    with ThreadPoolExecutor(1, thread_name_prefix='reader') as pool:
        future = pool.submit(read)
        while (strip := future.result()) is not None:
            future = pool.submit(read)
            yield strip


def _write_row(
    writer: MapWriter, left: int, row: MapRow, min_confidence: float
) -> None:
    probabilities = row.probabilities.astype(np.float32)
    confidence = probabilities.max(axis=1)
    classes = probabilities.argmax(axis=1).astype(np.uint8) + np.uint8(1)
    classes[confidence < min_confidence] = probabilities.shape[1] + 1
    classes[~row.mapped] = NODATA
    confidence[~row.mapped] = np.nan
    writer.write(row.row, left, classes, confidence)


def _map_grid(reader: SceneReader, stride: int) -> Grid:
    """Return the grid whose cells are *stride* pixels; warn if it has no location."""
    scene = reader.grid
    height, width = -(-scene.height // stride), -(-scene.width // stride)
    if scene.transform is None:
        warnings.warn(
            f'{reader.name} is not georeferenced: the map will not be either.',
            stacklevel=4,
        )
        return Grid(height, width, None, None)
    if scene.crs is None:
        warnings.warn(
            f'{reader.name} has no coordinate reference system: the map will have none '
            'either. If you know it, set it with "rio edit-info --crs EPSG:<code>".',
            stacklevel=4,
        )
    elif to_lonlat(scene.crs.to_wkt()) is None:
        warnings.warn(
            f'{reader.name} has a coordinate reference system that does not say where '
            f'on the Earth it lies ({scene.crs.to_wkt():.60}): polygons will have '
            'no areas. If you know the right one, set it with "rio edit-info --crs '
            'EPSG:<code>".',
            stacklevel=4,
        )
    transform = scene.transform @ Affine.scale(stride)
    return Grid(height, width, scene.crs, transform)

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Classify many scenes into one map each."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from ...errors import OutputError, UserError
from ...files import only_writer, refuse_existing, utf8_text
from ...rasters.finding import ImageFiles
from ...rasters.scale import Scale
from ...rasters.tiles import error_status
from ..predictor import Predictor
from ..ray_engine import RayEngine
from .folder import TABLE, plan_folder
from .mapping import make_map
from .outputs import SceneOutputs, clear_folder, clear_outputs, warn_of_older
from .results import PENDING, SceneResult, ScenesSummary, is_table, write_results
from .resuming import is_finished, is_map, read_summary
from .settings import SceneSettings, make_settings
from .tags import make_tags

#: A scene, its files, and whether an earlier run has made them.
type Todo = tuple[ImageFiles, SceneOutputs, bool]


def classify_scenes(
    predictor: Predictor,
    scenes: Sequence[ImageFiles],
    folder: str | Path,
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
    resume: bool = False,
    progress: bool = True,
    report: Callable[[SceneResult], object] | None = None,
    nodata: float | None = None,
    strict: bool = False,
    resample: bool = False,
    engine: RayEngine | None = None,
) -> ScenesSummary:
    """Classify many scenes as :func:`classify_scene` does, each into its own map.

    A map has the name of its scene: scenes/a.tif becomes *folder*/a.tif, next to
    a.tif.aux.xml, a_confidence.tif and a style for QGIS of each (.qml). A scene of
    several files has the words that their names share: s1_VV.tif and s1_VH.tif become
    s1.tif, VV.tif and VH.tif the name of their folder. Names are checked before
    anything is read.

    If a scene cannot be classified, its status states the reason, and the next one
    follows. The table *folder*/summary.csv has one row per scene, also after an
    interrupt or an error: scene, map, status, rows, columns, stride, nodata (cells),
    windows (classified ones), mean_confidence, unusual, reading, and the share of each
    class in the cells that have one.

    A resumed run keeps the maps that are there, and only replaces other files if they
    are next to a map of ours. The maps must be made by the same model
    with the same settings from the same files, as their tags show; a file is the same
    if its name, size and time of modification are.

    Args:
        predictor: The classifier.
        scenes: The scenes, from :func:`.find_images`.
        folder: Folder of the maps; it is created if needed.
        scale: As for :func:`classify_scene`; 'auto' guesses it for each scene.
        bands: As for :func:`classify_scene`.
        stride: As for :func:`classify_scene`.
        max_nodata: As for :func:`classify_scene`.
        batch_size: As for :func:`classify_scene`.
        workers: As for :func:`classify_scene`.
        min_confidence: As for :func:`classify_scene`.
        polygons: Folder for a GeoPackage per scene.
        preview: Folder for a figure per scene.
        overwrite: Replace existing files; with *resume*, only maps that were made in
            another way.
        resume: Keep the maps of an earlier run and classify the other scenes.
        progress: Show a progress bar for each scene.
        report: Called with each result as soon as it is known.
        nodata: As for :func:`classify_scene`.
        strict: As for :func:`classify_scene`; an unusual scene has no map.
        resample: As for :func:`classify_scene`.
        engine: Workers of Ray that classify, without a bar for each scene. Default:
            this process.

    Returns:
        The table and the results, in the order of *scenes*.

    Raises:
        ClusterError: If the Ray cluster cannot be used or goes away.
        CorruptFileError: If a map of the run to resume cannot be read.
        OutputError: If a file cannot be written.
        OutputExistsError: If a file exists, or is a scene.
        OutputInUseError: If another process writes into one of the folders.
        SettingError: If a setting is unknown, out of range, or differs from the run to
            resume, or two scenes have the same name.

    Warns:
        UserWarning: As for :func:`classify_scene`.

    Example:
        >>> import numpy as np
        >>> import rasterio
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
        >>> with TemporaryDirectory() as folder:
        ...     for name, value in ('land', -10), ('sea', -20):
        ...         with rasterio.open(
        ...             f'{folder}/{name}.tif', 'w', width=64, height=64, count=2,
        ...             dtype='float32', crs='EPSG:32633',
        ...             transform=rasterio.Affine(10, 0, 500000, 0, -10, 5000000)
        ...         ) as file:
        ...             noise = np.random.default_rng(0).normal(0, 1, (2, 64, 64))
        ...             file.write(np.float32(value + noise))
        ...             file.descriptions = 'VV', 'VH'
        ...     scenes = find_images([folder], predictor.bands)
        ...     summary = classify_scenes(
        ...         predictor, scenes, f'{folder}/maps', stride=32, progress=False)
        ...     files = sorted(path.name for path in summary.table.parent.glob('*.tif'))
        >>> files
        ['land.tif', 'land_confidence.tif', 'sea.tif', 'sea_confidence.tif']
        >>> [result.summary.cells for result in summary.results]
        [{'Land': 4, 'Water': 0}, {'Land': 0, 'Water': 4}]
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
    plans = plan_folder(scenes, folder, polygons, preview)
    # previews and polygons of other runs may go into the same folders
    with only_writer(folders=[Path(folder)]):
        clear_folder(plans)
        summary = ScenesSummary(Path(folder, TABLE))
        _refuse_existing(plans, summary.table, overwrite, resume)
        # before any work starts: a map of other settings is a mistake
        done = [
            resume
            and is_finished(plan, make_tags(predictor, scene, settings), overwrite)
            for scene, plan in zip(scenes, plans, strict=True)
        ]
        warn_of_older(p for p, kept in zip(plans, done, strict=True) if not kept)
        todo = list(zip(scenes, plans, done, strict=True))
        if engine is None:
            results = _classify(predictor, todo, settings, progress)
        else:
            results = _classify_on_ray(engine, predictor, todo, settings)
        try:
            for result in results:
                summary.results.append(result)
                if report is not None:
                    report(result)
        finally:
            left = scenes[len(summary.results) :]
            summary.results += [SceneResult(scene.name, PENDING) for scene in left]
            write_results(summary, settings.legend.names)
        return summary


def _refuse_existing(
    plans: Sequence[SceneOutputs], table: Path, overwrite: bool, resume: bool
) -> None:
    """Refuse to replace files that no earlier run has made, unless asked to."""
    if resume:
        hint = 'it is not of a run that can be resumed: choose another folder, or '
        hint += 'replace it with --overwrite'
    else:
        hint = 'choose another folder, continue an interrupted run with --resume, or '
        hint += 'replace all with --overwrite'
    for plan in plans:
        allowed = overwrite or (resume and is_map(plan))
        refuse_existing([*plan.files, *plan.sidecars], allowed, hint)
    refuse_existing([table], overwrite or (resume and is_table(table)), hint)


def _classify(
    predictor: Predictor, todo: Sequence[Todo], settings: SceneSettings, progress: bool
) -> Iterator[SceneResult]:
    for number, (scene, outputs, finished) in enumerate(todo, 1):
        title = f'{outputs.classes.stem} ({number}/{len(todo)})'
        yield _result(predictor, scene, outputs, finished, settings, progress, title)


def _classify_on_ray(
    engine: RayEngine,
    predictor: Predictor,
    todo: Sequence[Todo],
    settings: SceneSettings,
) -> Iterator[SceneResult]:
    # the locked folders exist, and the first scene stands for all
    paths = [] if not todo else [*todo[0][0].paths, todo[0][1].classes.parent]
    work = partial(_results, settings=settings)
    chunks = engine.classify(
        work, predictor, todo, 1, lambda t: t[0].name, SceneResult, paths
    )
    for results in chunks:
        yield from results


def _results(
    predictor: Predictor, todo: Sequence[Todo], settings: SceneSettings
) -> list[SceneResult]:  # pragma: no cover (in workers of Ray)
    results = []
    for scene, outputs, finished in todo:
        if not finished:
            # what another worker has begun before it died
            with only_writer(*outputs.asked):
                clear_outputs(outputs)
        results.append(_result(predictor, scene, outputs, finished, settings))
    return results


def _result(
    predictor: Predictor,
    scene: ImageFiles,
    outputs: SceneOutputs,
    finished: bool,
    settings: SceneSettings,
    progress: bool = False,
    title: str | None = None,
) -> SceneResult:
    summary = None
    try:
        if finished:
            summary = read_summary(outputs, settings)
        else:
            with only_writer(*outputs.asked):
                summary = make_map(predictor, scene, outputs, settings, progress, title)
        status = 'ok'
    except OutputError:
        # the next scene would meet the same full disk
        raise
    except UserError as error:
        status = error_status(error)
    # whatever a library raises about one scene, the others go on
    except Exception as error:  # noqa: BLE001
        why = utf8_text(' '.join(str(error).split()))
        status = f'failed: {type(error).__name__}: {why}'
    kept = finished and summary is not None
    return SceneResult(scene.name, status, summary, kept)

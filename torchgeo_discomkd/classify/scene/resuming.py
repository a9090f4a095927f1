# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Find the scenes that an earlier run has finished."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from ...errors import CorruptFileError, SettingError
from ...rasters.opening import open_raster
from .map_writer import measure
from .outputs import SceneOutputs, SceneSummary
from .settings import SceneSettings
from .tags import find_changes, is_ours, read_window_tags


def is_finished(
    outputs: SceneOutputs, tags: Mapping[str, str], overwrite: bool
) -> bool:
    """Return whether all files of a scene are there, made with the same settings.

    Args:
        outputs: The files.
        tags: Tags that the map would have now.
        overwrite: Whether another map may be replaced.

    Returns:
        Whether no file is missing and the map has these tags.

    Raises:
        CorruptFileError: If the map cannot be read and may not be replaced.
        SettingError: If it has other tags and may not be replaced.
    """
    if not outputs.classes.exists():
        return False
    try:
        with open_raster(outputs.classes) as file:
            changes = find_changes(file.tags(), tags)
    except CorruptFileError:
        if overwrite:
            return False
        raise
    if changes and not overwrite:
        raise SettingError(
            f'{outputs.classes} was made by a run with other settings '
            f'({"; ".join(changes)}): resume with the settings of that run, or add '
            '--overwrite to replace such maps.'
        )
    return not changes and all(path.exists() for path in outputs.files)


def is_map(outputs: SceneOutputs) -> bool:
    """Return whether an earlier run has made the map or its confidence.

    Args:
        outputs: The files.

    Returns:
        Whether one of the two has our tags; one that cannot be read has none.
    """
    for path in (outputs.classes, outputs.confidence):
        with suppress(CorruptFileError):
            if path.is_file():
                with open_raster(path) as file:
                    if is_ours(file.tags()):
                        return True
    return False


def read_summary(outputs: SceneOutputs, settings: SceneSettings) -> SceneSummary:
    """Summarize a map that an earlier run has written.

    Args:
        outputs: Its files.
        settings: How the scene was classified.

    Returns:
        The same summary as that of the run.

    Raises:
        CorruptFileError: If the map cannot be read.
    """
    names = settings.legend.names
    with (
        open_raster(outputs.classes) as classes,
        open_raster(outputs.confidence) as confidence,
    ):
        counts, total = measure(classes, confidence, len(names) + 1)
        shape, tags = classes.shape, classes.tags()
    summary = SceneSummary.from_counts(
        outputs=outputs,
        shape=shape,
        stride=settings.stride,
        names=names,
        counts=counts,
        confidence=total,
        windows=read_window_tags(tags),
    )
    reading, unusual = tags.get('READING', ''), tags.get('UNUSUAL')
    return replace(summary, reading=reading, unusual=unusual)

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Find the scenes that an earlier run has finished."""

from collections.abc import Mapping

from ...errors import SettingError
from ...rasters.opening import open_raster
from .map_writer import measure
from .outputs import SceneOutputs, SceneSummary
from .settings import SceneSettings
from .tags import find_changes, read_window_tags


def is_finished(outputs: SceneOutputs, tags: Mapping[str, str]) -> bool:
    """Return whether all files of a scene are there, made with the same settings.

    Args:
        outputs: The files.
        tags: Tags that the map would have now.

    Returns:
        Whether no file is missing.

    Raises:
        CorruptFileError: If the map cannot be read.
        SettingError: If it has other tags.
    """
    if not outputs.classes.exists():
        return False
    with open_raster(outputs.classes) as file:
        changes = find_changes(file.tags(), tags)
    if changes:
        raise SettingError(
            f'{outputs.classes} was made by a run with other settings '
            f'({"; ".join(changes)}): resume with the settings of that run, remove the '
            'map, or start again with --overwrite.'
        )
    return all(path.exists() for path in outputs.files)


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
        shape, windows = classes.shape, read_window_tags(classes.tags())
    return SceneSummary.from_counts(
        outputs=outputs,
        shape=shape,
        stride=settings.stride,
        names=names,
        counts=counts,
        confidence=total,
        windows=windows,
    )

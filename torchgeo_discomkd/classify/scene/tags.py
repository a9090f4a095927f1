# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Tags of a map: what it was made of and how, so that a run can be resumed."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from ... import __version__
from ...files import utf8_text
from ...rasters.finding import ImageFiles
from ..predictor import Predictor
from .settings import SceneSettings

_SOFTWARE = 'TIFFTAG_SOFTWARE'
_NAME = 'torchgeo_discomkd'

# Beginnings of the tags in which files say when they were taken, as GDAL reads them:
# TIFF, the names of GDAL's IMAGERY domain, SAFE of Sentinel-1 and of Sentinel-2.
_DATES = (
    *('TIFFTAG_DATETIME', 'ACQUISITION'),
    *('PRODUCT_START_TIME', 'PRODUCT_STOP_TIME', 'DATATAKE_1_DATATAKE_SENSING_START'),
)

# Of files that the system does not know, such as URLs.
_UNKNOWN = 'unknown'


def make_tags(
    predictor: Predictor, scene: ImageFiles, settings: SceneSettings
) -> dict[str, str]:
    """Describe everything that a map depends on, and the version that made it.

    Size and time of modification stand for the content of a scene.

    Args:
        predictor: The classifier.
        scene: The scene.
        settings: How it is classified.

    Returns:
        The tags.
    """
    spec = settings.spec
    states = [_state(path) for path in scene.paths]
    return {
        _SOFTWARE: f'{_NAME} {__version__}',
        'SCENE': ', '.join(_name(path) for path in scene.paths),
        'SCENE_BYTES': ', '.join(size for size, _ in states),
        'SCENE_MODIFIED': ', '.join(time for _, time in states),
        'MODEL': predictor.description,
        'MODALITY': predictor.modality,
        'TILE_SIZE': 'x'.join(map(str, settings.tile)),
        'STRIDE': f'{settings.stride}',
        'MAX_NODATA': f'{float(spec.max_nodata)}',
        'MIN_CONFIDENCE': f'{float(settings.min_confidence)}',
        'SCALE': spec.scale,
        'BANDS': ','.join(spec.override or ['auto']),
        'NODATA': 'auto' if spec.nodata is None else f'{spec.nodata}',
        'STRICT': f'{spec.strict}',
        'RESAMPLE': f'{spec.resample}',
    }


def make_reading_tags(reading: str, unusual: str | None) -> dict[str, str]:
    """Describe how the files of a scene were understood.

    Args:
        reading: How the numbers in them are decoded.
        unusual: What speaks against the map; None if nothing does.

    Returns:
        More tags; :func:`find_changes` does not compare them.
    """
    return {'READING': reading} | ({} if unusual is None else {'UNUSUAL': unusual})


def date_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Choose the tags that say when an image was taken.

    Args:
        tags: Tags of the image.

    Returns:
        More tags for its map, as they are; :func:`find_changes` does not compare them.
    """
    return {key: value for key, value in tags.items() if key.startswith(_DATES)}


def make_window_tags(windows: tuple[int, int]) -> dict[str, str]:
    """Describe how many windows were classified.

    Args:
        windows: Number of windows that were classified, and that were not.

    Returns:
        More tags; :func:`find_changes` does not compare them.
    """
    classified, skipped = windows
    return {'WINDOWS': f'{classified}', 'WINDOWS_SKIPPED': f'{skipped}'}


def read_window_tags(tags: Mapping[str, str]) -> tuple[int, int]:
    """Return what :func:`make_window_tags` was given.

    Args:
        tags: Tags of a map.

    Returns:
        Number of windows that were classified, and that were not.
    """
    return int(tags['WINDOWS']), int(tags['WINDOWS_SKIPPED'])


def is_ours(tags: Mapping[str, str]) -> bool:
    """Return whether this package has made a map.

    Args:
        tags: Its tags.
    """
    return tags.get(_SOFTWARE, '').startswith(f'{_NAME} ')


def find_changes(earlier: Mapping[str, str], tags: Mapping[str, str]) -> list[str]:
    """Compare the tags of a map with those that it would have now.

    Args:
        earlier: Tags of the map.
        tags: From :func:`make_tags`.

    Returns:
        A text for each difference; of versions there is none.
    """
    return [
        f"{key} was '{earlier.get(key, '')}' and is '{value}'"
        for key, value in tags.items()
        if key != _SOFTWARE and earlier.get(key) != value
    ]


def _name(path: str) -> str:
    # tags are UTF-8
    return utf8_text(Path(path).name)


def _state(path: str) -> tuple[str, str]:
    """Return bytes and time of modification of a file."""
    try:
        state = Path(path).stat()
    except (OSError, ValueError):
        return _UNKNOWN, _UNKNOWN
    time = datetime.fromtimestamp(state.st_mtime, UTC)
    return f'{state.st_size}', time.isoformat(timespec='microseconds')

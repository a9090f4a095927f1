# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Files of the maps of many scenes: names in a folder that nothing else has."""

import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from ...errors import OutputExistsError, SettingError
from ...files import utf8_text
from ...rasters.finding import ImageFiles
from .outputs import SceneOutputs

#: Name of the table of summaries; no map has its extension.
TABLE = 'summary.csv'

# Not allowed in the names of files, at least on Windows.
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]')


def scene_name(scene: ImageFiles) -> str:
    """Return the name of a scene, from which those of its files are made.

    Args:
        scene: One file, or one file per band.

    Returns:
        The name of the file without extension. Of several files, the words of the first
        name that all have, where a word consists of letters and digits: s1_2024 for
        s1_VV_2024.tif and s1_VH_2024.tif; if there is none, the name of the folder of
        the first file. Characters that a name cannot have become '_'.
    """
    first, *others = (_stem(path) for path in scene.paths)
    name = _shared(first, others) if others else first
    name = name or Path(scene.paths[0]).resolve().parent.name or 'scene'
    return _FORBIDDEN.sub('_', utf8_text(name))


def _stem(path: str) -> str:
    # the query of a URL is no part of the name
    path = path.partition('?')[0] if '://' in path else path
    return Path(path).stem


def _shared(first: str, others: Sequence[str]) -> str:
    known = [set(re.split(r'[\W_]+', other.casefold())) for other in others]
    shared = ''
    # every second part separates two words
    parts = ['', *re.split(r'([\W_]+)', first)]
    for separator, word in zip(parts[::2], parts[1::2], strict=True):
        if word and all(word.casefold() in words for words in known):
            shared += f'{separator}{word}' if shared else word
    return shared


def plan_folder(
    scenes: Sequence[ImageFiles],
    folder: str | Path,
    polygons: str | Path | None,
    preview: str | Path | None,
) -> list[SceneOutputs]:
    """Name the files of each scene and check that no two are the same.

    Args:
        scenes: The scenes.
        folder: Folder of the maps.
        polygons: Folder of the polygons; None to omit them.
        preview: Folder of the figures; None to omit them.

    Returns:
        The files of each scene.

    Raises:
        OutputExistsError: If a file would replace a scene.
        SettingError: If two scenes would have the same file, even if only case
            distinguishes them, or a folder is a file or has the extension of one.
    """
    maps = _check_folder(folder, 'output', ())
    if polygons is not None:
        polygons = _check_folder(polygons, 'polygons', ('.gpkg',))
    if preview is not None:
        preview = _check_folder(preview, 'preview', ('.png',))
    plans = [
        SceneOutputs(
            classes=maps / f'{name}.tif',
            polygons=None if polygons is None else polygons / f'{name}.gpkg',
            preview=None if preview is None else preview / f'{name}.png',
        )
        for name in map(scene_name, scenes)
    ]
    _refuse_scenes(scenes, plans, maps / TABLE)
    _refuse_shared(scenes, plans)
    return plans


def _check_folder(path: str | Path, name: str, suffixes: Sequence[str]) -> Path:
    folder = Path(path)
    if folder.suffix.lower() in suffixes or (folder.exists() and not folder.is_dir()):
        raise SettingError(
            f'{name}={path}: each scene has its own file: give the name of a folder.'
        )
    return folder


def _refuse_scenes(
    scenes: Sequence[ImageFiles], plans: Sequence[SceneOutputs], table: Path
) -> None:
    read = {Path(path).resolve() for scene in scenes for path in scene.paths}
    for path in [table, *(path for plan in plans for path in plan.files)]:
        if path.resolve() in read:
            raise OutputExistsError(
                f'{path} is a scene, and a file to write has the same name: choose a '
                'folder for the maps in which there are no scenes.'
            )


def _refuse_shared(scenes: Sequence[ImageFiles], plans: Sequence[SceneOutputs]) -> None:
    owners: dict[str, ImageFiles] = {}
    for scene, plan in zip(scenes, plans, strict=True):
        for path in plan.files:
            # as file systems that ignore case and the composition of accents
            key = unicodedata.normalize('NFC', os.path.abspath(path)).casefold()  # noqa: PTH100
            other = owners.setdefault(key, scene)
            if other is not scene:
                raise SettingError(
                    f'{other.name} and {scene.name} would both become {path}: rename '
                    'or leave out one, or classify them into different folders.'
                )

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Images in ``<modality>/<Class>/[<subfolders>/]<stem>.<suffix>`` folders."""

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio import CRS

from ..errors import LayoutError
from ..rasters import FolderCounts, Header, read_georeference, read_header, read_image
from ..rasters.decoding import scaling
from ..rasters.doubts import describe_file
from ..rasters.opening import open_raster, reading
from ..rasters.readers import SUFFIXES, describe
from ..rasters.walking import kind_of, walk_images
from .naming import Patterns, matching_paths, nfc
from .stores import Folders, Store, StoredImages, hash_files, tiles_folder


class FolderImages(StoredImages):
    """Images in one file each."""

    uniform = False
    paths: Sequence[str] = ()

    def __init__(
        self,
        root: Path,
        folder: str,
        paths: Sequence[str],
        pattern: re.Pattern[str] | None,
        counts: FolderCounts,
    ) -> None:
        """Initialize a new FolderImages instance.

        Args:
            root: The folder that paths start from.
            folder: Folder of the modality.
            paths: The files.
            pattern: Pattern that their stems match, if one was given.
            counts: Numbers of files that were left.
        """
        self.folder = folder
        self._root = root
        self.paths = paths
        self.pattern = pattern
        self.counts = counts

    def header(self, row: int) -> Header:
        """Read the header of an image's file.

        Args:
            row: Its row.
        """
        return read_header(self._root / self.paths[row])

    def read(self, row: int, bands: Sequence[int] | None = None) -> NDArray[np.float32]:
        """Read an image; see :func:`~torchgeo_discomkd.rasters.read_image`.

        Args:
            row: Its row.
            bands: Positions of the bands; all if None.
        """
        path = self._root / self.paths[row]
        image = read_image(path, bands, self.names, self.encoding.nodata)
        return self.encoding.decode(image)

    def describe(self, row: int, bands: Sequence[int]) -> list[str]:
        """Describe what a file declares; see :meth:`StoredImages.describe`.

        Args:
            row: Its row.
            bands: Positions of the bands.
        """
        path = self._root / self.paths[row]
        if path.suffix.lower() == '.npy':
            return []
        with open_raster(path) as file, reading(path):
            named = describe(file).descriptions is not None
            return describe_file(file, bands, named, None)

    def number_in_file(self, row: int, band: int, value: float) -> float:
        """Return a number before scale and offset; see :class:`StoredImages`.

        Args:
            row: Its row.
            band: Position of the band.
            value: The value that :meth:`read` returns.
        """
        number, path = super().number_in_file(row, band, value), self.paths[row]
        if path.lower().endswith('.npy'):
            return number
        with open_raster(self._root / path) as file, reading(path):
            scale, offset = scaling(file, band) or (1.0, 0.0)
        return (number - offset) / scale

    def files(self) -> Iterator[Path]:
        """Yield the file of each image."""
        return (self._root / path for path in self.paths)

    def locate(self, row: int) -> tuple[CRS, Affine] | None:
        """Read where an image lies on the Earth; None if its file does not say.

        Args:
            row: Its row.
        """
        return read_georeference(self._root / self.paths[row])


class FolderStore(Store):
    """Images at ``<base>/<folder>/<Class>/[<subfolders>/]<stem><suffix>``."""

    layout = 'folders'

    def find_folders(
        self, base: str, folders: Folders | None, modalities: Sequence[str] | None
    ) -> dict[str, str]:
        """Find the folder of every modality; see :meth:`Store.find_folders`.

        If none is given, every folder that holds folders of images is a modality of the
        same name, and so is one that has images only in subfolders of the same classes.

        Args:
            base: Folder of the split, or empty.
            folders: Folder of each modality, if they are given.
            modalities: Modalities that are needed in any case.

        Raises:
            LayoutError: If *base* does not exist, or is empty and no folder is given.
        """
        top = self.root / base
        layout = f'{top}/<modality>/<Class>/<stem>.tif (or .png, .jpg, .npy)'
        if not top.is_dir():
            raise LayoutError(
                f'There is no folder {top}: give the folder of your data as root; its '
                f'tiles must be at {layout}.'
            )
        if folders is not None:
            return dict(folders)
        names = _find_modalities(top)
        names += [name for name in modalities or () if name not in names]
        if not names:
            raise LayoutError(
                f'{top} holds no folder with class folders of images: tiles must be at '
                f'{layout}. If all lie in subfolders of their classes, name the folder '
                'of each modality (folders=).'
            )
        return {name: name for name in names}

    def images(
        self, folders: Folders, bases: Sequence[str], patterns: Patterns | None = None
    ) -> dict[str, StoredImages]:
        """List the images of every modality that has some.

        Args:
            folders: Folder of each modality.
            bases: Folders of the splits, or one empty text.
            patterns: Pattern of the stems for each modality that has one.

        Raises:
            LayoutError: If no stem matches the pattern.
        """
        images: dict[str, StoredImages] = {}
        for modality, folder in folders.items():
            counts = FolderCounts(modality)
            starts = [tiles_folder(base, folder) for base in bases]
            others = {
                self._path(tiles_folder(base, other))
                for base in bases
                for other in folders.values()
                if other != folder
            }
            listed = sorted(
                path for start in starts for path in self._paths(start, others, counts)
            )
            pattern = (patterns or {}).get(modality)
            paths = matching_paths(modality, listed, pattern)
            counts.leave('not matching stem_pattern', len(listed) - len(paths))
            if paths:
                images[modality] = FolderImages(
                    self.root, folder, paths, pattern, counts
                )
        return images

    def absence(self, base: str, modality: str, folder: str) -> LayoutError:
        """Return the error for a modality without tiles.

        Args:
            base: Folder of the split, or empty.
            modality: The modality.
            folder: Its folder.
        """
        path = self.root / base / folder
        empty = 'holds no class folders with images'
        state = empty if path.is_dir() else 'does not exist'
        return LayoutError(
            f"The folder {path} of modality '{modality}' {state}: its tiles must "
            f'be at {path}/<Class>/<stem>.tif (or .png, .jpg, .npy).'
        )

    def fingerprint(self, images: Mapping[str, StoredImages]) -> str:
        """Return a hash of all files; see :func:`~.stores.hash_files`.

        Args:
            images: The images of each modality.
        """
        return hash_files(self.root, [p for i in images.values() for p in i.paths])

    def _paths(
        self, start: str, others: Collection[str], counts: FolderCounts
    ) -> Iterator[str]:
        """Yield the paths of the tiles, below the root and with slashes."""
        top = self._path(start)
        if not os.path.isdir(top):  # noqa: PTH112
            return
        prefix = f'{start}/' if start else ''
        skip = len(os.path.join(top, ''))  # noqa: PTH118
        for entry in walk_images(top, counts, others):
            path = entry.path[skip:].replace(os.sep, '/')
            if '/' not in path:
                counts.left['outside the class folders'] += 1
            elif kind_of(entry) == 'broken':
                counts.left['broken links'] += 1
            else:
                yield prefix + path

    def _path(self, folder: str) -> str:
        # as os.scandir joins names, also if the root is '.'
        return os.path.join(self.root, folder) if folder else str(self.root)  # noqa: PTH118


def _find_modalities(top: Path) -> list[str]:
    """Return the folders that hold class folders with images.

    Images in subfolders of class folders alone do not show which folders are classes:
    these must be classes of a modality that holds images directly in them.
    """
    names = _subfolders(top)
    direct = {
        name: classes
        for name in names
        if (
            classes := [
                c for c in _subfolders(top / name) if _holds_images(top / name / c)
            ]
        )
    }
    known = {nfc(c) for classes in direct.values() for c in classes}
    return [name for name in names if name in direct or _shares(top / name, known)]


def _shares(folder: Path, known: Collection[str]) -> bool:
    """Return whether a folder has one of the known classes, with images anywhere."""
    counts = FolderCounts('')
    return any(
        next(walk_images(str(folder / name), counts), None) is not None
        for name in _subfolders(folder)
        if nfc(name) in known
    )


def _subfolders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(
            e.name for e in entries if kind_of(e) == 'folder' and e.name[0] != '.'
        )


def _holds_images(folder: Path) -> bool:
    """Return whether images lie directly in a folder."""
    with os.scandir(folder) as entries:
        return any(
            e.name.lower().endswith(SUFFIXES)
            and e.name[0] != '.'
            and kind_of(e) == 'file'
            for e in entries
        )

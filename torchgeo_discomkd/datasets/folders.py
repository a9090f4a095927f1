# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Images in ``<modality>/<Class>/<stem>.<suffix>`` folders."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio import CRS

from ..errors import LayoutError, PairingError
from ..rasters import Header, read_georeference, read_header, read_image
from ..rasters.readers import SUFFIXES
from .stores import Folders, Key, Store, StoredImages, hash_files, tiles_folder


class FolderImages(StoredImages):
    """Images in one file each."""

    uniform = False
    paths: Sequence[str] = ()

    def __init__(self, root: Path, folder: str, paths: Sequence[str]) -> None:
        """Initialize a new FolderImages instance.

        Args:
            root: The folder that paths start from.
            folder: Folder of the modality.
            paths: The files.
        """
        self.folder = folder
        self._root = root
        self.paths = paths

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
        return read_image(self._root / self.paths[row], bands, self.names)

    def locate(self, row: int) -> tuple[CRS, Affine] | None:
        """Read where an image lies on the Earth; None if its file does not say.

        Args:
            row: Its row.
        """
        return read_georeference(self._root / self.paths[row])


class FolderStore(Store):
    """Images at ``<base>/<folder>/<Class>/<stem><suffix>``."""

    layout = 'folders'

    def find_folders(
        self, base: str, folders: Folders | None, modalities: Sequence[str] | None
    ) -> dict[str, str]:
        """Find the folder of every modality; see :meth:`Store.find_folders`.

        If none is given, every folder that holds folders of images is a modality of the
        same name.

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
        names = [name for name in _subfolders(top) if _holds_classes(top / name)]
        names += [name for name in modalities or () if name not in names]
        if not names:
            raise LayoutError(
                f'{top} holds no folder with class folders of images: tiles must be at '
                f'{layout}.'
            )
        return {name: name for name in names}

    def images(self, folders: Folders, bases: Sequence[str]) -> dict[str, StoredImages]:
        """List the images of every modality that has some.

        Args:
            folders: Folder of each modality.
            bases: Folders of the splits, or one empty text.

        Raises:
            PairingError: If two files of a class have the same stem.
        """
        listed = {m: sorted(self._paths(f, bases)) for m, f in folders.items()}
        return {
            m: FolderImages(self.root, folders[m], paths)
            for m, paths in listed.items()
            if paths
        }

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

    def _paths(self, folder: str, bases: Sequence[str]) -> Iterator[str]:
        for base in bases:
            start = tiles_folder(base, folder)
            prefix = f'{start}/' if start else ''
            for (name, stem), suffix in list_tiles(self.root / start).items():
                yield f'{prefix}{name}/{stem}{suffix}'


def list_tiles(folder: Path) -> dict[Key, str]:
    """List the images of one modality.

    Hidden files, files of other kinds and folders without images are ignored.

    Args:
        folder: Folder that holds one folder for each class.

    Returns:
        The suffix of the file for every (class, stem); empty if there is none.

    Raises:
        PairingError: If two files of a class have the same stem.
    """
    tiles: dict[Key, str] = {}
    for class_name in _subfolders(folder):
        for stem, suffix in _images(folder / class_name):
            other = tiles.setdefault((class_name, stem), suffix)
            if other != suffix:
                raise PairingError(
                    f'{folder / class_name} holds {stem}{other} and {stem}{suffix}: '
                    'keep one file for each stem.'
                )
    return tiles


def _holds_classes(folder: Path) -> bool:
    return any(
        next(_images(folder / name), None) is not None for name in _subfolders(folder)
    )


def _subfolders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and e.name[0] != '.')


def _images(folder: Path) -> Iterator[tuple[str, str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            stem, dot, suffix = entry.name.rpartition('.')
            known = (dot + suffix).lower() in SUFFIXES
            if known and stem and stem[0] != '.' and entry.is_file():
                yield stem, dot + suffix

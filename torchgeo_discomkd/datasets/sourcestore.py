# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Images that data sets of TorchGeo read, one data set for each modality."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BandError, LayoutError
from ..rasters import Header
from ..rasters.decoding import missing_to_nan
from .opened import OpenedSource
from .samples import TABLE, Samples
from .sources import image_bands
from .stores import Folders, Store, StoredImages

# Types in which a pack may keep whole numbers; others are widened when it is written.
_INTEGERS = (np.uint8, np.uint16, np.int16)


class SourceImages(StoredImages):
    """The images of one modality, which a data set of TorchGeo reads."""

    uniform = False

    def __init__(self, opened: OpenedSource) -> None:
        """Initialize a new SourceImages instance.

        Args:
            opened: The data set.
        """
        self.folder = opened.source.dataset.__name__
        self._opened = opened
        self._keys = list(opened.rows)

    @property
    def paths(self) -> Sequence[str]:
        """Key of each image."""
        return self._keys

    def header(self, row: int) -> Header:
        """Return bands, size and type of an image, which is read.

        Args:
            row: Its row.
        """
        image = self._opened.image(self._keys[row]).numpy()
        given = self._opened.source.band_names or image_bands(self._opened.datasets[0])
        names = None if given is None else tuple(given)
        return Header(names, *image.shape, _narrowest(image))

    def read(self, row: int, bands: Sequence[int] | None = None) -> NDArray[np.float32]:
        """Read an image; see :meth:`StoredImages.read`.

        Args:
            row: Its row.
            bands: Positions of the bands; all if None.
        """
        image = self._opened.image(self._keys[row]).numpy()
        if self.names is not None and len(image) != len(self.names):
            raise BandError(
                f'{self._keys[row]} of {self.folder} has {len(image)} bands, but the '
                f'first image has {len(self.names)}: remove it, or write it again.'
            )
        chosen = image if bands is None else image[list(bands)]
        return self.encoding.decode(missing_to_nan(chosen, self.encoding.nodata))

    def files(self) -> Iterator[Path]:
        """Yield the files that the data set lists by their paths."""
        return self._opened.files()

    def file(self, row: int) -> str:
        """Return key and data set of an image, for messages.

        Args:
            row: Its row.
        """
        return f'{self._keys[row]} of {self.folder}'


class SourceStore(Store):
    """Data sets of TorchGeo, one for each modality."""

    layout = 'datasets'

    def __init__(
        self, root: Path, opened: Mapping[str, OpenedSource], samples: Samples
    ) -> None:
        """Initialize a new SourceStore instance.

        Args:
            root: Folder for statistics.
            opened: The data sets by modality.
            samples: What they say about their samples.
        """
        super().__init__(root)
        self._opened = opened
        self._samples = samples

    def find_folders(
        self, base: str, folders: Folders | None, modalities: Sequence[str] | None
    ) -> dict[str, str]:
        """Return the class of the data set of each modality.

        Args:
            base: Not used.
            folders: Not used.
            modalities: Not used.
        """
        return {m: o.source.dataset.__name__ for m, o in self._opened.items()}

    def images(
        self, folders: Folders, bases: Sequence[str], patterns: object = None
    ) -> dict[str, StoredImages]:
        """Return the images of every modality.

        Args:
            folders: The modalities, as keys.
            bases: Not used.
            patterns: Not used.
        """
        return {m: SourceImages(self._opened[m]) for m in folders}

    def absence(self, base: str, modality: str, folder: str) -> LayoutError:
        """Return the error for a modality without images.

        Args:
            base: Not used.
            modality: The modality.
            folder: Class of its data set.
        """
        return LayoutError(f"{folder} has no image of '{modality}': add some.")

    def fingerprint(self, images: Mapping[str, StoredImages]) -> str:
        """Return a hash of the samples of all data sets.

        Args:
            images: Not used.
        """
        digest = hashlib.sha256()
        for modality, opened in self._opened.items():
            digest.update(f'{modality}\t{opened.fingerprint}\n'.encode())
        return digest.hexdigest()[:16]

    def read_table(self, name: str) -> bytes | None:
        """Return the table of the samples.

        Args:
            name: Its name, :data:`~.samples.TABLE`.
        """
        return self._samples.to_json() if name == TABLE else None


def _narrowest(image: NDArray[Any]) -> np.dtype[Any]:
    """Return the narrowest integer type that holds all values, else their type."""
    if image.dtype.kind == 'f' and not np.isfinite(image).all():
        return image.dtype
    for kind in _INTEGERS:
        limits = np.iinfo(kind)
        inside = image.min() >= limits.min and image.max() <= limits.max
        if inside and (image.astype(kind) == image).all():
            return np.dtype(kind)
    return image.dtype

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Arrays of several modalities, as the released code of DisCoM-KD reads them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchgeo.datasets.utils import Sample

from ..errors import LayoutError, PairingError, SplitError
from ..rasters import missing_to_nan
from .arrays import ArrayFolder, check_index, check_labels
from .bands import band_positions, check_band_names, check_names
from .base import MultiModalDataset, check_modalities
from .imagesource import DataSource, ImageSource
from .listing import ARRAY_SUFFIX, first_few
from .splits import SPLITS, check_split

_INDEX_NAMES = {'train': 'train_idx', 'val': 'valid_idx', 'test': 'test_idx'}


class PairedArrays(MultiModalDataset):
    """One array for each modality, one of labels and one of indices for each split.

    The folder that the code of the paper reads (https://arxiv.org/abs/2408.07080):

    * ``<PREFIX>_data_normalized.npy``: numbers of shape (S, C, H, W), one file for
      each modality; C, H and W may differ between modalities;
    * ``labels.npy``: integers of shape (S,), from 0 to the number of classes - 1;
    * ``train_idx.npy``, ``valid_idx.npy``, ``test_idx.npy``: rows of each split, or
      ``train_idx_<run>.npy`` and so on for several repetitions.

    Images are read from the disk when they are needed.
    """

    def __init__(
        self,
        root: str = 'data',
        split: str = 'train',
        prefixes: Mapping[str, str] | None = None,
        modalities: Sequence[str] | None = None,
        run: int | None = None,
        classes: Sequence[str] | None = None,
        band_names: Mapping[str, Sequence[str]] | None = None,
        bands: Mapping[str, Sequence[str]] | None = None,
        units: Mapping[str, str] | None = None,
        missing_values: Literal['mean', 'error'] = 'mean',
        transforms: Callable[[Sample], Sample] | None = None,
    ) -> None:
        """Initialize a new PairedArrays instance.

        Args:
            root: Folder of the arrays, or a pack of them.
            split: 'train', 'val' or 'test'.
            prefixes: Prefix of the file of each modality, for example ``{'ms': 'MS',
                'sar': 'SAR'}``. By default every file is a modality whose name is the
                prefix in lower case.
            modalities: Modalities that samples hold; all by default. The files of
                others need not exist.
            run: Number of the repetition: its index files end in ``_<run>``. None
                reads those without a number.
            classes: Names of the classes; '0', '1', ... by default.
            band_names: Names of the bands of each modality, in order; 'B1', 'B2', ...
                by default.
            bands: Names of the bands to read for each modality; all by default.
            units: Unit of the values for each modality: 'dB', 'linear' or any text;
                'unknown' by default.
            missing_values: 'mean' hands on missing values as NaN, which a classifier
                replaces by the band mean; 'error' refuses such a tile.
            transforms: Function from sample to sample.

        Raises:
            BandError: If a band is unknown or the number of bands is another one.
            CorruptFileError: If a file is truncated, not an array or needs unpickling.
            LabelError: If labels are not integers from 0 to the number of classes - 1.
            LayoutError: If a file is missing or its array has the wrong shape.
            ModalityError: If a modality is unknown.
            PairingError: If arrays and labels differ in length.
            SplitError: If indices are no integers, out of range, given twice or in
                two splits, or the split is unknown, empty or lacks a class.
        """
        self.root = root
        self.split = split
        self.run = run
        self.missing_values = missing_values
        self.transforms = transforms

        self._folder = ArrayFolder(root)
        self.pack = self._folder.pack
        self._prefixes = self._find_prefixes(prefixes, modalities)
        if prefixes is not None or modalities is None:
            check_names(self._prefixes, bands, band_names, units)
        self.modalities = check_modalities(
            list(self._prefixes) if modalities is None else modalities,
            list(self._prefixes),
        )
        labels = self._folder.read('labels.npy')
        self.classes = check_labels(labels, classes)
        self._rows = self._read_rows(len(labels))
        self.labels = torch.from_numpy(labels[self._rows].astype(np.int64))
        check_split(self.labels, self.classes, split)

        self._arrays = {m: self._open(m, len(labels)) for m in self.modalities}
        self.units = {
            m: (units or {}).get(m) or self._folder.unit(m) or 'unknown'
            for m in self.modalities
        }
        self.bands = {}
        for modality, array in self._arrays.items():
            names = check_band_names(
                modality,
                (band_names or {}).get(modality),
                array.shape[1],
                Path(root, self._file(modality)),
            )
            indexes = band_positions(modality, (bands or {}).get(modality), names)
            self._choose_bands(modality, indexes, len(names))
            self.bands[modality] = tuple(names[i] for i in indexes)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the arrays out: a worker process opens the files itself."""
        return self.__dict__ | {'_arrays': {}}

    def load(self, index: int, modality: str) -> Tensor:
        """Read one image.

        Args:
            index: Position in this split.
            modality: One of :attr:`modalities`.

        Returns:
            Raw values, float32, shape (C, H, W), missing pixels NaN.
        """
        if modality not in self._arrays:
            self._arrays[modality] = self._folder.read(self._file(modality))
        tile = self._arrays[modality][self._rows[index]]
        bands = self.band_indexes(modality)
        return torch.from_numpy(missing_to_nan(tile if bands is None else tile[bands]))

    def pack_rows(self, modality: str) -> Tensor:
        """Return where the images of this split are in the pack.

        Args:
            modality: One of :attr:`modalities`.

        Returns:
            int64 (N,).
        """
        return torch.from_numpy(self._rows)

    def identifier(self, index: int) -> str:
        """Return '<class>/<row in the arrays>' of a sample.

        Args:
            index: Position in this split.
        """
        return f'{self.classes[int(self.labels[index])]}/{self._rows[index]}'

    def fingerprint(self) -> str:
        """Return a hash of the arrays of all modalities on disk and of the labels.

        It covers names, sizes and parts of the content.
        """
        files = [f'{prefix}{ARRAY_SUFFIX}' for prefix in self._prefixes.values()]
        return self._folder.fingerprint([*files, 'labels.npy'])

    def source(self) -> DataSource:
        """Return all images of all modalities on disk, whatever the split."""
        length = len(self._folder.read('labels.npy'))
        there = [m for m in self._prefixes if self._file(m) in self._folder]
        return DataSource(
            root=Path(self.root),
            layout='arrays',
            bases=('',),
            images={m: self._image_source(m, length) for m in there},
            tables=self._folder.tables(),
            fingerprint=self.fingerprint(),
        )

    def _image_source(self, modality: str, length: int) -> ImageSource:
        array = self._open(modality, length)
        return ImageSource(
            folder=self._prefixes[modality],
            paths=[f'{modality}/{row}' for row in range(length)],
            descriptions=None,
            shape=array.shape[1:],
            dtype=array.dtype,
            unit=self.units.get(modality),
            read=lambda row: missing_to_nan(array[row]),
            locate=lambda row: None,
        )

    def _file(self, modality: str) -> str:
        return f'{self._prefixes[modality]}{ARRAY_SUFFIX}'

    def _find_prefixes(
        self, prefixes: Mapping[str, str] | None, modalities: Sequence[str] | None
    ) -> dict[str, str]:
        if prefixes is not None:
            self._folder.check_prefixes(prefixes)
            return dict(prefixes)
        named = self._folder.modalities()
        if not named:
            raise LayoutError(
                f'{self.root} holds no array <PREFIX>{ARRAY_SUFFIX}: write one for each '
                'modality.'
            )
        return {m: m.upper() for m in modalities or ()} | named

    def _open(self, modality: str, length: int) -> NDArray[Any]:
        path = Path(self.root, self._file(modality))
        array = self._folder.read(path.name)
        if array.ndim != 4 or array.dtype.kind not in 'buif':
            raise LayoutError(
                f'{path} holds {array.dtype} values of shape {array.shape}: it must '
                'hold numbers of shape (samples, bands, height, width).'
            )
        if len(array) != length:
            raise PairingError(
                f'{path} has {len(array)} samples, but labels.npy has {length}: both '
                'need one row for each sample.'
            )
        return array

    def _read_rows(self, length: int) -> NDArray[np.int64]:
        if self.split not in SPLITS:
            raise SplitError(
                f"Unknown split '{self.split}': choose one of {list(SPLITS)}."
            )
        number = '' if self.run is None else f'_{self.run}'
        names = {split: f'{name}{number}.npy' for split, name in _INDEX_NAMES.items()}
        rows = self._read_index(names[self.split], length)
        for split, name in names.items():
            if split == self.split or name not in self._folder:
                continue
            shared = np.intersect1d(rows, self._read_index(name, length))
            if len(shared):
                raise SplitError(
                    f'{len(shared)} samples are in {names[self.split]} and in '
                    f'{name} ({first_few(shared)}): every sample belongs to one split.'
                )
        return rows

    def _read_index(self, name: str, length: int) -> NDArray[np.int64]:
        path = str(Path(self.root, name))
        return check_index(self._folder.read(name), path, length)

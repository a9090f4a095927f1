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
from .arrays import check_labels, load_array, read_index
from .bands import band_positions, check_band_names, check_names
from .base import MultiModalDataset, check_modalities
from .listing import first_few, hash_files
from .splits import SPLITS, check_split

_SUFFIX = '_data_normalized.npy'
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
            root: Folder of the arrays.
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

        self._prefixes = self._find_prefixes(prefixes, modalities)
        if prefixes is not None or modalities is None:
            check_names(self._prefixes, bands, band_names, units)
        self.modalities = check_modalities(
            list(self._prefixes) if modalities is None else modalities,
            list(self._prefixes),
        )
        labels = load_array(Path(root) / 'labels.npy')
        self.classes = check_labels(labels, classes)
        self._rows = self._read_rows(len(labels))
        self.labels = torch.from_numpy(labels[self._rows].astype(np.int64))
        check_split(self.labels, self.classes, split)

        self._arrays = {m: self._open(m, len(labels)) for m in self.modalities}
        self.units = {m: (units or {}).get(m, 'unknown') for m in self.modalities}
        self._indexes: dict[str, list[int]] = {}
        self.bands = {}
        for modality, array in self._arrays.items():
            names = check_band_names(
                modality,
                (band_names or {}).get(modality),
                array.shape[1],
                self._path(modality),
            )
            self._indexes[modality] = band_positions(
                modality, (bands or {}).get(modality), names
            )
            self.bands[modality] = tuple(names[i] for i in self._indexes[modality])

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
            self._arrays[modality] = load_array(self._path(modality))
        tile = self._arrays[modality][self._rows[index]]
        return torch.from_numpy(missing_to_nan(tile[self._indexes[modality]]))

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
        names = [f'{prefix}{_SUFFIX}' for prefix in self._prefixes.values()]
        root = Path(self.root)
        return hash_files(
            root, [n for n in [*names, 'labels.npy'] if (root / n).is_file()]
        )

    def _path(self, modality: str) -> Path:
        return Path(self.root) / f'{self._prefixes[modality]}{_SUFFIX}'

    def _find_prefixes(
        self, prefixes: Mapping[str, str] | None, modalities: Sequence[str] | None
    ) -> dict[str, str]:
        root = Path(self.root)
        if not root.is_dir():
            raise LayoutError(
                f'There is no folder {root}: give the folder of the arrays '
                f'<PREFIX>{_SUFFIX} as root.'
            )
        if prefixes is not None:
            return dict(prefixes)
        found = sorted(p.name.removesuffix(_SUFFIX) for p in root.glob(f'*{_SUFFIX}'))
        if not found:
            raise LayoutError(
                f'{root} holds no array <PREFIX>{_SUFFIX}: write one for each modality.'
            )
        named = {prefix.lower(): prefix for prefix in found}
        return {m: m.upper() for m in modalities or ()} | named

    def _open(self, modality: str, length: int) -> NDArray[Any]:
        path = self._path(modality)
        array = load_array(path)
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
        paths = {
            split: Path(self.root) / f'{name}{number}.npy'
            for split, name in _INDEX_NAMES.items()
        }
        rows = read_index(paths[self.split], length)
        for split, path in paths.items():
            if split == self.split or not path.is_file():
                continue
            shared = np.intersect1d(rows, read_index(path, length))
            if len(shared):
                raise SplitError(
                    f'{len(shared)} samples are in {paths[self.split].name} and in '
                    f'{path.name} ({first_few(shared)}): every sample belongs to one split.'
                )
        return rows

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""EuroSAT paired with its Sentinel-1 counterpart, EuroSAT-SAR."""

import errno
import hashlib
import stat
import struct
import tempfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray
from torchgeo.datasets import (
    CopernicusBenchEuroSATS1,
    DatasetNotFoundError,
    EuroSAT,
    EuroSATSpatial,
)
from torchgeo.datasets.utils import Sample, download_url, extract_archive

from ..errors import CorruptFileError, LayoutError
from .base import check_modalities
from .pack.reader import open_store
from .pairedfolders import PairedFolders
from .stores import Key, first_few


class EuroSATNotFoundError(LayoutError, DatasetNotFoundError):
    """Raised when a part of EuroSAT is not on disk and cannot be fetched."""

    def __init__(self, message: str) -> None:
        """Initialize a new EuroSATNotFoundError instance.

        Args:
            message: What is missing and how to get it.
        """
        FileNotFoundError.__init__(self, message)


# What systems say about a place that is not in an archive.
_NOT_THERE = (errno.ENOENT, errno.EINVAL)

# What is raised for a broken archive; RuntimeError covers methods of compression that
# Python does not know, OSError a place in the file that cannot be.
_BROKEN = (
    *(BadZipFile, EOFError, OSError, RuntimeError, ValueError),
    *(struct.error, zlib.error),
)


class EuroSATMSSAR(PairedFolders):
    """Sentinel-2 and Sentinel-1 tiles of ten land cover classes.

    The 13-band tiles of `EuroSAT <https://github.com/phelber/EuroSAT>`__ (uint16,
    reflectance times 10 000, band B8A last) are matched with the VV and VH tiles of
    `EuroSAT-SAR <https://doi.org/10.1109/JSTARS.2024.3493237>`__ (float32, dB) by class
    and stem: 27 000 pairs of 64x64 pixels. Labels are positions in the alphabetical
    list of classes, as in TorchGeo's EuroSAT and unlike its Copernicus-Bench data sets.

    Below *root*, the layout of the original releases (``EuroSAT_MS/<Class>/`` and
    ``EuroSAT-SAR/<Class>/``) and that of TorchGeo's EuroSAT and
    CopernicusBenchEuroSATS1 are accepted. URLs and checksums are TorchGeo's.

    If you use this data set, please cite:

    * https://ieeexplore.ieee.org/document/8736785
    * https://doi.org/10.1109/JSTARS.2024.3493237

    Attributes:
        modality_bands: Names of the bands of each modality in the order of the files.
        modality_units: Units of the pixel values.
        class_names: Names of the classes in the order of the labels.
        layouts: Folder of each modality in its original release, and in TorchGeo.

    Example:
        Simulated tiles stand in for the real ones, which ``download=True`` fetches:

        >>> import tempfile
        >>> from pathlib import Path
        >>> from torchgeo_discomkd.datasets.simulation import simulate
        >>> with tempfile.TemporaryDirectory() as root:
        ...     simulate(Path(root), tiles_per_class=2, size=8)
        ...     train = EuroSATMSSAR(root, bands={'ms': ['B04', 'B03', 'B02']})
        ...     sample = train[1]
        >>> sample['image_ms'].shape, sample['image_sar'].shape
        (torch.Size([3, 8, 8]), torch.Size([2, 8, 8]))
        >>> train.identifier(1), train.units['sar']
        ('Forest/Forest_2', 'dB')
    """

    modality_bands: ClassVar[dict[str, tuple[str, ...]]] = {
        'ms': EuroSAT.all_band_names,
        'sar': CopernicusBenchEuroSATS1.all_bands,
    }
    modality_units: ClassVar[dict[str, str]] = {
        'ms': 'reflectance * 10000',
        'sar': 'dB',
    }
    class_names = (
        'AnnualCrop',
        'Forest',
        'HerbaceousVegetation',
        'Highway',
        'Industrial',
        'Pasture',
        'PermanentCrop',
        'Residential',
        'River',
        'SeaLake',
    )
    layouts: ClassVar[dict[str, tuple[str, str]]] = {
        'ms': ('EuroSAT_MS', EuroSAT.base_dir),
        'sar': ('EuroSAT-SAR', f'{CopernicusBenchEuroSATS1.directory}/all_imgs'),
    }

    def __init__(
        self,
        root: str = 'data',
        split: str = 'train',
        split_scheme: Literal['paper', 'torchgeo', 'spatial'] = 'paper',
        run: int = 0,
        modalities: Sequence[str] = ('ms', 'sar'),
        bands: Mapping[str, Sequence[str]] | None = None,
        missing: Literal['error', 'skip', 'keep'] = 'error',
        missing_values: Literal['mean', 'error'] = 'mean',
        transforms: Callable[[Sample], Sample] | None = None,
        download: bool = False,
        checksum: bool = True,
    ) -> None:
        """Initialize a new EuroSATMSSAR instance.

        Args:
            root: Folder of the data, or a pack.
            split: 'train', 'val' or 'test'.
            split_scheme: 'paper' (stratified 70/10/20 at random, as in the paper),
                'torchgeo' (the files of TorchGeo's EuroSAT) or 'spatial' (those of its
                EuroSATSpatial: by longitude, so that few tiles have neighbours in
                another split).
            run: Number of the repetition of the 'paper' scheme, 0 to 4.
            modalities: Modalities that samples hold; others need not be on disk.
            bands: Names of the bands to read for each modality; all by default.
            missing: What to do with samples that a modality on disk lacks: 'error',
                'skip' or 'keep', as in :class:`PairedFolders`. With 'error', tiles that
                a split file lists must be on disk too.
            missing_values: 'mean' passes missing pixels on as NaN, which a classifier
                replaces by the band mean; 'error' refuses such a tile.
            transforms: A function that takes a sample and returns a transformed one.
            download: Whether to download missing files.
            checksum: Whether to verify archives, downloaded or found on disk.

        Raises:
            BandError: If a band is unknown or the first file has different bands.
            CorruptFileError: If an archive or the first file cannot be read.
            EuroSATNotFoundError: If data or split files are missing.
            LabelError: If there are folders of other classes.
            ModalityError: If a modality is unknown.
            PairingError: If samples exist in some modalities only.
            SplitError: If the split is unknown or empty, or the one for training lacks
                a class.

        Warns:
            UserWarning: If the validation or test split lacks a class.
        """
        self.root = root
        self.download = download
        self.checksum = checksum
        self._scheme = split_scheme
        self.store = open_store(root, 'folders')
        for modality in check_modalities(modalities, list(self.layouts)):
            if self.store.lacks(self._folder(modality)):
                self._fetch(modality)
        super().__init__(
            root,
            split,
            folders={m: self._folder(m) for m in sorted(self.layouts)},
            modalities=modalities,
            bands=bands,
            band_names=self.modality_bands,
            units=self.modality_units,
            classes=self.class_names,
            run=run,
            missing=missing,
            missing_values=missing_values,
            transforms=transforms,
            # a pattern cannot be given: none is proposed
            stem_pattern={},
        )

    def _folder(self, modality: str) -> str:
        folders = self.layouts[modality]
        return next((f for f in folders if not self.store.lacks(f)), folders[-1])

    def _fetch(self, modality: str) -> None:
        url, archive, sha256 = {
            'ms': (EuroSAT.url + EuroSAT.filename, EuroSAT.filename, EuroSAT.sha256),
            'sar': (
                CopernicusBenchEuroSATS1.url,
                CopernicusBenchEuroSATS1.zipfile,
                CopernicusBenchEuroSATS1.sha256,
            ),
        }[modality]
        path = Path(self.root) / archive
        if not path.is_file():
            original = Path(self.root) / self.layouts[modality][0]
            what = f"The '{modality}' tiles ({original}/<Class>/, or {path})"
            self._download(what, url, archive, sha256)
        elif self.checksum:
            _check_sha256(path, sha256)
        folder = self.layouts[modality][1]
        with tempfile.TemporaryDirectory(dir=self.root, prefix='.extract-') as name:
            try:
                _check_entries(path)
                extract_archive(path, name)
                target = Path(self.root) / folder
                target.parent.mkdir(parents=True, exist_ok=True)
                Path(name, folder).rename(target)
            except _BROKEN as error:
                # a disk that is full or read-only says nothing about the archive
                if isinstance(error, OSError) and error.errno not in _NOT_THERE:
                    raise
                raise CorruptFileError(
                    f'{path} is not an archive with a folder {folder} ({error}): '
                    'remove it and fetch it again.'
                ) from error

    def _download(self, what: str, url: str, filename: str, sha256: str) -> None:
        if not self.download:
            raise EuroSATNotFoundError(
                f'{what} are missing: use download=True, or fetch {url} and put it '
                f'into {self.place}.'
            )
        try:
            expected = sha256 if self.checksum else None
            download_url(url, self.place, filename, sha256=expected)
        except (OSError, RuntimeError) as error:
            raise EuroSATNotFoundError(
                f'{what} cannot be downloaded ({error}): fetch {url} by other means '
                f'and put it into {self.place}.'
            ) from error

    def table_names(self) -> list[str]:
        """Return the names of all split files."""
        return [
            name
            for source in (EuroSAT, EuroSATSpatial)
            for name in source.split_filenames.values()
        ]

    def _split_positions(
        self, keys: Sequence[Key], labels: Sequence[int], split: str
    ) -> NDArray[np.int64]:
        """Return which of all samples (sorted by class and stem) are in a split."""
        if self._scheme == 'paper':
            return super()._split_positions(keys, labels, split)
        source = EuroSAT if self._scheme == 'torchgeo' else EuroSATSpatial
        name = source.split_filenames[split]
        path = self.place / name
        table = self.store.read_table(name)
        if table is None:
            what = f"The names of the tiles in split '{split}' ({path})"
            sha256 = source.split_sha256s[split]
            self._download(what, source.url + name, name, sha256)
            table = path.read_bytes()
        stems = {Path(line).stem for line in table.decode().split()}
        found = [PurePosixPath(name).name for _, name in keys]
        lost = sorted(stems - set(found))
        if lost and self.missing == 'error':
            raise EuroSATNotFoundError(
                f'{len(lost)} of {len(stems)} tiles of {path} are not on disk '
                f"({first_few(lost)}): complete the folders, or use missing='skip'."
            )
        return np.flatnonzero([stem in stems for stem in found])


def _check_sha256(path: Path, expected: str) -> None:
    with path.open('rb') as file:
        found = hashlib.file_digest(file, 'sha256').hexdigest()
    if found != expected:
        raise CorruptFileError(
            f'{path} is not the archive that was published (its checksum is '
            f'{found[:16]}..., not {expected[:16]}...): fetch it again, or trust it '
            'with checksum=False.'
        )


def _check_entries(path: Path) -> None:
    """Refuse entries that cannot be read, or that would be something else."""
    with ZipFile(path) as archive:
        for entry in archive.infolist():
            encrypted = entry.flag_bits & 1
            if encrypted or stat.S_ISLNK(entry.external_attr >> 16):
                kind = 'encrypted' if encrypted else 'a link'
                raise CorruptFileError(
                    f'{path} is not an archive of tiles: its entry {entry.filename} is '
                    f'{kind}. Fetch it again.'
                )

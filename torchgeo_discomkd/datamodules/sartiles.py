# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""SARTiles data module."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from lightning.pytorch.utilities import rank_zero_info
from torch import nn
from torchgeo.datamodules import NonGeoDataModule

from ..datasets import SARTiles
from ..errors import ModalityError, SettingError
from ..metadata import ClassifierMetadata
from ..models import load_metadata
from ..rasters.scale import Scale, parse_unit
from ..rasters.tiles import TileSpec


class SARTilesDataModule(NonGeoDataModule):
    """Data module of :class:`~torchgeo_discomkd.datasets.SARTiles`, for prediction.

    Bands, unit and size must be those that the classifier was trained with. Give them,
    or give the classifier's file; the command ``predict`` takes them from the files
    that it applies.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f'{folder}/a.npy', np.full((2, 8, 8), -10.0))
        ...     np.save(f'{folder}/b.npy', np.full((2, 8, 8), -12.0))
        ...     dm = SARTilesDataModule(folder, bands=('VV', 'VH'), unit='dB')
        ...     dm.setup('predict')
        ...     batch = next(iter(dm.predict_dataloader()))
        >>> batch['image_sar'].shape, batch['status']
        (torch.Size([2, 2, 8, 8]), ['ok', 'ok'])
    """

    def __init__(
        self,
        paths: Sequence[str] | str,
        modality: str = 'sar',
        bands: Sequence[str] | None = None,
        unit: str | None = None,
        size: tuple[int, int] | None = None,
        scale: Scale = 'auto',
        file_bands: Sequence[str | int] | None = None,
        crs: str = 'EPSG:4326',
        max_nodata: float = 1.0,
        batch_size: int = 256,
        num_workers: int = 0,
        classifier: str | None = None,
        nodata: float | None = None,
        strict: bool = False,
        resample: bool = False,
        trust_lists: bool = False,
    ) -> None:
        """Initialize a new SARTilesDataModule instance.

        Args:
            paths: Files, folders (with all subfolders), patterns such as
                ``tiles/*.tif``, URLs and text files with one path per line.
            modality: Name of the modality.
            bands: Names of the bands that the classifier takes, in order.
            unit: Unit that it takes: 'dB', 'linear' or any other text.
            size: Height and width to which tiles are cut or padded. Default: unchanged.
            scale: Unit of the files: 'db', 'linear' (power), 'amplitude', 'db_x10' or
                'db_x100' (integers that stand for dB); 'auto' tells dB from linear
                power for each.
            file_bands: Names or numbers (from 1) of the files' bands, one for each band
                of the classifier; they take precedence over names and order.
            crs: Coordinate reference system of the outlines.
            max_nodata: A tile has the status 'nodata' if at least this fraction of its
                pixels is missing.
            batch_size: Number of tiles in a batch.
            num_workers: Number of worker processes that read.
            classifier: Classifier file from which to take bands, unit and size.
            nodata: A number in the files that stands for missing pixels although they
                do not say so.
            strict: Whether unusual tiles get the status 'unusual' and no label.
            resample: Whether tiles are read with pixels of the size in training.
            trust_lists: Whether lists may name URLs, virtual paths and files of any
                format that GDAL reads.

        Raises:
            ClassifierFileError: If *classifier* is not a classifier file.
            ModalityError: If it does not take *modality* alone.
            SettingError: If it contradicts the other arguments.
        """
        super().__init__(SARTiles, batch_size, num_workers)
        # normalisation belongs to the classifier
        self.aug = nn.Identity()
        self.paths = paths
        self.trust_lists = trust_lists
        self.modality = modality
        self._files: dict[str, Any] = {
            'scale': scale,
            'override': None if file_bands is None else tuple(map(str, file_bands)),
            'crs': crs,
            'max_nodata': max_nodata,
            'nodata': nodata,
            'strict': strict,
            'resample': resample,
        }
        self._known: dict[str, Any] = {
            'bands': None if bands is None else tuple(bands),
            'unit': None if unit is None else parse_unit(unit),
            'size': None if size is None else tuple(size),
        }
        if classifier is not None:
            self.adopt([load_metadata(classifier)])

    def adopt(self, classifiers: Iterable[ClassifierMetadata]) -> None:
        """Take bands, unit and size from classifiers that will be applied.

        Args:
            classifiers: Metadata of their files; those that need other modalities are
                ignored.

        Raises:
            ModalityError: If none of them takes the modality alone.
            SettingError: If they contradict each other or the data module's arguments,
                or the tiles were set up differently before.
        """
        classifiers = list(classifiers)
        alone = [c for c in classifiers if list(c.modalities) == [self.modality]]
        if not alone:
            raise ModalityError(
                f'no classifier takes {self.modality!r} alone: they take '
                f'{[list(c.modalities) for c in classifiers]}. Set --data.modality, or '
                'give another file.'
            )
        known = dict(self._known)
        for images in (c.modalities[self.modality] for c in alone):
            values = (images.bands, parse_unit(images.unit), images.tile_size)
            for name, value in zip(known, values, strict=True):
                stated = known[name]
                if None not in (stated, value) and stated != value:
                    raise SettingError(
                        f'the classifiers and --data give two values for the {name} of '
                        f'{self.modality!r}, {stated} and {value}: apply one '
                        f'classifier at a time, and omit --data.{name}.'
                    )
                known[name] = value if stated is None else stated
            # several classifiers of one run have the same
            self._files.setdefault('profile', images.profile)
        if self._files['profile'] is None:
            rank_zero_info(
                'The classifiers do not say what their training tiles look like, so '
                'that unusual tiles are not recognised: train again with this version.'
            )
        if self.predict_dataset is not None and known != self._known:
            raise SettingError(
                f'the tiles are read with {self._known}, but the classifier takes '
                f'{known}: give its file, SARTilesDataModule(classifier=...).'
            )
        self._known = known
        if isinstance(self.predict_dataset, SARTiles):
            spec = self.predict_dataset.spec
            profile = spec.profile or self._files['profile']
            self.predict_dataset.spec = replace(spec, profile=profile)

    def setup(self, stage: str) -> None:
        """Find the tiles, and report how many files were found and left.

        Args:
            stage: 'predict'.

        Raises:
            LayoutError: If a file does not exist, or a folder holds no image.
            SettingError: If *stage* is not 'predict', bands or unit are not known, or a
                setting is out of range.
        """
        if stage != 'predict':
            raise SettingError(
                'SARTiles have no labels and are for prediction only: use another data '
                'module, such as PairedFoldersDataModule.'
            )
        if None in (self._known['bands'], self._known['unit']):
            raise SettingError(
                'the bands and the unit that the classifier takes are not known: set '
                f'--data.classifier to its file, such as best/{self.modality}'
                '.safetensors, or --data.bands and --data.unit.'
            )
        spec = TileSpec(**self._known, **self._files)
        self.predict_dataset = SARTiles(
            self.paths, spec, self.modality, trust_lists=self.trust_lists
        )
        for counts in self.predict_dataset.counts:
            rank_zero_info(str(counts))
        self.collate_fn = self.predict_dataset.collate

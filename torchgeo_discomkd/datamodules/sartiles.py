# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""SARTiles data module."""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn
from torchgeo.datamodules import NonGeoDataModule

from ..datasets import SARTiles
from ..errors import ModalityError, SettingError
from ..metadata import ClassifierMetadata
from ..models import load_metadata
from ..rasters.scale import Scale
from ..rasters.tiles import TileSpec


class SARTilesDataModule(NonGeoDataModule):
    """Data module of :class:`~torchgeo_discomkd.datasets.SARTiles`, for prediction only.

    Bands, unit and size have to be those that the classifier was trained with. They are
    stated, or read from its file; the command ``predict`` hands over those of the files
    that it applies.
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
    ) -> None:
        """Initialize a new SARTilesDataModule instance.

        Args:
            paths: Files, folders (with all below), patterns such as 'tiles/*.tif', URLs
                and text files with a path in each line.
            modality: Name of the modality.
            bands: Names of the bands that the classifier takes, in order.
            unit: Unit that it takes: 'dB', 'linear' or any other text.
            size: Height and width to bring tiles to. Default: as they are.
            scale: Unit of the files: 'db', 'linear', or 'auto' to guess it for each.
            file_bands: Names or numbers (from 1) of the files' bands, one for each band
                of the classifier; they overrule names and order.
            crs: Coordinate reference system of the outlines.
            max_nodata: A tile has the status 'nodata' if at least this part of its
                pixels is missing.
            batch_size: Tiles in a batch.
            num_workers: Worker processes that read.
            classifier: Classifier file that says bands, unit and size.

        Raises:
            ClassifierFileError: If *classifier* is no classifier file.
            ModalityError: If it does not take *modality* alone.
            SettingError: If what is stated contradicts it.
        """
        super().__init__(SARTiles, batch_size, num_workers)
        # normalisation belongs to the classifier
        self.aug = nn.Identity()
        self.paths = paths
        self.modality = modality
        self._files: dict[str, Any] = {
            'scale': scale,
            'override': None if file_bands is None else tuple(map(str, file_bands)),
            'crs': crs,
            'max_nodata': max_nodata,
        }
        self._known: dict[str, Any] = {
            'bands': None if bands is None else tuple(bands),
            'unit': unit,
            'size': None if size is None else tuple(size),
        }
        if classifier is not None:
            self.adopt([load_metadata(classifier)])

    def adopt(self, classifiers: Iterable[ClassifierMetadata]) -> None:
        """Take bands, unit and size from classifiers that are to be applied.

        Args:
            classifiers: What their files say; those that need other modalities are left
                out.

        Raises:
            ModalityError: If none of them takes the modality alone.
            SettingError: If they contradict each other or what is stated, or the tiles
                were set up without knowing them.
        """
        classifiers = list(classifiers)
        alone = [c for c in classifiers if list(c.modalities) == [self.modality]]
        if not alone:
            raise ModalityError(
                f'no classifier takes {self.modality!r} alone, but '
                f'{[list(c.modalities) for c in classifiers]}: set --data.modality, or '
                'give another file.'
            )
        known = dict(self._known)
        for images in (c.modalities[self.modality] for c in alone):
            said = (images.bands, images.unit, images.tile_size)
            for name, value in zip(known, said, strict=True):
                stated = known[name]
                if None not in (stated, value) and stated != value:
                    raise SettingError(
                        f'{name} of {self.modality!r} would be {stated} and {value} at '
                        'once, by the classifiers and --data: apply one classifier at '
                        f'a time, and leave --data.{name} to it.'
                    )
                known[name] = value if stated is None else stated
        if self.predict_dataset is not None and known != self._known:
            raise SettingError(
                f'the tiles are read with {self._known}, but the classifier takes '
                f'{known}: give its file, SARTilesDataModule(classifier=...).'
            )
        self._known = known

    def setup(self, stage: str) -> None:
        """Find the tiles.

        Args:
            stage: 'predict'.

        Raises:
            LayoutError: If there is no such file, or none in a folder.
            SettingError: If *stage* is another one, bands or unit are not known, or a
                setting is out of range.
        """
        if stage != 'predict':
            raise SettingError(
                'SARTiles have no labels: they can be predicted only. Use another '
                'data module, such as PairedFoldersDataModule.'
            )
        if None in (self._known['bands'], self._known['unit']):
            raise SettingError(
                'nothing says which bands and unit the classifier takes: set '
                f'--data.classifier to its file, such as best/{self.modality}'
                '.safetensors, or --data.bands and --data.unit.'
            )
        spec = TileSpec(**self._known, **self._files)
        self.predict_dataset = SARTiles(self.paths, spec, self.modality)
        self.collate_fn = self.predict_dataset.collate

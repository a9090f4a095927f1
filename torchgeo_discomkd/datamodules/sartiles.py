# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""SARTiles data module."""

from collections.abc import Sequence
from typing import Any, Literal

from torch.utils.data import DataLoader
from torchgeo.datamodules import NonGeoDataModule
from torchgeo.datasets.utils import Sample

from ..datasets import SARTiles
from ..errors import ModalityError, SettingError
from ..models import LoadedClassifier, ModalityMetadata


class SARTilesDataModule(NonGeoDataModule):
    """Data module of :class:`~torchgeo_discomkd.datasets.SARTiles`, for prediction only.

    Bands, unit and size are those of the classifier files that the task applies, such
    as those of :class:`~torchgeo_discomkd.tasks.PretrainedClassification`.
    """

    def __init__(
        self,
        paths: Sequence[str] | str,
        modality: str = 'sar',
        bands: Sequence[str] | None = None,
        unit: str | None = None,
        size: tuple[int, int] | None = None,
        scale: Literal['auto', 'db', 'linear'] = 'auto',
        file_bands: Sequence[str | int] | None = None,
        crs: str = 'EPSG:4326',
        max_nodata: float = 1.0,
        batch_size: int = 256,
        num_workers: int = 0,
    ) -> None:
        """Initialize a new SARTilesDataModule instance.

        Args:
            paths: Files, folders (with all below), patterns such as 'tiles/*.tif', URLs
                and text files with a path in each line.
            modality: Name of the modality.
            bands: Names of the bands to deliver, in order. Default: those of the
                classifier, or else VV, VH.
            unit: Unit to deliver. Default: that of the classifier, or else 'dB'.
            size: Height and width to bring tiles to. Default: those of the classifier,
                or else as they are.
            scale: Unit of the files: 'db', 'linear', or 'auto' to guess it for each.
            file_bands: Names or numbers (from 1) of the files' bands, one for each band
                of the classifier; they overrule names and order.
            crs: Coordinate reference system of the outlines.
            max_nodata: A tile has the status 'nodata' if at least this part of its
                pixels is missing.
            batch_size: Tiles in a batch; fewer if they are much larger than the
                classifier's.
            num_workers: Worker processes that read.
        """
        super().__init__(
            SARTiles,
            batch_size,
            num_workers,
            paths=paths,
            modality=modality,
            scale=scale,
            file_bands=file_bands,
            crs=crs,
            max_nodata=max_nodata,
        )
        self.modality = modality
        self.stated: dict[str, Any] = {'bands': bands, 'unit': unit, 'size': size}

    def setup(self, stage: str) -> None:
        """Find the tiles.

        Args:
            stage: 'predict'.

        Raises:
            LayoutError: If there is no such file, or none in a folder.
            ModalityError: If no classifier of the task takes this modality alone.
            SettingError: If *stage* is another one, or what is stated contradicts the
                classifiers, or they contradict each other.
        """
        if stage != 'predict':
            raise SettingError(
                'SARTiles have no labels: they can be predicted only. Use another '
                'data module, such as PairedFoldersDataModule.'
            )
        self.predict_dataset = SARTiles(**self.kwargs, **self._adopted())

    def _adopted(self) -> dict[str, Any]:
        """Return what is stated or the classifiers say of bands, unit and size."""
        metadata = self._classifiers()
        said: dict[str, list[Any]] = {
            'bands': [m.bands for m in metadata],
            'unit': [m.unit for m in metadata],
            'size': [m.tile_size for m in metadata if m.tile_size is not None],
        }
        adopted = {}
        for name, values in said.items():
            stated = self.stated[name]
            if stated is not None:
                values.append(stated if isinstance(stated, str) else tuple(stated))
            if len(set(values)) > 1:
                raise SettingError(
                    f'{name} of {self.modality!r} would be {sorted(set(values))} at '
                    'once, by the classifiers and --data: apply one classifier at a '
                    f'time, and leave --data.{name} to it.'
                )
            if values:
                adopted[name] = values[0]
        return adopted

    def _classifiers(self) -> list[ModalityMetadata]:
        """Return what the classifiers of the task say of this modality."""
        if self.trainer is None:
            return []
        module = self.trainer.lightning_module
        found = [m for m in module.modules() if isinstance(m, LoadedClassifier)]
        fitting = [m for m in found if m.modalities == (self.modality,)]
        if found and not fitting:
            raise ModalityError(
                f'no classifier takes {self.modality!r} alone, but '
                f'{[list(m.modalities) for m in found]}: set --data.modality, or give '
                'another file.'
            )
        return [m.metadata.modalities[self.modality] for m in fitting]

    def predict_dataloader(self) -> DataLoader[Sample]:
        """Return the data loader of all tiles, in order."""
        dataset = self._valid_attribute('predict_dataset')
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            collate_fn=dataset.collate,
        )

    def on_after_batch_transfer(self, batch: Sample, dataloader_idx: int) -> Sample:
        """Leave a batch as it is: normalisation belongs to the classifier.

        Args:
            batch: A batch.
            dataloader_idx: Index of the data loader.

        Returns:
            The batch.
        """
        return batch

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""EuroSAT-MS-SAR data module."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from torchgeo.datamodules import eurosat

from ..datasets import BandStatistics, EuroSATMSSAR, MultiModalDataset
from .base import MultiModalDataModule


class EuroSATMSSARDataModule(MultiModalDataModule):
    """Data module of :class:`~torchgeo_discomkd.datasets.EuroSATMSSAR`.

    Example:
        Simulated tiles stand in for the real ones, which ``download=True`` fetches:

        >>> import tempfile
        >>> from pathlib import Path
        >>> from torchgeo_discomkd.datasets.simulation import simulate
        >>> with tempfile.TemporaryDirectory() as root:
        ...     simulate(Path(root), tiles_per_class=2, size=8)
        ...     dm = EuroSATMSSARDataModule(root, eval_batch_size=4)
        ...     dm.setup('test')
        ...     batch = next(iter(dm.test_dataloader()))
        >>> batch['image_ms'].shape, batch['label']
        (torch.Size([4, 13, 8, 8]), tensor([0, 1, 2, 3]))
    """

    def __init__(
        self,
        root: str = 'data',
        split_scheme: Literal['paper', 'torchgeo', 'spatial'] = 'paper',
        run: int = 0,
        modalities: Sequence[str] = ('ms', 'sar'),
        bands: dict[str, list[str]] | None = None,
        missing: Literal['error', 'skip', 'keep'] = 'error',
        missing_values: Literal['mean', 'error'] = 'mean',
        download: bool = False,
        checksum: bool = True,
        published_statistics: bool = False,
        **kwargs: Any,
    ) -> None:
        """Initialize a new EuroSATMSSARDataModule instance.

        Args:
            root: Folder that holds, or will hold, the data; or a pack.
            split_scheme: 'paper' (stratified 70/10/20), 'torchgeo' (TorchGeo's split
                files) or 'spatial' (its split by longitude: few tiles have neighbours
                in another split).
            run: Number of the repetition of scheme 'paper', 0 to 4.
            modalities: 'ms', 'sar' or both.
            bands: Bands to load for each modality, by name. Default: all.
            missing: What to do with tiles that one modality lacks: 'error', 'skip'
                them, or 'keep' them for unpaired training.
            missing_values: What to do with missing pixels: 'mean' replaces them by the
                band mean in the classifier, 'error' refuses the tile.
            download: Whether to download missing files.
            checksum: Whether to verify downloaded files.
            published_statistics: Whether to standardise 'ms' by the mean and standard
                deviation that TorchGeo publishes for its training split (the spatial
                one for scheme 'spatial') rather than those of this training split.
                Published values for 'sar' contradict each other, so 'sar' always uses
                those of this split.
            **kwargs: Arguments of :class:`MultiModalDataModule`.
        """
        self.published_statistics = published_statistics
        dataset_kwargs = {
            'root': root,
            'split_scheme': split_scheme,
            'run': run,
            'modalities': modalities,
            'bands': bands,
            'missing': missing,
            'missing_values': missing_values,
            'download': download,
            'checksum': checksum,
        }
        super().__init__(EuroSATMSSAR, dataset_kwargs, **kwargs)

    def _setup_training(self, dataset: MultiModalDataset) -> None:
        super()._setup_training(dataset)
        if self.published_statistics and 'ms' in self.statistics:
            self.statistics['ms'] = self._published(self.statistics['ms'])

    def _published(self, statistics: BandStatistics) -> BandStatistics:
        spatial = self.kwargs['split_scheme'] == 'spatial'
        mean = eurosat.SPATIAL_MEAN if spatial else eurosat.MEAN
        std = eurosat.SPATIAL_STD if spatial else eurosat.STD
        return replace(
            statistics,
            mean=tuple(mean[band] for band in statistics.bands),
            std=tuple(std[band] for band in statistics.bands),
        )

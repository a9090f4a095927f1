# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""PairedCopernicusBench data module."""

from collections.abc import Sequence
from typing import Any, Literal

from ..datasets import PairedCopernicusBench
from ..datasets.copernicusbench import CopernicusBenchName
from .paireddatasets import PairedDatasetsDataModule


class PairedCopernicusBenchDataModule(PairedDatasetsDataModule):
    """Data module of :class:`~torchgeo_discomkd.datasets.PairedCopernicusBench`.

    Example:
        >>> dm = PairedCopernicusBenchDataModule('bigearthnet')
        >>> list(dm.kwargs['sources']), dm.kwargs['task']
        (['ms', 'sar'], 'multilabel')
    """

    def __init__(
        self,
        name: CopernicusBenchName,
        root: str = 'data',
        modalities: Sequence[str] | None = None,
        bands: dict[str, list[str]] | None = None,
        missing_values: Literal['mean', 'error'] = 'mean',
        download: bool = False,
        checksum: bool = True,
        **kwargs: Any,
    ) -> None:
        """Initialize a new PairedCopernicusBenchDataModule instance.

        Args:
            name: 'eurosat' or 'bigearthnet'.
            root: Folder of the data, or a pack.
            modalities: Modalities to load. Default: all.
            bands: Bands to load for each modality, by name. Default: all.
            missing_values: What to do with missing pixels: 'mean' replaces them by the
                band mean in the classifier, 'error' refuses the tile.
            download: Whether to download missing files.
            checksum: Whether to verify downloaded files.
            **kwargs: Arguments of :class:`MultiModalDataModule`.
        """
        super().__init__(
            PairedCopernicusBench.sources(name, root, download, checksum),
            modalities,
            root,
            missing_values=missing_values,
            task=PairedCopernicusBench.task_of(name),
            bands=bands,
            **kwargs,
        )

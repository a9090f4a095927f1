# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""PairedBigEarthNet data module."""

from collections.abc import Sequence
from typing import Any, Literal

from ..datasets import PairedBigEarthNet
from .paireddatasets import PairedDatasetsDataModule


class PairedBigEarthNetDataModule(PairedDatasetsDataModule):
    """Data module of :class:`~torchgeo_discomkd.datasets.PairedBigEarthNet`.

    Example:
        >>> dm = PairedBigEarthNetDataModule()
        >>> list(dm.kwargs['sources']), dm.kwargs['task']
        (['ms', 'sar'], 'multilabel')
    """

    def __init__(
        self,
        root: str = 'data',
        version: Literal['1', '2'] = '2',
        num_classes: Literal[19, 43] = 19,
        modalities: Sequence[str] | None = None,
        bands: dict[str, list[str]] | None = None,
        missing_values: Literal['mean', 'error'] = 'mean',
        download: bool = False,
        checksum: bool = True,
        **kwargs: Any,
    ) -> None:
        """Initialize a new PairedBigEarthNetDataModule instance.

        Args:
            root: Folder of the data, or a pack.
            version: Version of the data and of their splits.
            num_classes: 19, or 43 for the classes of CORINE, which version 1 also has.
            modalities: Modalities to load. Default: all.
            bands: Bands to load for each modality, by name. Default: all.
            missing_values: What to do with missing pixels: 'mean' replaces them by the
                band mean in the classifier, 'error' refuses the tile.
            download: Whether to download missing files.
            checksum: Whether to verify downloaded files.
            **kwargs: Arguments of :class:`MultiModalDataModule`.
        """
        super().__init__(
            PairedBigEarthNet.sources(root, version, num_classes, download, checksum),
            modalities,
            root,
            missing_values=missing_values,
            task='multilabel',
            bands=bands,
            **kwargs,
        )

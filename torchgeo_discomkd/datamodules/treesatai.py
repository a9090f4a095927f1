# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""PairedTreeSatAI data module."""

from collections.abc import Sequence
from typing import Any, Literal

from ..datasets import PairedTreeSatAI
from .paireddatasets import PairedDatasetsDataModule


class PairedTreeSatAIDataModule(PairedDatasetsDataModule):
    """Data module of :class:`~torchgeo_discomkd.datasets.PairedTreeSatAI`.

    Example:
        >>> dm = PairedTreeSatAIDataModule()
        >>> list(dm.kwargs['sources']), dm.kwargs['task']
        (['aerial', 'ms', 'sar'], 'multilabel')
    """

    def __init__(
        self,
        root: str = 'data',
        modalities: Sequence[str] | None = None,
        bands: dict[str, list[str]] | None = None,
        missing_values: Literal['mean', 'error'] = 'mean',
        download: bool = False,
        checksum: bool = True,
        **kwargs: Any,
    ) -> None:
        """Initialize a new PairedTreeSatAIDataModule instance.

        Args:
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
            PairedTreeSatAI.sources(root, download, checksum),
            modalities,
            root,
            missing_values=missing_values,
            task='multilabel',
            bands=bands,
            **kwargs,
        )

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""PairedSo2Sat data module."""

from collections.abc import Sequence
from typing import Any, Literal

from ..datasets import PairedSo2Sat
from ..datasets.so2sat import So2SatVersion
from .paireddatasets import PairedDatasetsDataModule


class PairedSo2SatDataModule(PairedDatasetsDataModule):
    """Data module of :class:`~torchgeo_discomkd.datasets.PairedSo2Sat`.

    Example:
        >>> dm = PairedSo2SatDataModule()
        >>> list(dm.kwargs['sources']), dm.kwargs['task']
        (['ms', 'sar'], 'multiclass')
    """

    def __init__(
        self,
        root: str = 'data',
        version: So2SatVersion = '2',
        modalities: Sequence[str] | None = None,
        bands: dict[str, list[str]] | None = None,
        missing_values: Literal['mean', 'error'] = 'mean',
        checksum: bool = False,
        **kwargs: Any,
    ) -> None:
        """Initialize a new PairedSo2SatDataModule instance.

        Args:
            root: Folder of the data, or a pack.
            version: Version of the data and of their splits.
            modalities: Modalities to load. Default: all.
            bands: Bands to load for each modality, by name. Default: all.
            missing_values: What to do with missing pixels: 'mean' replaces them by the
                band mean in the classifier, 'error' refuses the tile.
            checksum: Whether to verify the files whenever they are opened, which takes
                minutes.
            **kwargs: Arguments of :class:`MultiModalDataModule`.
        """
        super().__init__(
            PairedSo2Sat.sources(root, version, checksum),
            modalities,
            root,
            missing_values=missing_values,
            bands=bands,
            **kwargs,
        )

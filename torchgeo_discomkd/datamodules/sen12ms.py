# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""PairedSEN12MS data module."""

from collections.abc import Sequence
from typing import Any, Literal

from ..datasets import PairedSEN12MS
from ..datasets.sen12ms import SEN12MS_CLASSES
from .paireddatasets import PairedDatasetsDataModule


class PairedSEN12MSDataModule(PairedDatasetsDataModule):
    """Data module of :class:`~torchgeo_discomkd.datasets.PairedSEN12MS`.

    Example:
        >>> dm = PairedSEN12MSDataModule()
        >>> list(dm.kwargs['sources']), dm.kwargs['task']
        (['ms', 'sar'], 'multiclass')
    """

    def __init__(
        self,
        root: str = 'data',
        classes: Sequence[str] = SEN12MS_CLASSES,
        modalities: Sequence[str] | None = None,
        bands: dict[str, list[str]] | None = None,
        missing_values: Literal['mean', 'error'] = 'mean',
        checksum: bool = False,
        **kwargs: Any,
    ) -> None:
        """Initialize a new PairedSEN12MSDataModule instance.

        Args:
            root: Folder of the data, or a pack.
            classes: Classes to keep; tiles with another label are left.
            modalities: Modalities to load. Default: all.
            bands: Bands to load for each modality, by name. Default: all.
            missing_values: What to do with missing pixels: 'mean' replaces them by the
                band mean in the classifier, 'error' refuses the tile.
            checksum: Whether to verify the archives, which must then still be there,
                whenever they are opened. It takes minutes.
            **kwargs: Arguments of :class:`MultiModalDataModule`.
        """
        super().__init__(
            PairedSEN12MS.sources(root, classes, checksum),
            modalities,
            root,
            missing_values=missing_values,
            bands=bands,
            **kwargs,
        )

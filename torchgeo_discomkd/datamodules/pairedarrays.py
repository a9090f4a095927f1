# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""PairedArrays data module."""

from collections.abc import Sequence
from typing import Any, Literal

from ..datasets import PairedArrays
from ..metadata import LabelTask
from .base import MultiModalDataModule


class PairedArraysDataModule(MultiModalDataModule):
    """Data module of :class:`~torchgeo_discomkd.datasets.PairedArrays`.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> with tempfile.TemporaryDirectory() as root:
        ...     np.save(f'{root}/MS_data_normalized.npy', np.zeros((6, 13, 8, 8)))
        ...     np.save(f'{root}/SAR_data_normalized.npy', np.zeros((6, 2, 8, 8)))
        ...     np.save(f'{root}/labels.npy', [0, 1, 0, 1, 0, 1])
        ...     np.save(f'{root}/train_idx.npy', [0, 1, 2, 3])
        ...     np.save(f'{root}/valid_idx.npy', [4, 5])
        ...     dm = PairedArraysDataModule(root, batch_size=4, paired=True)
        ...     dm.setup('fit')
        ...     batch = next(iter(dm.train_dataloader()))
        >>> batch['image_ms'].shape, batch['image_sar'].shape
        (torch.Size([4, 13, 8, 8]), torch.Size([4, 2, 8, 8]))
    """

    def __init__(
        self,
        root: str = 'data',
        prefixes: dict[str, str] | None = None,
        modalities: Sequence[str] | None = None,
        run: int | None = None,
        classes: Sequence[str] | None = None,
        band_names: dict[str, list[str]] | None = None,
        bands: dict[str, list[str]] | None = None,
        units: dict[str, str] | None = None,
        nodata: dict[str, float] | None = None,
        missing_values: Literal['mean', 'error'] = 'mean',
        unlabelled: str | None = None,
        task: LabelTask = 'multiclass',
        **kwargs: Any,
    ) -> None:
        """Initialize a new PairedArraysDataModule instance.

        Args:
            root: Folder with the arrays, labels and split indices, or a pack.
            prefixes: Prefix of the array file of each modality, e.g. {ms: MS}. Default:
                every '<PREFIX>_data_normalized.npy' is a modality, named in lower case.
            modalities: Modalities to load; the others need not be on disk. Default:
                all.
            run: Read 'train_idx_<run>.npy' and so on. Default: 'train_idx.npy'.
            classes: Class names in the order of their labels. Default: '0', '1', ...
            band_names: Names of the bands of each modality, in array order.
            bands: Bands to load for each modality, by name. Default: all.
            units: Unit of the pixel values for each modality. 'dB' and 'linear' are
                checked against the values; 'amplitude', 'db_x10' and 'db_x100' are
                converted to dB.
            nodata: Number that stands for missing pixels in each modality.
            missing_values: What to do with missing pixels: 'mean' replaces them by the
                band mean in the classifier, 'error' refuses the tile.
            unlabelled: Name of the index file of samples without labels, for training,
                e.g. unlabelled_idx. Default: none.
            task: Kind of labels: 'multiclass'; 'multilabel', one row of 0 and 1 for
                each sample; or 'binary', of two classes. That of the model must be the
                same.
            **kwargs: Arguments of :class:`MultiModalDataModule`.
        """
        dataset_kwargs = {
            'root': root,
            'prefixes': prefixes,
            'modalities': modalities,
            'run': run,
            'classes': classes,
            'band_names': band_names,
            'bands': bands,
            'units': units,
            'nodata': nodata,
            'missing_values': missing_values,
            'unlabelled': unlabelled,
            'task': task,
        }
        super().__init__(PairedArrays, dataset_kwargs, **kwargs)

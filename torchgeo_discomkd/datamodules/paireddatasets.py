# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""PairedDatasets data module."""

from collections.abc import Sequence
from typing import Any, Literal

from ..datasets import DatasetSource, MultiModalDataset, PairedDatasets
from ..datasets.opened import OpenedSource, open_source
from ..datasets.pack.format import is_pack
from ..metadata import LabelTask
from .base import MultiModalDataModule


class PairedDatasetsDataModule(MultiModalDataModule):
    """Data module of :class:`~torchgeo_discomkd.datasets.PairedDatasets`.

    Sources are opened once, for all splits.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from torchgeo.datasets import NonGeoClassificationDataset
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for sensor in ('summer', 'winter'):
        ...         for i in range(24):
        ...             path = Path(root, sensor, f'class_{i % 2}', f'{i}.png')
        ...             path.parent.mkdir(parents=True, exist_ok=True)
        ...             Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)
        ...     sources = {
        ...         sensor: DatasetSource(
        ...             NonGeoClassificationDataset,
        ...             {'root': f'{root}/{sensor}'},
        ...             splits={},
        ...         )
        ...         for sensor in ('summer', 'winter')
        ...     }
        ...     dm = PairedDatasetsDataModule(sources, root=root)
        ...     dm.setup('test')
        ...     batch = next(iter(dm.test_dataloader()))
        >>> batch['image_summer'].shape, batch['label'].bincount()
        (torch.Size([6, 3, 8, 8]), tensor([3, 3]))
    """

    def __init__(
        self,
        sources: dict[str, DatasetSource],
        modalities: Sequence[str] | None = None,
        root: str = 'data',
        missing: Literal['error', 'skip', 'keep'] = 'error',
        run: int = 0,
        missing_values: Literal['mean', 'error'] = 'mean',
        task: LabelTask = 'multiclass',
        bands: dict[str, list[str]] | None = None,
        **kwargs: Any,
    ) -> None:
        """Initialize a new PairedDatasetsDataModule instance.

        Args:
            sources: The data set of each modality: its class (dataset), its arguments
                without split (kwargs), and what else DatasetSource takes.
            modalities: Modalities to load. Default: all.
            root: Folder for statistics, which must not be a folder of images; or a pack
                of the same data sets, which are then not opened.
            missing: What to do with samples that some sources lack: 'error', 'skip'
                them, or 'keep' them for unpaired training.
            run: Number of the repetition, if no source has splits.
            missing_values: What to do with missing pixels: 'mean' replaces them by the
                band mean in the classifier, 'error' refuses the tile.
            task: Kind of labels: 'multiclass'; 'multilabel', any number of labels in a
                sample; or 'binary', of two classes. That of the model must be the same.
            bands: Bands to load for each modality, by name. Default: those that its
                source names, or all.
            **kwargs: Arguments of :class:`MultiModalDataModule`.
        """
        dataset_kwargs = {
            'sources': sources,
            'modalities': modalities,
            'root': root,
            'missing': missing,
            'run': run,
            'missing_values': missing_values,
            'task': task,
            'bands': bands,
        }
        super().__init__(PairedDatasets, dataset_kwargs, **kwargs)
        self._opened: dict[str, OpenedSource] = {}

    def make_dataset(self, split: str, **kwargs: Any) -> MultiModalDataset:
        """Return the data set of a split; see :class:`MultiModalDataModule`.

        Args:
            split: 'train', 'val' or 'test'.
            kwargs: Arguments in place of those of the data module.

        Raises:
            UserError: If the data cannot be used.
        """
        if is_pack(self.kwargs['root']):
            return super().make_dataset(split, **kwargs)
        if not self._opened:
            sources, task = self.kwargs['sources'], self.kwargs['task']
            self._opened = {m: open_source(m, s, task) for m, s in sources.items()}
        return super().make_dataset(split, **{'sources': self._opened} | kwargs)

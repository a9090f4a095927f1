# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Data sets of Copernicus-Bench that have Sentinel-2 and Sentinel-1 tiles."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Literal

from torchgeo.datasets import (
    CopernicusBenchBigEarthNetS1,
    CopernicusBenchBigEarthNetS2,
    CopernicusBenchEuroSATS1,
    CopernicusBenchEuroSATS2,
)
from torchgeo.datasets.utils import Sample

from .paireddatasets import PairedDatasets
from .sources import DatasetSource

#: Names of the pairs.
type CopernicusBenchName = Literal['eurosat', 'bigearthnet']

type _BigEarthNet = CopernicusBenchBigEarthNetS1 | CopernicusBenchBigEarthNetS2

_CLASSES = {
    'eurosat': {'ms': CopernicusBenchEuroSATS2, 'sar': CopernicusBenchEuroSATS1},
    'bigearthnet': {
        'ms': CopernicusBenchBigEarthNetS2,
        'sar': CopernicusBenchBigEarthNetS1,
    },
}


class PairedCopernicusBench(PairedDatasets):
    """Two sensors of a data set of Copernicus-Bench: EuroSAT or BigEarthNet.

    'ms' are all bands of Sentinel-2, reflectance times 10 000; 'sar' are VV and VH of
    Sentinel-1 in dB. 'eurosat' has ten land cover classes and tiles of 64x64 pixels,
    one class each; 'bigearthnet', a twentieth of BigEarthNetV2, 19 classes and tiles of
    120x120 pixels, several classes each. Splits are those of the benchmark.

    If you use this data set, please cite:

    * https://arxiv.org/abs/2503.11849

    Example:
        >>> sources = PairedCopernicusBench.sources('eurosat', 'data')
        >>> sources['ms'].dataset.__name__, sources['ms'].dataset.all_bands[-1]
        ('CopernicusBenchEuroSATS2', 'B8A')
    """

    def __init__(
        self,
        name: CopernicusBenchName,
        root: str = 'data',
        split: str = 'train',
        modalities: Sequence[str] | None = None,
        bands: Mapping[str, Sequence[str]] | None = None,
        missing_values: Literal['mean', 'error'] = 'mean',
        download: bool = False,
        checksum: bool = True,
        transforms: Callable[[Sample], Sample] | None = None,
    ) -> None:
        """Initialize a new PairedCopernicusBench instance.

        Args:
            name: The data set.
            root: Folder of TorchGeo's two data sets, or a pack.
            split: 'train', 'val' or 'test'.
            modalities: 'ms', 'sar' or both; both by default.
            bands: Names of the bands to read for each modality; all by default.
            missing_values: 'mean' passes missing pixels on as NaN, which a classifier
                replaces by the band mean; 'error' refuses such a tile.
            download: Whether to download missing files.
            checksum: Whether to verify downloaded files.
            transforms: A function that takes a sample and returns a transformed one.

        Raises:
            UserError: See :class:`PairedDatasets`.
        """
        super().__init__(
            self.sources(name, root, download, checksum),
            split,
            modalities,
            root,
            missing_values=missing_values,
            transforms=transforms,
            task=self.task_of(name),
            bands=bands,
        )

    @staticmethod
    def task_of(name: CopernicusBenchName) -> Literal['multiclass', 'multilabel']:
        """Return the kind of labels of a data set.

        Args:
            name: The data set.
        """
        return 'multiclass' if name == 'eurosat' else 'multilabel'

    @staticmethod
    def sources(
        name: CopernicusBenchName,
        root: str = 'data',
        download: bool = False,
        checksum: bool = True,
    ) -> dict[str, DatasetSource]:
        """Return the source of each modality.

        Args:
            name: The data set.
            root: Folder of the data.
            download: Whether to download missing files.
            checksum: Whether to verify downloaded files.
        """
        several = name == 'bigearthnet'
        return {
            modality: DatasetSource(
                dataset,
                {'root': root, 'download': download, 'checksum': checksum},
                keys=_patches if several else None,
                labels=_label_columns if several else _class_in_name,
                unit='dB' if modality == 'sar' else 'reflectance x 10000',
            )
            for modality, dataset in _CLASSES[name].items()
        }


def _class_in_name(
    dataset: CopernicusBenchEuroSATS1 | CopernicusBenchEuroSATS2,
) -> list[str]:
    return [str(name).split('_')[0] for name in dataset.files]


def _patches(dataset: _BigEarthNet) -> list[str]:
    """Return the name of the Sentinel-2 patch, which both tables have."""
    return [PurePosixPath(path).parent.name for path in dataset.files.iloc[:, 1]]


def _label_columns(dataset: _BigEarthNet) -> list[list[int]]:
    return dataset.files.iloc[:, 2:].to_numpy().tolist()

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""BigEarthNet: Sentinel-2 and Sentinel-1 tiles with several land cover classes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torchgeo.datasets import BigEarthNet, BigEarthNetV2
from torchgeo.datasets.utils import Sample

from ..errors import SettingError
from .keptlabels import kept_labels
from .paireddatasets import PairedDatasets
from .sources import DatasetSource

# In the order of TorchGeo, which sorts the files of radar by their names.
_OPTICAL = 'B01 B02 B03 B04 B05 B06 B07 B08 B8A B09 B11 B12'
_BANDS = {'ms': tuple(_OPTICAL.split()), 'sar': ('VH', 'VV')}
_SENSORS: dict[str, Literal['s1', 's2']] = {'ms': 's2', 'sar': 's1'}


class PairedBigEarthNet(PairedDatasets):
    """TorchGeo's BigEarthNet and BigEarthNetV2, with several classes per tile.

    Tiles of 120x120 pixels, 10 m; bands of 20 m and 60 m are resampled by TorchGeo.
    'ms' are 12 bands of Sentinel-2, reflectance times 10 000; 'sar' are VH and VV of
    Sentinel-1 in dB. TorchGeo rounds both to whole numbers, radar to whole dB. Splits
    are those of the data set.

    The labels of version 1 are in a file for each tile, and are read once
    (``.torchgeo_discomkd/labels-<key>.json`` below *root*); those of version 2 are in a
    table.

    If you use this data set, please cite:

    * https://doi.org/10.1109/IGARSS.2019.8900532 (version 1)
    * https://arxiv.org/abs/2407.03653 (version 2)

    Example:
        >>> sources = PairedBigEarthNet.sources('bigearthnet', version='2')
        >>> sources['sar'].band_names, sources['sar'].unit
        (('VH', 'VV'), 'dB')
    """

    def __init__(
        self,
        root: str = 'data',
        split: str = 'train',
        version: Literal['1', '2'] = '2',
        num_classes: Literal[19, 43] = 19,
        modalities: Sequence[str] | None = None,
        bands: Mapping[str, Sequence[str]] | None = None,
        missing_values: Literal['mean', 'error'] = 'mean',
        download: bool = False,
        checksum: bool = True,
        transforms: Callable[[Sample], Sample] | None = None,
    ) -> None:
        """Initialize a new PairedBigEarthNet instance.

        Args:
            root: Folder of TorchGeo's BigEarthNet or BigEarthNetV2, or a pack.
            split: 'train', 'val' or 'test'.
            version: Version of the data and of their splits.
            num_classes: 19, or 43 for the classes of CORINE, which version 1 also has.
            modalities: 'ms', 'sar' or both; both by default.
            bands: Names of the bands to read for each modality; all by default.
            missing_values: 'mean' passes missing pixels on as NaN, which a classifier
                replaces by the band mean; 'error' refuses such a tile.
            download: Whether to download missing files.
            checksum: Whether to verify downloaded files.
            transforms: A function that takes a sample and returns a transformed one.

        Raises:
            SettingError: If version 2 is asked for 43 classes.
            UserError: See :class:`PairedDatasets`.
        """
        super().__init__(
            self.sources(root, version, num_classes, download, checksum),
            split,
            modalities,
            root,
            missing_values=missing_values,
            transforms=transforms,
            task='multilabel',
            bands=bands,
        )

    @staticmethod
    def sources(
        root: str = 'data',
        version: Literal['1', '2'] = '2',
        num_classes: Literal[19, 43] = 19,
        download: bool = False,
        checksum: bool = True,
    ) -> dict[str, DatasetSource]:
        """Return the source of each modality.

        Args:
            root: Folder of the data.
            version: Version of the data.
            num_classes: Number of classes.
            download: Whether to download missing files.
            checksum: Whether to verify downloaded files.

        Raises:
            SettingError: If version 2 is asked for 43 classes.
        """
        known = (('1', 19), ('1', 43), ('2', 19))
        if (version, num_classes) not in known:
            raise SettingError(
                f'num_classes={num_classes} with version={version}: version 1 has 19 '
                'or 43 classes, version 2 has 19.'
            )
        kwargs: dict[str, Any] = {
            'root': root,
            'download': download,
            'checksum': checksum,
        }
        if version == '1':
            kwargs['num_classes'] = num_classes
        return {
            modality: DatasetSource(
                BigEarthNet if version == '1' else BigEarthNetV2,
                kwargs | {'bands': sensor},
                keys=_keys_v1 if version == '1' else _keys_v2,
                labels=_labels_v1 if version == '1' else _labels_v2,
                classes=BigEarthNet.class_sets[num_classes],
                band_names=_BANDS[modality],
                unit='dB' if modality == 'sar' else 'reflectance x 10000',
            )
            for modality, sensor in _SENSORS.items()
        }


def _keys_v1(dataset: BigEarthNet) -> list[str]:
    return [Path(pair['s2']).name for pair in dataset.folders]


def _keys_v2(dataset: BigEarthNetV2) -> list[str]:
    return dataset.metadata_df['patch_id'].tolist()


def _labels_v1(dataset: BigEarthNet) -> list[list[int]]:
    # those of radar and optics are the same
    name = f'BigEarthNet {dataset.num_classes}'
    return kept_labels(
        dataset.root,
        name,
        _keys_v1(dataset),
        lambda i: dataset._load_target(i).tolist(),
    )


def _labels_v2(dataset: BigEarthNetV2) -> list[list[str]]:
    return [list(names) for names in dataset.metadata_df['labels']]

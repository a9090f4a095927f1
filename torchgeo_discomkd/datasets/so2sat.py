# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""So2Sat: Sentinel-2 and Sentinel-1 tiles of local climate zones."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from torchgeo.datasets import So2Sat
from torchgeo.datasets.utils import Sample, lazy_import

from ..errors import LabelError
from .paireddatasets import PairedDatasets
from .sources import DatasetSource, positions

#: Versions of So2Sat.
type So2SatVersion = Literal['2', '3_random', '3_block', '3_culture_10']


class PairedSo2Sat(PairedDatasets):
    """The two sensors of TorchGeo's So2Sat, with one of 17 local climate zones.

    Tiles of 32x32 pixels. 'ms' are 10 bands of Sentinel-2, reflectance from 0 to about
    2.8. 'sar' are 8 channels of Sentinel-1 in linear units, of which some are negative:
    real and imaginary part of VH (B1, B2) and of VV (B3, B4), the filtered intensities
    of VH (B5) and VV (B6), and real and imaginary part of the filtered covariance of
    the two (B7, B8).

    Version 2 has three splits, and its validation and test cities are not in the
    training split. The others have none for validation: a tenth of their training
    samples, always the same, is held out at random.

    It needs h5py: ``pip install 'torchgeo_discomkd[so2sat]'``.

    If you use this data set, please cite:

    * https://doi.org/10.1109/MGRS.2020.2964708

    Example:
        >>> sources = PairedSo2Sat.sources('so2sat', version='3_block')
        >>> sources['sar'].kwargs['bands'][:2], sources['sar'].splits
        (('S1_B1', 'S1_B2'), {'train': 'train', 'test': 'test'})
    """

    def __init__(
        self,
        root: str = 'data',
        split: str = 'train',
        version: So2SatVersion = '2',
        modalities: Sequence[str] | None = None,
        bands: Mapping[str, Sequence[str]] | None = None,
        missing_values: Literal['mean', 'error'] = 'mean',
        checksum: bool = False,
        transforms: Callable[[Sample], Sample] | None = None,
    ) -> None:
        """Initialize a new PairedSo2Sat instance.

        Args:
            root: Folder of TorchGeo's So2Sat, or a pack.
            split: 'train', 'val' or 'test'.
            version: Version of the data and of their splits.
            modalities: 'ms', 'sar' or both; both by default.
            bands: Names of the bands to read for each modality; all by default.
            missing_values: 'mean' passes missing pixels on as NaN, which a classifier
                replaces by the band mean; 'error' refuses such a tile.
            checksum: Whether to verify the files whenever they are opened, which takes
                minutes.
            transforms: A function that takes a sample and returns a transformed one.

        Raises:
            UserError: See :class:`PairedDatasets`.
        """
        super().__init__(
            self.sources(root, version, checksum),
            split,
            modalities,
            root,
            missing_values=missing_values,
            transforms=transforms,
            bands=bands,
        )

    @staticmethod
    def sources(
        root: str = 'data', version: So2SatVersion = '2', checksum: bool = False
    ) -> dict[str, DatasetSource]:
        """Return the source of each modality.

        Args:
            root: Folder of the data.
            version: Version of the data.
            checksum: Whether to verify the files.
        """
        splits = {'train': 'train', 'val': 'validation', 'test': 'test'}
        if version != '2':
            del splits['val']
        names = {'ms': So2Sat.all_s2_band_names, 'sar': So2Sat.all_s1_band_names}
        return {
            modality: DatasetSource(
                So2Sat,
                {'root': root, 'version': version, 'bands': b, 'checksum': checksum},
                splits=splits,
                keys=positions,
                labels=_climate_zones,
                unit='reflectance' if modality == 'ms' else 'linear components',
                groups=None if 'val' in splits else positions,
            )
            for modality, b in names.items()
        }


def _climate_zones(dataset: So2Sat) -> list[int]:
    """Return the position of the one in each row of labels, without the images."""
    with lazy_import('h5py').File(dataset.fn) as file:
        labels = file['label'][:]
    expected = (len(dataset), len(dataset.classes))
    if labels.shape != expected or ((labels > 0).sum(axis=1) != 1).any():
        raise LabelError(
            f"'label' in {dataset.fn} has the shape {labels.shape} and must have "
            f'{expected}, with a single 1 in each row: fetch the file again.'
        )
    return labels.argmax(axis=1).tolist()

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""TreeSatAI: aerial, Sentinel-2 and Sentinel-1 tiles of forests, with their genera."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from torchgeo.datasets import TreeSatAI
from torchgeo.datasets.utils import Sample

from .paireddatasets import PairedDatasets
from .sources import DatasetSource, file_stems

# Names of the sensors in TorchGeo.
_SENSORS = {'aerial': 'aerial', 'ms': 's2', 'sar': 's1'}
_UNITS = {'aerial': 'digital numbers', 'ms': 'reflectance x 10000', 'sar': 'unknown'}


class PairedTreeSatAI(PairedDatasets):
    """Three sensors of TorchGeo's TreeSatAI, with all genera of trees in a tile.

    Tiles of 60 m. 'aerial' are infrared, green, blue and red of 8 bits (304x304 pixels,
    20 cm); 'ms' are 12 bands of Sentinel-2, reflectance times 10 000 (6x6 pixels, 10
    m); 'sar' are VV, VH and their ratio from Sentinel-1, whose unit the archive does
    not state (6x6 pixels; -9999 is missing). A tile has each of 15 genera that the
    archive lists for it, whatever its share.

    The data set has no split for validation: a tenth of the tiles for training, always
    the same, is held out at random, so tiles of one forest may be in both.

    If you use this data set, please cite:

    * https://doi.org/10.5194/essd-15-681-2023

    Example:
        >>> sources = PairedTreeSatAI.sources('treesatai')
        >>> {modality: source.band_names for modality, source in sources.items()}['sar']
        ('VV', 'VH', 'VV/VH')
    """

    def __init__(
        self,
        root: str = 'data',
        split: str = 'train',
        modalities: Sequence[str] | None = None,
        bands: Mapping[str, Sequence[str]] | None = None,
        missing_values: Literal['mean', 'error'] = 'mean',
        download: bool = False,
        checksum: bool = True,
        transforms: Callable[[Sample], Sample] | None = None,
    ) -> None:
        """Initialize a new PairedTreeSatAI instance.

        Args:
            root: Folder of TorchGeo's TreeSatAI, or a pack.
            split: 'train', 'val' or 'test'.
            modalities: Any of 'aerial', 'ms' and 'sar'; all by default.
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
            self.sources(root, download, checksum),
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
        root: str = 'data', download: bool = False, checksum: bool = True
    ) -> dict[str, DatasetSource]:
        """Return the source of each modality.

        Args:
            root: Folder of the data.
            download: Whether to download missing files.
            checksum: Whether to verify downloaded files.
        """
        return {
            modality: DatasetSource(
                TreeSatAI,
                {
                    'root': root,
                    'sensors': (sensor,),
                    'download': download,
                    'checksum': checksum,
                },
                splits={'train': 'train', 'test': 'test'},
                labels=_genera,
                band_names=TreeSatAI.all_bands_dict[sensor],
                unit=_UNITS[modality],
                nodata=-9999 if modality == 'sar' else None,
                image=f'image_{sensor}',
                groups=file_stems,
            )
            for modality, sensor in _SENSORS.items()
        }


def _genera(dataset: TreeSatAI) -> list[list[str]]:
    return [[genus for genus, _ in dataset.labels[file]] for file in dataset.files]

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""SEN12MS: Sentinel-2 and Sentinel-1 tiles with the land cover of most pixels."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

import numpy as np
from torchgeo.datasets import SEN12MS
from torchgeo.datasets.utils import Sample

from ..errors import LabelError
from .keptlabels import kept_labels
from .paireddatasets import PairedDatasets
from .sources import DatasetSource

#: The simplified IGBP scheme of Schmitt et al. (2020), in its order.
SEN12MS_CLASSES = (
    'Forest',
    'Shrubland',
    'Savanna',
    'Grassland',
    'Wetlands',
    'Croplands',
    'Urban and built-up',
    'Snow and ice',
    'Barren',
    'Water',
)

# Position there of each IGBP class, 1 to 17; pixels of any other value do not count.
_NOTHING = len(SEN12MS_CLASSES)
_SIMPLIFIED = np.full(256, _NOTHING)
_SIMPLIFIED[1:18] = [0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 4, 5, 6, 5, 7, 8, 9]


class PairedSEN12MS(PairedDatasets):
    """TorchGeo's SEN12MS, with the class of most pixels as the label of a tile.

    Tiles of 256x256 pixels, 10 m. 'ms' are 13 bands of Sentinel-2, reflectance times
    10 000; 'sar' are VV and VH of Sentinel-1 in dB.

    TorchGeo gives a mask of 17 IGBP classes, which are joined into the ten of the
    `simplified scheme <https://arxiv.org/abs/2002.08254>`__: five kinds of forest, open
    and closed shrubland, both savannas, and cropland with its mosaics are one class
    each. The label is the class of most pixels, as Schmitt and Wu (2021) define single
    labels. If several have the same number, it is the first of them in
    :data:`SEN12MS_CLASSES`; so water, the last, is the label only if it covers more
    than each other class. Pixels without an IGBP class do not count, and a tile of such
    pixels is left. Masks are read once (``.torchgeo_discomkd/labels-<key>.json`` below
    *root*).

    The data set has no split for validation. Tiles of a scene overlap by half, so a
    tenth of the scenes for training, always the same ones, is held out.

    If you use this data set, please cite:

    * https://doi.org/10.5194/isprs-annals-IV-2-W7-153-2019

    Example:
        >>> sources = PairedSEN12MS.sources('sen12ms', classes=('Forest', 'Water'))
        >>> sources['ms'].kwargs['bands'][:3], sources['ms'].classes
        (('B01', 'B02', 'B03'), ('Forest', 'Water'))
    """

    def __init__(
        self,
        root: str = 'data',
        split: str = 'train',
        classes: Sequence[str] = SEN12MS_CLASSES,
        modalities: Sequence[str] | None = None,
        bands: Mapping[str, Sequence[str]] | None = None,
        missing_values: Literal['mean', 'error'] = 'mean',
        checksum: bool = False,
        transforms: Callable[[Sample], Sample] | None = None,
    ) -> None:
        """Initialize a new PairedSEN12MS instance.

        Args:
            root: Folder of TorchGeo's SEN12MS, or a pack.
            split: 'train', 'val' or 'test'.
            classes: Classes to keep; tiles with another label are left.
            modalities: 'ms', 'sar' or both; both by default.
            bands: Names of the bands to read for each modality; all by default.
            missing_values: 'mean' passes missing pixels on as NaN, which a classifier
                replaces by the band mean; 'error' refuses such a tile.
            checksum: Whether to verify the archives, which must then still be there,
                whenever they are opened. It takes minutes.
            transforms: A function that takes a sample and returns a transformed one.

        Raises:
            UserError: See :class:`PairedDatasets`.
        """
        super().__init__(
            self.sources(root, classes, checksum),
            split,
            modalities,
            root,
            missing_values=missing_values,
            transforms=transforms,
            bands=bands,
        )

    @staticmethod
    def sources(
        root: str = 'data',
        classes: Sequence[str] = SEN12MS_CLASSES,
        checksum: bool = False,
    ) -> dict[str, DatasetSource]:
        """Return the source of each modality.

        Args:
            root: Folder of the data.
            classes: Classes to keep.
            checksum: Whether to verify the archives.

        Raises:
            LabelError: If a class is not one of the simplified scheme.
        """
        if unknown := [name for name in classes if name not in SEN12MS_CLASSES]:
            raise LabelError(
                f'classes={list(classes)}: {unknown} are not in the simplified scheme, '
                f'{list(SEN12MS_CLASSES)}. Choose among these.'
            )
        labels = partial(_majority_classes, classes=tuple(classes))
        return {
            modality: DatasetSource(
                SEN12MS,
                {'root': root, 'bands': SEN12MS.BAND_SETS[b], 'checksum': checksum},
                splits={'train': 'train', 'test': 'test'},
                keys=_keys,
                labels=labels,
                classes=classes,
                unit='dB' if modality == 'sar' else 'reflectance x 10000',
                groups=_scenes,
            )
            for modality, b in (('ms', 's2-all'), ('sar', 's1'))
        }


def _keys(dataset: SEN12MS) -> list[str]:
    """Return names without the sensor: 'ROIs1158_spring_1_p30'."""
    parts = [name.removesuffix('.tif').split('_') for name in dataset.ids]
    return ['_'.join(part[:2] + part[3:]) for part in parts]


def _scenes(dataset: SEN12MS) -> list[str]:
    return [key.rpartition('_')[0] for key in _keys(dataset)]


def _majority_classes(
    dataset: SEN12MS, classes: Sequence[str] = SEN12MS_CLASSES
) -> list[str | None]:
    def read(index: int) -> int | None:
        mask = dataset._load_raster(dataset.ids[index], 'lc')[0].numpy()
        simplified = _SIMPLIFIED[mask.clip(0, 255).astype(int)]
        counts = np.bincount(simplified.flat, minlength=_NOTHING + 1)[:_NOTHING]
        # argmax is the first of several
        return int(counts.argmax()) if counts.any() else None

    labels = kept_labels(dataset.root, 'SEN12MS simplified IGBP', _keys(dataset), read)
    names = [None if label is None else SEN12MS_CLASSES[label] for label in labels]
    return [name if name in classes else None for name in names]

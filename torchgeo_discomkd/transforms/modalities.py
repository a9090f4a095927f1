# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""From 'image_<modality>' to TorchGeo's single 'image', and back."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BandError, ModalityError

_OF_MODALITIES = ('image_', 'label_', 'index_')


class ModalityToImage(nn.Module):
    """Rename one modality to 'image': TorchGeo's tasks on our data modules.

    Give it to a data module as ``transforms=``. A module that reads several modalities
    needs ``modalities=[...]`` with this one, or ``paired=True``: an unpaired training
    sample holds only one of them.

    Values stay raw and missing pixels NaN, which TorchGeo's tasks neither normalise nor
    replace.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.transforms import ModalityToImage
        >>> sample = {'image_sar': torch.zeros(2, 8, 8), 'label': torch.tensor(3)}
        >>> renamed = ModalityToImage('sar')(sample)
        >>> renamed['image'].shape, sorted(renamed)
        (torch.Size([2, 8, 8]), ['image', 'label'])
    """

    def __init__(self, modality: str) -> None:
        """Initialize a new ModalityToImage instance.

        Args:
            modality: The modality that becomes 'image'.
        """
        super().__init__()
        self.modality = modality

    def forward(self, sample: Mapping[str, Any]) -> dict[str, Any]:
        """Return a sample or batch with one image.

        Args:
            sample: 'image_<modality>' of shape (..., C, H, W), and anything else.

        Returns:
            The image as 'image', 'label_<modality>' as 'label', 'index_<modality>' as
            'index', and all that belongs to no modality.

        Raises:
            ModalityError: If the sample lacks the modality.
        """
        if f'image_{self.modality}' not in sample:
            found = [k for k in sample if k.startswith('image')]
            raise ModalityError(
                f"ModalityToImage('{self.modality}'): the sample has {found}, but no "
                f'image_{self.modality}. Name one that it has; with several '
                f"modalities, choose modalities=['{self.modality}'], or paired=True."
            )
        shared = {k: v for k, v in sample.items() if not k.startswith(_OF_MODALITIES)}
        own = {
            start[:-1]: sample[start + self.modality]
            for start in _OF_MODALITIES
            if start + self.modality in sample
        }
        return shared | own


class ImageToModalities(nn.Module):
    """Split 'image' by the names of its bands: our tasks on TorchGeo's data.

    It takes samples, as ``transforms=`` of a data set, and batches. TorchGeo's data
    modules normalise 'image' in their ``aug``, so there it comes after that:
    ``datamodule.aug = nn.Sequential(datamodule.aug, ImageToModalities(...))``, and
    likewise for ``train_aug`` and others that are set.

    Example:
        >>> import torch
        >>> from torchgeo.datasets import So2Sat
        >>> from torchgeo_discomkd.transforms import ImageToModalities
        >>> split = ImageToModalities(
        ...     So2Sat.all_band_names,
        ...     {'sar': So2Sat.all_s1_band_names, 'ms': So2Sat.all_s2_band_names},
        ... )
        >>> batch = split({'image': torch.zeros(4, 18, 32, 32)})
        >>> {key: tuple(image.shape) for key, image in batch.items()}
        {'image_sar': (4, 8, 32, 32), 'image_ms': (4, 10, 32, 32)}
    """

    def __init__(
        self, bands: Sequence[str], modalities: Mapping[str, Sequence[str]]
    ) -> None:
        """Initialize a new ImageToModalities instance.

        Args:
            bands: Names of the bands of 'image', in order.
            modalities: Names of the bands of each modality, in the order in which it
                shall have them. Bands may be left out, or be in several modalities.

        Raises:
            BandError: If a name in *bands* is given twice, or a modality has no band,
                one that is not in *bands*, or one twice.
            ModalityError: If there is no modality.
        """
        super().__init__()
        if not modalities:
            raise ModalityError(
                'ImageToModalities has no modalities: name the bands of at least one.'
            )
        if len(set(bands)) < len(bands):
            raise BandError(f'bands={list(bands)} names a band twice.')
        for modality, names in modalities.items():
            unknown = [name for name in names if name not in bands]
            if unknown or not names or len(set(names)) < len(names):
                raise BandError(
                    f"bands of '{modality}' are {list(names)}: give each at most once, "
                    f'out of {list(bands)}.'
                )
        self.bands = tuple(bands)
        self.modalities = {m: tuple(names) for m, names in modalities.items()}

    def forward(self, sample: Mapping[str, Any]) -> dict[str, Any]:
        """Return a sample or batch with one image for each modality.

        Args:
            sample: 'image' of shape (..., C, H, W), and anything else.

        Returns:
            'image_<modality>' of shape (..., C, H, W) in place of 'image', and
            everything else.

        Raises:
            BandError: If 'image' has another number of bands.
            ModalityError: If there is no 'image'.
        """
        if 'image' not in sample:
            raise ModalityError(
                f"ImageToModalities: the sample has {sorted(sample)}, but no 'image'."
            )
        image: Tensor = sample['image']
        if image.ndim < 3 or image.shape[-3] != len(self.bands):
            raise BandError(
                f"ImageToModalities: 'image' has the shape {tuple(image.shape)}, but "
                f'{len(self.bands)} bands are named ({", ".join(self.bands)}): name '
                'those of the image, in order.'
            )
        rest = {key: value for key, value in sample.items() if key != 'image'}
        return {f'image_{m}': self._select(image, m) for m in self.modalities} | rest

    def _select(self, image: Tensor, modality: str) -> Tensor:
        positions = [self.bands.index(name) for name in self.modalities[modality]]
        return image.index_select(-3, torch.tensor(positions, device=image.device))

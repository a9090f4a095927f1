# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Augmentation of whole batches on the device, and what it must not change."""

import warnings
from collections.abc import Callable, Mapping, Sequence

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torchgeo.datasets.utils import Sample

from ..datasets import BandStatistics, MultiModalDataset
from ..errors import SettingError
from ..transforms import RandomSymmetry
from .sampling import seeded_generator


class SeededSymmetry:
    """Flip and turn the images of training batches: the default ``train_aug``.

    The draws depend on seed, epoch, modality and process only, so that a resumed run
    sees the same images. A paired batch, one with a 'label', gets one draw for all of
    its modalities; without it each modality has its own.
    """

    def __init__(self, state: Callable[[], tuple[int, int, int]]) -> None:
        """Initialize a new SeededSymmetry instance.

        Args:
            state: Returns the seed, the epoch and the number of the process.
        """
        self._state = state
        self._drawn: dict[str, tuple[tuple[int, int, int], RandomSymmetry]] = {}

    def restart(self) -> None:
        """Draw as in the first batch of an epoch, whatever was drawn in it before."""
        self._drawn.clear()

    def __call__(self, batch: Sample) -> Sample:
        """Return a batch with its images flipped and turned.

        Args:
            batch: 'image_<modality>' or 'image', float32 (B, C, H, W), and anything
                else.

        Returns:
            The batch with new images.
        """
        images = {
            k: v for k, v in batch.items() if k == 'image' or k.startswith('image_')
        }
        if 'label' in batch:
            return batch | self._augment('paired', images)
        for key, image in images.items():
            batch = batch | self._augment(key.removeprefix('image_'), {key: image})
        return batch

    def _augment(self, name: str, images: dict[str, Tensor]) -> dict[str, Tensor]:
        state = self._state()
        if self._drawn.get(name, (None,))[0] != state:
            seed, epoch, rank = state
            generator = seeded_generator(seed, epoch, name, 'augment', rank)
            self._drawn[name] = (state, RandomSymmetry(generator))
        symmetry = self._drawn[name][1]
        shapes = [image.shape for image in images.values()]
        # one oblong modality forbids quarter turns to all that share the draw
        shape = next((s for s in shapes if s[-2] != s[-1]), shapes[0])
        params = symmetry.forward_parameters(shape)
        return {key: symmetry(image, params=params) for key, image in images.items()}


class SeededNoise:
    """Add noise to the pixels of training images.

    In dB this is multiplicative noise, as speckle is. The draws depend on seed, epoch,
    modality and process only, as those of :class:`SeededSymmetry`.
    """

    def __init__(
        self, levels: Mapping[str, float], state: Callable[[], tuple[int, int, int]]
    ) -> None:
        """Initialize a new SeededNoise instance.

        Args:
            levels: Standard deviation of the noise for each modality that has some, in
                standard deviations of each band.
            state: Returns the seed, the epoch and the number of the process.

        Raises:
            SettingError: If a level is not above 0.
        """
        if wrong := {m: level for m, level in levels.items() if not level > 0}:
            raise SettingError(f'noise={wrong}: give numbers above 0, such as 0.1.')
        self._levels = dict(levels)
        self._state = state
        self._drawn: dict[str, tuple[tuple[int, int, int], torch.Generator]] = {}

    def check(self, modalities: Sequence[str]) -> None:
        """Check that there is noise for modalities of the data only.

        Args:
            modalities: The modalities of the data.

        Raises:
            SettingError: If another one is named.
        """
        if unknown := [m for m in self._levels if m not in modalities]:
            raise SettingError(
                f'noise for {unknown}, but the data have {list(modalities)}: correct '
                'the name of the modality.'
            )

    def restart(self) -> None:
        """Draw as in the first batch of an epoch, whatever was drawn in it before."""
        self._drawn.clear()

    def __call__(
        self, batch: Sample, statistics: Mapping[str, BandStatistics]
    ) -> Sample:
        """Return a batch with noise.

        Args:
            batch: 'image_<modality>', or 'image' of the only modality, float32
                (B, C, H, W), and anything else.
            statistics: Statistics of the modalities.

        Returns:
            The batch with new images.
        """
        for modality, level in self._levels.items():
            key = f'image_{modality}'
            key = 'image' if key not in batch and len(statistics) == 1 else key
            if key in batch:
                image = batch[key]
                std = image.new_tensor(statistics[modality].std)[:, None, None]
                noise = torch.empty_like(image).normal_(
                    generator=self._generator(modality, image.device)
                )
                batch = batch | {key: image + level * std * noise}
        return batch

    def _generator(self, name: str, device: torch.device) -> torch.Generator:
        state = self._state()
        if self._drawn.get(name, (None,))[0] != state:
            seed, epoch, rank = state
            first = seeded_generator(seed, epoch, name, 'noise', rank).initial_seed()
            drawn = torch.Generator(device).manual_seed(first)
            self._drawn[name] = (state, drawn)
        return self._drawn[name][1]


def warn_if_rescaled(before: Sample, after: Sample, name: str) -> None:
    """Warn if an augmentation seems to normalise, which the classifier does itself.

    Args:
        before: Batch of raw values.
        after: The same batch, augmented.
        name: Name of the augmentation, for the message.

    Warns:
        UserWarning: If the mean of a band moves by more than its standard deviation, or
            that becomes less than half or more than twice as large.
    """
    for key in (k for k in before if k.startswith('image_') and k in after):
        pixels = [b[key].movedim(1, 0).flatten(1) for b in (before, after)]
        if (found := _rescaled(*pixels)) is not None:
            warnings.warn(
                f"{name} changes the scale of '{key}': {found}. The classifier "
                'normalises raw values itself, with the statistics of training: '
                f'remove Normalize from {name}, or set --model.normalization none.',
                stacklevel=2,
            )
            return


def check_transforms(dataset: MultiModalDataset) -> None:
    """Warn if the transforms of a data set seem to normalise, from up to 16 samples.

    Args:
        dataset: The training split.

    Warns:
        UserWarning: As for an augmentation, see :func:`warn_if_rescaled`.
    """
    if dataset.transforms is None:
        return
    step = -(-len(dataset) // 16)
    rows = range(0, len(dataset), step)
    # training draws as it does without this check
    with isolate_rng(include_cuda=False):
        samples = [dataset[row] for row in rows]
    for modality in dataset.modalities:
        key = f'image_{modality}'
        if not all(key in sample for sample in samples):
            # renamed by ModalityToImage
            continue
        images = [dataset.checked_load(row, modality) for row in rows]
        before = torch.cat([image.flatten(1) for image in images], dim=1)
        after = torch.cat([sample[key].flatten(1) for sample in samples], dim=1)
        if (found := _rescaled(before, after)) is not None:
            warnings.warn(
                f"transforms change the scale of '{key}': {found}. The statistics are "
                'those of raw values, and classifier files take raw values, for which '
                'this training makes them wrong: convert the data instead, and leave '
                'normalising to the classifier.',
                stacklevel=2,
            )
            return


def _rescaled(before: Tensor, after: Tensor) -> str | None:
    """Return how pixels (C, N) have changed in scale; None if they have not."""
    if len(before) != len(after):
        # other bands: nothing to compare
        return None
    (mean, std), (new_mean, new_std) = _moments(before), _moments(after)
    moved = (new_mean - mean).abs() > std
    stretched = (new_std < std / 2) | (new_std > 2 * std)
    if not bool(((moved | stretched) & (std > 0)).any()):
        return None
    return (
        f'from mean {mean.mean():.4g} and standard deviation {std.mean():.4g} to '
        f'{new_mean.mean():.4g} and {new_std.mean():.4g}'
    )


def _moments(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each band, missing pixels left out."""
    pixels = pixels.float()
    mean = pixels.nanmean(1)
    return mean, (pixels - mean[:, None]).square().nanmean(1).sqrt()

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Augmentation of whole batches on the device."""

import warnings
from collections.abc import Callable

from torch import Tensor
from torchgeo.datasets.utils import Sample

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
        (mean, std), (new_mean, new_std) = (_moments(b[key]) for b in (before, after))
        moved = (new_mean - mean).abs() > std
        stretched = (new_std < std / 2) | (new_std > 2 * std)
        if bool(((moved | stretched) & (std > 0)).any()):
            warnings.warn(
                f"{name} changes the scale of '{key}': from mean "
                f'{mean.mean():.4g} and standard deviation {std.mean():.4g} to '
                f'{new_mean.mean():.4g} and {new_std.mean():.4g}. The classifier '
                'normalises raw values itself, with the statistics of training: '
                f'remove Normalize from {name}, or set --model.normalization none.',
                stacklevel=2,
            )
            return


def _moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each band, missing pixels left out."""
    pixels = images.float().movedim(1, 0).flatten(1)
    mean = pixels.nanmean(1)
    return mean, (pixels - mean[:, None]).square().nanmean(1).sqrt()

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Augmentation of whole batches on the device, and what it must not change."""

import warnings
from collections.abc import Callable

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torchgeo.datasets.utils import Sample

from ..datasets import MultiModalDataset
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

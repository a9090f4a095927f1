# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""A strong view of images with any number of bands, for losses that compare two."""

from collections.abc import Mapping

import torch
from torch import Generator, Tensor


class RandomStrongView:
    """Cut a hole into each sample and shift and stretch its values.

    The strong view of multi-level logit distillation was published for 8-bit RGB: two
    random operations on colour or geometry, then a grey square. This one stands in for
    it where bands are not colours and values have no fixed range:

    * a hole of missing values, which a classifier fills with the band's mean. Its
      centre is uniform in the image, its sides a fraction of the image's, uniform up to
      *cut*. All modalities of a sample have the hole in the same place;
    * the contrast of a sample is multiplied by a factor uniform in 1 +- *contrast*, the
      same for all bands, and each band is shifted by up to +- *brightness* of its
      scale. Each modality has its own draw.

    It moves no pixels: flips and turns are those of the view that it is given.

    Args:
        cut: Largest side of the hole as a fraction of the image's, 0 to 1.
        contrast: Largest change of the contrast, 0 to 1.
        brightness: Largest shift in units of a band's scale, 0 or more.
        generator: CPU random number generator of the draw. Default: PyTorch's.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.transforms import RandomStrongView
        >>> transform = RandomStrongView(generator=torch.Generator().manual_seed(0))
        >>> images = {'ms': torch.rand(4, 13, 32, 32), 'sar': torch.rand(4, 2, 32, 32)}
        >>> mean = {m: x.mean(dim=(0, 2, 3)) for m, x in images.items()}
        >>> std = {m: x.std(dim=(0, 2, 3)) for m, x in images.items()}
        >>> views = transform(images, center=mean, scale=std)
        >>> holes = {m: x.isnan().any(dim=1) for m, x in views.items()}
        >>> torch.equal(holes['ms'], holes['sar'])  # in the same place
        True
    """

    def __init__(
        self,
        cut: float = 0.5,
        contrast: float = 0.5,
        brightness: float = 0.5,
        generator: Generator | None = None,
    ) -> None:
        """Initialize a new RandomStrongView instance.

        Raises:
            ValueError: If a magnitude is out of range.
        """
        if not (0 <= cut <= 1 and 0 <= contrast <= 1 and brightness >= 0):
            raise ValueError(
                f'cut={cut}, contrast={contrast}, brightness={brightness}: give the '
                'first two from 0 to 1 and the third 0 or more.'
            )
        self.cut = cut
        self.contrast = contrast
        self.brightness = brightness
        self.generator = generator

    def __call__(
        self,
        images: Mapping[str, Tensor],
        center: Mapping[str, Tensor],
        scale: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """Transform the images of a batch.

        Args:
            images: Values by modality, shape (B, C_m, H_m, W_m), of the same B samples.
            center: Value of each band about which its contrast changes, shape (C_m,),
                for example its mean.
            scale: Scale of each band, shape (C_m,), for example its standard deviation.

        Returns:
            New images of the same shapes, at least float32, with NaN in the holes.
        """
        size = len(next(iter(images.values())))
        middle = self._rand(size, 2)
        half = self.cut * self._rand(size, 1) / 2
        views = {}
        for modality, x in images.items():
            contrast = 1 + self.contrast * (2 * self._rand(size) - 1)
            shift = self.brightness * (2 * self._rand(size, x.shape[1]) - 1)
            x = _stretch(x, contrast, shift, center[modality], scale[modality])
            views[modality] = _cut_out(x, middle - half, middle + half)
        return views

    def _rand(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator)


def _stretch(
    x: Tensor, contrast: Tensor, shift: Tensor, center: Tensor, scale: Tensor
) -> Tensor:
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    # drawn on the CPU: the device is not waited for
    center, scale, contrast, shift = (
        v.to(x, non_blocking=True) for v in (center, scale, contrast, shift)
    )
    center, scale = center.view(-1, 1, 1), scale.view(-1, 1, 1)
    contrast, shift = contrast.view(-1, 1, 1, 1), shift[..., None, None]
    return center + contrast * (x - center) + shift * scale


def _cut_out(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Make pixels missing whose row and column are between *low* and *high*, (B, 2)."""
    inside = []
    for axis, count in enumerate(x.shape[-2:]):
        position = (torch.arange(count) + 0.5) / count
        inside.append(
            (position >= low[:, axis, None]) & (position < high[:, axis, None])
        )
    hole = (inside[0].unsqueeze(2) & inside[1].unsqueeze(1)).unsqueeze(1)
    return x.masked_fill(hole.to(x.device, non_blocking=True), torch.nan)

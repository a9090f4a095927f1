# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Normalisation that travels with a classifier, so that it takes raw pixels."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ..errors import BandError

# not infinite: the difference of two infinities is NaN, and callbacks average buffers
LOWEST, HIGHEST = torch.finfo(torch.float32).min, torch.finfo(torch.float32).max


class Normalization(nn.Module):
    """Fill missing pixels, clip, subtract and divide, band by band.

    Its state is five float32 buffers of shape (C,): ``fill``, ``low``, ``high``,
    ``shift`` and ``scale``. A new instance changes no finite value: call :meth:`fit`
    with the statistics of the training split.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.models import Normalization
        >>> normalization = Normalization(in_channels=2)
        >>> normalization.fit(
        ...     mean=[-11, -18], std=[4, 5], low=[-20, -28], high=[-2, -8]
        ... )
        >>> pixels = torch.tensor([[-7.0, torch.nan], [-13.0, -18.0]])
        >>> normalization(pixels.view(1, 2, 1, 2)).view(2, 2)  # NaN becomes the mean
        tensor([[1., 0.],
                [1., 0.]])
    """

    fill: Tensor
    low: Tensor
    high: Tensor
    shift: Tensor
    scale: Tensor

    def __init__(self, in_channels: int) -> None:
        """Initialize a new Normalization instance.

        Args:
            in_channels: Number of bands C.
        """
        super().__init__()
        self.register_buffer('fill', torch.zeros(in_channels))
        self.register_buffer('low', torch.full((in_channels,), LOWEST))
        self.register_buffer('high', torch.full((in_channels,), HIGHEST))
        self.register_buffer('shift', torch.zeros(in_channels))
        self.register_buffer('scale', torch.ones(in_channels))

    def fit(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        low: Sequence[float],
        high: Sequence[float],
        kind: Literal['standardize', 'percentile', 'none'] = 'standardize',
    ) -> None:
        """Set the buffers from statistics of raw pixels, C numbers each.

        A band whose spread is below what float32 resolves at its values counts as
        constant: it is shifted, but not scaled.

        Args:
            mean: Mean of each band; it also replaces missing pixels.
            std: Standard deviation of each band.
            low: Lower end of each band, for example the 2nd percentile.
            high: Upper end of each band, for example the 98th percentile.
            kind: 'standardize' subtracts the mean and divides by the standard
                deviation, 'percentile' clips to [low, high] and scales to [0, 1],
                'none' only replaces missing pixels.

        Raises:
            BandError: If there are not C numbers of each kind, or a number that is
                needed is not finite.
            ValueError: If *kind* is unknown.
        """
        mean_, std_, low_, high_ = (
            self._tensor(name, values)
            for name, values in zip(
                ('mean', 'std', 'low', 'high'), (mean, std, low, high), strict=True
            )
        )
        self.fill.copy_(mean_)
        self.low.fill_(LOWEST)
        self.high.fill_(HIGHEST)
        match kind:
            case 'standardize':
                self.shift.copy_(mean_)
                self.scale.copy_(_divisor(std_, mean_))
            case 'percentile':
                self.low.copy_(low_)
                self.high.copy_(high_)
                self.shift.copy_(low_)
                self.scale.copy_(_divisor(high_ - low_, high_))
            case 'none':
                self.shift.zero_()
                self.scale.fill_(1)
            case _:
                raise ValueError(
                    f"normalization='{kind}': use 'standardize', 'percentile', 'none'."
                )

    @property
    def clips(self) -> Tensor:
        """Whether the values of each band are clipped from below, bool (C,)."""
        # averaging may have rounded the limit
        return self.low > LOWEST / 2

    def forward(self, x: Tensor) -> Tensor:
        """Normalise a batch of raw images.

        Args:
            x: Raw values of any real dtype, shape (B, C, H, W). NaN and infinite pixels
                count as missing.

        Returns:
            Finite values in the dtype of the buffers (float32, unless the module was
            converted), shape (B, C, H, W).

        Raises:
            BandError: If *x* is not of shape (B, C, H, W).
        """
        channels = len(self.fill)
        if x.ndim != 4 or x.shape[1] != channels:
            stack = ' A stack, such as a time series, is not supported: give one image.'
            raise BandError(
                f'Images of shape {tuple(x.shape)} given to a classifier of {channels} '
                f'bands: give shape (B, {channels}, H, W), with the bands in the order '
                f'of training.{stack if x.ndim > 4 else ""}'
            )
        # raw values (reflectance times 10 000) exceed half precision
        values = x.to(torch.promote_types(x.dtype, torch.float32))
        fill, low, high, shift, scale = (
            buffer.to(values.dtype).view(-1, 1, 1)
            for buffer in (self.fill, self.low, self.high, self.shift, self.scale)
        )
        values = torch.where(torch.isfinite(values), values, fill)
        values = torch.minimum(torch.maximum(values, low), high)
        return ((values - shift) / scale).to(self.scale.dtype)

    def extra_repr(self) -> str:
        """Return the number of bands, for the printed form of a model."""
        return f'{len(self.fill)}'

    def _tensor(self, name: str, values: Sequence[float]) -> Tensor:
        tensor = torch.as_tensor(values, dtype=torch.float64, device=self.fill.device)
        if tensor.shape != self.fill.shape or not torch.isfinite(tensor).all():
            raise BandError(
                f'{name}={tensor.tolist()}: the classifier needs {len(self.fill)} '
                'finite numbers, one for each band.'
            )
        return tensor


def _divisor(spread: Tensor, values: Tensor) -> Tensor:
    resolution = torch.finfo(torch.float32).eps * values.abs()
    return torch.where(spread > resolution, spread, torch.ones_like(spread))

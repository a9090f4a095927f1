# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Exact flips and quarter turns."""

from typing import Any

import kornia.augmentation as K
import torch
from torch import Generator, Tensor

#: Probability of each symmetry in training: bit 0 mirrors the columns, bit 1 the rows,
#: bit 2 then transposes. Equal to the authors' chain: with probability 0.5 nothing,
#: else two flips of p=0.5 and, with p=0.5, a turn by 0, 90, 180 or 270 degrees.
SQUARE_PROBABILITIES = (0.59375, 0.09375, 0.09375, 0.09375, *4 * (0.03125,))

#: The same chain where only turns by 0 and 180 degrees keep the shape.
OBLONG_PROBABILITIES = (0.625, 0.125, 0.125, 0.125, *4 * (0.0,))


def apply_symmetry(x: Tensor, symmetry: Tensor) -> Tensor:
    """Apply one of the 8 symmetries of the square to each sample, without resampling.

    Args:
        x: Images of any dtype, shape (B, C, H, W).
        symmetry: int64 of 0 to 7, shape (B,): bit 0 (1) mirrors the columns
            (horizontal flip), bit 1 (2) mirrors the rows (vertical flip), bit 2 (4)
            then swaps rows and columns.

    Returns:
        Images of the shape and dtype of *x*.

    Raises:
        ValueError: If images that are not square are to be transposed.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.transforms import apply_symmetry
        >>> x = torch.tensor([[1, 2], [3, 4]]).view(1, 1, 2, 2)
        >>> apply_symmetry(x, torch.tensor([1])).squeeze()  # columns mirrored
        tensor([[2, 1],
                [4, 3]])
        >>> apply_symmetry(x, torch.tensor([4])).squeeze()  # transposed
        tensor([[1, 3],
                [2, 4]])
    """
    height, width = x.shape[-2:]
    # a symmetry on the CPU is checked there, without waiting for another device
    if height != width and (symmetry & 4).any():
        raise ValueError(
            f'symmetry={symmetry.tolist()} turns images of {height}x{width} pixels by '
            '90 degrees: they must be square.'
        )
    source = _sources(height, width, x.device)[symmetry.to(x.device, non_blocking=True)]
    pixels = x.flatten(2)
    return pixels.gather(2, source.unsqueeze(1).expand_as(pixels)).view(x.shape)


def _sources(height: int, width: int, device: torch.device) -> Tensor:
    """Return where each pixel comes from under each symmetry, (8, H * W)."""
    pixels = torch.arange(height * width, device=device).view(height, width)
    moved = [pixels, pixels.flip(-1), pixels.flip(-2), pixels.flip(-1, -2)]
    # oblong images never get here with a transposition
    transposed = [m.T if height == width else m for m in moved]
    return torch.stack(moved + transposed).flatten(1)


class RandomSymmetry(K.GeometricAugmentationBase2D):
    """Draw one of the 8 symmetries of the square for each sample.

    The draw has the distribution of the augmentation published with DisCoM-KD:
    identity 0.59375; both flips and the half turn 0.09375 each; both quarter turns and
    both diagonal mirrors 0.03125 each. Pixels are moved, never interpolated. Images
    that are not square are never turned by 90 degrees.

    Inside :class:`kornia.augmentation.AugmentationSequential` every image of a sample
    gets the same draw, as with any Kornia transform.

    Args:
        generator: CPU random number generator of the draw. Kornia's own transforms can
            only use PyTorch's global one.
        keepdim: Whether to return a (C, H, W) input as (C, H, W).

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.transforms import RandomSymmetry
        >>> transform = RandomSymmetry(generator=torch.Generator().manual_seed(0))
        >>> x = torch.arange(32.0).view(2, 1, 4, 4)
        >>> y = transform(x)
        >>> y.shape
        torch.Size([2, 1, 4, 4])
        >>> torch.equal(y.flatten(1).sort().values, x.flatten(1))  # pixels only moved
        True
    """

    _compute_matrix_lazily = True

    def __init__(
        self, generator: Generator | None = None, keepdim: bool = False
    ) -> None:
        """Initialize a new RandomSymmetry instance."""
        super().__init__(p=1.0, keepdim=keepdim)
        self.generator = generator

    def generate_parameters(self, batch_shape: tuple[int, ...]) -> dict[str, Tensor]:
        """Draw the symmetries of a batch.

        Args:
            batch_shape: (B, C, H, W).

        Returns:
            'symmetry', int64 of 0 to 7, shape (B,), on the CPU.
        """
        square = batch_shape[-2] == batch_shape[-1]
        weights = torch.tensor(SQUARE_PROBABILITIES if square else OBLONG_PROBABILITIES)
        symmetry = weights.multinomial(
            batch_shape[0], replacement=True, generator=self.generator
        )
        return {'symmetry': symmetry}

    def compute_transformation(
        self, input: Tensor, params: dict[str, Tensor], flags: dict[str, Any]
    ) -> Tensor:
        """Return the matrices that move (x, y) pixel coordinates.

        Args:
            input: Images, shape (B, C, H, W).
            params: What :meth:`generate_parameters` returned.
            flags: Not used.

        Returns:
            Shape (B, 3, 3).
        """
        height, width = input.shape[-2:]
        symmetry = params['symmetry'].to(input.device)
        columns, rows = (
            (symmetry & 1).to(input.dtype),
            (symmetry >> 1 & 1).to(input.dtype),
        )
        matrix: Tensor = self.identity_matrix(input).clone()
        matrix[:, 0, 0] = 1 - 2 * columns
        matrix[:, 0, 2] = columns * (width - 1)
        matrix[:, 1, 1] = 1 - 2 * rows
        matrix[:, 1, 2] = rows * (height - 1)
        transposed = (symmetry & 4).bool().view(-1, 1, 1)
        return torch.where(transposed, matrix[:, [1, 0, 2]], matrix)

    def apply_transform(
        self,
        input: Tensor,
        params: dict[str, Tensor],
        flags: dict[str, Any],
        transform: Tensor | None = None,
    ) -> Tensor:
        """Move the pixels of a batch.

        Args:
            input: Images, shape (B, C, H, W).
            params: What :meth:`generate_parameters` returned.
            flags: Not used.
            transform: Not used.

        Returns:
            Images of the shape and dtype of *input*.
        """
        return apply_symmetry(input, params['symmetry'])

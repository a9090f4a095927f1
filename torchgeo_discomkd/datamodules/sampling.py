# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Shuffling that depends only on seed, epoch and modality."""

import hashlib
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Generator
from torch.utils.data import BatchSampler, Sampler


def seeded_generator(*parts: int | str) -> Generator:
    """Return a CPU random number generator seeded by its arguments.

    Args:
        *parts: Whatever distinguishes one stream from another: seed, epoch, modality.

    Returns:
        A generator whose stream is independent of those of other arguments.

    Example:
        >>> import torch
        >>> first, again = seeded_generator(0, 3, 'sar'), seeded_generator(0, 3, 'sar')
        >>> torch.equal(torch.rand(4, generator=first), torch.rand(4, generator=again))
        True
    """
    digest = hashlib.sha256('/'.join(map(str, parts)).encode()).digest()
    return Generator().manual_seed(int.from_bytes(digest[:8], 'big') >> 1)


class SeededSampler(Sampler[int]):
    """Random permutations that a resumed run repeats exactly.

    Lightning creates the first iterator of a resumed run before it sets the epoch of
    samplers, so the sampler asks for the epoch when it draws a permutation. A second
    pass within an epoch (a short modality that cycles) gets a new permutation.

    Example:
        >>> sampler = SeededSampler(5, seed=0, name='sar', epoch=lambda: 3)
        >>> order = list(sampler)
        >>> sorted(order)
        [0, 1, 2, 3, 4]
        >>> order == list(SeededSampler(5, seed=0, name='sar', epoch=lambda: 3))
        True
    """

    def __init__(
        self, length: int, seed: int, name: str, epoch: Callable[[], int]
    ) -> None:
        """Initialize a new SeededSampler instance.

        Args:
            length: Number of samples.
            seed: Seed of the run.
            name: Name of the stream, e.g. the modality.
            epoch: Function that returns the current epoch.
        """
        self.length = length
        self.seed = seed
        self.name = name
        self.epoch = epoch
        self._drawn = (-1, 0)

    def __len__(self) -> int:
        """Return the number of samples."""
        return self.length

    def __iter__(self) -> Iterator[int]:
        """Yield each position once, in an order determined by seed, epoch and name."""
        epoch, passes = self.epoch(), 0
        if epoch == self._drawn[0]:
            passes = self._drawn[1] + 1
        self._drawn = (epoch, passes)
        generator = seeded_generator(self.seed, epoch, self.name, passes)
        yield from torch.randperm(self.length, generator=generator).tolist()


class RemainderBatchSampler(BatchSampler):
    """Batches with an incomplete last one, but never a last one of a single sample.

    Batch normalisation cannot train on one sample: a remainder of one joins the
    previous batch. Of several processes, each needs two.

    Example:
        >>> list(RemainderBatchSampler(range(9), batch_size=4))
        [[0, 1, 2, 3], [4, 5, 6, 7, 8]]
    """

    def __init__(
        self,
        sampler: Iterable[int],
        batch_size: int,
        drop_last: bool = False,
        least: int = 2,
    ) -> None:
        """Initialize a new RemainderBatchSampler instance.

        Args:
            sampler: Positions of the samples, in their order.
            batch_size: Samples in a batch.
            drop_last: False: a remainder is kept.
            least: Samples without which a remainder is no batch of its own.
        """
        super().__init__(sampler, batch_size, drop_last)
        self.least = least

    def __iter__(self) -> Iterator[list[int]]:
        """Yield batches of positions."""
        previous: list[int] = []
        for batch in super().__iter__():
            if len(batch) < self.least and previous:
                previous = previous + batch
                break
            if previous:
                yield previous
            previous = batch
        if previous:
            yield previous

    def __len__(self) -> int:
        """Return the number of batches."""
        length, size = len(self.sampler), self.batch_size  # ty: ignore[invalid-argument-type]
        return max(1, length // size + (length % size >= self.least))

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Shuffling that depends on (seed, epoch, modality) only."""

import hashlib
from collections.abc import Callable, Iterator

import torch
from torch import Generator
from torch.utils.data import BatchSampler, Sampler


def seeded_generator(*parts: int | str) -> Generator:
    """Return a CPU random number generator fixed by its arguments.

    Args:
        parts: Anything that tells one stream from another: seed, epoch, modality.

    Returns:
        A generator whose stream is independent of those of other arguments.
    """
    digest = hashlib.sha256('/'.join(map(str, parts)).encode()).digest()
    return Generator().manual_seed(int.from_bytes(digest[:8], 'big') >> 1)


class SeededSampler(Sampler[int]):
    """Random permutations that a resumed run repeats exactly.

    Lightning creates the first iterator of a resumed run before it tells samplers
    their epoch, so the epoch is asked for when a permutation is drawn. A second pass
    within an epoch (a short modality that cycles) gets its own permutation.

    Args:
        length: Number of samples.
        seed: Seed of the run.
        name: Name of the stream, e.g. the modality.
        epoch: Returns the current epoch.
    """

    def __init__(
        self, length: int, seed: int, name: str, epoch: Callable[[], int]
    ) -> None:
        """Initialize a new SeededSampler instance."""
        self.length = length
        self.seed = seed
        self.name = name
        self.epoch = epoch
        self._drawn = (-1, 0)

    def __len__(self) -> int:
        """Return the number of samples."""
        return self.length

    def __iter__(self) -> Iterator[int]:
        """Yield each position once, in an order fixed by seed, epoch and name."""
        epoch, passes = self.epoch(), 0
        if epoch == self._drawn[0]:
            passes = self._drawn[1] + 1
        self._drawn = (epoch, passes)
        generator = seeded_generator(self.seed, epoch, self.name, passes)
        yield from torch.randperm(self.length, generator=generator).tolist()


class RemainderBatchSampler(BatchSampler):
    """Batches whose incomplete last one is kept, but never alone with one sample.

    Batch normalisation cannot train on one sample: a remainder of one joins the batch
    before it.
    """

    def __iter__(self) -> Iterator[list[int]]:
        """Yield batches of positions."""
        previous: list[int] = []
        for batch in super().__iter__():
            if len(batch) == 1 and previous:
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
        return max(1, length // size + (length % size > 1))

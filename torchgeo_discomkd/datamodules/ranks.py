# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Batches of one process among several that train together."""

from collections.abc import Collection, Iterator
from itertools import pairwise

from torch.utils.data import BatchSampler, DataLoader
from torchgeo.datasets.utils import Sample

from ..errors import BatchSizeError, SplitError


class RankBatches(BatchSampler):
    """The part of every batch that belongs to one process.

    All processes draw the same batches; each keeps every W-th sample of them, so that
    no sample belongs to two, and the numbers of samples differ by one at most.

    Example:
        >>> batches = [[4, 0, 3, 5], [1, 2]]
        >>> [list(RankBatches(batches, rank, processes=2)) for rank in (0, 1)]
        [[[4, 3], [1]], [[0, 5], [2]]]
    """

    def __init__(
        self, batches: BatchSampler | list[list[int]], rank: int, processes: int
    ) -> None:
        """Initialize a new RankBatches instance.

        Args:
            batches: Batches of all processes together, drawn again for each epoch.
            rank: Number of this process, from 0.
            processes: Number of processes W.
        """
        self.batches = batches
        self.rank = rank
        self.processes = processes

    def __iter__(self) -> Iterator[list[int]]:
        """Yield batches of positions."""
        for batch in self.batches:
            yield batch[self.rank :: self.processes]

    def __len__(self) -> int:
        """Return the number of batches, the same for all processes."""
        return len(self.batches)


class EvenBatches(BatchSampler):
    """Batches of one process to evaluate: each sample once, in one of the processes.

    All processes have the same number of batches, none of them empty, because PyTorch's
    DistributedDataParallel waits for all of them in each.

    Example:
        >>> [list(EvenBatches(7, 2, rank, processes=2)) for rank in (0, 1)]
        [[[0, 2], [4, 6]], [[1, 3], [5]]]
    """

    def __init__(self, length: int, batch_size: int, rank: int, processes: int) -> None:
        """Initialize a new EvenBatches instance.

        Args:
            length: Number of samples, one for each process or more.
            batch_size: Samples in a batch; one more if there would be empty ones else.
            rank: Number of this process, from 0.
            processes: Number of processes.
        """
        self.batch_size = batch_size
        self.positions = list(range(rank, length, processes))
        most, least = -(-length // processes), length // processes
        self.number = min(-(-most // batch_size), least)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield batches of positions."""
        count, number = len(self.positions), self.number
        # full ones first, as long as one sample is left for each of the others
        ends = [min(i * self.batch_size, count - number + i) for i in range(number)]
        for first, last in pairwise([*ends, count]):
            yield self.positions[first:last]

    def __len__(self) -> int:
        """Return the number of batches, the same for all processes."""
        return self.number


class DividedLoader:
    """A data loader that Lightning takes as it is: it would divide it once more."""

    def __init__(self, loader: DataLoader[Sample]) -> None:
        """Initialize a new DividedLoader instance.

        Args:
            loader: The loader of one process.
        """
        self.loader = loader
        self.dataset = loader.dataset

    def __iter__(self) -> Iterator[Sample]:
        """Yield batches."""
        return iter(self.loader)

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.loader)


def check_training(lengths: Collection[int], batch_size: int, processes: int) -> None:
    """Check that every process gets samples in every training batch.

    Args:
        lengths: Number of training samples, of each modality if they are not paired.
        batch_size: Samples in a batch of one process.
        processes: Number of processes.

    Raises:
        BatchSizeError: If a process would have less than two samples in a batch, or
            there are more processes than batches.
    """
    smallest = min(lengths)
    if min(batch_size, smallest // processes) < 2:
        among = f' for {processes} processes' if processes > 1 else ''
        raise BatchSizeError(
            f'batch_size={batch_size} with {smallest} training samples{among}: batch '
            'normalisation needs at least 2 samples in every training batch.'
        )
    batches = -(-max(lengths) // batch_size)
    if processes > batches:
        raise BatchSizeError(
            f'{processes} processes, but only {batches} batches of batch_size='
            f'{batch_size} in {max(lengths)} training samples: use fewer processes '
            '(--trainer.devices, --trainer.num_nodes), or smaller batches '
            '(--data.batch_size, which is that of each process).'
        )


def check_evaluated(length: int, split: str, processes: int) -> None:
    """Check that every process gets a sample to evaluate.

    Args:
        length: Number of samples.
        split: Their split.
        processes: Number of processes.

    Raises:
        SplitError: If there are more processes.
    """
    if length < processes:
        raise SplitError(
            f'the split {split!r} has {length} samples, fewer than the {processes} '
            'processes: use fewer (--trainer.devices, --trainer.num_nodes).'
        )

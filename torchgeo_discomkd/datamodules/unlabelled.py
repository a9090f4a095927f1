# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Samples without labels in training batches."""

from collections.abc import Collection, Iterator
from itertools import chain, islice, repeat

from ..datasets import JoinedDataset, MultiModalDataset, check_unlabelled
from ..errors import SettingError, SplitError
from .sampling import RemainderBatchSampler, SeededSampler


def check_ratio(ratio: float) -> None:
    """Check the number of samples without labels for each labelled one.

    Args:
        ratio: The number.

    Raises:
        SettingError: If it is negative, infinite or NaN.
    """
    if not 0 <= ratio < float('inf'):
        raise SettingError(
            f'unlabelled_ratio={ratio}: give 0, which leaves samples without labels '
            'out, or more.'
        )


def uses_unlabelled(
    datasets: Collection[MultiModalDataset],
    ratio: float,
    batch_size: int,
    task: object | None,
) -> bool:
    """Return whether training batches hold samples without labels.

    Args:
        datasets: The training split: one data set of all modalities if batches are
            paired, else one of each modality.
        ratio: Samples without labels for each labelled one.
        batch_size: Labelled samples in a batch.
        task: The task that is trained, if it is known; with the attribute
            *uses_unlabelled* set if it can use them.

    Raises:
        SettingError: If the task cannot use them, or *ratio* has no effect.
        SplitError: If a data set has none, though some are named.
    """
    counts = [(d.modalities, d.unlabelled_samples) for d in datasets]
    named = any(count is not None for _, count in counts)
    if not named and ratio not in (0, 1):
        raise SettingError(
            f'unlabelled_ratio={ratio}, but the data have no samples without labels: '
            'name them (--data.unlabelled, --data.unlabelled_groups), or leave the '
            'ratio out.'
        )
    if not named or ratio == 0:
        return False
    if lacking := [' and '.join(m) for m, count in counts if not count]:
        raise SplitError(
            f'no sample without a label is left for {", ".join(lacking)} (paired '
            "batches and missing='skip' need those with all modalities): add images to "
            'the unlabelled folder or groups, name others, or leave them out with '
            '--data.unlabelled_ratio 0.'
        )
    found = max(count or 0 for _, count in counts)
    if task is not None and not getattr(task, 'uses_unlabelled', False):
        raise SettingError(
            f'{type(task).__name__} cannot learn from the {found} samples without '
            'labels: leave them out with --data.unlabelled_ratio 0.'
        )
    if round(ratio * batch_size) == 0:
        raise SettingError(
            f'unlabelled_ratio={ratio} adds no sample to {batch_size} labelled ones: '
            f'give {1 / batch_size:.3g} or more, or 0.'
        )
    return True


def join(labelled: MultiModalDataset, unlabelled: MultiModalDataset) -> JoinedDataset:
    """Check samples without labels, and append them to the training split.

    Args:
        labelled: The training split.
        unlabelled: The split 'unlabelled'.

    Raises:
        UserError: If their files, bands, sizes or values cannot be used.
    """
    joined = JoinedDataset(labelled, unlabelled)
    check_unlabelled(unlabelled)
    return joined


class UnlabelledBatchSampler(RemainderBatchSampler):
    """Batches of labelled samples, each followed by samples without labels.

    An epoch is one pass over the labelled samples; the others are drawn in a cycle of
    random permutations, begun anew in every epoch. A batch of n labelled samples gets
    round(*ratio* n) of them.

    Example:
        >>> unlabelled = SeededSampler(2, seed=0, name='sar', epoch=lambda: 0)
        >>> batches = list(UnlabelledBatchSampler(range(9), 4, unlabelled, ratio=0.5))
        >>> [len(batch) for batch in batches], sorted(batches[0])
        ([6, 7], [0, 1, 2, 3, 9, 10])
    """

    def __init__(
        self,
        sampler: SeededSampler,
        batch_size: int,
        unlabelled: SeededSampler,
        ratio: float,
        least: int = 2,
    ) -> None:
        """Initialize a new UnlabelledBatchSampler instance.

        Args:
            sampler: Positions of the labelled samples.
            batch_size: Labelled samples in a batch.
            unlabelled: Positions of the samples without labels, counted from 0.
            ratio: Samples without labels for each labelled one.
            least: As for :class:`RemainderBatchSampler`.
        """
        super().__init__(sampler, batch_size, drop_last=False, least=least)
        self._first = len(sampler)
        self._unlabelled = unlabelled
        self._ratio = ratio

    def __iter__(self) -> Iterator[list[int]]:
        """Yield batches of positions in a :class:`JoinedDataset`."""
        # a new permutation whenever one is used up
        drawn = chain.from_iterable(repeat(self._unlabelled))
        for batch in super().__iter__():
            added = islice(drawn, round(self._ratio * len(batch)))
            yield batch + [self._first + position for position in added]

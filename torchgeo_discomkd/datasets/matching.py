# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Samples that all modalities have."""

from collections.abc import Mapping

from .stores import Key, first_few


def complete_samples(tiles: Mapping[str, Mapping[Key, int]]) -> set[Key]:
    """Return the samples that every modality has.

    Args:
        tiles: The tiles of each modality.

    Returns:
        Their (class, name).
    """
    first, *others = tiles.values()
    return set(first).intersection(*others)


def describe_incomplete(tiles: Mapping[str, Mapping[Key, int]]) -> str | None:
    """Describe which samples some modalities lack.

    Args:
        tiles: The tiles of each modality.

    Returns:
        A message with numbers and examples; None if all modalities are complete.
    """
    union = set().union(*tiles.values())
    lacking = {
        m: sorted(union - t.keys()) for m, t in tiles.items() if union - t.keys()
    }
    if not lacking:
        return None
    count = len(union) - len(complete_samples(tiles))
    parts = [
        f'{m} lacks {len(keys)} ({first_few(map(sample_text, keys))})'
        for m, keys in lacking.items()
    ]
    return f'{count} of {len(union)} samples are not in every modality: ' + '; '.join(
        parts
    )


def sample_text(key: Key) -> str:
    """Return '<Class>/<name>' of a sample; of one with several classes, its name.

    Args:
        key: Its class, or nothing, and its name.
    """
    return '/'.join(filter(None, key))

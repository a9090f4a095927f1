# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Names and selection of bands."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import BandError, ModalityError


def check_keys(known: Iterable[str], *mappings: Mapping[str, Any] | None) -> None:
    """Check that arguments by modality name modalities of the data only.

    Args:
        known: Names of all modalities.
        *mappings: Arguments with modalities as keys.

    Raises:
        ModalityError: If a modality is unknown.
    """
    names = list(known)
    for mapping in mappings:
        if unknown := [name for name in mapping or () if name not in names]:
            raise ModalityError(f'Unknown modalities {unknown}: the data have {names}.')


def check_band_names(
    modality: str, names: Sequence[str] | None, count: int, path: str | Path
) -> tuple[str, ...]:
    """Check the names of all bands of a modality, or number them.

    Args:
        modality: The modality, for the message.
        names: One name for each band in the order of the file; None numbers them.
        count: Number of bands in the file.
        path: The file, for the message.

    Returns:
        The names, 'B1', 'B2', ... if None were given.

    Raises:
        BandError: If number and names do not match, or a name is given twice.
    """
    if names is None:
        return tuple(f'B{i + 1}' for i in range(count))
    if len(names) != count or len(set(names)) != count:
        raise BandError(
            f"band_names of '{modality}' are {list(names)}, but {path} has {count} "
            'bands: give each band its own name.'
        )
    return tuple(names)


def band_positions(
    modality: str, wanted: Sequence[str] | None, names: Sequence[str]
) -> list[int]:
    """Find bands by name.

    Args:
        modality: The modality, for the message.
        wanted: Names of the bands to read, in order; None for all.
        names: Names of all bands in the order of the file.

    Returns:
        Positions of the bands in the file, the first being 0.

    Raises:
        BandError: If a name is unknown or given twice, or there is none.
    """
    if wanted is None:
        return list(range(len(names)))
    unknown = [name for name in wanted if name not in names]
    if unknown or not wanted or len(set(wanted)) < len(wanted):
        raise BandError(
            f"bands of '{modality}' are {list(wanted)}: give each at most once, out of "
            f'{list(names)}.'
        )
    return [names.index(name) for name in wanted]

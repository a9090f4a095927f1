# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""How an image was understood, and what speaks against it."""

import math
from collections.abc import Sequence

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio import CRS
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT

from ..errors import SettingError
from ..metadata import ImageProfile
from .decoding import alpha_bands, has_mask, scaling
from .pixel_size import pixel_size, same_size
from .scale import DIVISORS, Unit
from .unusual import distances

#: An image is unusual if more than this share of its windows are.
MOST_UNUSUAL = 0.1


def check_profile(profile: ImageProfile | None, strict: bool, resample: bool) -> None:
    """Check that a classifier file says what the options need.

    Args:
        profile: What the training tiles look like; None if the file does not say.
        strict: Whether unusual images are refused.
        resample: Whether images are read with pixels of the size in training.

    Raises:
        SettingError: If it does not.
    """
    again = 'omit it, or train again with this version and georeferenced tiles.'
    if strict and profile is None:
        raise SettingError(
            'strict=True: the classifier file does not say what its training tiles '
            f'look like: {again}'
        )
    if resample and (profile is None or profile.pixel_size is None):
        raise SettingError(
            'resample=True: the classifier file does not say how large the pixels of '
            f'its training tiles are: {again}'
        )


def doubt_values(
    windows: NDArray[np.float32],
    bands: tuple[str, ...],
    profile: ImageProfile | None,
    amplitude: NDArray[np.float32] | None = None,
) -> list[str]:
    """Say how the values of an image differ from those of training tiles.

    Args:
        windows: The image in the unit of the classifier, or windows from all over it:
            shape (N, C, H, W), missing pixels NaN.
        bands: Names of the C bands.
        profile: What the training tiles look like; None if that is unknown.
        amplitude: The same windows if the file holds amplitude instead of power; None
            if it cannot.

    Returns:
        One sentence; none unless more than :data:`MOST_UNUSUAL` of the windows are
        unusual, and at least two if there are several.
    """
    doubt = None if profile is None else _doubt(windows, bands, profile)
    if doubt is None:
        return []
    if amplitude is not None and profile and not _doubt(amplitude, bands, profile):
        doubt += ', but not if the file holds amplitude: add --scale amplitude'
    return [doubt]


def as_amplitude(
    windows: NDArray[np.float32], given: Unit | None, stated: bool, unit: str
) -> NDArray[np.float32] | None:
    """Return what an image would be if amplitude was taken for linear power.

    Args:
        windows: The image, any shape.
        given: Unit in the file.
        stated: Whether the user stated it.
        unit: Unit of *windows*, 'dB' or 'linear'.

    Returns:
        The image in the same unit; None if the file does not hold amplitude.
    """
    if given != 'linear' or stated:
        return None
    return 2 * windows if unit == 'dB' else windows**2


def _doubt(
    windows: NDArray[np.float32], bands: tuple[str, ...], profile: ImageProfile
) -> str | None:
    present = windows[np.isfinite(windows).any(axis=(1, 2, 3))]
    unusual = sorted(d for d in distances(present, bands, profile) if d.unusual)
    least = min(len(present), 2)
    if len(unusual) <= MOST_UNUSUAL * len(present) or len(unusual) < least:
        return None
    typical = unusual[len(unusual) // 2].reason
    if len(present) == 1:
        return typical
    share = len(unusual) / len(present)
    return f'{100 * share:.0f} % of the windows are unusual ({typical})'


def doubt_pixel_size(
    crs: CRS | None,
    transform: Affine | None,
    shape: tuple[int, int],
    profile: ImageProfile | None,
) -> list[str]:
    """Say if the pixels of an image differ in size from those of training tiles.

    Args:
        crs: Coordinate reference system of the image.
        transform: Its transform.
        shape: Its height and width.
        profile: What the training tiles look like.

    Returns:
        One sentence; none if the sizes are the same within a quarter, or one is
        unknown.
    """
    own = pixel_size(crs, transform, *shape)
    trained = None if profile is None else profile.pixel_size
    if own is None or trained is None or same_size(own, trained):
        return []
    return [f'pixels of {own:.3g} m, in training {trained:.3g} m']


def describe_file(
    file: DatasetReader | WarpedVRT,
    positions: Sequence[int],
    named: bool,
    nodata: float | None,
    resampled_to: float | None = None,
    override: Sequence[str] | None = None,
) -> list[str]:
    """Describe how the numbers in a file are decoded.

    Args:
        file: The file.
        positions: Positions of the bands that are read.
        named: Whether the bands are identified by name.
        nodata: The nodata value that the user states.
        resampled_to: Size of pixels in metres to which they are resampled.
        override: Names or numbers of the bands that the user states.

    Returns:
        Parts of a sentence.
    """
    parts = ['bands by name' if named else 'bands by order']
    if override is not None:
        parts = [f'bands {",".join(override)} as stated']
    for tag in dict.fromkeys(scaling(file, band) for band in positions):
        if tag is not None:
            scale, offset = tag
            plus = f' and offset {offset:g}' if offset else ''
            parts.append(f'scale {scale:g}{plus} from the file')
    # NaN is missing in any file
    values = {file.nodatavals[b] for b in positions} - {None}
    values = sorted(v for v in values if not math.isnan(v))
    parts += [f'nodata {value:g} from the file' for value in values]
    if has_mask(file) or alpha_bands(file):
        parts.append('mask from the file')
    if nodata is not None:
        parts.append(f'nodata {nodata:g} as stated')
    if resampled_to is not None:
        parts.append(f'pixels of {resampled_to:.3g} m')
    return parts


def describe_files(bands: Sequence[str], parts: Sequence[Sequence[str]]) -> list[str]:
    """Describe how the numbers in files of one band each are decoded.

    Args:
        bands: Name of the band in each file.
        parts: What :func:`describe_file` says of each.

    Returns:
        Parts of a sentence, which name the band unless they are the same for all.
    """
    own = [list(described[1:]) for described in parts]
    same = all(described == own[0] for described in own)
    named = [f'{b}: {part}' for b, of in zip(bands, own, strict=True) for part in of]
    return ['one file for each band', *(own[0] if same else named)]


def describe_unit(given: Unit | None, unit: str, stated: bool) -> str:
    """Describe in which unit values are, and what becomes of them.

    Args:
        given: Unit in the file; None if it was not looked for.
        unit: Unit of the classifier.
        stated: Whether the user stated *given*, which is otherwise guessed.

    Returns:
        Part of a sentence.
    """
    if given is None:
        return f'values taken as they are ({unit or "unknown"})'
    words = {'linear': 'linear power'} | {k: f'dB x {v}' for k, v in DIVISORS.items()}
    source = 'as stated' if stated else 'by its values'
    converted = '' if given == unit else f', converted to {words.get(unit, unit)}'
    return f'{words.get(given, given)} {source}{converted}'

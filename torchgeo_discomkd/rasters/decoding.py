# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""From the numbers in a file to measured values: missing pixels, scale and offset."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from ..errors import BandError, CorruptFileError


def read_bands(
    file: DatasetReader | WarpedVRT,
    indexes: Sequence[int],
    window: Window | None = None,
    nodata: float | None = None,
) -> NDArray[np.float32]:
    """Read bands of an open file as measured values.

    Infinite values and pixels that the file declares as invalid in any of GDAL's ways
    (nodata value, mask inside or next to the file, alpha band) become NaN; a declared
    scale and offset are applied.

    Args:
        file: The file.
        indexes: Positions of the bands to read, the first being 0.
        window: Part of the image to read. Default: all of it.
        nodata: A number in the file, before scale and offset, that stands for missing
            pixels although the file does not say so.

    Returns:
        float32 array of shape (C, H, W), missing pixels NaN.

    Raises:
        BandError: If values are complex or positions in a colour palette.
        RasterioError: If the file is truncated.
    """
    check_values(file, indexes)
    array = file.read([band + 1 for band in indexes], window=window)
    image = missing_to_nan(array)
    for row, band in enumerate(indexes):
        if (tag := scaling(file, band)) is not None:
            image[row] = array[row] * np.float64(tag[0]) + tag[1]
        for value in (file.nodatavals[band], nodata):
            if value is not None:
                image[row][is_value(array[row], value)] = np.nan
        if _has_own_mask(file, band):
            image[row][file.read_masks(band + 1, window=window) == 0] = np.nan
    # GDAL's masks know an alpha band only after one or three others
    for band in alpha_bands(file):
        if band not in indexes:
            image[:, file.read(band + 1, window=window) == 0] = np.nan
    return image


def scaling(file: DatasetReader | WarpedVRT, band: int) -> tuple[float, float] | None:
    """Return the scale and the offset that a file declares.

    Args:
        file: The file.
        band: Position of the band, the first being 0.

    Returns:
        Values are number x scale + offset; None if the numbers are the values.

    Raises:
        CorruptFileError: If nothing would be left of the numbers.
    """
    tag = file.scales[band], file.offsets[band]
    if tag[0] == 0 or not np.isfinite(tag).all():
        raise CorruptFileError(
            f'{file.name} declares scale {tag[0]:g} and offset {tag[1]:g} for band '
            f'{band + 1}, which leave nothing of its numbers: correct them, for '
            'example with "gdal_edit.py -scale 1 -offset 0".'
        )
    return None if tag == (1, 0) else tag


def alpha_bands(file: DatasetReader | WarpedVRT) -> list[int]:
    """Return the positions of alpha bands, which say which pixels are valid.

    Args:
        file: The file.
    """
    return [i for i, c in enumerate(file.colorinterp) if c == ColorInterp.alpha]


def has_mask(file: DatasetReader | WarpedVRT) -> bool:
    """Return whether a mask says which pixels are valid, inside or next to the file.

    Args:
        file: The file.
    """
    return any(
        MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags
        for flags in file.mask_flag_enums
    )


def check_single_mask(
    file: DatasetReader | WarpedVRT, nodata: float | None = None
) -> None:
    """Check that a file can be warped without losing which pixels are missing.

    A mask is lost in warping if a nodata value or an alpha band is there, too.

    Args:
        file: The file.
        nodata: A nodata value that the user states.

    Raises:
        CorruptFileError: If it cannot.
    """
    values = [v for v in (nodata, file.nodata) if v is not None]
    if not has_mask(file) or not (values or alpha_bands(file)):
        return
    advice = 'remove one of the two first.'
    if values:
        advice = (
            'unite them first with "gdalwarp -srcnodata None -dstnodata '
            f'{values[0]:g} {file.name} united.tif".'
        )
    raise CorruptFileError(
        f'{file.name} declares missing pixels both by a mask and by '
        f'{"a nodata value" if values else "an alpha band"}, of which warping can keep '
        f'only one: {advice}'
    )


def _has_own_mask(file: DatasetReader | WarpedVRT, band: int) -> bool:
    """Return whether GDAL's mask of a band adds to nodata value and alpha bands."""
    flags = {*file.mask_flag_enums[band]}
    # both together mean NODATA_VALUES, one value for each band
    repeats = flags == {MaskFlags.nodata}
    return not repeats and not flags & {MaskFlags.all_valid, MaskFlags.alpha}


def is_value(array: NDArray[Any], value: float) -> NDArray[np.bool_]:
    """Return where an array has a value, in the precision of the array.

    Args:
        array: Numbers of any type and shape.
        value: The value; one that the type of the array cannot hold is nowhere.
    """
    if array.dtype.kind == 'f':
        with np.errstate(over='ignore'):
            return array == array.dtype.type(value)
    return array == value


def missing_to_nan(
    array: NDArray[Any], nodata: float | None = None
) -> NDArray[np.float32]:
    """Copy values as float32, with infinite ones as NaN.

    Args:
        array: Numbers of any type and shape.
        nodata: A number that stands for missing pixels.

    Returns:
        float32 array of the same shape.

    Example:
        >>> import numpy as np
        >>> missing_to_nan(np.array([1.5, -9999, np.inf]), nodata=-9999)
        array([1.5, nan, nan], dtype=float32)
    """
    with np.errstate(over='ignore'):
        image = np.array(array, np.float32)
    if array.dtype.kind == 'f':
        image[~np.isfinite(image)] = np.nan
    if nodata is not None:
        image[is_value(array, nodata)] = np.nan
    return image


def check_values(file: DatasetReader | WarpedVRT, indexes: Sequence[int]) -> None:
    """Check that bands of an open file hold measured values.

    Args:
        file: The file.
        indexes: Positions of the bands, the first being 0.

    Raises:
        BandError: If values are complex or positions in a colour palette.
    """
    for band in indexes:
        refuse_complex(file.name, file.dtypes[band].startswith('complex'))
        if file.colorinterp[band] == ColorInterp.palette:
            raise BandError(
                f'{file.name} holds positions in a colour palette: convert it to RGB '
                'first.'
            )


def refuse_complex(name: str, is_complex: bool) -> None:
    """Refuse complex values.

    Args:
        name: Name of the image, for the message.
        is_complex: Whether its values are complex.

    Raises:
        BandError: If they are.
    """
    if is_complex:
        raise BandError(
            f'{name} holds complex values: detect them first (amplitude, power or dB).'
        )

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Figures of samples with several modalities."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor
from torchgeo.datasets.utils import Sample

from ..rasters.scale import convert_scale, guess_scale
from .multilabel import label_names

type Values = NDArray[np.float64]

# Reflectance that is shown black: what the air alone scatters, so that forest is green
# and not blue. From "Sentinel-2 L1C True Color Optimized" of
# https://custom-scripts.sentinel-hub.com; 0.25 above it is white.
_HAZE = {'B04': 0.013, 'B03': 0.024, 'B02': 0.041}
_BRIGHT = 0.25

# Reflectance is below this, digital numbers of any tile (times 10 000) reach above.
_HIGHEST_REFLECTANCE = 10

# Backscatter in dB from smooth water to towns, and what VV has more than VH.
_BACKSCATTER = {'VV': (-22, 0), 'VH': (-28, -6)}
_DIFFERENCE = (0, 14)


def plot_sample(
    sample: Sample | Mapping[str, Any],
    bands: Mapping[str, Sequence[str]],
    classes: Sequence[str],
    show_titles: bool = True,
    suptitle: str | None = None,
) -> Figure:
    """Show the modalities of a sample side by side.

    Args:
        sample: 'image_<modality>' of shape (C, H, W) for one modality or more, and, if
            known, a 'label' or 'label_<modality>' and a 'prediction' (a label, or a
            label for each modality).
        bands: Names of the bands of each modality; they decide the colours.
        classes: Names of the classes.
        show_titles: Whether to write modality, label and prediction above each panel.
        suptitle: Title of the figure.

    Returns:
        A figure with one panel for each modality of *bands* that the sample holds.
    """
    shown = [m for m in bands if f'image_{m}' in sample]
    figure, axes = plt.subplots(
        ncols=len(shown),
        figsize=(4 * len(shown), 4.5),
        squeeze=False,
        layout='constrained',
    )
    for axis, modality in zip(axes[0], shown, strict=True):
        image = render(sample[f'image_{modality}'], bands[modality])
        axis.imshow(image, cmap='gray', vmin=0, vmax=1)
        axis.axis('off')
        if show_titles:
            # names of classes are no formulas
            axis.set_title(_title(sample, modality, classes), parse_math=False)
    if suptitle is not None:
        figure.suptitle(suptitle)
    return figure


def render(image: Tensor, bands: Sequence[str]) -> NDArray[np.float64]:
    """Render an image for display.

    B04, B03, B02 are shown in true colour, VV and VH in dB as the composite VV, VH,
    VV - VH, or one of them in grey. Each band has the same stretch in all images, so
    that pictures can be compared. Nothing is known of other bands: three are shown as
    red, green, blue, others by the first one, whole numbers up to 255 as they are and
    any other values from the 2nd to the 98th percentile of the image.

    Args:
        image: Raw values, shape (C, H, W), missing pixels NaN: of B04, B03, B02
            reflectance or 10 000 times that; of VV and VH dB or linear power, which
            their values tell apart.
        bands: Names of its bands.

    Returns:
        Values in [0, 1] of shape (H, W, 3), or (H, W) for a single channel; missing
        pixels 0.
    """
    values: Values = image.detach().cpu().numpy().astype(np.float64)
    values[~np.isfinite(values)] = np.nan
    places = {band: place for place, band in enumerate(bands)}
    polarisations = [band for band in _BACKSCATTER if band in places]
    if set(_HAZE) <= set(places):
        channels = _true_colour(values[[places[band] for band in _HAZE]])
    elif polarisations:
        shown = [places[band] for band in polarisations]
        channels = _backscatter(values[shown], polarisations)
    else:
        channels = _stretch(values if len(values) == 3 else values[:1])
    return np.moveaxis(channels, 0, -1) if len(channels) == 3 else channels[0]


def _true_colour(colours: Values) -> Values:
    unit = 10_000 if np.nanmax(colours, initial=0) > _HIGHEST_REFLECTANCE else 1
    haze = np.array(list(_HAZE.values()))[:, None, None]
    return _scale(colours / unit, haze, haze + _BRIGHT)


def _backscatter(values: Values, bands: Sequence[str]) -> Values:
    ranges = [_BACKSCATTER[band] for band in bands]
    unit = guess_scale(values.astype(np.float32))
    if unit is not None:
        # power of 0 or less, where noise was removed, becomes NaN, which is black
        values = convert_scale(values.astype(np.float32), unit, 'dB').astype(float)
    if len(bands) == 2:
        values = np.concatenate([values, values[:1] - values[1:]])
        ranges.append(_DIFFERENCE)
    if unit is None:
        # no backscatter, but pictures or digital numbers
        return np.concatenate([_stretch(values[i : i + 1]) for i in range(len(values))])
    limits = np.array(ranges, float)[:, :, None, None]
    return _scale(values, limits[:, 0], limits[:, 1])


def _stretch(values: Values) -> Values:
    present = values[~np.isnan(values)]
    if not present.size:
        return np.zeros_like(values)
    low, high = np.percentile(present, (2, 98))
    if present.min() >= 0 and present.max() <= 255 and (present % 1 == 0).all():
        low, high = 0, 255
    return _scale(values, low, high if high > low else low + 1)


def _scale(values: Values, low: float | Values, high: float | Values) -> Values:
    return np.nan_to_num(np.clip((values - low) / (high - low), 0, 1), nan=0)


def _title(
    sample: Sample | Mapping[str, Any], modality: str, classes: Sequence[str]
) -> str:
    lines = [modality]
    label = sample.get(f'label_{modality}', sample.get('label'))
    if label is not None:
        lines.append(f'Label: {_name(label, classes)}')
    prediction: Any = sample.get('prediction')
    if isinstance(prediction, Mapping):
        prediction = prediction.get(modality)
    if prediction is not None:
        lines.append(f'Prediction: {_name(prediction, classes)}')
    return '\n'.join(lines)


def _name(label: Any, classes: Sequence[str]) -> str:
    if getattr(label, 'ndim', 0):
        return '; '.join(label_names(label, classes)) or 'none'
    # -1 would be the last class
    return 'none' if int(label) < 0 else classes[int(label)]

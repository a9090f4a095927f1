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

_TRUE_COLOUR = ('B04', 'B03', 'B02')
_POLARISATIONS = ('VV', 'VH')


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

    B04, B03, B02 are shown in true colour, VV and VH as the composite VV, VH, VV - VH
    (in dB their ratio), three bands as red, green, blue and anything else by its first
    band. Values are stretched from their 2nd to their 98th percentile: over all colours
    together, but over each polarisation separately.

    Args:
        image: Raw values, shape (C, H, W), missing pixels NaN.
        bands: Names of its bands.

    Returns:
        Values in [0, 1] of shape (H, W, 3), or (H, W) for a single channel; missing
        pixels 0.
    """
    values = image.detach().cpu().numpy().astype(np.float64)
    named = dict(zip(bands, values, strict=True))
    if set(_TRUE_COLOUR) <= set(named):
        channels = _stretch(np.stack([named[band] for band in _TRUE_COLOUR]))
    elif set(_POLARISATIONS) <= set(named):
        vv, vh = (named[band] for band in _POLARISATIONS)
        channels = np.stack([_stretch(channel) for channel in (vv, vh, vv - vh)])
    elif len(values) == 3:
        channels = _stretch(values)
    else:
        return _stretch(values[0])
    return np.moveaxis(channels, 0, -1)


def _stretch(values: NDArray[np.float64]) -> NDArray[np.float64]:
    finite = np.isfinite(values)
    if not finite.any():
        return np.zeros_like(values)
    low, high = np.percentile(values[finite], (2, 98))
    scaled = (values - low) / (high - low if high > low else 1)
    return np.where(finite, np.clip(scaled, 0, 1), 0)


def _title(
    sample: Sample | Mapping[str, Any], modality: str, classes: Sequence[str]
) -> str:
    lines = [modality]
    label = sample.get(f'label_{modality}', sample.get('label'))
    if label is not None:
        # -1 would be the last class
        name = 'none' if int(label) < 0 else classes[int(label)]
        lines.append(f'Label: {name}')
    prediction: Any = sample.get('prediction')
    if isinstance(prediction, Mapping):
        prediction = prediction.get(modality)
    if prediction is not None:
        lines.append(f'Prediction: {classes[int(prediction)]}')
    return '\n'.join(lines)

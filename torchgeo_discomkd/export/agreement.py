# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""How well an exported file that computes less exactly agrees with its source."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import ClassifierFileError
from ..models import LoadedClassifier
from .comparison import Classify

#: A file with fewer of the labels of its source is not worth having.
LEAST = 0.9

#: Images that are classified at a time.
_BATCH = 64


@dataclass(frozen=True)
class Agreement:
    """Probabilities and labels of an int8 file beside those of the classifier file."""

    #: Number of tiles that the scales were chosen by.
    calibration_tiles: int

    #: Number of tiles that both classified.
    check_tiles: int

    #: Largest absolute difference of a probability, 0 to 1.
    largest_difference: float

    #: Mean absolute difference of a probability.
    mean_difference: float

    #: Part of the tiles that have the same label, 0 to 1.
    label_agreement: float

    def describe(self) -> dict[str, str | int | float]:
        """Return all of it, for metadata."""
        return {'type': 'int8', **asdict(self)}


def measure_agreement(
    loaded: LoadedClassifier,
    readers: Sequence[Classify],
    tiles: NDArray[np.float32],
    calibration_tiles: int,
) -> Agreement:
    """Compare an exported file with its classifier file.

    Args:
        loaded: The classifier as its file has it.
        readers: What may run the exported file: the worst counts.
        tiles: Raw values, float32, shape (N, C, H, W).
        calibration_tiles: Number of tiles that the scales were chosen by.

    Returns:
        How well they agree.

    Raises:
        ClassifierFileError: If fewer than 90 % of the labels are the same.
    """
    batches = [tiles[i : i + _BATCH] for i in range(0, len(tiles), _BATCH)]
    with torch.inference_mode():
        right = np.concatenate(
            [loaded.probabilities(torch.from_numpy(b)).numpy() for b in batches]
        )
    found = [np.concatenate([read(b) for b in batches]) for read in readers]
    differences = [np.abs(probabilities - right) for probabilities in found]
    labels = right.argmax(axis=1)
    agreement = Agreement(
        calibration_tiles=calibration_tiles,
        check_tiles=len(tiles),
        largest_difference=float(max(d.max() for d in differences)),
        mean_difference=float(max(d.mean() for d in differences)),
        label_agreement=float(min((p.argmax(axis=1) == labels).mean() for p in found)),
    )
    if agreement.label_agreement < LEAST:
        raise ClassifierFileError(
            f'Only {agreement.label_agreement:.0%} of {len(tiles)} tiles have the label '
            f'that the classifier file gives them, less than {LEAST:.0%}: nothing was '
            'written. Calibrate by more training tiles, of all classes, or export '
            'without quantization.'
        )
    return agreement

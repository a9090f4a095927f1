# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Options that tiles and scenes have in common, beside those of reading."""

from ..errors import SettingError
from ..tables.prediction import UNCERTAIN
from .predictor import Predictor

#: Memory of GDAL in bytes: pixels are read once, it need not keep 5 % of all memory.
CACHE_BYTES = 64 * 2**20


def check_options(
    predictor: Predictor, batch_size: int, workers: int, min_confidence: float
) -> None:
    """Check what is the same for a table and for a map.

    Args:
        predictor: The classifier.
        batch_size: Images that are classified at a time.
        workers: Number of threads.
        min_confidence: Below this confidence the label is 'uncertain'.

    Raises:
        SettingError: If one is out of range, or the classifier has a class that is
            called 'uncertain' and *min_confidence* is above 0.
    """
    for name, value in (('batch_size', batch_size), ('workers', workers)):
        if value < 1:
            raise SettingError(f'{name}={value}: give 1 or more.')
    if not 0 <= min_confidence <= 1:
        raise SettingError(
            f'min_confidence={min_confidence}: give a number from 0 to 1.'
        )
    if min_confidence > 0 and UNCERTAIN in predictor.metadata.classes:
        raise SettingError(
            f"The classifier has a class '{UNCERTAIN}' of its own: leave out "
            f'min_confidence={min_confidence}.'
        )

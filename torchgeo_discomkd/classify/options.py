# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Options that tiles and scenes share, apart from those for reading."""

from ..errors import SettingError
from ..tables.prediction import UNCERTAIN
from .predictor import Predictor

#: GDAL's cache in bytes: as pixels are read once, 5 % of all memory is not needed.
CACHE_BYTES = 64 * 2**20


def check_options(
    predictor: Predictor, batch_size: int, workers: int, min_confidence: float
) -> None:
    """Check the options that tables and maps share.

    Args:
        predictor: The classifier.
        batch_size: Number of images classified at a time.
        workers: Number of threads.
        min_confidence: Below this confidence, the label is 'uncertain'.

    Raises:
        SettingError: If one is out of range, or *min_confidence* is above 0 and the
            classifier has a class named 'uncertain', or several labels for each tile.
    """
    for name, value in (('batch_size', batch_size), ('workers', workers)):
        if value < 1:
            raise SettingError(f'{name}={value}: give 1 or more.')
    if not 0 <= min_confidence <= 1:
        raise SettingError(
            f'min_confidence={min_confidence}: give a number from 0 to 1.'
        )
    if min_confidence > 0 and predictor.metadata.task == 'multilabel':
        raise SettingError(
            f'min_confidence={min_confidence}: a classifier of several labels has no '
            'single confidence. Omit it; the columns of probabilities say how certain '
            'each label is.'
        )
    if min_confidence > 0 and UNCERTAIN in predictor.metadata.classes:
        raise SettingError(
            f"The classifier has a class named '{UNCERTAIN}': omit "
            f'min_confidence={min_confidence}.'
        )

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Metadata of exported files: the same keys for all formats."""

import json
from collections.abc import Mapping
from typing import Any

from .. import __version__
from ..errors import ClassifierFileError, SettingError
from ..metadata import KEY, ClassifierMetadata

#: Name of the input: raw pixel values, float32, shape (B, C, H, W).
INPUT = 'images'

#: Name of the output: probabilities, float32, shape (B, K).
OUTPUT = 'probabilities'

#: Key of the calibration and agreement of int8 files, as JSON.
QUANTIZATION = 'quantization'

#: How exported files describe missing pixels.
MISSING_VALUES = (
    'NaN and infinite pixels are missing: they are replaced by the mean of their band '
    'in the training data.'
)


def to_properties(
    metadata: ClassifierMetadata, card: Mapping[str, str]
) -> dict[str, str]:
    """Describe a classifier of one modality as text.

    Args:
        metadata: Its metadata.
        card: Further entries of the model card, for example 'licence'.

    Returns:
        'modality', 'unit', 'task' and 'version' as plain text; 'classes', 'bands',
        'tile_size' (height and width, or null), with several labels 'thresholds' (the
        probability above which an image has each), and 'model_card' as JSON; and all of
        *metadata* for torchgeo_discomkd itself.

    Raises:
        SettingError: If *card* would replace an entry that is computed.
    """
    ((modality, images),) = metadata.modalities.items()
    properties = {
        'modality': modality,
        'classes': json.dumps(metadata.classes),
        'bands': json.dumps(images.bands),
        'unit': images.unit,
        'tile_size': json.dumps(images.tile_size),
        # a program says what its probabilities are: of one class, or of each label
        'task': metadata.task,
        'version': __version__,
    }
    if metadata.decision_thresholds is not None:
        properties['thresholds'] = json.dumps(metadata.decision_thresholds)
    computed: dict[str, Any] = {
        'model': metadata.model,
        'kind': metadata.kind,
        'normalization': metadata.normalization,
        'missing_values': MISSING_VALUES,
        'temperature': metadata.temperature,
        'scores': metadata.scores,
        'epoch': metadata.epoch,
        'seed': metadata.seed,
        'data_fingerprint': metadata.data_fingerprint,
        'split_hash': metadata.split_hash,
        'trained_with': f'torchgeo_discomkd {metadata.version}'.strip(),
    }
    if taken := sorted(computed.keys() & card.keys()):
        raise SettingError(
            f'The entries {taken} of the model card are computed from the classifier: '
            'choose other names.'
        )
    return properties | {
        'model_card': json.dumps(computed | dict(card)),
        KEY: metadata.to_json(),
    }


def from_properties(properties: Mapping[str, str]) -> ClassifierMetadata:
    """Read what :func:`to_properties` wrote.

    Args:
        properties: Text by key.

    Returns:
        The metadata of the classifier.

    Raises:
        ClassifierFileError: If they are damaged or not from this package.
    """
    if KEY not in properties:
        raise ClassifierFileError(
            'it was not exported by torchgeo_discomkd: give a file written by '
            '`python -m torchgeo_discomkd export`.'
        )
    metadata = ClassifierMetadata.from_json(properties[KEY])
    if len(metadata.modalities) != 1:
        raise ClassifierFileError(
            f'it has the modalities {list(metadata.modalities)}, but an exported '
            'classifier has one.'
        )
    return metadata

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Read one classifier from a full checkpoint, without Lightning or TorchGeo."""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from ..errors import ClassifierFileError, ModalityError
from ..models import (
    ClassifierMetadata,
    LoadedClassifier,
    load_metadata,
    restore_classifier,
)
from ..models.checkpoint_file import UNREADABLE, find_damage, find_mistake, read_plain

#: The file to use instead of a checkpoint, for messages.
ADVICE = 'give the classifier file of the run, best/<modality>.safetensors'


def load_checkpoint(path: str | Path, modality: str | None = None) -> LoadedClassifier:
    """Read one classifier from a checkpoint of any training task of this package.

    A checkpoint does not contain the names of the bands, and its classifiers are not
    calibrated. Bands, unit and tile size are taken from
    ``best/<modality>.safetensors`` next to the checkpoint, if it is from the same run.

    Args:
        path: The checkpoint, for example 'last.ckpt'.
        modality: The modality; None if the checkpoint has only one.

    Returns:
        The classifier on the CPU.

    Raises:
        ClassifierFileError: If the file does not exist, is corrupt, is not from this
            package, or contains anything but tensors and plain values.
        ModalityError: If *modality* is needed or unknown, or the classifier needs
            several modalities.

    Warns:
        UserWarning: If the bands and their unit are unknown.
    """
    path = Path(path)
    checkpoint = _read(path)
    try:
        metadata, tensors = _take(path, checkpoint, modality)
    except ModalityError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ClassifierFileError(
            f'{path} is not a checkpoint of torchgeo_discomkd ({error!r}): {ADVICE}.'
        ) from error
    if (known := _known(path, metadata)) is not None:
        metadata = replace(
            metadata,
            modalities=known.modalities,
            data_fingerprint=known.data_fingerprint,
            seed=known.seed,
            version=known.version,
            thresholds=known.thresholds,
        )
    try:
        return LoadedClassifier(restore_classifier(metadata, tensors), metadata)
    except ClassifierFileError as error:
        raise ClassifierFileError(f'{path}: {error}') from error


def _read(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise ClassifierFileError(f'{path}: there is no such file.')
    if (damage := find_damage(path)) is not None:
        raise ClassifierFileError(
            f'{path} is not a Lightning checkpoint, or is truncated or damaged '
            f'({damage}): {ADVICE}, or copy it again.'
        )
    try:
        content = read_plain(path)
    except UNREADABLE as error:
        raise ClassifierFileError(
            f'{path} is damaged or contains more than tensors and plain values, which '
            f'could run code when loaded. It was not loaded: {ADVICE}.'
        ) from error
    if (mistake := find_mistake(content)) is not None:
        raise ClassifierFileError(
            f'{path} is not a checkpoint of torchgeo_discomkd ({mistake}): {ADVICE}.'
        )
    return content


def _take(
    path: Path, checkpoint: Mapping[str, Any], modality: str | None
) -> tuple[ClassifierMetadata, dict[str, Tensor]]:
    """Return the metadata of one classifier in the checkpoint, and its tensors."""
    hparams, state = checkpoint['hyper_parameters'], checkpoint['state_dict']
    channels = dict(checkpoint['in_channels'])
    modality = _choose(path, modality, list(channels))
    kind, prefix = _locate(path, state, modality, list(channels))
    count = channels[modality]
    bands = tuple(f'B{i + 1}' for i in range(count))
    described = {'in_channels': count, 'bands': bands, 'unit': 'unknown'}
    metadata = ClassifierMetadata.from_values(
        {
            'kind': kind,
            'model': hparams['model'],
            'classes': checkpoint['classes'],
            'modalities': {modality: {**described, 'tile_size': None}},
            'head': hparams['head'] if kind == 'disentangled' else None,
            'normalization': hparams['normalization'],
            'temperature': 1.0,
            'scores': {},
            'epoch': checkpoint['epoch'],
            'data_fingerprint': '',
            'split_hash': checkpoint['split_hash'],
            'seed': None,
            'version': '',
            'task': hparams.get('task', 'multiclass'),
        }
    )
    names = [name for name in state if name.startswith(prefix)]
    return metadata, {name.removeprefix(prefix): state[name] for name in names}


def _choose(path: Path, modality: str | None, names: list[str]) -> str:
    if modality is None and len(names) == 1:
        return names[0]
    if modality not in names:
        problem = 'none is selected' if modality is None else f"'{modality}' is unknown"
        raise ModalityError(
            f'{path} has the modalities {names}, but {problem}: choose one of them, '
            f'for example --modality {names[-1]}.'
        )
    return modality


def _locate(
    path: Path, state: Mapping[str, Tensor], modality: str, names: list[str]
) -> tuple[Literal['disentangled', 'fusion'], str]:
    """Return the kind of the modality's classifier and the prefix of its tensors."""
    own = f'model.classifiers.{modality}.'
    if any(name.startswith(own) for name in state):
        return 'disentangled', own
    if len(names) > 1:
        raise ModalityError(
            f"{path} classifies {names} together and cannot classify '{modality}' "
            f"alone: use a run of DisCoM-KD or of '{modality}' only."
        )
    return 'fusion', 'model.'


def _known(path: Path, metadata: ClassifierMetadata) -> ClassifierMetadata | None:
    """Return the metadata of the classifier file of the same run, if it exists."""
    ((modality, images),) = metadata.modalities.items()
    file = path.parent / 'best' / f'{modality}.safetensors'
    try:
        known = load_metadata(file)
    except ClassifierFileError:
        known = None
    if (
        known is not None
        and list(known.modalities) == [modality]
        and known.modalities[modality].in_channels == images.in_channels
        and (known.classes, known.task) == (metadata.classes, metadata.task)
        and known.split_hash == metadata.split_hash
    ):
        return known
    warnings.warn(
        f"{path} does not contain the names and the unit of the bands of '{modality}', "
        f'and {file} of its run does not exist: give the {images.in_channels} bands in '
        'the order and the unit of training.',
        stacklevel=3,
    )
    return None

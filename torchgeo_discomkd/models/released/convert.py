# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Classifier files from a checkpoint of the released code."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from ... import __version__
from ...errors import BandError, LabelError, RunFolderExistsError, SettingError
from .. import (
    ClassifierMetadata,
    DisentangledClassifier,
    ModalityMetadata,
    save_classifier,
)
from ..modalities import check_known
from .checkpoint import load_released_checkpoint

#: Unit of the images that the released code takes.
UNIT = 'normalised'


def import_released_checkpoint(
    path: str | Path,
    folder: str | Path,
    modalities: Sequence[str],
    keep: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    bands: Mapping[str, Sequence[str]] | None = None,
    units: Mapping[str, str] | None = None,
    tile_size: int | Mapping[str, int] | None = None,
) -> list[Path]:
    """Write the classifier files of a checkpoint of the released code.

    The classifiers take images that are normalised like those of the training: they
    have no normalisation of their own.

    Args:
        path: A WEIGHTS.pth.
        folder: Folder of the results: the files are ``best/<modality>.safetensors``.
        modalities: Names of the two modalities, in the order in which the released
            code was given them.
        keep: Modalities to write; both by default. The released code keeps one
            checkpoint for each modality, from that modality's best epoch.
        classes: Names of the classes, in the order of their labels; '0', '1', ... by
            default.
        bands: Names of the bands of each modality, in order; 'B1', 'B2', ... by
            default.
        units: Unit of the values for each modality; 'normalised' by default.
        tile_size: Height and width of the tiles in pixels, for both modalities or for
            each; unknown by default.

    Returns:
        The files.

    Raises:
        BandError: If the number of band names is wrong or one is given twice.
        ClassifierFileError: If the checkpoint cannot be used, see
            :func:`load_released_checkpoint`.
        LabelError: If the number of class names is wrong or one is given twice.
        ModalityError: If a modality is unknown, there are not two, or a name is
            illegal.
        RunFolderExistsError: If a file exists already.
        SettingError: If a tile size is not positive.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from torchgeo_discomkd.errors import RunFolderExistsError
        >>> from torchgeo_discomkd.models.released import import_released_checkpoint
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / 'best' / 'sar.safetensors'
        ...     file.parent.mkdir()
        ...     file.touch()
        ...     try:
        ...         import_released_checkpoint('WEIGHTS.pth', folder, ['ms', 'sar'])
        ...     except RunFolderExistsError:
        ...         print('nothing is overwritten')
        nothing is overwritten
    """
    keep = list(modalities if keep is None else keep)
    sizes = _sizes(tile_size, modalities)
    given = {'keep': keep, 'bands': bands or {}, 'units': units or {}}
    for what, names in (given | {'tile_size': sizes}).items():
        check_known(names, modalities, what)
    files = {m: Path(folder) / 'best' / f'{m}.safetensors' for m in keep}
    if existing := [str(file) for file in files.values() if file.exists()]:
        raise RunFolderExistsError(
            f'{", ".join(existing)} exists already: choose another --output.'
        )
    network = load_released_checkpoint(path, modalities)
    names = _class_names(classes, network.auxiliary_classifier.out_features)
    classifiers = {
        m: cast(DisentangledClassifier, network.classifiers[m]) for m in keep
    }
    metadata = {}
    for m, classifier in classifiers.items():
        count = len(classifier.normalization.fill)
        images = ModalityMetadata(
            in_channels=count,
            bands=_bands(m, (bands or {}).get(m), count),
            unit=(units or {}).get(m, UNIT),
            tile_size=(sizes[m], sizes[m]) if m in sizes else None,
        )
        metadata[m] = _metadata(m, images, names)
    for m, file in files.items():
        save_classifier(file, classifiers[m], metadata[m], network.auxiliary_classifier)
    return list(files.values())


def _metadata(
    modality: str, images: ModalityMetadata, classes: tuple[str, ...]
) -> ClassifierMetadata:
    return ClassifierMetadata(
        kind='disentangled',
        model='resnet18',
        classes=classes,
        modalities={modality: images},
        head='linear_bn_relu',
        normalization='none',
        temperature=1.0,
        scores={},
        epoch=None,
        data_fingerprint='',
        split_hash='',
        seed=None,
        version=__version__,
    )


def _class_names(names: Sequence[str] | None, count: int) -> tuple[str, ...]:
    if names is None:
        return tuple(str(i) for i in range(count))
    if len(names) != count or len(set(names)) != count:
        raise LabelError(
            f'classes={list(names)}, but the checkpoint has {count}: name every class '
            'once, in the order of the labels.'
        )
    return tuple(names)


def _bands(modality: str, names: Sequence[str] | None, count: int) -> tuple[str, ...]:
    if names is None:
        return tuple(f'B{i + 1}' for i in range(count))
    if len(names) != count or len(set(names)) != count:
        raise BandError(
            f"bands of '{modality}' are {list(names)}, but the checkpoint has {count}: "
            'give each band a unique name.'
        )
    return tuple(names)


def _sizes(
    tile_size: int | Mapping[str, int] | None, modalities: Sequence[str]
) -> dict[str, int]:
    match tile_size:
        case None:
            sizes = {}
        case int():
            sizes = dict.fromkeys(modalities, tile_size)
        case _:
            sizes = dict(tile_size)
    if any(size < 1 for size in sizes.values()):
        raise SettingError(
            f'tile_size={tile_size}: give a number of pixels, 1 or more.'
        )
    return sizes

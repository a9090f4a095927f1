# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""One interface to every kind of model file: raw pixels in, probabilities out.

An .onnx file is used without PyTorch, whose import takes most of the time to a first
result. Nothing in a model file is ever executed: weights are read as tensors only,
whatever the kind of file.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import (
    BandError,
    ClassifierFileError,
    ModalityError,
    SettingError,
    TileSizeError,
)
from ..export.onnx_file import Precision, open_onnx
from ..metadata import ClassifierMetadata

#: How exact the computation is to be.
PRECISIONS = ('auto', 'float32', 'bfloat16')


@dataclass(frozen=True)
class Predictor:
    """A classifier of one modality, read from any kind of model file.

    Attributes:
        metadata: What the file says about the classifier.
        modality: The one modality that it takes, a key of ``metadata.modalities``.
        description: Name, kind and content hash of the file: equal if and only if the
            model is.
        fixed_size: The only height and width that it takes; None if it takes any.
        device: Device that it computes on, for example 'cuda' or 'cpu'.
    """

    metadata: ClassifierMetadata
    modality: str
    description: str
    fixed_size: tuple[int, int] | None
    device: str
    _compute: Callable[[NDArray[np.float32]], NDArray[np.float32]] = field(repr=False)

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands that it takes, in order."""
        return self.metadata.modalities[self.modality].bands

    @property
    def unit(self) -> str:
        """Unit of the images: 'dB', 'linear' or any other text."""
        return self.metadata.modalities[self.modality].unit

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width to bring images to; None to leave them as they are."""
        return self.fixed_size or self.metadata.modalities[self.modality].tile_size

    def probabilities(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Classify a batch, with the calibration of the file.

        Args:
            images: Raw values in the unit of training, float32, shape (B, C, H, W);
                NaN and infinite pixels are missing ones.

        Returns:
            Probabilities, float32, shape (B, K), each row with sum 1.

        Raises:
            BandError: If *images* has not the shape (B, C, H, W) with C bands.
            TileSizeError: If the classifier takes another size only.
        """
        if images.ndim != 4 or images.shape[1] != len(self.bands):
            raise BandError(
                f'Images of shape {images.shape} given to a classifier of the bands '
                f'{", ".join(self.bands)}: give shape (B, {len(self.bands)}, H, W).'
            )
        if self.fixed_size not in (None, images.shape[2:]):
            raise TileSizeError(
                f'Images of {images.shape[2]}x{images.shape[3]} pixels given to a '
                f'model that takes {self.fixed_size[0]}x{self.fixed_size[1]} only: cut '
                'or pad them.'
            )
        if not len(images):
            return np.empty((0, len(self.metadata.classes)), np.float32)
        # a view of a file is read-only, which PyTorch does not know
        return self._compute(np.require(images, np.float32, ['C', 'W']))


def load_predictor(
    model: str | Path,
    modality: str | None = None,
    device: str = 'auto',
    precision: Precision = 'auto',
) -> Predictor:
    """Read a model file of any kind.

    Args:
        model: Classifier file (.safetensors), exported file (.onnx, .pt2) or full
            checkpoint (.ckpt).
        modality: Modality to classify; only a checkpoint of several needs it.
        device: 'auto' for the fastest that is there, or 'cpu', 'cuda', 'cuda:1' (not
            with .onnx), 'mps' (neither).
        precision: 'auto' for that of the file, which is float32 unless it was exported
            with ``--quantize``; 'float32'; or 'bfloat16', faster on processors that
            have it, with probabilities that differ in the third digit. An .onnx file
            needs OpenVINO for 'bfloat16'.

    Returns:
        The classifier in evaluation mode.

    Raises:
        ClassifierFileError: If there is no such file, it is none of ours, or corrupt.
        ModalityError: If the classifier needs several modalities, or another one than
            *modality*, or *modality* is needed.
        SettingError: If *device* is unknown or not there, *precision* is unknown or the
            file does not have it.
        UserError: If an .onnx file is given and what runs it is not installed.
    """
    path = Path(model)
    if precision not in PRECISIONS:
        raise SettingError(
            f"precision='{precision}': use one of {', '.join(PRECISIONS)}."
        )
    if not path.is_file():
        raise ClassifierFileError(
            f'{path}: there is no such file. Give best/<modality>.safetensors of a run, '
            'an exported .onnx or .pt2 file, or last.ckpt.'
        )
    match path.suffix.lower():
        case '.onnx':
            opened, kind = open_onnx(path, device, precision)
        case '.safetensors' | '.pt2' | '.ckpt' | '.pt' | '.pth':
            # takes seconds, which .onnx files need not wait for
            from .torch_route import open_model

            opened, kind = open_model(path, modality, device, precision == 'bfloat16')
        case _:
            raise ClassifierFileError(
                f'{path} is no model file: give a .safetensors, .onnx, .pt2 or .ckpt '
                'file.'
            )
    name = _only_modality(path, opened.metadata, modality)
    description = _describe(path, kind, name, opened.metadata)
    return Predictor(
        opened.metadata, name, description, opened.size, opened.device, opened
    )


def _only_modality(
    path: Path, metadata: ClassifierMetadata, modality: str | None
) -> str:
    names = list(metadata.modalities)
    if len(names) > 1:
        raise ModalityError(
            f'{path} classifies {names} together and cannot classify one of them '
            'alone: give the classifier file of one modality, '
            'best/<modality>.safetensors.'
        )
    if modality not in {None, names[0]}:
        raise ModalityError(
            f"{path} classifies '{names[0]}', not '{modality}': give another file, or "
            'no modality.'
        )
    return names[0]


def _describe(
    path: Path, kind: str, modality: str, metadata: ClassifierMetadata
) -> str:
    with path.open('rb') as file:
        digest = hashlib.file_digest(file, 'sha256').hexdigest()
    return (
        f"{path.name} ({kind}, '{modality}', {metadata.model}, "
        f'{len(metadata.classes)} classes, sha256 {digest[:16]})'
    )

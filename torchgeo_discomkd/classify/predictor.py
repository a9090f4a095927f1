# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""One interface to every kind of model file: raw pixels in, probabilities out.

An .onnx file is used without PyTorch, whose import takes most of the time to the first
result. Nothing in a model file is ever executed: weights are only read as tensors,
whatever the kind of file.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import (
    BandError,
    ClassifierFileError,
    ModalityError,
    SettingError,
    TileSizeError,
)
from ..export.onnx_file import OnnxClassifier, OpenvinoClassifier, Precision, open_onnx
from ..metadata import ClassifierMetadata, ImageProfile
from ..rasters.scale import parse_unit
from ..rasters.tiles import TileSpec

if TYPE_CHECKING:
    from .torch_route import TorchClassifier

#: Precision of the computation.
PRECISIONS = ('auto', 'float32', 'bfloat16')

#: Largest difference of a sum of probabilities from 1 that rounding can explain.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Predictor:
    """A classifier of one modality, read from any kind of model file.

    Attributes:
        metadata: Metadata of the classifier.
        modality: Its only modality, a key of ``metadata.modalities``.
        description: Name, kind and content hash of the file; equal if and only if the
            models are.
        fixed_size: The only height and width that it accepts; None if it accepts any.
        device: Device that it runs on, for example 'cuda' or 'cpu'.

    Example:
        >>> import numpy as np
        >>> from torchgeo_discomkd.models import ClassifierMetadata, ModalityMetadata
        >>> sar = ModalityMetadata(2, ('VV', 'VH'), 'dB', tile_size=(32, 32))
        >>> metadata = ClassifierMetadata(
        ...     'disentangled', 'test_resnet', ('Land', 'Water'), {'sar': sar},
        ...     'linear_bn_relu', 'none', 1.0, {}, None, '', '', None, '')
        >>> def compute(images):  # any function from pixels to probabilities
        ...     water = np.float32(images.mean(axis=(1, 2, 3)) < -15)
        ...     return np.stack([1 - water, water], axis=1)
        >>> predictor = Predictor(metadata, 'sar', 'threshold', None, 'cpu', compute)
        >>> predictor.bands, predictor.size
        (('VV', 'VH'), (32, 32))
        >>> predictor.probabilities(np.full((1, 2, 32, 32), -20, np.float32))
        array([[0., 1.]], dtype=float32)
    """

    metadata: ClassifierMetadata
    modality: str
    description: str
    fixed_size: tuple[int, int] | None
    device: str
    _compute: Callable[[NDArray[np.float32]], NDArray[np.float32]] = field(repr=False)

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of its bands, in order."""
        return self.metadata.modalities[self.modality].bands

    @property
    def unit(self) -> str:
        """Unit of the images: 'dB', 'linear' or any other text."""
        return parse_unit(self.metadata.modalities[self.modality].unit)

    @property
    def profile(self) -> ImageProfile | None:
        """What the training tiles look like; None if the file does not say."""
        return self.metadata.modalities[self.modality].profile

    @property
    def size(self) -> tuple[int, int] | None:
        """Required height and width of images; None to keep theirs."""
        return self.fixed_size or self.metadata.modalities[self.modality].tile_size

    def tile_spec(self, **reading: Any) -> TileSpec:
        """Return what the classifier needs of a tile.

        Args:
            reading: How the files are read: further fields of :class:`.TileSpec`.
        """
        spec = TileSpec(self.bands, self.unit, self.size, profile=self.profile)
        return replace(spec, **reading)

    def probabilities(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Classify a batch, with the calibration of the file.

        Args:
            images: Raw values in the unit of training, float32, shape (B, C, H, W);
                NaN and infinite pixels count as missing.

        Returns:
            Probabilities, float32, shape (B, K): each row sums to 1 or, with several
            labels, each is one of its own.

        Raises:
            BandError: If the shape of *images* is not (B, C, H, W) with C bands.
            ClassifierFileError: If the classifier returns other numbers than
                probabilities; NaN is allowed.
            TileSizeError: If the classifier does not accept this size.
        """
        if images.ndim != 4 or images.shape[1] != len(self.bands):
            raise BandError(
                f'Images of shape {images.shape} do not fit a classifier of the bands '
                f'{", ".join(self.bands)}: give shape (B, {len(self.bands)}, H, W).'
            )
        if self.fixed_size not in (None, images.shape[2:]):
            raise TileSizeError(
                f'The images have {images.shape[2]}x{images.shape[3]} pixels, but the '
                f'model only accepts {self.fixed_size[0]}x{self.fixed_size[1]}: crop '
                'or pad them.'
            )
        if not len(images):
            return np.empty((0, len(self.metadata.classes)), np.float32)
        # PyTorch does not support read-only arrays, such as views of a file
        found = self._compute(np.require(images, np.float32, ['C', 'W']))
        self._check(found, len(images))
        return found

    def _check(self, found: NDArray[np.float32], count: int) -> None:
        """Refuse what a program of another origin may return, such as logits."""
        expected = (count, len(self.metadata.classes))
        if found.shape != expected:
            raise ClassifierFileError(
                f'{self.description} returns an array of shape {found.shape} instead '
                f'of {expected}: export the classifier again.'
            )
        if self.metadata.task == 'multilabel':
            outside = (found < -TOLERANCE) | (found > 1 + TOLERANCE)
            if outside.any():
                raise ClassifierFileError(
                    f'{self.description} returns numbers that are no probabilities '
                    f'({found[outside][0]:.4g}): each must be from 0 to 1. Export the '
                    'classifier again, or end the program with a sigmoid.'
                )
            return
        off = np.abs(found.sum(axis=1) - 1) > TOLERANCE
        if (off | (found < -TOLERANCE).any(axis=1)).any():
            example = ', '.join(f'{p:.4g}' for p in found[off.argmax()][:5])
            raise ClassifierFileError(
                f'{self.description} returns numbers that are no probabilities '
                f'({example}): each row must have the sum 1. Export the classifier '
                'again, or end the program with a softmax.'
            )


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
        modality: Modality to classify, needed for a checkpoint with several only.
        device: 'auto' for the fastest one available, or 'cpu', 'cuda', 'cuda:1' or
            'mps' (the last two not with .onnx).
        precision: 'auto' for that of the file, which is float32 unless it was exported
            with ``--quantize``; 'float32'; or 'bfloat16', which is faster on
            processors that support it and changes probabilities in the third digit.
            An .onnx file needs OpenVINO for 'bfloat16'.

    Returns:
        The classifier in evaluation mode.

    Raises:
        ClassifierFileError: If the file does not exist, is corrupt or is not from this
            package.
        ModalityError: If the classifier needs several modalities or not *modality*, or
            *modality* is missing.
        SettingError: If *device* is unknown or not available, or *precision* is unknown
            or not possible with this file.
        UserError: If the runtime for an .onnx file is not installed.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from torchgeo_discomkd.models import (
        ...     ClassifierMetadata, DisentangledClassifier, ModalityMetadata,
        ...     save_classifier)
        >>> sar = ModalityMetadata(2, ('VV', 'VH'), 'dB', tile_size=(32, 32))
        >>> metadata = ClassifierMetadata(
        ...     'disentangled', 'test_resnet', ('Land', 'Water'), {'sar': sar},
        ...     'linear_bn_relu', 'none', 1.0, {}, None, '', '', None, '')
        >>> network = DisentangledClassifier(2, 2, 'test_resnet')
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, 'sar.safetensors')
        ...     save_classifier(path, network, metadata)
        ...     predictor = load_predictor(path, device='cpu')
        >>> predictor.probabilities(np.zeros((5, 2, 32, 32), np.float32)).shape
        (5, 2)
    """
    path = Path(model)
    if precision not in PRECISIONS:
        raise SettingError(
            f"precision='{precision}': use one of {', '.join(PRECISIONS)}."
        )
    if not path.is_file():
        raise ClassifierFileError(
            f'{path}: there is no such file. Give best/<modality>.safetensors of a '
            'run, an exported .onnx or .pt2 file, or last.ckpt.'
        )
    match path.suffix.lower():
        case '.onnx':
            opened, kind = open_onnx(path, device, precision)
        case '.safetensors' | '.pt2' | '.ckpt' | '.pt' | '.pth':
            # takes seconds, which .onnx files do not need
            from .torch_route import open_model

            opened, kind = open_model(path, modality, device, precision == 'bfloat16')
        case _:
            raise ClassifierFileError(
                f'{path} is not a model file: give a .safetensors, .onnx, .pt2 or '
                '.ckpt file.'
            )
    name = _only_modality(path, opened.metadata, modality)
    description = _describe(path, kind, name, opened)
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
            f"{path} classifies '{names[0]}', not '{modality}': give a different file "
            'or omit the modality.'
        )
    return names[0]


def _describe(
    path: Path,
    kind: str,
    modality: str,
    opened: 'OnnxClassifier | OpenvinoClassifier | TorchClassifier',
) -> str:
    metadata, digest = opened.metadata, opened.sha256
    if digest is None:
        with path.open('rb') as file:
            digest = hashlib.file_digest(file, 'sha256').hexdigest()
    return (
        f"{path.name} ({kind}, '{modality}', {metadata.model}, "
        f'{len(metadata.classes)} classes, sha256 {digest[:16]})'
    )

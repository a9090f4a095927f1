# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Run model files with PyTorch, as fast as the precision allows."""

import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import SettingError
from ..export.pt2_file import load_pt2
from ..models import LoadedClassifier, load_classifier
from ..models.heads import to_probabilities
from ..performance.folding import fold_batch_norms
from ..performance.precision import fast_precision
from .checkpoint import load_checkpoint


class TorchClassifier:
    """A classifier that runs with PyTorch.

    Batch normalisations are folded, and on a CPU the memory format is channels-last,
    which makes convolutions faster. Both change results by rounding only.

    Attributes:
        size: Required height and width: none, it accepts any.
        metadata: Metadata of the classifier.
        device: Device that it runs on.
        sha256: Checksum of its file: unknown.
    """

    size: tuple[int, int] | None = None
    sha256: str | None = None

    def __init__(
        self, loaded: LoadedClassifier, device: torch.device, bfloat16: bool = False
    ) -> None:
        """Initialize a new TorchClassifier instance.

        Args:
            loaded: The classifier; it is modified and moved to *device*.
            device: Device to run on.
            bfloat16: Whether convolutions and matrix products use 8 instead of 24
                significant bits. Normalisation, calibration and softmax never do.
        """
        self.metadata = loaded.metadata
        self.device = str(device)

        cpu = device.type == 'cpu'
        self._layout = torch.channels_last if cpu else torch.preserve_format
        self._bfloat16 = bfloat16
        self._loaded = loaded
        fold_batch_norms(loaded.classifier, loaded.classifier.backbones)
        loaded.to(device, memory_format=self._layout)  # ty: ignore[no-matching-overload]

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Classify raw images.

        Args:
            images: Raw values, float32, shape (B, C, H, W).

        Returns:
            Probabilities, float32, shape (B, K).
        """
        device = torch.device(self.device)
        pixels = torch.from_numpy(images).to(device, memory_format=self._layout)
        with (
            torch.inference_mode(),
            torch.autocast(device.type, torch.bfloat16, enabled=self._bfloat16),
        ):
            logits = self._loaded(pixels).float()
        logits = logits / self.metadata.temperature
        return to_probabilities(logits, self.metadata.task).cpu().numpy()


def open_model(
    path: Path, modality: str | None, device: str, bfloat16: bool
) -> tuple[TorchClassifier, str]:
    """Open a classifier file, an exported program or a checkpoint.

    Args:
        path: The file; all suffixes but .safetensors and .pt2 mean a checkpoint.
        modality: Modality to read from a checkpoint with several.
        device: As for :func:`choose_device`.
        bfloat16: As for :class:`TorchClassifier`.

    Returns:
        The classifier and its description: kind of file and precision.

    Raises:
        ClassifierFileError: If the file is corrupt or not from this package.
        ModalityError: If a checkpoint needs *modality* or does not have it.
        SettingError: If *device* is unknown or not available.

    Warns:
        UserWarning: If *bfloat16* makes the device slower.
    """
    match path.suffix.lower():
        case '.safetensors':
            kind, loaded = 'classifier file', load_classifier(path)
        case '.pt2':
            kind, loaded = 'exported program', load_pt2(path)
        case _:
            kind, loaded = 'checkpoint', load_checkpoint(path, modality)
    chosen = choose_device(device)
    precision, reason = fast_precision(chosen)
    if bfloat16 and precision == '32-true':
        warnings.warn(
            f'{reason}, which can take several times as long: omit the precision.',
            stacklevel=3,
        )
    opened = TorchClassifier(loaded, chosen, bfloat16)
    return opened, f'{kind}, bfloat16' if bfloat16 else kind


def choose_device(device: str) -> torch.device:
    """Choose the device that PyTorch runs on.

    Args:
        device: 'auto' for CUDA if available, else MPS, else the CPU; or a device.

    Returns:
        The device.

    Raises:
        SettingError: If *device* is unknown or not available.
    """
    available = ['cpu']
    if torch.backends.mps.is_available():
        available.insert(0, 'mps')
    if torch.cuda.is_available():
        numbered = [f'cuda:{i}' for i in range(torch.cuda.device_count())]
        available = ['cuda', *numbered, *available]
    if device == 'auto':
        device = available[0]
    if device not in available:
        raise SettingError(
            f"device='{device}': PyTorch only has {available} here. Use one of them or "
            "'auto'."
        )
    return torch.device(device)

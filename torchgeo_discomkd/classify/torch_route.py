# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Model files that PyTorch computes, the fastest way that a precision allows."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import SettingError
from ..export.pt2_file import load_pt2
from ..models import LoadedClassifier, load_classifier
from ..performance.folding import fold_batch_norms
from .checkpoint import load_checkpoint


class TorchClassifier:
    """A classifier that PyTorch computes.

    Batch normalisations are folded, and on a CPU the channels of a pixel lie side by
    side, as its convolutions want them. Both change results by rounding only.

    Attributes:
        metadata: What the file says about the classifier.
        device: Device that it computes on.
    """

    #: The only height and width that it takes: it takes any.
    size: tuple[int, int] | None = None

    def __init__(
        self, loaded: LoadedClassifier, device: torch.device, bfloat16: bool = False
    ) -> None:
        """Initialize a new TorchClassifier instance.

        Args:
            loaded: The classifier, which is changed and moved to *device*.
            device: What to compute on.
            bfloat16: Whether convolutions and matrix products, and these alone, are
                computed with 8 instead of 24 binary digits. Normalisation, calibration
                and softmax never are.
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
        return (logits / self.metadata.temperature).softmax(dim=1).cpu().numpy()


def open_model(
    path: Path, modality: str | None, device: str, bfloat16: bool
) -> tuple[TorchClassifier, str]:
    """Open a classifier file, an exported program or a checkpoint.

    Args:
        path: The file; any suffix but .safetensors and .pt2 is that of a checkpoint.
        modality: Modality to take out of a checkpoint of several.
        device: As for :func:`choose_device`.
        bfloat16: As for :class:`TorchClassifier`.

    Returns:
        The classifier, and what it is in words: kind of file and precision.

    Raises:
        ClassifierFileError: If it is no such file, or corrupt.
        ModalityError: If a checkpoint needs *modality*, or another one.
        SettingError: If *device* is unknown or not there.
    """
    match path.suffix.lower():
        case '.safetensors':
            kind, loaded = 'classifier file', load_classifier(path)
        case '.pt2':
            kind, loaded = 'exported program', load_pt2(path)
        case _:
            kind, loaded = 'checkpoint', load_checkpoint(path, modality)
    opened = TorchClassifier(loaded, choose_device(device), bfloat16)
    return opened, f'{kind}, bfloat16' if bfloat16 else kind


def choose_device(device: str) -> torch.device:
    """Choose what PyTorch computes on.

    Args:
        device: 'auto' for CUDA if it is there, else MPS, else the CPU; or a device.

    Returns:
        The device.

    Raises:
        SettingError: If *device* is unknown or not there.
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
            f"device='{device}': PyTorch has {available} here. Use one of them, or "
            "'auto'."
        )
    return torch.device(device)

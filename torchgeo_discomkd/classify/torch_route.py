# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Model files that PyTorch computes, the fastest way that a precision allows."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import SettingError
from ..export.pt2_file import load_pt2
from ..models import LoadedClassifier, load_classifier
from ..performance.folding import fold_batch_norms
from .checkpoint import load_checkpoint


def read_model(path: Path, modality: str | None) -> tuple[str, LoadedClassifier]:
    """Read a classifier file, an exported program or a checkpoint.

    Args:
        path: The file; any suffix but .safetensors and .pt2 is that of a checkpoint.
        modality: Modality to take out of a checkpoint of several.

    Returns:
        The kind of file in words, and the classifier on the CPU.

    Raises:
        ClassifierFileError: If it is no such file, or corrupt.
        ModalityError: If a checkpoint needs *modality*, or another one.
    """
    match path.suffix.lower():
        case '.safetensors':
            return 'classifier file', load_classifier(path)
        case '.pt2':
            return 'exported program', load_pt2(path)
        case _:
            return 'checkpoint', load_checkpoint(path, modality)


def torch_route(
    loaded: LoadedClassifier, device: torch.device, bfloat16: bool = False
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Prepare a classifier for inference.

    Batch normalisations are folded, and on a CPU the channels of a pixel lie side by
    side, as its convolutions want them. Both change results by rounding only.

    Args:
        loaded: The classifier, which is changed and moved to *device*.
        device: What to compute on.
        bfloat16: Whether convolutions and matrix products, and these alone, are
            computed with 8 instead of 24 binary digits. Normalisation, calibration and
            softmax never are.

    Returns:
        A function from raw images, float32, shape (B, C, H, W), to probabilities,
        float32, shape (B, K).
    """
    fold_batch_norms(loaded.classifier, loaded.classifier.backbones)
    layout = torch.channels_last if device.type == 'cpu' else torch.preserve_format
    loaded.to(device, memory_format=layout)  # ty: ignore[no-matching-overload]

    def compute(images: NDArray[np.float32]) -> NDArray[np.float32]:
        pixels = torch.from_numpy(images).to(device, memory_format=layout)
        with (
            torch.inference_mode(),
            torch.autocast(device.type, torch.bfloat16, enabled=bfloat16),
        ):
            logits = loaded(pixels).float()
        return (logits / loaded.metadata.temperature).softmax(dim=1).cpu().numpy()

    return compute


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

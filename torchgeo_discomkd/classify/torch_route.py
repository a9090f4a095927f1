# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""The fastest way through a classifier in PyTorch that a precision allows."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from ..models import LoadedClassifier
from ..models.folding import fold_batch_norms


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
    fold_batch_norms(loaded.classifier)
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

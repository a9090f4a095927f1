# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Exported ONNX files, run by OpenVINO."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..metadata import ClassifierMetadata
from .onnx_file import OnnxClassifier, require


class OpenvinoClassifier:
    """An exported classifier, run by OpenVINO on the CPU.

    Its integer and bfloat16 arithmetic is faster than that of onnxruntime.
    """

    def __init__(
        self, source: str | Path | bytes, known: OnnxClassifier, bfloat16: bool = False
    ) -> None:
        """Initialize a new OpenvinoClassifier instance.

        Args:
            source: An .onnx file, or its content.
            known: The same file, opened and therefore checked by onnxruntime.
            bfloat16: Whether to compute convolutions and all after them in bfloat16;
                normalisation, softmax and calibration are in float32 in any case.

        Raises:
            UserError: If OpenVINO is not installed.
        """
        core = require('openvino', 'openvino').Core()
        model = core.read_model(source if isinstance(source, bytes) else str(source))
        options = {'INFERENCE_PRECISION_HINT': 'bf16' if bfloat16 else 'f32'}
        self._compiled = core.compile_model(model, 'CPU', options)

        #: Device that it computes on.
        self.device = 'cpu'

        #: What the file says about the classifier.
        self.metadata: ClassifierMetadata = known.metadata

        #: The only height and width that it takes; None if it takes any.
        self.size = known.size

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Classify a batch.

        Args:
            images: Raw values, float32, shape (B, C, H, W), B at least 1; NaN and
                infinite pixels are missing ones.

        Returns:
            Probabilities, float32, shape (B, K).
        """
        # the runtime writes the next result into the same memory
        return self._compiled(images)[0].copy()

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Choose what runs an .onnx file."""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from ..errors import SettingError
from .onnx_file import OnnxClassifier
from .openvino_file import OpenvinoClassifier

type Precision = Literal['auto', 'float32', 'bfloat16']


def open_onnx(
    path: Path, device: str = 'auto', precision: Precision = 'auto'
) -> tuple[OnnxClassifier | OpenvinoClassifier, str]:
    """Open an exported file with onnxruntime or, where that is faster, OpenVINO.

    OpenVINO runs what is asked for as bfloat16 and, if it is installed and no CUDA is
    used, int8 files.

    Args:
        path: An .onnx file.
        device: As for :class:`OnnxClassifier`.
        precision: 'auto' for that of the file, 'float32' or 'bfloat16'.

    Returns:
        The classifier, and what it is in words: format, precision and runtime.

    Raises:
        ClassifierFileError: If the file is none of ours, truncated or damaged.
        SettingError: If *device* or *precision* is not to be had.
        UserError: If onnxruntime, or OpenVINO for 'bfloat16', is not installed.
    """
    bfloat16 = precision == 'bfloat16'
    if bfloat16 and device not in ('auto', 'cpu'):
        raise SettingError(
            f"device='{device}': an .onnx file is computed in bfloat16 on the CPU only. "
            'Give the classifier file, or leave out the precision.'
        )
    classifier = OnnxClassifier(path, 'cpu' if bfloat16 else device)
    if not classifier.int8:
        if bfloat16:
            opened = OpenvinoClassifier(path, classifier, bfloat16)
            return opened, 'ONNX, bfloat16, OpenVINO'
        return classifier, 'ONNX'
    if precision != 'auto':
        raise SettingError(
            f"precision='{precision}': {path} was quantized to int8. Leave out the "
            'precision, or give the file that it was made of.'
        )
    if classifier.device == 'cpu' and find_spec('openvino') is not None:
        return OpenvinoClassifier(path, classifier), 'ONNX, int8, OpenVINO'
    return classifier, 'ONNX, int8'

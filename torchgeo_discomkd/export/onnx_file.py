# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Exported ONNX files, run by onnxruntime or OpenVINO; PyTorch is not needed."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import ClassifierFileError, SettingError, UserError
from ..metadata import ClassifierMetadata
from .properties import INPUT, OUTPUT, QUANTIZATION, from_properties

type Precision = Literal['auto', 'float32', 'bfloat16']

#: What needs the packages of an extra.
_NEEDED_BY = {'onnx': 'ONNX files need', 'openvino': 'ONNX files in bfloat16 need'}


class OnnxClassifier:
    """An exported classifier, run by onnxruntime.

    Attributes:
        device: Device that it computes on: onnxruntime falls back where a driver is
            missing.
        int8: Whether its convolutions are computed in int8.
        size: The only height and width that it takes; None if it takes any.
    """

    def __init__(self, source: str | Path | bytes, device: str = 'auto') -> None:
        """Initialize a new OnnxClassifier instance.

        Args:
            source: An .onnx file, or its content.
            device: 'cpu', 'cuda', or 'auto' for CUDA if onnxruntime has it.

        Raises:
            ClassifierFileError: If the file is none of ours, truncated or damaged.
            SettingError: If onnxruntime does not have *device*, or cannot use it.
            UserError: If onnxruntime is not installed.
        """
        runtime = require('onnxruntime')
        name = 'the exported model' if isinstance(source, bytes) else str(source)
        self._session = _session(runtime, source, name, _device(runtime, device))
        used = self._session.get_providers()
        self.device = 'cuda' if 'CUDAExecutionProvider' in used else 'cpu'
        if device == 'cuda' and self.device != 'cuda':
            raise SettingError(
                "device='cuda': onnxruntime has it, but cannot load CUDA or cuDNN. "
                "Install what onnxruntime.preload_dlls() lacks, or use 'cpu'."
            )
        properties = self._session.get_modelmeta().custom_metadata_map
        try:
            #: What the file says about the classifier.
            self.metadata: ClassifierMetadata = from_properties(properties)
        except ClassifierFileError as error:
            raise ClassifierFileError(f'{name}: {error}') from error
        self.int8 = QUANTIZATION in properties
        self.size = _size(self._session, self.metadata, name)

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Classify a batch.

        Args:
            images: Raw values, float32, shape (B, C, H, W), B at least 1; NaN and
                infinite pixels are missing ones.

        Returns:
            Probabilities, float32, shape (B, K).
        """
        return self._session.run([OUTPUT], {INPUT: images})[0]


class OpenvinoClassifier:
    """An exported classifier, run by OpenVINO on the CPU.

    Its integer and bfloat16 arithmetic is faster than that of onnxruntime.

    Attributes:
        device: Device that it computes on.
        metadata: What the file says about the classifier.
        size: The only height and width that it takes; None if it takes any.
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
        self.device = 'cpu'
        self.metadata: ClassifierMetadata = known.metadata
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


def require(package: str, extra: Literal['onnx', 'openvino'] = 'onnx') -> ModuleType:
    """Import a package that only ONNX files need.

    Args:
        package: Its name.
        extra: The extra of this package that brings it.

    Returns:
        The module.

    Raises:
        UserError: If it is not installed.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise UserError(
            f'{_NEEDED_BY[extra]} the package {package}, which cannot be imported '
            f"({error}): pip install 'torchgeo_discomkd[{extra}]'."
        ) from error


def _device(runtime: Any, device: str) -> str:
    providers = runtime.get_available_providers()
    available = ['cuda', 'cpu'] if 'CUDAExecutionProvider' in providers else ['cpu']
    if device == 'auto':
        device = available[0]
    if device not in available:
        raise SettingError(
            f"device='{device}': onnxruntime has {available} here. Use one of them, or "
            "'auto'; the package onnxruntime-gpu brings 'cuda'."
        )
    return device


def _session(runtime: Any, source: str | Path | bytes, name: str, device: str) -> Any:
    state = runtime.capi.onnxruntime_pybind11_state
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    providers = ['CPUExecutionProvider']
    if device == 'cuda':
        providers.insert(0, 'CUDAExecutionProvider')
        # since 1.21: finds the CUDA that pip installed, as importing PyTorch would
        getattr(runtime, 'preload_dlls', lambda: None)()
    try:
        return runtime.InferenceSession(
            source if isinstance(source, bytes) else str(source),
            options,
            providers=providers,
        )
    except (
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NoModel,
        state.NoSuchFile,
        state.NotImplemented,
        state.RuntimeException,
    ) as error:
        raise ClassifierFileError(
            f'{name} is no ONNX file that onnxruntime {runtime.__version__} reads, or '
            f'it is truncated ({error}): export or copy it again.'
        ) from error


def _size(
    session: Any, metadata: ClassifierMetadata, name: str
) -> tuple[int, int] | None:
    ((modality, described),) = metadata.modalities.items()
    inputs = {value.name: value.shape for value in session.get_inputs()}
    outputs = {value.name: value.shape for value in session.get_outputs()}
    images, probabilities = inputs.get(INPUT, []), outputs.get(OUTPUT, [])
    if (
        (len(inputs), len(outputs)) != (1, 1)
        or images[1:2] != [described.in_channels]
        or probabilities[1:] != [len(metadata.classes)]
        or len(images) != 4
    ):
        raise ClassifierFileError(
            f'{name}: its inputs {inputs} and outputs {outputs} are not those of a '
            f"classifier of '{modality}' with {described.in_channels} bands and "
            f'{len(metadata.classes)} classes: export it again.'
        )
    height, width = images[2:]
    fixed = isinstance(height, int) and isinstance(width, int)
    return (height, width) if fixed else None

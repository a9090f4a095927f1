# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Run exported ONNX files with onnxruntime or OpenVINO, without PyTorch."""

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import ClassifierFileError, SettingError, UserError
from ..files import CHECKSUM, check_sha256
from ..metadata import MOST_VALUES, ClassifierMetadata
from .onnx_checksum import OnnxChecksum, read_checksum
from .properties import INPUT, OUTPUT, QUANTIZATION, from_properties

type Precision = Literal['auto', 'float32', 'bfloat16']

#: Why the packages of an extra are needed.
_NEEDED_BY = {'onnx': 'ONNX files need', 'openvino': 'ONNX files in bfloat16 need'}


class OnnxClassifier:
    """An exported classifier, run by onnxruntime.

    Attributes:
        device: Device that it runs on; onnxruntime falls back to the CPU if a driver
            is missing.
        int8: Whether its convolutions are computed in int8.
        sha256: Checksum of the whole file; None if its content was given.
        size: The only height and width that it accepts; None if it accepts any.

    Example:
        >>> import onnx
        >>> from torchgeo_discomkd.export.properties import to_properties
        >>> from torchgeo_discomkd.models import ModalityMetadata
        >>> sar = ModalityMetadata(2, ('VV', 'VH'), 'dB', tile_size=(32, 32))
        >>> metadata = ClassifierMetadata(
        ...     'disentangled', 'test_resnet', ('Land', 'Water'), {'sar': sar},
        ...     'linear_bn_relu', 'none', 1.0, {}, None, '', '', None, '')
        >>> model = onnx.parser.parse_model(  # stands for an exported file
        ...     '<ir_version: 8, opset_import: ["" : 18]>'
        ...     'mean (float[B, 2, 32, 32] images) => (float[B, 2] probabilities) {'
        ...     'means = GlobalAveragePool(images) flat = Flatten(means)'
        ...     'probabilities = Softmax(flat) }')
        >>> onnx.helper.set_model_props(model, to_properties(metadata, {}))
        >>> classifier = OnnxClassifier(model.SerializeToString(), device='cpu')
        >>> classifier.metadata.classes, classifier.size
        (('Land', 'Water'), (32, 32))
        >>> classifier(np.zeros((1, 2, 32, 32), np.float32))
        array([[0.5, 0.5]], dtype=float32)
    """

    def __init__(self, source: str | Path | bytes, device: str = 'auto') -> None:
        """Initialize a new OnnxClassifier instance.

        Args:
            source: An .onnx file, or its content.
            device: 'cpu', 'cuda', or 'auto' for CUDA if onnxruntime has it.

        Raises:
            ClassifierFileError: If the file is damaged or not from this package.
            SettingError: If onnxruntime does not have *device*, or cannot use it.
            UserError: If onnxruntime is not installed.
        """
        runtime = require('onnxruntime')
        name = 'the exported model' if isinstance(source, bytes) else str(source)
        self._name = name
        sums = None if isinstance(source, bytes) else _checksums(source)
        self.sha256: str | None = None if sums is None else sums.whole
        self._session = _session(runtime, source, name, _device(runtime, device))
        used = self._session.get_providers()
        self.device = 'cuda' if 'CUDAExecutionProvider' in used else 'cpu'
        if device == 'cuda' and self.device != 'cuda':
            raise SettingError(
                "device='cuda': onnxruntime has it, but cannot load CUDA or cuDNN. "
                "Install what onnxruntime.preload_dlls() lacks, or use 'cpu'."
            )
        try:
            properties = self._session.get_modelmeta().custom_metadata_map
            #: Metadata of the classifier.
            self.metadata: ClassifierMetadata = from_properties(properties)
            self.size = _size(self._session, self.metadata)
        except ClassifierFileError as error:
            raise ClassifierFileError(f'{name}: {error}') from error
        except UnicodeDecodeError as error:
            raise ClassifierFileError(
                f'{name} is damaged ({error}): export or copy it again.'
            ) from error
        if sums is not None and sums.recorded is None:
            # one that is not at the end is from before the file was changed
            known = properties.get(CHECKSUM)
            check_sha256(name, known, sums.found)
        self.int8 = QUANTIZATION in properties

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Classify a batch.

        Args:
            images: Raw values, float32, shape (B, C, H, W), B at least 1; NaN and
                infinite pixels count as missing.

        Returns:
            Probabilities, float32, shape (B, K).

        Raises:
            ClassifierFileError: If the program fails.
        """
        try:
            return self._session.run([OUTPUT], {INPUT: images})[0]
        except _errors(require('onnxruntime')) as error:
            raise ClassifierFileError(
                f'{self._name} cannot be run ({error}): export it again.'
            ) from error


class OpenvinoClassifier:
    """An exported classifier, run by OpenVINO on the CPU.

    Its integer and bfloat16 arithmetic is faster than that of onnxruntime.

    Attributes:
        device: Device that it runs on.
        metadata: Metadata of the classifier.
        size: The only height and width that it accepts; None if it accepts any.

    Example:
        >>> import onnx
        >>> from torchgeo_discomkd.export.properties import to_properties
        >>> from torchgeo_discomkd.models import ModalityMetadata
        >>> sar = ModalityMetadata(2, ('VV', 'VH'), 'dB', tile_size=(32, 32))
        >>> metadata = ClassifierMetadata(
        ...     'disentangled', 'test_resnet', ('Land', 'Water'), {'sar': sar},
        ...     'linear_bn_relu', 'none', 1.0, {}, None, '', '', None, '')
        >>> model = onnx.parser.parse_model(  # stands for an exported file
        ...     '<ir_version: 8, opset_import: ["" : 18]>'
        ...     'mean (float[B, 2, 32, 32] images) => (float[B, 2] probabilities) {'
        ...     'means = GlobalAveragePool(images) flat = Flatten(means)'
        ...     'probabilities = Softmax(flat) }')
        >>> onnx.helper.set_model_props(model, to_properties(metadata, {}))
        >>> content = model.SerializeToString()
        >>> known = OnnxClassifier(content, device='cpu')
        >>> classifier = OpenvinoClassifier(content, known)
        >>> classifier(np.zeros((1, 2, 32, 32), np.float32))
        array([[0.5, 0.5]], dtype=float32)
    """

    def __init__(
        self, source: str | Path | bytes, known: OnnxClassifier, bfloat16: bool = False
    ) -> None:
        """Initialize a new OpenvinoClassifier instance.

        Args:
            source: An .onnx file, or its content.
            known: The same file, opened and checked by onnxruntime.
            bfloat16: Whether to compute convolutions and everything after them in
                bfloat16; normalisation, softmax and calibration always use float32.

        Raises:
            ClassifierFileError: If OpenVINO cannot read the file.
            UserError: If OpenVINO is not installed.
        """
        core = require('openvino', 'openvino').Core()
        options = {'INFERENCE_PRECISION_HINT': 'bf16' if bfloat16 else 'f32'}
        given = source if isinstance(source, bytes) else str(source)
        try:
            self._compiled = core.compile_model(core.read_model(given), 'CPU', options)
        except RuntimeError as error:
            name = 'the exported model' if isinstance(source, bytes) else given
            raise ClassifierFileError(
                f'{name} cannot be read by OpenVINO ({error}): export it again.'
            ) from error
        self.device = 'cpu'
        self.sha256 = known.sha256
        self.metadata: ClassifierMetadata = known.metadata
        self.size = known.size

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Classify a batch.

        Args:
            images: Raw values, float32, shape (B, C, H, W), B at least 1; NaN and
                infinite pixels count as missing.

        Returns:
            Probabilities, float32, shape (B, K).
        """
        # the runtime writes the next result into the same memory
        return self._compiled(images)[0].copy()


def open_onnx(
    path: Path, device: str = 'auto', precision: Precision = 'auto'
) -> tuple[OnnxClassifier | OpenvinoClassifier, str]:
    """Open an exported file with onnxruntime or, if that is faster, OpenVINO.

    OpenVINO runs files in bfloat16 and, if it is installed and CUDA is not used, int8
    files.

    Args:
        path: An .onnx file.
        device: As for :class:`OnnxClassifier`.
        precision: 'auto' for that of the file, 'float32' or 'bfloat16'.

    Returns:
        The classifier and its description: format, precision and runtime.

    Raises:
        ClassifierFileError: If the file is damaged or not from this package.
        SettingError: If *device* or *precision* is not available.
        UserError: If onnxruntime, or OpenVINO for 'bfloat16', is not installed.
    """
    bfloat16 = precision == 'bfloat16'
    if bfloat16 and device not in ('auto', 'cpu'):
        raise SettingError(
            f"device='{device}': .onnx files support bfloat16 on the CPU only. Give "
            'the classifier file or omit the precision.'
        )
    classifier = OnnxClassifier(path, 'cpu' if bfloat16 else device)
    if not classifier.int8:
        if bfloat16:
            opened = OpenvinoClassifier(path, classifier, bfloat16)
            return opened, 'ONNX, bfloat16, OpenVINO'
        return classifier, 'ONNX'
    if precision != 'auto':
        raise SettingError(
            f"precision='{precision}': {path} was quantized to int8. Omit the "
            'precision or give the file that it was made from.'
        )
    if classifier.device == 'cpu' and find_spec('openvino') is not None:
        return OpenvinoClassifier(path, classifier), 'ONNX, int8, OpenVINO'
    return classifier, 'ONNX, int8'


def require(package: str, extra: Literal['onnx', 'openvino'] = 'onnx') -> ModuleType:
    """Import a package that only ONNX files need.

    ONNX Runtime 1.29 and later report each model to Microsoft, and OpenVINO its import
    to Intel. We switch that off; for ONNX Runtime only if the environment variable
    ``ORT_DISABLE_TELEMETRY`` is not set.

    Args:
        package: Its name.
        extra: The extra of this package that installs it.

    Returns:
        The module.

    Raises:
        UserError: If it is not installed.
    """
    # read when ONNX Runtime is imported
    os.environ.setdefault('ORT_DISABLE_TELEMETRY', '1')
    try:
        with _hidden('openvino_telemetry'):
            return import_module(package)
    except ImportError as error:
        raise UserError(
            f'{_NEEDED_BY[extra]} the package {package}, which cannot be imported '
            f"({error}): pip install 'torchgeo_discomkd[{extra}]'."
        ) from error


@contextmanager
def _hidden(package: str) -> Generator[None]:
    """Make a package look as if it were not installed."""
    modules = cast('dict[str, ModuleType | None]', sys.modules)
    before = {name: modules[name] for name in [package] if name in modules}
    # Python's own way to forbid an import
    modules[package] = None
    try:
        yield
    finally:
        del modules[package]
        modules.update(before)


def _device(runtime: Any, device: str) -> str:
    providers = runtime.get_available_providers()
    available = ['cuda', 'cpu'] if 'CUDAExecutionProvider' in providers else ['cpu']
    if device == 'auto':
        device = available[0]
    if device not in available:
        raise SettingError(
            f"device='{device}': onnxruntime only has {available} here. Use one of "
            "them or 'auto'; the package onnxruntime-gpu provides 'cuda'."
        )
    return device


def _session(runtime: Any, source: str | Path | bytes, name: str, device: str) -> Any:
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
    except (*_errors(runtime), UnicodeDecodeError) as error:
        raise ClassifierFileError(
            f'{name} is truncated or not an ONNX file that onnxruntime '
            f'{runtime.__version__} can read ({error}): export or copy it again.'
        ) from error


def _errors(runtime: Any) -> tuple[type[Exception], ...]:
    """Return what onnxruntime raises for a file that it cannot use."""
    state = runtime.capi.onnxruntime_pybind11_state
    return (
        *(state.EPFail, state.Fail, state.InvalidArgument, state.InvalidGraph),
        *(state.InvalidProtobuf, state.NoModel, state.NoSuchFile),
        *(state.NotImplemented, state.RuntimeException, RuntimeError),
    )


def _checksums(path: str | Path) -> OnnxChecksum:
    """Check that a file is what was written, before the runtime sees it."""
    try:
        sums = read_checksum(path)
    except (OSError, ValueError) as error:
        raise ClassifierFileError(
            f'{path} is no ONNX file, or cannot be read ({error}): copy it again.'
        ) from error
    if sums.recorded is not None:
        check_sha256(path, sums.recorded, sums.found)
    return sums


def _size(session: Any, metadata: ClassifierMetadata) -> tuple[int, int] | None:
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
            f'its inputs {inputs} and outputs {outputs} are not those of a '
            f"classifier of '{modality}' with {described.in_channels} bands and "
            f'{len(metadata.classes)} classes: export it again.'
        )
    height, width = images[2:]
    if not (isinstance(height, int) and isinstance(width, int)):
        return None
    if min(height, width) < 1 or described.in_channels * height * width > MOST_VALUES:
        raise ClassifierFileError(
            f'its images of {height} x {width} pixels have no pixel or more than '
            f'{MOST_VALUES} values: export it again.'
        )
    return height, width

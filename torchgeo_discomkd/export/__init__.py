# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Turn a classifier file into one self-contained ONNX or PyTorch program."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .comparison import Agreement
    from .exporter import ExportReport, export_classifier
    from .onnx_file import OnnxClassifier, OpenvinoClassifier
    from .program import ProbabilityModel
    from .pt2_file import load_pt2

__all__ = (
    'Agreement',
    'ExportReport',
    'OnnxClassifier',
    'OpenvinoClassifier',
    'ProbabilityModel',
    'export_classifier',
    'load_pt2',
)

_MODULES = {
    'Agreement': 'comparison',
    'ExportReport': 'exporter',
    'OnnxClassifier': 'onnx_file',
    'OpenvinoClassifier': 'onnx_file',
    'ProbabilityModel': 'program',
    'export_classifier': 'exporter',
    'load_pt2': 'pt2_file',
}


def __getattr__(name: str) -> Any:
    # on first use only: classifying by an .onnx file must not wait for PyTorch
    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'.{_MODULES[name]}', __name__), name)


def __dir__() -> list[str]:
    return list(__all__)

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Write ONNX files."""

from collections.abc import Mapping
from typing import cast

import torch
from torch.export import ExportedProgram

from .onnx_file import require
from .properties import INPUT, OUTPUT

#: Version of the operator set: onnxruntime reads it since 1.14 (2023).
OPSET = 18

#: Names of the input's axes that are free, or may be.
_AXES = {0: 'batch', 2: 'height', 3: 'width'}


def onnx_bytes(program: ExportedProgram, properties: Mapping[str, str]) -> bytes:
    """Return the content of an .onnx file.

    Args:
        program: The program of a :class:`ProbabilityModel`.
        properties: Texts to keep in the file.

    Returns:
        A complete file: the weights are inside.

    Raises:
        UserError: If onnx or onnxscript is not installed.
    """
    require('onnx'), require('onnxscript')
    exported = torch.onnx.export(
        program,
        input_names=[INPUT],
        output_names=[OUTPUT],
        # names only: which axes are free is part of the program
        dynamic_shapes={INPUT: _AXES},
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    # None is returned only for a file
    exported = cast(torch.onnx.ONNXProgram, exported)
    exported.model.metadata_props.update(properties)
    return exported.model_proto.SerializeToString()


def with_property(content: bytes, key: str, text: str) -> bytes:
    """Add a text to the metadata of an .onnx file.

    Args:
        content: The file.
        key: Name of the text, a new one.
        text: The text.

    Returns:
        The file with it.

    Raises:
        UserError: If onnx is not installed.
    """
    model = require('onnx').load_from_string(content)
    model.metadata_props.add(key=key, value=text)
    return model.SerializeToString()

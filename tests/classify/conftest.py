# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path

import pytest

KINDS = ['safetensors', 'onnx', 'pt2']


@pytest.fixture(scope='session')
def files(sar_file: Path, exported: dict[str, Path]) -> dict[str, Path]:
    """One classifier in every kind of model file; only for reading."""
    return {'safetensors': sar_file, **exported}

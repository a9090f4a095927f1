# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path

import pytest

from torchgeo_discomkd.export import export_classifier

from ..export.classifiers import write_classifier

KINDS = ['safetensors', 'onnx', 'pt2']


@pytest.fixture(scope='module')
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One classifier in every kind of model file."""
    folder = tmp_path_factory.mktemp('models')
    source = write_classifier(folder / 'sar.safetensors')
    for kind in ('onnx', 'pt2'):
        export_classifier(source, folder / f'sar.{kind}')
    return {kind: folder / f'sar.{kind}' for kind in KINDS}

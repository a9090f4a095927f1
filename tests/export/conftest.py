# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path

import pytest

from torchgeo_discomkd.export import export_classifier

from .classifiers import write_classifier


@pytest.fixture(scope='session')
def sar_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Classifier file of DisCoM-KD for tiles of 32x32 pixels."""
    return write_classifier(tmp_path_factory.mktemp('run') / 'sar.safetensors')


@pytest.fixture(scope='session')
def exported(
    sar_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """:func:`sar_file`, exported once to each format."""
    folder = tmp_path_factory.mktemp('exported')
    card = {'license': 'CC-BY-4.0', 'data_name': 'Simulated'}
    files = {kind: folder / kind / f'sar.{kind}' for kind in ('onnx', 'pt2')}
    for path in files.values():
        export_classifier(sar_file, path, card=card)
    return files

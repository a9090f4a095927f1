# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""What version 0.1 wrote is still read.

``data/version_0_1/files.zip`` holds one classifier of VV and VH, three classes and
tiles of 32x32 pixels, calibrated, as classifier file and exported to both formats. Its
weights have two values each, so that little of them is left in the archive.
"""

import csv
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from torchgeo_discomkd.commands import main
from torchgeo_discomkd.models import load_classifier, load_metadata

from .fakes import write_tile

FOLDER = Path(__file__).parent / 'data' / 'version_0_1'


@pytest.fixture(scope='module')
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the files of version 0.1."""
    folder = tmp_path_factory.mktemp('version_0_1')
    with zipfile.ZipFile(FOLDER / 'files.zip') as archive:
        archive.extractall(folder)
    return folder


@pytest.mark.parametrize('suffix', ['safetensors', 'onnx', 'pt2'])
def test_classifies_as_it_did(files: Path, tmp_path: Path, suffix: str) -> None:
    expected = json.loads((FOLDER / 'probabilities.json').read_text(encoding='utf-8'))
    image = -12 + 5 * np.sin(0.7 * np.arange(2 * 32 * 32)).reshape(2, 32, 32)
    image[1, :4] = np.nan
    tile = tmp_path / 'tile.tif'
    write_tile(tile, image.astype(np.float32), descriptions=('VV', 'VH'))
    table = tmp_path / 'table.csv'
    classify = ['classify', str(files / f'sar.{suffix}'), str(tile)]
    main([*classify, '--output', str(table), '--device', 'cpu'])
    with table.open(encoding='utf-8') as file:
        [row] = csv.DictReader(file)
    assert row['label'] == 'Forêt'
    found = {name: float(row[f'probability_{name}']) for name in expected}
    assert found == pytest.approx(expected, abs=1e-5)


def test_read_outs_by_one_embedding_are_kept(files: Path) -> None:
    loaded = load_classifier(files / 'sar.safetensors')
    assert loaded.auxiliary is not None
    assert load_metadata(files / 'sar.safetensors') == loaded.metadata
    assert loaded.metadata.temperature == 1.7

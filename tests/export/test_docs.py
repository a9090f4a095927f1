# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""What docs/export.md shows runs as it is."""

import csv
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
import rasterio
import torch

from torchgeo_discomkd.classify import classify_tiles, load_predictor
from torchgeo_discomkd.models import load_classifier
from torchgeo_discomkd.rasters import find_images

from ..fakes import write_tile
from .classifiers import sar

DOCS = Path(__file__).parents[2] / 'docs'

#: Runs a program where our package cannot be imported.
ALONE = """
import runpy, sys
sys.modules['torchgeo_discomkd'] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


def run_alone(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, '-I', '-c', ALONE, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def blocks() -> list[str]:
    text = (DOCS / 'export.md').read_text(encoding='utf-8')
    return re.findall(r'```python\n(.*?)```', text, flags=re.DOTALL)


def test_plain_onnxruntime(
    sar_file: Path, exported: dict[str, Path], tmp_path: Path
) -> None:
    images = sar(4)
    images[1, 0, :8] = np.nan
    images[2, 1, :4] = 0
    for number, image in enumerate(images):
        write_tile(tmp_path / f'{number}.tif', image, nodata=0 if number == 2 else None)
    script = str(DOCS / 'examples' / 'onnx_predict.py')
    names = [f'{i}.tif' for i in range(4)]
    result = run_alone(script, str(exported['onnx']), *names, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stderr.startswith('sar: VV, VH in dB')
    images[2, 1, :4] = np.nan
    loaded = load_classifier(sar_file)
    right = loaded.probabilities(torch.from_numpy(images))
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row['path'] for row in rows] == names
    for row, probabilities in zip(rows, right, strict=True):
        best = int(probabilities.argmax())
        assert row['label'] == loaded.metadata.classes[best]
        assert float(row['confidence']) == pytest.approx(
            float(probabilities[best]), abs=1e-4
        )


def test_plain_onnxruntime_reads_as_classify_does(
    exported: dict[str, Path], tmp_path: Path
) -> None:
    [image] = sar(1)
    image = image.round(2)
    write_tile(tmp_path / 'plain.tif', image)
    reverse, names = np.concatenate([image[:1], image[::-1]]), ['angle', 'VH', 'VV']
    write_tile(tmp_path / 'named.tif', reverse, descriptions=names)
    # 0 stands for -50 dB
    numbers = np.rint((image + 50) * 100).astype(np.int16)
    numbers[:, :4] = -1
    write_tile(tmp_path / 'scaled.tif', numbers, nodata=-1, crs='EPSG:32631')
    with rasterio.open(tmp_path / 'scaled.tif', 'r+') as file:
        file.scales, file.offsets = (0.01, 0.01), (-50, -50)
    script = str(DOCS / 'examples' / 'onnx_predict.py')
    paths = [f'{name}.tif' for name in ('plain', 'named', 'scaled')]
    result = run_alone(script, str(exported['onnx']), *paths, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    found = pd.read_csv(io.StringIO(result.stdout))
    scenes = find_images([tmp_path / path for path in paths], ('VV', 'VH'))
    table = tmp_path / 'labels.csv'
    classify_tiles(load_predictor(exported['onnx']), scenes, table, progress=False)
    right = pd.read_csv(table)
    assert found.label.tolist() == right.label.tolist()
    np.testing.assert_allclose(found.confidence, right.confidence, atol=1e-4)
    assert right.confidence[2] != pytest.approx(right.confidence[0], abs=1e-3)


@pytest.mark.parametrize(
    ('shape', 'names', 'has'),
    [
        ((1, 32, 32), None, '[None] and the size [32, 32]'),
        ((2, 64, 32), None, "['VV', 'VH'] and the size [64, 32]"),
        ((2, 32, 32), ['VV', 'HH'], "['VV', 'HH'] and"),
        ((3, 32, 32), ['VV', 'VH', 'VV'], "['VV', 'VH', 'VV'] and"),
    ],
)
def test_plain_onnxruntime_refuses(
    exported: dict[str, Path],
    tmp_path: Path,
    shape: tuple[int, ...],
    names: list[str] | None,
    has: str,
) -> None:
    array = np.zeros(shape, np.float32)
    write_tile(tmp_path / 'tile.tif', array, descriptions=names)
    script = str(DOCS / 'examples' / 'onnx_predict.py')
    result = run_alone(script, str(exported['onnx']), 'tile.tif', cwd=tmp_path)
    assert result.returncode == 1
    assert "needs the bands ['VV', 'VH'] and the size [32, 32]" in result.stderr
    assert f'but has the bands {has}' in result.stderr


def test_plain_onnxruntime_writes_one_label(
    exported: dict[str, Path], tmp_path: Path
) -> None:
    model = onnx.load(exported['onnx'])
    [task] = [x for x in model.metadata_props if x.key == 'task']
    task.value = 'multilabel'
    onnx.save(model, tmp_path / 'several.onnx')
    script = str(DOCS / 'examples' / 'onnx_predict.py')
    result = run_alone(script, 'several.onnx', cwd=tmp_path)
    assert result.returncode == 1
    assert 'several.onnx finds several labels in a tile' in result.stderr


@pytest.mark.slow
def test_plain_pytorch(
    sar_file: Path, exported: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copy(exported['pt2'], tmp_path / 'sar.pt2')
    script = tmp_path / 'script.py'
    script.write_text(blocks()[0] + '\nimport sys\nsys.stdout.write(" ".join(labels))')
    result = run_alone(str(script), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    loaded = load_classifier(sar_file)
    best = int(loaded(torch.full((1, 2, 32, 32), -12.0)).argmax())
    assert result.stdout.split() == [loaded.metadata.classes[best]] * 4


def test_torchgeo(
    sar_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = sar(1, size=(64, 64))[0]
    write_tile(tmp_path / 'scene' / 'scene.tif', scene, crs='EPSG:32631')
    shutil.copy(sar_file, tmp_path)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks()[1:]:
        exec(block, names)  # noqa: S102
    loaded = load_classifier(sar_file)
    corners = [scene[:, i : i + 32, j : j + 32] for i in (32, 0) for j in (0, 32)]
    right = loaded.probabilities(torch.from_numpy(np.stack(corners)))
    torch.testing.assert_close(names['probabilities'], right)
    own = loaded.classifier.encoder.invariant_encoder.state_dict()
    started = names['task'].model.state_dict()
    assert all(torch.equal(started[name], tensor) for name, tensor in own.items())

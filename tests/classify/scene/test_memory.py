# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from .scenes import TYPICAL, UTM, read

SIZE = 20_000

#: Upper left corners of the blocks of 512 x 512 pixels that have data.
BLOCKS = ((0, 0), (10_240, 3_072), (19_456, 19_456), (5_120, 12_800))

CODE = r"""
import json, re, sys
from pathlib import Path
from tests.classify.scene.scenes import make_predictor
from torchgeo_discomkd.classify.scene import classify_scene
from torchgeo_discomkd.performance.memory import keep_freed_memory
from torchgeo_discomkd.rasters.finding import ImageFiles

def megabytes(key):
    status = Path('/proc/self/status').read_text()
    return int(re.search(key + r':\s+(\d+)', status)[1]) / 1024

keep_freed_memory()  # as the command does
before = megabytes('VmRSS')
summary = classify_scene(
    make_predictor((64, 64)), ImageFiles((sys.argv[1],)), sys.argv[2],
    stride=int(sys.argv[3]), progress=False,
)
print(json.dumps({
    'growth': megabytes('VmHWM') - before,
    'windows': summary.windows,
    'cells': sum(summary.cells.values()),
}))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != 'linux', reason='the peak is read from /proc')
@pytest.mark.parametrize(
    ('layout', 'stride'),
    [
        ({'tiled': True, 'blockxsize': 512, 'blockysize': 512}, 32),
        ({'blockysize': 1}, 4),
    ],
    ids=['tiled', 'striped'],
)
def test_memory_does_not_depend_on_the_size_of_the_scene(
    tmp_path: Path, layout: dict[str, int], stride: int
) -> None:
    path = tmp_path / 'scene.tif'
    with (
        rasterio.Env(GDAL_CACHEMAX=32 * 2**20),
        rasterio.open(
            path,
            'w',
            driver='GTiff',
            width=SIZE,
            height=SIZE,
            count=2,
            dtype='float32',
            nodata=0,
            crs='EPSG:32633',
            transform=UTM,
            sparse_ok=True,
            compress='deflate',
            interleave='band',
            **layout,
        ) as file,
    ):
        for i, (top, left) in enumerate(BLOCKS):
            height, width = min(512, SIZE - top), min(512, SIZE - left)
            values = np.full((2, height, width), TYPICAL[i % 3], np.float32)
            file.write(values, window=Window(left, top, width, height))
    result = subprocess.run(
        [sys.executable, '-c', CODE, str(path), str(tmp_path / 'map.tif'), str(stride)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    found = json.loads(result.stdout)
    # 3.2 GB of values
    assert found['growth'] < 400
    classes = read(tmp_path / 'map.tif')
    expected = np.zeros_like(classes)
    for i, (top, left) in enumerate(BLOCKS):
        end = slice(top // stride, (top + 512) // stride)
        expected[end, left // stride : (left + 512) // stride] = i % 3 + 1
    np.testing.assert_array_equal(classes, expected)
    assert found['cells'] == (expected > 0).sum()
    # those that see a block, no others
    assert found['windows'] < 4 * ((512 + 2 * 64) // stride) ** 2

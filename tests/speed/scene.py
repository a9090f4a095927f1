# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Seconds and memory that a map of a whole scene takes.

A synthetic scene of two bands is written, then mapped by a process of its own, which
tells when the first strip was classified and how much memory it needed at most beyond
what it had when the classifier was loaded.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.windows import Window

from torchgeo_discomkd.models import ModalityMetadata

from ..export.classifiers import write_classifier
from .measure import Row, parse, report

#: Rows of the scene that are written together.
STEP = 512

CODE = r"""
import json, re, sys
from pathlib import Path
from time import perf_counter
from torchgeo_discomkd.classify import classify_scene
from torchgeo_discomkd.classify.predictor import load_predictor
from torchgeo_discomkd.classify.scene.panels import PanelAverage
from torchgeo_discomkd.performance.memory import keep_freed_memory
from torchgeo_discomkd.rasters.finding import ImageFiles

def megabytes(key):
    status = Path('/proc/self/status').read_text()
    return int(re.search(key + r':\s+(\d+)', status)[1]) / 1024

model, path, output, stride, precision, device = sys.argv[1:]
keep_freed_memory()
predictor = load_predictor(model, None, device, precision)
before, start, first = megabytes('VmRSS'), perf_counter(), []
add = PanelAverage.add

def timed(self, strip):
    yield from add(self, strip)
    first.append(perf_counter() - start)

PanelAverage.add = timed
summary = classify_scene(
    predictor, ImageFiles((path,)), output,
    stride=int(stride), workers=2, progress=False,
)
print(json.dumps({
    'seconds': perf_counter() - start,
    'first': first[0],
    'growth': megabytes('VmHWM') - before,
    'cells': sum(summary.cells.values()),
    'windows': summary.windows,
}))
"""


def write_scene(path: Path, height: int, size: int) -> None:
    """Write backscatter in dB, (2, height, size), in deflated blocks of 512 pixels."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 2, (2, STEP, size)).astype(np.float32).round(2)
    profile: dict[str, Any] = {
        'driver': 'GTiff',
        'height': height,
        'width': size,
        'count': 2,
        'dtype': 'float32',
        'crs': 'EPSG:32633',
        'transform': Affine(10, 0, 500_000, 0, -10, 5_000_000),
        'nodata': 0,
        'compress': 'deflate',
        'tiled': True,
        'blockxsize': STEP,
        'blockysize': STEP,
    }
    with rasterio.open(path, 'w', **profile) as file:
        for top in range(0, height, STEP):
            rows = min(STEP, height - top)
            values = noise[:, :rows] - rng.uniform(8, 20)
            file.write(values, window=Window(0, top, size, rows))


def measure(*arguments: object) -> dict[str, float]:
    """Map the scene in a process of its own."""
    command = [sys.executable, '-c', CODE, *map(str, arguments)]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(result.stdout)


def main() -> None:
    """Measure."""
    options = parse(
        __doc__,
        (
            '--classifier',
            {'type': Path, 'help': 'of two bands (default: random weights)'},
        ),
        ('--size', {'type': int, 'default': 10_980, 'help': 'default: %(default)s'}),
        ('--height', {'type': int, 'help': 'default: the size'}),
        ('--stride', {'type': int, 'default': 32, 'help': 'default: %(default)s'}),
        ('--device', {'default': 'cpu', 'help': 'default: %(default)s'}),
        ('--precision', {'default': 'auto', 'help': 'default: %(default)s'}),
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = options.classifier or write_classifier(
            folder / 'sar.safetensors',
            model='resnet18',
            modalities={'sar': ModalityMetadata(2, ('VV', 'VH'), 'dB', (64, 64))},
        )
        height = options.height or options.size
        write_scene(folder / 'scene.tif', height, options.size)
        found = measure(
            model,
            folder / 'scene.tif',
            folder / 'map.tif',
            options.stride,
            options.precision,
            options.device,
        )
    seconds = found['seconds']
    pixels = height * options.size
    row = Row('classify', seconds, (seconds, seconds), pixels / seconds, 1.0)
    report(
        f'scene of {options.size} x {height} pixels, {options.device}, '
        f'{options.precision}',
        [row],
        'pixels',
        options.json,
        model=Path(model).name,
        stride=options.stride,
        seconds=round(seconds, 1),
        cells=found['cells'],
        cells_per_second=round(found['cells'] / seconds, 1),
        windows_per_second=round(found['windows'] / seconds, 1),
        first_strip_after_seconds=round(found['first'], 2),
        peak_over_idle_mb=round(found['growth']),
    )


if __name__ == '__main__':
    main()

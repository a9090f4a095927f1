# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Compare one class of a map with a label raster of finer resolution.

    python score_map.py map.tif label.tif --class Water --value 1 --columns 384 512

A cell of the map is scored if all of its pixels are labelled; it belongs to the class
if at least half of them have the value. ``--columns`` are pixels of the label raster,
first and last + 1: columns that the classifier was trained on are not a test.
"""

import argparse
import sys

import numpy as np
import rasterio

parser = argparse.ArgumentParser()
parser.add_argument('map')
parser.add_argument('label')
parser.add_argument('--class', dest='name', required=True)
parser.add_argument('--value', type=int, default=1)
parser.add_argument('--nodata', type=int, default=-1)
parser.add_argument('--columns', type=int, nargs=2, default=(0, None))
options = parser.parse_args()

with rasterio.open(options.map) as file:
    classes, tags = file.read(1), file.tags()
    stride = int(tags['STRIDE'])
    names = {name: int(key[6:]) for key, name in tags.items() if key[:6] == 'CLASS_'}
with rasterio.open(options.label) as file:
    label = file.read(1)

rows, columns = (size // stride for size in label.shape)
cells = label[: rows * stride, : columns * stride].reshape(
    rows, stride, columns, stride
)
labelled = (cells != options.nodata).all(axis=(1, 3))
truth = (cells == options.value).mean(axis=(1, 3)) >= 0.5
predicted = classes[:rows, :columns] == names[options.name]
first, stop = options.columns[0], options.columns[1] or label.shape[1]
inside = np.arange(columns) * stride
scored = labelled & (classes[:rows, :columns] > 0)
scored &= (inside >= first) & (inside + stride <= stop)
truth, predicted = truth[scored], predicted[scored]
union = (truth | predicted).sum()
text = (
    f'{scored.sum()} cells, {truth.sum()} of them {options.name}: '
    f'IoU {(truth & predicted).sum() / union if union else float("nan"):.3f}, '
    f'accuracy {(truth == predicted).mean():.3f}'
)
sys.stdout.write(f'{text}\n')

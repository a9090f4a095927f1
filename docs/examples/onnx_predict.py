# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Classify GeoTIFF tiles by an exported classifier, without torchgeo_discomkd.

It needs NumPy, onnxruntime and rasterio only, and writes a table to standard output:

    python onnx_predict.py sar.onnx tiles/*.tif > labels.csv
"""

import csv
import json
import sys

import numpy as np
import onnxruntime
import rasterio

model, *paths = sys.argv[1:]
session = onnxruntime.InferenceSession(model)
about = session.get_modelmeta().custom_metadata_map
bands, classes = json.loads(about['bands']), json.loads(about['classes'])
if about.get('task') == 'multilabel':
    sys.exit(f'{model} finds several labels in a tile, of which this writes one only.')
size = json.loads(about['tile_size'])  # height and width, or null for any
sys.stderr.write(f'{about["modality"]}: {", ".join(bands)} in {about["unit"]}\n')

table = csv.writer(sys.stdout)
table.writerow(['path', 'label', 'confidence'])
for path in paths:
    with rasterio.open(path) as file:
        names, shape = [*file.descriptions], [*file.shape]
        if not any(names) and len(names) == len(bands):
            names = bands  # without names, their order counts
        if any(names.count(b) != 1 for b in bands) or size not in (None, shape):
            sys.exit(
                f'{path}: needs the bands {bands} and the size {size}, '
                f'but has the bands {names} and the size {shape}'
            )
        chosen = [names.index(band) for band in bands]
        # missing pixels are NaN: the model fills them
        tile = file.read([i + 1 for i in chosen], out_dtype='float32', masked=True)
        scales, offsets = np.float32([file.scales, file.offsets])[:, chosen, None, None]
        tile = tile.filled(np.nan) * scales + offsets
    (probabilities,) = session.run(['probabilities'], {'images': tile[np.newaxis]})[0]
    best = probabilities.argmax()
    table.writerow([path, classes[best], f'{probabilities[best]:.4f}'])

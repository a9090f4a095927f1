# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Copy 8-bit tiles at half their resolution: each pixel is the mean of 2x2.

python average_pixels.py landcover landcover_32x32
"""

import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image

source, target = map(Path, sys.argv[1:])
for path in source.rglob('*.png'):
    image = np.asarray(Image.open(path), dtype=float)
    height, width, *bands = image.shape
    blocks = image.reshape(height // 2, 2, width // 2, 2, *bands)
    copy = target / path.relative_to(source)
    copy.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(blocks.mean((1, 3))).astype('uint8')).save(copy)
for table in source.glob('*.csv'):
    shutil.copy(table, target)

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Where everything lies in a pack, before any image is read.

safetensors writes a file from tensors that are all in memory. A pack is larger than
that: its header is written first, the images follow in any order.
"""

import json
import os
from collections.abc import Collection
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio import CRS

from .. import __version__
from ..datasets.imagesource import DataSource, ImageSource
from ..datasets.packfile import KEY, PackedModality, PackMetadata

#: Types of images that are kept as they are: safetensors' name of each.
TYPES = {
    'uint8': 'U8',
    'int8': 'I8',
    'uint16': 'U16',
    'int16': 'I16',
    'float16': 'F16',
    'float32': 'F32',
    'int32': 'I32',
    'float64': 'F64',
}

#: Types of tensors that are no images.
_OTHER = {'int32', 'float64'}

#: Rows of the statistics.
STATISTICS_ROWS = 8


class PackLayout:
    """Header and small tensors of a pack, and the places of its images."""

    def __init__(
        self,
        source: DataSource,
        output: Path,
        split_hash: str,
        bands: dict[str, tuple[str, ...]],
        widened: Collection[str],
        pool: Executor,
    ) -> None:
        """Initialize a new PackLayout instance.

        Args:
            source: What is packed.
            output: The pack.
            split_hash: Hash of the training split that statistics are of.
            bands: Names of the bands of each modality that has statistics.
            widened: Modalities whose values the type of the source does not hold.
            pool: What reads where tiles lie.
        """
        self.types = {m: image_type(i, m in widened) for m, i in source.images.items()}
        self._shapes: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {
            f'image.{m}': (self.types[m], (len(i.paths), *i.shape))
            for m, i in source.images.items()
        }
        systems: dict[str, int] = {}
        self.small: dict[str, NDArray[Any]] = {}
        for modality, images in source.images.items():
            names = '\n'.join(images.paths).encode()
            self.small[f'path.{modality}'] = np.frombuffer(names, np.uint8)
            if (places := _places(images, systems, pool)) is not None:
                self.small[f'crs.{modality}'] = places[0]
                self.small[f'transform.{modality}'] = places[1]
            if modality in bands:
                shape = (STATISTICS_ROWS, len(bands[modality]))
                self.small[f'statistics.{modality}'] = np.zeros(shape)
        for name, content in source.tables.items():
            self.small[f'table.{name}'] = np.frombuffer(content, np.uint8)
        self._shapes |= {k: (v.dtype, v.shape) for k, v in self.small.items()}
        self.metadata = PackMetadata(
            layout=source.layout,
            bases=source.bases,
            modalities={
                m: PackedModality(i.folder, i.descriptions, bands.get(m), i.unit)
                for m, i in source.images.items()
            },
            crs=tuple(systems),
            split_hash=split_hash,
            fingerprint=source.fingerprint,
            source=os.path.relpath(source.root, output.parent),
            version=__version__,
        )
        self.header, self.offsets, self.size = self._place()

    def _place(self) -> tuple[bytes, dict[str, int], int]:
        entries: dict[str, Any] = {'__metadata__': {KEY: self.metadata.to_json()}}
        offsets: dict[str, int] = {}
        end = 0
        # wide types first, so that every tensor is aligned to its type
        for key in sorted(self._shapes, key=lambda k: -self._shapes[k][0].itemsize):
            dtype, shape = self._shapes[key]
            offsets[key] = end
            end += dtype.itemsize * int(np.prod(shape))
            entries[key] = {
                'dtype': TYPES[dtype.name],
                'shape': shape,
                'data_offsets': (offsets[key], end),
            }
        text = json.dumps(entries).encode()
        text += b' ' * (-len(text) % 8)
        header = len(text).to_bytes(8, 'little') + text
        start = len(header)
        return header, {k: start + v for k, v in offsets.items()}, start + end


def image_type(images: ImageSource, widened: bool) -> np.dtype[Any]:
    """Return the type that images are packed in.

    Args:
        images: The images.
        widened: Whether their own type does not hold their values, because pixels are
            missing.

    Returns:
        Their own type, or float32.
    """
    keep = images.dtype.name in TYPES.keys() - _OTHER and not widened
    return images.dtype if keep else np.dtype(np.float32)


def _places(
    images: ImageSource, systems: dict[str, int], pool: Executor
) -> tuple[NDArray[np.int32], NDArray[np.float64]] | None:
    """Return where images lie; None if the first does not tell."""
    if images.locate(0) is None:
        return None
    numbers = np.full(len(images.paths), -1, np.int32)
    transforms = np.zeros((len(images.paths), 6))
    known: dict[CRS, int] = {}
    for row, place in enumerate(pool.map(images.locate, range(len(images.paths)))):
        if place is not None:
            crs, transform = place
            if crs not in known:
                known[crs] = systems.setdefault(crs.to_wkt(), len(systems))
            numbers[row], transforms[row] = known[crs], transform[:6]
    return numbers, transforms

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Layout of a pack, known before any image is read.

safetensors writes files from tensors that are all in memory. A pack may be larger than
memory: space for the header is reserved, the images follow in any order, and the header
that makes the file a pack is written last.
"""

import hashlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ... import __version__
from ...errors import OutputError
from ...files import CHECKSUM
from ..encoding import UNKNOWN
from ..stored import StoredDataset
from .format import KEY, STATISTICS_ROWS, PackedModality, PackMetadata

#: safetensors' names of types.
NAMES = {
    'uint8': 'U8',
    'int8': 'I8',
    'uint16': 'U16',
    'int16': 'I16',
    'float16': 'F16',
    'float32': 'F32',
    'int32': 'I32',
    'float64': 'F64',
}

#: Types that images keep; all others become float32.
KEPT = ('uint8', 'int8', 'uint16', 'int16', 'float16', 'float32')

#: Bytes reserved in the header for the coordinate reference systems, which are known
#: last: about 80 of them without an EPSG code, or 6000 with one.
RESERVE = 2**16


class PackLayout:
    """Positions of all tensors in a pack, and its header.

    Attributes:
        images: Type (in the byte order of the file) and shape of the images of each
            modality.
        small: Contents of the tensors that are known from the start.
        offsets: Position of the first byte of every tensor.
        sizes: Number of bytes of every tensor.
        size: Size of the file in bytes.
    """

    def __init__(
        self, dataset: StoredDataset, output: Path, widened: Collection[str]
    ) -> None:
        """Initialize a new PackLayout instance.

        Args:
            dataset: The data set to pack.
            output: The pack.
            widened: Modalities whose values do not fit into the type of the source.
        """
        self.images: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
        self.small: dict[str, bytes] = {}
        for name in dataset.table_names():
            if (table := dataset.store.read_table(name)) is not None:
                self.small[f'table.{name}'] = table
        described: dict[str, PackedModality] = {}
        self._shapes: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
        for modality, images in dataset.images.items():
            header, encoding = images.header(0), images.encoding
            shape = header.count, header.height, header.width
            described[modality] = PackedModality(
                images.folder,
                header.descriptions,
                None if encoding.sample_unit == UNKNOWN else encoding.sample_unit,
                None if images.pattern is None else images.pattern.pattern,
                None if encoding.unit == encoding.sample_unit else encoding.unit,
                encoding.nodata,
            )
            changed = encoding.unit != encoding.sample_unit or modality in widened
            keep = header.dtype.name in KEPT and not changed
            dtype = header.dtype.newbyteorder('<') if keep else np.dtype('<f4')
            count = len(images)
            self.images[modality] = dtype, shape
            self.small[f'path.{modality}'] = json.dumps(list(images.paths)).encode()
            self._shapes[f'image.{modality}'] = (dtype, (count, *shape))
            self._shapes[f'crc32.{modality}'] = (np.dtype('<i4'), (count,))
            if dataset.store.layout == 'folders':
                self._shapes[f'crs.{modality}'] = (np.dtype('<i4'), (count,))
                self._shapes[f'transform.{modality}'] = (np.dtype('<f8'), (count, 6))
            if modality in dataset.modalities:
                rows = (STATISTICS_ROWS, shape[0])
                self._shapes[f'statistics.{modality}'] = (np.dtype('<f8'), rows)
        for key, content in self.small.items():
            self._shapes[key] = (np.dtype('u1'), (len(content),))
        self._metadata: Mapping[str, Any] = {
            'layout': dataset.store.layout,
            'bases': dataset.bases,
            'modalities': described,
            'split_hash': dataset.split_hash(),
            'fingerprint': dataset.fingerprint(),
            'source': os.path.relpath(
                dataset.store.root.resolve(), output.parent.resolve()
            ),
            'version': __version__,
        }
        self._place()

    def description(self, systems: Sequence[str]) -> str:
        """Return the metadata as JSON.

        Args:
            systems: Coordinate reference systems.
        """
        return PackMetadata(crs=tuple(systems), **self._metadata).to_json()

    def header(
        self, systems: Sequence[str] | None = None, checksum: str | None = None
    ) -> bytes:
        """Return the header of the file.

        Args:
            systems: Coordinate reference systems. Without them the file cannot be read
                as a pack.
            checksum: Checksum of everything but the images; None if it is not known
                yet.

        Returns:
            All bytes before the first tensor.

        Raises:
            OutputError: If there are too many coordinate reference systems.
        """
        metadata = {}
        if systems is not None:
            described = {KEY: self.description(systems)}
            if checksum is not None:
                described[CHECKSUM] = checksum
            metadata = {'__metadata__': described}
        text = json.dumps(metadata | self._entries).encode()
        if len(text) > self._start - 8:
            raise OutputError(
                f'the tiles are in {len(systems or ())} coordinate reference systems, '
                'more than a pack can hold: warp them to fewer.'
            )
        text += b' ' * (self._start - 8 - len(text))
        return len(text).to_bytes(8, 'little') + text

    def state(self) -> str:
        """Return a hash of everything that is known before the first image is read."""
        digest = hashlib.sha256(self.header(()))
        for content in self.small.values():
            digest.update(content)
        return digest.hexdigest()

    def _place(self) -> None:
        self._entries: dict[str, Any] = {}
        end = 0
        # wide types first, so that every tensor is aligned to its type
        for key in sorted(self._shapes, key=lambda k: -self._shapes[k][0].itemsize):
            dtype, shape = self._shapes[key]
            start, end = end, end + dtype.itemsize * int(np.prod(shape))
            self._entries[key] = {
                'dtype': NAMES[dtype.name],
                'shape': shape,
                'data_offsets': (start, end),
            }
        length = len(json.dumps(self._entries))
        length += 2 * len(json.dumps(self.description(())))
        self._start = -(-(length + RESERVE) // 4096) * 4096
        self.offsets = {
            key: self._start + entry['data_offsets'][0]
            for key, entry in self._entries.items()
        }
        self.sizes = {
            key: entry['data_offsets'][1] - entry['data_offsets'][0]
            for key, entry in self._entries.items()
        }
        self.size = self._start + end

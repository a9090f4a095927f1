# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""A pack: all images of a data set in one file.

It is a safetensors file (no pickle) with, for every modality m, the tensors

* ``image.m``: (N, C, H, W), uint8, int8, uint16, int16, float16 or float32, whichever
  of the source's type and float32 keeps all values; missing pixels are NaN;
* ``path.m``: the N paths in the source, as JSON;
* ``transform.m`` (N, 6) float64 and ``crs.m`` (N,) int32, for images in files: where
  tiles lie on the Earth; the number of the coordinate reference system, or -1;
* ``crc32.m`` (N,) int32: CRC-32 of each image, compared when it is first read;
* ``statistics.m`` (23, C) float64: :data:`STATISTICS` and :data:`SEVERAL` of each band
  in training data;

and ``table.<name>``, the bytes of each small file with splits and labels. The metadata
in the header describe the rest, and a checksum (SHA-256) covers all but the images.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ...metadata import QUANTILES, Name, Text

#: Suffix of a pack: a *root* that ends in it is one.
SUFFIX = '.safetensors'

#: Key of the metadata in the file's header.
KEY = 'torchgeo_discomkd_pack'

#: Version of the format above, and those that can be read.
FORMAT = 2
READABLE = (1, 2)

#: Rows of the statistics, which are fields of BandStatistics.
STATISTICS = ('mean', 'std', 'low', 'high', 'minimum', 'maximum', 'missing', 'count')

#: Fields of BandStatistics that have several rows each, which follow.
SEVERAL = {'quantiles': len(QUANTILES), 'means': 2, 'stds': 2, 'repeated': 2}

#: Number of all rows; packs of earlier versions have only the first eight.
STATISTICS_ROWS = len(STATISTICS) + sum(SEVERAL.values())


@dataclass(frozen=True)
class PackedModality:
    """Description of one modality in a pack.

    Attributes:
        folder: Folder below each base (folders), prefix of the file (arrays), or class
            of the data set (datasets).
        descriptions: Names of the bands in the files themselves, in order; None if they
            have none.
        unit: Unit of the values, if it was known when the data were packed.
        stem_pattern: Regular expression that selected the files, if one was given.
        file_unit: Unit in the source's files, if they were converted.
        nodata: Number that stood for missing pixels in the source's files, if stated.
    """

    folder: Text
    descriptions: tuple[Text, ...] | None
    unit: Name | None
    stem_pattern: Text | None = None
    file_unit: Name | None = None
    nodata: int | float | None = None


@dataclass(frozen=True)
class PackMetadata:
    """Metadata in the header of a pack.

    Attributes:
        layout: Kind of source.
        bases: Folders of the splits, or one empty text.
        modalities: The modalities by name.
        crs: Coordinate reference systems, as 'EPSG:<code>' or WKT.
        split_hash: Hash of the training split that the statistics belong to.
        fingerprint: Hash of the source's files.
        source: Path of the source, relative to the folder of the pack.
        version: Version of the package that wrote the pack.
    """

    layout: Literal['folders', 'arrays', 'datasets']
    bases: tuple[Text, ...]
    modalities: dict[Name, PackedModality]
    crs: tuple[Text, ...]
    split_hash: Name
    fingerprint: Name
    source: Text
    version: Name

    def to_json(self) -> str:
        """Return the metadata as a JSON object."""
        return json.dumps({'format': FORMAT, **asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> 'PackMetadata':
        """Return the metadata that :meth:`to_json` wrote.

        Args:
            text: JSON object.

        Raises:
            ValueError: If the text is not such an object.
        """
        # takes 20 ms: only when a file is read
        import msgspec

        try:
            values: dict[str, Any] = json.loads(text)
            if (number := values.pop('format')) not in READABLE:
                raise ValueError(
                    f'format {number}, but this version reads {READABLE[0]} to {FORMAT}'
                )
            return msgspec.convert(values, cls)
        except (AttributeError, KeyError, RecursionError, TypeError) as error:
            raise ValueError(f'not a description of a pack: {error!r}') from error


def is_pack(root: str | Path) -> bool:
    """Return whether the root of a data set names a pack rather than a folder.

    Args:
        root: The root.

    Example:
        >>> is_pack('data/eurosat.safetensors'), is_pack('data/eurosat')
        (True, False)
    """
    path = Path(root)
    return path.suffix == SUFFIX and not path.is_dir()

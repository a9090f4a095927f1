# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path

import numpy as np
import pytest
import rasterio

from torchgeo_discomkd.errors import CorruptFileError
from torchgeo_discomkd.rasters import read_image
from torchgeo_discomkd.rasters.finding import ImageFiles
from torchgeo_discomkd.rasters.tiles import TileSpec, read_tile

pytestmark = pytest.mark.filterwarnings(
    'ignore::rasterio.errors.NotGeoreferencedWarning'
)


@pytest.mark.parametrize('interleave', ['pixel', 'band'])
@pytest.mark.parametrize('compress', ['deflate', 'lzma', 'lzw'])
def test_compressed_data_that_end_in_zeros(
    tmp_path: Path, compress: str, interleave: str
) -> None:
    image = np.random.default_rng(0).normal(100, 9, (2, 32, 32)).astype(np.uint8)
    path = tmp_path / 'a.tif'
    shape = {'count': 2, 'height': 32, 'width': 32, 'dtype': 'uint8'}
    with rasterio.open(
        *(path, 'w', 'GTiff'), **shape, compress=compress, interleave=interleave
    ) as file:
        file.write(image)
    content = path.read_bytes()
    assert np.array_equal(read_image(path), image)
    refused = 0
    for end in range(300, len(content) - 8, 61):
        path.write_bytes(content[:end] + bytes(len(content) - end))
        with pytest.raises(
            CorruptFileError, match=r'cannot be read|end early in zeros'
        ):
            read_image(path)
        refused += 1
    assert refused > 20
    tile = read_tile(ImageFiles((str(path),)), TileSpec(('B1', 'B2'), '', None))
    assert tile.status.startswith('unreadable: ')


def test_padding_after_compressed_data(tmp_path: Path) -> None:
    """Some programs fill blocks up with zeros, and count them."""
    path = tmp_path / 'a.tif'
    with rasterio.open(
        *(path, 'w', 'GTiff'),
        count=1,
        height=8,
        width=8,
        dtype='uint8',
        compress='lzma',
    ) as file:
        file.write(np.arange(64, dtype=np.uint8).reshape(1, 8, 8))
        size = int(file.get_tag_item('BLOCK_SIZE_0_0', 'TIFF', bidx=1) or 0)
    content = path.read_bytes().replace(
        size.to_bytes(2, 'little'), (size + 8).to_bytes(2, 'little')
    )
    path.write_bytes(content + bytes(8))
    with rasterio.open(path) as file:
        found = file.get_tag_item('BLOCK_SIZE_0_0', 'TIFF', bidx=1)
    assert int(found) == size + 8
    assert read_image(path)[0, 7, 7] == 63

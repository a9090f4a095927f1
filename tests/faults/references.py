# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Images that refer to other files and to hosts, which must not be followed."""

from pathlib import Path

import numpy as np
import rasterio

from tests.fakes import write_tile
from torchgeo_discomkd.errors import UserError
from torchgeo_discomkd.rasters import find_images
from torchgeo_discomkd.rasters.tiles import read_tile

from .formats import SPEC, Format, classify_folder, read_as_all

#: Name of the image that they refer to, and its pixels, which nobody may see.
SECRET, PIXELS = 'secret.tif', -7.0

#: Nobody answers there.
HOST = 'http://127.0.0.1:9'


def vrt(source: str, kind: str = 'Float32', size: int = 32) -> str:
    """Return a virtual image whose two bands are those of another one."""
    bands = ''.join(
        f'<VRTRasterBand dataType="{kind}" band="{band}"><SimpleSource>'
        f'<SourceFilename>{source}</SourceFilename><SourceBand>{band}</SourceBand>'
        f'<SourceProperties RasterXSize="{size}" RasterYSize="{size}" '
        f'DataType="{kind}" BlockXSize="{size}" BlockYSize="{size}"/>'
        '</SimpleSource></VRTRasterBand>'
        for band in (1, 2)
    )
    flags = '<MDI key="INTERNAL_MASK_FLAGS_1">2</MDI>'
    flags = f'<Metadata>{flags}</Metadata>' if kind == 'Byte' else ''
    shape = f'rasterXSize="{size}" rasterYSize="{size}"'
    return f'<VRTDataset {shape}>{flags}{bands}</VRTDataset>'


def wms(url: str) -> str:
    """Return the description of an image on a host."""
    return (
        f'<GDAL_WMS><Service name="TMS"><ServerUrl>{url}</ServerUrl></Service>'
        '<DataWindow><UpperLeftX>0</UpperLeftX><UpperLeftY>0</UpperLeftY>'
        '<LowerRightX>1</LowerRightX><LowerRightY>1</LowerRightY><SizeX>32</SizeX>'
        '<SizeY>32</SizeY></DataWindow><BandsCount>2</BandsCount></GDAL_WMS>'
    )


def _metadata(path: Path, source: str) -> None:
    write_tile(path, np.full((2, 16, 16), -12, np.float32))
    with rasterio.open(path, 'r+') as file:
        file.update_tags(ns='OVERVIEWS', OVERVIEW_FILE=source)


def _beside(path: Path, suffix: str, text: str) -> None:
    write_tile(path, np.full((2, 16, 16), -12, np.float32))
    path.with_name(path.name + suffix).write_text(text)


def write_references(folder: Path) -> None:
    """Write images that refer to one outside their folder and to a host.

    Args:
        folder: Empty folder. The images are in ``tiles``, the other one beside it.
    """
    write_tile(folder / SECRET, np.full((2, 16, 16), PIXELS, np.float32))
    tiles = folder / 'tiles'
    for kind, source in (
        ('file', str(folder / SECRET)),
        ('host', f'/vsicurl/{HOST}/{SECRET}'),
    ):
        at = tiles / kind
        at.mkdir(parents=True)
        for name in ('a.tif', 'b.jpg', 'c.png', 'd.vrt'):
            (at / name).write_text(vrt(source, size=16))
        (at / 'e.tif').write_text(wms(source.removeprefix('/vsicurl/')))
        pam = '<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">'
        _beside(
            at / 'f.tif', '.aux.xml', f'{pam}{source}</MDI></Metadata></PAMDataset>'
        )
        _beside(at / 'g.tif', '.ovr', vrt(source, size=8))
        _beside(at / 'h.tif', '.msk', vrt(source, 'Byte', 16))
        _metadata(at / 'i.tif', source)
        (at / 'list.txt').write_text(
            f'f.tif\n{source}\n' if kind == 'host' else 'a.tif'
        )


def read_references(path: Path) -> None:
    """Read the images of a folder, and what its list has, as commands do.

    Args:
        path: One of its files.
    """
    errors: list[UserError] = []
    images = find_images([path.parent])
    try:
        images += find_images([path.parent / 'list.txt'])
    except UserError as error:
        errors.append(error)
    for image in images:
        windows = read_tile(image, SPEC).windows
        if windows is not None and (windows == PIXELS).any():
            raise RuntimeError(f'{image.name} shows another image')
        try:
            read_as_all(image)
        except UserError as error:
            errors.append(error)
    if errors:
        raise errors[0]


FORMATS = {
    'references': Format(
        write_references, 'tiles/*/*', read_references, classify_folder
    )
}

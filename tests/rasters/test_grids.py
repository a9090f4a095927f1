# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import gzip
import html
import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS

from tests.fakes import write_tile
from torchgeo_discomkd.datasets.pack.file import PackFile
from torchgeo_discomkd.errors import CorruptFileError, PackError
from torchgeo_discomkd.rasters import read_header, read_image
from torchgeo_discomkd.rasters.grids import grid_path, refuse_grids

DATA = Path(__file__).parents[1] / 'data'
IMAGE = np.full((2, 8, 8), -12, np.float32)
PLACE = rasterio.Affine(0.01, 0, 10, 0, -0.01, 50)
GEOGCS = (
    'GEOGCS["x",DATUM["x",SPHEROID["WGS_1984",6378137,298.257223563]{}],'
    'PRIMEM["Greenwich",0],UNIT["Degree",0.0174532925199433]]'
)


def named(grid: str) -> str:
    """Return a system that names a file of shifts."""
    return GEOGCS.format(f',EXTENSION["PROJ4_GRIDS","{grid}"]')


def in_sidecar(folder: Path, system: str) -> Path:
    """Write an image whose system is in the file next to it."""
    path = folder / 'a.tif'
    write_tile(path, IMAGE, None, 'EPSG:4326', ['VV', 'VH'])
    # every character may be an entity
    text = html.escape(system).replace('/', '&#47;')
    (folder / 'a.tif.aux.xml').write_text(f'<PAMDataset><SRS>{text}</SRS></PAMDataset>')
    return path


def in_tag(folder: Path, system: str, **options: str) -> Path:
    """Write an image whose system is a text in a tag, as Esri writes it."""
    path = folder / 'a.tif'
    shape = dict(zip(('count', 'height', 'width'), IMAGE.shape, strict=True))
    # PROJ says that it does not find the file
    with (
        rasterio.Env(CPL_LOG='/dev/null'),
        rasterio.open(
            *(path, 'w', 'GTiff'),
            **shape,
            dtype='float32',
            transform=PLACE,
            crs=CRS.from_wkt(system),
            GEOTIFF_KEYS_FLAVOR='ESRI_PE',
            **options,
        ) as file,
    ):
        file.write(IMAGE)
    return path


@pytest.mark.parametrize(
    'write',
    [
        in_sidecar,
        in_tag,
        lambda *args: in_tag(*args, ENDIANNESS='BIG'),
        lambda *args: in_tag(*args, BIGTIFF='YES'),
    ],
    ids=['sidecar', 'tag', 'big endian', 'BigTIFF'],
)
def test_files_that_a_system_names_are_not_opened(
    tmp_path: Path, write: Callable[[Path, str], Path], capfd: pytest.CaptureFixture
) -> None:
    secret = tmp_path / 'secret.gsb'
    secret.write_bytes(b'secret')
    path = write(tmp_path, named(str(secret)))
    capfd.readouterr()
    for read in (read_header, read_image):
        with pytest.raises(CorruptFileError, match=rf'names another file, {secret}'):
            read(str(path))
    # what PROJ says about a file that it has opened
    assert 'secret' not in capfd.readouterr().err


def as_tiff(count: int, length: int) -> bytes:
    """Return a TIFF file with a number of tags and a length of text, and no image."""
    tag = struct.pack('<HHII', 34737, 2, length, 0)
    return b'II*\0' + struct.pack('<IH', 8, count) + tag * min(count, 5000) + b'\0' * 4


@pytest.mark.parametrize(
    ('count', 'length', 'message'),
    [(4097, 8, '4097 tags, more than'), (1, 2**20 + 1, '1048577 bytes of georef')],
)
def test_what_is_too_long_to_be_searched_is_refused(
    count: int, length: int, message: str, tmp_path: Path
) -> None:
    path = tmp_path / 'a.tif'
    path.write_bytes(as_tiff(count, length))
    with pytest.raises(CorruptFileError, match=message):
        refuse_grids(str(path), [])


def test_a_sidecar_that_is_too_long_is_refused(tmp_path: Path) -> None:
    path = in_sidecar(tmp_path, GEOGCS.format(''))
    with (tmp_path / 'a.tif.aux.xml').open('r+') as file:
        file.truncate(2**26 + 1)
    with pytest.raises(
        CorruptFileError, match=r'a\.tif\.aux\.xml has more than 64 MiB'
    ):
        read_image(str(path))


@pytest.mark.parametrize('write', [in_sidecar, in_tag])
def test_other_systems_are_read(
    tmp_path: Path, write: Callable[[Path, str], Path]
) -> None:
    path = write(tmp_path, GEOGCS.format(''))
    np.testing.assert_array_equal(read_image(str(path)), IMAGE)


def test_a_name_that_quotes_a_path_is_a_name(tmp_path: Path) -> None:
    text = 'GEOGCS["x using nadgrids=/etc/x",' + GEOGCS.format('').partition(',')[2]
    path = tmp_path / 'a.tif'
    write_tile(path, IMAGE, None, CRS.from_wkt(text), ['VV', 'VH'])
    assert b'nadgrids=/etc/x' in path.read_bytes()
    np.testing.assert_array_equal(read_image(str(path)), IMAGE)


@pytest.mark.parametrize(
    'system',
    [
        named('@null'),
        named('us_noaa_conus.tif'),
        'EXTENSION["PROJ4","+proj=merc +units=m +nadgrids=@null +wktext"]',
        '+init=epsg:4326',
        CRS.from_epsg(32633).to_wkt(),
    ],
)
def test_names_of_projs_own_data_are_no_paths(system: str) -> None:
    assert grid_path(system) is None


@pytest.mark.parametrize(
    'system',
    [
        '+proj=longlat +nadgrids=@null,/etc/x +no_defs',
        '+proj=longlat +geoidgrids=~/x',
        '+init=/etc/x:1',
        '+proj=tinshift +file=http://host/x',
        'EXTENSION["PROJ4","+proj=merc +nadgrids=../x +wktext"]',
        'ABRIDGEDTRANSFORMATION["a",METHOD["NTv2"],PARAMETERFILE["b","C:\\x"]]',
        json.dumps({'parameters': [{'name': 'file', 'value': '/etc/x'}]}),
    ],
)
def test_all_ways_to_name_a_file(system: str) -> None:
    assert grid_path(system) is not None


def test_a_pack_names_no_file(tmp_path: Path) -> None:
    # of an earlier version, without a checksum
    content = gzip.decompress((DATA / 'pack_folders.safetensors.gz').read_bytes())
    changed = content.replace(b'EPSG:32631', b'+init=/x:1')
    assert changed != content
    path = tmp_path / 'a.safetensors'
    path.write_bytes(changed)
    with pytest.raises(PackError, match=r'names another file, /x:1'):
        _ = PackFile(path).systems

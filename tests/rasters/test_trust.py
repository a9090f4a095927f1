# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio

from tests.fakes import write_tile
from tests.faults.references import vrt, wms
from torchgeo_discomkd.errors import CorruptFileError, LayoutError
from torchgeo_discomkd.rasters import find_images, read_georeference, read_image
from torchgeo_discomkd.rasters.opening import open_raster
from torchgeo_discomkd.rasters.tiles import TileSpec, read_tile

pytestmark = pytest.mark.filterwarnings(
    'ignore::rasterio.errors.NotGeoreferencedWarning'
)

DB = np.random.default_rng(0).normal(-12, 1, (2, 32, 32)).astype(np.float32)
SECRET = np.full((2, 32, 32), -7, np.float32)
SPEC = TileSpec(('VV', 'VH'), 'dB', (32, 32))

Source = Callable[[str], str]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Source]:
    """Make the path of an image on a host, which nobody may contact."""
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    # nobody answers
    monkeypatch.setenv('GDAL_HTTP_TIMEOUT', '1')
    with socket.create_server(('127.0.0.1', 0)) as server:
        server.setblocking(False)
        port = server.getsockname()[1]
        yield lambda name: f'/vsicurl/http://127.0.0.1:{port}/{name}.tif'
        with pytest.raises(BlockingIOError):
            server.accept()


def test_disguised_files_are_not_followed(tmp_path: Path, host: Source) -> None:
    write_tile(tmp_path / 'secret.tif', SECRET)
    folder = tmp_path / 'tiles'
    folder.mkdir()
    (folder / 'a.tif').write_text(vrt(f'{tmp_path}/secret.tif'))
    (folder / 'b.jpg').write_text(vrt(f'{tmp_path}/secret.tif'))
    (folder / 'c.png').write_text(vrt(host('c')))
    (folder / 'd.TIF').write_text(wms(host('d').removeprefix('/vsicurl/')))
    (folder / 'e.vrt').write_text(vrt(f'{tmp_path}/secret.tif'))
    (tmp_path / 'list.txt').write_text(
        '\n'.join(map(str, sorted(folder.glob('[!e]*'))))
    )
    images = find_images([folder])
    assert images == find_images([tmp_path / 'list.txt'])
    assert images == find_images([f'{folder}/*'])
    assert images == find_images(sorted(folder.glob('[!e]*')))
    assert len(images) == 4
    for image in images:
        status = read_tile(image, SPEC).status
        assert status.startswith(f'unreadable: {image.name} cannot be read as an image')
        with pytest.raises(CorruptFileError, match='not recognized'):
            read_image(image.paths[0])
    # by its own name, it was meant
    [image] = find_images([folder / 'e.vrt'])
    assert np.array_equal(read_tile(image, SPEC).windows, SECRET[None])
    assert find_images([f'{folder}/*.vrt']) == [image]


@pytest.mark.parametrize(
    'kind',
    [
        *('ovr', 'OVR', 'msk', 'msk.ovr', 'aux', 'aux.xml', 'metadata'),
        *('aux.xml lower', 'metadata lower'),
    ],
)
@pytest.mark.parametrize('remote', [True, False])
def test_files_next_to_it_lead_nowhere(
    tmp_path: Path, host: Source, kind: str, remote: bool
) -> None:
    write_tile(tmp_path / 'secret.tif', SECRET)
    source = host(kind) if remote else f'{tmp_path}/secret.tif'
    path = tmp_path / 'tiles' / 'a.tif'
    write_tile(path, DB)
    # GDAL finds both
    key, domain = 'OVERVIEW_FILE', 'OVERVIEWS'
    if kind.endswith('lower'):
        key, domain = key.lower(), domain.lower()
    if kind.startswith('aux.xml'):
        (path.parent / 'a.tif.aux.xml').write_text(
            f'<PAMDataset><Metadata domain="{domain}">'
            f'<MDI key="{key}">{source}</MDI></Metadata></PAMDataset>'
        )
    elif kind.startswith('metadata'):
        with rasterio.open(path, 'r+') as file:
            file.update_tags(ns=domain, **{key: source})
    elif kind == 'aux':
        (path.parent / 'a.aux').write_text(f'EHFA_HEADER_TAG{vrt(source)}')
        (path.parent / 'a.tfw').write_text('10\n0\n0\n-10\n500005\n4999995\n')
    else:
        if kind == 'msk.ovr':
            write_tile(tmp_path / 'mask.tif', np.ones((2, 32, 32), np.uint8))
            (tmp_path / 'mask.tif').rename(path.parent / 'a.tif.msk')
        mask = kind.startswith('msk')
        text = vrt(source, 'Byte' if mask else 'Float32', 32 if kind == 'msk' else 16)
        (path.parent / f'a.tif.{kind}').write_text(text)
    with pytest.raises(CorruptFileError, match=r'cannot be read|another file|ERDAS'):
        read_image(path)


def test_honest_files_next_to_it_are_read(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    write_tile(path, DB)
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(path, 'r+') as file:
        file.build_overviews([2])
    assert (tmp_path / 'a.tif.ovr').exists()
    (tmp_path / 'a.tif.aux.xml').write_text(
        '<PAMDataset><SRS>EPSG:32633</SRS><PAMRasterBand band="1"><Scale>2</Scale>'
        '</PAMRasterBand></PAMDataset>'
    )
    assert np.allclose(read_image(path)[0], 2 * DB[0])
    with open_raster(path) as file:
        assert file.overviews(1) == [2]
    # a world file of a longer name, in capitals
    (tmp_path / 'a.TFW').write_text('10\n0\n0\n-10\n500005\n4999995\n')
    place = read_georeference(path)
    assert place is not None
    assert (place[1].a, place[1].c) == (10, 500000)


@pytest.mark.parametrize('name', ['s3:x.tif', 'http:x.tif', 'zip:x.tif', 'a#b?c.tif'])
def test_files_that_look_like_addresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_tile(tmp_path / name, DB)
    for given in (name, '.', '*.tif'):
        [image] = find_images([given])
        assert Path(image.name) == Path(name)
        assert np.array_equal(read_tile(image, SPEC).windows, DB[None])
    (tmp_path / 'list.txt').write_text(f'{name}\n')
    assert find_images(['list.txt']) == [image]
    assert np.array_equal(read_image(Path(name)), DB)


@pytest.mark.parametrize(
    'line', ['/vsimem/x.tif', 'https://example.org/a.tif', 'NETCDF:a.nc:vv', 'a.vrt']
)
def test_lists_lead_nowhere_unless_trusted(tmp_path: Path, line: str) -> None:
    path = tmp_path / 'list.txt'
    path.write_text(f'a.tif\n\n{line}\n')
    with pytest.raises(LayoutError, match=r'list\.txt, line 3: .*add --trust-lists'):
        find_images([path])
    found = find_images([path], trust_lists=True)
    assert [image.name for image in found] == ['a.tif', line]


def test_what_is_no_file_is_left_and_counted(tmp_path: Path) -> None:
    write_tile(tmp_path / 'tiles' / 'a.tif', DB)
    os.mkfifo(tmp_path / 'tiles' / 'fifo.tif')
    os.mkfifo(tmp_path / 'fifo.txt')
    (tmp_path / 'tiles' / 'null.npy').symlink_to('/dev/null')
    (tmp_path / 'tiles' / 'link.png').symlink_to('fifo.tif')
    (tmp_path / 'tiles' / 'self').symlink_to('self')
    counts = []
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / 'tiles' / 's.tif'))
        images = find_images([tmp_path / 'tiles'], report=counts.append)
    assert [Path(image.name).name for image in images] == ['a.tif']
    assert '1 image; left 5 files: 1 of other types (no suffix), 4 no r' in str(*counts)
    for name in ('fifo.tif', 'null.npy'):
        # if it is given, it is a row like any other that cannot be read
        [image] = find_images([tmp_path / 'tiles' / name])
        assert 'not a regular file' in read_tile(image, SPEC).status
    with pytest.raises(LayoutError, match='not a regular file'):
        find_images([tmp_path / 'fifo.txt'])


def test_links_list_no_tile_twice(tmp_path: Path) -> None:
    for name in ('a/1.tif', 'b/2.tif', 'b/c/3.tif', '.store/4.tif'):
        write_tile(tmp_path / 'tiles' / name, DB)
    write_tile(tmp_path / 'more' / 'd' / '5.tif', DB)
    for link, target in {
        'a/to_b': 'b',
        'b/to_a': 'a',
        'a/self': 'a/self',
        'store': '.store',
        'up': '.',
        'x': '../more/d',
        'y': '../more',
    }.items():
        (tmp_path / 'tiles' / link).symlink_to(tmp_path / 'tiles' / target)
    counts = []
    images = find_images([tmp_path / 'tiles'], report=counts.append)
    assert [str(Path(i.name).relative_to(tmp_path / 'tiles')) for i in images] == [
        *('a/1.tif', 'b/2.tif', 'b/c/3.tif', 'store/4.tif', 'x/5.tif')
    ]
    assert '1 hidden, 1 linked in a circle, 3 linked twice' in str(*counts)

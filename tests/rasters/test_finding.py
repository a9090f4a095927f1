# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import os
from pathlib import Path

import pytest

from torchgeo_discomkd.errors import BandError, LayoutError
from torchgeo_discomkd.rasters import FolderCounts
from torchgeo_discomkd.rasters.finding import ImageFiles, find_images

SAR = ('VV', 'VH')


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Working folder with images that are only names."""
    for name in (
        *('tiles/b.tif', 'tiles/a.TIFF', 'tiles/sub/a.tif', 'tiles/sub/c.npy'),
        *('tiles/.hidden.tif', 'tiles/.cache/x.tif', 'tiles/readme.txt'),
        *('tiles/a.tif.aux.xml', 'other/a.tif', 'other/d.png', 'none/x.csv'),
        *('pairs/VV.tif', 'pairs/VH.tif', 'pairs/s1_vv_x.tif', 'pairs/s1_VH_x.tif'),
        *('pairs/alone_VV.tif', 'pairs/VV_VH.tif'),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*inputs: str | Path, bands: tuple[str, ...] = ()) -> list[str]:
    return [source.name for source in find_images(inputs, bands)]


def test_folder(root: Path) -> None:
    expected = [
        *('tiles/a.TIFF', 'tiles/b.tif'),
        *('tiles/sub/a.tif', 'tiles/sub/c.npy'),
    ]
    assert names('tiles') == names('./tiles/') == expected
    assert names(root / 'tiles') == [str(root / name) for name in expected]


def test_order_of_inputs_and_each_file_once(root: Path) -> None:
    assert names('tiles/sub', 'tiles/b.tif', './tiles', 'tiles/b.tif') == [
        *('tiles/sub/a.tif', 'tiles/sub/c.npy'),
        *('tiles/b.tif', 'tiles/a.TIFF'),
    ]


def test_same_stem_in_several_folders(root: Path) -> None:
    assert names('tiles/sub/a.tif', 'other/a.tif') == ['tiles/sub/a.tif', 'other/a.tif']


def test_patterns(root: Path) -> None:
    assert names('*/a.tif') == ['other/a.tif']
    assert names('**/a.tif') == ['other/a.tif', 'tiles/sub/a.tif']
    assert names('til*') == names('tiles')
    with pytest.raises(LayoutError, match=r'\*\.jp2: no file matches this pattern'):
        names('*.jp2')


def test_pattern_characters_in_a_name(root: Path) -> None:
    (root / 'a[1].tif').touch()
    assert names('a[1].tif') == ['a[1].tif']


def test_list(root: Path) -> None:
    text = '\ufeff# tiles\n\n  other/a.tif \nvanished.tif\ntiles/sub\n'
    for encoding in ('utf-8', 'utf-16-le', 'utf-16-be', 'utf-32-le'):
        (root / 'list.txt').write_text(text, encoding)
        assert names('list.txt') == [
            *('other/a.tif', 'vanished.tif', 'tiles/sub/a.tif', 'tiles/sub/c.npy')
        ]


@pytest.mark.parametrize('name', ['é.tif'.encode('cp1252'), 'é.tif'.encode()])
def test_list_whose_encoding_its_files_tell(root: Path, name: bytes) -> None:
    Path(os.fsdecode(os.fsencode(root) + b'/' + name)).touch()
    (root / 'list.txt').write_bytes(b'other/a.tif\n\xe9.tif\n')
    assert names('list.txt')[1].encode('utf-8') in (b'\\udce9.tif', 'é.tif'.encode())
    (root / 'list.txt').write_bytes(b'other/a.tif\n\xe8.tif\n')
    with pytest.raises(LayoutError, match=r'list\.txt, line 2 cannot be read .*\\xe8'):
        names('list.txt')


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', 'lists no path'),
        (b'# only a remark\n', 'lists no path'),
        (b'other.txt\n', r'lists another list, other\.txt'),
        (b'\xff\xfe\x00', r'list\.txt, line 1: .* not UTF-16'),
        (b'other\n*\x00.tif\n', r'list\.txt, line 2: a zero byte'),
    ],
)
def test_bad_list(root: Path, content: bytes, message: str) -> None:
    (root / 'list.txt').write_bytes(content)
    with pytest.raises(LayoutError, match=message):
        names('list.txt')


@pytest.mark.parametrize(
    'path',
    [
        *('https://example.org/a.tif', '/vsizip/a.zip/a.tif', 's3://bucket/a.tif'),
        *('NETCDF:"a.nc":vv', 'zip+https://example.org/a.zip!a.tif'),
    ],
)
def test_virtual_paths_are_passed_on(root: Path, path: str) -> None:
    assert names(path, path) == [path]


def test_nothing(root: Path) -> None:
    with pytest.raises(LayoutError, match=r'none: no \.tif, .*\.npy file is in it'):
        names('none')
    with pytest.raises(LayoutError, match=r'missing\.tif does not exist'):
        names('tiles', 'missing.tif')
    with pytest.raises(LayoutError, match='No image was given'):
        names()


def test_one_file_for_each_band(root: Path) -> None:
    assert find_images(['pairs'], SAR) == [
        ImageFiles(('pairs/VV.tif', 'pairs/VH.tif')),
        ImageFiles(('pairs/VV_VH.tif',)),
        ImageFiles(('pairs/alone_VV.tif',)),
        ImageFiles(('pairs/s1_vv_x.tif', 'pairs/s1_VH_x.tif')),
    ]
    assert len(find_images(['pairs'], ('VV',))) == 6
    assert find_images(['pairs/VH.tif', 'pairs/VV.tif'], SAR) == [
        ImageFiles(('pairs/VV.tif', 'pairs/VH.tif'))
    ]


def test_files_of_a_sensor_are_not_the_numbered_bands(root: Path) -> None:
    (root / 's2').mkdir()
    for name in ('x_B01.tif', 'x_B02.tif', 'y_B12_B1.tif', 'y_B12_B2.tif'):
        (root / 's2' / name).touch()
    pairs = [('s2/x_B01.tif', 's2/x_B02.tif'), ('s2/y_B12_B1.tif', 's2/y_B12_B2.tif')]
    assert find_images(['s2'], ('B1', 'B2')) == [ImageFiles(pair) for pair in pairs]
    (root / 's2' / 'x_B8A.tif').touch()
    assert find_images(['s2'], ('B1', 'B2')) == [
        *(ImageFiles((f's2/x_{band}.tif',)) for band in ('B01', 'B02', 'B8A')),
        ImageFiles(pairs[1]),
    ]
    # bands that were chosen by name
    assert ImageFiles(('s2/x_B02.tif', 's2/x_B01.tif')) in find_images(
        ['s2'], ('B02', 'B01')
    )


def test_bands_of_several_folders_are_not_mixed(root: Path) -> None:
    for name in ('one/VV.tif', 'two/VH.tif'):
        (root / name).parent.mkdir()
        (root / name).touch()
    assert names('one', 'two', bands=SAR) == ['one/VV.tif', 'two/VH.tif']


def test_two_files_of_one_band(root: Path) -> None:
    (root / 'pairs' / 'vv.tif').touch()
    assert names('pairs/VV.tif', 'pairs/vv.tif', 'pairs/VH.tif', bands=SAR) == [
        *('pairs/VV.tif', 'pairs/vv.tif', 'pairs/VH.tif')
    ]


def test_files_named_by_band(root: Path) -> None:
    found = find_images(['vh=other/a.tif', 'VV=tiles/b.tif'], SAR)
    assert found == [ImageFiles(('tiles/b.tif', 'other/a.tif'))]
    assert found[0].name == 'tiles/b.tif;other/a.tif'
    inputs = ['VV=pairs/VV.tif', 'pairs/VV.tif', 'VH=pairs/VH.tif', 'pairs/VH.tif']
    assert len(find_images(inputs, SAR)) == 1
    with pytest.raises(LayoutError, match=r"'VV': 1, 'VH': 0.*VV=<file> VH=<file>"):
        find_images(['VV=tiles/b.tif'], SAR)
    with pytest.raises(LayoutError, match=r'HH=a\.tif does not exist'):
        find_images(['HH=a.tif'], SAR)


def test_links(root: Path) -> None:
    (root / 'links').mkdir()
    (root / 'links' / 'tiles').symlink_to(root / 'other', target_is_directory=True)
    (root / 'links' / 'loop').symlink_to(root / 'links', target_is_directory=True)
    (root / 'links' / 'x.tif').touch()
    assert names('links') == [
        *('links/x.tif', 'links/tiles/a.tif', 'links/tiles/d.png')
    ]


LEFT = '2 of other types (.xml, .txt), 1 hidden; left 1 folder: 1 hidden'


@pytest.mark.parametrize(
    ('inputs', 'bands', 'lines'),
    [
        (['tiles', 'other/a.tif'], (), [f'tiles/: 4 images; left 3 files: {LEFT}']),
        (['tiles/**'], (), [f'tiles/**: 4 images; left 3 files: {LEFT}']),
        (['pairs/'], SAR, ['pairs/: 4 images in 6 files']),
        (['other/*.tif', 'other'], (), ['other/*.tif: 1 image', 'other/: 1 image']),
        (['list.txt'], (), ['other/: 2 images']),
        (['other/a.tif', 'other/d.png'], (), []),
    ],
)
def test_counts(
    root: Path, inputs: list[str], bands: tuple[str, ...], lines: list[str]
) -> None:
    (root / 'list.txt').write_text('other\ntiles/b.tif\n')
    found: list[FolderCounts] = []
    find_images(inputs, bands, found.append)
    assert [str(counts) for counts in found] == lines


def test_name_that_is_no_utf8(root: Path) -> None:
    os.close(os.open(b'tiles/\xff.tif', os.O_CREAT))
    assert names('tiles')[2] == 'tiles/\\udcff.tif'
    assert Path(find_images(['tiles'])[2].paths[0]).exists()


@pytest.mark.usefixtures('root')
def test_files_by_band_for_bands_without_names() -> None:
    paths = ['other/a.tif', 'tiles/b.tif']
    given = [f'VV={paths[1]}', f'VH={paths[0]}']
    # in the order of the command, as nothing else tells
    assert find_images(given, ('B1', 'B2')) == [ImageFiles((paths[1], paths[0]))]
    assert find_images([f'B2={paths[0]}', f'B1={paths[1]}'], ('B1', 'B2')) == [
        ImageFiles((paths[1], paths[0]))
    ]
    with pytest.raises(BandError, match=r'VV=\.\.\. does not name a band of the cl'):
        find_images(given[:1], ('B1', 'B2'))
    with pytest.raises(BandError, match='HH'):
        find_images([f'HH={paths[0]}', f'HV={paths[1]}'], SAR)
    # these are no mere numbers
    with pytest.raises(BandError, match=r'B5=\.\.\. does not name .* has B2, B3:'):
        find_images([f'B5={paths[0]}', f'B8={paths[1]}'], ('B2', 'B3'))


@pytest.mark.parametrize(
    ('vv', 'vh'),
    [
        ('Sigma0_VV_db.tif', 'Sigma0_VH_db.tif'),
        ('MS1_IVV.tif', 'MS1_IVH.tif'),
        (
            's1a-iw-grd-vv-20210101t053400-20210101t053425-035946-04362b-001.tiff',
            's1a-iw-grd-vh-20210101t053400-20210101t053425-035946-04362b-002.tiff',
        ),
    ],
)
@pytest.mark.parametrize('bands', [('VV', 'VH'), ('Gamma0_VV', 'Gamma0_VH')])
def test_names_of_files_by_band_as_they_circulate(
    tmp_path: Path, vv: str, vh: str, bands: tuple[str, str]
) -> None:
    for name in (vv, vh):
        (tmp_path / name).touch()
    [image] = find_images([tmp_path], bands)
    assert [Path(path).name for path in image.paths] == [vv, vh]
    assert find_images([f'VH={tmp_path / vh}', f'vv={tmp_path / vv}'], bands) == [image]

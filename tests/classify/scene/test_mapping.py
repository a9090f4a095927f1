# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from torchgeo_discomkd.classify.scene import classify_scene
from torchgeo_discomkd.classify.scene import settings as scene_settings
from torchgeo_discomkd.errors import BandError, SettingError, UnitError
from torchgeo_discomkd.rasters.finding import ImageFiles

from .scenes import (
    CLASSES,
    TYPICAL,
    UTM,
    make_predictor,
    probabilities,
    random_scene,
    read,
    uniform,
    write_scene,
)


def classify(
    source: ImageFiles, output: Path, **settings: Any
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the map of classes and that of confidence."""
    predictor = settings.pop('predictor', None) or make_predictor()
    classify_scene(predictor, source, output, progress=False, **settings)
    return read(output), read(output.with_name(f'{output.stem}_confidence.tif'))


def naive(
    scene: NDArray[np.float32],
    tile: tuple[int, int],
    stride: int,
    max_nodata: float,
    compute: Any = probabilities,
) -> NDArray[np.float64]:
    """Return mean probabilities, NaN where nodata, one window and cell at a time."""
    height, width = scene.shape[1:]
    starts = []
    for size, length in zip((height, width), tile, strict=True):
        whole = length // stride
        margin = (length - whole * stride) // 2
        count = math.ceil(size / stride) - whole + 1
        shifted = [
            min(max(k * stride - margin, 0), max(size - length, 0))
            for k in range(max(count, 1))
        ]
        starts.append(sorted(set(shifted)))
    windows = {}
    for y in starts[0]:
        for x in starts[1]:
            image = np.full((2, *tile), np.nan, np.float32)
            cut = scene[:, y : y + tile[0], x : x + tile[1]]
            image[:, : cut.shape[1], : cut.shape[2]] = cut
            windows[y, x] = compute(image[np.newaxis])[0]
    shape = math.ceil(height / stride), math.ceil(width / stride)
    result = np.full((*shape, 3), np.nan)
    for row, column in np.ndindex(*shape):
        top, left = row * stride, column * stride
        bottom, right = min(top + stride, height), min(left + stride, width)
        missing = np.isnan(scene[:, top:bottom, left:right]).any(axis=0).mean()
        if missing < max_nodata:
            over = [
                values
                for (y, x), values in windows.items()
                if y <= top < bottom <= y + tile[0]
                and x <= left < right <= x + tile[1]
                and np.isfinite(values).all()
            ]
            if over:
                result[row, column] = np.mean(over, axis=0)
    return result


# blocks without any noise
@pytest.mark.filterwarnings('ignore:.* is unusual')
@pytest.mark.parametrize('stride', [None, 4, 8])
def test_blocks_of_known_class_give_that_map(
    tmp_path: Path, stride: int | None
) -> None:
    labels = np.random.default_rng(1).integers(0, 3, (4, 6))
    backscatter = np.kron(np.array(TYPICAL)[labels], np.ones((16, 16)))
    array = np.stack([backscatter, backscatter - 6]).astype(np.float32)
    source = write_scene(tmp_path / 'scene.tif', array)
    classes, confidence = classify(source, tmp_path / 'map.tif', stride=stride)
    step = stride or 4
    assert classes.shape == (64 // step, 96 // step)
    expected = np.kron(labels + 1, np.ones((16 // step, 16 // step), int))
    if step == 8:
        np.testing.assert_array_equal(classes, expected)
        pure = np.full((3, 2, 8, 8), np.array(TYPICAL).reshape(3, 1, 1, 1), np.float32)
        expected_confidence = probabilities(pure).max(axis=1)[expected - 1]
        np.testing.assert_allclose(confidence, expected_confidence, atol=1e-6)
    else:
        # cells that touch a border of blocks see both sides
        inner = np.zeros((4, 4), bool)
        inner[1:3, 1:3] = True
        inner = np.tile(inner, labels.shape)
        np.testing.assert_array_equal(classes[inner], expected[inner])


@pytest.mark.parametrize(
    ('size', 'tile', 'stride', 'batch_size'),
    [
        ((37, 41), (8, 8), 3, 256),
        ((37, 41), (8, 8), 5, 7),
        ((40, 32), (8, 8), 4, 1),
        ((33, 20), (8, 8), 8, 256),
        ((19, 23), (8, 8), 1, 64),
        ((30, 50), (8, 12), 4, 10),
        ((5, 30), (8, 8), 4, 256),
        ((30, 5), (8, 8), 3, 2),
        ((3, 2), (8, 8), 8, 256),
        ((8, 8), (8, 8), 4, 256),
    ],
)
def test_cells_are_the_mean_over_all_windows_that_cover_them(
    tmp_path: Path,
    size: tuple[int, int],
    tile: tuple[int, int],
    stride: int,
    batch_size: int,
) -> None:
    array = random_scene(*size, seed=size[0], missing=0.3)
    source = write_scene(tmp_path / 'scene.tif', array)
    classes, confidence = classify(
        source,
        tmp_path / 'map.tif',
        predictor=make_predictor(tile),
        stride=stride,
        batch_size=batch_size,
    )
    expected = naive(array, tile, stride, 0.5)
    nodata = np.isnan(expected[..., 0])
    np.testing.assert_array_equal(classes == 0, nodata)
    np.testing.assert_array_equal(np.isnan(confidence), nodata)
    np.testing.assert_allclose(confidence, expected.max(axis=-1), atol=1e-6)
    best = expected[~nodata].argmax(axis=-1) + 1
    np.testing.assert_array_equal(classes[~nodata], best)


@pytest.mark.parametrize(
    'layout', [{}, {'tiled': True, 'blockxsize': 16, 'blockysize': 16}]
)
def test_panels_do_not_change_the_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: dict[str, Any]
) -> None:
    array = random_scene(61, 130, missing=0.2)
    source = write_scene(tmp_path / 'scene.tif', array, **layout)
    whole = classify(source, tmp_path / 'whole.tif', stride=3)
    monkeypatch.setattr(scene_settings, '_MEMORY_BYTES', 30_000)
    seen = []
    split = scene_settings.split_panels

    def spy(*args: Any) -> Any:
        seen.extend(split(*args))
        return seen

    monkeypatch.setattr('torchgeo_discomkd.classify.scene.mapping.split_panels', spy)
    panels = classify(source, tmp_path / 'panels.tif', stride=3)
    assert len(seen) >= 3
    np.testing.assert_array_equal(panels[0], whole[0])
    np.testing.assert_allclose(panels[1], whole[1], atol=1e-6)


def test_several_workers_make_the_same_map(tmp_path: Path) -> None:
    source = write_scene(
        tmp_path / 'scene.tif', random_scene(60, 60), compress='deflate'
    )
    one = classify(source, tmp_path / 'one.tif')
    three = classify(source, tmp_path / 'three.tif', workers=3)
    np.testing.assert_array_equal(one, three)


@pytest.mark.parametrize('kind', ['value', 'nan', 'mask', 'infinite', 'one band'])
def test_nodata_cells_are_those_with_the_given_share_of_missing_pixels(
    tmp_path: Path, kind: str
) -> None:
    array = uniform(-12, 2, 16, 16)
    missing = np.zeros((16, 16), bool)
    # of 16 pixels each: 8, 7 and 16
    missing[0:2, 0:4] = missing[4:8, 4:8] = True
    missing[0:1, 4:8] = missing[1, 4:7] = True
    profile: dict[str, Any] = {}
    match kind:
        case 'value':
            array[:, missing] = 0
            profile['nodata'] = 0
        case 'nan':
            array[:, missing] = np.nan
        case 'mask':
            profile['mask'] = ~missing
        case 'infinite':
            array[:, missing] = np.inf
        case 'one band':
            array[1, missing] = np.nan
    source = write_scene(tmp_path / 'scene.tif', array, **profile)
    classes, confidence = classify(source, tmp_path / 'map.tif', stride=4)
    expected = np.full((4, 4), 2)
    expected[0, 0] = expected[1, 1] = 0
    np.testing.assert_array_equal(classes, expected)
    np.testing.assert_array_equal(np.isnan(confidence), expected == 0)
    classes, _ = classify(source, tmp_path / 'all.tif', stride=4, max_nodata=1)
    expected[0, 0] = 2
    np.testing.assert_array_equal(classes, expected)
    classes, _ = classify(source, tmp_path / 'few.tif', stride=4, max_nodata=0.01)
    expected[0, :2] = 0
    np.testing.assert_array_equal(classes, expected)


def test_windows_without_a_cell_to_map_are_not_classified(tmp_path: Path) -> None:
    array = np.full((2, 64, 64), np.nan, np.float32)
    array[:, 32:40, 16:24] = uniform(-20, 2, 8, 8)
    seen = []

    def compute(images: NDArray[np.float32]) -> NDArray[np.float32]:
        seen.append(len(images))
        assert np.isfinite(images).any(axis=(1, 2, 3)).all()
        return probabilities(images)

    source = write_scene(tmp_path / 'scene.tif', array)
    summary = classify_scene(
        make_predictor(compute=compute),
        source,
        tmp_path / 'map.tif',
        stride=4,
        progress=False,
    )
    # a block of two cells is seen by three windows along each axis
    assert sum(seen) == summary.windows == 9
    assert summary.windows + summary.skipped == 15 * 15
    assert summary.cells == {'Water': 4, 'Crop': 0, 'City': 0}
    assert summary.nodata == 16 * 16 - 4


def test_windows_without_a_finite_number_are_left_out(tmp_path: Path) -> None:
    def compute(images: NDArray[np.float32]) -> NDArray[np.float32]:
        found = probabilities(images)
        found[(images == -3.25).any(axis=(1, 2, 3)), 1:] = np.nan
        return found

    array = random_scene(24, 40)
    array[0, 10, 10] = -3.25
    source = write_scene(tmp_path / 'scene.tif', array)
    predictor, output = make_predictor(compute=compute), tmp_path / 'map.tif'
    with pytest.warns(UserWarning, match='not finite for 4 of 45 windows'):
        found = classify(source, output, predictor=predictor, stride=4)
    expected = naive(array, (8, 8), 4, 0.5, compute)
    nodata = np.isnan(expected[..., 0])
    # the cell around the pixel; its neighbours have other windows
    assert np.argwhere(nodata).tolist() == [[2, 2]]
    np.testing.assert_array_equal(found[0] == 0, nodata)
    np.testing.assert_allclose(found[1], expected.max(axis=-1), atol=1e-6)


def test_scene_without_data(tmp_path: Path) -> None:
    source = write_scene(
        tmp_path / 'scene.tif', np.zeros((2, 40, 40), np.float32), nodata=0
    )
    summary = classify_scene(
        make_predictor(compute=lambda images: 1 / 0),
        source,
        tmp_path / 'map.tif',
        polygons=tmp_path / 'map.gpkg',
        preview=tmp_path / 'map.png',
        progress=False,
    )
    assert not read(tmp_path / 'map.tif').any()
    assert np.isnan(read(tmp_path / 'map_confidence.tif')).all()
    assert summary.windows == 0
    assert summary.nodata == 100
    assert math.isnan(summary.mean_confidence)
    assert '100 nodata' in str(summary)


def test_bands_in_separate_files(tmp_path: Path) -> None:
    array = random_scene(30, 40, missing=0.1)
    whole = classify(write_scene(tmp_path / 'both.tif', array), tmp_path / 'whole.tif')
    names = ('VV', 'VH')
    for i, name in enumerate(names):
        write_scene(tmp_path / f'{name}.tif', array[i : i + 1], descriptions=None)
    source = ImageFiles(tuple(str(tmp_path / f'{name}.tif') for name in names))
    np.testing.assert_array_equal(classify(source, tmp_path / 'parts.tif'), whole)
    with pytest.raises(SettingError, match='bands=1,2 selects bands of one file'):
        classify(source, tmp_path / 'map.tif', bands=['1', '2'])
    with pytest.raises(BandError, match='has 1 band'):
        classify(ImageFiles(source.paths[:1]), tmp_path / 'map.tif')
    with pytest.raises(BandError, match='are 3 files, but the classifier needs 2'):
        classify(ImageFiles((*source.paths, *source.paths[:1])), tmp_path / 'map.tif')


@pytest.mark.parametrize(
    'changes',
    [
        {'size': (30, 41)},
        {'transform': UTM @ UTM.translation(0, 0.1)},
        {'transform': None, 'crs': None},
        {'crs': 'EPSG:32634'},
    ],
)
def test_bands_on_different_grids_are_refused(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    size = changes.pop('size', (30, 40))
    one = write_scene(tmp_path / 'VV.tif', random_scene(30, 40)[:1], descriptions=None)
    other = write_scene(
        tmp_path / 'VH.tif', random_scene(*size)[1:], descriptions=None, **changes
    )
    with pytest.raises(BandError, match='do not lie on the same grid: resample'):
        classify(ImageFiles(one.paths + other.paths), tmp_path / 'map.tif')
    assert not (tmp_path / 'map.tif').exists()


def test_grids_may_differ_by_rounding(tmp_path: Path) -> None:
    array = random_scene(30, 40)
    one = write_scene(tmp_path / 'VV.tif', array[:1], descriptions=None)
    other = write_scene(
        tmp_path / 'VH.tif',
        array[1:],
        descriptions=None,
        transform=UTM @ UTM.translation(0, 0.001),
    )
    classes, _ = classify(ImageFiles(one.paths + other.paths), tmp_path / 'map.tif')
    assert classes.all()


def test_linear_power_is_converted(tmp_path: Path) -> None:
    array = random_scene(40, 40, missing=0.1)
    decibel = classify(write_scene(tmp_path / 'db.tif', array), tmp_path / 'a.tif')
    power = write_scene(tmp_path / 'power.tif', (10 ** (array / 10)).astype(np.float32))
    for scale in ('auto', 'linear'):
        classes, confidence = classify(power, tmp_path / f'{scale}.tif', scale=scale)
        np.testing.assert_array_equal(classes, decibel[0])
        np.testing.assert_allclose(confidence, decibel[1], atol=1e-5)
    stated = ImageFiles((str(tmp_path / 'db.tif'),))
    np.testing.assert_array_equal(
        classify(stated, tmp_path / 'b.tif', scale='db'), decibel
    )
    with pytest.raises(UnitError, match='is said to be in dB'):
        classify(power, tmp_path / 'map.tif', scale='db')
    with pytest.raises(UnitError, match='is said to be linear power'):
        classify(
            ImageFiles((str(tmp_path / 'db.tif'),)), tmp_path / 'm.tif', scale='linear'
        )
    with pytest.raises(SettingError, match="scale='decibel'"):
        classify(power, tmp_path / 'map.tif', scale='decibel')


def test_one_unit_for_the_whole_scene(tmp_path: Path) -> None:
    # the lower half alone would be taken for linear power
    array = random_scene(64, 64)
    array[:, 32:] = uniform(0.05, 2, 32, 64)
    source = write_scene(tmp_path / 'scene.tif', array, blockysize=8)
    classes, _ = classify(source, tmp_path / 'map.tif', stride=8, batch_size=8)
    assert (classes[4:] == 3).all()


def test_unit_is_found_where_the_samples_found_nothing(tmp_path: Path) -> None:
    array = np.full((2, 700, 700), np.nan, np.float32)
    # between the samples: 16 pixels every 22
    array[:, 17:21, 17:21] = 10 ** (-20 / 10)
    source = write_scene(tmp_path / 'scene.tif', array)
    classes, _ = classify(
        source, tmp_path / 'map.tif', predictor=make_predictor((4, 4)), stride=1
    )
    assert (classes[17:21, 17:21] == 1).all()
    assert (classes > 0).sum() == 16


def test_digital_numbers_are_refused(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(50, 400, (2, 40, 40)).astype(np.uint16)
    source = write_scene(tmp_path / 'scene.tif', array)
    with pytest.raises(UnitError, match='digital numbers: calibrate'):
        classify(source, tmp_path / 'map.tif')


def test_hole_that_is_not_declared_is_missing(tmp_path: Path) -> None:
    array = random_scene(96, 96, 0, 0.0)
    array[:, 40:49, 50:59] = np.nan
    honest = write_scene(tmp_path / 'honest.tif', array)
    expected = classify(honest, tmp_path / 'a.tif', max_nodata=0.5)
    assert (expected[0] == 0).any()
    filled = np.where(np.isnan(array), np.float32(-9999), array)
    scene = write_scene(tmp_path / 'fill.tif', filled)
    note = '0.88 % of VV are outside -60 to 30 dB and count as missing'
    with pytest.warns(UserWarning, match=f'fill.tif: {note}; 0.88 % of VH'):
        found = classify(scene, tmp_path / 'b.tif', max_nodata=0.5)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    with rasterio.open(tmp_path / 'b.tif') as file:
        assert note in file.tags()['READING']


def test_integers(tmp_path: Path) -> None:
    array = np.rint(random_scene(40, 40))
    missing = np.zeros((40, 40), bool)
    missing[:9, :9] = True
    whole = array.astype(np.int16)
    whole[:, missing] = -32768
    array[:, missing] = np.nan
    as_float = classify(write_scene(tmp_path / 'float.tif', array), tmp_path / 'a.tif')
    source = write_scene(tmp_path / 'int.tif', whole, nodata=-32768)
    as_integer = classify(source, tmp_path / 'b.tif')
    np.testing.assert_array_equal(as_integer, as_float)
    assert (as_integer[0][:2, :2] == 0).all()


def test_names_of_bands_win_over_their_order(tmp_path: Path) -> None:
    array = random_scene(30, 30)
    right = classify(write_scene(tmp_path / 'a.tif', array), tmp_path / 'right.tif')
    swapped = array[::-1].copy()
    source = write_scene(tmp_path / 'b.tif', swapped, descriptions=('VH', 'VV'))
    np.testing.assert_array_equal(classify(source, tmp_path / 'named.tif'), right)
    source = write_scene(tmp_path / 'c.tif', swapped, descriptions=None)
    given = classify(source, tmp_path / 'given.tif', bands=['2', '1'])
    np.testing.assert_array_equal(given, right)
    with pytest.warns(UserWarning, match=r'VV is generally lower .* --bands 2,1'):
        wrong = classify(source, tmp_path / 'wrong.tif')
    assert (wrong[0] != right[0]).any()


def test_colours_are_no_values(tmp_path: Path) -> None:
    path = tmp_path / 'scene.tif'
    source = write_scene(path, np.ones((1, 20, 20), np.uint8), descriptions=None)
    with rasterio.open(path, 'r+') as file:
        file.write_colormap(1, {1: (255, 0, 0)})
    predictor = make_predictor(bands=['B1'], unit='')
    with pytest.raises(BandError, match='positions in a colour palette'):
        classify(source, tmp_path / 'map.tif', predictor=predictor)


def test_unsuitable_bands(tmp_path: Path) -> None:
    scene = random_scene(30, 30)
    source = write_scene(tmp_path / 'complex.tif', scene.astype(np.complex64))
    with pytest.raises(BandError, match='complex values: detect'):
        classify(source, tmp_path / 'map.tif')
    source = write_scene(
        tmp_path / 'three.tif', np.concatenate([scene, scene[:1]]), descriptions=None
    )
    with pytest.raises(BandError, match=r'has 3 bands.*needs 2'):
        classify(source, tmp_path / 'map.tif')


def test_low_confidence_is_a_class_of_its_own(tmp_path: Path) -> None:
    source = write_scene(tmp_path / 'scene.tif', random_scene(40, 40, missing=0.2))
    classes, confidence = classify(source, tmp_path / 'all.tif')
    limit = float(np.nanmedian(confidence))
    sure, same = classify(source, tmp_path / 'sure.tif', min_confidence=limit)
    np.testing.assert_array_equal(confidence, same)
    low = confidence < np.float32(limit)
    assert low.any()
    np.testing.assert_array_equal(sure, np.where(low, 4, classes))


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'stride': 0}, 'stride=0: give 1 to 8'),
        ({'stride': 9}, 'stride=9: give 1 to 8'),
        ({'max_nodata': 0}, 'max_nodata=0: give a number above 0'),
        ({'max_nodata': 1.1}, 'max_nodata=1.1'),
        ({'batch_size': 0}, 'batch_size=0'),
        ({'workers': 0}, 'workers=0'),
        ({'min_confidence': 1.5}, 'min_confidence=1.5'),
        ({'predictor': make_predictor(None)}, 'does not state the tile size'),
        (
            {'predictor': make_predictor(classes=[str(i) for i in range(256)])},
            'has 256 classes, but a map can only store 255',
        ),
        (
            {
                'predictor': make_predictor(classes=['a', 'b', 'uncertain']),
                'min_confidence': 0.5,
            },
            "a class named 'uncertain'",
        ),
        ({'preview': 'map.jpg'}, r'map.jpg must end in .png'),
        ({'polygons': 'map.shp'}, r'map.shp must end in .gpkg'),
    ],
)
def test_settings_are_checked_first(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    # there is no scene: nothing is opened before the settings are right
    with pytest.raises(SettingError, match=message):
        classify(
            ImageFiles((str(tmp_path / 'none.tif'),)), tmp_path / 'map.tif', **settings
        )


def test_summary(tmp_path: Path) -> None:
    array = uniform(-20, 2, 16, 16)
    array[:, :4, :8] = np.nan
    source = write_scene(tmp_path / 'scene.tif', array)
    summary = classify_scene(
        make_predictor(), source, tmp_path / 'map.tif', progress=False
    )
    assert summary.shape == (4, 4)
    assert summary.stride == 4
    assert summary.cells == {**dict.fromkeys(CLASSES, 0), 'Water': 14}
    assert str(summary).endswith(
        'map.tif: 4 x 4 cells of 4 pixels, 2 nodata (Water 100.0 %, Crop 0.0 %, '
        f'City 0.0 %; mean confidence {summary.mean_confidence:.3f})'
    )
    confidence = read(tmp_path / 'map_confidence.tif')
    assert summary.mean_confidence == pytest.approx(np.nanmean(confidence))

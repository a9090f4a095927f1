# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from torchgeo_discomkd.classify import Predictor, SceneResult, classify_scenes
from torchgeo_discomkd.classify.scene.folder import TABLE, scene_name
from torchgeo_discomkd.commands import main
from torchgeo_discomkd.errors import OutputError, SettingError
from torchgeo_discomkd.rasters.finding import ImageFiles, find_images

from ..tile_data import make_metadata, write_model
from .scenes import make_predictor, random_scene, read, write_scene

#: Files of a map, after its name.
SUFFIXES = ('.tif', '.tif.aux.xml', '_confidence.tif', '.qml', '_confidence.qml')


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('model')
    return write_model(folder / 'sar.safetensors', make_metadata(size=(8, 8)))


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Folder of scenes a, b and c of 16 x 20 pixels."""
    folder = tmp_path / 'scenes'
    folder.mkdir()
    for i, name in enumerate('abc'):
        write_scene(folder / f'{name}.tif', random_scene(16, 20, seed=i))
    return folder


@pytest.fixture
def classify(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., int]:
    """Run the command in a folder of its own; return its exit code."""
    monkeypatch.chdir(tmp_path)

    def run(*args: str | Path) -> int:
        try:
            main(['classify', str(model), *map(str, args), '--device', 'cpu'])
        except SystemExit as end:
            assert isinstance(end.code, int)
            return end.code
        return 0

    return run


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def maps_of(out: str) -> list[str]:
    """Return the lines about maps, without those about how scenes were read."""
    return [line for line in out.splitlines() if not line.startswith('read ')]


def files(*stems: str) -> set[str]:
    return {f'{stem}{suffix}' for stem in stems for suffix in SUFFIXES}


def test_each_scene_has_the_map_of_a_single_call(
    classify: Callable[..., int],
    scenes: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    extra = '--stride', '4', '--min-confidence', '0.6'
    assert classify('scenes', '--output', 'maps/', *extra) == 0
    out, err = capsys.readouterr()
    maps = tmp_path / 'maps'
    assert names(maps) == {*files('a', 'b', 'c'), 'summary.csv'}
    assert out.splitlines()[::2][:3] == [
        f'read scenes/{name}.tif: bands by name; dB by its values' for name in 'abc'
    ]
    lines = maps_of(out)
    assert [line.split(' nodata')[0] for line in lines[:3]] == [
        f'maps/{name}.tif: 4 x 5 cells of 4 pixels, 0' for name in 'abc'
    ]
    assert lines[3:] == ['maps/summary.csv: 3 scenes, 0 without a map']
    assert 'b (2/3)' in err
    table = pd.read_csv(maps / 'summary.csv')
    shares = ['share_Water', 'share_Land', 'share_uncertain']
    assert table.columns.tolist() == [
        *('scene', 'map', 'status', 'rows', 'columns', 'stride', 'nodata', 'windows'),
        *('mean_confidence', 'unusual', 'reading', *shares),
    ]
    assert table.unusual.isna().all()
    assert table.reading.str.contains('dB by its values').all()
    assert table.scene.tolist() == [f'scenes/{name}.tif' for name in 'abc']
    assert table['map'].tolist() == ['a.tif', 'b.tif', 'c.tif']
    for i, name in enumerate('abc'):
        single = tmp_path / 'single' / f'{name}.tif'
        assert classify(scenes / f'{name}.tif', '--output', single, *extra) == 0
        for suffix in ('.tif', '_confidence.tif'):
            path = f'{name}{suffix}'
            np.testing.assert_array_equal(read(maps / path), read(single.parent / path))
        cells = np.bincount(read(single).ravel(), minlength=4)
        assert table.loc[i, shares].tolist() == pytest.approx(list(cells[1:] / 20))
        assert table.mean_confidence[i] == pytest.approx(
            read(maps / f'{name}_confidence.tif').mean(), abs=1e-6
        )
    row = ['status', 'rows', 'columns', 'stride', 'nodata', 'windows']
    assert table.loc[0, row].tolist() == ['ok', 4, 5, 4, 0, 12]


@pytest.mark.filterwarnings('always:.* may belong to the older map')
@pytest.mark.slow
def test_resumed_where_a_map_is_missing(
    classify: Callable[..., int],
    scenes: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    maps, previews = tmp_path / 'scenes' / 'maps', tmp_path / 'scenes' / 'previews'
    args = 'scenes', '--output', f'{maps}/', '--preview', previews, '--polygons', maps
    assert classify(*args) == 0
    table = (maps / 'summary.csv').read_bytes()
    assert names(previews) == {'a.png', 'b.png', 'c.png'}
    assert names(maps) == {
        *files('a', 'b', 'c'),
        *('a.gpkg', 'b.gpkg', 'c.gpkg', 'summary.csv'),
    }
    before = read(maps / 'b.tif')
    (maps / 'b.tif').unlink()
    (maps / 'summary.csv').unlink()
    (previews / 'c.png').unlink()
    old = (maps / 'a.tif').stat().st_mtime_ns
    capsys.readouterr()
    assert classify(*args) == 2
    assert '--resume' in capsys.readouterr().err
    # its results are below the folder of the scenes, but no scenes themselves
    assert classify(*args, '--resume') == 0
    out = maps_of(capsys.readouterr().out)
    assert [line.endswith(', kept') for line in out] == [True, False, False, False]
    assert (maps / 'a.tif').stat().st_mtime_ns == old
    np.testing.assert_array_equal(read(maps / 'b.tif'), before)
    assert (previews / 'c.png').exists()
    assert (maps / 'summary.csv').read_bytes() == table
    assert classify('scenes/*.tif', '--output', maps, '--overwrite') == 0
    assert (maps / 'a.tif').stat().st_mtime_ns != old
    assert (maps / 'summary.csv').read_bytes() == table


def test_not_resumed_with_other_settings(
    classify: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_scene(tmp_path / 'a.tif', random_scene(8, 8))
    assert classify('a.tif', '--output', 'maps/') == 0
    write_scene(tmp_path / 'b.tif', random_scene(8, 8))
    args = 'b.tif', 'a.tif', '--output', 'maps', '--resume'
    for option, message in (
        (('--stride', '2'), "STRIDE was '4' and is '2'"),
        (('--max-nodata', '0.50000001'), "MAX_NODATA was '0.5' and is '0.50000001'"),
        (('--min-confidence', '0.6'), "MIN_CONFIDENCE was '0.0' and is '0.6'"),
        (('--scale', 'db'), "SCALE was 'auto' and is 'db'"),
        (('--bands', '2,1'), "BANDS was 'auto' and is '2,1'"),
    ):
        assert classify(*args, *option) == 2
        assert f'maps/a.tif was made by a run with other settings ({message})' in (
            capsys.readouterr().err
        )
        assert not (tmp_path / 'maps/b.tif').exists()
    # neither changes a map by more than rounding
    assert classify(*args, '--batch-size', '3', '--workers', '1') == 0
    assert (tmp_path / 'maps/b.tif').exists()


def test_not_resumed_after_a_change_of_the_scene_or_the_model(
    classify: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = tmp_path / 'a.tif'
    write_scene(scene, random_scene(8, 8))
    assert classify('a.tif', '--output', 'maps/') == 0
    os.utime(scene, (1, 1))
    assert classify('a.tif', '--output', 'maps/', '--resume') == 2
    assert "and is '1970-01-01T00:00:01.000000+00:00'" in capsys.readouterr().err
    assert classify('a.tif', '--output', 'maps/', '--overwrite') == 0
    capsys.readouterr()
    other = write_model(tmp_path / 'other.safetensors')
    args = ['classify', str(other), 'a.tif', '--output', 'maps/', '--resume']
    with pytest.raises(SystemExit, match='2'):
        main(args)
    assert "MODEL was 'sar.safetensors" in capsys.readouterr().err
    (tmp_path / 'maps/a.tif').write_text('no map')
    assert classify('a.tif', '--output', 'maps/', '--resume') == 2
    assert 'maps/a.tif cannot be read' in capsys.readouterr().err
    assert classify('a.tif', '--output', 'maps/', '--resume', '--overwrite') == 0
    assert read(tmp_path / 'maps/a.tif').all()


def test_only_maps_of_other_settings_are_replaced(
    classify: Callable[..., int],
    scenes: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert classify('scenes/b.tif', '--output', 'maps/', '--stride', '8') == 0
    assert classify('scenes/a.tif', '--output', 'more/') == 0
    for name in files('a'):
        (tmp_path / 'more' / name).rename(tmp_path / 'maps' / name)
    capsys.readouterr()
    args = 'scenes', '--output', 'maps/', '--resume'
    assert classify(*args) == 2
    assert (
        "maps/b.tif was made by a run with other settings (STRIDE was '8' and is "
        in (capsys.readouterr().err)
    )
    assert classify(*args, '--overwrite') == 0
    out = maps_of(capsys.readouterr().out)
    assert [line.endswith(', kept') for line in out] == [True, False, False, False]
    assert read(tmp_path / 'maps' / 'b.tif').shape == (4, 5)


def test_one_bad_scene_does_not_end_the_run(
    classify: Callable[..., int],
    scenes: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (scenes / 'b.tif').write_text('no image')
    write_scene(scenes / 'd.tif', random_scene(8, 8)[:1], descriptions=None)
    write_scene(scenes / 'e.tif', np.full((2, 8, 8), 500, np.uint16))
    missing = np.full((2, 8, 8), np.nan, np.float32)
    write_scene(scenes / 'f.tif', missing)
    assert classify('scenes', '--output', 'maps/') == 3
    out, err = capsys.readouterr()
    assert 'scenes/b.tif has no map: unreadable: scenes/b.tif cannot be read' in err
    assert out.splitlines()[-1] == 'maps/summary.csv: 6 scenes, 3 without a map'
    assert names(tmp_path / 'maps') == {*files('a', 'c', 'f'), 'summary.csv'}
    table = pd.read_csv(tmp_path / 'maps/summary.csv')
    words = table.status.str.partition(':')[0]
    assert words.tolist() == ['ok', 'unreadable', 'ok', 'bands', 'unit', 'ok']
    assert table['map'].isna().tolist() == [False, True, False, True, True, False]
    assert table.loc[5, ['nodata', 'windows']].tolist() == [4, 0]
    assert table.loc[5, ['mean_confidence', 'share_Water']].isna().all()
    write_scene(scenes / 'b.tif', random_scene(16, 20))
    # the map cannot be kept if the other one is damaged
    confidence = tmp_path / 'maps/c_confidence.tif'
    whole = confidence.read_bytes()
    confidence.write_text('no map')
    assert classify('scenes', '--output', 'maps/', '--resume') == 3
    assert 'scenes/c.tif has no map: unreadable: maps/c_conf' in capsys.readouterr().err
    confidence.write_bytes(whole)
    assert classify('scenes', '--output', 'maps/', '--resume') == 3
    again = pd.read_csv(tmp_path / 'maps/summary.csv')
    assert again.status[1] == 'ok'
    others = [0, 2, 3, 4, 5]
    pd.testing.assert_frame_equal(again.loc[others], table.loc[others])


def test_bad_scene_whose_name_is_not_utf8(
    classify: Callable[..., int], scenes: Path, tmp_path: Path
) -> None:
    Path(os.fsdecode(os.fsencode(scenes) + b'/d\xff.tif')).write_text('no image')
    assert classify('scenes', '--output', 'maps/') == 3
    table = pd.read_csv(tmp_path / 'maps/summary.csv')
    assert table.scene[3] == r'scenes/d\udcff.tif'
    assert table.status[3].startswith(rf'unreadable: {table.scene[3]} cannot be')


def test_scene_that_fails_unexpectedly_is_a_status(
    scenes: Path, tmp_path: Path
) -> None:
    def fail(images: NDArray[np.float32]) -> NDArray[np.float32]:
        raise RuntimeError(os.fsdecode(b'd\xff'))

    predictor = make_predictor(compute=fail)
    found = find_images([scenes])
    summary = classify_scenes(predictor, found, tmp_path / 'maps', progress=False)
    statuses = {result.status for result in summary.results}
    assert statuses == {r'failed: RuntimeError: d\udcff'}


def test_one_file_per_band(classify: Callable[..., int], tmp_path: Path) -> None:
    array = random_scene(8, 8)
    for stem in ('s1_{}', 's2-{}-2024', 'area/{}'):
        for i, band in enumerate(('VV', 'VH')):
            path = tmp_path / 'scenes' / f'{stem.format(band)}.tif'
            path.parent.mkdir(parents=True, exist_ok=True)
            write_scene(path, array[i : i + 1], descriptions=None)
    write_scene(tmp_path / 'both.tif', array)
    assert classify('scenes', 'both.tif', '--output', 'maps/') == 0
    maps = tmp_path / 'maps'
    stems = ['s1', 's2-2024', 'area', 'both']
    assert names(maps) == {*files(*stems), 'summary.csv'}
    for stem in stems:
        np.testing.assert_array_equal(
            read(maps / f'{stem}_confidence.tif'), read(maps / 'both_confidence.tif')
        )


@pytest.mark.parametrize(
    ('paths', 'name'),
    [
        (['a/x.y.tif'], 'x.y'),
        (['https://host/a.tif?token=a/b.c'], 'a'),
        (['/vsizip/scenes.zip/a.tif'], 'a'),
        (['NETCDF:a.nc:VV'], 'NETCDF_a'),
        (['caf\udce9.tif'], 'caf_udce9'),
        (['S1A_VV_2024.tif', 'S1A_VH_2024.tif'], 'S1A_2024'),
        (['s1a-iw-vv-001.tiff', 'S1A-IW-VH-002.tiff'], 's1a-iw'),
        (['in/VV.tif', 'in/VH.tif'], 'in'),
        (['one/x.tif', 'two/x.tif'], 'x'),
        (['/VV.tif', '/VH.tif'], 'scene'),
    ],
)
def test_names(paths: list[str], name: str) -> None:
    assert scene_name(ImageFiles(tuple(paths))) == name


@pytest.mark.parametrize(
    ('paths', 'args', 'message'),
    [
        (['a/x.tif', 'b/x.tif'], [], 'a/x.tif and b/x.tif would both become'),
        (['a/x.tif', 'a/x.jp2'], [], 'a/x.tif and a/x.jp2 would both become'),
        (['a/x.tif', 'b/X.tif'], [], 'a/x.tif and b/X.tif would both become'),
        (['é.tif', 'e\u0301.tif'], [], 'would both become'),
        (['x.tif', 'x_confidence.tif'], [], 'maps/x_confidence.tif: rename or'),
        (['maps/x.tif'], [], 'maps/x.tif is a scene, and a file to write'),
        (['maps/y.tif', 'y.tif'], [], 'maps/y.tif is a scene, and a file to write'),
        (['x.tif'], ['--preview', 'x.tif'], 'preview=x.tif: each scene has its own'),
        (['x.tif'], ['--polygons', 'm.gpkg'], 'polygons=m.gpkg: each scene has its'),
        (['x.tif'], ['--crs', 'EPSG:4326'], '--crs: only for tables;'),
        (['x.tif'], ['--stride', '9'], 'stride=9: give 1 to 8'),
    ],
)
def test_mistakes_are_found_before_any_work(
    classify: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    paths: list[str],
    args: list[str],
    message: str,
) -> None:
    for path in paths:
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_text('not read')
    before = sorted(tmp_path.rglob('*'))
    assert classify(*paths, '--output', 'maps/', *args) == 2
    assert message in capsys.readouterr().err
    assert sorted(tmp_path.rglob('*')) == before


@pytest.mark.parametrize('name', ['b_confidence.tif', 'b.tif.aux.xml', 'summary.csv'])
def test_existing_files_are_kept(
    classify: Callable[..., int],
    scenes: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    (tmp_path / 'maps').mkdir()
    (tmp_path / 'maps' / name).write_text('mine')
    assert classify('scenes', '--output', 'maps') == 2
    assert f'maps/{name} exists: choose another folder' in capsys.readouterr().err
    assert names(tmp_path / 'maps') == {name}


@pytest.mark.parametrize('name', ['b_confidence.tif', 'b.tif.ovr', 'b.png', TABLE])
def test_files_of_no_earlier_run_are_not_replaced_on_resuming(
    classify: Callable[..., int],
    scenes: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    args = 'scenes', '--output', 'maps/', '--preview', 'maps/', '--resume'
    assert classify('scenes/a.tif', *args[1:]) == 0
    (tmp_path / 'maps/summary.csv').unlink()
    kept = names(tmp_path / 'maps')
    (tmp_path / 'maps' / name).write_text('mine')
    assert classify(*args) == 2
    assert f'maps/{name} exists: it is not of a run that' in capsys.readouterr().err
    assert (tmp_path / 'maps' / name).read_text() == 'mine'
    assert names(tmp_path / 'maps') == kept | {name}


@pytest.mark.filterwarnings('always:.* may belong to the older map')
def test_polygons_and_figures_of_older_maps_are_named(
    classify: Callable[..., int],
    scenes: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    args = 'scenes/a.tif', 'scenes/b.tif', '--output', 'maps/'
    assert classify(*args) == 0
    for name in ('a.gpkg', 'b.gpkg', 'b.png'):
        (tmp_path / 'maps' / name).write_text('older')
    assert classify(*args, '--resume') == 0
    assert 'older' not in capsys.readouterr().err
    assert classify(*args, '--stride', '8', '--resume', '--overwrite') == 0
    assert 'maps/a.gpkg and 2 others may belong to the' in capsys.readouterr().err
    single = 'scenes/b.tif', '--output', 'maps/b.tif', '--overwrite'
    assert classify(*single, '--polygons', 'maps/b.gpkg') == 0
    assert 'warning: maps/b.png may belong to the older' in capsys.readouterr().err


def test_many_scenes_but_one_map(
    classify: Callable[..., int], scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert classify('scenes', '--output', 'map.tif') == 2
    err = capsys.readouterr().err
    assert 'map of one scene, but 3 images are given' in err
    assert '--output maps/' in err
    assert classify('scenes', '--output', 'maps') == 2
    assert 'a folder (maps/) for those of many' in capsys.readouterr().err


def test_full_disk_ends_the_run(scenes: Path, tmp_path: Path) -> None:
    found = [ImageFiles((str(scenes / f'{name}.tif'),)) for name in 'abc']
    reported: list[SceneResult] = []

    def report(result: SceneResult) -> None:
        reported.append(result)
        # the folder of the previews vanishes: the next one cannot be written
        shutil.rmtree(tmp_path / 'previews')
        (tmp_path / 'previews').write_text('in the way')

    with pytest.raises(OutputError, match=r'b.png cannot be written'):
        classify_scenes(
            make_predictor(),
            found,
            tmp_path / 'maps',
            preview=tmp_path / 'previews',
            progress=False,
            report=report,
        )
    assert [result.status for result in reported] == ['ok']
    table = pd.read_csv(tmp_path / 'maps/summary.csv')
    assert table.status.tolist() == ['ok', 'pending', 'pending']
    assert names(tmp_path / 'maps') == {*files('a'), 'summary.csv'}


def test_scenes_without_georeference(tmp_path: Path) -> None:
    for name in 'ab':
        path = tmp_path / f'{name}.tif'
        write_scene(path, random_scene(8, 8), transform=None, crs=None)
    found = find_images([tmp_path])
    with pytest.warns(UserWarning, match='is not georeferenced') as warned:
        summary = classify_scenes(
            make_predictor(), found, tmp_path / 'maps', progress=False
        )
    assert [result.status for result in summary.results] == ['ok', 'ok']
    assert [str(w.message).partition(' is')[0] for w in warned] == [
        scene.name for scene in found
    ]


def test_bands_of_several_files_are_a_status(scenes: Path, tmp_path: Path) -> None:
    pair = ImageFiles((str(scenes / 'a.tif'), str(scenes / 'b.tif')))
    summary = classify_scenes(
        make_predictor(), [pair], tmp_path, bands=['1', '2'], progress=False
    )
    assert summary.results[0].status.startswith('setting: bands=1,2 selects')
    with pytest.raises(SettingError, match="scale='decibel'"):
        classify_scenes(make_predictor(), [pair], tmp_path, scale='decibel')  # ty: ignore[invalid-argument-type]


@pytest.mark.usefixtures('handlers')
def test_interrupted_from_the_keyboard(
    classify: Callable[..., int],
    scenes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    compute = Predictor.probabilities
    calls = []

    def interrupt(self: Predictor, images: NDArray[np.float32]) -> NDArray[np.float32]:
        calls.append(len(images))
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return compute(self, images)

    with monkeypatch.context() as patch:
        patch.setattr(Predictor, 'probabilities', interrupt)
        assert classify('scenes', '--output', 'maps/') == 130
    err = capsys.readouterr().err
    assert 'interrupted: run the same command with --resume to continue' in err
    assert names(tmp_path / 'maps') == {*files('a'), 'summary.csv'}
    table = pd.read_csv(tmp_path / 'maps/summary.csv')
    assert table.status.tolist() == ['ok', 'pending', 'pending']
    assert classify('scenes', '--output', 'maps/', '--resume') == 0
    assert names(tmp_path / 'maps') == {*files('a', 'b', 'c'), 'summary.csv'}

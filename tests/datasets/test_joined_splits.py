# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from torchgeo_discomkd.datamodules import PairedDatasetsDataModule
from torchgeo_discomkd.datasets import (
    DatasetSource,
    PairedDatasets,
    positions,
    sample_labels,
    write_pack,
)
from torchgeo_discomkd.datasets.opened import open_source
from torchgeo_discomkd.datasets.samples import Samples, join_samples
from torchgeo_discomkd.datasets.sourcestore import SourceStore
from torchgeo_discomkd.datasets.splits import SPLITS
from torchgeo_discomkd.errors import PackError, SettingError, SplitError

from .test_paireddatasets import Tiles, apart, double, tiles


@pytest.mark.parametrize(
    ('splits', 'message'),
    [
        ({}, r"groups of \['ms', 'sar'\] .* no source has splits"),
        ({name: name for name in SPLITS}, r"groups of 'ms' .*leave 'val' out"),
        ({'test': 'test'}, r"groups of 'ms' .*'test': 'test'"),
    ],
)
def test_groups_without_effect_are_refused(
    splits: dict[str, str], message: str
) -> None:
    sources = {m: tiles(groups=positions, splits=splits) for m in ('ms', 'sar')}
    with pytest.raises(SettingError, match=message):
        PairedDatasets(sources)
    with pytest.raises(SettingError, match=message):
        PairedDatasetsDataModule(sources).setup('fit')


@pytest.mark.parametrize('first', [0, 20, 40, 60])
def test_a_scene_is_held_out_of_all_sources(first: int) -> None:
    """Each source has scenes, and tiles of them, that the other lacks."""

    def source(start: int, tile: int) -> DatasetSource:
        def scenes(_: Tiles) -> list[str]:
            return [str(start + i // 2) for i in range(20)]

        def keys(data: Tiles) -> list[str]:
            own = enumerate(scenes(data))
            return [f'{name}_{data.split}_{tile + i % 2}' for i, name in own]

        splits, labels = {'train': 'train', 'test': 'test'}, (tile, 1 - tile) * 10
        return tiles(keys, groups=scenes, splits=splits, given={'labels': labels})

    sources = {'ms': source(first, 0), 'sar': source(first + 5, 1)}
    found = {}
    for split in ('train', 'val'):
        parts = [PairedDatasets(sources, split, [m], missing='keep') for m in sources]
        names = [p.identifier(i) for p in parts for i in range(len(p))]
        found[split] = {name.partition('/')[2].split('_')[0] for name in names}
    assert len(found['train'] | found['val']) == 15
    assert not found['train'] & found['val']


def numbered(splits: dict[str, Sequence[int]] | None, **kwargs: Any) -> DatasetSource:
    """Source of tiles by number; all 60 of them without splits."""

    def numbers(data: Tiles) -> Sequence[int]:
        return range(60) if splits is None else splits[data.split]

    class Numbered(Tiles):
        def __init__(self, split: str = 'train') -> None:
            super().__init__(split)
            self.labels = [i % 2 for i in numbers(self)]

    return DatasetSource(
        Numbered,
        splits={name: name for name in splits or ()},
        keys=lambda data: [str(i) for i in numbers(data)],
        labels=sample_labels,
        **kwargs,
    )


def scenes_of(source: DatasetSource) -> DatasetSource:
    """Add scenes of six tiles."""
    keys = source.keys
    assert keys is not None
    return replace(source, groups=lambda data: [str(int(k) // 6) for k in keys(data)])


def numbers_in(
    sources: dict[str, DatasetSource], split: str, *modalities: str
) -> set[int]:
    chosen = modalities or None
    dataset = PairedDatasets(sources, split, chosen, missing='keep')
    found = [dataset.identifier(i).partition('/')[2] for i in range(len(dataset))]
    return {*map(int, found)}


def left_out(sources: dict[str, DatasetSource]) -> str:
    [line] = PairedDatasets(sources, 'train', ['sar'], missing='keep').counts
    return str(line).partition('; ')[2]


def test_no_scene_is_trained_on_that_another_source_validates() -> None:
    # scenes 0 to 6, 7 and 8, and 9; every third tile has an optical image
    thirds = {'train': range(0, 42, 3), 'val': range(42, 54, 3), 'test': range(54, 60)}
    own = {'train': range(54), 'test': range(54, 60)}
    sources = {'ms': numbered(thirds), 'sar': scenes_of(numbered(own))}
    assert numbers_in(sources, 'val', 'sar') == {*thirds['val']}
    # nothing else is held out, and all other scenes are trained on
    assert numbers_in(sources, 'train', 'sar') == {*range(42)}
    for split, own_tiles in thirds.items():
        assert numbers_in(sources, split) == {*own_tiles}
    assert (
        left_out(sources) == 'left 8 files: 8 in no split, or of a group in val or test'
    )


def test_scenes_are_held_out_of_those_that_are_only_trained_on() -> None:
    # scene 9 is tested by the first source, which knows no scenes
    first = {'train': range(30), 'test': range(56, 60)}
    second = {'train': range(20, 58), 'test': range(58, 60)}
    sources = {'ms': numbered(first), 'sar': scenes_of(numbered(second))}
    train, val = (numbers_in(sources, split, 'sar') for split in ('train', 'val'))
    assert len({i // 6 for i in val}) == 1
    assert not {i // 6 for i in train} & {9, *(i // 6 for i in val)}
    assert train | val == {*range(20, 54)}


def test_samples_that_no_source_splits_are_for_training() -> None:
    splits = {'train': range(12), 'val': range(12, 20), 'test': range(20, 24)}
    sources = {'ms': numbered(splits), 'sar': numbered(None)}
    assert numbers_in(sources, 'train', 'sar') == {*range(12), *range(24, 60)}
    assert numbers_in(sources, 'train') == {*range(12)}
    assert numbers_in(sources, 'val', 'sar') == {*range(12, 20)}
    assert not left_out(sources)
    both = PairedDatasets(sources, missing='keep').counts
    assert [count.images for count in both] == [24, 60]
    # but for scenes that are scored
    splits['test'] = range(20, 26)
    sources = {'ms': numbered(splits), 'sar': scenes_of(numbered(None))}
    assert numbers_in(sources, 'train', 'sar') == {*range(12), *range(30, 60)}
    assert left_out(sources).startswith('left 4 files: 4 in no split')


def test_an_empty_split_names_the_source_that_decides() -> None:
    sources = {
        'ms': numbered({'train': range(40), 'test': range(40, 60)}),
        'sar': numbered({'train': range(30), 'val': range(30, 60)}),
    }
    message = r"no sample with \['ms', 'sar'\].*'ms' decides, .*some out, or put a"
    with pytest.raises(SplitError, match=message):
        PairedDatasets(sources, 'val')
    sources['ms'] = scenes_of(sources['ms'])
    assert len(PairedDatasets(sources, 'val')) == 6


def other_labels(dataset: Any) -> list[int]:
    return sample_labels(dataset)


def pack(sources: dict[str, DatasetSource], path: Path, **changed: Any) -> str:
    dataset = PairedDatasets(sources, root=str(path.parent))
    opened = {m: open_source(m, s) for m, s in sources.items()}
    samples = replace(join_samples(opened, 'multiclass'), **changed)
    dataset.store = SourceStore(path.parent, opened, samples)
    write_pack(dataset, path)
    return str(path)


@pytest.mark.parametrize(
    ('changed', 'message'),
    [
        (
            {'splits': {'train': 'train', 'val': 'test', 'test': 'val'}},
            r"'ms.splits'.*'val': 'test'",
        ),
        ({'labels': other_labels}, 'ms.labels.*sample_labels.*not.*other_labels'),
        ({'keys': apart}, 'ms.keys.*positions.*not.*apart'),
        ({'image': 'picture'}, 'ms.image.*picture'),
        ({'classes': ('Water', 'Forest')}, 'ms.classes'),
        (
            {'splits': {'train': 'train', 'test': 'test'}, 'groups': positions},
            'ms.splits.*ms.groups.*not.*positions',
        ),
        ({'kwargs': {'labels': (0, 1, 0), 'shape': double}}, 'ms.kwargs.*double'),
    ],
)
def test_a_pack_refuses_other_settings_of_its_sources(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    sources = {m: tiles(given={'labels': (0, 1, 0)}) for m in ('ms', 'sar')}
    root = pack(sources, tmp_path / 'tiles.safetensors')
    other = sources | {'ms': replace(sources['ms'], **changed)}
    with pytest.raises(PackError, match=message):
        PairedDatasets(other, root=root)
    with pytest.raises(PackError, match=r"\['ms', 'sar'\].*not .*\['sar', 'ms'\]"):
        PairedDatasets(dict(reversed(sources.items())), root=root)
    assert len(PairedDatasets(sources, root=root)) == 3
    # packs of earlier versions record none of these
    root = pack(sources, tmp_path / 'earlier.safetensors', settings={})
    kept = {name: value for name, value in changed.items() if name != 'classes'}
    other = sources | {'ms': replace(sources['ms'], **kept)}
    assert len(PairedDatasets(other, root=root)) == 3


def test_a_pack_opens_although_a_later_source_numbers_classes_otherwise(
    tmp_path: Path,
) -> None:
    other = tiles(given={'labels': (1, 0, 1)})
    other = replace(other, classes=('Water', 'Forest'))
    sources = {'ms': tiles(), 'sar': other}
    root = pack(sources, tmp_path / 'tiles.safetensors')
    assert PairedDatasets(sources, root=root).labels.tolist() == [0, 0, 1]


def test_a_table_without_settings_can_be_read() -> None:
    table = Samples('multiclass', ('Crop',), {'a': (0,)}, {'a': 'train'}, {'ms': 'x'})
    earlier = table.to_json().replace(b', "settings": {}', b'')
    assert b'settings' not in earlier
    assert Samples.from_json(earlier, 'pack') == table

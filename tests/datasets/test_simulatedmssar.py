# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torchgeo.datasets import DatasetNotFoundError

from torchgeo_discomkd import __version__
from torchgeo_discomkd.datasets import (
    SimulatedMSSAR,
    SimulatedMSSARThermal,
    simulatedmssar,
)
from torchgeo_discomkd.errors import LayoutError

SMALL: dict[str, Any] = {'tiles_per_class': 10, 'size': 16}


@pytest.fixture(scope='module')
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('parent') / 'new' / 'data'
    SimulatedMSSAR(str(root), **SMALL)
    return root


def content(root: Path) -> dict[str, bytes]:
    paths = [p for p in root.rglob('*') if p.is_file()]
    return {str(p.relative_to(root)): p.read_bytes() for p in paths}


def test_first_use_writes_and_later_ones_read(simulated: Path) -> None:
    before = content(simulated)
    dataset = SimulatedMSSAR(str(simulated), 'test', run=2, download=False, **SMALL)
    assert len(dataset) == 30
    assert len(dataset.classes) == 10
    assert dataset[0]['image_ms'].shape == (13, 16, 16)
    assert dataset[0]['image_sar'].shape == (2, 16, 16)
    assert dataset.units['sar'] == 'dB'
    assert dataset.georeference(0) is not None
    assert content(simulated) == before
    assert json.loads((simulated / 'simulated.json').read_text()) == {
        'seed': 0,
        'size': 16,
        'tiles_per_class': 10,
        'version': __version__,
    }
    assert [p.name for p in simulated.parent.iterdir()] == ['data']


@pytest.mark.slow
def test_seed_fixes_every_pixel(simulated: Path, tmp_path: Path) -> None:
    first = SimulatedMSSAR(str(simulated), **SMALL)
    second = SimulatedMSSAR(str(tmp_path / 'a'), **SMALL)
    third = SimulatedMSSAR(str(tmp_path / 'b'), seed=1, **SMALL)
    for key in ('image_ms', 'image_sar'):
        assert torch.equal(first[7][key], second[7][key])
        assert not torch.equal(first[7][key], third[7][key])


def test_other_parameters(simulated: Path) -> None:
    for name, value in {'seed': 1, 'size': 32, 'tiles_per_class': 20}.items():
        with pytest.raises(
            LayoutError, match=rf"with {{.*}}, not {{.*'{name}': {value}"
        ):
            SimulatedMSSAR(str(simulated), **(SMALL | {name: value}))


def test_foreign_folder_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / 'notes.txt').write_text('mine')
    with pytest.raises(LayoutError, match='a folder of their own'):
        SimulatedMSSAR(str(tmp_path), **SMALL)
    (tmp_path / 'simulated.json').write_text('{')
    with pytest.raises(LayoutError, match='a folder of their own'):
        SimulatedMSSAR(str(tmp_path), **SMALL)
    assert len(list(tmp_path.iterdir())) == 2


def test_no_download(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match='use download=True'):
        SimulatedMSSAR(str(tmp_path / 'a'), download=False, **SMALL)
    assert not (tmp_path / 'a').exists()


def test_interrupted_simulation_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(root: Path, **parameters: int) -> None:
        (root / 'half').mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(simulatedmssar, 'simulate', interrupt)
    with pytest.raises(KeyboardInterrupt):
        SimulatedMSSAR(str(tmp_path / 'a'), **SMALL)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('seed', [0, 3])
def test_another_process_is_quicker(
    simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    root = tmp_path / 'a'

    def race(folder: Path, **parameters: int) -> None:
        (folder / 'mine').mkdir()
        shutil.copytree(simulated, root)

    monkeypatch.setattr(simulatedmssar, 'simulate', race)
    if seed == 0:
        assert len(SimulatedMSSAR(str(root), **SMALL)) == 70
    else:
        with pytest.raises(LayoutError, match='choose another root'):
            SimulatedMSSAR(str(root), seed=seed, **SMALL)
    assert not (root / 'mine').exists()
    assert [p.name for p in tmp_path.iterdir()] == ['a']


def test_empty_folder_is_used(tmp_path: Path) -> None:
    dataset = SimulatedMSSAR(str(tmp_path), modalities=['sar'], **SMALL)
    assert set(dataset[0]) == {'image_sar', 'label', 'index'}


def test_a_third_sensor_changes_nothing_for_the_others(
    simulated: Path, tmp_path: Path
) -> None:
    root = tmp_path / 'three'
    dataset = SimulatedMSSARThermal(str(root), **SMALL)
    two, three = content(simulated), content(root)
    third = {name for name in three if name.startswith('Thermal/')}
    assert len(third) == 100
    marker = 'simulated.json'
    assert {k: v for k, v in three.items() if k not in {*third, marker}} == {
        k: v for k, v in two.items() if k != marker
    }
    assert dataset.modalities == ('ms', 'sar', 'thermal')
    assert dataset.bands['thermal'] == ('LST',)
    assert dataset.units['thermal'] == 'K'
    kelvin = torch.stack([dataset.load(i, 'thermal') for i in range(len(dataset))])
    assert kelvin.min() > 250
    assert kelvin.max() < 340
    means = kelvin.mean(dim=(1, 2, 3)).reshape(10, -1).mean(dim=1)
    named = dict(zip(dataset.classes, means.tolist(), strict=True))
    # plants and water cool
    assert named['SeaLake'] < named['Forest'] < named['Industrial']
    # the others may use this folder, but not the other way round
    assert len(SimulatedMSSAR(str(root), **SMALL)) == len(dataset)
    with pytest.raises(LayoutError, match="'thermal': None"):
        SimulatedMSSARThermal(str(simulated), **SMALL)

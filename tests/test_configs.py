# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from tests.conftest import TINY
from tests.datasets.torchgeo_files import (
    write_bigearthnet_v2,
    write_copernicus_bigearthnet,
    write_copernicus_eurosat,
    write_sen12ms,
    write_so2sat,
    write_treesatai,
)
from tests.fakes import write_arrays, write_eurosat, write_pairs
from torchgeo_discomkd.commands import main
from torchgeo_discomkd.commands.configs import configs_folder, with_configs

CONFIGS = Path(__file__).parents[1] / 'configs'


class Count(Callback):
    """Counts the batches of a run without files, and the weights that have changed."""

    batches = 0
    moved = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.before = [p.detach().clone() for p in pl_module.parameters()]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: object
    ) -> None:
        Count.batches += 1

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pairs = zip(self.before, pl_module.parameters(), strict=True)
        Count.moved = sum(not torch.equal(one, other) for one, other in pairs)


#: Small files of TorchGeo's data sets, by configuration.
TORCHGEO = {
    'bigearthnet': write_bigearthnet_v2,
    'copernicus_bigearthnet': write_copernicus_bigearthnet,
    'copernicus_eurosat': write_copernicus_eurosat,
    'sen12ms': write_sen12ms,
    'so2sat': write_so2sat,
    'treesatai': write_treesatai,
}

#: Those that the suite leaves out.
SLOW = ('bigearthnet', 'copernicus_eurosat', 'sen12ms', 'treesatai')


def write_data(config: str, root: Path) -> list[str]:
    """Write data of the layout that a configuration reads; return what is needed."""
    if config in TORCHGEO:
        TORCHGEO[config](root)
        return []
    match config:
        case 'quickstart':
            return ['--data.tiles_per_class', '13', '--data.size', '16']
        case 'eurosat_ms_sar':
            write_eurosat(root, 13)
            return ['--data.download', 'false']
        case 'eurosat_spatial':
            write_eurosat(root, 3)
            names = [path.name for path in sorted(root.glob('EuroSAT_MS/*/*.tif'))]
            for i, split in enumerate(('train', 'val', 'test')):
                lines = [n.replace('.tif', '.jpg') for n in names[i::3]]
                file = root / f'eurosat-spatial-{split}.txt'
                file.write_text('\n'.join(lines))
            return ['--data.download', 'false']
        case 'folders':
            classes = ('Bare', 'Crop', 'Water')
            folders = {'ms': 'S2_MS', 'sar': 'S1_SAR'}
            write_pairs(root, classes, 3, folders=folders)
            rows = [
                f'{name}_{i + 1}.tif,{block}'
                for name in classes
                for i, block in enumerate(('train', 'val', 'test'))
            ]
            (root / 'groups.csv').write_text('\n'.join(['file,block', *rows]))
            return []
        case 'floods':
            shapes = {'ms': (3, 8, 8), 'sar': (1, 8, 8)}
            folders = {'ms': 'S2', 'sar': 'S1'}
            classes = ('Dry', 'Flooded')
            write_pairs(root, classes, 10, shapes, folders)
            rows = [f'{name}_{i}.tif,E{i:02}' for name in classes for i in range(1, 11)]
            (root / 'index.csv').write_text('\n'.join(['file,event', *rows]))
            return []
        case 'arrays':
            write_arrays(root, classes=10)
            return []
    raise ValueError(config)


@pytest.mark.parametrize(
    'config',
    [
        pytest.param(p.stem, marks=pytest.mark.slow) if p.stem in SLOW else p.stem
        for p in sorted(CONFIGS.glob('*.yaml'))
    ],
)
def test_shipped_configuration_trains(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Count, 'batches', 0)
    monkeypatch.setattr(Count, 'moved', 0)
    root = tmp_path / 'data'
    arguments = write_data(config, root)
    steps = 2 if config in TORCHGEO else 1
    main(
        [
            *('fit', '--config', str(CONFIGS / f'{config}.yaml'), *TINY),
            *('--data.root', str(root), '--data.num_workers', '0', *arguments),
            *('--data.batch_size', '2' if config in TORCHGEO else '8'),
            *('--trainer.fast_dev_run', str(steps)),
            '--trainer.callbacks+=tests.test_configs.Count',
        ]
    )
    assert Count.batches == steps
    assert Count.moved > 10


def test_configurations_are_found_without_a_clone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ('configs/folders.yaml', '--config=configs/quickstart.yaml')
    found = with_configs([*names, 'configs/mine.yaml', '--config=mine.yaml'])
    assert found == [
        str(configs_folder() / 'folders.yaml'),
        f'--config={configs_folder() / "quickstart.yaml"}',
        *('configs/mine.yaml', '--config=mine.yaml'),
    ]
    assert capsys.readouterr().err.count(' is not here: using ') == 2
    for name in ('folders.yaml', 'quickstart.yaml'):
        assert (configs_folder() / name).read_text() == (CONFIGS / name).read_text()
    # a file of the user has precedence
    own = tmp_path / 'configs' / 'folders.yaml'
    own.parent.mkdir()
    own.touch()
    assert with_configs([names[0]]) == [names[0]]

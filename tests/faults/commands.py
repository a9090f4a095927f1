# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Commands to kill: their data, how they are resumed, and what they must leave."""

import shutil
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Hashable
from pathlib import Path

import numpy as np
import pandas as pd
import rasterio
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from torchgeo_discomkd.classify.scene.outputs import SceneOutputs

from ..benchmark.conftest import write_config_file
from ..conftest import TINY
from ..export.classifiers import write_classifier
from ..fakes import write_pairs, write_tile
from .processes import Process

#: Of SAR tiles in dB: VV and VH.
MEAN, STD = np.reshape([-11, -18], (2, 1, 1)), 3

#: What a command leaves: each piece and how often it is there.
type Pieces = Counter[Hashable]


class Command(ABC):
    """A command and its output.

    Attributes:
        data: Folder of its data, which is only read.
        size: How much work there is, if that can be chosen; 1 takes part of a second.
        word: What the command prints with each piece of work, if it goes on with the
            work of an earlier one without being asked; else None.
    """

    word: str | None = None

    def __init__(self, data: Path, size: int = 1) -> None:
        """Write the data.

        Args:
            data: Empty folder.
            size: How much work there is.
        """
        self.data, self.size = data, size
        self.prepare()

    @abstractmethod
    def prepare(self) -> None:
        """Write the data."""

    def begin(self, folder: Path) -> None:  # noqa: B027 (most need nothing)
        """Write what is there before the command runs.

        Args:
            folder: Folder of the output.
        """

    @abstractmethod
    def args(self, folder: Path, again: bool = False) -> list[str]:
        """Return the arguments.

        Args:
            folder: Folder of the output.
            again: Whether it was killed before.
        """

    @abstractmethod
    def pieces(self, folder: Path) -> Pieces:
        """Return what is there, complete.

        Args:
            folder: Folder of the output.
        """

    def check(self, folder: Path) -> None:  # noqa: B027 (most need nothing)
        """Check that what a kill leaves is readable.

        Args:
            folder: Folder of the output.
        """


class Tiles(Command):
    """``classify`` into a table."""

    def prepare(self) -> None:
        write_classifier(self.data / 'sar.safetensors', kind='fusion', head=None)
        (self.data / 'tiles').mkdir()
        rng = np.random.default_rng(0)
        for number in range(60 * self.size):
            tile = rng.normal(MEAN, STD, (2, 32, 32)).astype(np.float32)
            np.save(self.data / 'tiles' / f'{number:06d}.npy', tile)

    def args(self, folder: Path, again: bool = False) -> list[str]:
        model, tiles = self.data / 'sar.safetensors', self.data / 'tiles'
        args = ['classify', str(model), str(tiles), '--device', 'cpu']
        args += ['--output', str(folder / 'tiles.csv'), '--batch-size', '4']
        if again:
            # a table that was complete before the kill is made again
            begun = (folder / 'tiles.csv.partial').exists()
            args.append('--resume' if begun else '--overwrite')
        return args

    def pieces(self, folder: Path) -> Pieces:
        table = pd.read_csv(folder / 'tiles.csv')
        return Counter(map(tuple, table[['path', 'label', 'confidence']].to_numpy()))


class SceneMap(Command):
    """``classify`` a scene into a map that replaces another one."""

    def prepare(self) -> None:
        write_classifier(self.data / 'sar.safetensors', kind='fusion', head=None)
        rng = np.random.default_rng(0)
        for name, more in (('old', 6), ('new', -4)):
            scene = rng.normal(MEAN + more, STD, (2, 48 * self.size, 96))
            path = self.data / f'{name}.tif'
            write_tile(path, scene.astype(np.float32), None, 'EPSG:32633', ['VV', 'VH'])

    def begin(self, folder: Path) -> None:
        process = Process(self._args('old', folder), folder / 'log')
        assert process.ended().code == 0

    def args(self, folder: Path, again: bool = False) -> list[str]:
        return [*self._args('new', folder), '--overwrite']

    def _args(self, scene: str, folder: Path) -> list[str]:
        model, output = self.data / 'sar.safetensors', folder / 'map.tif'
        args = ['classify', str(model), str(self.data / f'{scene}.tif')]
        args += ['--output', str(output), '--preview', str(folder / 'map.png')]
        args += ['--polygons', str(folder / 'map.gpkg'), '--stride', '8']
        return [*args, '--device', 'cpu']

    def pieces(self, folder: Path) -> Pieces:
        found: Pieces = Counter()
        for name in ('map.tif', 'map_confidence.tif'):
            with rasterio.open(folder / name) as file:
                found[name, file.read().tobytes()] += 1
        for name in ('map.tif.aux.xml', 'map.qml', 'map_confidence.qml', 'map.png'):
            found[name, (folder / name).read_bytes()] += 1
        return found

    def check(self, folder: Path) -> None:
        outputs = SceneOutputs(
            folder / 'map.tif', folder / 'map.gpkg', folder / 'map.png'
        )
        if not outputs.classes.exists():
            return
        # no map, or one with its own files
        with rasterio.open(outputs.classes) as file:
            scene = file.tags()['SCENE']
        with rasterio.open(outputs.confidence) as file:
            assert file.tags()['SCENE'] == scene, 'confidence of another map'
        assert all(path.exists() for path in outputs.files), 'files are missing'


class Pack(Command):
    """``pack`` a data set."""

    def prepare(self) -> None:
        write_pairs(self.data / 'pairs', count=40 * self.size)

    def args(self, folder: Path, again: bool = False) -> list[str]:
        args = ['pack', '--data', 'PairedFoldersDataModule', '--data.root']
        args += [str(self.data / 'pairs'), '--output']
        return [*args, str(folder / 'pairs.safetensors')]

    def pieces(self, folder: Path) -> Pieces:
        found: Pieces = Counter()
        with safe_open(folder / 'pairs.safetensors', 'np') as file:
            for key in file.keys():  # noqa: SIM118 (no mapping)
                found[key, file.get_tensor(key).tobytes()] += 1
        return found


class Fit(Command):
    """``fit`` of three epochs."""

    def prepare(self) -> None:
        write_pairs(self.data / 'pairs', count=20)

    def args(self, folder: Path, again: bool = False) -> list[str]:
        run = folder / 'run'
        if again and (run / 'last.ckpt').exists():
            last = str(run / 'last.ckpt')
            return ['fit', '--config', str(run / 'config.yaml'), '--ckpt_path', last]
        if again and (run / 'best').exists():
            # as the error says if the first epoch was not complete
            shutil.rmtree(run / 'best')
        args = ['fit', '--model', 'DisCoMKD', '--model.num_classes', '2', *TINY]
        args += ['--data', 'PairedFoldersDataModule', '--data.batch_size', '8']
        args += ['--data.root', str(self.data / 'pairs'), '--trainer.max_epochs', '3']
        return [*args, '--trainer.default_root_dir', str(run)]

    def pieces(self, folder: Path) -> Pieces:
        found: Pieces = Counter()
        for path in sorted((folder / 'run' / 'best').glob('*.safetensors')):
            for key, value in load_file(path).items():
                found[path.name, key, value.numpy().tobytes()] += 1
        checkpoint = torch.load(folder / 'run' / 'last.ckpt', weights_only=True)
        for key, value in checkpoint['state_dict'].items():
            found['last.ckpt', key, value.numpy().tobytes()] += 1
        return found

    def check(self, folder: Path) -> None:
        if (last := folder / 'run' / 'last.ckpt').exists():
            torch.load(last, weights_only=True)
        for path in (folder / 'run').glob('best/*.safetensors'):
            load_file(path)


class Benchmark(Command):
    """``benchmark`` of three trainings."""

    word = 'run 0: '

    def prepare(self) -> None:
        write_pairs(self.data / 'pairs', count=20)

    def args(self, folder: Path, again: bool = False) -> list[str]:
        return ['benchmark', str(write_config_file(folder, self.data / 'pairs'))]

    def pieces(self, folder: Path) -> Pieces:
        rows = pd.read_csv(folder / 'results' / 'results.csv')
        rows = rows[['run', 'training', 'readout', 'modality', 'F1', 'val_F1']]
        return Counter(map(tuple, rows.to_numpy()))

    def check(self, folder: Path) -> None:
        if (table := folder / 'results' / 'results.csv').exists():
            rows = pd.read_csv(table)
            assert not rows.duplicated(['run', 'training', 'readout', 'modality']).any()


class Export(Command):
    """``export`` a classifier."""

    def prepare(self) -> None:
        write_classifier(self.data / 'sar.safetensors', kind='fusion', head=None)

    def args(self, folder: Path, again: bool = False) -> list[str]:
        model, output = self.data / 'sar.safetensors', folder / 'sar.pt2'
        return ['export', str(model), '--output', str(output), '--overwrite']

    def pieces(self, folder: Path) -> Pieces:
        program = torch.export.load(folder / 'sar.pt2')
        found: Pieces = Counter()
        for key, value in program.state_dict.items():
            found[key, value.detach().numpy().tobytes()] += 1
        return found

    def check(self, folder: Path) -> None:
        if (folder / 'sar.pt2').exists():
            torch.export.load(folder / 'sar.pt2')


COMMANDS: dict[str, type[Command]] = {
    'classify': Tiles,
    'map': SceneMap,
    'pack': Pack,
    'fit': Fit,
    'benchmark': Benchmark,
    'export': Export,
}

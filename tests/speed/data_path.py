# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Batches of pairs: TorchGeo's readers, our folders, our pack.

Simulated EuroSAT tiles (13 bands uint16 and 2 bands float32, 64x64 pixels, GeoTIFF) in
the layout of TorchGeo's own data sets, batches of 128, all files in the page cache. An
epoch of the training split is timed, from the loader to one float32 batch of both
modalities; augmentation is part of the training step. Every alternative has its own
process, as a training has; they take turns.
"""

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from torch.utils.data import DataLoader
from torchgeo.datasets import CopernicusBenchEuroSATS1, EuroSAT

from torchgeo_discomkd.datamodules import EuroSATMSSARDataModule
from torchgeo_discomkd.datasets import write_pack
from torchgeo_discomkd.datasets.simulation import simulate
from torchgeo_discomkd.performance.memory import keep_freed_memory

from .measure import compare, in_turns, parse, report, rows_of, seconds_of, tell

BATCH = 128


#: Reader and number of worker processes of each alternative.
ALTERNATIVES = {
    'TorchGeo readers, 2 workers': ('torchgeo', 2),
    'TorchGeo readers, 0 workers': ('torchgeo', 0),
    'folders, 0 workers': ('folders', 0),
    'folders, 2 workers': ('folders', 2),
    'pack, 0 workers': ('pack', 0),
    'pack, 1 worker': ('pack', 1),
    'pack, 2 workers': ('pack', 2),
}


def main() -> None:
    """Measure and report."""
    options = parse(
        __doc__,
        ('--tiles-per-class', {'type': int, 'default': 100}),
        ('--rounds', {'type': int, 'default': 3}),
        ('--time', {'nargs': 2, 'help': 'an alternative and the folder (internal)'}),
    )
    if options.time:
        tell(seconds=seconds_of_epoch(*options.time))
        return
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / 'data'
        write(root, options.tiles_per_class)
        module = EuroSATMSSARDataModule(str(root), split_scheme='torchgeo')
        write_pack(module.make_dataset('train'), root.with_name('pack.safetensors'))
        found = in_turns('tests.speed.data_path', ALTERNATIVES, options.rounds, root)
    pairs = 10 * options.tiles_per_class
    rows = rows_of(seconds_of(found), pairs)
    report('Data path', rows, 'pairs', options.json, pairs=pairs, batch_size=BATCH)


def seconds_of_epoch(alternative: str, folder: str) -> float:
    """Return the median of five epochs after a first one.

    Args:
        alternative: One of :data:`ALTERNATIVES`.
        folder: Folder of the tiles; the pack is beside it.
    """
    reader, workers = ALTERNATIVES[alternative]
    root = Path(folder)
    if reader != 'torchgeo':
        # as the command line does it
        keep_freed_memory()
    match reader:
        case 'torchgeo':
            epoch = torchgeo_epoch(root, workers)
        case 'folders':
            epoch = our_epoch(root, workers)
        case _:
            epoch = our_epoch(root.with_name('pack.safetensors'), workers)
    (row,) = compare({alternative: epoch}, 1)
    return row.seconds


def write(root: Path, tiles_per_class: int) -> None:
    """Simulate tiles in the layout of TorchGeo, all of them for training.

    Args:
        root: Folder to write.
        tiles_per_class: Number of tiles of each class.
    """
    simulate(root, tiles_per_class)
    places = {'EuroSAT_MS': EuroSAT.base_dir, 'EuroSAT-SAR': 'eurosat_s1/all_imgs'}
    for original, place in places.items():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / original).rename(root / place)
    stems = sorted(path.stem for path in (root / EuroSAT.base_dir).glob('*/*.tif'))
    text = ''.join(f'{stem}.jpg\n' for stem in stems)
    (root / EuroSAT.split_filenames['train']).write_text(text)
    (root / 'eurosat_s1' / 'eurosat-train.txt').write_text(text)


def torchgeo_epoch(root: Path, workers: int) -> Callable[[], None]:
    """Return an epoch of TorchGeo's two data sets.

    Args:
        root: Folder of the tiles.
        workers: Worker processes of each loader.
    """
    loaders = [
        DataLoader(
            dataset,
            BATCH,
            shuffle=True,
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        for dataset in (
            EuroSAT(str(root), checksum=False),
            CopernicusBenchEuroSATS1(str(root), checksum=False),
        )
    ]
    return lambda: exhaust(zip(*loaders, strict=True))


def our_epoch(root: Path, workers: int) -> Callable[[], None]:
    """Return an epoch of our data module.

    Args:
        root: Folder of the tiles, or a pack.
        workers: Worker processes of each loader.
    """
    datamodule = EuroSATMSSARDataModule(
        str(root), split_scheme='torchgeo', batch_size=BATCH, num_workers=workers
    )
    datamodule.train_dataset = datamodule.make_dataset('train')
    datamodule._setup_training(datamodule.train_dataset)
    loader = datamodule.train_dataloader()
    return lambda: exhaust(
        datamodule.on_before_batch_transfer(batch, 0) for batch, _, _ in loader
    )


def exhaust(batches: Iterable[object]) -> None:
    """Take all batches.

    Args:
        batches: The batches.
    """
    for _ in batches:
        pass


if __name__ == '__main__':
    main()

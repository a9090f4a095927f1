# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Classify many tiles in one process, and watch its memory and its files.

The tiles are a few files with many names, so that they take no space; each name is a
tile like any other. In the second half, when all is warm, memory and open files must
be *flat*: a line through the samples of memory rises by less than 16 MiB per 100 000
tiles, or by less than 8 MiB in all, and at some moment no more files are open than in
the first half.
For example, for a night:

    python -m tests.faults.soak --tiles 100000
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from tests.export.classifiers import MEAN, SAR, write_classifier
from tests.fakes import write_tile
from torchgeo_discomkd.commands import main as discomkd

#: MiB by which memory may grow per 100 000 tiles, and in all.
SLOPE, GROWTH = 16.0, 8.0

#: Names that one file may have: file systems allow some 65 000.
NAMES = 30_000

_KINDS = ('.npy', '.tif', '.npy', '.tif', '.tif')


class Sample(NamedTuple):
    """The state of the process.

    Attributes:
        tiles: How many tiles were finished; interpolated.
        seconds: When.
        memory: Resident memory in MiB.
        files: Open file descriptors.
    """

    tiles: float
    seconds: float
    memory: float
    files: int


def write_tiles(folder: Path, count: int, size: int) -> None:
    """Write tiles that are links to a few files, one of which is damaged.

    Args:
        folder: Empty folder.
        count: Number of tiles.
        size: Height and width in pixels.
    """
    rng = np.random.default_rng(0)
    sources: dict[int, Path] = {}
    mean = np.reshape(MEAN, (2, 1, 1))
    for number in range(count):
        kind = number % len(_KINDS)
        if number // len(_KINDS) % NAMES == 0:
            sources[kind] = folder / f'{number}{_KINDS[kind]}'
            tile = rng.normal(mean, 3, (2, size, size)).astype(np.float32)
            if sources[kind].suffix == '.npy':
                np.save(sources[kind], tile)
            else:
                write_tile(sources[kind], tile, None, 'EPSG:32633', ['VV', 'VH'])
            if kind == len(_KINDS) - 1:
                content = sources[kind].read_bytes()
                sources[kind].write_bytes(content[: len(content) // 2])
        # folders of a thousand tiles
        own = folder / 'tiles' / f'{number // 1000:05d}'
        own.mkdir(parents=True, exist_ok=True)
        os.link(sources[kind], own / f'{number:06d}{_KINDS[kind]}')


class Watch(threading.Thread):
    """Samples memory and open files of this process until it is told to stop."""

    def __init__(self, every: float) -> None:
        """Initialize a new Watch instance.

        Args:
            every: Seconds between samples.
        """
        super().__init__(daemon=True)
        self.samples: list[Sample] = []
        self._every, self._end = every, threading.Event()

    def run(self) -> None:
        """Sample."""
        since = time.monotonic()
        while not self._end.wait(self._every):
            pages = int(Path('/proc/self/statm').read_text().split()[1])
            memory = pages * os.sysconf('SC_PAGE_SIZE') / 2**20
            files = len(os.listdir('/proc/self/fd'))  # noqa: PTH208
            self.samples.append(Sample(0, time.monotonic() - since, memory, files))

    def stop(self) -> None:
        """End the thread."""
        self._end.set()
        self.join()


def soak(tiles: int, size: int, folder: Path, samples: int = 200) -> list[Sample]:
    """Classify tiles.

    Args:
        tiles: How many.
        size: Their height and width in pixels.
        folder: Empty folder.
        samples: About how many samples to return.

    Returns:
        The state of the process over time.
    """
    torch.set_num_threads(1)
    write_tiles(folder, tiles, size)
    modalities = {'sar': replace(SAR, tile_size=(size, size))}
    model = write_classifier(
        folder / 'sar.safetensors', image_size=(size, size), modalities=modalities
    )
    command = ['classify', str(model), str(folder / 'tiles'), '--device', 'cpu']
    command += ['--batch-size', '16']
    watch = Watch(0.02 if tiles < 10_000 else 1)
    watch.start()
    try:
        discomkd([*command, '--output', str(folder / 'tiles.csv')])
    except SystemExit as stop:
        # some tiles are unreadable
        assert stop.code in (0, 3), stop.code
    finally:
        watch.stop()
    rows = pd.read_csv(folder / 'tiles.csv', usecols=['path', 'status'])
    assert len(rows) == tiles == rows['path'].nunique()
    assert (rows['status'] == 'ok').sum() == tiles - tiles // len(_KINDS)
    took = watch.samples[-1].seconds
    # the table is put together in the end
    finished = watch.samples[: len(watch.samples) * 19 // 20]
    kept = finished[:: max(1, len(finished) // samples)]
    return [s._replace(tiles=tiles * s.seconds / took) for s in kept]


def rise(samples: list[Sample]) -> float:
    """Return by how many MiB per tile memory rises in the second half."""
    half = samples[len(samples) // 2 :]
    x, y = np.array([(s.tiles, s.memory) for s in half]).T
    return float(np.polyfit(x, y, 1)[0])


def is_flat(samples: list[Sample]) -> bool:
    """Whether neither memory nor open files grow in the second half."""
    middle = len(samples) // 2
    warm, half = samples[:middle], samples[middle:]
    slope = rise(samples)
    grown = slope * (half[-1].tiles - half[0].tiles)
    flat = slope * 1e5 < SLOPE or grown < GROWTH
    # a few are open for a moment; what leaks stays
    return flat and min(s.files for s in half) <= max(s.files for s in warm)


def main() -> None:
    """Classify many tiles, and print the state of the process over time."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    add = parser.add_argument
    add('--tiles', type=int, default=20_000, help='default: %(default)s')
    add('--size', type=int, default=16, help='of a tile (default: %(default)s pixels)')
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        samples = soak(options.tiles, options.size, Path(folder))
    sys.stdout.write('   tiles  seconds  memory (MiB)  open files\n')
    for s in samples[:: max(1, len(samples) // 20)]:
        line = f'{s.tiles:8.0f} {s.seconds:8.0f} {s.memory:13.1f} {s.files:11d}\n'
        sys.stdout.write(line)
    flat = is_flat(samples)
    words = 'flat' if flat else 'NOT FLAT'
    sys.stdout.write(f'{words}: {rise(samples) * 1e5:.1f} MiB per 100 000 tiles\n')
    sys.exit(not flat)


if __name__ == '__main__':
    main()

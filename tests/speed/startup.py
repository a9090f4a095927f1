# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Seconds from the start of the process to its first result.

As in any second start of a program, Python's bytecode is on disk already.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from torchgeo_discomkd.export import export_classifier
from torchgeo_discomkd.models import ModalityMetadata

from ..export.classifiers import write_classifier
from .labelled_tiles import random_tiles, write_tiles
from .measure import compare, parse, report

#: Where this is set, every start compiles all of its libraries again.
NO_BYTECODE = 'PYTHONDONTWRITEBYTECODE'

SAR = ModalityMetadata(2, ('VV', 'VH'), 'dB', (64, 64))


def python(*arguments: object) -> Callable[[], object]:
    """Return what runs Python and waits for its end."""
    words = [sys.executable, *map(str, arguments)]
    environment = {k: v for k, v in os.environ.items() if k != NO_BYTECODE}
    return lambda: subprocess.run(
        words, capture_output=True, check=True, env=environment
    )


def command(*arguments: object) -> Callable[[], object]:
    """Return what runs a command of the package and waits for its end."""
    return python('-m', 'torchgeo_discomkd', *arguments)


def main() -> None:
    """Measure."""
    options = parse(
        __doc__,
        ('--rounds', {'type': int, 'default': 5}),
        ('--quick', {'action': 'store_true', 'help': '1 round'}),
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = write_classifier(
            folder / 'sar.safetensors', model='resnet18', modalities={'sar': SAR}
        )
        export_classifier(model, folder / 'sar.onnx')
        tiles = write_tiles(folder / 'tiles', random_tiles(SAR, 64).images)
        int8 = {'quantize': True, 'calibrate': [tiles]}
        export_classifier(model, folder / 'sar8.onnx', **int8)
        # a table of one tile is complete when the first tile is classified
        first = [tiles / '000000.npy', '--output', folder / 'o.csv', '--overwrite']
        actions = {
            'import of PyTorch and timm': python('-c', 'import torch, timm'),
            'classify --help': command('classify', '--help'),
            **{
                f'first tile, {kind}': command('classify', folder / file, *first, *more)
                for kind, file, more in (
                    ('classifier file', 'sar.safetensors', []),
                    ('bfloat16', 'sar.safetensors', ['--precision', 'bfloat16']),
                    ('.onnx', 'sar.onnx', []),
                    ('.onnx, bfloat16', 'sar.onnx', ['--precision', 'bfloat16']),
                    ('.onnx, int8', 'sar8.onnx', []),
                )
            },
        }
        rows = compare(actions, 1, 1 if options.quick else options.rounds)
    seconds = {row.name: f'{row.seconds:.2f} s' for row in rows}
    report('start of the program', rows, 'runs', options.json, **seconds)


if __name__ == '__main__':
    main()

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""``import``: turn weights of the authors' released code into classifier files."""

import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Sequence
from functools import partial
from typing import Any


def run(args: Sequence[str]) -> None:
    """Import a checkpoint of the released code.

    Args:
        args: Arguments after ``import``.

    Raises:
        UserError: If the checkpoint or an argument cannot be used.
        SystemExit: If *args* are invalid or ask for help.
    """
    options = _parser().parse_args(args)
    # takes seconds: only after the arguments are known to be valid
    from ..models.released import import_released_checkpoint

    for file in import_released_checkpoint(
        options.weights,
        options.output,
        options.modalities,
        keep=options.keep,
        classes=options.classes,
        bands=options.bands,
        units=options.units,
        tile_size=options.tile_size,
    ):
        sys.stdout.write(f'{file}\n')


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog='discomkd import',
        description='Turn a WEIGHTS.pth of the released code of DisCoM-KD into '
        'classifier files, without running code that a pickle may contain.',
    )
    add = parser.add_argument
    add('weights', help='a WEIGHTS.pth')
    add(
        '--output',
        required=True,
        help='folder of the results, best/<modality>.safetensors',
    )
    add(
        '--modalities',
        nargs='+',
        required=True,
        metavar='NAME',
        help='the two modalities, in the order in which they were passed to the '
        'released code, e.g. ms sar',
    )
    add('--keep', nargs='+', metavar='NAME', help='modalities to write (default: both)')
    add(
        '--classes',
        nargs='+',
        metavar='NAME',
        help='class names in the order of their labels (default: 0 1 ...)',
    )
    add(
        '--bands',
        type=partial(_by_modality, kind=list, need='a list of names'),
        metavar='YAML',
        help="band names, e.g. '{sar: [VV, VH]}' (default: B1, B2, ...)",
    )
    add(
        '--units',
        type=partial(_by_modality, kind=str, need='a name'),
        metavar='YAML',
        help="unit of the values of each modality, e.g. '{sar: dB}' (default: "
        'normalised)',
    )
    add(
        '--tile-size',
        type=_size,
        metavar='YAML',
        help="side in pixels, e.g. 64 or '{ms: 64, sar: 32}' (default: unknown)",
    )
    return parser


def _by_modality(text: str, kind: type, need: str) -> dict[str, Any]:
    """Read a YAML mapping from modality to values of one type."""
    import yaml

    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = None
    if not isinstance(value, dict):
        raise ArgumentTypeError(f'{text}: give a mapping, e.g. {{sar: ...}}')
    if not all(type(item) is kind for item in value.values()):
        raise ArgumentTypeError(f'{text}: give {need} for each modality')
    return {str(key): item for key, item in value.items()}


def _size(text: str) -> int | dict[str, int]:
    if text.removeprefix('-').isdecimal():
        return int(text)
    return _by_modality(text, int, 'a whole number')

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Command line of the import."""

import sys
from collections.abc import Sequence

from jsonargparse import ArgumentParser

from ..models.released.convert import import_released_checkpoint


def run(args: Sequence[str]) -> None:
    """Import a checkpoint of the released code.

    Args:
        args: Arguments of the command line, after 'import'.

    Raises:
        UserError: If the checkpoint or an argument cannot be used.
    """
    options = _parser().parse_args(list(args))
    files = import_released_checkpoint(
        options.weights,
        options.output,
        options.modalities,
        keep=options.keep,
        classes=options.classes,
        bands=options.bands,
        units=options.units,
        tile_size=options.tile_size,
    )
    for file in files:
        sys.stdout.write(f'{file}\n')


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog='torchgeo_discomkd import',
        description='Turn a WEIGHTS.pth of the released code of DisCoM-KD into '
        'classifier files, without running what a pickle may hold.',
    )
    parser.add_argument('weights', type=str, help='a WEIGHTS.pth')
    parser.add_argument(
        '--output',
        type=str,
        required=True,
        help='folder of the results, best/<modality>.safetensors',
    )
    parser.add_argument(
        '--modalities',
        type=str,
        nargs='+',
        required=True,
        metavar='NAME',
        help='the two modalities, in the order in which the released code got them, '
        'e.g. ms sar',
    )
    parser.add_argument(
        '--keep',
        type=str,
        nargs='+',
        metavar='NAME',
        help='modalities to write (default: both)',
    )
    parser.add_argument(
        '--classes',
        type=str,
        nargs='+',
        metavar='NAME',
        help='class names in the order of their labels (default: 0 1 ...)',
    )
    parser.add_argument(
        '--bands',
        type=dict[str, list[str]] | None,
        help="band names, e.g. '{sar: [VV, VH]}' (default: B1, B2, ...)",
    )
    parser.add_argument(
        '--units',
        type=dict[str, str] | None,
        help='unit of the values of each modality (default: normalised)',
    )
    parser.add_argument(
        '--tile-size',
        type=int | dict[str, int] | None,
        help="pixels of a side, e.g. 64 or '{ms: 64, sar: 32}' (default: unknown)",
    )
    return parser

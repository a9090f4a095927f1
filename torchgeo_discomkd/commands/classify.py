# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""``classify``: turn tiles into a table, or a scene into a map."""

import os
import sys
import warnings
from argparse import SUPPRESS, ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SettingError

if TYPE_CHECKING:
    from ..classify import Predictor
    from ..rasters import FolderCounts
    from ..rasters.finding import ImageFiles

#: Extensions of maps; all others mean tables.
MAPS = ('.tif', '.tiff')

#: Options for only one kind of output.
OF_TABLES, OF_MAPS = ('crs', 'resume'), ('stride', 'polygons', 'preview')

EPILOG = """statuses of tiles:
  ok            classified as it is
  mixed_size    classified, but not of the classifier's size: padded if smaller,
                cropped to its centre if at most a quarter larger, otherwise the mean
                over windows
  nodata        all pixels missing (see --max-nodata)
  unreadable    truncated, vanished or not an image
  bands, unit   bands or unit differ from the classifier's
  too_large     a scene rather than a tile

exit codes:
  0    all tiles have a label
  2    a mistake in the command
  3    some tiles have no label: the table states why
  130  interrupted: continue with --resume

examples:
  discomkd classify sar.safetensors tiles/ --output tiles.parquet
  discomkd classify sar.safetensors VV=vv.tif VH=vh.tif \\
      --output map.tif --preview map.png
"""


def run(args: Sequence[str]) -> None:
    """Classify and report how many tiles failed.

    Args:
        args: Arguments after ``classify``.

    Raises:
        UserError: If the model, the images, the output or a setting is wrong.
        SystemExit: With 3 if some tiles have no label, 130 if interrupted, 2 if *args*
            are invalid, 0 for help.
    """
    options = vars(_parser().parse_intermixed_args(args))
    if options['bands'] is not None:
        options['bands'] = [band.strip() for band in options['bands'].split(',')]
    is_map = Path(options['output']).suffix.lower() in MAPS
    _check_kind(is_map, options)
    with warnings.catch_warnings():
        # without the line of code that caused it
        warnings.showwarning = _show  # ty: ignore[invalid-assignment]
        try:
            _classify(is_map, **options)
        except KeyboardInterrupt:
            hint = '' if is_map else ': run the same command with --resume to continue'
            sys.stderr.write(f'interrupted{hint}\n')
            sys.exit(130)


def _check_kind(is_map: bool, options: dict[str, Any]) -> None:
    wrong, kind = (
        (OF_TABLES, 'tables') if is_map else (OF_MAPS, 'maps of scenes (.tif)')
    )
    if given := [name for name in wrong if name in options]:
        names = ', '.join(f'--{name}' for name in given)
        raise SettingError(f'{names}: only for {kind}; omit it for this output.')


def _classify(
    is_map: bool,
    model: str,
    inputs: list[str],
    modality: str | None,
    device: str,
    precision: Any,
    **options: Any,
) -> None:
    # takes seconds: only after the arguments are known to be valid
    from ..classify import load_predictor
    from ..rasters.finding import find_images

    predictor = load_predictor(model, modality, device, precision)
    images = find_images(inputs, predictor.bands, _report)
    (_make_map if is_map else _make_table)(predictor, images, **options)


def _report(counts: 'FolderCounts') -> None:
    sys.stderr.write(f'{counts}\n')


def _make_table(
    predictor: 'Predictor', images: 'list[ImageFiles]', **options: Any
) -> None:
    from ..classify import classify_tiles

    summary = classify_tiles(predictor, images, **options)
    if summary.failed:
        sys.stderr.write(f'first tile without a label: {summary.example}\n')
    sys.stdout.write(f'{summary}\n')
    if summary.failed:
        sys.exit(3)


def _make_map(
    predictor: 'Predictor', images: 'list[ImageFiles]', output: str, **options: Any
) -> None:
    from ..classify import classify_scene

    if len(images) > 1:
        by_band = ' '.join(f'{band}=<file>' for band in predictor.bands)
        raise SettingError(
            f'{output} is the map of one scene, but {len(images)} images are given, '
            f'{images[0].name}, {images[1].name}, ...: give one scene, or its files by '
            f'band ({by_band}), or choose a table (.parquet) as output for tiles.'
        )
    summary = classify_scene(predictor, images[0], output, **options)
    sys.stdout.write(f'{summary}\n')


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog='discomkd classify',
        description='Classify tiles into a table, or a scene into a map.',
        epilog=EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('model', metavar='MODEL', help='classifier file, exported file or checkpoint')
    add(
        'inputs',
        metavar='INPUT',
        nargs='+',
        help='tile, folder, pattern, list of paths (.txt), URL, scene, or one file per '
        'band: VV=<file> VH=<file>',
    )
    add(
        '--output',
        required=True,
        help='table (.parquet, .gpkg, .geojson, .csv), or map of a scene (.tif)',
    )
    add('--modality', help='modality of the images, for a checkpoint with several')
    add(
        '--scale',
        type=str.lower,
        choices=('auto', 'db', 'linear'),
        default='auto',
        help='unit of SAR images (default: guessed from the values)',
    )
    add(
        '--bands',
        help='names or numbers (from 1) of the bands in the files, separated by '
        'commas, in the order of the classifier (default: by name, or else by order)',
    )
    add('--batch-size', type=int, default=128, help='default: %(default)s')
    add(
        '--workers',
        type=int,
        default=min(4, os.cpu_count() or 1),
        help='number of threads that read (default: %(default)s)',
    )
    add('--device', default='auto', help='auto, cpu, cuda, ... (default: %(default)s)')
    add(
        '--precision',
        choices=('auto', 'float32', 'bfloat16'),
        default='auto',
        help='bfloat16 is faster on processors that support it; probabilities differ '
        'in the third digit (default: that of the model, usually float32)',
    )
    add(
        '--min-confidence',
        type=float,
        default=0.0,
        help="below this confidence, the label is 'uncertain' (default: %(default)s)",
    )
    add('--overwrite', action='store_true', help='replace existing files')
    _add_options_of_one_kind(parser)
    return parser


def _add_options_of_one_kind(parser: ArgumentParser) -> None:
    """Add what has other defaults, or no meaning, for the other kind of output."""
    add = parser.add_argument
    add(
        '--max-nodata',
        type=float,
        default=SUPPRESS,
        help='nodata if at least this share of the pixels is missing (default: 1 for '
        'tiles, 0.5 for cells of a map)',
    )
    add('--crs', default=SUPPRESS, help='CRS of a table (default: EPSG:4326)')
    add(
        '--stride',
        type=int,
        default=SUPPRESS,
        help='size of a map cell in pixels (default: half of the tile size)',
    )
    add('--polygons', default=SUPPRESS, help='GeoPackage to write: the map as polygons')
    add('--preview', default=SUPPRESS, help='PNG to write: the map with a legend')
    resume = 'continue an incomplete table'
    add('--resume', action='store_true', default=SUPPRESS, help=resume)


def _show(message: Warning | str, *_: object, **__: object) -> None:
    from tqdm import tqdm

    # keeps the progress bar intact
    tqdm.write(f'warning: {message}', file=sys.stderr)

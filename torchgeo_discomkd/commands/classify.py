# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""``classify``: turn tiles into a table, or scenes into maps."""

import os
import sys
import warnings
from argparse import SUPPRESS, ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import SettingError
from .combining import (
    add_options,
    check_options,
    make_combined_table,
    note_unknown,
    split_models,
)
from .quiet import show_warning

if TYPE_CHECKING:
    from ..classify import Predictor, SceneResult, TilesSummary
    from ..rasters import FolderCounts
    from ..rasters.finding import ImageFiles

#: Kind of output: a table of tiles, a map of a scene, or a folder of many maps.
Kind = Literal['table', 'map', 'folder']

#: Extensions of maps; all others mean tables.
MAPS = ('.tif', '.tiff')

#: Options for only some kinds of output, by what messages call these.
SOME: dict[str, tuple[set[Kind], tuple[str, ...]]] = {
    'tables': ({'table'}, ('crs',)),
    'tables and folders of maps': ({'table', 'folder'}, ('resume', 'engine')),
    'maps of scenes (.tif, or a folder)': (
        {'map', 'folder'},
        ('stride', 'polygons', 'preview'),
    ),
}

#: Number of different ways to read tiles that are printed.
MOST_READINGS = 3

EPILOG = """several classifiers:
  Give one file for each sensor, and the sensor before each input. Tiles are matched by
  the stems of their files. A tile is classified with the sensors that it has; the
  columns 'modalities' and 'unused' say which, and why others were not used

statuses of tiles:
  ok            classified as it is
  mixed_size    classified, but not of the classifier's size: padded if smaller,
                cropped to its centre if at most a quarter larger, otherwise the mean
                over windows
  nodata        all pixels missing (see --max-nodata)
  unreadable    truncated, vanished or not an image
  bands         bands differ from the classifier's, or are named differently
  unit          the values contradict the unit, or cannot be backscatter
  unusual       with --strict: far from the images of training
  too_large     a scene rather than a tile
  no_modality   several classifiers, and none can use its image
  place         images of one name that share less than half of the smaller one

many scenes:
  If the output is a folder, each input is a scene and has its own map there, named
  after it: a.tif, or s1.tif for s1_VV.tif and s1_VH.tif. Images that are already in
  an output folder below an input folder are left out. summary.csv has one row per
  scene, with its status: ok, pending (not reached), or why there is no map

exit codes:
  0    all tiles have a label, all scenes a map
  2    a mistake in the command
  3    some tiles have no label, or scenes no map: the table states why
  130  interrupted: continue with --resume (a single map starts again)

examples:
  discomkd classify sar.safetensors tiles/ --output tiles.gpkg
  discomkd classify sar.safetensors VV=vv.tif VH=vh.tif \\
      --output map.tif --preview map.png
  discomkd classify sar.safetensors scenes/ --output maps/ --preview maps/
  discomkd classify best/ms.safetensors best/sar.safetensors \\
      ms=tiles/S2 sar=tiles/S1 --skip ms=cloudy.txt --output tiles.parquet
"""


def run(args: Sequence[str]) -> None:
    """Classify and report how many tiles or scenes failed.

    Args:
        args: Arguments after ``classify``.

    Raises:
        KeyboardInterrupt: If it is stopped.
        UserError: If the model, the images, the output or a setting is wrong.
        SystemExit: With 3 if some tiles have no label or scenes no map, 2 if *args* are
            invalid, 0 for help.
    """
    options = vars(_parser().parse_intermixed_args(args))
    if options['bands'] is not None:
        options['bands'] = [band.strip() for band in options['bands'].split(',')]
    kind = _kind(options['output'])
    _check_kind(kind, options)
    models, options['inputs'] = split_models(options.pop('model'), options['inputs'])
    check_options(kind, len(models) > 1, options)
    with warnings.catch_warnings():
        warnings.showwarning = show_warning  # ty: ignore[invalid-assignment]
        try:
            if len(models) > 1:
                _combine(models, **options)
            else:
                _classify(kind, models[0], **options)
        except KeyboardInterrupt:
            again = ': run the same command with --resume to continue'
            hint = '' if kind == 'map' else again
            sys.stderr.write(f'interrupted{hint}\n')
            raise


def _kind(output: str) -> Kind:
    if output.endswith(('/', os.sep)) or Path(output).is_dir():
        return 'folder'
    return 'map' if Path(output).suffix.lower() in MAPS else 'table'


def _check_kind(kind: Kind, options: dict[str, Any]) -> None:
    for text, (kinds, names) in SOME.items():
        given = ', '.join(f'--{name}' for name in names if name in options)
        if given and kind not in kinds:
            raise SettingError(f'{given}: only for {text}; omit it for this output.')


def _classify(
    kind: Kind,
    model: str,
    inputs: list[str],
    modality: str | None,
    device: str,
    precision: Any,
    trust_lists: bool,
    **options: Any,
) -> None:
    # takes seconds: only after the arguments are known to be valid
    from ..classify import RayEngine, load_predictor
    from ..performance.ray_workers import check_ray
    from ..rasters.finding import find_images

    where = {k: options.pop(k) for k in ('address', 'jobs') if k in options}
    if options.pop('engine', 'local') == 'ray':
        engine = RayEngine(model, modality, device, precision, **where)
        check_ray(engine.address, engine.jobs)
        options['engine'] = engine
    elif where:
        given = ', '.join(f'--{name}' for name in where)
        raise SettingError(f'{given}: only with --engine ray.')
    predictor = load_predictor(model, modality, device, precision)
    note_unknown(model, predictor)
    images = find_images(inputs, predictor.bands, _report_counts, trust_lists)
    match kind:
        case 'table':
            _make_table(predictor, images, **options)
        case 'map':
            _make_map(predictor, images, **options)
        case 'folder':
            images = _without_results(images, inputs, options)
            _make_maps(predictor, images, **options)


def _combine(
    models: list[str], inputs: list[str], modality: None, bands: None, **options: Any
) -> None:
    _report_table(make_combined_table(models, inputs, _report_counts, **options))


def _report_counts(counts: 'FolderCounts') -> None:
    sys.stderr.write(f'{counts}\n')


def _make_table(
    predictor: 'Predictor', images: 'list[ImageFiles]', **options: Any
) -> None:
    from ..classify import classify_tiles

    _report_table(classify_tiles(predictor, images, **options))


def _report_table(summary: 'TilesSummary') -> None:
    if summary.failed:
        sys.stderr.write(f'first tile without a label: {summary.example}\n')
    for reading, count in summary.readings.most_common(MOST_READINGS):
        tiles = 'tile' if count == 1 else 'tiles'
        sys.stdout.write(f'read {count} {tiles}: {reading}\n')
    if (others := len(summary.readings) - MOST_READINGS) > 0:
        ways = 'way' if others == 1 else 'ways'
        sys.stdout.write(f'read the rest in {others} other {ways}\n')
    if summary.modalities:
        used = (f'{count} {names}' for names, count in summary.modalities.most_common())
        sys.stdout.write(f'used {", ".join(used)}\n')
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
            f'band ({by_band}), or choose another output: a folder (--output maps/) '
            'for a map of each, or a table (.parquet) for tiles.'
        )
    summary = classify_scene(predictor, images[0], output, **options)
    sys.stdout.write(f'read {images[0].name}: {summary.reading}\n')
    sys.stdout.write(f'{summary}\n')


def _without_results(
    images: 'list[ImageFiles]', inputs: list[str], options: dict[str, Any]
) -> 'list[ImageFiles]':
    """Leave out what an earlier run wrote into a folder below one of the inputs."""
    searched = [Path(text).resolve() for text in inputs if Path(text).is_dir()]
    given = [options[name] for name in ('output', 'preview') if name in options]
    folders = [
        folder
        for folder in (Path(path).resolve() for path in given)
        if any(parent in searched for parent in folder.parents)
    ]
    scenes = [
        image
        for image in images
        if not any(Path(image.paths[0]).resolve().is_relative_to(f) for f in folders)
    ]
    # if nothing is left, the name of a map is refused, which explains more
    return scenes or images


def _make_maps(
    predictor: 'Predictor', images: 'list[ImageFiles]', output: str, **options: Any
) -> None:
    from ..classify import classify_scenes

    summary = classify_scenes(predictor, images, output, report=_report, **options)
    sys.stdout.write(f'{summary}\n')
    if summary.failed:
        sys.exit(3)


def _report(result: 'SceneResult') -> None:
    stream = sys.stderr if result.summary is None else sys.stdout
    if result.summary is not None and not result.kept:
        stream.write(f'read {result.scene}: {result.summary.reading}\n')
    stream.write(f'{result}\n')
    # a log shows it before the next scene begins
    stream.flush()


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog='discomkd classify',
        description='Classify tiles into a table, or scenes into maps.',
        epilog=EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        'model',
        metavar='MODEL',
        help='classifier file, exported file or checkpoint; one for each sensor to '
        'combine several',
    )
    add(
        'inputs',
        metavar='INPUT',
        nargs='+',
        help='tile, folder, pattern, list of paths (.txt), URL, scene, or one file per '
        'band: VV=<file> VH=<file>; with several classifiers <modality>=<input>',
    )
    add(
        '--output',
        required=True,
        help='table (.parquet, .gpkg, .geojson, .csv), map of a scene (.tif), or '
        'folder for a map of each scene (maps/)',
    )
    add('--modality', help='modality of the images, for a checkpoint with several')
    _add_options_of_reading(parser)
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
    add_options(parser)
    return parser


def _add_options_of_reading(parser: ArgumentParser) -> None:
    """Add what says how files are understood, and what is done with odd ones."""
    add = parser.add_argument
    add(
        '--scale',
        type=str.lower,
        choices=('auto', 'db', 'linear', 'amplitude', 'db_x10', 'db_x100'),
        default='auto',
        help='unit of SAR images: dB, linear power, its square root, or integers that '
        'stand for dB (default: auto, which tells dB from linear power)',
    )
    add(
        '--nodata',
        type=float,
        help='number in the files that stands for missing pixels, if they do not say '
        'so themselves: --nodata=-9999',
    )
    add(
        '--strict',
        action='store_true',
        help='refuse images that are unusual: values or pixel size far from those of '
        'training, or the same value in many pixels (default: warn)',
    )
    add(
        '--resample',
        action='store_true',
        help='read images with pixels of the size in training',
    )
    add(
        '--trust-lists',
        action='store_true',
        help='follow URLs, virtual paths and files of any format in lists of paths, '
        'which may lead to any other file or host (default: .tif, .png, .jpg, .npy)',
    )
    add(
        '--bands',
        help='names or numbers (from 1) of the bands in the files, separated by '
        'commas, in the order of the classifier (default: by name, or else by order)',
    )


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
    add(
        '--polygons',
        default=SUPPRESS,
        help='GeoPackage to write: the map as polygons; for many maps a folder',
    )
    add(
        '--preview',
        default=SUPPRESS,
        help='PNG to write: the map with a legend; for many maps a folder',
    )
    resume = 'continue an incomplete table or folder of maps'
    add('--resume', action='store_true', default=SUPPRESS, help=resume)
    add(
        '--engine',
        choices=('local', 'ray'),
        default=SUPPRESS,
        help='for tables and folders of maps. ray: classify in workers of Ray, on this '
        'machine or on those of a cluster; all must see model, images and maps under '
        'the same paths (default: local)',
    )
    add(
        '--jobs',
        type=int,
        default=SUPPRESS,
        metavar='N',
        help='with --engine ray: number of workers (default: one for each GPU, or for '
        'each machine if there is none)',
    )
    add(
        '--address',
        default=SUPPRESS,
        help="with --engine ray: a running cluster, HOST:PORT or 'auto' (default: a "
        'Ray on this machine that ends with the command)',
    )

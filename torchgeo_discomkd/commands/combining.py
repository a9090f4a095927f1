# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""``classify`` with several classifiers: which inputs belong to which of them."""

import sys
from argparse import SUPPRESS, ArgumentParser
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ModalityError, SettingError

if TYPE_CHECKING:
    from ..classify import Predictor, SensorTile, TilesSummary
    from ..rasters import FolderCounts

#: Extensions of model files; an image has none of them.
MODELS = ('.safetensors', '.onnx', '.pt2', '.ckpt', '.pt', '.pth')

#: Options for several classifiers only.
SEVERAL = ('skip', 'stem_pattern')

#: Options for one classifier only.
ONE = ('modality', 'bands', 'engine', 'jobs', 'address')


def add_options(parser: ArgumentParser) -> None:
    """Add what only means something if several classifiers are combined.

    Args:
        parser: The parser of the command, changed in place.
    """
    add = parser.add_argument
    add(
        '--skip',
        action='append',
        default=SUPPRESS,
        metavar='MODALITY=LIST',
        help='text file with names or paths of tiles whose image of this modality is '
        'not used, for example because of clouds',
    )
    add(
        '--stem-pattern',
        action='append',
        default=SUPPRESS,
        metavar='MODALITY=REGEX',
        help="which part of a stem is the name of the tile: 'ms=(.+)_s2' "
        '(default: all of it)',
    )


def split_models(model: str, inputs: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split what follows the first model file into further ones and inputs.

    Args:
        model: The first model file.
        inputs: All other words.

    Returns:
        All model files, and the inputs.

    Raises:
        SettingError: If no input is left.
    """
    further = [word for word in inputs if word.lower().endswith(MODELS)]
    rest = [word for word in inputs if word not in further]
    if not rest:
        raise SettingError(
            f'{", ".join([model, *further])} are model files: give the tiles of each '
            'modality as well, such as ms=tiles/S2 sar=tiles/S1.'
        )
    return [model, *further], rest


def check_options(kind: str, several: bool, options: Mapping[str, Any]) -> None:
    """Refuse options that have no effect on one classifier, or on several.

    Args:
        kind: Kind of output.
        several: Whether there are several classifiers.
        options: The options of the command.

    Raises:
        SettingError: If there is one.
    """
    refused = [n for n in (ONE if several else SEVERAL) if options.get(n) is not None]
    if refused:
        names = ', '.join(f'--{name.replace("_", "-")}' for name in refused)
        number = 'one classifier' if several else 'several classifiers'
        raise SettingError(f'{names}: only for {number}; omit it.')
    if several and kind != 'table':
        raise SettingError(
            'several classifiers are only combined for tiles: give a table (.parquet, '
            '.gpkg, .geojson, .csv) as --output, or one classifier for maps of scenes.'
        )


def by_modality(texts: Iterable[str], option: str = '') -> dict[str, list[str]]:
    """Split texts of the form ``<modality>=<value>``.

    Args:
        texts: The texts.
        option: The option that they were given to, for the message.

    Returns:
        The values by modality.

    Raises:
        SettingError: If one has another form.
    """
    found: dict[str, list[str]] = {}
    for text in texts:
        modality, equals, value = text.partition('=')
        if not (modality and equals and value):
            raise SettingError(
                f'{option}{text}: with several classifiers, write the modality before '
                f'it: sar={text or "..."}.'
            )
        found.setdefault(modality, []).append(value)
    return found


def make_combined_table(
    models: Sequence[str],
    inputs: Sequence[str],
    report: 'Callable[[FolderCounts], None]',
    *,
    device: str,
    precision: Any,
    trust_lists: bool,
    skip: Sequence[str] = (),
    stem_pattern: Sequence[str] = (),
    **options: Any,
) -> 'TilesSummary':
    """Classify the tiles of several modalities into a table.

    Args:
        models: Model files.
        inputs: Inputs as ``<modality>=<input>``.
        report: Reports the numbers of files in a folder.
        device: Device.
        precision: Precision.
        trust_lists: Whether lists of paths may name anything.
        skip: Lists of tiles as ``<modality>=<file>``.
        stem_pattern: Regular expressions as ``<modality>=<pattern>``.
        options: Further arguments of :func:`~torchgeo_discomkd.classify.
            classify_combined`.

    Returns:
        The summary of the table.

    Raises:
        ModalityError: If a modality has no classifier, or no tiles.
        UserError: If anything else is wrong.
    """
    given = by_modality(inputs)
    lists = by_modality(skip, '--skip ')
    patterns = by_modality(stem_pattern, '--stem-pattern ')
    for modality, several in patterns.items():
        if len(several) > 1:
            raise SettingError(
                f"--stem-pattern: {len(several)} patterns for '{modality}' "
                f'({", ".join(several)}): give one, with "|" between alternatives.'
            )
    # takes seconds: only after the arguments are known to be valid
    from ..classify import classify_combined, load_combined, match_tiles
    from ..classify.sensors import read_names
    from ..rasters.finding import find_images

    predictor = load_combined(models, device, precision)
    for model, one in zip(models, predictor.predictors.values(), strict=True):
        note_unknown(model, one)
    known = list(predictor.predictors)
    if set(given) != set(known):
        unknown, lacking = (
            sorted(set(given) - set(known)),
            sorted(set(known) - set(given)),
        )
        problem = (
            f'there are tiles of {unknown[0]!r}, but no classifier of it'
            if unknown
            else f'there is a classifier of {lacking[0]!r}, but no tiles of it'
        )
        raise ModalityError(
            f'{problem}: the classifiers are of {known}; give one of each with tiles: '
            + ' '.join(f'{m}=<folder>' for m in known)
        )
    tiles = match_tiles(
        {
            m: find_images(given[m], one.bands, report, trust_lists)
            for m, one in predictor.predictors.items()
        },
        {m: pattern for m, [pattern] in patterns.items()},
        {m: [n for v in values for n in read_names(v)] for m, values in lists.items()},
    )
    sys.stderr.write(f'weights: {predictor.combination}\n')
    _report_matches(tiles)
    return classify_combined(predictor, tiles, **options)


def _report_matches(tiles: 'Sequence[SensorTile]') -> None:
    sets = Counter('+'.join(tile.images) for tile in tiles)
    found = ', '.join(f'{count} of {names}' for names, count in sets.most_common())
    skipped = Counter(m for tile in tiles for m in tile.skipped)
    rest = ''.join(f'; {count} of {m} skipped' for m, count in skipped.items())
    sys.stderr.write(f'{len(tiles)} tiles: {found}{rest}\n')


def note_unknown(model: str, predictor: 'Predictor') -> None:
    """Say if a classifier does not know what its training tiles look like.

    Args:
        model: Its file.
        predictor: The classifier.
    """
    if predictor.profile is None:
        sys.stderr.write(
            f'note: {model} does not say what its training tiles look like, so that '
            'unusual images are not recognised: train again with this version.\n'
        )

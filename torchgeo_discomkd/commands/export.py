# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""``export``: write a classifier file as one ONNX or PyTorch file."""

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import SettingError

if TYPE_CHECKING:
    from ..export.exporter import ExportReport

EXAMPLE = """example:
  discomkd export runs/quickstart/best/sar.safetensors \\
      --output sar.onnx --check data/tiles --license CC-BY-4.0
"""


def run(args: Sequence[str]) -> None:
    """Export a classifier and report how well it agrees with its file.

    Args:
        args: Arguments after ``export``.

    Raises:
        UserError: If the classifier cannot be exported with these options.
        SystemExit: If *args* are invalid or ask for help.
    """
    options = _parser().parse_args(args)
    card = dict(_entry(text) for text in options.card)
    for key, value in (('license', options.license), ('data_name', options.data_name)):
        if value is not None:
            card[key] = value
    # takes seconds: only after the arguments are known to be valid
    from ..export.exporter import export_classifier

    report = export_classifier(
        options.classifier,
        options.output,
        options.check,
        card,
        options.overwrite,
        quantize=options.quantize,
        calibrate=options.calibrate,
    )
    sys.stdout.write(_text(report))


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog='discomkd export',
        description='Write a classifier of one modality as one self-contained file: '
        'raw pixel values in, probabilities out.',
        epilog=EXAMPLE,
        formatter_class=RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('classifier', help='classifier file, best/<modality>.safetensors')
    add(
        '--output',
        required=True,
        help='file to write: .onnx for onnxruntime, .pt2 for PyTorch',
    )
    add(
        '--check',
        nargs='+',
        default=[],
        metavar='TILES',
        help='tiles, or folders of them, on which the result is compared with the '
        'classifier file (default: random images)',
    )
    add(
        '--quantize',
        action='store_true',
        help='compute the convolutions of an .onnx file in 8-bit integers: faster, '
        'slightly less exact; needs --calibrate',
    )
    add(
        '--calibrate',
        nargs='+',
        default=[],
        metavar='TILES',
        help='training tiles, or folders of them, that cover the range of values; 32 '
        'or more, of which up to 512 are used',
    )
    add('--license', help='licence of the classifier, for its model card')
    add('--data-name', help='name of the training data, for the model card')
    add(
        '--card',
        action='append',
        default=[],
        metavar='KEY=VALUE',
        help='further entry of the model card; can be repeated',
    )
    add('--overwrite', action='store_true', help='replace an existing output')
    return parser


def _entry(text: str) -> tuple[str, str]:
    key, equals, value = text.partition('=')
    if not (key and equals):
        raise SettingError(
            f'--card {text}: give KEY=VALUE, e.g. --card contact=me@x.org'
        )
    return key, value


def _text(report: 'ExportReport') -> str:
    kind = 'PyTorch program'
    if report.opset is not None:
        kind = f'ONNX, operator set {report.opset}'
    size = 'any height and width'
    if report.tile_size is not None:
        size = f'{report.tile_size[0]}x{report.tile_size[1]} pixels'
    return (
        f"{report.path}: '{report.modality}', {kind}, {size}, "
        f'{report.parameters:,} parameters, {report.size / 1e6:.1f} MB\n'
        f'{_comparison(report)}\n'
    )


def _comparison(report: 'ExportReport') -> str:
    if report.agreement is None:
        images = 'tiles' if report.real else 'random images'
        return (
            'largest difference of a probability from the classifier file: '
            f'{report.difference:.1e} ({report.images} {images})'
        )
    agreement = report.agreement
    images = 'tiles' if report.real else 'calibration tiles'
    return (
        f'int8, calibrated on {agreement.calibration_tiles} tiles; compared with the '
        f'classifier file on {agreement.check_tiles} {images}: '
        f'{agreement.label_agreement:.2%} of the labels agree, a probability differs '
        f'by up to {agreement.largest_difference:.3f}, on average by '
        f'{agreement.mean_difference:.4f}'
    )

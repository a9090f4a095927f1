# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Export a classifier file as one self-contained program."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from ..errors import SettingError
from ..files import only_writer, remove_abandoned, write_atomically
from ..models import load_classifier
from .comparison import (
    Agreement,
    Classify,
    largest_difference,
    on_arrays,
    random_batches,
    read_tiles,
)
from .int8 import read_calibration, to_int8
from .onnx_checksum import add_checksum
from .onnx_file import OnnxClassifier, require
from .program import OPSET, ProbabilityModel, onnx_bytes, trace
from .properties import to_properties
from .pt2_file import load_pt2, pt2_bytes

type Format = Literal['onnx', 'pt2']


@dataclass(frozen=True)
class ExportReport:
    """What was exported and how well it agrees with the classifier file.

    Attributes:
        path: The file.
        format: 'onnx', or 'pt2' for a PyTorch program.
        opset: Version of the ONNX operator set; None for a PyTorch program.
        modality: The modality that it classifies.
        parameters: Number of parameters.
        tile_size: Height and width of its images; None for any.
        images: Number of images that it was checked with.
        real: Whether these were tiles rather than random images.
        difference: Largest difference of a probability from that of the classifier
            file.
        size: Size of the file in bytes.
        agreement: Effect of int8 arithmetic; None for a float32 file.

    Example:
        >>> report = ExportReport(
        ...     Path('sar.onnx'), 'onnx', 18, 'sar', 22_483_722, (64, 64), images=16,
        ...     real=False, difference=3e-7, size=90_200_000)
        >>> f'{report.path}, {report.size / 1e6:.1f} MB, off by {report.difference:.0e}'
        'sar.onnx, 90.2 MB, off by 3e-07'
    """

    path: Path
    format: Format
    opset: int | None
    modality: str
    parameters: int
    tile_size: tuple[int, int] | None
    images: int
    real: bool
    difference: float
    size: int
    agreement: Agreement | None = None


def export_classifier(
    classifier: str | Path,
    output: str | Path,
    check: Sequence[str | Path] = (),
    card: Mapping[str, str] | None = None,
    overwrite: bool = False,
    *,
    quantize: bool = False,
    calibrate: Sequence[str | Path] = (),
) -> ExportReport:
    """Write a classifier of one modality as one self-contained file.

    The file includes normalisation, handling of missing values and calibration: raw
    pixel values go in (``images``, float32 (B, C, H, W); NaN and infinite pixels count
    as missing), and probabilities come out (``probabilities``, float32 (B, K)). B is
    free; H and W are those of training, or free if they are unknown. Nothing is written
    unless the result agrees with the classifier file.

    Args:
        classifier: Classifier file, for example 'best/sar.safetensors'.
        output: The file to write: .onnx, or .pt2 for :func:`torch.export.load`.
        check: Tiles to compare with, or folders of them. Default: random images with
            the mean and spread of the training data, some pixels missing.
        card: Further entries of the model card, such as 'licence'.
        overwrite: Whether to replace an existing *output*.
        quantize: Whether an .onnx file computes its convolutions in 8-bit integers:
            several times as fast on most processors, and slightly less exact.
        calibrate: Tiles that determine the ranges of these integers, or folders of
            them: 32 or more training tiles, of which up to 512 are used. Without
            *check*, the result is compared on them, too.

    Returns:
        What was written.

    Raises:
        BandError: If a tile has other bands.
        ClassifierFileError: If *classifier* is not a classifier file, its network
            cannot be exported, or the result differs by more than 1e-4; in int8, if
            more than 10 % of the labels differ.
        CorruptFileError: If a tile cannot be read.
        LayoutError: If there are no tiles to check or calibrate with.
        ModalityError: If *classifier* needs several modalities.
        OutputInUseError: If another process writes *output*.
        SettingError: If the extension of *output* is unknown, *output* exists or
            cannot be written, *card* has an entry that is computed, only one of
            *quantize* and *calibrate* is given, or there are too few tiles.
        TileSizeError: If a tile has another size.
        UserError: If a package for ONNX is missing.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from torchgeo_discomkd.models import (
        ...     ClassifierMetadata, FusionClassifier, ModalityMetadata, save_classifier)
        >>> sar = ModalityMetadata(2, ('VV', 'VH'), 'dB', tile_size=(32, 32))
        >>> metadata = ClassifierMetadata(
        ...     'fusion', 'test_resnet', ('Land', 'Water'), {'sar': sar},
        ...     None, 'none', 1.0, {}, None, '', '', None, '')
        >>> network = FusionClassifier({'sar': 2}, 2, 'test_resnet')
        >>> with TemporaryDirectory() as folder:
        ...     path = f'{folder}/sar.safetensors'
        ...     save_classifier(path, network, metadata)
        ...     report = export_classifier(path, f'{folder}/sar.pt2')
        >>> report.modality, report.tile_size, report.difference < 1e-4
        ('sar', (32, 32), True)
    """
    output = Path(output)
    kind = _format(output)
    with only_writer(output):
        remove_abandoned(output)
        return _export(
            classifier, output, kind, check, card, overwrite, quantize, calibrate
        )


def _export(
    classifier: str | Path,
    output: Path,
    kind: Format,
    check: Sequence[str | Path],
    card: Mapping[str, str] | None,
    overwrite: bool,
    quantize: bool,
    calibrate: Sequence[str | Path],
) -> ExportReport:
    if output.exists() and not overwrite:
        raise SettingError(
            f'{output} already exists: choose another name, or replace it with '
            '--overwrite.'
        )
    _check_quantization(kind, quantize, calibrate)
    if kind == 'onnx':
        for package in ('onnx', 'onnxscript', 'onnxruntime'):
            require(package)
    loaded = load_classifier(classifier)
    model = ProbabilityModel(loaded)
    properties = to_properties(loaded.metadata, card or {})
    if check:
        tiles = read_tiles(check, loaded)
        batches = [tiles[:1], tiles]
    else:
        batches = random_batches(loaded)
    calibration = read_calibration(calibrate, check, loaded) if quantize else None
    program = trace(model, loaded.metadata)
    content = (onnx_bytes if kind == 'onnx' else pt2_bytes)(program, properties)
    difference = largest_difference(loaded, _readers(kind, content), batches)
    agreement = None
    if calibration is not None:
        content, agreement = to_int8(content, loaded, properties, calibration)
    if kind == 'onnx':
        content = add_checksum(content)
    try:
        write_atomically(output, content)
    except OSError as error:
        raise SettingError(
            f'{output} cannot be written ({error}): choose another folder.'
        ) from error
    ((modality, described),) = loaded.metadata.modalities.items()
    return ExportReport(
        path=output,
        format=kind,
        opset=OPSET if kind == 'onnx' else None,
        modality=modality,
        parameters=sum(p.numel() for p in model.parameters()),
        tile_size=described.tile_size,
        images=sum(len(images) for images in batches[1::2]),
        real=bool(check),
        difference=difference,
        size=len(content),
        agreement=agreement,
    )


def _check_quantization(
    kind: Format, quantize: bool, calibrate: Sequence[str | Path]
) -> None:
    if quantize and kind != 'onnx':
        raise SettingError(
            'Only .onnx files can be quantized: choose an output that ends in .onnx.'
        )
    if quantize and not calibrate:
        raise SettingError(
            'Quantization needs tiles of the training data to determine its ranges: '
            'give some with --calibrate.'
        )
    if calibrate and not quantize:
        raise SettingError(
            'Only int8 files need tiles for calibration: add --quantize or omit '
            '--calibrate.'
        )


def _format(output: Path) -> Format:
    match output.suffix.lower():
        case '.onnx':
            return 'onnx'
        case '.pt2':
            return 'pt2'
    raise SettingError(
        f"{output}: the extension '{output.suffix}' is unknown. Use .onnx for "
        'onnxruntime, or .pt2 for PyTorch.'
    )


def _readers(kind: Format, content: bytes) -> list[Classify]:
    """Return the runtimes for the file that is about to be written."""
    if kind == 'onnx':
        return [OnnxClassifier(content, 'cpu')]
    program = torch.export.load(io.BytesIO(content)).module()
    return [on_arrays(program), on_arrays(load_pt2(content).probabilities)]

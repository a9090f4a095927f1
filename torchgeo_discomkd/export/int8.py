# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Convolutions of an ONNX file in 8-bit integers."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingError
from ..models import LoadedClassifier
from .comparison import Agreement, Classify, measure_agreement, read_tiles
from .onnx_file import OnnxClassifier, OpenvinoClassifier, require
from .properties import INPUT, QUANTIZATION

#: Operators computed in int8: the slow ones, and those between them.
OPERATORS = ('Conv', 'Add', 'MaxPool')

#: Fewer tiles do not cover the range of values; more hardly change it.
LEAST, MOST = 32, 512

#: Largest number of tiles to compare the result on.
_MOST_CHECKED = 2048

#: Tiles per run of the network.
_BATCH = 16


class CalibrationTiles(NamedTuple):
    """Raw values, float32, shape (N, C, H, W) each, missing pixels NaN.

    Attributes:
        calibrate: Tiles of the training data that determine the ranges.
        check: Tiles that the result is compared on.
    """

    calibrate: NDArray[np.float32]
    check: NDArray[np.float32]


def read_calibration(
    calibrate: Sequence[str | Path],
    check: Sequence[str | Path],
    loaded: LoadedClassifier,
) -> CalibrationTiles:
    """Read the tiles that quantization needs.

    Args:
        calibrate: Tiles of the training data, or folders of them.
        check: Tiles to compare on, or folders of them; *calibrate* if there are none.
        loaded: The classifier of one modality.

    Returns:
        The tiles.

    Raises:
        BandError: If a tile has other bands.
        CorruptFileError: If a tile cannot be read.
        LayoutError: If there are no tiles.
        SettingError: If there are too few tiles for calibration.
        TileSizeError: If a tile has another size.
    """
    tiles = read_tiles(calibrate, loaded, MOST, 'calibrate')
    if len(tiles) < LEAST:
        raise SettingError(
            f'{len(tiles)} tiles are too few for calibration: give {LEAST} or more '
            'tiles of the training data, of all classes.'
        )
    return CalibrationTiles(
        tiles, read_tiles(check, loaded, _MOST_CHECKED) if check else tiles
    )


def to_int8(
    content: bytes,
    loaded: LoadedClassifier,
    properties: Mapping[str, str],
    tiles: CalibrationTiles,
) -> tuple[bytes, Agreement]:
    """Quantize an exported classifier and measure the effect.

    Args:
        content: The .onnx file with float32 numbers.
        loaded: The classifier of the classifier file.
        properties: Metadata of the file; the agreement is added.
        tiles: Tiles for calibration and comparison.

    Returns:
        The int8 file, and how well it agrees with the classifier file in the worst of
        the installed runtimes.

    Raises:
        ClassifierFileError: If more than 10 % of the labels differ.
        UserError: If onnx or onnxruntime is not installed.
    """
    content = quantize(content, tiles.calibrate, properties)
    agreement = measure_agreement(
        loaded, _readers(content), tiles.check, len(tiles.calibrate)
    )
    model = require('onnx').load_from_string(content)
    text = json.dumps({'type': 'int8', **asdict(agreement)})
    model.metadata_props.add(key=QUANTIZATION, value=text)
    return model.SerializeToString(), agreement


def _readers(content: bytes) -> list[Classify]:
    classifier = OnnxClassifier(content, 'cpu')
    if find_spec('openvino') is None:
        return [classifier]
    return [classifier, OpenvinoClassifier(content, classifier)]


def quantize(
    content: bytes, tiles: NDArray[np.float32], properties: Mapping[str, str]
) -> bytes:
    """Compute the convolutions of an exported classifier in 8-bit integers.

    Weights have one scale per output channel; each activation has one, which covers its
    range on *tiles*. The first convolution of each encoder, everything before it and
    everything after the last one stay in float32: a single scale for pixels, whose
    distribution has long tails, cost most of the accuracy.

    Args:
        content: An .onnx file with float32 numbers.
        tiles: Training tiles, raw values, float32, shape (N, C, H, W).
        properties: Metadata of the file.

    Returns:
        An .onnx file with a quarter of the size.

    Raises:
        UserError: If onnx or onnxruntime is not installed.
    """
    onnx, quantization = require('onnx'), require('onnxruntime.quantization')
    model = onnx.load_from_string(content)
    # PyTorch has done the pre-processing; without this mark, onnxruntime warns
    quantization.quant_utils.add_pre_process_metadata(model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'int8.onnx'
        quantization.quantize_static(
            model,
            path,
            _reader(quantization, tiles),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=OPERATORS,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            nodes_to_exclude=_until_first_convolutions(model.graph),
        )
        quantized = onnx.load(path)
    onnx.helper.set_model_props(quantized, dict(properties))
    return quantized.SerializeToString()


def _until_first_convolutions(graph: Any) -> list[str]:
    behind: set[str] = set()
    kept = []
    for node in graph.node:
        if not behind.intersection(node.input):
            kept.append(node.name)
            if node.op_type != 'Conv':
                continue
        behind.update(node.output)
    return kept


def _reader(quantization: Any, tiles: NDArray[np.float32]) -> Any:
    batches = iter([tiles[i : i + _BATCH] for i in range(0, len(tiles), _BATCH)])

    # the base class only exists if onnxruntime is installed
    class Reader(quantization.CalibrationDataReader):
        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            batch = next(batches, None)
            return None if batch is None else {INPUT: batch}

    return Reader()

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Tiles per second and weighted F1 of every kind of model file.

The first row is :class:`PlainClassifier` in eager float32 PyTorch. Every alternative is
timed in a process of its own, ours set up as the command line does it. Without
--classifier a ResNet-18 classifier with random weights is timed, and scores are left
out. int8 is calibrated by the training split of --data-root, or of another root of the
same kind, --train-root; score differences need a thousand tiles or more: one label is
0.1 points then.
"""

import shutil
import tempfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.functional import f1_score

from torchgeo_discomkd.classify.predictor import load_predictor
from torchgeo_discomkd.export import OnnxClassifier, export_classifier
from torchgeo_discomkd.models import ModalityMetadata, load_metadata
from torchgeo_discomkd.performance.memory import keep_freed_memory

from ..export.classifiers import write_classifier
from .labelled_tiles import LabelledTiles, random_tiles, read_split, write_tiles
from .measure import compare, in_turns, parse, report, rows_of, seconds_of, tell
from .plain_inference import PlainClassifier

type Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]

#: Model file and precision of each alternative.
ROUTES = {
    'classifier file, float32': ('m.safetensors', 'float32'),
    'classifier file, bfloat16': ('m.safetensors', 'bfloat16'),
    '.pt2, float32': ('m.pt2', 'float32'),
    '.onnx, float32, onnxruntime': ('m.onnx', 'float32'),
    '.onnx, bfloat16, OpenVINO': ('m.onnx', 'bfloat16'),
    '.onnx, int8, OpenVINO': ('m8.onnx', 'auto'),
    '.onnx, int8, onnxruntime': ('m8.onnx', None),
}

#: The images that are classified to take the time.
IMAGES = 'images.npy'


def plain(channels: int) -> Run:
    """Return the yardstick, with random weights."""
    model = PlainClassifier(channels, num_classes=10).eval()

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return model(torch.from_numpy(images)).softmax(dim=1).numpy()

    return run


def write_models(classifier: Path, tiles: Path, folder: Path) -> None:
    """Write a classifier in every kind of file, int8 calibrated by *tiles*."""
    shutil.copy(classifier, folder / 'm.safetensors')
    export_classifier(classifier, folder / 'm.pt2')
    export_classifier(classifier, folder / 'm.onnx')
    export_classifier(classifier, folder / 'm8.onnx', quantize=True, calibrate=[tiles])


def open_route(name: str, folder: Path) -> Run:
    """Return what runs an alternative."""
    file, precision = ROUTES[name]
    if precision is None:
        return OnnxClassifier(folder / file, 'cpu')
    return load_predictor(folder / file, None, 'cpu', precision).probabilities


def time_alternative(name: str, folder: Path) -> None:
    """Time one alternative and tell what it took."""
    images = np.load(folder / IMAGES)
    if name == 'plain':
        run = plain(images.shape[1])
    else:
        keep_freed_memory()
        run = open_route(name, folder)
    (row,) = compare({name: lambda: run(images)}, len(images), rounds=7)
    tell(seconds=row.seconds)


def scores(tiles: LabelledTiles, runs: dict[str, Run], batch: int) -> dict[str, str]:
    """Return the weighted F1 of each route and how often it agrees with the first."""
    labels, first, found = torch.from_numpy(tiles.labels), None, {}
    for name, run in runs.items():
        parts = range(0, len(labels), batch)
        values = np.concatenate([run(tiles.images[i : i + batch]) for i in parts])
        first = values if first is None else first
        same = (values.argmax(axis=1) == first.argmax(axis=1)).mean()
        f1 = 100 * f1_score(
            torch.from_numpy(values),
            labels,
            'multiclass',
            num_classes=values.shape[1],
            average='weighted',
        )
        difference = np.abs(values - first).max()
        found[f'F1 {name}'] = f'{f1:.2f} ({same:.2%} equal, <= {difference:.2g})'
    return found


def score(options: Namespace, modality: str, folder: Path) -> dict[str, Any]:
    """Score every alternative on the splits that were asked for."""
    parts = [read_split(options.data_root, s, modality) for s in options.splits]
    tiles = LabelledTiles(*map(np.concatenate, zip(*parts, strict=True)))
    runs = {name: open_route(name, folder) for name in ROUTES}
    return {'scored tiles': len(tiles.labels), **scores(tiles, runs, options.batch)}


def measure(options: Namespace, folder: Path) -> None:
    """Write the model files, score and time them, and report."""
    classifier = options.classifier or write_classifier(
        folder / 'sar.safetensors',
        model='resnet18',
        modalities={'sar': ModalityMetadata(2, ('VV', 'VH'), 'dB', (64, 64))},
    )
    metadata = load_metadata(classifier)
    ((modality, described),) = metadata.modalities.items()
    train_root = options.train_root or options.data_root
    if train_root is None:
        train = random_tiles(described, options.batch)
    else:
        train = read_split(train_root, 'train', modality)
    write_models(classifier, write_tiles(folder / 'tiles', train.images), folder)
    shape = (options.batch, *train.images.shape[1:])
    np.save(folder / IMAGES, np.resize(train.images, shape))
    facts = {'batch': options.batch, 'tile size': described.tile_size}
    if options.data_root is not None:
        facts |= score(options, modality, folder)
    names = ('plain', *ROUTES)
    found = in_turns('tests.speed.inference', names, options.rounds, folder)
    rows = rows_of(seconds_of(found), options.batch)
    report(f'inference, {metadata.model}', rows, 'tiles', options.json, **facts)


def main() -> None:
    """Measure."""
    options = parse(
        __doc__,
        ('--classifier', {'type': Path, 'help': 'best/<modality>.safetensors'}),
        ('--data-root', {'type': Path, 'help': 'its data, for scores'}),
        ('--train-root', {'type': Path, 'help': 'data to calibrate by, if other'}),
        ('--splits', {'nargs': '+', 'default': ['test'], 'help': 'splits to score'}),
        ('--batch', {'type': int, 'default': 128}),
        ('--rounds', {'type': int, 'default': 3}),
        ('--time', {'nargs': 2, 'help': 'an alternative and the folder (internal)'}),
    )
    if options.time:
        name, folder = options.time
        time_alternative(name, Path(folder))
        return
    with tempfile.TemporaryDirectory() as name:
        measure(options, Path(name))


if __name__ == '__main__':
    main()

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Tiles per second and weighted F1 of every kind of model file.

The first row is :class:`PlainClassifier` in eager float32 PyTorch. Without --classifier
a ResNet-18 classifier with random weights is timed, and scores are left out. int8 is
calibrated by the training split of --data-root, or of another root of the same kind,
--train-root; score differences need a thousand tiles or more: one label is 0.1 points then.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.functional import f1_score

from torchgeo_discomkd.classify.predictor import load_predictor
from torchgeo_discomkd.export import OnnxClassifier, export_classifier
from torchgeo_discomkd.models import ModalityMetadata, load_metadata

from ..export.classifiers import write_classifier
from .labelled_tiles import LabelledTiles, random_tiles, read_split, write_tiles
from .measure import compare, parse, report
from .plain_inference import PlainClassifier

type Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def plain(channels: int, classes: int) -> Run:
    """Return the yardstick, with random weights."""
    model = PlainClassifier(channels, classes).eval()

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return model(torch.from_numpy(images)).softmax(dim=1).numpy()

    return run


def routes(classifier: Path, calibrate: Path, folder: Path) -> dict[str, Run]:
    """Export a classifier in every way and return what runs it."""
    pt2, onnx, int8 = (folder / name for name in ('m.pt2', 'm.onnx', 'm8.onnx'))
    export_classifier(classifier, pt2)
    export_classifier(classifier, onnx)
    export_classifier(classifier, int8, quantize=True, calibrate=[calibrate])
    files = {
        'classifier file, float32': (classifier, 'float32'),
        'classifier file, bfloat16': (classifier, 'bfloat16'),
        '.pt2, float32': (pt2, 'float32'),
        '.onnx, float32, onnxruntime': (onnx, 'float32'),
        '.onnx, bfloat16, OpenVINO': (onnx, 'bfloat16'),
        '.onnx, int8, OpenVINO': (int8, 'auto'),
    }
    found: dict[str, Run] = {
        name: load_predictor(file, None, 'cpu', precision).probabilities
        for name, (file, precision) in files.items()
    }
    return found | {'.onnx, int8, onnxruntime': OnnxClassifier(int8, 'cpu')}


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


def main() -> None:
    """Measure."""
    options = parse(
        __doc__,
        ('--classifier', {'type': Path, 'help': 'best/<modality>.safetensors'}),
        ('--data-root', {'type': Path, 'help': 'its data, for scores'}),
        ('--train-root', {'type': Path, 'help': 'data to calibrate by, if other'}),
        ('--splits', {'nargs': '+', 'default': ['test'], 'help': 'splits to score'}),
        ('--batch', {'type': int, 'default': 256}),
        ('--rounds', {'type': int, 'default': 7}),
        ('--quick', {'action': 'store_true', 'help': 'batch 64, 3 rounds'}),
    )
    if options.quick:
        options.batch, options.rounds = 64, 3
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        classifier = options.classifier or write_classifier(
            folder / 'sar.safetensors',
            model='resnet18',
            modalities={'sar': ModalityMetadata(2, ('VV', 'VH'), 'dB', (64, 64))},
        )
        metadata = load_metadata(classifier)
        ((modality, described),) = metadata.modalities.items()
        train = random_tiles(described, options.batch)
        train_root = options.train_root or options.data_root
        if train_root is not None:
            train = read_split(train_root, 'train', modality)
        runs = routes(classifier, write_tiles(folder / 'tiles', train.images), folder)
        facts = {'batch': options.batch, 'tile size': described.tile_size}
        if options.data_root is not None:
            parts = [
                read_split(options.data_root, split, modality)
                for split in options.splits
            ]
            tiles = LabelledTiles(*map(np.concatenate, zip(*parts, strict=True)))
            facts['scored tiles'] = len(tiles.labels)
            facts |= scores(tiles, runs, options.batch)
        images = np.resize(train.images, (options.batch, *train.images.shape[1:]))
        runs = {'plain': plain(described.in_channels, len(metadata.classes)), **runs}
        actions = {n: lambda run=run: run(images) for n, run in runs.items()}
        rows = compare(actions, options.batch, options.rounds)
    report(f'inference, {metadata.model}', rows, 'tiles', options.json, **facts)


if __name__ == '__main__':
    sys.exit(main())

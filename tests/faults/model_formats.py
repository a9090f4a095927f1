# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Formats of models, packs, archives and results, as :mod:`.formats` has of images.

Most carry checksums, which refuse nearly all damage. What is behind the checksums meets
the files of version 0.1, which have none, and archives whose entries were damaged
before they got their checksums.
"""

import gzip
import shutil
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from tests.export.classifiers import write_classifier
from tests.fakes import write_eurosat, write_pairs
from torchgeo_discomkd.benchmark.config import BenchmarkConfig
from torchgeo_discomkd.benchmark.predictions import COLUMNS as PREDICTIONS
from torchgeo_discomkd.benchmark.predictions import (
    JOINED,
    KeptPredictions,
    read_predictions,
    write_predictions,
)
from torchgeo_discomkd.benchmark.results import COLUMNS, Results
from torchgeo_discomkd.callbacks.run_folder import check_checkpoint
from torchgeo_discomkd.classify import load_predictor
from torchgeo_discomkd.datasets import (
    EuroSATMSSAR,
    PairedArrays,
    PairedFolders,
    write_pack,
)
from torchgeo_discomkd.errors import UserError
from torchgeo_discomkd.export import export_classifier
from torchgeo_discomkd.models import load_classifier
from torchgeo_discomkd.models.encoder import create_encoder
from torchgeo_discomkd.models.released.unpickler import read_state_dict
from torchgeo_discomkd.tables.shards import Shards
from torchgeo_discomkd.tasks import DisCoMKD

from .formats import Format

_DATA = Path(__file__).parents[1] / 'data'


def write_pack_file(folder: Path) -> None:
    """Write a pack."""
    pairs = write_pairs(folder / 'pairs', count=15)
    write_pack(PairedFolders(str(pairs)), folder / 'a.safetensors')
    shutil.rmtree(pairs)


def old_pack(layout: str) -> Callable[[Path], object]:
    """Return what writes a pack of an earlier version, without checksums."""
    content = gzip.decompress((_DATA / f'pack_{layout}.safetensors.gz').read_bytes())
    return lambda folder: (folder / 'a.safetensors').write_bytes(content)


def read_pack(path: Path, layout: type[PairedFolders | PairedArrays]) -> None:
    """Read a pack: the description and all images."""
    dataset = layout(str(path))
    for index in range(len(dataset)):
        dataset[index]


def write_model(folder: Path, suffix: str) -> None:
    """Write a model file."""
    classifier = write_classifier(folder / 'sar.safetensors')
    if suffix != 'safetensors':
        export_classifier(classifier, folder / f'sar.{suffix}')
        classifier.unlink()


def _classify(model: Path, path: Path, output: Path) -> Sequence[Any]:
    tile = output.with_name('tile.npy')
    np.save(tile, np.full((2, 32, 32), -12, np.float32))
    words = 'classify', path, tile, '--modality', 'sar'
    return *words, '--output', output.with_suffix('.csv')


def write_old_model(folder: Path, suffix: str) -> None:
    """Write a model file of version 0.1, without a checksum."""
    with zipfile.ZipFile(_DATA / 'version_0_1' / 'files.zip') as archive:
        archive.extract(f'sar.{suffix}', folder)


def read_model(path: Path) -> None:
    """Read a model file as ``classify`` does, and classify an image."""
    predictor = load_predictor(path, 'sar', 'cpu')
    (height, width), bands = predictor.size or (32, 32), len(predictor.bands)
    predictor.probabilities(np.full((1, bands, height, width), -12, np.float32))
    if path.suffix == '.safetensors':
        load_classifier(path)


def write_checkpoint(folder: Path) -> None:
    """Write a checkpoint, as far as training relies on it."""
    task = DisCoMKD({'ms': 3, 'sar': 2}, num_classes=3, model='test_resnet')
    content: dict[str, Any] = {
        'pytorch-lightning_version': '2.5.0',
        'state_dict': task.state_dict(),
        'epoch': 3,
        'global_step': 40,
        'hyper_parameters': dict(task.hparams),
        'optimizer_states': [task.configure_optimizers().state_dict()],
        'lr_schedulers': [],
        'loops': {'fit_loop': {'state_dict': {}, 'total': {'ready': 4}}},
    }
    task.on_save_checkpoint(content)
    torch.save(content, folder / 'last.ckpt')


def read_checkpoint(path: Path) -> None:
    """Read a checkpoint as ``fit`` and ``classify`` do."""
    check_checkpoint(str(path), training=True)
    load_predictor(path, 'sar', 'cpu')


def write_state(folder: Path) -> None:
    """Write weights of an encoder."""
    encoder = create_encoder('test_resnet', 2)
    torch.save(encoder.state_dict(), folder / 'a.pth')


def read_state(path: Path) -> None:
    """Read weights as ``fit --model.weights`` and ``import-released`` do."""
    create_encoder('test_resnet', 2, path)
    read_state_dict(path)


def as_entries(write: Callable[[Path], object]) -> Callable[[Path], None]:
    """Return what writes the entries of an archive as files."""

    def write_entries(folder: Path) -> None:
        write(folder)
        [path] = (p for p in folder.iterdir() if zipfile.is_zipfile(p))
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder / 'entries')
        path.unlink()

    return write_entries


def from_entries(read: Callable[[Path], object], name: str) -> Callable[[Path], object]:
    """Return what makes an archive of the entries, with right checksums, and reads it.

    Args:
        read: Reads the archive.
        name: Its name.
    """

    def read_entries(path: Path) -> None:
        folder = next(p for p in path.parents if p.name == 'entries')
        made = folder.parent / 'made' / name
        made.parent.mkdir()
        try:
            with zipfile.ZipFile(made, 'w') as archive:
                for file in sorted(p for p in folder.rglob('*') if p.is_file()):
                    archive.write(file, file.relative_to(folder))
            read(made)
        finally:
            shutil.rmtree(made.parent)

    return read_entries


def write_archive(folder: Path) -> None:
    """Write an archive of tiles, as data sets are published."""
    tree = write_eurosat(folder / 'tree', count=2, torchgeo_layout=True)
    base = str(folder / 'eurosat_s1')
    shutil.make_archive(base, 'zip', tree, 'eurosat_s1')
    shutil.rmtree(tree)


def read_archive(path: Path) -> None:
    """Extract an archive and read its tiles."""
    try:
        dataset = EuroSATMSSAR(str(path.parent), modalities=['sar'], checksum=False)
        for index in range(len(dataset)):
            dataset[index]
    finally:
        shutil.rmtree(path.parent / 'eurosat_s1', ignore_errors=True)


def _benchmark(folder: Path) -> BenchmarkConfig:
    data = {'class_path': 'PairedFoldersDataModule', 'init_args': {'root': 'x'}}
    return BenchmarkConfig(
        results=str(folder), in_channels={'ms': 13, 'sar': 2}, num_classes=3, data=data
    )


def write_results(folder: Path) -> None:
    """Write the folder of a benchmark."""
    results = Results(_benchmark(folder / 'results'))
    results.claim()
    row: dict[str, Any] = dict.fromkeys(COLUMNS, 0.5)
    pd.DataFrame([row, row]).to_csv(folder / 'results' / 'results.csv', index=False)
    (folder / 'results' / 'failures.json').write_text('{"0 a": "no memory"}')
    row = dict.fromkeys(PREDICTIONS, 'é')
    frame = pd.DataFrame([row, row])
    write_predictions(folder / 'results', frame)
    write_predictions(results.folder / 'runs' / 'run0' / 'a', frame)
    joined = KeptPredictions(results.folder).join([(0, 'a')])
    shutil.rmtree(results.folder / 'runs')
    (results.folder / JOINED).write_bytes(cast(bytes, joined))


def read_results(path: Path) -> None:
    """Read the folder of a benchmark as ``benchmark`` and its report do."""
    errors: list[UserError] = []
    for read in (
        lambda: Results(_benchmark(path.parent)),
        lambda: read_predictions(path.parent),
        lambda: KeptPredictions(path.parent).read(0, 'a'),
    ):
        try:
            read()
        except UserError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def write_shards(folder: Path) -> None:
    """Write the finished rows of a table."""
    shards = Shards(folder / 'a.csv.partial', 0)
    shards.open({'model': 'é'}, overwrite=False, resume=False)
    shards.write(pa.table({'path': ['a', 'b'], 'confidence': [0.5, 0.25]}))


def read_shards(path: Path) -> None:
    """Read finished rows as ``classify --resume`` does."""
    shards = Shards(path.parent, 0)
    shards.open({'model': 'é'}, overwrite=False, resume=True)
    for _ in shards.read():
        pass


_PACKS = {'folders': PairedFolders, 'arrays': PairedArrays}
_MODELS = ('safetensors', 'onnx', 'pt2')


def _old(suffix: str) -> Format:
    write = partial(write_old_model, suffix=suffix)
    return Format(write, f'sar.{suffix}', read_model, _classify)


def _entries(write: Callable[[Path], object], read: Any, name: str) -> Format:
    # names that end in a digit are those of weights, which may have any value
    return Format(as_entries(write), 'entries/**/*[!0-9]', from_entries(read, name))


#: Formats whose readers are to refuse any damage with an error for the user.
FORMATS = {
    'pack': Format(
        write_pack_file, '*.safetensors', partial(read_pack, layout=PairedFolders)
    ),
    **{
        f'pack of 0.1, {name}': Format(
            old_pack(name), '*.safetensors', partial(read_pack, layout=layout)
        )
        for name, layout in _PACKS.items()
    },
    **{
        suffix: Format(
            partial(write_model, suffix=suffix), f'sar.{suffix}', read_model, _classify
        )
        for suffix in _MODELS
    },
    **{f'{suffix} of 0.1': _old(suffix) for suffix in ('safetensors', 'pt2')},
    'pt2 entries': _entries(
        partial(write_old_model, suffix='pt2'), read_model, 'sar.pt2'
    ),
    'checkpoint': Format(write_checkpoint, '*.ckpt', read_checkpoint, _classify),
    'checkpoint entries': _entries(write_checkpoint, read_checkpoint, 'last.ckpt'),
    'weights': Format(write_state, '*.pth', read_state),
    'weights entries': _entries(write_state, read_state, 'a.pth'),
    'zip': Format(write_archive, '*.zip', read_archive),
    'results': Format(write_results, 'results/*.*', read_results),
    'rows': Format(write_shards, 'a.csv.partial/*', read_shards),
}

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import gc
import os
import shutil
import sys

# two test processes, and those they start, share the cores: set before NumPy is loaded
for name in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS'):
    os.environ.setdefault(name, '1')
# both would report that tests import them
os.environ.setdefault('ORT_DISABLE_TELEMETRY', '1')
sys.modules['openvino_telemetry'] = None  # ty: ignore[invalid-assignment]

import signal
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import matplotlib as mpl
import pytest
import torch
from filelock import FileLock

from torchgeo_discomkd.commands import main
from torchgeo_discomkd.export import export_classifier

from .export.classifiers import write_classifier
from .fakes import write_pairs

mpl.use('Agg')
# tiny tensors: a second thread costs more than it brings
torch.set_num_threads(1)


def pytest_collection_finish() -> None:
    # looking through millions of objects of libraries takes a fifteenth of the time
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


def pytest_unconfigure() -> None:
    gc.unfreeze()


@pytest.fixture
def real_data() -> Path:
    """Folder of the real tiles."""
    if 'DISCOMKD_REAL_DATA' not in os.environ:
        pytest.skip('DISCOMKD_REAL_DATA does not name a folder of real data')
    return Path(os.environ['DISCOMKD_REAL_DATA'])


@pytest.fixture
def handlers() -> Iterator[None]:
    """Handlers of signals as in a program of its own, in the main thread."""
    assert threading.current_thread() is threading.main_thread()
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Folder of 2 classes x 20 pairs of 8x8 pixels, 'ms' and 'sar'."""
    return write_pairs(tmp_path / 'pairs', count=20)


@pytest.fixture
def ray() -> Iterator[None]:
    """Ray, if it is installed; leaves the variables of this process as they were."""
    before = dict(os.environ)
    if find_spec('ray') is None:
        pytest.skip('Ray is not installed')
    yield
    for name in [name for name in os.environ if name.startswith('RAY_')]:
        if name != 'RAY_AUTH_TOKEN':
            del os.environ[name]
    os.environ.update(before)


#: The smallest encoder of timm on the CPU, with nothing that only costs time.
TINY = [
    *('--model.model', 'test_resnet'),
    *('--trainer.accelerator', 'cpu'),
    *('--trainer.num_sanity_val_steps', '0'),
    *('--trainer.enable_model_summary', 'false'),
    *('--trainer.enable_progress_bar', 'false'),
]


def fit_discomkd(pairs: Path, folder: Path, *args: str, epochs: int = 1) -> Path:
    """Train DisCoM-KD on data of :func:`pairs` by the command line; return *folder*."""
    main(
        [
            *('fit', '--model', 'DisCoMKD', '--model.num_classes', '2', *TINY),
            *('--data', 'PairedFoldersDataModule', '--data.root', str(pairs)),
            *('--data.batch_size', '8', '--trainer.max_epochs', str(epochs)),
            *('--trainer.default_root_dir', str(folder), *args),
        ]
    )
    return folder


@pytest.fixture
def fit_pairs(pairs: Path, tmp_path: Path) -> Callable[..., Path]:
    """Train DisCoM-KD on :func:`pairs` through the command line; return its folder."""

    def fit(*args: str, name: str = 'run', epochs: int = 1) -> Path:
        return fit_discomkd(pairs, tmp_path / name, *args, epochs=epochs)

    return fit


@pytest.fixture(scope='session')
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the data 'pairs' and the run 'run' of one epoch; only for reading."""
    root = tmp_path_factory.mktemp('trained')
    fit_discomkd(write_pairs(root / 'pairs', count=20), root / 'run')
    return root


@pytest.fixture(scope='session')
def trained_in_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder of one epoch whose SAR images are known to be in dB; for reading."""
    root = tmp_path_factory.mktemp('trained_in_db')
    pairs = write_pairs(root / 'pairs', count=20)
    return fit_discomkd(pairs, root / 'run', '--data.units', '{sar: dB}')


@pytest.fixture
def trained(trained_once: Path, pairs: Path) -> Path:
    """What :func:`fit_pairs` returns without arguments, trained before and copied."""
    folder = pairs.with_name('run')
    shutil.copytree(trained_once / 'run', folder)
    config = folder / 'config.yaml'
    config.write_text(config.read_text().replace(str(trained_once), str(folder.parent)))
    return folder


@pytest.fixture(scope='session')
def sar_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Classifier file of DisCoM-KD for tiles of 32x32 pixels."""
    return write_classifier(tmp_path_factory.mktemp('run') / 'sar.safetensors')


@pytest.fixture(scope='session')
def student_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Classifier file of one encoder: exported in half the time of sar_file."""
    path = tmp_path_factory.mktemp('student') / 'sar.safetensors'
    return write_classifier(path, kind='fusion', head=None)


@pytest.fixture(scope='session')
def exported(
    sar_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """:func:`sar_file`, exported to each format; only for reading."""
    root = tmp_path_factory.getbasetemp()
    if 'PYTEST_XDIST_WORKER' in os.environ:
        # one of the test processes exports for all
        root = root.parent
    folder = root / 'exported'
    card = {'license': 'CC-BY-4.0', 'data_name': 'Simulated'}
    files = {kind: folder / kind / f'sar.{kind}' for kind in ('onnx', 'pt2')}
    with FileLock(root / 'exported.lock'):
        for path in files.values():
            if not path.exists():
                export_classifier(sar_file, path, card=card)
    return files

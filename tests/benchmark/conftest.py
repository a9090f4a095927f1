# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml


def write_config_file(folder: Path, pairs: Path, **changes: Any) -> Path:
    """Write a small configuration on *pairs* into *folder*; return its path."""
    config = {
        'results': str(folder / 'results'),
        'in_channels': {'ms': 13, 'sar': 2},
        'num_classes': 2,
        'scenarios': ['cross-modal'],
        'methods': ['KDv1'],
        'variants': ['ORIG'],
        'ablations': [],
        'controls': [],
        'runs': 1,
        'model': 'test_resnet',
        'trainer': {'max_epochs': 1, 'accelerator': 'cpu', 'num_sanity_val_steps': 0},
        'data': {
            'class_path': 'PairedFoldersDataModule',
            'init_args': {'root': str(pairs), 'batch_size': 14},
        },
    }
    path = folder / 'benchmark.yaml'
    path.write_text(yaml.safe_dump(config | changes))
    return path


@pytest.fixture
def write_config(pairs: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write a small configuration on :func:`pairs`; return its path."""

    def write(**changes: Any) -> Path:
        return write_config_file(tmp_path, pairs, **changes)

    return write

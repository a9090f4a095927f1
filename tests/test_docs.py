# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""What the docs show runs as it is."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from torchgeo_discomkd import __version__

DOCS = Path(__file__).parents[1] / 'docs'


def blocks(page: str) -> list[str]:
    """Return the Python code of a page."""
    text = (DOCS / page).read_text(encoding='utf-8')
    return re.findall(r'```python\n(.*?)```', text, flags=re.DOTALL)


def test_own_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    Path('patches').mkdir()
    for split in ('train', 'val'):
        np.savez(
            f'patches/{split}.npz',
            optical=rng.uniform(0, 1, (8, 4, 16, 16)),
            radar=rng.normal(-12, 2, (8, 2, 16, 16)),
            labels=np.arange(8) % 2,
        )
    declared, trained = blocks('own_data_set.md')
    # the same with a smaller network, less long
    for old, new in (
        ('num_classes=2', "num_classes=2, model='test_resnet'"),
        (
            'max_epochs=60',
            "max_epochs=1, log_every_n_steps=1, accelerator='cpu', devices=1",
        ),
    ):
        assert old in trained
        trained = trained.replace(old, new)
    names: dict[str, Any] = {}
    exec(declared, names)  # noqa: S102
    exec(trained, names)  # noqa: S102
    best = sorted(path.name for path in Path('runs').rglob('best/*.safetensors'))
    assert best == ['optical.safetensors', 'radar.safetensors']


@pytest.mark.parametrize('page', ['../README.md', '../CONTRIBUTING.md'])
def test_links_lead_to_files(page: str) -> None:
    text = (DOCS / page).read_text(encoding='utf-8')
    links = re.findall(r'\]\((?!https?:|#)([^)\s]+)\)', text)
    assert links
    assert [link for link in links if not (DOCS.parent / link).exists()] == []


def test_one_version_everywhere() -> None:
    citation = yaml.safe_load((DOCS.parent / 'CITATION.cff').read_text('utf-8'))
    assert citation['version'] == __version__
    text = (DOCS.parent / 'CHANGELOG.md').read_text('utf-8')
    unreleased, latest, *_ = re.findall(r'^## (.+)$', text, flags=re.MULTILINE)
    assert unreleased == '[Unreleased]'
    assert latest == f'[{__version__}] - {citation["date-released"]}'

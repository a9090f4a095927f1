# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""What the docs show runs as it is."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from torchgeo.datasets import So2Sat

from tests.conftest import TINY
from tests.datasets.torchgeo_files import write_so2sat
from tests.fakes import write_pairs, write_torchgeo_eurosat
from torchgeo_discomkd import __version__
from torchgeo_discomkd.commands import main

DOCS = Path(__file__).parents[1] / 'docs'

#: A smaller network, and less long.
SHORT = {
    r'(in_channels={.+}, num_classes=\d+)': r"\1, model='test_resnet'",
    r"'resnet18'": "'test_resnet'",
    r'batch_size=64': 'batch_size=16',
    # figures in TensorBoard take longer than training
    r'max_epochs=60': "max_epochs=1, accelerator='cpu', devices=1, logger=False",
}


def blocks(page: str, language: str = 'python') -> list[str]:
    """Return the code of a page."""
    text = (DOCS / page).read_text(encoding='utf-8')
    return re.findall(rf'```{language}\n(.*?)```', text, flags=re.DOTALL)


def run(code: str, names: dict[str, Any]) -> None:
    """Run code of a page; a training, with a smaller network and less long."""
    for old, new in SHORT.items():
        code = re.sub(old, new, code)
    exec(code, names)  # noqa: S102


def best_files() -> list[str]:
    return sorted(path.name for path in Path().rglob('best/*.safetensors'))


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
    names: dict[str, Any] = {}
    run(declared, names)
    run(trained, names)
    assert best_files() == ['optical.safetensors', 'radar.safetensors']


@pytest.mark.slow
def test_join_data_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path('data/copernicus').mkdir(parents=True)
    write_torchgeo_eurosat(Path('data/eurosat'), Path('data/copernicus'))
    names: dict[str, Any] = {}
    run(blocks('join_data_sets.md')[0], names)
    assert best_files() == ['ms.safetensors', 'sar.safetensors']
    [config] = blocks('join_data_sets.md', 'yaml')
    Path('joined.yaml').write_text(config)
    # one batch
    main(['fit', '--config', 'joined.yaml', *TINY, '--trainer.fast_dev_run', 'true'])


def test_join_so2sat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip('h5py')
    monkeypatch.chdir(tmp_path)
    write_so2sat(Path('data/so2sat'))
    names: dict[str, Any] = {}
    run(blocks('join_data_sets.md')[1], names)
    zones = names['zones']
    zones.setup('validate')
    assert zones.val_dataset.bands == {
        'ms': So2Sat.all_s2_band_names,
        'sar': So2Sat.all_s1_band_names,
    }


def pipeline(name: str) -> str:
    """Return the code about a transform, with the imports of the code before it."""
    [own] = [b for b in blocks('running.md') if 'folders={' in b and 'fit(' in b]
    [code] = [b for b in blocks('running.md') if f'import {name}' in b]
    imports = re.findall(r'^(?:from|import) .+\n', own, flags=re.MULTILINE)
    return ''.join(['import kornia.augmentation as K\n', *imports, code])


def test_task_of_torchgeo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_pairs(Path('my_tiles'), ('Bare', 'Crop', 'Water'), 13, {'sar': (2, 8, 8)})
    names: dict[str, Any] = {}
    code = pipeline('ModalityToImage')
    # with figures, which TorchGeo's task asks the data module for
    run(code.replace('max_epochs=60', 'max_epochs=1, log_every_n_steps=1'), names)
    batch = next(iter(names['tiles'].val_dataloader()))
    normal = names['tiles'].aug(batch)['image']
    assert normal.mean().abs() < 0.2
    assert list(Path().rglob('events.out.tfevents*'))


def test_data_module_of_torchgeo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip('h5py')
    monkeypatch.chdir(tmp_path)
    write_so2sat(Path('data/so2sat'))
    run(pipeline('ImageToModalities'), {})
    assert best_files() == ['ms.safetensors', 'sar.safetensors']


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

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Commands on TorchGeo's data sets of several sensors."""

from pathlib import Path

import pytest

from tests.conftest import TINY
from tests.datasets.torchgeo_files import (
    write_copernicus_bigearthnet,
    write_copernicus_eurosat,
)
from torchgeo_discomkd.commands import main

CONFIGS = Path(__file__).parents[2] / 'configs'


def fit(config: str, root: Path, folder: Path, *args: str) -> None:
    main(
        [
            *('fit', '--config', str(CONFIGS / f'{config}.yaml'), *TINY),
            *('--data.root', str(root), '--data.num_workers', '0'),
            *('--data.batch_size', '4', '--trainer.max_epochs', '1'),
            *('--trainer.default_root_dir', str(folder), *args),
        ]
    )


@pytest.mark.slow
def test_pack_train_and_classify(tmp_path: Path) -> None:
    root = write_copernicus_eurosat(tmp_path / 'data')
    pack = tmp_path / 'pack.safetensors'
    config = CONFIGS / 'copernicus_eurosat.yaml'
    main(
        [
            *('pack', '--config', str(config), '--data.root', str(root)),
            *('--output', str(pack)),
        ]
    )
    fit('copernicus_eurosat', pack, tmp_path / 'run')
    [classifier] = (tmp_path / 'run').rglob('best/sar.safetensors')
    table = tmp_path / 'table.csv'
    tiles = root / 'eurosat_s1' / 'all_imgs' / 'Forest'
    main(['classify', str(classifier), str(tiles), '--output', str(table)])
    # a header and four tiles
    assert len(table.read_text().splitlines()) == 5


@pytest.mark.slow
def test_several_labels_from_a_pack(tmp_path: Path) -> None:
    root = write_copernicus_bigearthnet(tmp_path / 'data')
    pack = tmp_path / 'pack.safetensors'
    config = CONFIGS / 'copernicus_bigearthnet.yaml'
    main(
        [
            *('pack', '--config', str(config), '--data.root', str(root)),
            *('--output', str(pack)),
        ]
    )
    fit('copernicus_bigearthnet', pack, tmp_path / 'run')
    names = sorted(path.name for path in (tmp_path / 'run').rglob('best/*.safetensors'))
    assert names == ['ms.safetensors', 'sar.safetensors']


@pytest.mark.parametrize('config', ['sen12ms', 'treesatai'])
def test_missing_data_end_with_advice(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        fit(config, tmp_path / 'nowhere', tmp_path / 'run')
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert 'Dataset not found in' in error
    assert 'Traceback' not in error

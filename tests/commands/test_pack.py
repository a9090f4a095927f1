# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from torchgeo_discomkd.commands import main


def test_training_from_a_pack_is_the_same(
    pairs: Path, fit_pairs: Callable[..., Path]
) -> None:
    config = {
        'trainer': {'max_epochs': 1},
        'data': {
            'class_path': 'PairedFoldersDataModule',
            'init_args': {'root': str(pairs)},
        },
    }
    (pairs.parent / 'run.yaml').write_text(json.dumps(config))
    packed = pairs.parent / 'pairs.safetensors'
    main(['pack', '--config', str(pairs.parent / 'run.yaml'), '--output', str(packed)])
    first = fit_pairs(name='folders')
    second = fit_pairs('--data.root', str(packed), name='packed')
    third = fit_pairs(
        *('--data.root', str(packed), '--data.resident', 'true'), name='resident'
    )
    for name in ('ms', 'sar'):
        files = [run / 'best' / f'{name}.safetensors' for run in (first, second, third)]
        assert len({file.read_bytes() for file in files}) == 1


def test_command_refuses_a_configuration_without_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / 'run.yaml').write_text('trainer: {max_epochs: 1}\n')
    with pytest.raises(SystemExit) as error:
        main(
            [
                *('pack', '--config', str(tmp_path / 'run.yaml')),
                *('--output', str(tmp_path / 'x.safetensors')),
            ]
        )
    assert error.value.code == 2
    assert 'configures no data module' in capsys.readouterr().err

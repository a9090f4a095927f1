# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Checkpoints that are damaged, or none of ours, in all commands that take one."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from torchgeo_discomkd.callbacks.run_folder import check_checkpoint
from torchgeo_discomkd.classify import load_predictor
from torchgeo_discomkd.commands import main
from torchgeo_discomkd.errors import CheckpointError, ClassifierFileError

#: As little as Lightning can evaluate.
LEAST = {
    'pytorch-lightning_version': '2.5.7',
    'state_dict': OrderedDict(weight=torch.zeros(1)),
    'epoch': 0,
    'global_step': 1,
}


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ({}, 'missing required field'),
        ([1], 'contains a list'),
        (torch.zeros(2), 'contains a Tensor'),
        (LEAST | {'state_dict': [torch.zeros(1)]}, 'state_dict'),
        (LEAST | {'state_dict': {'weight': 1}}, "'weight' in its state_dict is no"),
        (LEAST | {'epoch': -1}, 'epoch'),
        (LEAST | {'global_step': 'many'}, 'global_step'),
        (LEAST | {'in_channels': {'sar': 10**9}}, 'in_channels'),
        (LEAST | {'in_channels': ['sar']}, 'in_channels'),
        (LEAST | {'classes': 'ab'}, 'classes'),
        (LEAST | {'hyper_parameters': None}, 'hyper_parameters'),
    ],
)
def test_other_content(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / 'last.ckpt'
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=rf'last\.ckpt is .*{message}'):
        check_checkpoint(str(path))
    with pytest.raises(ClassifierFileError, match=rf'last\.ckpt .*{message}'):
        load_predictor(path, 'sar')


def test_weights_alone_cannot_be_resumed(tmp_path: Path) -> None:
    path = tmp_path / 'last.ckpt'
    torch.save(LEAST, path)
    check_checkpoint(str(path))
    with pytest.raises(CheckpointError, match=r"lacks \['loops', 'lr_sched.*optim"):
        check_checkpoint(str(path), training=True)


def test_flipped_bytes(trained_in_db: Path, tmp_path: Path) -> None:
    content, path = (trained_in_db / 'last.ckpt').read_bytes(), tmp_path / 'last.ckpt'
    rng = np.random.default_rng(0)
    state = torch.load(trained_in_db / 'last.ckpt', weights_only=True)['state_dict']
    for position in rng.integers(len(content), size=8).tolist():
        changed = bytearray(content)
        changed[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        try:
            check_checkpoint(str(path), training=True)
        except CheckpointError:
            continue
        # padding between the entries
        found = torch.load(path, weights_only=True)['state_dict']
        assert all(torch.equal(found[name], state[name]) for name in state)


@pytest.mark.parametrize('command', ['fit', 'test'])
def test_commands(
    trained_in_db: Path,
    tmp_path: Path,
    command: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = bytearray((trained_in_db / 'last.ckpt').read_bytes())
    content[len(content) // 2] ^= 1
    path = tmp_path / 'last.ckpt'
    path.write_bytes(content)
    args = [command, '--config', f'{trained_in_db}/config.yaml']
    args += ['--ckpt_path', str(path), '--trainer.default_root_dir', str(tmp_path)]
    with pytest.raises(SystemExit) as stop:
        main(args)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert f'{path} is damaged' in error
    assert 'Traceback' not in error

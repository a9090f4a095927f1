# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path

import pytest
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

from torchgeo_discomkd.callbacks import LastCheckpoint
from torchgeo_discomkd.callbacks.last_checkpoint import DirectCheckpointIO


def test_checkpoint_is_lightnings(tmp_path: Path) -> None:
    checkpoint = {'weights': torch.rand(3), 'epoch': 2}
    TorchCheckpointIO().save_checkpoint(checkpoint, tmp_path / 'a.ckpt')
    DirectCheckpointIO().save_checkpoint(checkpoint, str(tmp_path / 'new' / 'b.ckpt'))
    one = torch.load(tmp_path / 'a.ckpt', weights_only=True)
    two = torch.load(tmp_path / 'new' / 'b.ckpt', weights_only=True)
    assert torch.equal(one.pop('weights'), two.pop('weights'))
    assert one == two


def test_failure_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / 'last.ckpt'
    path.write_text('before')

    class Broken:
        def __reduce__(self) -> str:
            raise OSError('no space')

    with pytest.raises(OSError, match='no space'):
        DirectCheckpointIO().save_checkpoint({'weights': Broken()}, path)
    assert path.read_text() == 'before'
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize('own', [True, False])
def test_plugin_of_the_user_stays(own: bool) -> None:
    class Mine(TorchCheckpointIO):
        pass

    trainer = Trainer(
        accelerator='cpu', logger=False, plugins=[Mine()] if own else None
    )
    LastCheckpoint().setup(trainer, BoringModel(), 'fit')
    expected = Mine if own else DirectCheckpointIO
    assert type(trainer.strategy.checkpoint_io) is expected

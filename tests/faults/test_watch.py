# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import shutil
import sys

import pytest

from .watch import main


@pytest.mark.slow
@pytest.mark.skipif(shutil.which('strace') is None, reason='strace is not installed')
def test_nothing_else_is_reached(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, 'argv', ['watch', '--inputs', '66'])
    with pytest.raises(SystemExit) as stop:
        main()
    said = capsys.readouterr().out
    assert stop.value.code == 0, said
    assert '0 others, 0 hosts' in said
    assert 'secret.tif' in said.partition('with them')[0]

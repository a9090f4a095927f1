# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path

import pytest

from torchgeo_discomkd.errors import SettingError

from .formats import Format
from .mutate import main, run


def test_damaged_files_are_read_or_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(['--inputs', '84', '--seed', '7'])
    table = capsys.readouterr().out
    assert stop.value.code == 0, table
    assert 'FAILED' not in table
    # damage that is never noticed, or always, would prove nothing
    total, read, refused = map(int, table.splitlines()[-2].split()[1:])
    assert total == read + refused == 84
    assert min(read, refused) > 8


def _swallow(path: Path) -> None:
    raise {0: SettingError, 1: KeyError}[len(path.read_bytes()) % 2](str(path))


def test_failures_are_counted_and_kept(tmp_path: Path) -> None:
    form = Format(lambda d: (d / 'a.txt').write_text('a'), '*.txt', _swallow)
    keep = tmp_path / 'failed'
    counts = run({'text': form}, 30, seed=0, seconds=60, keep=keep).formats['text']
    assert set(counts) == {'refused', 'FAILED: traceback'}
    assert len(list(keep.iterdir())) == counts['FAILED: traceback']

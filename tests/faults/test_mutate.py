# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from collections.abc import Sequence
from pathlib import Path

import pytest

from torchgeo_discomkd.errors import SettingError

from .formats import Format
from .mutate import FORMATS, main, run

#: Formats whose valid files take seconds to write.
EXPORTED = ('onnx', 'pt2')


@pytest.mark.parametrize(
    ('formats', 'inputs'),
    [
        ([name for name in FORMATS if name not in EXPORTED], 66),
        pytest.param(EXPORTED, 40, marks=pytest.mark.slow),
    ],
    ids=['all', 'exported'],
)
def test_damaged_files_are_read_or_refused(
    formats: Sequence[str], inputs: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(['--inputs', str(inputs), '--seed', '7', '--formats', *formats])
    table = capsys.readouterr().out
    assert stop.value.code == 0, table
    assert 'FAILED' not in table
    # damage that is never noticed, or always, would prove nothing
    total, read, refused = map(int, table.splitlines()[-2].split()[1:])
    assert total == read + refused == inputs
    assert min(read, refused) > (5 if inputs > 40 else 0)


def _swallow(path: Path) -> None:
    raise {0: SettingError, 1: KeyError}[len(path.read_bytes()) % 2](str(path))


def test_failures_are_counted_and_kept(tmp_path: Path) -> None:
    form = Format(lambda d: (d / 'a.txt').write_text('a'), '*.txt', _swallow)
    keep = tmp_path / 'failed'
    counts = run({'text': form}, 30, seed=0, seconds=60, keep=keep).formats['text']
    assert set(counts) == {'refused', 'FAILED: traceback'}
    assert len(list(keep.iterdir())) == counts['FAILED: traceback']

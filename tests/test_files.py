# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path

import pytest

from torchgeo_discomkd.files import write_atomically


def test_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / 'new' / 'file.json'
    for text in (b'one', b'two'):
        write_atomically(path, text)
        assert path.read_bytes() == text
    assert [p.name for p in path.parent.iterdir()] == ['file.json']


def test_failure_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / 'file.json'
    write_atomically(path, b'old')
    with pytest.raises(TypeError):
        write_atomically(path, 'no bytes')  # ty: ignore[invalid-argument-type]
    assert path.read_bytes() == b'old'
    assert [p.name for p in tmp_path.iterdir()] == ['file.json']

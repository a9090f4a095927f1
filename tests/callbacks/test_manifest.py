# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import string
from pathlib import Path

import pytest

from torchgeo_discomkd.callbacks import manifest


def test_commit_of_a_checkout() -> None:
    commit = manifest.git_commit()
    assert commit is None or set(commit) <= set(string.hexdigits)


def test_no_git_no_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv('PATH', str(tmp_path))
    assert manifest.git_commit() is None

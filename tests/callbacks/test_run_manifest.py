# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import subprocess
from pathlib import Path

import pytest

from torchgeo_discomkd.callbacks import run_manifest


def test_commit_of_a_checkout() -> None:
    root = Path(run_manifest.__file__).parents[2]
    head = subprocess.run(
        ['git', '-C', str(root), 'rev-parse', 'HEAD'],
        capture_output=True,
        text=True,
        check=False,
    )
    if head.returncode:
        pytest.skip('the tests do not run in a git checkout')
    assert run_manifest.git_commit() == head.stdout.strip()


def test_somebody_elses_checkout_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git = ['git', '-C', str(tmp_path), '-c', 'user.name=a', '-c', 'user.email=a@b']
    for arguments in (['init', '-q'], ['commit', '-q', '--allow-empty', '-m', 'x']):
        subprocess.run([*git, *arguments], check=True)
    monkeypatch.setattr(run_manifest, '__file__', str(tmp_path / 'run_manifest.py'))
    assert run_manifest.git_commit() is None


def test_no_git_no_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv('PATH', str(tmp_path))
    assert run_manifest.git_commit() is None

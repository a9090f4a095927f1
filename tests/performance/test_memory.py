# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import platform
import subprocess
import sys

import pytest

from torchgeo_discomkd.performance.memory import keep_freed_memory

#: Uses 64 MB ten times and prints the page faults of the last nine times.
SCRIPT = """
import resource, sys
import numpy as np
from torchgeo_discomkd.performance.memory import keep_freed_memory

if sys.argv[1] == 'keep':
    assert keep_freed_memory()
faults = []
for _ in range(10):
    np.ones(2**23)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(faults[-1] - faults[0])
"""


def faults(keep: str) -> int:
    command = [sys.executable, '-c', SCRIPT, keep]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(result.stdout)


@pytest.mark.skipif(
    platform.libc_ver()[0] != 'glibc', reason='it is for the GNU C library'
)
def test_freed_memory_is_used_again() -> None:
    assert faults('keep') < 0.1 * faults('give back')


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, 'libc_ver', lambda: ('', ''))
    assert not keep_freed_memory()

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import subprocess
import sys

PROGRAM = """
import warnings
from torchgeo_discomkd.commands import main
try:
    main()
except SystemExit:
    warnings.warn('odd tiles')
    warnings.warn('a fault of ours', RuntimeWarning)
"""


def test_warnings_for_users_show_no_code() -> None:
    done = subprocess.run(
        [sys.executable, '-c', PROGRAM, '--version'],
        capture_output=True,
        text=True,
        check=True,
    )
    first, second = done.stderr.splitlines()
    assert first == 'warning: odd tiles'
    assert second.endswith('RuntimeWarning: a fault of ours')

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import subprocess
import sys

CODE = """
import sys
from types import SimpleNamespace
from torchgeo_discomkd.commands.quiet import quiet_rasterio
quiet_rasterio()
error = UnicodeDecodeError('utf-8', b'x', 0, 1, 'from a damaged file')
sys.excepthook(type(error), error, None)
event = dict(exc_type=type(error), exc_value=error, exc_traceback=None, err_msg=None)
sys.unraisablehook(SimpleNamespace(object='rasterio._env.log_error', **event))
class Other:
    def __del__(self):
        raise ValueError('from elsewhere')
Other()
b'\\xff'.decode()
"""


def test_only_what_rasterio_prints_is_left_out() -> None:
    command = [sys.executable, '-c', CODE]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    assert 'rasterio' not in said
    assert 'from a damaged file' not in said
    assert 'from elsewhere' in said
    assert said.rstrip().endswith('invalid start byte')

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""List files and hosts that reading damaged inputs reaches, as the system sees them.

Runs :mod:`.mutate` under ``strace`` (Linux), with the libraries and with the commands
that it starts. What is read outside of the inputs and of the installation, and each
address that is contacted, is counted. Among the inputs are images that refer to a file
beside their folder and to a host; first they are opened without our checks, to show
that this would be seen.

    python -m tests.faults.watch --inputs 2000
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torchgeo_discomkd

from .references import SECRET

# name, arguments, result
_CALL = re.compile(r'\b(open|openat|openat2|connect|sendto)\((.*)\) += (-?\d+)')

_PATH = re.compile(r'"((?:[^"\\]|\\.)*)"')

# Of the system, of Python and of this repository, all of which reading needs.
_INSTALLED = [
    *('/usr', '/lib', '/lib64', '/bin', '/etc', '/opt', '/var/cache'),
    *('/proc', '/sys', '/dev'),
    *(sys.prefix, sys.base_prefix, str(Path(torchgeo_discomkd.__file__).parents[1])),
]

# Opens what refers to others as any program does.
_CONTROL = """
import tempfile
import warnings
from pathlib import Path
import rasterio
from tests.faults.references import write_references
warnings.simplefilter('ignore')
folder = Path(tempfile.mkdtemp())
write_references(folder)
for path in folder.glob('tiles/*/a.tif'):
    try:
        rasterio.open(path).read()
    except rasterio.errors.RasterioError:
        pass
"""


@dataclass
class Reached:
    """What a command has reached.

    Attributes:
        inside: How many inputs and parts of the installation were opened.
        files: Other files that were read.
        hosts: Addresses that were contacted.
    """

    inside: int = 0
    files: set[str] = field(default_factory=set)
    hosts: set[str] = field(default_factory=set)


def watch(command: Sequence[str], folder: Path) -> tuple[Reached, str]:
    """Run a command and note what it reaches.

    Args:
        command: The command.
        folder: Empty folder for all that it writes.

    Returns:
        What it has reached, and what it printed.

    Raises:
        RuntimeError: If it fails.
    """
    log, inputs = folder / 'calls', folder / 'inputs'
    inputs.mkdir()
    calls = 'open,openat,openat2,connect,sendto'
    strace = ['strace', '-f', '-qq', '-s', '4096', '-e', f'trace={calls}', '-o', log]
    # whatever keeps a cache keeps it there
    environment = {'TMPDIR': str(inputs), 'HOME': str(inputs), 'GDAL_HTTP_TIMEOUT': '1'}
    done = subprocess.run(
        [*strace, *command],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stdout)
    reached = Reached()
    with log.open(errors='replace') as lines:
        for line in lines:
            _note(line, str(inputs), reached)
    return reached, done.stdout


def _note(line: str, inputs: str, reached: Reached) -> None:
    found = _CALL.search(line)
    if found is None:
        return
    name, arguments, result = found.groups()
    if name in ('connect', 'sendto'):
        # others are sockets of this machine
        if 'AF_INET' in arguments:
            reached.hosts.add(arguments)
        return
    path = _PATH.search(arguments)
    if path is None or int(result) < 0:
        return
    text = path[1]
    # a secret is written by the script, in order to be left alone
    if Path(text).name == SECRET:
        if 'O_RDONLY' in arguments:
            reached.files.add(text)
    elif not text.startswith('/') or text.startswith((inputs, *_INSTALLED)):
        reached.inside += 1
    else:
        reached.files.add(text)


def main() -> None:
    """Watch, and print what was reached."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    add = parser.add_argument
    add('--inputs', type=int, default=1000, help='default: %(default)s')
    add('--seed', type=int, default=0)
    add('--seconds', type=float, default=3600, help='time after which to stop')
    add('--command-line', type=float, default=0.01, help='default: %(default)s')
    options = parser.parse_args()
    if shutil.which('strace') is None:
        sys.exit('strace is not installed')
    mutate = [sys.executable, '-m', 'tests.faults.mutate']
    for name, value in vars(options).items():
        mutate += [f'--{name.replace("_", "-")}', str(value)]
    control = watched('without our checks', [sys.executable, '-c', _CONTROL])
    reached = watched('with them', mutate)
    seen = bool(control.files and control.hosts)
    sys.exit(not seen or bool(reached.files or reached.hosts))


def watched(title: str, command: Sequence[str]) -> Reached:
    """Watch a command and print what it reaches.

    Args:
        title: What it is.
        command: The command.

    Returns:
        What it has reached.
    """
    with tempfile.TemporaryDirectory() as name:
        reached, said = watch(command, Path(name))
    sys.stdout.write(
        f'{said}{title}: {reached.inside} files of the inputs and the installation, '
        f'{len(reached.files)} others, {len(reached.hosts)} hosts\n'
    )
    for text in sorted(reached.files | reached.hosts):
        sys.stdout.write(f'  {text}\n')
    sys.stdout.flush()
    return reached


if __name__ == '__main__':
    main()

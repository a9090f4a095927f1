# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Damage small valid files and read them with what is behind the commands.

All inputs of a run go through one process. What happened to them is counted:

    read      the damage does no harm, or cannot be seen
    refused   an error for the user
    FAILED    a traceback, a hang, much memory, or words of a library on stderr

A crash ends the process and shows which input was read. Inputs that failed are kept.

    python -m tests.faults.mutate --inputs 20000 --keep failed/
"""

import argparse
import faulthandler
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter, defaultdict
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType

from tests.export.classifiers import write_classifier
from torchgeo_discomkd.commands.quiet import quiet_rasterio
from torchgeo_discomkd.errors import UserError

from . import formats, model_formats, references
from .formats import Format
from .mutations import mutate

#: Seconds and bytes that one input may take. Seconds are those of the processor: others
#: may use it, too. A reader that sleeps gets twelve times as many of a clock.
SECONDS, BYTES = 10, 2**30

#: All formats that are read.
FORMATS = formats.FORMATS | references.FORMATS | model_formats.FORMATS

# Inputs that went through the command line, too.
BY_COMMAND = 'by command'

# Codes of a command that has told the user what is wrong.
_CODES = (0, 2, 3)


class HangError(BaseException):
    """Raised in what takes too long, past all who catch every exception."""


@dataclass
class Counts:
    """What happened to the inputs of each format."""

    formats: dict[str, Counter[str]] = field(
        default_factory=lambda: defaultdict(Counter)
    )
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Return a table with a line for each format."""
        kinds = ['read', 'refused']
        kinds += sorted(
            {k for counts in self.formats.values() for k in counts} - {*kinds}
        )
        total = sum(self.formats.values(), Counter[str]())
        rows = [*self.formats.items(), ('all', total)]
        lines = [['', 'inputs', *kinds]]
        for name, counts in rows:
            numbers = [
                counts.total() - counts[BY_COMMAND],
                *(counts[kind] for kind in kinds),
            ]
            lines.append([name, *map(str, numbers)])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return '\n'.join(
            '  '.join(t.rjust(w) for t, w in zip(line, widths, strict=True))
            for line in lines
        )


def run(
    formats: dict[str, Format],
    inputs: int,
    seed: int,
    seconds: float,
    share: float = 0,
    keep: Path | None = None,
) -> Counts:
    """Read damaged inputs, the formats in turn.

    Args:
        formats: The formats.
        inputs: Number of inputs of all formats together.
        seed: Number of the run.
        seconds: Time after which to stop.
        share: Share of the inputs that also go through the command line.
        keep: Folder for inputs that failed.
    """
    counts, end = Counts(), time.monotonic() + seconds
    # those that no command is quick enough for are made up for by the others
    share *= len(formats) / max(
        1, sum(form.command is not None for form in formats.values())
    )
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings(), _no_notes():
        warnings.simplefilter('ignore')
        root = Path(name)
        quiet_rasterio()
        model = write_classifier(root / 'model.safetensors') if share else None
        for label, form in formats.items():
            (root / label).mkdir()
            form.write(root / label)
        for number in range(inputs):
            if time.monotonic() > end:
                break
            label = list(formats)[number % len(formats)]
            form, rng = formats[label], Random(f'{seed} {number}')
            found = sorted((root / label).glob(form.damaged))
            path = rng.choice([path for path in found if path.is_file()])
            valid = path.read_bytes()
            path.write_bytes(mutate(valid, rng))
            outcome, why = _read(form, path)
            if model is not None and form.command and rng.random() < share:
                (root / 'out').mkdir()
                words = form.command(model, path, root / 'out' / 'out')
                counts.formats[label][BY_COMMAND] += 1
                if said := _command(words):
                    outcome, why = 'FAILED: command', said
                shutil.rmtree(root / 'out')
            counts.formats[label][outcome] += 1
            if outcome.startswith('FAILED'):
                counts.failures.append(f'{label} {number}: {outcome}\n{why}')
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, keep / f'{seed}_{number}_{path.name}')
            path.write_bytes(valid)
    return counts


@contextmanager
def _no_notes() -> Generator[None]:
    """Say nothing about files without checksums."""
    logger = logging.getLogger('torchgeo_discomkd')
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _read(form: Format, path: Path) -> tuple[str, str]:
    """Return what happens when a file is read, and more about a failure."""
    peak, since = _peak(), time.process_time()
    outcome, why = 'read', ''
    with tempfile.TemporaryFile() as said:
        try:
            with _limited(path), _stderr(said.fileno()):
                form.read(path)
        except UserError:
            outcome = 'refused'
        except HangError:
            outcome = 'FAILED: hang'
        except Exception:  # noqa: BLE001
            outcome, why = 'FAILED: traceback', traceback.format_exc()
        except SystemExit as error:
            outcome, why = 'FAILED: exit', str(error)
        said.seek(0)
        if text := said.read().decode(errors='replace'):
            outcome, why = 'FAILED: stderr', text
    if time.process_time() - since > SECONDS:
        outcome = 'FAILED: hang'
    if _peak() - peak > BYTES:
        outcome = 'FAILED: memory'
    return outcome, why


def _peak() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@contextmanager
def _limited(path: Path) -> Generator[None]:
    """Raise after a time; if a library does not return, say where and end."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise HangError(path)

    timers = (
        (signal.ITIMER_PROF, signal.SIGPROF, SECONDS),
        (signal.ITIMER_REAL, signal.SIGALRM, 12 * SECONDS),
    )
    before = [signal.signal(number, stop) for _, number, _ in timers]
    for timer, _, seconds in timers:
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for (timer, number, _), handler in zip(timers, before, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)


@contextmanager
def _stderr(descriptor: int) -> Generator[None]:
    """Send to a file what libraries write to stderr, past Python."""
    sys.stderr.flush()
    kept = os.dup(2)
    os.dup2(descriptor, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _command(words: Sequence[object]) -> str:
    """Run a command; return what is wrong with its end, empty if nothing is."""
    command = [sys.executable, '-m', 'torchgeo_discomkd', *map(str, words)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=300, check=False
        )
    except subprocess.TimeoutExpired:
        return 'hangs'
    if done.returncode in _CODES and 'Traceback' not in done.stderr:
        return ''
    return f'exit code {done.returncode}\n{done.stderr}'


def main(args: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog='python -m tests.faults.mutate',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('--inputs', type=int, default=1000, help='number of inputs, of all formats')
    add(
        '--seed',
        type=int,
        default=0,
        help='number of the run: same number, same inputs',
    )
    add('--seconds', type=float, default=600, help='time after which to stop')
    add(
        '--formats',
        nargs='+',
        choices=tuple(FORMATS),
        default=list(FORMATS),
        help='default: all',
    )
    add(
        '--command-line',
        type=float,
        default=0,
        help='share of the inputs that also go through the command line',
    )
    add('--keep', type=Path, help='folder for inputs that failed')
    given = parser.parse_args(args)
    formats = {name: FORMATS[name] for name in given.formats}
    faulthandler.enable(sys.__stderr__)
    since = time.monotonic()
    counts = run(
        *(formats, given.inputs, given.seed, given.seconds),
        *(given.command_line, given.keep),
    )
    for failure in counts.failures:
        sys.stdout.write(f'{failure}\n\n')
    took = f'{time.monotonic() - since:.0f} s, peak {_peak() / 2**30:.2f} GiB'
    sys.stdout.write(f'{counts}\n{took}\n')
    sys.exit(bool(counts.failures))


if __name__ == '__main__':
    main()

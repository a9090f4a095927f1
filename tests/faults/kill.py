# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Kill a command at random moments, run it again, and count what is lost.

The result must be that of a run that was left alone: every piece of it (rows of a table
or a benchmark, tensors, maps) is there once. For example:

    python -m tests.faults.kill --command classify --times 30
"""

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .commands import COMMANDS, Command
from .processes import Ended, Process

SIGNALS = {'KILL': signal.SIGKILL, 'TERM': signal.SIGTERM, 'INT': signal.SIGINT}


@dataclass
class Counts:
    """What happened.

    Attributes:
        killed: Kills before the end of the command.
        late: Commands that had ended before.
        lost: Pieces that were not there after the second run.
        doubled: Pieces that were there more often.
        equal: Results equal to that of a run that was left alone.
        left: Parts and locks that were still there.
        problems: All else that was wrong.
    """

    killed: int = 0
    late: int = 0
    lost: int = 0
    doubled: int = 0
    equal: int = 0
    left: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether nothing was wrong."""
        wrong = self.lost, self.doubled, self.left, len(self.problems)
        return not any(wrong) and self.equal == self.killed + self.late

    def __str__(self) -> str:
        """Return the counts in one line."""
        return (
            f'{self.killed} kills ({self.late} came too late): {self.lost} pieces '
            f'lost, {self.doubled} doubled, {self.equal} of {self.killed + self.late} '
            f'results equal to an uninterrupted run, {self.left} parts left behind, '
            f'{len(self.problems)} other problems'
        )


def kill(
    command: Command, root: Path, times: int, names: Sequence[str], seed: int = 0
) -> Counts:
    """Kill a command at random moments.

    Args:
        command: The command.
        root: Empty folder.
        times: How many kills; those that come too late are made up for.
        names: Names of signals, one of which is drawn each time.
        seed: Seed of the moments.

    Returns:
        What happened.
    """
    rng, counts = random.Random(seed), Counts()
    seconds = 60.0
    # the first one takes longer
    for name in ('first', 'alone'):
        alone = fresh(command, root / name)
        whole = Process(command.args(alone), root / 'log').ended()
        assert whole.code == 0, whole.output
        seconds = min(seconds, whole.seconds)
    expected = command.pieces(alone)
    for number in range(3 * times):
        if counts.killed == times:
            break
        folder = fresh(command, root / f'{number}')
        process = Process(command.args(folder), root / 'log')
        time.sleep(rng.uniform(0, seconds))
        name = rng.choice(names)
        process.send(SIGNALS[name])
        first = process.ended()
        say = f'{number} ({name}): '
        counts.problems += [say + x for x in misbehaviour(name, first)]
        counts.killed += first.code != 0
        counts.late += first.code == 0
        try:
            command.check(folder)
        except Exception as error:  # noqa: BLE001 (whatever a damaged file raises)
            counts.problems.append(f'{say}{type(error).__name__}: {error}')
        if first.code:
            second = Process(command.args(folder, again=True), root / 'log').ended()
            if second.code:
                counts.problems.append(f'{say}the second run: {second.output[-2000:]}')
        if not counts.problems:
            found = command.pieces(folder)
            counts.lost += (expected - found).total()
            counts.doubled += (found - expected).total()
            counts.equal += found == expected
            counts.left += sum(is_part(path) for path in folder.rglob('*'))
        shutil.rmtree(folder)
    return counts


def fresh(command: Command, folder: Path) -> Path:
    """Return a new folder as the command finds it."""
    folder.mkdir()
    command.begin(folder)
    return folder


def misbehaviour(name: str, ended: Ended) -> list[str]:
    """Say what is wrong about the end of a process that got a signal."""
    allowed = {0, -SIGNALS[name], 128 + SIGNALS[name]}
    wrong = [] if ended.code in allowed else [f'exit code {ended.code}']
    wrong += ['a traceback'] if 'Traceback' in ended.output else []
    return [f'{text}: {ended.output[-2000:]}' for text in wrong]


def is_part(path: Path) -> bool:
    """Whether a file is a part or a lock."""
    return '.partial' in path.name or path.name.endswith(('.lock', '.replacing.json'))


def main() -> None:
    """Kill commands, and print what happened."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    add = parser.add_argument
    add('--command', choices=[*COMMANDS, 'all'], default='all')
    add('--times', type=int, default=30, help='kills (default: %(default)s)')
    add('--signals', default='KILL,TERM,INT', help='some of %(default)s')
    add('--size', type=int, default=4, help='how much work there is')
    add('--seed', type=int, default=0)
    options = parser.parse_args()
    good = True
    for name in COMMANDS if options.command == 'all' else [options.command]:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            (root / 'data').mkdir()
            command = COMMANDS[name](root / 'data', options.size)
            signals = options.signals.split(',')
            counts = kill(command, root, options.times, signals, options.seed)
        sys.stdout.write(f'{name}: {counts}\n')
        for problem in counts.problems:
            sys.stdout.write(f'  {problem}\n')
        sys.stdout.flush()
        good &= counts.good and counts.killed == options.times
    sys.exit(not good)


if __name__ == '__main__':
    main()

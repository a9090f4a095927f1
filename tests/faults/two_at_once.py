# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Start the same command twice at once, and count how both ended.

One must write the result, the other must be refused with exit code 2, and the result
must be that of a command that was left alone. For example:

    python -m tests.faults.two_at_once --command fit --times 10
"""

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from .commands import COMMANDS, Command
from .kill import fresh, is_part
from .processes import Process

#: How all pairs must end.
ONE_WROTE = 'one wrote, the other was refused or had nothing left to do'

#: What the second one is told; that the result exists, if the first one is done.
REFUSALS = ('another process', ' exists', 'already holds a run')


def two_at_once(command: Command, root: Path, times: int) -> Counter[str]:
    """Start a command twice at once.

    Args:
        command: The command.
        root: Empty folder.
        times: How often.

    Returns:
        How often both ended in the same way, in words.
    """
    ends: Counter[str] = Counter()
    alone = fresh(command, root / 'alone')
    whole = Process(command.args(alone), root / 'log').ended()
    assert whole.code == 0, whole.output
    expected = command.pieces(alone)
    for number in range(times):
        folder = fresh(command, root / f'{number}')
        logs = root / 'log.1', root / 'log.2'
        both = [Process(command.args(folder), log) for log in logs]
        first, second = sorted(p.ended() for p in both)
        text = f'exit codes {first.code} and {second.code}'
        refused = any(words in second.output for words in REFUSALS)
        if (first.code, second.code) == (0, 2) and refused:
            text = ONE_WROTE
        if (first.code, second.code) == (0, 0) and command.word is not None:
            # the second one may begin when the first one is done
            worked = [command.word in ended.output for ended in (first, second)]
            if sorted(worked) == [False, True]:
                text = ONE_WROTE
        if 'Traceback' in first.output + second.output:
            text += ', a traceback'
        if command.pieces(folder) != expected:
            text += ', a wrong result'
        if any(map(is_part, folder.rglob('*'))):
            text += ', parts left behind'
        ends[text] += 1
        shutil.rmtree(folder)
    return ends


def main() -> None:
    """Start commands twice, and print how they ended."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    add = parser.add_argument
    add('--command', choices=[*COMMANDS, 'all'], default='all')
    add('--times', type=int, default=10, help='pairs (default: %(default)s)')
    options = parser.parse_args()
    good = True
    for name in COMMANDS if options.command == 'all' else [options.command]:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            (root / 'data').mkdir()
            ends = two_at_once(COMMANDS[name](root / 'data', 4), root, options.times)
        text = '; '.join(f'{count} x {end}' for end, count in ends.items())
        sys.stdout.write(f'{name}: {text}\n')
        sys.stdout.flush()
        good &= list(ends) == [ONE_WROTE]
    sys.exit(not good)


if __name__ == '__main__':
    main()

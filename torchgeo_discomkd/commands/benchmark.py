# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Command line of benchmarks."""

import argparse
import sys
from collections import Counter
from dataclasses import fields
from datetime import timedelta

from rich.console import Console

from ..benchmark.config import BenchmarkConfig, read_config
from ..benchmark.plan import plan
from ..benchmark.report import write_report
from ..benchmark.results import Results
from ..benchmark.runner import estimate_seconds, run_benchmark
from .fit import run as fit

DESCRIPTION = """\
Compare DisCoM-KD with its competitors: methods x scenarios x modalities x runs on any
data module of this package, and write the tables of the paper. Stopped at any point, the
same command goes on where it was.
"""


def run(args: list[str]) -> None:
    """Run a benchmark, or print its plan.

    Args:
        args: Arguments of the command line.

    Raises:
        RunFolderExistsError: If the folder of the results is of another configuration.
        SettingError: If the configuration cannot be read or contradicts itself.
    """
    given, overrides = _parser().parse_known_args(args)
    config = read_config(given.config, overrides)
    if given.dry_run:
        print_plan(config)
        return
    console = Console()
    results = Results(config)
    try:
        results = run_benchmark(config, fit)
    except (KeyboardInterrupt, SystemExit):
        # Lightning turns Ctrl-C into an exit of its own
        sys.stderr.write('Stopped. The same command goes on from here.\n')
        if (results := Results(config)).rows:
            write_report(results)
        sys.exit(130)
    for path in write_report(results):
        console.print(str(path), highlight=False, soft_wrap=True)
    if results.failures:
        console.print(f'{len(results.failures)} trainings failed:', highlight=False)
        for label, reason in results.failures.items():
            line = f'  {label}: {reason}'
            console.print(line, highlight=False, soft_wrap=True, markup=False)
        sys.exit(1)


def print_plan(config: BenchmarkConfig) -> None:
    """Print the trainings of a benchmark, how many are left and how long they take.

    Args:
        config: The configuration.
    """
    console = Console()
    trainings = plan(config)
    results = Results(config)
    left = [t for t in trainings if not results.finished(t)]
    for training in (t for t in trainings if t.run == 0):
        teacher = f' (teacher: {training.teacher})' if training.teacher else ''
        line = f'  {training.name}{teacher}'
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    counts = Counter(t.method for t in trainings)
    methods = ', '.join(f'{method} {count}' for method, count in counts.items())
    console.print(
        f'{len(trainings)} trainings in {config.runs} runs ({methods}), '
        f'{len(left)} of them to do, into {config.results}.',
        highlight=False,
        soft_wrap=True,
    )
    seconds = estimate_seconds(config, left)
    if seconds is None:
        text = 'The data are not at hand: no estimate of the time.'
    else:
        duration = timedelta(seconds=round(seconds))
        text = f'About {duration} on the CPU of this machine, validation not counted.'
    console.print(text, highlight=False)


def _parser() -> argparse.ArgumentParser:
    names = ', '.join(f'--{f.name}' for f in fields(BenchmarkConfig))
    parser = argparse.ArgumentParser(
        prog='python -m torchgeo_discomkd benchmark',
        description=DESCRIPTION,
        epilog=f'Values of the file can be replaced: {names}.',
        allow_abbrev=False,
    )
    parser.add_argument('config', metavar='CONFIG', help='YAML file')
    parser.add_argument(
        '--dry-run', action='store_true', help='print the plan and an estimate'
    )
    return parser

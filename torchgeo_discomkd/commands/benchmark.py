# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""``benchmark``: compare methods and write the tables of the paper."""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..benchmark import BenchmarkConfig

DESCRIPTION = """\
Compare DisCoM-KD with its competitors (methods x scenarios x modalities x runs) on any
data module of this package, and write the tables of the paper. To resume after an
interruption, run the same command again.
"""

EPILOG = """\
You can override any value of the file, for example --results my_results --runs 1:
results, data, in_channels, num_classes, teacher, targets, scenarios, methods,
variants, formulations, ablations, controls, extensions, transfer, unlabelled_ratio,
runs, seeds, seed, run_data, resample_by, preset, model, normalization, lr, trainer,
optimizer, lr_scheduler, teacher_in_training_mode, augment_students, paper_dataset,
task.
"""


def run(args: Sequence[str]) -> None:
    """Run a benchmark, or print its plan.

    Args:
        args: Arguments after ``benchmark``.

    Raises:
        ClusterError: If the Ray cluster cannot be used or goes away.
        KeyboardInterrupt: If it is stopped.
        RunFolderExistsError: If the results folder belongs to another configuration.
        SettingError: If the configuration cannot be read or contradicts itself, or this
            machine cannot run that many trainings side by side.
        SystemExit: With 1 if trainings failed, 2 if *args* are invalid, 0 for help.
    """
    given, overrides = _parser().parse_known_args(args)
    # takes seconds: only after the arguments are known to be valid
    from ..benchmark import Results, plan, read_config, run_benchmark, write_report
    from ..benchmark.runner import check_engine
    from ..rasters.text import read_utf8
    from .aliases import refuse_expansion
    from .fit import run as fit

    path = Path(given.config)
    if path.is_file():
        refuse_expansion(read_utf8(path), path)
    config = read_config(given.config, overrides)
    check_engine(config, given.jobs, given.engine, given.address)
    if note := config.note_on_left_out:
        _print(f'left out: {note}')
    if given.dry_run:
        print_plan(config)
        return
    try:
        results = run_benchmark(
            config, fit, None, given.jobs, given.engine, given.address
        )
    except KeyboardInterrupt:
        sys.stderr.write('Stopped. Run the same command again to resume.\n')
        if (results := Results(config)).rows:
            write_report(results)
        raise
    for path in write_report(results):
        _print(str(path))
    planned = {training.label for training in plan(config)}
    # one that is no longer asked for may have failed earlier
    if failed := {k: v for k, v in results.failures.items() if k in planned}:
        _print(f'{len(failed)} trainings failed:')
        for label, reason in failed.items():
            _print(f'  {label}: {reason}')
        sys.exit(1)


def print_plan(config: 'BenchmarkConfig') -> None:
    """Print the trainings of a benchmark, how many are left and their estimated time.

    Args:
        config: The configuration.
    """
    from torchgeo.datasets import DatasetNotFoundError

    from ..benchmark import Results, estimate_seconds, plan
    from ..errors import LayoutError

    trainings = plan(config)
    results = Results(config)
    left = [t for t in trainings if not results.finished(t)]
    for training in (t for t in trainings if t.run == 0):
        teacher = f' (teacher: {training.teacher})' if training.teacher else ''
        _print(f'  {training.name}{teacher}')
    counts = Counter(t.method for t in trainings)
    methods = ', '.join(f'{method} {count}' for method, count in counts.items())
    _print(
        f'{len(trainings)} trainings in {len(config.all_runs)} runs ({methods}), '
        f'{len(left)} of them left to do; results folder: {config.results}.'
    )
    try:
        duration = timedelta(seconds=round(estimate_seconds(config, left)))
    except (LayoutError, DatasetNotFoundError) as error:
        _print(f'The time cannot be estimated without the data: {error}')
    else:
        _print(
            f'About {duration} on the CPU of this machine, one after the other and '
            'without validation.'
        )


def _print(line: str) -> None:
    sys.stdout.write(f'{line}\n')


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='discomkd benchmark',
        description=DESCRIPTION,
        epilog=EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument('config', metavar='CONFIG', help='YAML file')
    parser.add_argument(
        '--dry-run', action='store_true', help='print the plan and an estimate'
    )
    parser.add_argument(
        '--jobs',
        type=int,
        default=1,
        metavar='N',
        help='trainings side by side: on a CPU at most one per core, on a GPU as many '
        'as its memory holds (default: %(default)s)',
    )
    parser.add_argument(
        '--engine',
        choices=('local', 'ray'),
        default='local',
        help='ray: train in workers of Ray, on this machine or on those of a cluster; '
        'all must see data and results under the same paths (default: %(default)s)',
    )
    parser.add_argument(
        '--address',
        help="with --engine ray: a running cluster, HOST:PORT or 'auto' (default: a "
        'Ray on this machine that ends with the command)',
    )
    return parser

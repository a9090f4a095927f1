# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""The result of a run, and what to do next."""

import sys
from collections.abc import Mapping

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import SIGTERMException
from rich.console import Console
from rich.table import Table

from ..models.modalities import COMPARISONS, is_comparison
from .best_classifiers import BestClassifiers, best_classifiers
from .calibration import Calibration
from .run_folder import run_folder


def summary_table(
    best: BestClassifiers, calibration: Mapping[str, Mapping[str, float]]
) -> Table:
    """Return a table of the best classifiers of a run.

    Args:
        best: Best scores and epochs.
        calibration: Results of :class:`Calibration`; empty if there are none.

    Returns:
        One row per classifier, with its epoch, counted from 0; a column for the plain
        student, one for the control of equal size and columns for the expected
        calibration error before and after, if there are any. It has no lines, so that
        it fits 80 columns with names of up to 8 letters, and breaks no word.
    """
    compared = {
        suffix: heading.replace(' ', '\n')
        for suffix, heading in COMPARISONS.items()
        if any(name.endswith(suffix) for name in best.scores)
    }
    headers = ['modality', 'epoch', 'F1', *compared.values()]
    headers += [*(['ECE', 'calibrated'] if calibration else []), 'file']
    gap = 2 if len(compared) < 2 else 1
    table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False)
    for header in headers:
        table.add_column(header, no_wrap=True)
    for name, score in best.scores.items():
        if is_comparison(name):
            continue
        row = [name, str(best.epochs[name]), f'{score:.4f}']
        others = [best.scores.get(name + suffix) for suffix in compared]
        row += ['-' if other is None else f'{other:.4f}' for other in others]
        if calibration:
            errors = [
                calibration.get(name, {}).get(f'val_CalibrationError{suffix}')
                for suffix in ('', '_calibrated')
            ]
            row += ['-' if error is None else f'{error:.4f}' for error in errors]
        table.add_row(*row, f'best/{name}.safetensors')
    return table


def print_whole(console: Console, table: Table) -> None:
    """Print a table without cutting its rows, however wide they are.

    Args:
        console: Where to print.
        table: The table.
    """
    unlimited = console.options.update(max_width=sys.maxsize)
    needed = console.measure(table, options=unlimited).maximum
    console.width = max(console.width, needed)
    console.print(table)


class RunSummary(Callback):
    """Print the best classifiers at the end, and the command to run next.

    Example:
        >>> from torchgeo_discomkd.callbacks import BestClassifiers
        >>> from torchgeo_discomkd.callbacks.run_summary import summary_table
        >>> best = BestClassifiers()
        >>> best.scores = {'ms': 0.97, 'sar': 0.85}
        >>> best.epochs = {'ms': 8, 'sar': 11}
        >>> table = summary_table(best, calibration={})
        >>> table.row_count, [column.header for column in table.columns]
        (2, ['modality', 'epoch', 'F1', 'file'])
    """

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the table.

        Args:
            trainer: The trainer.
            pl_module: The task.
        """
        best, folder = best_classifiers(trainer), run_folder(trainer)
        if not trainer.is_global_zero or not best.scores:
            return
        console = Console()
        results = [
            callback.results
            for callback in trainer.callbacks  # ty: ignore[missing-attribute]
            if isinstance(callback, Calibration)
        ]
        text = f'Best classifiers in {folder}, with scores of the validation split:'
        console.print(text, highlight=False, soft_wrap=True, markup=False)
        print_whole(console, summary_table(best, results[0] if results else {}))
        if (folder / 'config.yaml').exists():
            console.print('Next, score them on the test split:', highlight=False)
            command = f'python -m torchgeo_discomkd test --config {folder}/config.yaml'
            console.print(f'  {command}', highlight=False, soft_wrap=True)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Print how to resume a run that a signal has stopped.

        Args:
            trainer: The trainer.
            pl_module: The task.
            exception: What stopped the run.
        """
        stopped = isinstance(exception, KeyboardInterrupt | SIGTERMException)
        fitting = trainer.state.fn == TrainerFn.FITTING
        if not (stopped and fitting and trainer.is_global_zero):
            return
        folder = run_folder(trainer)
        console = Console(file=sys.stderr)
        if (folder / 'last.ckpt').exists():
            command = (
                f'python -m torchgeo_discomkd fit --config {folder}/config.yaml '
                f'--ckpt_path {folder}/last.ckpt'
            )
            text = f'Stopped. All complete epochs are kept; resume with: {command}'
            console.print(text, highlight=False, soft_wrap=True, markup=False)
        else:
            console.print(
                'Stopped before the first epoch was complete: nothing to keep.'
            )

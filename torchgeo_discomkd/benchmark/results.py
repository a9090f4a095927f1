# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Results of a benchmark, one row for each classifier and run."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import CorruptFileError, RunFolderExistsError
from ..files import write_atomically
from .config import BenchmarkConfig
from .plan import Training

#: Columns that every row has; further ones are 'F1_<class>'.
COLUMNS = (
    'run',
    'seed',
    'scenario',
    'method',
    'variant',
    'ablation',
    'readout',
    'modality',
    'teacher',
    'F1',
    'OverallAccuracy',
    'AverageAccuracy',
    'val_F1',
    'epoch',
    'seconds',
    'gflop',
    'teacher_seconds',
    'teacher_gflop',
    'parameters',
    'training',
)


class Results:
    """The folder of a benchmark.

    ``results.csv`` has the rows of all finished trainings, ``failures.json`` what went
    wrong with others, ``benchmark.json`` the configuration and ``runs/`` a folder of
    its own for every training. Files are replaced as a whole: a kill leaves the old or
    the new one.
    """

    def __init__(self, config: BenchmarkConfig) -> None:
        """Open or make the folder.

        Args:
            config: The configuration.

        Raises:
            CorruptFileError: If a file of the folder cannot be read.
            RunFolderExistsError: If the folder is of another configuration.
        """
        self.config = config
        self.folder = Path(config.results)
        self._check_owner()
        self.rows: list[dict[str, Any]] = self._read_rows()
        self.failures: dict[str, str] = self._read_json('failures.json') or {}

    @property
    def frame(self) -> pd.DataFrame:
        """All rows."""
        return pd.DataFrame(self.rows, columns=None if self.rows else list(COLUMNS))

    def run_folder(self, training: Training) -> Path:
        """Return the folder of a training; it need not exist yet.

        Args:
            training: The training.
        """
        return self.folder / 'runs' / f'run{training.run}' / training.name

    def finished(self, training: Training) -> list[dict[str, Any]]:
        """Return the rows of a training, none if it is not finished.

        Args:
            training: The training.
        """
        key = (training.run, training.name)
        return [row for row in self.rows if (row['run'], row['training']) == key]

    def claim(self) -> None:
        """Write the configuration, and with it claim the folder."""
        text = json.dumps(asdict(self.config), indent=2) + '\n'
        write_atomically(self.folder / 'benchmark.json', text.encode())

    def add(self, training: Training, rows: list[dict[str, Any]]) -> None:
        """Add the rows of a finished training, all or none of them.

        Args:
            training: The training.
            rows: A row for each of its classifiers.
        """
        self.rows += rows
        data = self.frame.to_csv(index=False).encode()
        write_atomically(self.folder / 'results.csv', data)
        if self.failures.pop(training.label, None) is not None:
            self._write_failures()

    def fail(self, training: Training, reason: str) -> None:
        """Note that a training failed.

        Args:
            training: The training.
            reason: What went wrong.
        """
        self.failures[training.label] = reason
        self._write_failures()

    def _write_failures(self) -> None:
        text = json.dumps(self.failures, indent=2) + '\n'
        write_atomically(self.folder / 'failures.json', text.encode())

    def _check_owner(self) -> None:
        if self.folder.is_file():
            raise RunFolderExistsError(
                f'{self.folder} is a file: choose a folder with --results.'
            )
        if not self.folder.exists() or not any(self.folder.iterdir()):
            return
        owner = self._read_json('benchmark.json')
        if owner is None:
            raise RunFolderExistsError(
                f'{self.folder} is not empty and holds no benchmark: choose another '
                'folder with --results.'
            )
        if differences := self.config.differences(owner):
            raise RunFolderExistsError(
                f'{self.folder} holds the results of another configuration '
                f'({"; ".join(differences)}): choose another folder with --results.'
            )

    def _read_json(self, name: str) -> Any:
        path = self.folder / name
        if not path.exists():
            return None
        try:
            return json.loads(path.read_text())
        except ValueError as error:
            raise CorruptFileError(
                f'{path} is damaged ({error}): remove it.'
            ) from error

    def _read_rows(self) -> list[dict[str, Any]]:
        path = self.folder / 'results.csv'
        if not path.exists():
            return []
        try:
            frame = pd.read_csv(path, keep_default_na=False, na_values=[''])
        except (ValueError, pd.errors.ParserError) as error:
            raise CorruptFileError(
                f'{path} is damaged ({error}): remove it.'
            ) from error
        if missing := set(COLUMNS) - set(frame.columns):
            raise CorruptFileError(f'{path} lacks the columns {sorted(missing)}.')
        return frame.to_dict('records')

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Results of a benchmark: one row for each classifier and run, and lines of tables."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import CorruptFileError, RunFolderExistsError
from ..files import write_atomically, writing
from .config import BenchmarkConfig, Scenario
from .plan import SAME_SIZE, Training, extended_variant

#: Columns that every row has; further ones are :data:`ADDED` and 'F1_<class>'.
COLUMNS = (
    *(
        'run',
        'seed',
        'scenario',
        'method',
        'variant',
        'ablation',
        'readout',
        'modality',
    ),
    *('teacher', 'F1', 'OverallAccuracy', 'AverageAccuracy', 'val_F1', 'epoch'),
    *('seconds', 'gflop', 'teacher_seconds', 'teacher_gflop', 'parameters', 'training'),
)

#: Columns that rows of earlier versions lack: code and machine of the training.
ADDED = ('version', 'hardware')


class Results:
    """The folder of a benchmark.

    ``results.csv`` contains the rows of all finished trainings, ``failures.json`` the
    reasons why others failed, ``benchmark.json`` the configuration and ``runs/`` one
    folder per training. Files are replaced as a whole: if the process is killed, either
    the old or the new version remains.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from torchgeo_discomkd.benchmark import BenchmarkConfig, plan
        >>> folder = TemporaryDirectory()
        >>> config = BenchmarkConfig(
        ...     results=folder.name, data={'class_path': 'SimulatedMSSARDataModule'},
        ...     in_channels={'ms': 13, 'sar': 2}, num_classes=10, runs=1)
        >>> results, training = Results(config), plan(config)[0]
        >>> results.claim()
        >>> row = dict.fromkeys(COLUMNS, 0) | {'training': training.name}
        >>> results.add(training, [row])
        >>> results.finished(training), len(Results(config).rows)
        (True, 1)
        >>> folder.cleanup()
    """

    def __init__(self, config: BenchmarkConfig) -> None:
        """Open the folder, or prepare a new one.

        Args:
            config: The configuration.

        Raises:
            CorruptFileError: If a file of the folder cannot be read.
            RunFolderExistsError: If the folder belongs to another configuration.
        """
        self.config = config
        self.folder = Path(config.results)
        self._check_owner()
        self.rows: list[dict[str, Any]] = self._read_rows()
        self.failures: dict[str, str] = self._read_json('failures.json') or {}

    @property
    def frame(self) -> pd.DataFrame:
        """Rows of the runs of the configuration; the folder may contain others, too."""
        rows = [row for row in self.rows if row['run'] in self.config.all_runs]
        return pd.DataFrame(rows, columns=None if rows else list(COLUMNS))

    def run_folder(self, training: Training) -> Path:
        """Return the folder of a training; it need not exist yet.

        Args:
            training: The training.
        """
        return self.folder / 'runs' / f'run{training.run}' / training.name

    def find(self, run: int, name: str) -> list[dict[str, Any]]:
        """Return the rows of a training; an empty list if it is not finished.

        Args:
            run: Number of its run.
            name: Its name.
        """
        return [r for r in self.rows if (r['run'], r['training']) == (run, name)]

    def finished(self, training: Training) -> bool:
        """Return whether a training is finished.

        Args:
            training: The training.
        """
        return bool(self.find(training.run, training.name))

    def claim(self) -> None:
        """Write the configuration, which claims the folder.

        It keeps what an earlier one asked for and this one does not: its rows are still
        there, and count as finished when they are asked for again.
        """
        owner = self._read_json('benchmark.json') or {}
        self._write_json('benchmark.json', self.config.joined(owner))

    def add(self, training: Training, rows: list[dict[str, Any]]) -> None:
        """Add all rows of a finished training at once.

        Args:
            training: The training.
            rows: A row for each of its classifiers.
        """
        self.rows += rows
        data = pd.DataFrame(self.rows).to_csv(index=False).encode()
        self._write('results.csv', data)
        if self.failures.pop(training.label, None) is not None:
            self._write_json('failures.json', self.failures)

    def fail(self, training: Training, reason: str) -> None:
        """Record that a training failed.

        Args:
            training: The training.
            reason: What went wrong.
        """
        self.failures[training.label] = reason
        self._write_json('failures.json', self.failures)

    def _write_json(self, name: str, value: Any) -> None:
        self._write(name, f'{json.dumps(value, indent=2)}\n'.encode())

    def _write(self, name: str, data: bytes) -> None:
        path = self.folder / name
        with writing(path):
            write_atomically(path, data)

    def _check_owner(self) -> None:
        if self.folder.is_file():
            raise RunFolderExistsError(
                f'{self.folder} is a file: choose a folder with --results.'
            )
        # this process, or one that was killed, has locked it with a hidden file
        found = self.folder.iterdir() if self.folder.exists() else ()
        if all(path.name == '.lock' for path in found):
            return
        owner = self._read_json('benchmark.json')
        if owner is None:
            raise RunFolderExistsError(
                f'{self.folder} is not empty and not a benchmark: choose another '
                'folder with --results.'
            )
        if differences := self.config.differences(owner):
            advice = 'choose another folder with --results.'
            if all('.root: ' in change for change in differences):
                advice += (
                    f' If these are the same data elsewhere, write the new root into '
                    f'{self.folder / "benchmark.json"}.'
                )
            raise RunFolderExistsError(
                f'{self.folder} contains the results of another configuration '
                f'({"; ".join(differences)}): {advice}'
            )

    def _read_json(self, name: str) -> Any:
        return self._read(name, lambda path: json.loads(path.read_text()))

    def _read_rows(self) -> list[dict[str, Any]]:
        frame = self._read(
            'results.csv',
            lambda path: pd.read_csv(path, keep_default_na=False, na_values=['']),
        )
        if frame is None:
            return []
        if missing := set(COLUMNS) - set(frame.columns):
            raise CorruptFileError(
                f'{self.folder / "results.csv"} lacks the columns {sorted(missing)}.'
            )
        for name in ADDED:
            frame[name] = frame.get(name, pd.Series('-', frame.index)).fillna('-')
        return frame.to_dict('records')

    def _read(self, name: str, read: Callable[[Path], Any]) -> Any:
        path = self.folder / name
        if not path.exists():
            return None
        try:
            return read(path)
        # covers errors of tables and JSON
        except ValueError as error:
            raise CorruptFileError(
                f'{path} is damaged ({error}): remove it.'
            ) from error


@dataclass(frozen=True)
class Line:
    """One line of a table: a method in a variant.

    Attributes:
        method: Name of the method in the paper.
        variant: 'ORIG', 'LSKD', 'same size', a formulation with its extension, or '-'.
        rows: Rows of the classifiers, one for each target and run.
    """

    method: str
    variant: str
    rows: pd.DataFrame

    @property
    def name(self) -> str:
        """Method and variant, if any."""
        return self.method if self.variant == '-' else f'{self.method} {self.variant}'

    def scores(self, modality: str) -> pd.Series:
        """Return the weighted F1 of every run in percent, by number of the run.

        Args:
            modality: The modality, or 'fusion'.
        """
        rows = self.rows[self.rows.modality == modality]
        return 100 * rows.set_index('run').F1.sort_index()

    @property
    def parameters(self) -> float:
        """Parameters of one deployed classifier, mean over the targets."""
        return self.rows.parameters.mean()

    @property
    def seconds(self) -> float:
        """Seconds of training for all targets, teachers included, mean over runs."""
        return self._cost('seconds')

    @property
    def gflop(self) -> float:
        """GFLOP of training for all targets, teachers included, mean over runs."""
        return self._cost('gflop')

    def _cost(self, name: str) -> float:
        # one training may give several rows, and one teacher serves several students
        own = self.rows.drop_duplicates(['run', 'training'])[name].sum()
        taught = self.rows[self.rows.teacher != '-']
        teachers = taught.drop_duplicates(['run', 'teacher'])[f'teacher_{name}'].sum()
        return (own + teachers) / self.rows.run.nunique()


def lines(
    frame: pd.DataFrame, config: BenchmarkConfig, scenario: Scenario
) -> Iterator[Line]:
    """Yield the lines of Table 1 or 2, in the order of the paper.

    Args:
        frame: All rows.
        config: The configuration.
        scenario: 'cross-modal' for Table 1, 'multi-modal' for Table 2.
    """
    targets = config.students(scenario)
    students = frame[frame.method == 'STUDENT']
    plain = students[students.variant != SAME_SIZE]
    controls = students[students.variant == SAME_SIZE]
    if scenario == 'cross-modal':
        # the teacher is the student of the teaching modality
        teacher = plain[plain.modality == config.cross_modal_teacher]
    else:
        teacher = frame[frame.method == 'TEACHER']
    found = [
        Line('TEACHER', '-', teacher),
        Line('STUDENT', '-', plain[plain.modality.isin(targets)]),
        Line('STUDENT', SAME_SIZE, controls[controls.modality.isin(targets)]),
    ]
    taught = frame[frame.modality.isin(targets)]
    for method in config.methods:
        for variant in config.variants:
            mask = (taught.method == method) & (taught.variant == variant)
            rows = taught[mask & (taught.scenario == scenario)]
            found.append(Line(method, variant, rows))
    extended = [extended_variant(config, e) for e in config.extensions]
    for variant in (*config.formulations, *extended):
        found.append(discomkd(taught, variant))
    yield from (line for line in found if len(line.rows))


def discomkd(
    frame: pd.DataFrame, variant: str, ablation: str = '-', readout: str = 'full'
) -> Line:
    """Return the line of DisCoM-KD.

    Args:
        frame: All rows.
        variant: Its formulation, with an extension if any.
        ablation: Omitted term, as in Table 3 of the paper; '-' for none.
        readout: Embedding to classify from, as in Table 4 of the paper.
    """
    mask = (
        (frame.method == 'DisCoM-KD')
        & (frame.variant == variant)
        & (frame.ablation == ablation)
        & (frame.readout == readout)
    )
    return Line('DisCoM-KD', variant, frame[mask])

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Configuration of a benchmark."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from jsonargparse import ArgumentError, ArgumentParser

from ..errors import SettingError
from ..losses import CTKD, DKD, KD, MLKD, DistillationLoss, Preset

Scenario = Literal['cross-modal', 'multi-modal']
Variant = Literal['ORIG', 'LSKD']
Formulation = Literal['paper', 'released']
Term = Literal['adversarial', 'modality', 'auxiliary', 'orthogonality']

#: Loss of each competitor, by preset and whether logits are standardised.
METHODS: dict[str, Callable[[Preset, bool], DistillationLoss]] = {
    'KDv1': partial(KD.preset, alpha=0.0),
    'KDv2': partial(KD.preset, alpha=0.5),
    'DKD': DKD.preset,
    'CTKD': CTKD.preset,
    'MLKD': MLKD.preset,
}

#: Fields that may be extended later without invalidating existing results.
EXTENSIBLE = frozenset(
    {'ablations', 'formulations', 'methods', 'paper_dataset', 'results'}
    | {'run_data', 'runs', 'scenarios', 'targets', 'variants'}
)


@dataclass(frozen=True)
class BenchmarkConfig:
    """Methods x scenarios x modalities x runs, under the same protocol.

    Plain classifiers of every modality (STUDENT) and the teachers are always trained.

    Attributes:
        results: Folder of the results and of all trainings.
        data: Data module and its arguments, as in a configuration of ``fit``.
        in_channels: Number of bands of each modality.
        num_classes: Number of classes.
        teacher: Teacher of the cross-modal scenario. Default: the first modality.
        targets: Modalities to classify. Default: all modalities, in the cross-modal
            scenario without the teacher.
        scenarios: 'cross-modal': a teacher with one other modality; 'multi-modal': a
            teacher with all modalities.
        methods: Competitors that learn from a teacher: any of :data:`METHODS`.
            Default: all.
        variants: Competitors as published ('ORIG') and with standardised logits
            ('LSKD').
        formulations: DisCoM-KD by the equations of the paper ('paper') and as computed
            by its released code ('released').
        ablations: Terms of the loss to omit in turn, for the first formulation
            (Table 3).
        runs: Number of runs. Run k has seed *seed* + k and split k.
        seed: Seed of the first run.
        run_data: Further arguments of the data module for each run, for example the
            test groups.
        preset: Settings of the competitors, see
            :meth:`~torchgeo_discomkd.losses.DistillationLoss.preset`.
        model: Name of the timm encoder of all networks.
        normalization: Normalisation of all classifiers.
        lr: Learning rate of Adam.
        trainer: Arguments of the trainer, as in a configuration of ``fit``.
        optimizer: Optimizer instead of Adam, as in a configuration of ``fit``.
        lr_scheduler: Learning rate scheduler, as in a configuration of ``fit``.
        teacher_in_training_mode: Whether the teacher is left in training mode, as in
            the authors' own comparison.
        augment_students: Whether plain classifiers of one modality are trained with
            augmentation; those of the authors' own comparison were not.
        paper_dataset: Data set of the paper whose published values are shown next to
            the measured ones.

    Example:
        >>> config = BenchmarkConfig(
        ...     results='runs/mine', data={'class_path': 'SimulatedMSSARDataModule'},
        ...     in_channels={'ms': 13, 'sar': 2}, num_classes=10, runs=1)
        >>> config.cross_modal_teacher, config.students('cross-modal')
        ('ms', ['sar'])
        >>> config.methods
        ['KDv1', 'KDv2', 'DKD', 'CTKD', 'MLKD']
    """

    results: str
    data: dict[str, Any]
    in_channels: dict[str, int]
    num_classes: int
    teacher: str | None = None
    targets: list[str] | None = None
    scenarios: list[Scenario] = field(default_factory=lambda: list(get_args(Scenario)))
    methods: list[str] = field(default_factory=lambda: list(METHODS))
    variants: list[Variant] = field(default_factory=lambda: ['ORIG', 'LSKD'])
    formulations: list[Formulation] = field(default_factory=lambda: ['paper'])
    ablations: list[Term] = field(default_factory=lambda: list(get_args(Term)))
    runs: int = 5
    seed: int = 0
    run_data: list[dict[str, Any]] | None = None
    preset: Preset = 'default'
    model: str = 'resnet18'
    normalization: Literal['standardize', 'percentile', 'none'] = 'standardize'
    lr: float = 1e-4
    trainer: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] | None = None
    lr_scheduler: dict[str, Any] | None = None
    teacher_in_training_mode: bool = False
    augment_students: bool = True
    paper_dataset: Literal['SUNRGBD', 'EuroSat-MS-SAR', 'TRISTAR'] | None = None

    def __post_init__(self) -> None:
        """Check the fields against each other.

        Raises:
            SettingError: If they contradict each other.
        """
        modalities = list(self.in_channels)
        problems = {
            f'data={self.data}: name the class_path of a data module': (
                not isinstance(self.data.get('class_path'), str)
            ),
            f'in_channels={self.in_channels}: name two modalities or more': (
                len(modalities) < 2
            ),
            f'runs={self.runs}: set it to 1 or more': self.runs < 1,
            f'scenarios={self.scenarios}: name one or more': not self.scenarios,
            f"formulations={self.formulations}: 'released' needs two modalities": (
                'released' in self.formulations and len(modalities) != 2
            ),
            f'formulations={self.formulations}: name one or more': (
                not self.formulations
            ),
            f'teacher={self.teacher}: name one of {modalities}': (
                self.teacher not in (None, *modalities)
            ),
            f'targets={self.targets}: name some of {modalities}': (
                not set(self.targets or modalities) <= set(modalities)
            ),
            f'methods={self.methods}: name some of {list(METHODS)}': (
                not set(self.methods) <= set(METHODS)
            ),
            f'run_data has {len(self.run_data or [])} entries: give one for each of '
            f'the {self.runs} runs': (
                self.run_data is not None and len(self.run_data) < self.runs
            ),
        }
        for name in ('methods', 'variants', 'formulations', 'ablations', 'scenarios'):
            values = getattr(self, name)
            twice = len(set(values)) < len(values)
            problems[f'{name}={values}: name each once'] = twice
        found = [problem for problem, present in problems.items() if present]
        if found:
            raise SettingError(f'{"; ".join(found)}.')

    @property
    def modalities(self) -> tuple[str, ...]:
        """All modalities, in order."""
        return tuple(self.in_channels)

    @property
    def cross_modal_teacher(self) -> str:
        """Teacher of the cross-modal scenario."""
        return self.teacher or self.modalities[0]

    def students(self, scenario: Scenario) -> list[str]:
        """Return the modalities to classify in a scenario.

        Args:
            scenario: The scenario.
        """
        targets = self.targets or list(self.modalities)
        if scenario == 'multi-modal':
            return list(targets)
        return [m for m in targets if m != self.cross_modal_teacher]

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """Return differences that prevent sharing results with another configuration.

        Args:
            other: The other configuration, as a dictionary from ``asdict``.

        Returns:
            '<field>: <theirs> -> <ours>' for each relevant field.
        """
        own = asdict(self)
        names = [n for n in own if n not in EXTENSIBLE and own[n] != other.get(n)]
        found = [f'{n}: {other.get(n)} -> {own[n]}' for n in names]
        # runs may be added, but existing ones must stay the same
        ours, theirs = own['run_data'], other.get('run_data')
        runs = range(min(self.runs, other.get('runs') or 0))
        if any(_nth(ours, run) != _nth(theirs, run) for run in runs):
            found.append(f'run_data: {theirs} -> {ours}')
        # ablations and read-outs belong to the first one
        if own['formulations'][:1] != (other.get('formulations') or [None])[:1]:
            found.append('formulations: the first one differs')
        return found


def _nth(values: Sequence[Any] | None, run: int) -> Any:
    return None if values is None else values[run]


def read_config(
    path: str | Path, overrides: list[str] | None = None
) -> BenchmarkConfig:
    """Read a configuration file.

    Args:
        path: YAML file.
        overrides: Arguments that replace values of the file, for example
            ``['--runs', '2']``.

    Returns:
        The configuration.

    Raises:
        SettingError: If the file cannot be read, a field is unknown or a value invalid.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> text = '''
        ... results: runs/mine
        ... in_channels: {ms: 13, sar: 2}
        ... num_classes: 3
        ... data: {class_path: PairedFoldersDataModule, init_args: {root: my_tiles}}
        ... '''
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, 'mine.yaml')
        ...     _ = path.write_text(text)
        ...     config = read_config(path, ['--runs', '2', '--data.root', 'tiles'])
        >>> config.runs, config.data['init_args']
        (2, {'root': 'tiles'})
    """
    if not Path(path).is_file():
        raise SettingError(
            f'{path}: there is no such file. Give a benchmark configuration, for '
            'example configs/benchmark/quick.yaml.'
        )
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument('--config', action='config')
    parser.add_class_arguments(BenchmarkConfig)
    try:
        values = parser.parse_args(['--config', str(path), *(overrides or [])])
        fields = {k: v for k, v in values.as_dict().items() if k != 'config'}
        for name in ('data', 'optimizer', 'lr_scheduler'):
            fields[name] = _class_config(fields[name])
        return BenchmarkConfig(**fields)
    except (ArgumentError, ValueError) as error:
        raise SettingError(f'{path}: {error}') from error


def _class_config(value: dict[str, Any] | None) -> dict[str, Any] | None:
    """Move values from the command line, e.g. --data.root, to the arguments."""
    if value is None:
        return None
    names = ('class_path', 'init_args')
    replaced = {k: v for k, v in value.items() if k not in names}
    init_args = {**(value.get('init_args') or {}), **replaced}
    return {'class_path': value.get('class_path'), 'init_args': init_args}

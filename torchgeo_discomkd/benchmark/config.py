# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Configuration of a benchmark."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from functools import partial
from typing import Any, Literal, get_args

from ..errors import SettingError
from ..losses import CTKD, DKD, KD, MLKD, DistillationLoss, Preset
from ..losses.distillation import ONLY_SIGN
from ..metadata import LabelTask

Scenario = Literal['cross-modal', 'multi-modal']
Variant = Literal['ORIG', 'LSKD']
Formulation = Literal['paper', 'released']
Control = Literal['same_size']
Extension = Literal[
    'transfer',
    'unlabelled',
    'transfer+unlabelled',
    'pairwise',
    'one-vs-rest',
    'constant-share',
]
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
    {'ablations', 'controls', 'extensions', 'formulations', 'methods', 'paper_dataset'}
    | {'results', 'run_data', 'runs', 'scenarios', 'seeds', 'targets', 'variants'}
)

#: Arguments of extensions, and the extension that takes them.
ARGUMENTS = {'transfer': 'transfer', 'unlabelled_ratio': 'unlabelled'}

#: Fields that name rows of the tables.
ROWS = (
    *('ablations', 'controls', 'extensions', 'formulations', 'methods', 'scenarios'),
    'variants',
)

#: Arguments of the data module that name samples without labels.
UNLABELLED = ('unlabelled', 'unlabelled_groups')


@dataclass(frozen=True)
class BenchmarkConfig:
    """Methods x scenarios x modalities x runs, under the same protocol.

    Plain classifiers of every modality (STUDENT) and the teachers are always trained.

    A *run* is one training of every method. With R *runs* and S *seeds* there are
    R x S of them: run k has seed *seed* + k and rotation k mod R, which is the split of
    the data module or the entry of *run_data*. Runs 0 to R - 1 thus are the same for
    any number of seeds.

    Attributes:
        results: Folder of the results and of all trainings.
        data: Data module and its arguments, as in a configuration of ``fit``.
        in_channels: Number of bands of each modality.
        num_classes: Number of classes.
        task: Kind of labels, as for :class:`~torchgeo_discomkd.tasks.DisCoMKD`. With
            'multilabel', methods and variants that compare softmax probabilities are
            left out, with 'binary' LSKD, see :attr:`left_out`.
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
        controls: What stands beside the plain classifiers: 'same_size', the network
            that DisCoM-KD deploys, trained alone with cross-entropy.
        extensions: Further trainings of the first formulation: with 'transfer' between
            paired samples, with the 'unlabelled' part of the data, or both; with
            another *adversary* ('pairwise', 'one-vs-rest'); or with the
            'constant_share' of *term_scale*.
        transfer: Arguments of :class:`~torchgeo_discomkd.tasks.DisCoMKD` for
            extensions with transfer, for example *transfer_guide*.
        unlabelled_ratio: Argument of the data module for extensions with the unlabelled
            part. All other trainings do not see it.
        runs: Number of rotations of the data, each with a split of its own.
        seeds: Number of trainings on each of them.
        seed: Seed of the first run.
        run_data: Further arguments of the data module for each rotation, for example
            the test groups.
        resample_by: Column of the data module's table of groups. Intervals come from
            resampling these groups of test samples. Default: the groups of the split,
            if it has some.
        preset: Settings of the competitors, see
            :meth:`~torchgeo_discomkd.losses.DistillationLoss.preset`.
        model: Name of the timm encoder of all networks.
        normalization: Normalisation of all classifiers.
        lr: Learning rate of Adam.
        trainer: Arguments of the trainer, as in a configuration of ``fit``; each
            training has one device.
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
    controls: list[Control] = field(default_factory=lambda: list(get_args(Control)))
    extensions: list[Extension] = field(default_factory=list)
    transfer: dict[str, Any] = field(default_factory=dict)
    unlabelled_ratio: float = 1.0
    runs: int = 5
    seeds: int = 1
    seed: int = 0
    run_data: list[dict[str, Any]] | None = None
    resample_by: str | None = None
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
    task: LabelTask = 'multiclass'

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
            f'seeds={self.seeds}: set it to 1 or more': self.seeds < 1,
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
            f'task={self.task}: use multiclass, multilabel or binary': (
                self.task not in get_args(LabelTask.__value__)
            ),
            f'task=binary has two classes: set num_classes={self.num_classes} to 2': (
                self.task == 'binary' and self.num_classes != 2
            ),
            f'methods={self.methods}: name some of {list(METHODS)}': (
                not set(self.methods) <= set(METHODS)
            ),
            f'run_data has {len(self.run_data or [])} entries: give one for each of '
            f'the {self.runs} runs': (
                self.run_data is not None and len(self.run_data) < self.runs
            ),
        }
        problems |= self._extension_problems() | self._optimizer_problems()
        for name in ROWS:
            values = getattr(self, name)
            twice = len(set(values)) < len(values)
            problems[f'{name}={values}: name each once'] = twice
        found = [problem for problem, present in problems.items() if present]
        if found:
            raise SettingError(f'{"; ".join(found)}.')

    def _extension_problems(self) -> dict[str, bool]:
        without_labels = any('unlabelled' in name for name in self.extensions)
        ratio = self.unlabelled_ratio
        adversaries = {'pairwise', 'one-vs-rest'} & set(self.extensions)
        return {
            f'extensions={self.extensions}: name the formulation paper first, another '
            "adversary is not defined for 'released'": bool(adversaries)
            and self.formulations[:1] == ['released'],
            f'extensions={self.extensions}: the data have no unlabelled part. Name it '
            f'in the arguments of the data module ({" or ".join(UNLABELLED)}), or in '
            'run_data for every run': without_labels and not self._all_unlabelled,
            f'unlabelled_ratio={ratio}: set it above 0': ratio <= 0,
            f'transfer={self.transfer}: it needs an extension with transfer': bool(
                self.transfer
            )
            and not any('transfer' in name for name in self.extensions),
            'data.init_args.unlabelled_ratio: the trainings differ in it. Set '
            'unlabelled_ratio of the benchmark': any(
                'unlabelled_ratio' in args for args in self._data_args
            ),
        }

    def _optimizer_problems(self) -> dict[str, bool]:
        if self.optimizer is None:
            return {}
        rate = (self.optimizer.get('init_args') or {}).get('lr')
        # YAML takes 1e-3 for a text
        rate = None if rate is None else float(rate)
        lr = next(f.default for f in fields(self) if f.name == 'lr')
        loss = CTKD.preset(self.preset)
        return {
            f'lr={self.lr} has no effect with an optimizer of lr={rate}: give both the '
            'same rate, or omit lr': self.lr not in (lr, rate),
            f'methods={self.methods}: CTKD trains its temperature at lr={loss.lr} with '
            f'preset={self.preset}, which the optimizer of lr={rate} would not. Leave '
            f'out CTKD or the optimizer, or give the optimizer lr={loss.lr}': (
                'CTKD' in dict(self.competitors) and loss.lr != rate
            ),
        }

    @property
    def _data_args(self) -> list[Mapping[str, Any]]:
        return [self.data.get('init_args') or {}, *(self.run_data or [])]

    @property
    def has_unlabelled(self) -> bool:
        """Whether a part of the data is given without labels."""
        return any(args.get(name) for args in self._data_args for name in UNLABELLED)

    @property
    def _all_unlabelled(self) -> bool:
        args, runs = self.data.get('init_args') or {}, self.run_data or [{}]
        parts = [args | run for run in runs[: self.runs]]
        return all(any(part.get(name) for name in UNLABELLED) for part in parts)

    @property
    def all_runs(self) -> range:
        """Numbers of all runs: every rotation with every seed."""
        return range(self.runs * self.seeds)

    def rotation(self, run: int) -> int:
        """Return the number of the split of a run.

        Args:
            run: Number of the run.
        """
        return run % self.runs

    @property
    def modalities(self) -> tuple[str, ...]:
        """All modalities, in order."""
        return tuple(self.in_channels)

    @property
    def competitors(self) -> list[tuple[str, Variant]]:
        """Methods and variants that are defined for the kind of labels."""
        every = [(m, v) for m in self.methods for v in self.variants]
        if self.task == 'multiclass':
            return every
        if self.task == 'binary':
            return [(m, v) for m, v in every if v == 'ORIG']
        return [(m, v) for m, v in every if m in ('KDv1', 'KDv2') and v == 'ORIG']

    @property
    def left_out(self) -> list[str]:
        """Competitors that are not defined for the kind of labels, with their variant.

        DKD, CTKD and MLKD compare softmax probabilities, and LSKD subtracts what only a
        softmax ignores; no form for several labels in a sample is published. With
        'binary' it is LSKD alone, which leaves of two logits only their order.
        """
        known = self.competitors
        every = [(m, v) for m in self.methods for v in self.variants]
        return [' '.join(each) for each in every if each not in known]

    @property
    def note_on_left_out(self) -> str:
        """What is left out and why; empty if nothing is."""
        if not self.left_out:
            return ''
        reason = 'no form for several labels in a sample (task=multilabel) is published'
        if self.task == 'binary':
            reason = f'standardising (LSKD) leaves {ONLY_SIGN} (task=binary)'
        return f'{", ".join(self.left_out)}: {reason}.'

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
            '<field>: <theirs> -> <ours>' for each relevant field; fields of fields have
            dotted names.
        """
        own = asdict(self)
        # an earlier version did not know all fields
        theirs = _defaults() | dict(other)
        names = own.keys() - EXTENSIBLE
        names -= {n for n, of in ARGUMENTS.items() if not _use(of, own, theirs)}
        orders = [list(config['in_channels']) for config in (theirs, own)]
        found = list(_changes('order of in_channels', *orders))
        found += [
            change
            for n in own
            if n in names
            for change in _changes(n, theirs.get(n), own[n])
        ]
        # runs may be added, but existing ones must stay the same
        for run in self.all_runs[: theirs['runs'] * theirs['seeds']]:
            rotation = run % theirs['runs']
            if rotation != self.rotation(run):
                change = f'{theirs["runs"]} x {theirs["seeds"]}'
                found.append(f'runs x seeds: {change} -> {self.runs} x {self.seeds}')
                break
            if _nth(self.run_data, rotation) != _nth(theirs['run_data'], rotation):
                found.append(f'run_data: {theirs["run_data"]} -> {self.run_data}')
                break
        # ablations and read-outs belong to the first one
        if own['formulations'][:1] != (other.get('formulations') or [None])[:1]:
            found.append('formulations: the first one differs')
        return found

    def joined(self, other: Mapping[str, Any]) -> dict[str, Any]:
        """Return this configuration, with all that another one asks for as well.

        Args:
            other: A configuration that may share its results, as a dictionary from
                ``asdict``; empty if there is none.

        Returns:
            A dictionary like that from ``asdict``.
        """
        own, theirs = asdict(self), _defaults() | dict(other)
        if not other:
            return own
        if theirs['runs'] * theirs['seeds'] > len(self.all_runs):
            own |= {name: theirs[name] for name in ('runs', 'seeds', 'run_data')}
        own |= {n: theirs[n] for n, of in ARGUMENTS.items() if _use(of, theirs)}
        for name in ROWS:
            own[name] = list(dict.fromkeys([*theirs[name], *own[name]]))
        if None not in (own['targets'], theirs['targets']):
            own['targets'] = list(dict.fromkeys([*theirs['targets'], *own['targets']]))
        else:
            own['targets'] = None
        return own


def _use(extension: str, *configs: Mapping[str, Any]) -> bool:
    """Return whether all configurations have an extension, alone or with another."""
    return all(any(extension in e for e in c['extensions']) for c in configs)


def _defaults() -> dict[str, Any]:
    """Return the values of fields that have defaults."""
    return {
        f.name: f.default if f.default_factory is MISSING else f.default_factory()
        for f in fields(BenchmarkConfig)
        if f.default is not MISSING or f.default_factory is not MISSING
    }


def _changes(name: str, theirs: Any, own: Any) -> Iterator[str]:
    """Yield the differences of two values, for dictionaries those of their entries."""
    if isinstance(theirs, Mapping) and isinstance(own, Mapping):
        for key in dict.fromkeys([*theirs, *own]):
            yield from _changes(
                f'{name}.{key}', theirs.get(key, '-'), own.get(key, '-')
            )
    elif theirs != own:
        yield f'{name}: {theirs} -> {own}'


def _nth(values: Sequence[Any] | None, run: int) -> Any:
    return None if values is None else values[run]

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""The trainings of a benchmark, in order."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from .config import METHODS, BenchmarkConfig

#: Name in the paper of each term of the loss.
SYMBOLS = {
    'adversarial': 'L_adv',
    'modality': 'L_mod',
    'auxiliary': 'L_aux',
    'orthogonality': 'L_perp',
}

#: Variant of a plain classifier with the network that DisCoM-KD deploys.
SAME_SIZE = 'same size'


@dataclass(frozen=True)
class Training:
    """One training: an ordinary ``fit`` into a separate folder.

    Attributes:
        run: Number of the run, from 0.
        name: Name of the folder, unique in its run.
        method: 'STUDENT', 'TEACHER', a competitor or 'DisCoM-KD'.
        modalities: Modalities that are classified.
        task: Class of the task.
        task_args: Its arguments, without a teacher's file.
        data_args: Arguments of the data module.
        variant: 'ORIG' or 'LSKD' for a competitor, :data:`SAME_SIZE` for a control, the
            formulation and extension for DisCoM-KD, else '-'.
        scenario: Scenario of a competitor; '-' for trainings of both.
        teacher: Name of the training whose classifier is the teacher; None without
            one.
        ablation: Omitted term of the loss; '-' if none.
        encoders: Number of encoders that are trained.
        teacher_encoders: Number of encoders that only teach.

    Example:
        >>> training = Training(
        ...     run=0, name='student-sar', method='STUDENT', modalities=('sar',),
        ...     task='FusionClassification', task_args={'in_channels': {'sar': 2}},
        ...     data_args={'modalities': ['sar']})
        >>> training.label, training.work
        ('run 0: student-sar', 3)
    """

    run: int
    name: str
    method: str
    modalities: tuple[str, ...]
    task: str
    task_args: dict[str, Any]
    data_args: dict[str, Any]
    variant: str = '-'
    scenario: str = '-'
    teacher: str | None = None
    ablation: str = '-'
    encoders: int = 1
    teacher_encoders: int = 0

    @property
    def work(self) -> int:
        """Forward and backward passes per sample, in forward passes of one encoder."""
        return 3 * self.encoders + self.teacher_encoders

    @property
    def label(self) -> str:
        """Short description for messages."""
        return f'run {self.run}: {self.name}'


def plan(config: BenchmarkConfig) -> list[Training]:
    """Return all trainings, teachers before their students, one run after the other.

    Args:
        config: The configuration.

    Returns:
        The trainings.

    Example:
        >>> from torchgeo_discomkd.benchmark import BenchmarkConfig
        >>> config = BenchmarkConfig(
        ...     results='runs/mine', data={'class_path': 'SimulatedMSSARDataModule'},
        ...     in_channels={'ms': 13, 'sar': 2}, num_classes=10, runs=1,
        ...     scenarios=['cross-modal'], methods=['KDv1'], ablations=[])
        >>> for training in plan(config):
        ...     print(training.name)
        student-ms
        student-sar
        student-same-size-sar
        discomkd-paper
        kdv1-sar-from-ms
        kdv1-lskd-sar-from-ms
    """
    trainings = []
    for run in config.all_runs:
        trainings += list(_students(config, run))
        if config.controls:
            trainings += list(_controls(config, run))
        if 'multi-modal' in config.scenarios:
            trainings.append(_fusion(config, run))
        trainings += [_discomkd(config, run, f) for f in config.formulations]
        trainings += [_extended(config, run, e) for e in config.extensions]
        trainings += list(_competitors(config, run))
        first = config.formulations[0]
        trainings += [_discomkd(config, run, first, t) for t in config.ablations]
    return trainings


def _students(config: BenchmarkConfig, run: int) -> Iterator[Training]:
    wanted = _targets(config)
    if 'cross-modal' in config.scenarios:
        wanted.add(config.cross_modal_teacher)
    for modality in config.modalities:
        if modality in wanted:
            yield _student(config, run, modality)


def _controls(config: BenchmarkConfig, run: int) -> Iterator[Training]:
    for modality in config.modalities:
        if modality in _targets(config):
            plain = _student(config, run, modality)
            yield replace(
                plain,
                name=f'student-same-size-{modality}',
                variant=SAME_SIZE,
                task_args=plain.task_args | {'network': 'same_size'},
                encoders=2,
            )


def _targets(config: BenchmarkConfig) -> set[str]:
    return {m for scenario in config.scenarios for m in config.students(scenario)}


def _student(config: BenchmarkConfig, run: int, modality: str) -> Training:
    return Training(
        run=run,
        name=f'student-{modality}',
        method='STUDENT',
        modalities=(modality,),
        task='FusionClassification',
        task_args={'in_channels': _channels(config, [modality])},
        data_args={'modalities': [modality], 'augment': config.augment_students},
    )


def _fusion(config: BenchmarkConfig, run: int) -> Training:
    return Training(
        run=run,
        name='teacher-fusion',
        method='TEACHER',
        scenario='multi-modal',
        modalities=config.modalities,
        task='FusionClassification',
        task_args={'in_channels': dict(config.in_channels)},
        data_args={'modalities': list(config.modalities), 'paired': True},
        encoders=len(config.modalities),
    )


def _competitors(config: BenchmarkConfig, run: int) -> Iterator[Training]:
    for scenario in config.scenarios:
        cross = scenario == 'cross-modal'
        sources = [config.cross_modal_teacher] if cross else list(config.modalities)
        source = sources[0] if cross else 'fusion'
        for target in config.students(scenario):
            for method, variant in config.competitors:
                loss = METHODS[method](config.preset, variant == 'LSKD')
                suffix = '-lskd' if variant == 'LSKD' else ''
                yield Training(
                    run=run,
                    name=f'{method.lower()}{suffix}-{target}-from-{source}',
                    method=method,
                    variant=variant,
                    scenario=scenario,
                    modalities=(target,),
                    task='Distillation',
                    task_args={
                        'in_channels': _channels(config, [target]),
                        'loss': loss.config(),
                        'teacher_in_training_mode': config.teacher_in_training_mode,
                    },
                    data_args={
                        'modalities': [
                            m for m in config.modalities if m in {target, *sources}
                        ],
                        'paired': True,
                    },
                    teacher=f'student-{source}' if cross else 'teacher-fusion',
                    teacher_encoders=len(sources),
                )


def _discomkd(
    config: BenchmarkConfig, run: int, formulation: str, ablation: str = '-'
) -> Training:
    without = {} if ablation == '-' else {f'{ablation}_weight': 0.0}
    suffix = '' if ablation == '-' else f'-without-{ablation}'
    return Training(
        run=run,
        name=f'discomkd-{formulation}{suffix}',
        method='DisCoM-KD',
        variant=formulation,
        modalities=config.modalities,
        task='DisCoMKD',
        task_args={
            'in_channels': dict(config.in_channels),
            'formulation': formulation,
            **without,
        },
        data_args={'modalities': list(config.modalities)},
        ablation=ablation,
        encoders=2 * len(config.modalities),
    )


def extended_variant(config: BenchmarkConfig, extension: str) -> str:
    """Return the variant of an extension, for example 'paper + transfer'.

    Args:
        config: The configuration.
        extension: One of its extensions.
    """
    return ' + '.join([config.formulations[0], *extension.split('+')])


def _extended(config: BenchmarkConfig, run: int, extension: str) -> Training:
    own = _discomkd(config, run, config.formulations[0])
    task_args, data_args = own.task_args, own.data_args
    if 'transfer' in extension:
        task_args = task_args | {'transfer': True, **config.transfer}
        data_args = data_args | {'paired': True}
    if extension in ('pairwise', 'one-vs-rest'):
        task_args = task_args | {'adversary': extension}
    if extension == 'constant-share':
        task_args = task_args | {'term_scale': 'constant_share'}
    if 'unlabelled' in extension:
        data_args = data_args | {'unlabelled_ratio': config.unlabelled_ratio}
    return replace(
        own,
        name=f'{own.name}-{extension.replace("+", "-")}',
        variant=extended_variant(config, extension),
        task_args=task_args,
        data_args=data_args,
    )


def _channels(config: BenchmarkConfig, modalities: list[str]) -> dict[str, int]:
    return {m: config.in_channels[m] for m in modalities}

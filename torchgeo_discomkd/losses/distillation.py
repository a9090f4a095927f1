# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""What all distillation methods share: weights, presets, standardised logits.

Logit standardisation (LSKD), a plug-in for every method, is that of Sun et al., CVPR
2024, https://arxiv.org/abs/2403.01427, Algorithm 1.
"""

import math
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from inspect import signature
from typing import Any, ClassVar, Literal, NamedTuple

from torch import Tensor, nn

from ..errors import SettingError
from ..metadata import LabelTask
from .logits import check_logits, widen

Preset = Literal['default', 'authors', 'official']

#: What standardising makes of two logits.
ONLY_SIGN = 'of two logits only which one is larger'


class Need(NamedTuple):
    """A condition on an argument of a loss.

    Attributes:
        text: The condition in words.
        holds: Returns whether a value meets it.
    """

    text: str
    holds: Callable[[Any], bool]


FRACTION = Need('a number from 0 to 1', lambda x: 0 <= x <= 1)
NOT_NEGATIVE = Need('0 or a positive number', lambda x: 0 <= x < math.inf)
POSITIVE = Need('a positive number', lambda x: 0 < x < math.inf)
ALL_POSITIVE = Need(
    'one positive number or more', lambda x: bool(x) and all(map(POSITIVE.holds, x))
)
EPOCHS = Need('a number of epochs, 1 or more', lambda x: x >= 1)
FIRST_EPOCH = Need('0 or 1', lambda x: x in (0, 1))
SWITCH = Need('true or false', lambda x: isinstance(x, bool))


class DistillationLoss(nn.Module, ABC):
    """What a student learns from its teacher's logits, besides the cross-entropy.

    A method is a subclass with a :meth:`forward` and the decorator
    ``@dataclass(eq=False)``: its fields are its settings, which are checked, returned
    by :meth:`config` and read by the command line. The whole loss of a training step
    is::

        entropy_weight, weight = loss.weights(epoch)
        distillation = loss(student_logits, teacher_logits, target, epoch)
        total = entropy_weight * cross_entropy + weight * distillation

    Parameters of the loss itself belong in the optimizer of the student.

    Attributes:
        two_views: Whether the loss compares a weak and a strong view of each image.
            :meth:`forward` then also takes *strong*, the logits of student and teacher
            for the strong view.
        PRESETS: Settings of each preset: 'authors' (what the authors of DisCoM-KD
            changed for the tables of their paper), 'official' (what the method's own
            repository uses instead, for CIFAR-100 if it has that) and
            'official_standardized' (what the repository of LSKD changes on top).
        NEEDS: Condition on each setting. Default: numbers are 0 or more.
        TASKS: Kinds of labels that it is defined for.
        task: Kind of labels of the student.
        cross_entropy_weight: Weight of the cross-entropy.
        distillation_weight: Weight of the distillation loss.
        standardize: Whether the logits are standardised before they are compared
            (LSKD).
        lr: Learning rate of the parameters of the loss itself. Default: the student's.
        monitored: Values of the last call that are worth plotting: scalars by name.
        MONITORED: Names of these values.

    Example:
        >>> from dataclasses import dataclass
        >>> from torch.nn.functional import mse_loss
        >>> from torchgeo_discomkd.losses import DistillationLoss
        >>> @dataclass(eq=False)
        ... class LogitMatching(DistillationLoss):
        ...     distillation_weight: float = 0.5
        ...     def forward(self, student_logits, teacher_logits, target, epoch):
        ...         return mse_loss(student_logits, teacher_logits.detach())
        >>> LogitMatching().weights(epoch=0)
        (1.0, 0.5)
        >>> LogitMatching(distillation_weight=2.0).config()['init_args']
        {'distillation_weight': 2.0}
    """

    two_views: ClassVar[bool] = False
    MONITORED: ClassVar[tuple[str, ...]] = ()
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    NEEDS: ClassVar[Mapping[str, Need]] = {}
    TASKS: ClassVar[tuple[LabelTask, ...]] = ('multiclass', 'binary')
    task: ClassVar[LabelTask] = 'multiclass'
    cross_entropy_weight: float = 1.0
    distillation_weight: float = 1.0
    standardize: bool = False
    lr: float | None = None

    def __init__(self) -> None:
        """Initialize a new DistillationLoss instance."""
        super().__init__()
        self.monitored: dict[str, Tensor] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        """Let a class that computes something else not inherit what that depends on."""
        super().__init_subclass__(**options)
        own = vars(cls)
        if 'schedule' not in own and own.keys() & {'forward', 'weights', 'comparable'}:
            cls.schedule = DistillationLoss.schedule

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            SettingError: If one is out of range.
        """
        # a dataclass does not call it
        DistillationLoss.__init__(self)
        for name, setting in signature(type(self)).parameters.items():
            need = self.NEEDS.get(name)
            if need is None and isinstance(setting.default, int | float):
                need = SWITCH if isinstance(setting.default, bool) else NOT_NEGATIVE
            value = getattr(self, name)
            if need is None:
                continue
            try:
                fits = need.holds(value)
            except TypeError:
                fits = False
            if not fits:
                raise SettingError(
                    f'{name}={value}: set --model.loss.{name} to {need.text}.'
                )

    def prepare(self, num_classes: int) -> None:
        """Create what depends on the number of classes; here nothing does.

        Args:
            num_classes: Number of classes of the student.
        """

    def adopt(self, task: LabelTask, num_classes: int | None = None) -> None:
        """Take the form that the method has for a kind of labels.

        Args:
            task: Kind of labels of the student.
            num_classes: Number of its classes, if it is known.

        Raises:
            SettingError: If the method has no such form.

        Warns:
            UserWarning: If the logits of two classes are standardised.
        """
        name = type(self).__name__
        if task not in self.TASKS:
            raise SettingError(
                f'{name} compares softmax probabilities of classes and has no '
                f'published form for task={task!r}: use --model.loss KD, or '
                'FusionClassification without a teacher.'
            )
        if task == 'multilabel' and self.standardize:
            raise SettingError(
                'standardize=True (LSKD) subtracts the mean over classes, which only '
                "a softmax ignores: leave it out with task='multilabel'."
            )
        if task == 'binary' and self.standardize:
            raise SettingError(
                f'standardize=True (LSKD) leaves {ONLY_SIGN}: leave it out with '
                "task='binary'."
            )
        if num_classes == 2 and self.standardize:
            warnings.warn(
                f'{name}: standardize=True (LSKD) leaves {ONLY_SIGN}, so the student '
                'learns from the answer of its teacher, not from its probabilities.',
                stacklevel=3,
            )
        vars(self)['task'] = task

    @abstractmethod
    def forward(
        self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor, epoch: int
    ) -> Tensor:
        """Compute the distillation loss, without its weight.

        Args:
            student_logits: Shape (B, C).
            teacher_logits: Shape (B, C); no gradient reaches them.
            target: Class indices, int64, shape (B,).
            epoch: Number of finished epochs, 0 in the first.

        Returns:
            Scalar.

        Raises:
            ValueError: If shapes differ.
        """

    def weights(self, epoch: int) -> tuple[float, float]:
        """Return the weights of cross-entropy and distillation loss in an epoch.

        Args:
            epoch: Number of finished epochs, 0 in the first.
        """
        return self.cross_entropy_weight, self.distillation_weight

    def schedule(self, epoch: int) -> Hashable:
        """Return what depends on the epoch: a CUDA graph serves as long as it is equal.

        Args:
            epoch: Number of finished epochs, 0 in the first.

        Returns:
            By default the epoch itself, also for a subclass of a method that overrides
            its :meth:`forward` or :meth:`weights`. A method that does not use it, or no
            longer after some epochs, says so by the same value in all of them.
        """
        return epoch

    def comparable(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits to compare, standardised if *standardize* is set.

        Args:
            student: Shape (B, C).
            teacher: Shape (B, C).
        """
        if self.standardize:
            return standardize_logits(student), standardize_logits(teacher)
        return student, teacher

    @classmethod
    def preset(
        cls, name: Preset = 'default', standardize: bool = False, **settings: Any
    ) -> 'DistillationLoss':
        """Return the loss with the settings of a publication.

        Args:
            name: 'default' is what the paper of the method describes; 'authors' what
                the authors of DisCoM-KD compared with; 'official' the values of the
                method's own code and, with *standardize*, those of LSKD's code.
            standardize: Whether to standardise the logits (LSKD).
            settings: Settings that replace those of the preset.

        Raises:
            SettingError: If *name* is unknown or a setting out of range.
        """
        if name not in ('default', 'authors', 'official'):
            raise SettingError(
                f"preset='{name}': use 'default', 'authors' or 'official'."
            )
        names = [name, f'{name}_standardized'] if standardize else [name]
        for each in reversed(names):
            settings = {**cls.PRESETS.get(each, {}), **settings}
        return cls(**{'standardize': standardize, **settings})

    def config(self) -> dict[str, Any]:
        """Return class path and settings, as stored in a configuration or checkpoint.

        Returns:
            {'class_path': ..., 'init_args': {...}} of plain values.
        """
        own = type(self)
        return {
            'class_path': f'{own.__module__}.{own.__qualname__}',
            'init_args': {
                name: getattr(self, name) for name in signature(own).parameters
            },
        }

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> 'DistillationLoss':
        """Create a loss from what :meth:`config` returned.

        This imports nothing: a checkpoint must not choose which code runs.

        Args:
            config: 'class_path' and 'init_args'. A bare class name is one of this
                package.

        Returns:
            A new loss.

        Raises:
            SettingError: If the class is unknown or a setting out of range.
        """
        module, _, name = str(config.get('class_path')).rpartition('.')
        found = getattr(sys.modules.get(module or __package__), name, None)
        if not isinstance(found, type) or not issubclass(found, DistillationLoss):
            raise SettingError(
                f'loss={dict(config)}: its class_path is not an imported subclass of '
                'DistillationLoss. Import the module that defines it first.'
            )
        try:
            return found(**(config.get('init_args') or {}))
        except TypeError as error:
            raise SettingError(f'loss={dict(config)}: {error}.') from error


def standardize_logits(logits: Tensor) -> Tensor:
    """Subtract each row's mean and divide by its standard deviation (LSKD).

    Apply it to the student's and to the teacher's logits before the distillation loss.
    The cross-entropy and the prediction keep the raw logits.

    Args:
        logits: Shape (B, C).

    Returns:
        (logits - mean) / (std + 1e-7), shape (B, C), at least float32. The standard
        deviation has divisor C - 1. A row of equal logits becomes zeros; its gradient
        is finite, but up to 1e7 times the incoming one. Two logits become about 0.71
        and -0.71, and almost no gradient reaches them.

    Raises:
        ValueError: If the shape is not (B, C) with two classes or more.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.losses import standardize_logits
        >>> standardize_logits(torch.tensor([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]]))
        tensor([[-1.0000,  0.0000,  1.0000],
                [-1.0000,  0.0000,  1.0000]])
    """
    check_logits(logits)
    logits = widen(logits)
    # makes equal logits exactly zero, where their mean is rounded
    logits = logits - logits.amax(dim=1, keepdim=True).detach()
    mean = logits.mean(dim=1, keepdim=True)
    return (logits - mean) / (logits.std(dim=1, keepdim=True) + 1e-7)

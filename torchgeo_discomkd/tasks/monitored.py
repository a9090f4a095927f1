# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""What a training logs, so that callbacks can monitor it."""

from ..callbacks.monitors import (
    check_monitors,
    monitoring_callbacks,
    monitoring_schedules,
)
from .base import MultiModalTask


class MonitoredTask(MultiModalTask):
    """A task that knows the names of its metrics before they are logged."""

    def setup(self, stage: str) -> None:
        """Check the data, join its classes and check what callbacks monitor.

        Args:
            stage: Either 'fit', 'validate', 'test' or 'predict'.

        Raises:
            BandError: If the network takes another number of bands of a modality.
            LabelError: If the data has other classes.
            ModalityError: If a modality to train on is not in the data.
            SettingError: If a callback monitors a metric that will not be logged.
        """
        super().setup(stage)
        if stage == 'fit':
            # schedules are not known yet, but nothing is written either
            monitored = monitoring_callbacks(self.trainer)
            check_monitors(self.trainer, self, self.metric_names(), monitored)

    def on_fit_start(self) -> None:
        """Check what a learning rate schedule monitors.

        Raises:
            SettingError: If it is a metric that will not be logged.
        """
        monitored = monitoring_schedules(self.trainer)
        check_monitors(self.trainer, self, self.metric_names(), monitored)

    def metric_names(self) -> set[str]:
        """Return the names of all metrics that this training logs.

        Returns:
            Of training 'train_<term>', of validation, if there is one, 'val_loss',
            'val_<classifier>_loss' and scores such as 'val_<classifier>_F1Score'. A
            class without validation samples has no 'ClasswiseF1Score_<class>'.
        """
        names = {f'train_{term}' for term in self.term_names()}
        if not self.trainer.enable_validation:
            return names
        scores = ['loss', 'F1Score', 'OverallAccuracy', 'AverageAccuracy']
        if self.task == 'multilabel':
            scores += ['MicroF1Score', 'MacroF1Score', 'MeanAveragePrecision']
        scores += [f'ClasswiseF1Score_{name}' for name in self.classes]
        classifiers = self.validated_names()
        names |= {f'val_{name}_{score}' for name in classifiers for score in scores}
        return names | {'val_loss'}

    def validated_names(self) -> list[str]:
        """Return the names of all classifiers that the validation scores."""
        return [*self.classifier_names(), *self.comparison_names()]

    def term_names(self) -> list[str]:
        """Return the names of the scalars that :meth:`objective` returns."""
        return ['loss']

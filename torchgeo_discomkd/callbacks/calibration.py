# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Calibrate the best classifiers when training ends."""

import logging
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import RunningStage
from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_calibration_error,
    multiclass_calibration_error,
    multilabel_f1_score,
)

from ..errors import SettingError
from ..models import (
    LoadedClassifier,
    choose_thresholds,
    fit_temperature,
    load_classifier,
    store_temperature,
)
from ..processes import first_decides, gathered
from .best_classifiers import best_classifiers
from .combination import write_combination
from .run_folder import keeps_files, run_folder
from .run_manifest import add_to_manifest

logger = logging.getLogger(__name__)


class Calibration(Callback):
    """Fit a temperature for each best classifier on the validation split.

    Every classifier file of the run is read, classifies the validation split once more
    and is rewritten with its temperature and its expected calibration error (15 bins,
    on that split) before and after: ``val_CalibrationError`` and
    ``val_CalibrationError_calibrated``. They are also logged and recorded in
    ``manifest.json``. Labels and their scores do not change. A run that is stopped
    leaves uncalibrated files behind, with a temperature of 1; a resumed run starts
    again from the logits.

    With several labels in a sample the error is that of all decisions, and a file also
    gets its thresholds: for each label the probability above which a sample has it,
    with the highest F1 on the same samples, as ``val_F1Score_thresholds``.
    If the classifiers of several modalities have classified the same samples, the
    weights with which ``classify`` combines them are fitted, too:
    ``best/combination.json``.

    With several processes, each classifies its share of the split, from the same files,
    and the first one calibrates on all of it.

    Attributes:
        results: Temperature and errors by name of classifier.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.callbacks.calibration import calibrate
        >>> logits = torch.tensor([[4.0, 0.0], [0.0, 4.0]]).repeat(50, 1)
        >>> labels = torch.tensor([0, 1]).repeat(50)
        >>> labels[:20] = 0  # 10 of 100 are wrong, but every probability is 0.98
        >>> result = calibrate(logits, labels)
        >>> round(result['temperature'], 2)
        1.73
        >>> round(result['val_CalibrationError'], 2)
        0.08
        >>> round(result['val_CalibrationError_calibrated'], 2)
        0.01
    """

    def __init__(
        self, thresholds: Literal['validation', 'half'] = 'validation'
    ) -> None:
        """Initialize a new Calibration instance.

        Args:
            thresholds: With several labels in a sample: 'validation' chooses a
                threshold for each label, 'half' keeps 0.5 for all.

        Raises:
            SettingError: If *thresholds* is unknown.
        """
        if thresholds not in {'validation', 'half'}:
            raise SettingError(
                f"thresholds={thresholds!r}: use 'validation' or 'half'."
            )
        self.thresholds = thresholds
        self.results: dict[str, dict[str, float]] = {}

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Calibrate the files, including those of a run that was already complete.

        Args:
            trainer: The trainer.
            pl_module: The task.
        """
        if not keeps_files(trainer):
            return
        best = best_classifiers(trainer)
        paths = {name: best.path(trainer, name) for name in best.scores}
        folder = run_folder(trainer) / 'best'
        found = first_decides(
            trainer, lambda: [n for n, p in paths.items() if p.exists()]
        )
        classified = self._classify(
            trainer, {n: load_classifier(paths[n]) for n in found}
        )
        # those of earlier epochs are read by all before one replaces them
        self.results |= first_decides(
            trainer, lambda: self._store(folder, paths, classified)
        )
        if trainer.is_global_zero:
            self._log(trainer)

    def _classify(
        self, trainer: Trainer, classifiers: dict[str, LoadedClassifier]
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Return logits (N, K) and labels of the validation split by name."""
        found: dict[str, list[tuple[Tensor, Tensor]]] = {n: [] for n in classifiers}
        for classifier in classifiers.values():
            classifier.to(trainer.strategy.root_device)
        for batch in validation_batches(trainer) if classifiers else ():
            images = {
                key.removeprefix('image_'): value
                for key, value in batch.items()
                if key.startswith('image_')
            }
            for name, classifier in classifiers.items():
                if 'label' in batch and set(classifier.modalities) <= set(images):
                    with torch.inference_mode():
                        logits = classifier(images).cpu()
                    labels = batch['label'].cpu()
                    labelled = (labels != -1).reshape(len(labels), -1).any(dim=1)
                    found[name].append((logits[labelled], labels[labelled]))
        results = {}
        for name, batches in found.items():
            classes = len(classifiers[name].metadata.classes)
            nothing = torch.empty(0, classes), torch.empty(0, dtype=torch.long)
            parts = zip(nothing, *batches, strict=True)
            logits, labels = (gathered(trainer, torch.cat(part)) for part in parts)
            if batches:
                results[name] = logits, labels
            else:
                text = '%s is not calibrated: validation lacks its images or labels.'
                logger.info(text, name)
        return results

    def _store(
        self,
        folder: Path,
        paths: Mapping[str, Path],
        classified: Mapping[str, tuple[Tensor, Tensor]],
    ) -> dict[str, dict[str, float]]:
        """Calibrate the files and fit what combines them; return what was found."""
        results, described = {}, {}
        for name, (logits, labels) in classified.items():
            result = calibrate(logits, labels)
            scores = {k: v for k, v in result.items() if k != 'temperature'}
            chosen = None
            if labels.ndim == 2 and self.thresholds == 'validation':
                chosen, score = _thresholds(logits / result['temperature'], labels)
                scores['val_F1Score_thresholds'] = score
                result = {'temperature': result['temperature'], **scores}
            described[name] = store_temperature(
                paths[name], result['temperature'], scores, chosen
            )
            results[name] = result
        if classified:
            # else the files are as they were
            write_combination(folder, classified, described)
        return results

    def _log(self, trainer: Trainer) -> None:
        if not self.results:
            return
        add_to_manifest(trainer, self.results)
        values = {
            f'val_{name}_{key.removeprefix("val_")}': value
            for name, result in self.results.items()
            for key, value in result.items()
        }
        for writer in trainer.loggers:
            writer.log_metrics(values, step=trainer.global_step)


def calibrate(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Fit a temperature and measure its effect.

    Args:
        logits: Logits before calibration, shape (N, K).
        labels: int64 (N,) or, with several labels in a sample, (N, K).

    Returns:
        'temperature', and the expected calibration error of the same samples, in
        [0, 1], before ('val_CalibrationError') and after
        ('val_CalibrationError_calibrated'). Samples with a logit that is not finite
        are ignored; if none is left, the temperature is 1 and there are no errors.

    Raises:
        LabelError: If the shapes do not match or a label is out of range.
    """
    temperature = fit_temperature(logits, labels)
    finite = logits.isfinite().all(dim=1)
    logits, labels = logits[finite].double(), labels[finite]
    if not len(labels):
        return {'temperature': temperature}

    def error(divisor: float) -> float:
        if labels.ndim == 2:
            probabilities = (logits / divisor).sigmoid()
            return float(
                binary_calibration_error(probabilities, labels, ignore_index=-1)
            )
        probabilities = (logits / divisor).softmax(dim=1)
        return float(
            multiclass_calibration_error(probabilities, labels, logits.shape[1])
        )

    return {
        'temperature': temperature,
        'val_CalibrationError': error(1.0),
        'val_CalibrationError_calibrated': error(temperature),
    }


def _thresholds(logits: Tensor, labels: Tensor) -> tuple[tuple[float, ...], float]:
    """Return the best threshold of each label, and the weighted F1 with them."""
    finite = logits.isfinite().all(dim=1)
    probabilities, labels = logits[finite].float().sigmoid(), labels[finite]
    chosen = choose_thresholds(probabilities, labels)
    if not len(labels):
        return chosen, 0.0
    decisions = (probabilities > torch.tensor(chosen)).long()
    score = multilabel_f1_score(
        decisions, labels, labels.shape[1], average='weighted', ignore_index=-1
    )
    return chosen, float(score)


def validation_batches(trainer: Trainer) -> Generator[dict[str, Any]]:
    """Yield the batches of the validation split on the device of the trainer.

    Args:
        trainer: A trainer at the end of fit.

    Yields:
        Batches as the validation step gets them; none if there is no loader.
    """
    if trainer.val_dataloaders is None:
        # a run that was complete has not asked for them
        trainer.fit_loop.epoch_loop.val_loop.setup_data()
    if trainer.val_dataloaders is None:
        return
    loader = CombinedLoader(trainer.val_dataloaders, 'sequential')
    loader.limits = trainer.num_val_batches
    stage = trainer.state.stage
    # the hooks of data modules ask the trainer for it
    trainer.state.stage = RunningStage.VALIDATING
    try:
        for batch, _, index in loader:
            yield trainer.strategy.batch_to_device(batch, dataloader_idx=index)
    finally:
        trainer.state.stage = stage

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Task that evaluates and applies classifier files."""

import warnings
from collections.abc import Iterable

import numpy as np
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torchgeo.datasets.utils import Sample

from ..datamodules import SARTilesDataModule
from ..datamodules.backscatter import drop_impossible
from ..datasets import MultiModalDataset
from ..errors import (
    BandError,
    ClassifierFileError,
    ModalityError,
    SettingError,
    UnitError,
)
from ..metadata import ImageProfile
from ..models import load_classifier, read_outs
from ..models.modalities import READ_OUTS
from ..rasters import check_unit
from ..rasters.band_names import canonical
from ..rasters.doubts import doubt_pixel_size, doubt_values
from ..rasters.plausibility import check_backscatter, options_of
from ..rasters.scale import parse_unit
from .base import MultiModalTask
from .labels import check_data_task


class PretrainedClassification(MultiModalTask):
    """Score and apply classifier files, without the data of other modalities.

    A classifier of several modalities needs them all; classifiers whose modalities the
    data lacks are skipped. Classes are joined by name: the data may have them in any
    order, or only some of them. There is nothing to train.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> from torchgeo_discomkd.tasks import DisCoMKD, PretrainedClassification
        >>> trained = DisCoMKD({'ms': 13, 'sar': 2}, num_classes=3, model='test_resnet')
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / 'sar.safetensors'
        ...     trained.save_classifier('sar', path, scores={}, epoch=0)
        ...     task = PretrainedClassification({'sar': str(path)})
        >>> task.classes
        ('0', '1', '2')
        >>> batch = {'image_sar': torch.rand(4, 2, 32, 32)}
        >>> task.predict_step(batch, batch_idx=0)['sar'].shape
        torch.Size([4, 3])
    """

    def __init__(self, classifiers: dict[str, str]) -> None:
        """Initialize a new PretrainedClassification instance.

        Args:
            classifiers: Classifier file for each name; scores are logged under the
                name, e.g. {sar: runs/quickstart/best/sar.safetensors}.

        Raises:
            ClassifierFileError: If a file is missing, is not a classifier file, or the
                files have different classes.
            SettingError: If a file has the name of another one's read-out.
        """
        if not classifiers:
            raise ClassifierFileError(
                'classifiers={}: name at least one classifier file, e.g. '
                '{sar: best/sar.safetensors}.'
            )
        self._checked: set[str] = set()
        super().__init__()

    def configure_models(self) -> None:
        """Read the files."""
        loaded = {name: load_classifier(path) for name, path in self._files()}
        self.model = nn.ModuleDict(loaded)
        taken = set(self.classifier_names()) & set(self.comparison_names())
        if taken:
            raise SettingError(
                f'classifiers: {sorted(taken)} would also name a read-out of another '
                'file. Give the file another name.'
            )
        classes = {name: c.metadata.classes for name, c in loaded.items()}
        self.classes = self.trained_classes = next(iter(classes.values()))
        if any(other != self.classes for other in classes.values()):
            raise ClassifierFileError(f'the files have different classes: {classes}.')
        tasks = {name: c.metadata.task for name, c in loaded.items()}
        if len(set(tasks.values())) > 1:
            raise ClassifierFileError(f'the files have different labels: task={tasks}.')
        self.hparams['task'] = next(iter(tasks.values()))
        self.hparams['num_classes'] = len(self.classes)
        self.hparams['labels'] = list(self.classes)

    def _files(self) -> list[tuple[str, str]]:
        return list(self.hparams['classifiers'].items())

    def classifier_names(self) -> list[str]:
        """Return the names of the files."""
        return [name for name, _ in self._files()]

    def thresholds(self, name: str) -> tuple[float, ...] | None:
        """Return the probabilities above which a sample has each label.

        Args:
            name: Name of a classifier, or of a read-out.

        Returns:
            Those of the file, of a read-out 0.5, since the file's are fitted to another
            head; None if a sample has one class.
        """
        if name not in self.model:
            return super().thresholds(name)
        return self.model[name].metadata.decision_thresholds

    def comparison_names(self) -> list[str]:
        """Return the read-outs of files that have an auxiliary task classifier."""
        return [
            f'{name}_{embedding}'
            for name, loaded in self.model.items()
            if loaded.auxiliary is not None
            for embedding in READ_OUTS
        ]

    def setup(self, stage: str) -> None:
        """Check the data, including tiles without labels.

        Args:
            stage: Either 'validate', 'test' or 'predict'.

        Raises:
            UserError: As for :meth:`check_data` and
                :meth:`~torchgeo_discomkd.datamodules.SARTilesDataModule.adopt`.
        """
        super().setup(stage)
        datamodule = getattr(self.trainer, 'datamodule', None)
        if isinstance(datamodule, SARTilesDataModule):
            # its tiles exist by now; they are to be read just as the files specify
            datamodule.adopt(loaded.metadata for loaded in self.model.values())

    def check_data(self, dataset: MultiModalDataset, training: bool) -> None:
        """Check that the data fits the classifiers, except for its classes.

        Args:
            dataset: The data.
            training: Not used: there is nothing to train.

        Raises:
            BandError: If a file takes other bands of a modality.
            LabelError: If the data has another kind of labels.
            ModalityError: If no classifier can be applied.
            UnitError: If one is in dB and the other in linear power.

        Warns:
            UserWarning: If the pixels differ in size.
        """
        check_data_task(self.task, dataset, option=None)
        for name, path in self._files():
            metadata = self.model[name].metadata
            for modality, expected in metadata.modalities.items():
                bands = dataset.bands.get(modality, expected.bands)
                if [*map(canonical, bands)] != [*map(canonical, expected.bands)]:
                    raise BandError(
                        f'{path} takes the {modality!r} bands {list(expected.bands)}, '
                        f'but the data has {list(bands)}: set --data.bands, or '
                        '--data.band_names if they have other names.'
                    )
                unit = dataset.units.get(modality, expected.unit)
                if {unit, expected.unit} == {'dB', 'linear'}:
                    raise UnitError(
                        f'{path} takes {modality!r} in {expected.unit}, but the data '
                        f'is in {unit}: convert the data.'
                    )
                if modality in dataset.modalities:
                    _warn_of_pixel_size(path, dataset, modality, expected.profile)
                    if expected.profile is None:
                        rank_zero_info(
                            f'{path} does not say what its {modality!r} training tiles '
                            'look like: unusual images are not recognised.'
                        )
        if not any(self._has(n, dataset.modalities) for n in self.classifier_names()):
            needed = {n: list(c.modalities) for n, c in self.model.items()}
            raise ModalityError(
                f'the classifiers need {needed}, but the data has '
                f'{list(dataset.modalities)}.'
            )

    def _has(self, name: str, modalities: Iterable[str]) -> bool:
        return set(self.model[name].modalities) <= set(modalities)

    def evaluate(self, batch: Sample, stage: str) -> dict[str, Tensor]:
        """Classify a batch of whichever modalities it has.

        Args:
            batch: 'image_<modality>' raw values, float32 (B, C, H, W), for at least
                one classifier.
            stage: Either 'val', 'test' or 'predict'.

        Returns:
            Logits (B, classes) for each name whose modalities are in the batch; in
            'test' the read-outs of DisCoM-KD too (Table 4).

        Raises:
            ModalityError: If no classifier can use the batch.
            UnitError: If the values of the first batch contradict the file's unit.

        Warns:
            UserWarning: If the values of the first batch are far from those of
                training.
        """
        images = {
            key.removeprefix('image_'): x
            for key, x in batch.items()
            if key.startswith('image_')
        }
        logits = {}
        for name in self.classifier_names():
            if self._has(name, images):
                # tiles without labels were checked one by one when they were read
                if name not in self._checked and 'unusual' not in batch:
                    self._checked.add(name)
                    self._check_values(name, images)
                logits |= self._read_outs(name, images, stage)
        if not logits:
            raise ModalityError(
                f'the batch has {sorted(images)}, but every classifier needs others.'
            )
        return logits

    def _read_outs(
        self, name: str, images: dict[str, Tensor], stage: str
    ) -> dict[str, Tensor]:
        loaded = self.model[name]
        temperature = loaded.metadata.temperature
        images = {
            m: drop_impossible(images[m], parse_unit(described.unit))
            for m, described in loaded.metadata.modalities.items()
        }
        if stage != 'test' or loaded.auxiliary is None:
            return {name: loaded(images) / temperature}
        embeddings = loaded.classifier.embed(images[loaded.modalities[0]])
        found = read_outs(embeddings, loaded.auxiliary)
        return {
            name: loaded.classifier.classify(embeddings) / temperature,
            **{f'{name}_{embedding}': logits for embedding, logits in found.items()},
        }

    def _check_values(self, name: str, images: dict[str, Tensor]) -> None:
        """Check the first batch: linear power is easily taken for dB."""
        for modality, metadata in self.model[name].metadata.modalities.items():
            values = images[modality].float().cpu().numpy()
            present, unit = values[np.isfinite(values)], parse_unit(metadata.unit)
            where = f'{name!r}' if name == modality else f'{name!r}: {modality!r}'
            if not present.size:
                continue
            # not the extremes: noise removal leaves a few negative powers
            check_unit(*np.percentile(present, [2, 98]), unit, where)
            bands = values.swapaxes(0, 1)
            try:
                doubts = check_backscatter(
                    bands, bands, unit, metadata.bands, options_of(modality)
                )
            except UnitError as error:
                raise UnitError(f'{where}: {error}') from error
            doubts += doubt_values(values, metadata.bands, metadata.profile)
            if doubts:
                warnings.warn(
                    f'{where}: the first {len(values)} images differ from those of '
                    f'training: {"; ".join(doubts)}. The predictions may be wrong.',
                    stacklevel=2,
                )


def _warn_of_pixel_size(
    path: str, dataset: MultiModalDataset, modality: str, profile: ImageProfile | None
) -> None:
    if (place := dataset.locate(0, modality)) is None:
        return
    doubts = doubt_pixel_size(*place, dataset.tile_size(modality), profile)
    if doubts:
        warnings.warn(
            f'{path}: {modality!r} has {doubts[0]}. The scores will be lower: resample '
            'the tiles.',
            stacklevel=4,
        )

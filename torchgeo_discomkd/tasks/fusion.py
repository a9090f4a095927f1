# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Task for plain classifiers of one modality or several: STUDENT and TEACHER."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from torch import Tensor, nn
from torchgeo.datasets.utils import Sample

from ..errors import ModalityError, SettingError
from ..metadata import LabelTask
from ..models import FusionClassifier, Normalization, save_classifier
from ..models.weights import Weights
from .labels import chance_entropy, plain_numbers
from .students import (
    Classifier,
    classify,
    create_same_size,
    encoders_of,
    normalization_of,
)
from .training import MultiModalTrainingTask


class FusionClassification(MultiModalTrainingTask):
    """One encoder per modality, summed features, one linear classifier.

    With one modality this is the STUDENT that DisCoM-KD is compared with, with several
    its multi-modal TEACHER. With ``network='same_size'`` it is a control: the network
    that DisCoM-KD deploys for a modality, with two encoders and a projection, trained
    on that modality alone.

    If you use this method in your research, please cite the following paper:

    * https://arxiv.org/abs/2408.07080

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.tasks import FusionClassification
        >>> task = FusionClassification({'ms': 13, 'sar': 2}, 3, model='test_resnet')
        >>> ms, sar = torch.rand(4, 13, 32, 32), torch.rand(4, 2, 32, 32)
        >>> probabilities = task.predict_step({'image_ms': ms, 'image_sar': sar}, 0)
        >>> {name: tuple(p.shape) for name, p in probabilities.items()}
        {'fusion': (4, 3)}
    """

    objective_parts = ('objective', 'modalities')

    def __init__(
        self,
        in_channels: dict[str, int] | None = None,
        num_classes: int = 10,
        model: str = 'resnet18',
        weights: dict[str, Weights] | Weights = None,
        normalization: Literal['standardize', 'percentile', 'none'] = 'standardize',
        labels: Sequence[str] | None = None,
        lr: float = 1e-4,
        network: Literal['plain', 'same_size'] = 'plain',
        class_weights: Tensor | Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        freeze_backbone: bool | dict[str, bool] = False,
        task: LabelTask = 'multiclass',
        layer_decay: float | None = None,
    ) -> None:
        """Initialize a new FusionClassification instance.

        Args:
            in_channels: Number of bands of each modality. Default: sar: 2.
            num_classes: Number of classes.
            model: Name of the `timm
                <https://huggingface.co/docs/timm/reference/models>`__ encoder.
            weights: Initial encoder weights, of all modalities or by modality: a weight
                of TorchGeo or torchvision or its name, True for ImageNet, or the path
                of a state dict, see :func:`~torchgeo_discomkd.models.create_encoder`.
                Default: random, as for a modality that is not named.
            normalization: First layer of the classifier, with the statistics of the
                training split: 'standardize' by mean and standard deviation,
                'percentile' to clip to the 2nd and 98th percentile and scale to [0, 1],
                or 'none' to only replace missing pixels.
            labels: Class names, for data modules that do not provide them.
            lr: Learning rate of Adam.
            network: 'plain', or 'same_size' for the network that DisCoM-KD deploys, of
                one modality.
            class_weights: Weight of each class, in the order of the labels, in the
                cross-entropy of training, validation and test, whose means are the
                weighted ones. With 'multilabel': the weight of the
                samples that have a label (TorchGeo's ``pos_weight``), for each label.
            label_smoothing: Share of the target that all classes have equally, 0 to 1,
                in the same cross-entropies.
            freeze_backbone: Whether the encoders keep their initial weights and
                statistics; of all modalities or by modality.
            task: Kind of labels, as in TorchGeo's ``Classification``: 'multiclass', one
                of *num_classes* classes; 'multilabel', any of *num_classes* labels,
                with a sigmoid and the binary cross-entropy of each; or 'binary', one of
                two classes by a single logit.
            layer_decay: Factor by which each layer of an encoder learns more slowly
                than the next, above 0 and at most 1: 0.65 to 0.75 is common for
                pretrained transformers. Default: all learn at *lr*.

        Raises:
            ModalityError: If *weights* or *freeze_backbone* name an unknown modality.
            LabelError: If *task* is 'binary' and *num_classes* is not 2.
            SettingError: If *network* is unknown, or 'same_size' with several
                modalities, or *class_weights* or *label_smoothing* are out of range or
                too many.
            WeightsError: If *model* or *weights* are unknown, do not fit together or
                cannot be reached.
        """
        self.in_channels = dict(in_channels or {'sar': 2})
        self.weights = weights
        # no hyperparameter of Distillation, which always has the plain one
        self.network = network
        # a checkpoint holds plain numbers
        class_weights = plain_numbers(class_weights)
        super().__init__()

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities that the classifier takes."""
        return tuple(self.in_channels)

    def configure_models(self) -> None:
        """Initialize the network."""
        create: Callable[..., Classifier]
        match self.network:
            case 'plain':
                create = FusionClassifier
            case 'same_size':
                create = create_same_size
            case unknown:
                raise SettingError(f'network={unknown!r}: use plain or same_size.')
        number, model = self.hparams['num_classes'], self.hparams['model']
        self.model = create(
            self.in_channels, number, model, self.weights, task=self.task
        )

    def classifier_names(self) -> list[str]:
        """Return the modality, or 'fusion' if there are several."""
        return ['fusion'] if len(self.modalities) > 1 else list(self.modalities)

    def normalizations(self) -> Iterable[tuple[str, Normalization]]:
        """Yield modality and normalisation."""
        for modality in self.modalities:
            yield modality, normalization_of(self.model, modality)

    def encoders(self) -> Iterable[tuple[str, nn.Module]]:
        """Yield modality and encoder."""
        for modality in self.modalities:
            for encoder in encoders_of(self.model, modality):
                yield modality, encoder

    @property
    def pairing(self) -> str | None:
        """Why training needs the same samples in all modalities, if it does."""
        if len(self.modalities) == 1:
            return None
        return f'fusing {list(self.modalities)} needs the same samples in all of them'

    def training_inputs(self, batch: Sample) -> dict[str, Tensor]:
        """Select the images and their label.

        Args:
            batch: 'image_<modality>' for every modality, paired if there are several;
                a label of -1 marks a sample without a label.

        Returns:
            'image_<modality>' and 'label'.

        Raises:
            BatchSizeError: If the batch has one sample only.
            LabelError: If the labels are not one class for each sample.
            ModalityError: If a modality is not in the batch, or several are unpaired.
        """
        images = self.images_to_train(batch)
        if len(images) > 1 and 'label' not in batch:
            raise ModalityError(
                f'fusing {list(images)} needs the same samples in all modalities: set '
                '--data.paired true.'
            )
        inputs = {f'image_{m}': x for m, x in images.items()}
        return inputs | {'label': self.labels_of(batch, self.modalities[0])}

    @property
    def objective_state(self) -> Hashable:
        """What a callback may change."""
        return self.criterion.label_smoothing

    def objective(
        self, inputs: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the cross-entropy.

        Args:
            inputs: 'image_<modality>' for every modality, and 'label'.

        Returns:
            The cross-entropy of the samples that have a label, and the same as 'loss'.
        """
        images = {m: inputs[f'image_{m}'] for m in self.modalities}
        loss = self.criterion(classify(self.model, images), inputs['label'])
        return loss, {'loss': loss}

    def chance_levels(self) -> dict[str, float]:
        """Return the cross-entropy of equal probabilities."""
        if self.unknown_chance:
            return {}
        return {'loss': chance_entropy(self.task, self.hparams['num_classes'])}

    def evaluate(self, batch: Sample, stage: str) -> dict[str, Tensor]:
        """Classify a batch that has all modalities of the classifier.

        Args:
            batch: 'image_<modality>' raw values, float32 (B, C, H, W).
            stage: Either 'val', 'test' or 'predict'.

        Returns:
            Logits (B, classes) for the name of the classifier.
        """
        return {self.classifier_names()[0]: classify(self.model, self.images_of(batch))}

    def save_classifier(
        self, name: str, path: Path, scores: dict[str, float], epoch: int
    ) -> None:
        """Write the classifier to a file of its own.

        Args:
            name: Name of the classifier.
            path: The file.
            scores: Scores to record in the file.
            epoch: Epoch to record in the file, counted from 0.
        """
        kind: Literal['disentangled', 'fusion']
        kind = 'fusion' if self.network == 'plain' else 'disentangled'
        metadata = self.classifier_metadata(kind, self.modalities, scores, epoch)
        save_classifier(path, self.model, metadata)

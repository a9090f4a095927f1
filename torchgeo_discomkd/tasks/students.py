# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Classifiers of one modality, trained with cross-entropy alone, to compare with."""

from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn

from ..errors import SettingError
from ..metadata import LabelTask
from ..models import DisentangledClassifier, FusionClassifier, Normalization
from ..models.modalities import check_names
from ..models.weights import ModalityWeights, weights_by_modality

type Students = Literal['plain', 'same_size', 'both'] | bool
type Classifier = FusionClassifier | DisentangledClassifier


def create_same_size(
    in_channels: Mapping[str, int],
    num_classes: int,
    model: str,
    weights: ModalityWeights,
    head: Literal['linear_bn_relu', 'linear'] = 'linear_bn_relu',
    task: LabelTask = 'multiclass',
) -> DisentangledClassifier:
    """Return the network that DisCoM-KD deploys for one modality, untrained.

    Args:
        in_channels: Number of bands of the modality.
        num_classes: Number of classes.
        model: Name of the timm encoder.
        weights: Initial weights of the encoders, of all modalities or by modality.
        head: Projection head.
        task: Kind of labels.

    Raises:
        ModalityError: If the name of the modality is illegal, or *weights* names
            another one.
        SettingError: If there are several modalities.
        WeightsError: If *model* or *weights* cannot be used.
    """
    if len(in_channels) != 1:
        raise SettingError(
            f"network='same_size' is a classifier of one modality, but in_channels is "
            f'{dict(in_channels)}: name one, e.g. --model.in_channels {{sar: 2}}.'
        )
    check_names(in_channels, minimum=1)
    ((modality, channels),) = in_channels.items()
    own = weights_by_modality(weights, in_channels)[modality]
    return DisentangledClassifier(channels, num_classes, model, head, own, task)


def create_students(
    students: Students,
    in_channels: Mapping[str, int],
    num_classes: int,
    model: str,
    weights: ModalityWeights,
    head: Literal['linear_bn_relu', 'linear'],
    task: LabelTask = 'multiclass',
) -> tuple[nn.ModuleDict, nn.ModuleDict]:
    """Return the classifiers that DisCoM-KD is compared with, untrained.

    Args:
        students: Which ones, as for :class:`DisCoMKD`.
        in_channels: Number of bands of each modality.
        num_classes: Number of classes.
        model: Name of the timm encoder.
        weights: Initial weights of the encoders, of all modalities or by modality.
        head: Projection head of the networks of equal size.
        task: Kind of labels.

    Returns:
        Plain classifiers and networks of equal size by modality, or empty.

    Raises:
        SettingError: If *students* is unknown.
        WeightsError: If *model* or *weights* cannot be used.
    """
    if students not in {False, True, 'plain', 'same_size', 'both'}:
        raise SettingError(
            f'students={students!r}: use plain, same_size, both, true or false.'
        )
    plain, same_size = nn.ModuleDict(), nn.ModuleDict()
    own = weights_by_modality(weights, in_channels)
    each = {
        m: ({m: channels}, num_classes, model, own[m])
        for m, channels in in_channels.items()
    }
    # the plain ones are the same with and without those of equal size
    if students in {True, 'plain', 'both'}:
        plain.update({m: FusionClassifier(*args, task) for m, args in each.items()})
    if students in {'same_size', 'both'}:
        same_size.update(
            {m: create_same_size(*args, head, task) for m, args in each.items()}
        )
    return plain, same_size


def normalization_of(classifier: Classifier, modality: str) -> Normalization:
    """Return the first layer of a classifier.

    Args:
        classifier: The classifier.
        modality: One of its modalities.
    """
    if isinstance(classifier, DisentangledClassifier):
        return classifier.normalization
    normalization = classifier.normalizations[modality]
    assert isinstance(normalization, Normalization)
    return normalization


def encoders_of(classifier: Classifier, modality: str) -> list[nn.Module]:
    """Return the encoders of a classifier for one modality, one or two.

    Args:
        classifier: The classifier.
        modality: One of its modalities.
    """
    if isinstance(classifier, DisentangledClassifier):
        encoder = classifier.encoder
        return [encoder.invariant_encoder, encoder.specific_encoder]
    return [classifier.encoders[modality]]


def classify(classifier: Classifier, images: Mapping[str, Tensor]) -> Tensor:
    """Classify a batch by any of the two networks.

    Args:
        classifier: The classifier.
        images: Raw images by modality, those of the classifier.

    Returns:
        Logits, shape (B, classes).
    """
    if isinstance(classifier, FusionClassifier):
        return classifier(images)
    (x,) = images.values()
    return classifier(x)

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""The classifier file: a classifier and all that is needed to use it, no pickle.

It is a safetensors file whose header carries the metadata as JSON. Reading one needs
neither TorchGeo nor Lightning.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from ..errors import ClassifierFileError, NonFiniteError, UserError
from ..metadata import KEY, ClassifierMetadata, LabelTask
from .discomkd import DisentangledClassifier, Head
from .finite import not_finite
from .fusion import FusionClassifier
from .heads import last_layer, to_probabilities
from .modalities import check_present
from .tensor_file import read_header, read_tensors, write_tensors

#: Prefix of the auxiliary task classifier's tensors.
AUXILIARY = 'auxiliary.'


class LoadedClassifier(nn.Module):
    """A classifier with its metadata, in evaluation mode and without gradients.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> from torchgeo_discomkd.models import load_classifier
        >>> from torchgeo_discomkd.tasks import DisCoMKD
        >>> task = DisCoMKD({'ms': 13, 'sar': 2}, num_classes=3, model='test_resnet')
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / 'sar.safetensors'
        ...     task.save_classifier('sar', path, scores={}, epoch=0)
        ...     classifier = load_classifier(path)
        >>> classifier.modalities
        ('sar',)
        >>> probabilities = classifier.probabilities(torch.rand(4, 2, 32, 32))
        >>> probabilities.shape
        torch.Size([4, 3])
    """

    def __init__(
        self,
        classifier: DisentangledClassifier | FusionClassifier,
        metadata: ClassifierMetadata,
        auxiliary: nn.Linear | None = None,
    ) -> None:
        """Initialize a new LoadedClassifier instance.

        Args:
            classifier: The classifier.
            metadata: Its metadata.
            auxiliary: The auxiliary task classifier, if there is one, for
                :func:`~.discomkd.read_outs`.
        """
        super().__init__()
        self.classifier = classifier
        self.metadata = metadata
        self.auxiliary = auxiliary
        self.eval()
        self.requires_grad_(False)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities that it needs."""
        return tuple(self.metadata.modalities)

    def forward(self, images: Mapping[str, Tensor] | Tensor) -> Tensor:
        """Classify a batch.

        Args:
            images: Raw images by modality, shape (B, C_m, H_m, W_m), ignoring any that
                the classifier does not take; or, if it takes a single modality, the
                images of that one.

        Returns:
            Logits before calibration, shape (B, K).

        Raises:
            BandError: If the number of bands is wrong.
            ModalityError: If a modality is missing.
        """
        if isinstance(self.classifier, FusionClassifier):
            return self.classifier(images)
        if isinstance(images, Mapping):
            check_present(self.modalities, images)
            images = images[self.modalities[0]]
        return self.classifier(images)

    def probabilities(self, images: Mapping[str, Tensor] | Tensor) -> Tensor:
        """Classify a batch, using the calibration in the file.

        Args:
            images: As for :meth:`forward`.

        Returns:
            Probabilities, shape (B, K): each row with sum 1 or, with several labels,
            each of its own.

        Raises:
            BandError: If the number of bands is wrong.
            ModalityError: If a modality is missing.
        """
        logits = self(images) / self.metadata.temperature
        return to_probabilities(logits, self.metadata.task)


def save_classifier(
    path: str | Path,
    classifier: DisentangledClassifier | FusionClassifier,
    metadata: ClassifierMetadata,
    auxiliary: nn.Linear | None = None,
) -> None:
    """Write a classifier file.

    The file is complete or absent: it is written under another name next to *path* and
    then renamed, replacing any older file.

    Args:
        path: File to write, for example 'best/sar.safetensors'; its folder is created.
        classifier: The classifier.
        metadata: Its metadata.
        auxiliary: The auxiliary task classifier of DisCoM-KD, for read-outs by one
            embedding.

    Raises:
        ClassifierFileError: If the metadata describe another classifier.
        NonFiniteError: If a weight or a score is NaN or infinite.
        OSError: If the file cannot be written.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from torchgeo_discomkd.models import save_classifier
        >>> from torchgeo_discomkd.tasks import DisCoMKD
        >>> task = DisCoMKD({'ms': 13, 'sar': 2}, num_classes=3, model='test_resnet')
        >>> metadata = task.classifier_metadata('disentangled', ['sar'], {}, 0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / 'best' / 'sar.safetensors'
        ...     save_classifier(path, task.model.classifiers['sar'], metadata)
        ...     print(path.exists())
        True
    """
    _check_description(classifier, metadata)
    wrong = [k for k, v in metadata.scores.items() if not math.isfinite(v)]
    for module in (classifier, *([] if auxiliary is None else [auxiliary])):
        wrong += not_finite(module)
    if wrong:
        raise NonFiniteError(
            f'{path} is not written: {", ".join(wrong[:3])} of the classifier are not '
            'finite. Train again with a lower learning rate.'
        )
    tensors = dict(classifier.state_dict())
    if auxiliary is not None:
        tensors |= auxiliary.state_dict(prefix=AUXILIARY)
    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    write_tensors(path, tensors, metadata)


def load_metadata(path: str | Path) -> ClassifierMetadata:
    """Read the metadata of a classifier file, not its weights.

    Args:
        path: The file.

    Returns:
        The metadata.

    Raises:
        ClassifierFileError: If there is no such file, it is not a classifier file or it
            is truncated.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from torchgeo_discomkd.models import load_metadata
        >>> from torchgeo_discomkd.tasks import FusionClassification
        >>> task = FusionClassification({'sar': 2}, num_classes=3, model='test_resnet')
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / 'sar.safetensors'
        ...     task.save_classifier('sar', path, scores={}, epoch=0)
        ...     metadata = load_metadata(path)
        >>> metadata.modalities['sar'].bands
        ('B1', 'B2')
    """
    header = read_header(path)
    try:
        return ClassifierMetadata.from_json(header[KEY])
    except ClassifierFileError as error:
        raise ClassifierFileError(f'{path}: {error}') from error


def load_classifier(path: str | Path) -> LoadedClassifier:
    """Read a classifier file.

    Args:
        path: The file.

    Returns:
        The classifier on the CPU.

    Raises:
        ClassifierFileError: If there is no such file, it is not a classifier file, it
            is truncated or damaged, or its tensors do not fit its metadata.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> from torchgeo_discomkd.models import load_classifier
        >>> from torchgeo_discomkd.tasks import FusionClassification
        >>> task = FusionClassification({'sar': 2}, num_classes=3, model='test_resnet')
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / 'sar.safetensors'
        ...     task.save_classifier('sar', path, scores={}, epoch=0)
        ...     classifier = load_classifier(path)
        >>> classifier(torch.rand(4, 2, 32, 32)).shape
        torch.Size([4, 3])
    """
    metadata = load_metadata(path)
    tensors = read_tensors(path)
    auxiliary = {k: tensors.pop(k) for k in list(tensors) if k.startswith(AUXILIARY)}
    try:
        classifier = restore_classifier(metadata, tensors)
        head = _linear(auxiliary, metadata.task) if auxiliary else None
        return LoadedClassifier(classifier, metadata, head)
    except ClassifierFileError as error:
        raise ClassifierFileError(f'{path}: {error}') from error


def restore_classifier(
    metadata: ClassifierMetadata, tensors: Mapping[str, Tensor]
) -> DisentangledClassifier | FusionClassifier:
    """Build a classifier from its metadata and its weights.

    Args:
        metadata: Metadata of the classifier.
        tensors: Its state dict.

    Returns:
        The classifier on the CPU, in training mode.

    Raises:
        ClassifierFileError: If *tensors* are not those of such a classifier.

    Example:
        >>> from torchgeo_discomkd.models import restore_classifier
        >>> from torchgeo_discomkd.tasks import DisCoMKD
        >>> task = DisCoMKD({'ms': 13, 'sar': 2}, num_classes=3, model='test_resnet')
        >>> metadata = task.classifier_metadata('disentangled', ['sar'], {}, 0)
        >>> tensors = task.model.classifiers['sar'].state_dict()
        >>> restore_classifier(metadata, tensors).normalization
        Normalization(2)
    """
    try:
        classifier = _empty(metadata, {k: v.shape for k, v in tensors.items()})
        classifier.load_state_dict(tensors)
    except (KeyError, RuntimeError, UserError, ValueError) as error:
        raise _unfit(error) from error
    return classifier


def _empty(
    metadata: ClassifierMetadata, shapes: Mapping[str, torch.Size]
) -> DisentangledClassifier | FusionClassifier:
    """Return a classifier to load weights into, if they are those of such a one.

    Its form is compared before it takes any memory. Without random weights, which take
    longest, it is also ready earlier.
    """
    try:
        with torch.device('meta'):
            classifier = _build(metadata)
    except RuntimeError:  # a network that computes with its tensors when it is built
        classifier = _build_anew(metadata)
    expected = {k: v.shape for k, v in classifier.state_dict().items()}
    names = sorted(expected.keys() | shapes.keys())
    if other := [k for k in names if expected.get(k) != shapes.get(k)]:
        name = other[0]
        raise ValueError(
            f'{len(other)} differ, the first is {name!r} of shape {shapes.get(name)} '
            f'instead of {expected.get(name)}.'
        )
    tensors = [*classifier.parameters(), *classifier.buffers()]
    if len(tensors) > len(expected):
        # some networks compute tensors that are not part of their weights
        return _build_anew(metadata)
    return classifier.to_empty(device='cpu')


def _build_anew(
    metadata: ClassifierMetadata,
) -> DisentangledClassifier | FusionClassifier:
    # a new network draws random weights: keep the caller's generator as it was
    with torch.random.fork_rng(devices=[]):
        return _build(metadata)


def _unfit(error: BaseException) -> ClassifierFileError:
    return ClassifierFileError(f'its tensors do not fit its metadata: {error}')


def _build(metadata: ClassifierMetadata) -> DisentangledClassifier | FusionClassifier:
    channels = {m: value.in_channels for m, value in metadata.modalities.items()}
    number = len(metadata.classes)
    if metadata.kind == 'fusion':
        return FusionClassifier(channels, number, metadata.model, task=metadata.task)
    (in_channels,) = channels.values()
    head = cast(Head, metadata.head)
    return DisentangledClassifier(
        in_channels, number, metadata.model, head, task=metadata.task
    )


def _linear(tensors: Mapping[str, Tensor], task: LabelTask) -> nn.Linear:
    shapes = {k.removeprefix(AUXILIARY): tuple(v.shape) for k, v in tensors.items()}
    match shapes:
        case {'weight': (outputs, inputs), 'bias': (biases,)} if (
            len(shapes) == 2 and outputs == biases and inputs
        ):
            pass
        case _:
            raise _unfit(ValueError(f'the auxiliary classifier has {shapes}.'))
    try:
        weight = tensors[f'{AUXILIARY}weight']
        with torch.random.fork_rng(devices=[]):
            linear = last_layer(weight.shape[1], weight.shape[0], task)
        linear.load_state_dict(
            {k.removeprefix(AUXILIARY): v for k, v in tensors.items()}
        )
    except RuntimeError as error:
        raise _unfit(error) from error
    return linear


def _check_description(
    classifier: DisentangledClassifier | FusionClassifier, metadata: ClassifierMetadata
) -> None:
    if isinstance(classifier, FusionClassifier):
        kind = 'fusion'
        channels = {
            m: len(cast(Tensor, n.fill)) for m, n in classifier.normalizations.items()
        }
    else:
        kind = 'disentangled'
        channels = dict.fromkeys(
            metadata.modalities, len(classifier.normalization.fill)
        )
    described = {m: value.in_channels for m, value in metadata.modalities.items()}
    found = (kind, channels, classifier.classifier.out_features)
    outputs = 1 if metadata.task == 'binary' else len(metadata.classes)
    expected = (metadata.kind, described, outputs)
    if found != expected:
        raise ClassifierFileError(
            'The metadata describe another classifier: kind, channels and number of '
            f'outputs are {found}, but the metadata have {expected}.'
        )

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""DisCoM-KD task."""

import warnings
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchgeo.datasets.utils import Sample

from ..errors import SettingError
from ..losses import (
    adversarial_loss,
    auxiliary_loss,
    classification_loss,
    modality_loss,
    orthogonality_loss,
)
from ..models import (
    DisCoMKDNetwork,
    DisCoMKDOutput,
    FusionClassifier,
    Normalization,
    read_outs,
    save_classifier,
)
from ..models.discomkd import READ_OUTS
from .training import MultiModalTrainingTask


class DisCoMKD(MultiModalTrainingTask):
    """Learn one classifier per modality, all at once and without a teacher.

    DisCoM-KD ("Disentangled Cross-Modal Knowledge Distillation") splits what each
    modality contains into embeddings that are invariant between the modalities,
    informative but specific to one, and irrelevant. Afterwards each modality is
    classified on its own.

    If you use this method in your research, please cite the following paper:

    * https://arxiv.org/abs/2408.07080

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.tasks import DisCoMKD
        >>> task = DisCoMKD({'ms': 13, 'sar': 2}, num_classes=3, model='test_resnet')
        >>> task.classifier_names()
        ['ms', 'sar']
        >>> x = torch.rand(4, 2, 32, 32)
        >>> task(x, 'sar').shape
        torch.Size([4, 3])
        >>> list(task.predict_step({'image_sar': x}, batch_idx=0))
        ['sar']
    """

    def __init__(
        self,
        in_channels: dict[str, int] | None = None,
        num_classes: int = 10,
        model: str = 'resnet18',
        weights: dict[str, str | bool | None] | None = None,
        head: Literal['linear_bn_relu', 'linear'] = 'linear_bn_relu',
        formulation: Literal['paper', 'released'] = 'paper',
        orthogonality: Literal['signed', 'absolute', 'squared'] = 'signed',
        classification_weight: float = 1.0,
        adversarial_weight: float = 1.0,
        modality_weight: float = 1.0,
        auxiliary_weight: float = 1.0,
        orthogonality_weight: float = 1.0,
        reversal_strength: float = 1.0,
        normalization: Literal['standardize', 'percentile', 'none'] = 'standardize',
        labels: Sequence[str] | None = None,
        lr: float = 1e-4,
        students: bool = False,
    ) -> None:
        """Initialize a new DisCoMKD instance.

        Args:
            in_channels: Number of bands of each modality, two modalities or more; their
                order gives their indices. Default: ms: 13, sar: 2.
            num_classes: Number of classes.
            model: Name of the `timm
                <https://huggingface.co/docs/timm/reference/models>`__ encoder.
            weights: Initial encoder weights for each modality: a TorchGeo weight enum
                as a string, True for ImageNet, or the path of a state dict. Default:
                random.
            head: Projection head of the invariant embedding: that of the released code
                or the single linear layer that the paper names.
            formulation: 'paper' asks the modality classifiers for the modality and sums
                the modalities' means (Eq. 2-7); 'released' has the soft targets and the
                joint mean of the authors' code.
            orthogonality: Form of the cosine in Eq. 6.
            classification_weight: Weight of Eq. 2.
            adversarial_weight: Weight of Eq. 3.
            modality_weight: Weight of Eq. 4.
            auxiliary_weight: Weight of Eq. 5.
            orthogonality_weight: Weight of Eq. 6.
            reversal_strength: Factor of the reversed gradient (lambda).
            normalization: First layer of the classifiers, with the statistics of the
                training split: 'standardize' by mean and standard deviation,
                'percentile' to clip to the 2nd and 98th percentile and scale to [0, 1],
                or 'none' to only replace missing pixels.
            labels: Class names, for data modules that do not provide them.
            lr: Learning rate of Adam.
            students: Whether to train, on the same batches and for comparison, one
                plain classifier per modality on its own.

        Raises:
            ModalityError: If there are fewer than two modalities, or *weights* names
                an unknown one.
            SettingError: If *formulation* is 'released' with three modalities or more.
            WeightsError: If *model* or *weights* are unknown, do not fit together or
                cannot be reached.

        Warns:
            UserWarning: If the signed Eq. 6 is combined with a head of signed output,
                which makes embeddings opposite, not orthogonal.
        """
        self.in_channels = dict(in_channels or {'ms': 13, 'sar': 2})
        if formulation == 'released' and len(self.in_channels) > 2:
            raise SettingError(
                f"formulation='released' is defined for two modalities, not for "
                f'{list(self.in_channels)}: use --model.formulation paper.'
            )
        self.weights = weights
        super().__init__()
        if head == 'linear' and orthogonality == 'signed':
            warnings.warn(
                "head='linear' has signed output: minimising Eq. 6 with "
                "orthogonality='signed' makes embeddings opposite, not orthogonal. Use "
                "orthogonality='absolute' or 'squared', or head='linear_bn_relu'.",
                stacklevel=2,
            )

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities, in the order of their indices."""
        return tuple(self.in_channels)

    def configure_models(self) -> None:
        """Initialize the network and, if requested, the plain students."""
        in_channels = self.in_channels
        kwargs = {
            'num_classes': self.hparams['num_classes'],
            'model': self.hparams['model'],
        }
        self.model = DisCoMKDNetwork(
            in_channels, head=self.hparams['head'], weights=self.weights, **kwargs
        )
        # created last, so that the network is the same with and without them
        self.students = nn.ModuleDict()
        if self.hparams['students']:
            for modality, channels in in_channels.items():
                weights = {modality: (self.weights or {}).get(modality)}
                self.students[modality] = FusionClassifier(
                    {modality: channels}, weights=weights, **kwargs
                )

    def _student(self, modality: str) -> FusionClassifier:
        return cast(FusionClassifier, self.students[modality])

    def classifier_names(self) -> list[str]:
        """Return the modalities."""
        return list(self.modalities)

    def comparison_names(self) -> list[str]:
        """Return '<modality>_student' and the read-outs of each modality."""
        suffixes = [*READ_OUTS, *(['student'] if self.hparams['students'] else [])]
        return [f'{m}_{suffix}' for m in self.modalities for suffix in suffixes]

    def normalizations(self) -> Iterable[tuple[str, Normalization]]:
        """Yield modality and normalisation of every classifier and student."""
        for modality in self.modalities:
            yield modality, self.model.classifiers[modality].normalization
            if modality in self.students:
                yield modality, self._student(modality).normalizations[modality]

    def forward(self, x: Tensor, modality: str) -> Tensor:
        """Classify images of one modality.

        Args:
            x: Raw values, float32, shape (B, C, H, W).
            modality: The modality.

        Returns:
            Logits, shape (B, classes).
        """
        logits: Tensor = self.model.classifiers[modality](x)
        return logits

    def training_inputs(self, batch: Sample) -> dict[str, Tensor]:
        """Select images and labels of all modalities.

        Args:
            batch: 'image_<modality>' for every modality, with 'label_<modality>'
                (unpaired) or one 'label' (paired).

        Returns:
            'image_<modality>' and 'label_<modality>'.

        Raises:
            BatchSizeError: If a modality has one sample only.
            ModalityError: If a modality is not in the batch.
        """
        images = self.images_to_train(batch)
        inputs = {f'image_{m}': x for m, x in images.items()}
        return inputs | {f'label_{m}': self.labels_of(batch, m) for m in images}

    @property
    def objective_state(self) -> Hashable:
        """All plain settings: a callback may change those of the loss."""
        plain = (str, int, float)
        return tuple(x for x in self.hparams.values() if isinstance(x, plain))

    def objective(
        self, inputs: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss.

        Args:
            inputs: 'image_<modality>' and 'label_<modality>' for every modality.

        Returns:
            Eq. 7 and, if requested, the students' own cross-entropies, in one sum; and
            'loss', which is Eq. 7 alone, with its terms '<name>_loss' without their
            weights, and '<modality>_student_loss'.
        """
        images = {m: inputs[f'image_{m}'] for m in self.modalities}
        labels = {m: inputs[f'label_{m}'] for m in self.modalities}
        output = self.model(images, self.hparams['reversal_strength'])
        terms = self.loss_terms(output, labels)
        loss = torch.stack(
            [self.hparams[f'{name}_weight'] * term for name, term in terms.items()]
        ).sum()
        log = {f'{name}_loss': term for name, term in terms.items()} | {'loss': loss}
        for modality, student in self.students.items():
            student_loss = cross_entropy(student(images[modality]), labels[modality])
            log[f'{modality}_student_loss'] = student_loss
            loss = loss + student_loss
        return loss, log

    def loss_terms(
        self, output: DisCoMKDOutput, labels: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Compute the five terms of Eq. 7, without their weights.

        Args:
            output: Output of the network for the batch.
            labels: int64 (B,) for each modality.

        Returns:
            'classification', 'adversarial', 'modality', 'auxiliary', 'orthogonality'.
        """
        released = self.hparams['formulation'] == 'released'
        targets: Literal['index', 'released'] = 'released' if released else 'index'
        reduction: Literal['mean_of_rows', 'sum_of_means'] = (
            'mean_of_rows' if released else 'sum_of_means'
        )
        embeddings = output.embeddings
        return {
            'classification': classification_loss(output.logits, labels, reduction),
            'adversarial': adversarial_loss(
                output.adversarial_logits, targets, reduction
            ),
            'modality': modality_loss(
                output.informative_modality_logits,
                output.irrelevant_modality_logits,
                targets,
                reduction,
            ),
            'auxiliary': auxiliary_loss(
                output.auxiliary_invariant_logits,
                output.auxiliary_informative_logits,
                labels,
                reduction,
            ),
            'orthogonality': orthogonality_loss(
                {m: e.invariant for m, e in embeddings.items()},
                {m: e.informative for m, e in embeddings.items()},
                {m: e.irrelevant for m, e in embeddings.items()},
                self.hparams['orthogonality'],
                reduction,
            ),
        }

    def evaluate(self, batch: Sample, stage: str) -> dict[str, Tensor]:
        """Classify a batch of whichever modalities it has.

        Args:
            batch: 'image_<modality>' raw values, float32 (B, C, H, W), for at least
                one modality.
            stage: Either 'val', 'test' or 'predict'.

        Returns:
            Logits (B, classes) for each modality; in 'val' and 'test' for its student;
            in 'test' for the read-outs '<modality>_invariant' and
            '<modality>_informative' too, through the auxiliary task classifier
            (Table 4).
        """
        logits = {}
        for modality, x in self.images_of(batch).items():
            classifier = self.model.classifiers[modality]
            embeddings = classifier.embed(x)
            logits[modality] = classifier.classify(embeddings)
            if stage != 'predict' and modality in self.students:
                logits[f'{modality}_student'] = self.students[modality](x)
            if stage == 'test':
                found = read_outs(embeddings, self.model.auxiliary_classifier)
                logits |= {f'{modality}_{name}': z for name, z in found.items()}
        return logits

    def save_classifier(
        self, name: str, path: Path, scores: dict[str, float], epoch: int
    ) -> None:
        """Write the classifier of one modality, or a student, to a file of its own.

        Args:
            name: A modality, or '<modality>_student'.
            path: The file.
            scores: Scores to record in the file.
            epoch: Epoch to record in the file.
        """
        modality = name.removesuffix('_student')
        if name in self.modalities:
            metadata = self.classifier_metadata('disentangled', [name], scores, epoch)
            classifier = self.model.classifiers[name]
            auxiliary = self.model.auxiliary_classifier
            save_classifier(path, classifier, metadata, auxiliary)
        else:
            metadata = self.classifier_metadata('fusion', [modality], scores, epoch)
            save_classifier(path, self._student(modality), metadata)

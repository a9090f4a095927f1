# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""DisCoM-KD task."""

import warnings
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torchgeo.datasets.utils import Sample

from ..errors import ModalityError, SettingError
from ..losses import (
    adversarial_loss,
    auxiliary_loss,
    classification_loss,
    modality_loss,
    orthogonality_loss,
    term_scales,
)
from ..metadata import LabelTask
from ..models import (
    DisCoMKDNetwork,
    DisCoMKDOutput,
    FusionClassifier,
    Normalization,
    read_outs,
    save_classifier,
)
from ..models.modalities import READ_OUTS
from ..models.weights import Weights
from .compared import ComparedTask
from .guessing import terms_of_guessing
from .labels import plain_numbers
from .present import present_inputs, shared_rows, with_all_modalities, with_empty_rows
from .students import Students, classify, create_students, encoders_of, normalization_of


class DisCoMKD(ComparedTask):
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

    uses_unlabelled = True
    uses_incomplete = True
    objective_parts = (
        *('objective', 'loss_terms', 'transfer_terms'),
        *('active_guide', 'modalities', 'term_scales'),
        *('_comparisons', '_compared', '_student_losses'),
    )

    def __init__(
        self,
        in_channels: dict[str, int] | None = None,
        num_classes: int = 10,
        model: str = 'resnet18',
        weights: dict[str, Weights] | Weights = None,
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
        students: Students = False,
        transfer: bool = False,
        transfer_guide: str | None = None,
        transfer_warmup: int = 1,
        transfer_temperature: float = 4.0,
        prediction_transfer_weight: float = 0.5,
        embedding_transfer_weight: float = 1.0,
        class_weights: Tensor | Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        freeze_backbone: bool | dict[str, bool] = False,
        task: LabelTask = 'multiclass',
        adversary: Literal['joint', 'pairwise', 'one-vs-rest'] = 'joint',
        term_scale: Literal['sum', 'constant_share'] = 'sum',
        layer_decay: float | None = None,
    ) -> None:
        """Initialize a new DisCoMKD instance.

        Args:
            in_channels: Number of bands of each modality, two modalities or more; their
                order gives their indices. Default: ms: 13, sar: 2.
            num_classes: Number of classes.
            model: Name of the `timm
                <https://huggingface.co/docs/timm/reference/models>`__ encoder.
            weights: Initial encoder weights, of all modalities or by modality: a weight
                of TorchGeo or torchvision or its name, True for ImageNet, or the path
                of a state dict, see :func:`~torchgeo_discomkd.models.create_encoder`.
                Default: random, as for a modality that is not named.
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
            students: What to train, on the same batches and for comparison, for each
                modality on its own with cross-entropy: 'plain' or True, a classifier of
                one encoder; 'same_size', the network that is deployed; or 'both'.
            transfer: Whether one modality guides the others, which needs the same
                samples in all of them: two terms that are not in the paper.
            transfer_guide: The modality that guides. Default: the one that the
                validation at the end of the warm-up finds best.
            transfer_warmup: Number of epochs without transfer.
            transfer_temperature: Temperature of the class probabilities.
            prediction_transfer_weight: Weight of the divergence from the guide's class
                probabilities.
            embedding_transfer_weight: Weight of the distance from the guide's invariant
                embeddings.
            class_weights: Weight of each class, in the order of the labels, in Eq. 2,
                Eq. 5, the students' cross-entropies and the losses of validation and
                test, whose means are the weighted ones. With 'multilabel': the weight
                of the samples that have a label (TorchGeo's ``pos_weight``), for each.
            label_smoothing: Share of the target that all classes have equally, 0 to 1,
                in the same terms.
            freeze_backbone: Whether the encoders, also those of the students, keep
                their initial weights and statistics; of all modalities or by modality.
            task: Kind of labels, as in TorchGeo's ``Classification``: 'multiclass', one
                of *num_classes* classes; 'multilabel', any of *num_classes* labels,
                with a sigmoid and the binary cross-entropy of each; or 'binary', one of
                two classes by a single logit.
            adversary: What the discriminator of Eq. 3 is asked about an invariant
                embedding: which of all modalities it is from ('joint', as in the
                paper), which of two, for each pair ('pairwise'), or whether it is from
                this one, for each ('one-vs-rest'); see
                :func:`~torchgeo_discomkd.losses.adversarial_loss`. With two modalities
                'joint' and 'pairwise' are the same.
            term_scale: 'sum' adds up the modalities, as in the paper, so that the terms
                grow with their number M, and those that tell M modalities apart faster
                than the others; 'constant_share' keeps all terms as large as with two
                modalities, see :func:`~torchgeo_discomkd.losses.term_scales`, and is
                the same for two.
            layer_decay: Factor by which each layer of an encoder learns more slowly
                than the next, above 0 and at most 1: 0.65 to 0.75 is common for
                pretrained transformers. Default: all learn at *lr*.

        Raises:
            ModalityError: If there are fewer than two modalities, or *weights*,
                *transfer_guide* or *freeze_backbone* name an unknown one.
            LabelError: If *task* is 'binary' and *num_classes* is not 2.
            SettingError: If *formulation* is 'released' with three modalities or more
                or another *adversary* than 'joint', *adversary* or *term_scale* is
                unknown, a setting of *transfer* is out of range, or set without it, or
                *class_weights* or *label_smoothing* are out of range or too many.
            WeightsError: If *model* or *weights* are unknown, do not fit together or
                cannot be reached.

        Warns:
            UserWarning: If the signed Eq. 6 is combined with a head of signed output,
                which makes embeddings opposite, not orthogonal.
        """
        self.in_channels = dict(in_channels or {'ms': 13, 'sar': 2})
        if len(self.in_channels) == 1:
            raise ModalityError(
                f'in_channels={self.in_channels}: with one modality there is nothing '
                'to share, and Eq. 3 and 4 are constant. Name two or more, or train '
                'the same network alone: --model FusionClassification '
                '--model.network same_size.'
            )
        if formulation == 'released' and len(self.in_channels) > 2:
            raise SettingError(
                f"formulation='released' is defined for two modalities, not for "
                f'{list(self.in_channels)}: use --model.formulation paper.'
            )
        if formulation == 'released' and adversary != 'joint':
            raise SettingError(
                f'adversary={adversary!r}: the targets of formulation="released" are '
                'defined for adversary="joint". Use --model.formulation paper.'
            )
        for name, value, known in (
            ('adversary', adversary, ('joint', 'pairwise', 'one-vs-rest')),
            ('term_scale', term_scale, ('sum', 'constant_share')),
        ):
            if value not in known:
                raise SettingError(f'{name}={value!r}: use {" or ".join(known)}.')
        self.weights = weights
        # a checkpoint holds plain numbers
        class_weights = plain_numbers(class_weights)
        super().__init__()
        self.configure_transfer()
        if head == 'linear' and orthogonality == 'signed':
            warnings.warn(
                "head='linear' has signed output: minimising Eq. 6 with "
                "orthogonality='signed' makes embeddings opposite, not orthogonal. Use "
                "orthogonality='absolute' or 'squared', or head='linear_bn_relu'.",
                stacklevel=2,
            )

    @property
    def term_scales(self) -> Mapping[str, float]:
        """Factor of each term: 1, or what *term_scale* asks for."""
        scales = term_scales(self.hparams['adversary'], len(self.in_channels))
        one = self.hparams['term_scale'] == 'sum'
        return dict.fromkeys(scales, 1.0) if one else scales

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities, in the order of their indices."""
        return tuple(self.in_channels)

    def configure_models(self) -> None:
        """Initialize the network and, if requested, what it is compared with."""
        settings = {
            name: self.hparams[name]
            for name in ('num_classes', 'model', 'head', 'task')
        }
        settings['weights'] = self.weights
        self.model = DisCoMKDNetwork(
            self.in_channels, **settings, adversary=self.hparams['adversary']
        )
        # created last, so that the network is the same with and without them
        kinds = self.hparams['students']
        self.students, self.same_size = create_students(
            kinds, self.in_channels, **settings
        )

    def classifier_names(self) -> list[str]:
        """Return the modalities."""
        return list(self.modalities)

    def comparison_names(self) -> list[str]:
        """Return the names of students and of the read-outs of each modality."""
        return [
            name
            for m in self.modalities
            for name in (*(f'{m}_{r}' for r in READ_OUTS), *self._comparisons(m))
        ]

    def validated_names(self) -> list[str]:
        """Return the modalities and their students; read-outs are for the test."""
        return [*self.modalities, *self._compared()]

    def normalizations(self) -> Iterable[tuple[str, Normalization]]:
        """Yield modality and normalisation of every classifier and student."""
        for modality in self.modalities:
            yield modality, self.model.classifiers[modality].normalization
            for student in self._comparisons(modality).values():
                yield modality, normalization_of(student, modality)

    def encoders(self) -> Iterable[tuple[str, nn.Module]]:
        """Yield modality and encoder of every classifier and student."""
        for modality in self.modalities:
            classifier = self.model.classifiers[modality]
            for each in (classifier, *self._comparisons(modality).values()):
                for encoder in encoders_of(each, modality):
                    yield modality, encoder

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
                (unpaired) or one 'label' (paired); -1 marks a sample without a label.
                With 'present_<modality>' (paired), images that a sample lacks are left
                out, as if they were not in the batch.

        Returns:
            'image_<modality>' and 'label_<modality>', and of incomplete batches what
            :func:`~.present.present_inputs` returns.

        Raises:
            BatchSizeError: If a modality has one sample only.
            LabelError: If the labels are not one class for each sample.
            ModalityError: If a modality is not in the batch, a sample has none at all,
                or transfer is on and the batch is unpaired.
        """
        images = self.images_to_train(batch)
        self.check_pairing(batch)
        inputs = {f'image_{m}': x for m, x in images.items()}
        inputs |= {f'label_{m}': self.labels_of(batch, m) for m in images}
        return present_inputs(inputs, batch, self.modalities, self.active_guide)

    @property
    def objective_state(self) -> Hashable:
        """The guide and all plain settings: a callback may change those of the loss."""
        plain = (str, int, float)
        settings = (x for x in self.hparams.values() if isinstance(x, plain))
        return self.active_guide, self.criterion.label_smoothing, *settings

    def objective(
        self, inputs: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss.

        Args:
            inputs: 'image_<modality>' and 'label_<modality>' for every modality; of an
                incomplete batch, of some modalities nothing, which then add nothing to
                any term, and what :func:`~.present.present_inputs` adds.

        Returns:
            Eq. 7, the terms of an active transfer and, if requested, the students' own
            cross-entropies, in one sum; and 'loss', which is this sum without the
            students, with its terms '<name>_loss', scaled but without their weights,
            '<modality>_student_loss' or '<modality>_same_size_loss' and, to be
            watched, '<modality>_logits'. Samples without a label count in all terms
            that need none.
        """
        present = [m for m in self.modalities if f'image_{m}' in inputs]
        images = {m: inputs[f'image_{m}'] for m in present}
        own = {m: inputs[f'label_{m}'] for m in present}
        labels = with_empty_rows(own, self.modalities)
        output = self.model(images, self.hparams['reversal_strength'])
        output = with_all_modalities(output, self.modalities)
        shared = None
        if self.active_guide is not None:
            shared = shared_rows(inputs, self.active_guide)
        terms = self.loss_terms(output, labels) | self.transfer_terms(output, shared)
        terms = {name: self.term_scales[name] * term for name, term in terms.items()}
        loss = torch.stack(
            [self.hparams[f'{name}_weight'] * term for name, term in terms.items()]
        ).sum()
        log = {f'{name}_loss': term for name, term in terms.items()} | {'loss': loss}
        for name, own_loss in self._student_losses(images, labels):
            log[f'{name}_loss'] = own_loss
            loss = loss + own_loss
        # NaN or infinite if any of them is
        log |= {f'{m}_logits': x.detach().sum() for m, x in output.logits.items()}
        return loss, log

    def chance_levels(self) -> dict[str, float]:
        """Return the terms of Eq. 7 that equal probabilities give, by name.

        A term with weight 0 is left out: nothing learns from it.
        """
        terms = terms_of_guessing(
            self.modalities,
            self.hparams['num_classes'],
            self.hparams['formulation'],
            self.hparams['adversary'],
            self.task,
        )
        unknown = self.unknown_chance
        return {
            f'{name}_loss': self.term_scales[name] * term
            for name, term in terms.items()
            if self.hparams[f'{name}_weight']
            and not (unknown and name in {'classification', 'auxiliary'})
        }

    def term_names(self) -> list[str]:
        """Return the names of the scalars that :meth:`objective` returns."""
        terms = ['classification', 'adversarial', 'modality', 'auxiliary']
        terms += ['orthogonality', *self.transfer_names()]
        return ['loss', *(f'{name}_loss' for name in (*terms, *self._compared()))]

    def loss_terms(
        self, output: DisCoMKDOutput, labels: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Compute the five terms of Eq. 7, without their weights.

        Args:
            output: Output of the network for the batch.
            labels: int64 (B,) or, with several labels, (B, C) for each modality.

        Returns:
            'classification', 'adversarial', 'modality', 'auxiliary', 'orthogonality'.
        """
        released = self.hparams['formulation'] == 'released'
        targets: Literal['index', 'released'] = 'released' if released else 'index'
        reduction: Literal['mean_of_rows', 'sum_of_means'] = (
            'mean_of_rows' if released else 'sum_of_means'
        )
        embeddings, criterion = output.embeddings, self.criterion
        options = criterion.weight, criterion.label_smoothing
        return {
            'classification': classification_loss(
                output.logits, labels, reduction, *options
            ),
            'adversarial': adversarial_loss(
                output.adversarial_logits, targets, reduction, self.hparams['adversary']
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
                *options,
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
            Logits (B, classes) for each modality; in 'val' and 'test' for its students;
            in 'test' for the read-outs '<modality>_invariant' and
            '<modality>_informative' too, through the auxiliary task classifier
            (Table 4).
        """
        logits = {}
        for modality, x in self.images_of(batch).items():
            classifier = self.model.classifiers[modality]
            embeddings = classifier.embed(x)
            logits[modality] = classifier.classify(embeddings)
            if stage != 'predict':
                for name, student in self._comparisons(modality).items():
                    logits[name] = classify(student, {modality: x})
            if stage == 'test':
                found = read_outs(embeddings, self.model.auxiliary_classifier)
                logits |= {f'{modality}_{name}': z for name, z in found.items()}
        return logits

    def save_classifier(
        self, name: str, path: Path, scores: dict[str, float], epoch: int
    ) -> None:
        """Write the classifier of one modality, or a student, to a file of its own.

        Args:
            name: A modality, or one of :meth:`comparison_names` but the read-outs.
            path: The file.
            scores: Scores to record in the file.
            epoch: Epoch to record in the file, counted from 0.
        """
        auxiliary = None
        if name in self.modalities:
            modality, classifier = name, self.model.classifiers[name]
            auxiliary = self.model.auxiliary_classifier
        else:
            modality, classifier = self._compared()[name]
        plain = isinstance(classifier, FusionClassifier)
        kind: Literal['disentangled', 'fusion'] = 'fusion' if plain else 'disentangled'
        metadata = self.classifier_metadata(kind, [modality], scores, epoch)
        save_classifier(path, classifier, metadata, auxiliary)

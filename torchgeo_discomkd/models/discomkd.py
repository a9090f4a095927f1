# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""The DisCoM-KD network and the single-modality classifiers it consists of.

Source: Ienco & Dantas, 'DisCoM-KD', BMVC 2024, https://arxiv.org/abs/2408.07080.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from ..errors import ModalityError, WeightsError
from ..losses import Adversary, discriminator_size, gradient_reversal
from ..metadata import LabelTask
from .encoder import create_encoder
from .heads import last_layer
from .modalities import READ_OUTS, check_known, check_names
from .normalization import Normalization
from .weights import ModalityWeights, Weights, weights_by_modality

type Head = Literal['linear_bn_relu', 'linear']


class Embeddings(NamedTuple):
    """The three embeddings of a batch of one modality, each of shape (B, D).

    Attributes:
        invariant: What all modalities share.
        informative: What only this modality knows about the class.
        irrelevant: What only this modality knows and the class does not need.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.models import DisentangledEncoder
        >>> encoder = DisentangledEncoder(in_channels=2, model='test_resnet')
        >>> embeddings = encoder(torch.rand(4, 2, 32, 32))
        >>> embeddings._fields
        ('invariant', 'informative', 'irrelevant')
        >>> embeddings.invariant.shape
        torch.Size([4, 48])
    """

    invariant: Tensor
    informative: Tensor
    irrelevant: Tensor


class DisentangledEncoder(nn.Module):
    """Two encoders of one modality and the projection of the first.

    The specific encoder's features are split in two: the first half is the informative
    embedding, the second half the irrelevant one. The projection brings the invariant
    encoder's features to the same size D.

    Attributes:
        embedding_size: Size D of each embedding.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.models import DisentangledEncoder
        >>> encoder = DisentangledEncoder(in_channels=2, model='test_resnet')
        >>> encoder.embedding_size
        48
        >>> invariant, informative, irrelevant = encoder(torch.rand(4, 2, 32, 32))
        >>> informative.shape
        torch.Size([4, 48])
    """

    def __init__(
        self,
        in_channels: int,
        model: str = 'resnet18',
        head: Head = 'linear_bn_relu',
        weights: Weights = None,
    ) -> None:
        """Initialize a new DisentangledEncoder instance.

        Args:
            in_channels: Number of bands C.
            model: Name of a timm model, used for both encoders.
            head: Projection: a linear layer, batch normalisation and ReLU (released
                code), or a linear layer alone (paper). With 'linear' the signed
                orthogonality loss leads to opposite, not orthogonal, embeddings.
            weights: As for :func:`create_encoder`, used for both encoders.

        Raises:
            BandError: If *in_channels* is not positive.
            ValueError: If *head* is unknown.
            WeightsError: If *model* or *weights* cannot be used, or the number of
                features of *model* is odd.
        """
        super().__init__()
        self.invariant_encoder = create_encoder(model, in_channels, weights)
        self.specific_encoder = create_encoder(model, in_channels, weights)
        features = cast(int, self.specific_encoder.num_features)
        if features % 2:
            raise WeightsError(
                f"model='{model}' has {features} features, which cannot be halved: "
                'choose a model with an even number of features.'
            )
        self.embedding_size = features // 2
        linear = nn.Linear(features, self.embedding_size)
        match head:
            case 'linear_bn_relu':
                norm = nn.BatchNorm1d(self.embedding_size)
                self.projection = nn.Sequential(linear, norm, nn.ReLU())
            case 'linear':
                self.projection = nn.Sequential(linear)
            case _:
                raise ValueError(f"head='{head}': use 'linear_bn_relu' or 'linear'.")

    def forward(self, x: Tensor) -> Embeddings:
        """Embed a batch of normalised images.

        Args:
            x: Images, shape (B, C, H, W).

        Returns:
            Three embeddings, each of shape (B, D).
        """
        invariant = self.projection(self.invariant_encoder(x))
        informative, irrelevant = self.specific_encoder(x).chunk(2, dim=1)
        return Embeddings(invariant, informative, irrelevant)


class DisentangledClassifier(nn.Module):
    """Classifier of one modality: all that DisCoM-KD keeps after training.

    It takes raw pixels: the normalisation is its first layer.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.models import DisentangledClassifier
        >>> classifier = DisentangledClassifier(2, num_classes=3, model='test_resnet')
        >>> classifier(torch.rand(4, 2, 32, 32)).shape
        torch.Size([4, 3])
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        model: str = 'resnet18',
        head: Head = 'linear_bn_relu',
        weights: Weights = None,
        task: LabelTask = 'multiclass',
    ) -> None:
        """Initialize a new DisentangledClassifier instance.

        Args:
            in_channels: Number of bands C.
            num_classes: Number of classes K.
            model: Name of a timm model.
            head: As for :class:`DisentangledEncoder`.
            weights: As for :func:`create_encoder`.
            task: Kind of labels: 'multiclass', 'multilabel' (K independent labels), or
                'binary', whose last layer has one output and whose logits are (0, z).

        Raises:
            BandError: If *in_channels* is not positive.
            ValueError: If *head* is unknown.
            WeightsError: If *model* or *weights* cannot be used.
        """
        super().__init__()
        self.encoder = DisentangledEncoder(in_channels, model, head, weights)
        self.normalization = Normalization(in_channels)
        size = 2 * self.encoder.embedding_size
        self.classifier = last_layer(size, num_classes, task)

    @property
    def backbones(self) -> list[str]:
        """Names of the submodules between the normalisation and the last layer."""
        names = ('invariant_encoder', 'specific_encoder', 'projection')
        return [f'encoder.{name}' for name in names]

    def embed(self, x: Tensor) -> Embeddings:
        """Embed a batch.

        Args:
            x: Raw images, shape (B, C, H, W).

        Returns:
            Three embeddings, each of shape (B, D).

        Raises:
            BandError: If the number of bands is wrong.
        """
        return self.encoder(self.normalization(x))

    def classify(self, embeddings: Embeddings) -> Tensor:
        """Classify by the invariant and the informative embedding.

        Args:
            embeddings: What :meth:`embed` returned.

        Returns:
            Logits, shape (B, K).
        """
        return self.classifier(
            torch.cat([embeddings.invariant, embeddings.informative], dim=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Classify a batch.

        Args:
            x: Raw images, shape (B, C, H, W).

        Returns:
            Logits, shape (B, K).

        Raises:
            BandError: If the number of bands is wrong.
        """
        return self.classify(self.embed(x))


class DisCoMKDOutput(NamedTuple):
    """Everything that the losses need, by modality, in the order of the network.

    B is the batch size of a modality, K the number of classes, M that of modalities.

    Attributes:
        logits: Logits of the task classifiers, shape (B, K).
        embeddings: The three embeddings.
        adversarial_logits: Logits of the discriminator, after the gradient reversal,
            shape (B, M), for a 'pairwise' one (B, M(M - 1)).
        informative_modality_logits: Logits of the informative modality classifier,
            shape (B, M).
        irrelevant_modality_logits: Logits of the irrelevant modality classifier, shape
            (B, M).
        auxiliary_invariant_logits: Logits of the auxiliary task classifier for
            invariant embeddings, shape (B, K).
        auxiliary_informative_logits: Logits of the auxiliary task classifier for
            informative embeddings, shape (B, K).

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.models import DisCoMKDNetwork
        >>> network = DisCoMKDNetwork({'ms': 13, 'sar': 2}, 3, model='test_resnet')
        >>> output = network({'sar': torch.rand(4, 2, 32, 32)})
        >>> output.logits['sar'].shape
        torch.Size([4, 3])
        >>> output.adversarial_logits['sar'].shape
        torch.Size([4, 2])
    """

    logits: dict[str, Tensor]
    embeddings: dict[str, Embeddings]
    adversarial_logits: dict[str, Tensor]
    informative_modality_logits: dict[str, Tensor]
    irrelevant_modality_logits: dict[str, Tensor]
    auxiliary_invariant_logits: dict[str, Tensor]
    auxiliary_informative_logits: dict[str, Tensor]


class DisCoMKDNetwork(nn.Module):
    """One classifier per modality and, for training only, four shared linear layers.

    The shared layers need embeddings of the same size, so all use one timm model.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.models import DisCoMKDNetwork
        >>> network = DisCoMKDNetwork({'ms': 13, 'sar': 2}, 3, model='test_resnet')
        >>> images = {'ms': torch.rand(4, 13, 32, 32), 'sar': torch.rand(2, 2, 32, 32)}
        >>> output = network(images)
        >>> {m: tuple(logits.shape) for m, logits in output.logits.items()}
        {'ms': (4, 3), 'sar': (2, 3)}
        >>> network.classifiers['sar'](images['sar']).shape  # all that is kept
        torch.Size([2, 3])
    """

    def __init__(
        self,
        in_channels: Mapping[str, int],
        num_classes: int,
        model: str = 'resnet18',
        head: Head = 'linear_bn_relu',
        weights: ModalityWeights = None,
        task: LabelTask = 'multiclass',
        adversary: Adversary = 'joint',
    ) -> None:
        """Initialize a new DisCoMKDNetwork instance.

        Args:
            in_channels: Number of bands by modality, two or more; their order gives
                the index that the modality classifiers predict.
            num_classes: Number of classes K.
            model: Name of a timm model.
            head: As for :class:`DisentangledEncoder`.
            weights: Pretrained weights, as for :func:`create_encoder`, of all
                modalities or by modality; one without any starts from random ones.
            task: As for :class:`DisentangledClassifier`.
            adversary: Form of the discriminator, as for
                :func:`~torchgeo_discomkd.losses.adversarial_loss`.

        Raises:
            BandError: If a number of bands is not positive.
            ModalityError: If there are fewer than two modalities, a name is illegal, or
                *weights* has an unknown one.
            ValueError: If *head* or *adversary* is unknown.
            WeightsError: If *model* or *weights* cannot be used.
        """
        super().__init__()
        check_names(in_channels, minimum=2)
        own = weights_by_modality(weights, in_channels)
        self.classifiers = nn.ModuleDict(
            {
                modality: DisentangledClassifier(
                    channels, num_classes, model, head, own[modality], task
                )
                for modality, channels in in_channels.items()
            }
        )
        size = self._classifier(next(iter(in_channels))).encoder.embedding_size
        scores = discriminator_size(adversary, len(in_channels))
        self.discriminator = nn.Linear(size, scores)
        self.informative_modality_classifier = nn.Linear(size, len(in_channels))
        self.irrelevant_modality_classifier = nn.Linear(size, len(in_channels))
        self.auxiliary_classifier = last_layer(size, num_classes, task)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, in the order of their indices."""
        return tuple(self.classifiers)

    def forward(
        self, images: Mapping[str, Tensor], reversal_strength: float = 1.0
    ) -> DisCoMKDOutput:
        """Compute everything that the losses need.

        Args:
            images: Raw images by modality, shape (B_m, C_m, H_m, W_m), of one or more
                of the network's modalities in any order.
            reversal_strength: Factor of the reversed gradient (lambda).

        Returns:
            One entry per modality in *images*, in the order of the network.

        Raises:
            BandError: If the number of bands is wrong.
            ModalityError: If a modality is unknown or none is given.
        """
        check_known(images, self.modalities, 'images')
        if not images:
            raise ModalityError(f'No images given: give any of {self.modalities}.')
        modalities = [m for m in self.modalities if m in images]
        embeddings = {m: self._classifier(m).embed(images[m]) for m in modalities}
        invariant = {m: e.invariant for m, e in embeddings.items()}
        informative = {m: e.informative for m, e in embeddings.items()}
        return DisCoMKDOutput(
            logits={m: self._classifier(m).classify(e) for m, e in embeddings.items()},
            embeddings=embeddings,
            adversarial_logits={
                m: self.discriminator(gradient_reversal(e, reversal_strength))
                for m, e in invariant.items()
            },
            informative_modality_logits={
                m: self.informative_modality_classifier(e)
                for m, e in informative.items()
            },
            irrelevant_modality_logits={
                m: self.irrelevant_modality_classifier(e.irrelevant)
                for m, e in embeddings.items()
            },
            auxiliary_invariant_logits={
                m: self.auxiliary_classifier(e) for m, e in invariant.items()
            },
            auxiliary_informative_logits={
                m: self.auxiliary_classifier(e) for m, e in informative.items()
            },
        )

    def _classifier(self, modality: str) -> DisentangledClassifier:
        return cast(DisentangledClassifier, self.classifiers[modality])


def read_outs(embeddings: Embeddings, auxiliary: nn.Module) -> dict[str, Tensor]:
    """Classify by the invariant and by the informative embedding alone (Table 4).

    Args:
        embeddings: Embeddings of one modality, each of shape (B, D).
        auxiliary: The auxiliary task classifier, from (B, D) to (B, K).

    Returns:
        Logits, shape (B, K), for each of :data:`~.modalities.READ_OUTS`.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.models import DisCoMKDNetwork, read_outs
        >>> network = DisCoMKDNetwork({'ms': 13, 'sar': 2}, 3, model='test_resnet')
        >>> embeddings = network.classifiers['sar'].embed(torch.rand(4, 2, 32, 32))
        >>> logits = read_outs(embeddings, network.auxiliary_classifier)
        >>> {name: tuple(z.shape) for name, z in logits.items()}
        {'invariant': (4, 3), 'informative': (4, 3)}
    """
    return {name: auxiliary(getattr(embeddings, name)) for name in READ_OUTS}

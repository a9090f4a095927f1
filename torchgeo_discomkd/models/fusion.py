# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Classifier of one or several modalities with summed features.

With one modality it is the STUDENT of the DisCoM-KD paper, with several its TEACHER.
Source: Ienco & Dantas, BMVC 2024, https://arxiv.org/abs/2408.07080, Section 4.
"""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from ..errors import ModalityError
from ..metadata import LabelTask
from .encoder import create_encoder
from .heads import last_layer
from .modalities import check_names, check_present
from .normalization import Normalization
from .weights import ModalityWeights, weights_by_modality


class FusionClassifier(nn.Module):
    """One encoder per modality, the sum of their features and one linear layer.

    It takes raw pixels: normalisation is the first layer of every modality.

    Example:
        >>> import torch
        >>> from torchgeo_discomkd.models import FusionClassifier
        >>> teacher = FusionClassifier({'ms': 13, 'sar': 2}, 3, model='test_resnet')
        >>> images = {'ms': torch.rand(4, 13, 32, 32), 'sar': torch.rand(4, 2, 32, 32)}
        >>> teacher(images).shape
        torch.Size([4, 3])
        >>> student = FusionClassifier({'sar': 2}, 3, model='test_resnet')
        >>> student(images['sar']).shape
        torch.Size([4, 3])
    """

    def __init__(
        self,
        in_channels: Mapping[str, int],
        num_classes: int,
        model: str = 'resnet18',
        weights: ModalityWeights = None,
        task: LabelTask = 'multiclass',
    ) -> None:
        """Initialize a new FusionClassifier instance.

        Args:
            in_channels: Number of bands by modality, one or more.
            num_classes: Number of classes K.
            model: Name of a timm model, used for all modalities.
            weights: Pretrained weights, as for :func:`create_encoder`, of all
                modalities or by modality; one without any starts from random ones.
            task: Kind of labels: 'multiclass', 'multilabel' (K independent labels), or
                'binary', whose last layer has one output and whose logits are (0, z).

        Raises:
            BandError: If a number of bands is not positive.
            ModalityError: If there is no modality, a name is illegal, or *weights* has
                an unknown one.
            WeightsError: If *model* or *weights* cannot be used.
        """
        super().__init__()
        check_names(in_channels, minimum=1)
        own = weights_by_modality(weights, in_channels)
        self.normalizations = nn.ModuleDict(
            {m: Normalization(channels) for m, channels in in_channels.items()}
        )
        self.encoders = nn.ModuleDict(
            {
                m: create_encoder(model, channels, own[m])
                for m, channels in in_channels.items()
            }
        )
        encoder = next(iter(self.encoders.values()))
        self.classifier = last_layer(cast(int, encoder.num_features), num_classes, task)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities."""
        return tuple(self.encoders)

    @property
    def backbones(self) -> list[str]:
        """Names of the submodules between the normalisations and the last layer."""
        return [f'encoders.{modality}' for modality in self.encoders]

    def forward(self, images: Mapping[str, Tensor] | Tensor) -> Tensor:
        """Classify a batch.

        Args:
            images: Raw images by modality, shape (B, C_m, H_m, W_m), ignoring any that
                the classifier does not take; or, if it takes a single modality, the
                images of that one.

        Returns:
            Logits, shape (B, K).

        Raises:
            BandError: If the number of bands is wrong.
            ModalityError: If a modality is missing.
        """
        if isinstance(images, Tensor):
            if len(self.modalities) > 1:
                raise ModalityError(
                    f'A single tensor given to a classifier of {self.modalities}: give '
                    'a mapping from modality to images.'
                )
            images = {self.modalities[0]: images}
        check_present(self.modalities, images)
        features = [
            encoder(self.normalizations[m](images[m]))
            for m, encoder in self.encoders.items()
        ]
        return self.classifier(torch.stack(features).sum(dim=0))

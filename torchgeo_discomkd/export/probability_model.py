# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""The network that is exported: raw pixels in, calibrated probabilities out."""

from torch import Tensor, nn

from ..errors import ModalityError
from ..models import LoadedClassifier


class ProbabilityModel(nn.Module):
    """A classifier of one modality with its calibration, and nothing else.

    It shares its weights with the loaded classifier, without the auxiliary task
    classifier, which only read-outs by one embedding need.
    """

    def __init__(self, loaded: LoadedClassifier) -> None:
        """Initialize a new ProbabilityModel instance.

        Args:
            loaded: A classifier of one modality.

        Raises:
            ModalityError: If it needs several modalities.
        """
        super().__init__()
        if len(loaded.modalities) != 1:
            raise ModalityError(
                f'The classifier needs {list(loaded.modalities)} together, but only a '
                'classifier of one modality can be exported: give '
                'best/<modality>.safetensors of DisCoM-KD or of a student.'
            )
        self.classifier = loaded.classifier
        self.temperature = loaded.metadata.temperature
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Classify a batch.

        Args:
            images: Raw values, float32, shape (B, C, H, W); NaN and infinite pixels
                are missing ones.

        Returns:
            Probabilities, shape (B, K), each row with sum 1.

        Raises:
            BandError: If the number of bands is wrong.
        """
        return (self.classifier(images) / self.temperature).softmax(dim=1)

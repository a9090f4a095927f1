# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""The exported program: raw pixels in, calibrated probabilities out."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ..errors import ClassifierFileError, ModalityError
from ..models import ClassifierMetadata, LoadedClassifier
from ..models.heads import to_probabilities
from .comparison import SIZES
from .properties import INPUT, OUTPUT

#: Version of the operator set, which onnxruntime has read since 1.14 (2023).
OPSET = 18


class ProbabilityModel(nn.Module):
    """A classifier of one modality with its calibration, and nothing else.

    It shares its weights with the loaded classifier, but omits the auxiliary task
    classifier, which is only needed for read-outs from one embedding.

    Example:
        >>> from torchgeo_discomkd.models import (
        ...     DisentangledClassifier, ModalityMetadata)
        >>> sar = ModalityMetadata(2, ('VV', 'VH'), 'dB', tile_size=(32, 32))
        >>> metadata = ClassifierMetadata(
        ...     'disentangled', 'test_resnet', ('Land', 'Water'), {'sar': sar},
        ...     'linear_bn_relu', 'none', 1.0, {}, None, '', '', None, '')
        >>> network = DisentangledClassifier(2, 2, 'test_resnet')
        >>> model = ProbabilityModel(LoadedClassifier(network, metadata))
        >>> model(torch.zeros(3, 2, 32, 32)).shape
        torch.Size([3, 2])
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
                f'The classifier needs {list(loaded.modalities)} together, but only '
                'classifiers with one modality can be exported: give '
                'best/<modality>.safetensors of DisCoM-KD or of a student.'
            )
        self.classifier = loaded.classifier
        self.temperature = loaded.metadata.temperature
        self.task = loaded.metadata.task
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Classify a batch.

        Args:
            images: Raw values, float32, shape (B, C, H, W); NaN and infinite pixels
                count as missing.

        Returns:
            Probabilities, shape (B, K): each row sums to 1 or, with several labels,
            each is one of its own.

        Raises:
            BandError: If the number of bands is wrong.
        """
        return to_probabilities(self.classifier(images) / self.temperature, self.task)


def trace(model: ProbabilityModel, metadata: ClassifierMetadata) -> ExportedProgram:
    """Turn a network into a program, without running it.

    Args:
        model: The network.
        metadata: Its metadata.

    Returns:
        A program for any number of images of the training size, or of any size if that
        is unknown.

    Raises:
        ClassifierFileError: If PyTorch cannot export it.
    """
    (described,) = metadata.modalities.values()
    free: dict[int, Any] = {0: Dim('batch')}
    if described.tile_size is None:
        # networks require more than a range: for example that patches fill the image
        free |= {2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    example = torch.zeros(2, described.in_channels, *described.tile_size or SIZES[-1])
    try:
        program = torch.export.export(model, (example,), dynamic_shapes={INPUT: free})
    except (AssertionError, RuntimeError, ValueError) as error:
        size = described.tile_size or 'any size'
        raise ClassifierFileError(
            f"PyTorch cannot export '{metadata.model}' for images of {size}: "
            f'{error} Use the classifier file itself, or train on tiles of one size.'
        ) from error
    for node in program.graph.nodes:
        # the file must not reveal the paths of this machine
        node.meta.pop('stack_trace', None)
    return program


def onnx_bytes(program: ExportedProgram, properties: Mapping[str, str]) -> bytes:
    """Return the content of an .onnx file.

    Args:
        program: The program of a :class:`ProbabilityModel`.
        properties: Metadata of the file.

    Returns:
        A complete file, weights included.
    """
    exported = torch.onnx.export(
        program,
        input_names=[INPUT],
        output_names=[OUTPUT],
        # names only: which axes are free is part of the program
        dynamic_shapes={INPUT: {0: 'batch', 2: 'height', 3: 'width'}},
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    # None is returned only for a file
    exported = cast(torch.onnx.ONNXProgram, exported)
    exported.model.metadata_props.update(properties)
    return exported.model_proto.SerializeToString()

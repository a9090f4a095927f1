# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Batch normalisations as part of the layers before them, for inference."""

from torch import nn
from torch.fx.experimental.optimization import fuse

from .convolution import use_plain_convolutions
from .discomkd import DisentangledClassifier
from .fusion import FusionClassifier


def fold_batch_norms(classifier: DisentangledClassifier | FusionClassifier) -> None:
    """Fold batch normalisations into the layers whose results they normalise.

    The classifier is for inference only afterwards, and its state dict is another one.

    Args:
        classifier: A classifier in evaluation mode, changed in place. Encoders whose
            steps depend on the images stay as they are.
    """
    if isinstance(classifier, FusionClassifier):
        for modality, encoder in classifier.encoders.items():
            classifier.encoders[modality] = _folded(encoder)
        return
    encoder = classifier.encoder
    for name in ('invariant_encoder', 'specific_encoder', 'projection'):
        setattr(encoder, name, _folded(encoder.get_submodule(name)))


def _folded(module: nn.Module) -> nn.Module:
    # only exact types are recognised
    use_plain_convolutions(module)
    try:
        return fuse(module)
    except (AttributeError, RuntimeError, TypeError, ValueError):
        # its Python code asks for sizes or values, which symbols do not have
        return module

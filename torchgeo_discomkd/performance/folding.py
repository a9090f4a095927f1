# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Batch normalisations as part of the layers before them, for inference."""

from collections.abc import Iterable

from torch import nn
from torch.fx.experimental.optimization import fuse

from .convolution import use_plain_convolutions


def fold_batch_norms(classifier: nn.Module, backbones: Iterable[str]) -> None:
    """Fold batch normalisations into the layers whose results they normalise.

    Afterwards the classifier is for inference only, and its state dict has changed.

    Args:
        classifier: A classifier in evaluation mode, changed in place.
        backbones: Names of the submodules to fold. Those whose steps depend on the
            images stay as they are.
    """
    for name in backbones:
        module = classifier.get_submodule(name)
        # only exact types are recognised
        use_plain_convolutions(module)
        try:
            classifier.set_submodule(name, fuse(module))
        except (AttributeError, RuntimeError, TypeError, ValueError):
            # its Python code asks for sizes or values, which symbols do not have
            continue

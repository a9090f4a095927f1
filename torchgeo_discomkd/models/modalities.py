# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Checks of modality names, shared by the networks."""

from collections.abc import Iterable, Mapping

from torch import nn

from ..errors import ModalityError

#: Ends of the names of classifiers trained for comparison, and their headings: the
#: plain classifier of a modality, and the deployed network trained alone.
COMPARISONS = {'_student': 'alone', '_same_size': 'same size'}

#: Embeddings that the auxiliary task classifier reads out; their names are the ends of
#: the names of these scores.
READ_OUTS = ('invariant', 'informative')


def is_comparison(name: str) -> bool:
    """Return whether a classifier is trained for comparison only.

    Args:
        name: Name of the classifier.
    """
    return name.endswith(tuple(COMPARISONS))


def check_names(names: Iterable[str], minimum: int) -> None:
    """Check the names of a network's modalities.

    Args:
        names: Names of the modalities, which become names of modules.
        minimum: The fewest modalities that make sense.

    Raises:
        ModalityError: If there are too few, PyTorch refuses a name, or it ends like
            that of a comparison or a read-out.
    """
    names = list(names)
    if len(names) < minimum:
        raise ModalityError(
            f'{len(names)} modalities given {names}: at least {minimum} are needed.'
        )
    reserved = nn.ModuleDict()
    illegal = [n for n in names if not n or '.' in n or hasattr(reserved, n)]
    if illegal:
        raise ModalityError(
            f'{illegal}: a modality needs a name without dots that is not an attribute '
            "of a PyTorch module, for example 'sar'."
        )
    ends = (*COMPARISONS, *(f'_{name}' for name in READ_OUTS))
    if taken := [n for n in names if n.endswith(ends)]:
        raise ModalityError(
            f'{taken}: names that end with {" or ".join(ends)} are those of '
            'classifiers trained for comparison and of read-outs. Rename the modality.'
        )


def check_known(requested: Iterable[str], known: Iterable[str], what: str) -> None:
    """Check that modalities belong to a network.

    Args:
        requested: Names to check.
        known: Names of the network's modalities.
        what: The argument that held the names, for the message.

    Raises:
        ModalityError: If one is unknown.
    """
    known = list(known)
    unknown = [name for name in requested if name not in known]
    if unknown:
        raise ModalityError(
            f'Unknown modality {unknown} in {what}: the network has {known}.'
        )


def check_present(required: Iterable[str], images: Mapping[str, object]) -> None:
    """Check that a batch has all modalities of a classifier.

    Args:
        required: Names of the classifier's modalities.
        images: Images by modality; additional ones are allowed.

    Raises:
        ModalityError: If one is missing.
    """
    required = list(required)
    missing = [name for name in required if name not in images]
    if missing:
        raise ModalityError(
            f'Modality {missing} is missing from images of {list(images)}: the '
            f'classifier needs {required}.'
        )

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""A checkpoint of the released code as our network."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.parameter import UninitializedParameter

from ...errors import ClassifierFileError, ModalityError
from .. import DisCoMKDNetwork
from .unpickler import read_state_dict

#: Children of a ResNet-18 with parameters, by their place in the released sequence.
_CHILDREN = {
    '0': 'conv1',
    '1': 'bn1',
    '4': 'layer1',
    '5': 'layer2',
    '6': 'layer3',
    '7': 'layer4',
}

#: What the modalities share.
_SHARED = {
    'task_cl3.block.0': 'auxiliary_classifier',
    'discr.block.0': 'discriminator',
    'task_dom.block.0': 'informative_modality_classifier',
    'task_dom2.block.0': 'irrelevant_modality_classifier',
}

#: What each modality has to itself: names for the first and for the second.
_OWN = {
    ('first_enc_inv', 'second_enc_inv'): 'encoder.invariant_encoder',
    ('first_enc_spec', 'second_enc_spec'): 'encoder.specific_encoder',
    ('projF.l1', 'projS.l1'): 'encoder.projection.0',
    ('projF.bn1', 'projS.bn1'): 'encoder.projection.1',
    ('task_cl', 'task_cl2'): 'classifier',
}

#: A layer that the released code declares but never uses.
_UNUSED = ('projF.l2', 'projS.l2')


def load_released_checkpoint(
    path: str | Path, modalities: Sequence[str]
) -> DisCoMKDNetwork:
    """Read a checkpoint written by the released code of DisCoM-KD.

    The numbers of bands and classes are those of its tensors. The network is a
    ResNet-18 with the head 'linear_bn_relu' and takes what the released code took:
    images that are already normalised. Its modality classifiers and its discriminator
    were not trained to tell the modalities apart, see ``formulation='released'``.

    Args:
        path: A WEIGHTS.pth.
        modalities: Names of the two modalities, in the order in which the released
            code was given them.

    Returns:
        The network on the CPU, in evaluation mode.

    Raises:
        ClassifierFileError: If there is no such file, it is damaged, it would run code,
            or it holds another network.
        ModalityError: If there are not two modalities, they are the same or a name is
            illegal.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> from torchgeo_discomkd.errors import ClassifierFileError
        >>> from torchgeo_discomkd.models.released import load_released_checkpoint
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / 'WEIGHTS.pth'
        ...     torch.save({'conv1.weight': torch.zeros(64, 3, 7, 7)}, path)
        ...     try:
        ...         load_released_checkpoint(path, ['ms', 'sar'])
        ...     except ClassifierFileError:
        ...         print('not a checkpoint of DisCoM-KD')
        not a checkpoint of DisCoM-KD
    """
    first, second = _two(modalities)
    found = _translate(path, read_state_dict(path), (first, second))
    channels = {
        m: _size(path, found, f'classifiers.{m}.encoder.invariant_encoder.conv1', 1)
        for m in (first, second)
    }
    classes = _size(path, found, 'auxiliary_classifier', 0)
    # a new network draws random weights: keep the caller's generator as it was
    with torch.random.fork_rng(devices=[]):
        network = DisCoMKDNetwork(channels, classes)
    expected = network.state_dict()
    tensors = {k: v for k, v in expected.items() if '.normalization.' in k} | found
    _check_form(path, tensors, expected)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:  # sparse tensors, tensors without data
        raise ClassifierFileError(
            f'{path} has tensors that cannot be copied: {error}'
        ) from error
    return network.eval()


def _two(modalities: Sequence[str]) -> tuple[str, str]:
    distinct = len(set(modalities)) == len(modalities)
    if isinstance(modalities, str) or len(modalities) != 2 or not distinct:
        raise ModalityError(
            f'modalities={modalities}: a checkpoint of the released code has two. Name '
            'them in the order that this code was given, e.g. --modalities ms sar.'
        )
    first, second = modalities
    return first, second


def _translate(
    path: str | Path, state: Mapping[str, Tensor], modalities: tuple[str, str]
) -> dict[str, Tensor]:
    """Rename the tensors and drop the layer that was never used."""
    found, unknown, empty = {}, [], []
    prefixes = _prefixes(modalities)
    for name, tensor in state.items():
        known = next((prefix for prefix in prefixes if name.startswith(prefix)), None)
        uninitialized = isinstance(tensor, UninitializedParameter)
        if uninitialized and name.startswith(_UNUSED):
            continue
        if known is None:
            unknown.append(name)
        elif uninitialized:
            empty.append(name)
        else:
            found[prefixes[known] + name.removeprefix(known)] = tensor
    if empty:
        raise ClassifierFileError(
            f'{path} was saved before its network was used: {_few(empty)} have no '
            'values. Give a checkpoint of a trained network.'
        )
    if unknown:
        raise ClassifierFileError(
            f'{path} is not from the released code, or from another version of it: '
            f'{_few(unknown)} are not tensors of DisCoM-KD with ResNet-18 encoders.'
        )
    return found


def _prefixes(modalities: tuple[str, str]) -> dict[str, str]:
    """Return how our names begin for each beginning of a name in the released code."""
    found = dict(_SHARED)
    for pair, own in _OWN.items():
        for released, modality in zip(pair, modalities, strict=True):
            name = f'classifiers.{modality}.{own}'
            if own.endswith('_encoder'):
                for place, child in _CHILDREN.items():
                    found[f'{released}.{place}'] = f'{name}.{child}'
            else:
                found[released] = name
    return {f'{released}.': f'{own}.' for released, own in found.items()}


def _size(path: str | Path, found: Mapping[str, Tensor], name: str, axis: int) -> int:
    weight = found.get(f'{name}.weight')
    if weight is None or weight.ndim <= axis or not weight.shape[axis]:
        raise ClassifierFileError(
            f'{path} is not from the released code: it lacks the weights of {name}.'
        )
    return weight.shape[axis]


def _check_form(
    path: str | Path, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> None:
    if missing := [name for name in expected if name not in found]:
        raise ClassifierFileError(
            f'{path} is incomplete: it lacks {_few(missing)} (by our names).'
        )
    wrong = [
        f'{name} is {_form(found[name])} instead of {_form(tensor)}'
        for name, tensor in expected.items()
        if _form(found[name]) != _form(tensor)
    ]
    if wrong:
        raise ClassifierFileError(
            f'{path} has tensors that differ from those of DisCoM-KD with ResNet-18 '
            f'encoders (by our names): {_few(wrong)}.'
        )


def _form(tensor: Tensor) -> str:
    return f'{tensor.dtype} {tuple(tensor.shape)}'


def _few(names: Iterable[str]) -> str:
    first, *rest = names
    shown = ', '.join([first, *rest[:2]])
    return f'{shown} and {len(rest) - 2} more' if len(rest) > 2 else shown

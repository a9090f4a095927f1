# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Read a pickled state dict without running any code in it.

PyTorch's restricted unpickler rebuilds tensors and nothing else: it looks names up in a
list and imports none. One more name is allowed here, that of a parameter which never
got a shape, because every checkpoint of the released code holds four.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import UninitializedParameter
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from ...errors import ClassifierFileError
from ..checkpoint_file import UNREADABLE, find_damage


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict that ``torch.save`` wrote.

    Args:
        path: The file, in the zip format that PyTorch writes since version 1.6.

    Returns:
        Tensors on the CPU by name. Parameters without a shape are included, as
        ``torch.nn.parameter.UninitializedParameter``.

    Raises:
        ClassifierFileError: If there is no such file, it is damaged, it holds anything
            but tensors or it would run code.
    """
    path = Path(path)
    _check_archive(path)
    state: Any = None
    try:
        with safe_globals([UninitializedParameter]):
            # looks at what the pickle asks for beyond tensors, and runs nothing
            unsafe = get_unsafe_globals_in_checkpoint(path)
            # weights_only is what makes this safe: PyTorch's setting to force it off
            # has no effect on a call that sets it
            if not unsafe:
                state = torch.load(path, map_location='cpu', weights_only=True)
    except UNREADABLE as error:
        # PyTorch's own message advises to load the file without protection
        raise ClassifierFileError(
            f'{path} cannot be read as tensors: give a WEIGHTS.pth as the released '
            'code wrote it.'
        ) from error
    if unsafe:
        raise ClassifierFileError(
            f'{path} asks for {", ".join(sorted(unsafe))}, where the released code '
            'saves tensors only. It was not loaded, and nothing in it was run: do not '
            'trust it, or save the state dict of the network alone.'
        )
    _check_state(path, state)
    return dict(state)


def _check_archive(path: Path) -> None:
    """Check the checksums, which PyTorch does not."""
    if not path.is_file():
        raise ClassifierFileError(
            f'{path}: there is no such file. The released code writes WEIGHTS.pth.'
        )
    if (damage := find_damage(path)) is not None:
        raise ClassifierFileError(
            f'{path} is not a checkpoint of torch.save, or it is truncated or damaged '
            f'({damage}): give a WEIGHTS.pth of the released code, or copy it again.'
        )


def _check_state(path: Path, state: Any) -> None:
    if not isinstance(state, dict):
        raise ClassifierFileError(
            f'{path} holds a {type(state).__name__}: the released code saves a state '
            'dict, tensors by name.'
        )
    other = [
        key
        for key, value in state.items()
        if not (isinstance(key, str) and isinstance(value, Tensor))
    ]
    if other:
        raise ClassifierFileError(
            f'{path} holds more than tensors by name ({other[:3]}): give the state '
            'dict of the network alone.'
        )

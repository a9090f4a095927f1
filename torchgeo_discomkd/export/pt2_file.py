# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Exported PyTorch programs (.pt2): write them, and read their weights safely."""

import io
import json
import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

from ..errors import ClassifierFileError
from ..metadata import KEY, ClassifierMetadata
from ..models import LoadedClassifier, restore_classifier
from .properties import from_properties

#: Paths in PyTorch's archive, below a folder of any name.
_WEIGHTS = '/data/weights/'
_CONFIG = f'{_WEIGHTS}model_weights_config.json'
_EXTRA = f'/extra/{KEY}'

#: PyTorch's codes of the types that the weights and buffers of a classifier have.
_DTYPES = {5: torch.int64, 7: torch.float32}

#: Name of the classifier within the program.
_PREFIX = 'classifier.'


def pt2_bytes(program: ExportedProgram, properties: Mapping[str, str]) -> bytes:
    """Return the content of a .pt2 file.

    Args:
        program: The program of a :class:`ProbabilityModel`.
        properties: Metadata of the file, stored under ``extra/``.

    Returns:
        Content for :func:`torch.export.load`.
    """
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files=dict(properties))
    return buffer.getvalue()


def load_pt2(source: str | Path | bytes) -> LoadedClassifier:
    """Read the classifier of an exported program without running the program.

    :func:`torch.export.load` unpickles and lets a file call any function, so a file
    from a stranger could do anything. This function reads the weights as plain numbers
    and builds the network that the metadata describe.

    Args:
        source: A .pt2 file, or its content.

    Returns:
        The classifier on the CPU.

    Raises:
        ClassifierFileError: If it is damaged or not from this package, or its weights
            are pickled.

    Example:
        >>> from torchgeo_discomkd.export import export_classifier
        >>> from tempfile import TemporaryDirectory
        >>> from torchgeo_discomkd.models import (
        ...     ClassifierMetadata, FusionClassifier, ModalityMetadata, save_classifier)
        >>> sar = ModalityMetadata(2, ('VV', 'VH'), 'dB', tile_size=(32, 32))
        >>> metadata = ClassifierMetadata(
        ...     'fusion', 'test_resnet', ('Land', 'Water'), {'sar': sar},
        ...     None, 'none', 1.0, {}, None, '', '', None, '')
        >>> network = FusionClassifier({'sar': 2}, 2, 'test_resnet')
        >>> with TemporaryDirectory() as folder:
        ...     path = f'{folder}/sar.safetensors'
        ...     save_classifier(path, network, metadata)
        ...     report = export_classifier(path, f'{folder}/sar.pt2')
        ...     loaded = load_pt2(f'{folder}/sar.pt2')
        >>> loaded.metadata.classes
        ('Land', 'Water')
        >>> loaded.probabilities(torch.zeros(3, 2, 32, 32)).shape
        torch.Size([3, 2])
    """
    name = 'the exported program' if isinstance(source, bytes) else str(source)
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with zipfile.ZipFile(file) as archive:
            metadata, tensors = _read(archive)
        return LoadedClassifier(restore_classifier(metadata, tensors), metadata)
    except ClassifierFileError as error:
        raise ClassifierFileError(f'{name}: {error}') from error
    except (
        AttributeError,
        EOFError,
        KeyError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise ClassifierFileError(
            f'{name} is truncated or not an exported program of torchgeo_discomkd '
            f'({error!r}): export or copy it again, or give the classifier file, '
            'best/<modality>.safetensors.'
        ) from error


def _read(archive: zipfile.ZipFile) -> tuple[ClassifierMetadata, dict[str, Tensor]]:
    names = archive.namelist()
    extra = [name for name in names if name.endswith(_EXTRA)]
    texts = {KEY: archive.read(extra[0]).decode()} if extra else {}
    metadata = from_properties(texts)
    configs = [name for name in names if name.endswith(_CONFIG)]
    if not configs:
        raise ClassifierFileError(
            'this version of torchgeo_discomkd cannot read how its PyTorch stored the '
            'weights: give the classifier file, or export it again.'
        )
    folder = configs[0].removesuffix(_CONFIG) + _WEIGHTS
    entries = json.loads(archive.read(configs[0]))['config']
    tensors = {
        name.removeprefix(_PREFIX): _tensor(archive, folder, name, entry)
        for name, entry in entries.items()
    }
    return metadata, tensors


def _tensor(archive: zipfile.ZipFile, folder: str, name: str, entry: dict) -> Tensor:
    described = entry['tensor_meta']
    if entry['use_pickle'] or described['dtype'] not in _DTYPES:
        raise ClassifierFileError(
            f"its tensor '{name}' is not stored as plain numbers, unlike in files of "
            'torchgeo_discomkd; it was not loaded.'
        )
    shape = [size['as_int'] for size in described['sizes']]
    strides = [stride['as_int'] for stride in described['strides']]
    if strides != [math.prod(shape[i + 1 :]) for i in range(len(shape))]:
        raise ClassifierFileError(f"its tensor '{name}' has an unknown layout.")
    data = bytearray(archive.read(folder + entry['path_name']))
    return torch.frombuffer(data, dtype=_DTYPES[described['dtype']]).reshape(shape)

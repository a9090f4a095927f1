# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Exported PyTorch programs (.pt2): write them, and read their weights safely."""

import io
import math
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.export import ExportedProgram

from ..errors import ClassifierFileError
from ..files import CHECKSUM, check_sha256
from ..metadata import KEY, ClassifierMetadata, Number
from ..models import LoadedClassifier, restore_classifier
from ..models.tensor_file import weights_sha256
from .properties import from_properties

#: Paths in PyTorch's archive, below a folder of any name.
_WEIGHTS = '/data/weights/'
_CONFIG = f'{_WEIGHTS}model_weights_config.json'
_EXTRA = '/extra/'

#: Largest size of a text in the archive, in bytes.
_MOST_TEXT = 2**24

#: PyTorch's codes of the types that the weights and buffers of a classifier have.
_DTYPES = {5: torch.int64, 7: torch.float32}

#: Name of the classifier within the program.
_PREFIX = 'classifier.'


@dataclass
class _Size:
    as_int: Number


@dataclass
class _Form:
    dtype: Number
    sizes: list[_Size]
    strides: list[_Size]


@dataclass
class _Entry:
    """How PyTorch describes a tensor: its form and the entry with its numbers."""

    path_name: str
    use_pickle: bool
    tensor_meta: _Form


@dataclass
class _Config:
    config: dict[str, _Entry]


def pt2_bytes(program: ExportedProgram, properties: Mapping[str, str]) -> bytes:
    """Return the content of a .pt2 file.

    Args:
        program: The program of a :class:`ProbabilityModel`.
        properties: Metadata of the file, stored under ``extra/``.

    Returns:
        Content for :func:`torch.export.load`.
    """
    weights = {k.removeprefix(_PREFIX): v for k, v in program.state_dict.items()}
    recorded = weights_sha256(properties[KEY], cast(Mapping[str, Tensor], weights))
    buffer = io.BytesIO()
    extra = {**properties, CHECKSUM: recorded}
    torch.export.save(program, buffer, extra_files=extra)
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
        size = len(source) if isinstance(source, bytes) else Path(source).stat().st_size
        with zipfile.ZipFile(file) as archive:
            metadata, tensors, sums = _read(archive, size)
        loaded = LoadedClassifier(restore_classifier(metadata, tensors), metadata)
    except ClassifierFileError as error:
        raise ClassifierFileError(f'{name}: {error}') from error
    # what is raised for a broken archive, by its decoders and by msgspec
    except (
        EOFError,
        KeyError,
        OSError,
        RuntimeError,
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise ClassifierFileError(
            f'{name} is truncated or not an exported program of torchgeo_discomkd '
            f'({error!r}): export or copy it again, or give the classifier file, '
            'best/<modality>.safetensors.'
        ) from error
    check_sha256(name, *sums)
    return loaded


def _read(
    archive: zipfile.ZipFile, size: int
) -> tuple[ClassifierMetadata, dict[str, Tensor], tuple[str | None, str]]:
    """Return metadata, tensors, and the checksums recorded and found."""
    # takes 20 ms: only when a file is read
    import msgspec

    names = archive.namelist()
    texts = {
        key: _text(archive, found[0]).decode()
        for key in (KEY, CHECKSUM)
        if (found := [n for n in names if n.endswith(_EXTRA + key)])
    }
    metadata = from_properties(texts)
    configs = [n for n in names if n.endswith(_CONFIG)]
    if not configs:
        raise ClassifierFileError(
            'this version of torchgeo_discomkd cannot read how its PyTorch stored the '
            'weights: give the classifier file, or export it again.'
        )
    folder = configs[0].removesuffix(_CONFIG) + _WEIGHTS
    entries = msgspec.json.decode(_text(archive, configs[0]), type=_Config).config
    _check_form(archive, folder, entries, size)
    tensors = {
        key.removeprefix(_PREFIX): _tensor(archive, folder, entry)
        for key, entry in entries.items()
    }
    found = weights_sha256(texts[KEY], tensors)
    return metadata, tensors, (texts.get(CHECKSUM), found)


def _text(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > _MOST_TEXT:
        raise ClassifierFileError(
            f"its text '{name}' has more than {_MOST_TEXT / 2**20:.0f} MB; it was not "
            'loaded.'
        )
    return archive.read(name)


def _check_form(
    archive: zipfile.ZipFile, folder: str, entries: Mapping[str, _Entry], size: int
) -> None:
    """Check the description of all tensors before one is read."""
    total = 0
    for name, entry in entries.items():
        described = entry.tensor_meta
        if entry.use_pickle or described.dtype not in _DTYPES:
            raise ClassifierFileError(
                f"its tensor '{name}' is not stored as plain numbers, unlike in files "
                'of torchgeo_discomkd; it was not loaded.'
            )
        shape = _shape(entry)
        strides = [stride.as_int for stride in described.strides]
        if strides != [math.prod(shape[i + 1 :]) for i in range(len(shape))]:
            raise ClassifierFileError(f"its tensor '{name}' has an unknown layout.")
        needed = math.prod(shape) * _DTYPES[described.dtype].itemsize
        stored = archive.getinfo(folder + entry.path_name).file_size
        if stored != needed:
            raise ClassifierFileError(
                f"its tensor '{name}' has {stored} bytes instead of {needed}."
            )
        total += stored
    if total > size:
        # PyTorch does not compress: more was packed into it than it can hold
        raise ClassifierFileError(
            f'it would unpack to {total / 1e6:.0f} MB, more than its own '
            f'{size / 1e6:.0f} MB; it was not loaded.'
        )


def _shape(entry: _Entry) -> list[int]:
    return [size.as_int for size in entry.tensor_meta.sizes]


def _tensor(archive: zipfile.ZipFile, folder: str, entry: _Entry) -> Tensor:
    data = bytearray(archive.read(folder + entry.path_name))
    dtype = _DTYPES[entry.tensor_meta.dtype]
    return torch.frombuffer(data, dtype=dtype).reshape(_shape(entry))

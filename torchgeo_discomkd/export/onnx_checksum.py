# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""The checksum of an ONNX file, read without parsing the file.

It is the last entry of the model's metadata and the last bytes of the file, so that it
covers everything before it. A protocol buffer may repeat a field anywhere.
"""

import hashlib
import mmap
from pathlib import Path
from typing import NamedTuple

from ..files import CHECKSUM

_DIGITS = 64

# ModelProto.metadata_props (field 14) with a StringStringEntryProto: key and value
_ENTRY = b'\x0a%c%b\x12%c' % (len(CHECKSUM), CHECKSUM.encode(), _DIGITS)
_MARK = b'\x72%c%b' % (len(_ENTRY) + _DIGITS, _ENTRY)


class OnnxChecksum(NamedTuple):
    """Checksums of an ONNX file.

    Attributes:
        recorded: The one that it carries; None if its end carries none.
        found: That of everything before; of the whole file if it carries none.
        whole: That of the whole file.
    """

    recorded: str | None
    found: str
    whole: str


def add_checksum(content: bytes) -> bytes:
    """Append a checksum to an ONNX file.

    Args:
        content: The file, without a checksum.

    Returns:
        The file, with one more entry in its metadata.
    """
    return content + _MARK + hashlib.sha256(content).hexdigest().encode()


def read_checksum(path: str | Path) -> OnnxChecksum:
    """Read the checksum of an ONNX file and compute it, in one pass.

    Args:
        path: The file.

    Returns:
        Its checksums.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is empty.
    """
    with (
        Path(path).open('rb') as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        memoryview(content) as view,
    ):
        end = len(content) - len(_MARK) - _DIGITS
        if end <= 0 or content[end : end + len(_MARK)] != _MARK:
            digest = hashlib.sha256(view).hexdigest()
            return OnnxChecksum(None, digest, digest)
        digest = hashlib.sha256(view[:end])
        found = digest.hexdigest()
        digest.update(view[end:])
        recorded = content[-_DIGITS:].decode('ascii', 'replace')
        return OnnxChecksum(recorded, found, digest.hexdigest())

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Checksums by which files notice that a bit of theirs has changed."""

import hashlib
import logging
from collections.abc import Buffer, Iterable
from pathlib import Path

from .errors import ClassifierFileError

logger = logging.getLogger(__name__)

#: Key of the checksum, next to that of the metadata.
KEY = 'torchgeo_discomkd_sha256'


def sha256_of(parts: Iterable[tuple[str, Buffer]]) -> str:
    """Return one checksum of several parts, whatever their order.

    Args:
        parts: Name and content of each, contiguous.

    Returns:
        SHA-256 of the names, sizes and contents in the order of the names: 64
        hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, content in sorted(parts, key=lambda part: part[0]):
        size = memoryview(content).nbytes
        digest.update(f'{len(name)} {name} {size}\n'.encode())
        digest.update(content)
    return digest.hexdigest()


def check_sha256(path: str | Path, recorded: str | None, found: str) -> None:
    """Compare the checksum that a model file carries with that of its content.

    Files of earlier versions have none, which is noted.

    Args:
        path: The file, for messages.
        recorded: The checksum in the file; None if there is none.
        found: The checksum of what was read.

    Raises:
        ClassifierFileError: If they differ.
    """
    if recorded is None:
        logger.warning(
            'note: %s has no checksum, because an earlier version wrote it: damage to '
            'its weights is not noticed.',
            path,
        )
    elif recorded != found:
        raise ClassifierFileError(
            f'{path} is damaged, or was changed after it was written (its checksum '
            'does not match its content): copy it again, or write it again.'
        )

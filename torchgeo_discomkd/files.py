# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Files that appear complete or not at all, and in which damage is noticed."""

import hashlib
import logging
import shutil
import tempfile
from collections.abc import Buffer, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from .errors import ClassifierFileError, OutputError, OutputExistsError, UserError

logger = logging.getLogger(__name__)

#: Key of the checksum in a file of our own, next to that of its metadata.
CHECKSUM = 'torchgeo_discomkd_sha256'


@contextmanager
def open_atomically(path: Path) -> Generator[BinaryIO]:
    """Open a file to write so that a reader never sees half of it, even after a kill.

    Args:
        path: The file; its folder is created if needed. An existing file is replaced at
            the end, unless there was an error.

    Yields:
        The open file.

    Raises:
        OSError: If the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'.{path.name}.{uuid4().hex}.partial')
    try:
        with partial.open('wb') as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader never sees half of it, even after a kill.

    Args:
        path: The file; its folder is created if needed. An existing file is replaced.
        data: The whole content.

    Raises:
        OSError: If the file cannot be written.
    """
    with open_atomically(path) as file:
        file.write(data)


def refuse_existing(
    paths: Iterable[Path],
    overwrite: bool,
    hint: str = 'choose another name, or replace it with --overwrite',
) -> None:
    """Refuse to replace files unless the user asked for it.

    Args:
        paths: Files to be written.
        overwrite: Whether the user asked for it.
        hint: What to do if one exists.

    Raises:
        OutputExistsError: If one exists and may not be replaced, or is a folder.
    """
    for path in paths:
        if path.is_dir():
            raise OutputExistsError(f'{path} is a folder: give the name of a file.')
        if path.exists() and not overwrite:
            raise OutputExistsError(f'{path} exists: {hint}.')


@contextmanager
def partial_folder(path: Path) -> Generator[Path]:
    """Make a folder next to a result, for its parts, and remove it afterwards.

    The name of the folder begins with that of the result and ends in '.partial': a
    killed process leaves it behind.

    Args:
        path: The result; its folder is created if needed.

    Yields:
        The folder.

    Raises:
        OutputError: If the folder cannot be created.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(
            tempfile.mkdtemp(prefix=f'{path.name}.', suffix='.partial', dir=path.parent)
        )
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def writing(path: Path) -> Generator[None]:
    """Turn errors of the system or of GDAL into one that names the result.

    Args:
        path: The result that is written.

    Raises:
        OutputError: Instead of an error of the system or of GDAL.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        # rasterio has errors of GDAL that it does not make public
        if not (
            isinstance(error, OSError) or type(error).__module__.startswith('rasterio')
        ):
            raise
        raise OutputError(
            f'{path} cannot be written ({error}): make room, or choose a folder that '
            'you may write to.'
        ) from error


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

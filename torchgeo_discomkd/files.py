# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Files that appear complete or not at all, in which damage is noticed."""

import hashlib
import logging
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Buffer, Callable, Generator, Iterable
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from .errors import (
    ClassifierFileError,
    OutputError,
    OutputExistsError,
    OutputInUseError,
    UserError,
)

logger = logging.getLogger(__name__)

#: Key of the checksum in a file of our own, next to that of its metadata.
CHECKSUM = 'torchgeo_discomkd_sha256'

#: Names of unfinished parts: of :func:`partial_folder`, of :func:`open_atomically` and
#: of a table's folder of rows that is being removed.
_PART = re.compile(
    r'(?P<folder>.+)\.[a-z0-9_]{8}\.partial'
    r'|\.(?P<trash>.+)\.partial\.[0-9a-f]{32}'
    r'|\.(?P<file>.+)\.[0-9a-f]{32}\.partial'
)


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


@contextmanager
def only_writer(*files: Path, folders: Iterable[Path] = ()) -> Generator[None]:
    """Be the only process that writes some results, until the block ends.

    A file is locked by the hidden file ``.<name>.lock`` next to it, a folder by
    ``.lock`` in it. The lock is one of the operating system, which ends with the
    process, however that ends. Its file is removed at the end of the block; one that a
    kill left behind locks nothing.

    Args:
        files: Files.
        folders: Folders. They, and those of the files, are created, and removed again
            if they stay empty.

    Raises:
        OutputError: If no file can be made there, as in /proc.
        OutputInUseError: If another process writes one of them.

    Warns:
        UserWarning: If the file system has no locks: nothing is locked then.

    Example:
        >>> with tempfile.TemporaryDirectory() as name:
        ...     path = Path(name) / 'tiles.csv'
        ...     with only_writer(path):
        ...         try:
        ...             with only_writer(path):
        ...                 pass
        ...         except OutputInUseError as error:
        ...             print('is being written by another process' in str(error))
        True
    """
    with ExitStack() as stack:
        locks = {path.with_name(f'.{path.name}.lock'): path for path in files}
        locks |= {folder / '.lock': folder for folder in folders}
        # the same folder may have several names
        for file, path in {
            f.resolve(): (f, path) for f, path in locks.items()
        }.values():
            stack.enter_context(_lock(file, path))
        yield


@contextmanager
def _lock(file: Path, path: Path) -> Generator[None]:
    # imported here: the first tile of a table need not wait for it
    from filelock import FileLock, Timeout

    missing = [p for p in file.parents if not p.exists()]
    # without locks of the system it would take a file that outlives a killed process
    lock = FileLock(file, timeout=0, fallback_to_soft=False)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        # which it also says of a folder that takes no file, such as /proc
        with writing(path):
            file.open('ab').close()
        raise OutputInUseError(
            f'{path} is being written by another process: wait for it, or choose '
            'another name.'
        ) from error
    except OSError as error:
        # if nothing can be written there, writing says so
        if file.parent.is_dir() and os.access(file.parent, os.W_OK):
            warnings.warn(
                f'{path} cannot be locked ({error}): let no other process write it.',
                stacklevel=5,
            )
    try:
        yield
    finally:
        if lock.is_locked:
            # before the release: who takes the lock next makes a file of its own
            with suppress(OSError):
                file.unlink()
            lock.release()
        with suppress(OSError):
            for folder in missing:
                folder.rmdir()


def find_abandoned(*paths: Path) -> dict[Path, list[Path]]:
    """Find parts of results that no process has finished.

    Each folder is listed once. While another process is the :func:`only_writer` of a
    result, its parts are not abandoned.

    Args:
        paths: Results. Of a folder, all unfinished files in it are found.

    Returns:
        The parts of each result that has some.
    """
    found: dict[Path, list[Path]] = {}
    by_folder: dict[Path, dict[str, Path]] = {}
    for path in paths:
        folder, name = (path, '') if path.is_dir() else (path.parent, path.name)
        by_folder.setdefault(folder, {})[name] = path
    for folder, results in by_folder.items():
        for part in folder.iterdir() if folder.is_dir() else ():
            if match := _PART.fullmatch(part.name):
                name = match['folder'] or match['file'] or match['trash']
                result = results.get(name)
                if match['file'] is not None and result is None:
                    result = results.get('')
                if result is not None:
                    found.setdefault(result, []).append(part)
    return found


def remove_abandoned(*paths: Path) -> None:
    """Remove parts of results that a killed process left behind.

    Args:
        paths: Results, of which this process is the :func:`only_writer`. Of a folder,
            all unfinished files in it are removed.
    """
    for parts in find_abandoned(*paths).values():
        for part in parts:
            if part.is_dir():
                shutil.rmtree(part, ignore_errors=True)
            else:
                part.unlink(missing_ok=True)


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
def partial_folder(
    path: Path, keep: Callable[[], bool] = lambda: False
) -> Generator[Path]:
    """Make a folder next to a result, for its parts, and remove it afterwards.

    The name of the folder begins with that of the result and ends in '.partial': a
    killed process leaves it behind.

    Args:
        path: The result; its folder is created if needed.
        keep: Returns at the end whether the parts are still needed.

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
        if not keep():
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


def utf8_text(text: str) -> str:
    r"""Escape what no file of text can hold: bytes of a name that are not UTF-8.

    Args:
        text: A path, or a message that names one.

    Returns:
        The text, with such bytes as in ``\udcff``.

    Example:
        >>> print(utf8_text('caf\udce9.tif: Größe'))
        caf\udce9.tif: Größe
    """
    return text.encode('utf-8', 'backslashreplace').decode()


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

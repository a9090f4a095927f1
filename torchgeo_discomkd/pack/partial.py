# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""A pack that is being written, and a list of the pieces that are there."""

import hashlib
import os
import shutil
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..datasets.packfile import SUFFIX
from ..errors import OutputError
from .layout import PackLayout


class PartialPack:
    """``<stem>.partial.safetensors`` and ``<stem>.partial.txt`` beside the pack.

    A piece is listed when it was written, so that a run that was killed goes on where
    it was; another header (other data, other settings) begins anew.
    """

    def __init__(self, output: Path, layout: PackLayout) -> None:
        """Initialize a new PartialPack instance.

        Args:
            output: The pack.
            layout: Where everything lies in it.

        Raises:
            OutputError: If there is no room for it.
            OSError: If it cannot be written.
        """
        self.output = output
        self.path = output.with_name(f'{output.stem}.partial{SUFFIX}')
        self._list = self.path.with_suffix('.txt')
        self._lock = Lock()
        first = hashlib.sha256(layout.header).hexdigest()
        output.parent.mkdir(parents=True, exist_ok=True)
        finished = self._read_list(first)
        if finished is None:
            self._create(layout)
            self._list.write_text(f'{first}\n')
        #: Names of the pieces that are there.
        self.finished: frozenset[str] = finished or frozenset()
        self._file = os.open(self.path, os.O_RDWR)

    def write(self, offset: int, array: NDArray[Any]) -> None:
        """Write a part of the file; several threads may.

        Args:
            offset: First byte.
            array: What to write.
        """
        data = memoryview(np.ascontiguousarray(array)).cast('B')
        while len(data):
            written = os.pwrite(self._file, data, offset)
            data, offset = data[written:], offset + written

    def mark(self, piece: str) -> None:
        """Note that a piece is there.

        Args:
            piece: Its name.
        """
        with self._lock, self._list.open('a') as file:
            file.write(f'{piece}\n')

    def finish(self) -> None:
        """Give the file its name: all is there."""
        os.fsync(self._file)
        self.path.replace(self.output)
        self._list.unlink()

    def __enter__(self) -> Self:
        """Return the pack itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file.

        Args:
            kind: Class of the error.
            error: The error; None if there was none.
            traceback: Where it came from.
        """
        os.close(self._file)

    def _read_list(self, first: str) -> frozenset[str] | None:
        if not (self._list.is_file() and self.path.is_file()):
            return None
        # a line that was cut off by a kill has no end
        lines = self._list.read_text().split('\n')[:-1]
        return frozenset(lines[1:]) if lines[:1] == [first] else None

    def _create(self, layout: PackLayout) -> None:
        self._list.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
        free = shutil.disk_usage(self.output.parent).free
        if free < layout.size:
            raise OutputError(
                f'{self.output} needs {layout.size / 1e9:.1f} GB, but only '
                f'{free / 1e9:.1f} GB are free: choose another disk.'
            )
        with self.path.open('wb') as file:
            file.write(layout.header)
            file.truncate(layout.size)
            for key, array in layout.small.items():
                file.seek(layout.offsets[key])
                file.write(array.tobytes())

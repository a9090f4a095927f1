# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""A pack that is being written, and a list of what is there."""

import json
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from ...errors import OutputError
from .format import SUFFIX
from .layout import PackLayout


class PartialPack:
    """``<stem>.partial.safetensors`` and ``<stem>.partial.jsonl`` beside the pack.

    A piece is listed when it was written, so that a run that was killed goes on where
    it was; other data or other settings begin anew. ``<stem>.partial.lock`` is locked
    while a process writes them.
    """

    def __init__(
        self, output: Path, layout: PackLayout, widened: Collection[str]
    ) -> None:
        """Initialize a new PartialPack instance.

        Args:
            output: The pack.
            layout: Where everything lies in it.
            widened: Modalities whose values the type of the source does not hold.

        Raises:
            OutputError: If there is no room for it, or another process writes it.
            OSError: If it cannot be written.
        """
        self.output = output
        self.path = output.with_name(f'{output.stem}.partial{SUFFIX}')
        self._layout = layout
        self._list = _list_path(output)
        self._lock = Lock()
        self._process_lock = FileLock(output.with_name(f'{output.stem}.partial.lock'))
        try:
            self._process_lock.acquire(timeout=0)
        except Timeout as error:
            raise OutputError(
                f'{output} is being written by another process: wait for it, or choose '
                'another name.'
            ) from error
        try:
            self._open(widened)
        except BaseException:
            self._process_lock.release()
            raise

    def _open(self, widened: Collection[str]) -> None:
        """Go on with what is there, or begin anew."""
        #: Names of the pieces that are there.
        self.finished: set[str] = set()
        self._systems: dict[str, int] = {}
        first = {'state': self._layout.state(), 'widened': sorted(widened)}
        lines = _read_lines(self._list)
        if lines[:1] == [first] and self.path.is_file():
            for line in lines[1:]:
                self._adopt(line)
        else:
            self._create()
            lines = [first]
        # also without a line that a kill cut off
        self._list.write_text(''.join(f'{json.dumps(line)}\n' for line in lines))
        self._file = self.path.open('r+b')

    def write(
        self, key: str, values: NDArray[Any], first: int = 0, row: int = 1
    ) -> None:
        """Write a part of a tensor; several threads may.

        Args:
            key: Name of the tensor.
            values: What to write.
            first: Row to begin with.
            row: Bytes in a row.
        """
        offset = self._layout.offsets[key] + first * row
        with self._lock:
            self._file.seek(offset)
            self._file.write(np.ascontiguousarray(values))

    def system(self, text: str) -> int:
        """Return the number of a coordinate reference system.

        Args:
            text: 'EPSG:<code>' or WKT.
        """
        with self._lock:
            if text not in self._systems:
                self._append({'system': text})
            return self._systems[text]

    def mark(self, piece: str) -> None:
        """Note that a piece is there.

        Args:
            piece: Its name.
        """
        with self._lock:
            # a piece that is listed must not wait in this process
            self._file.flush()
            self._append({'piece': piece})

    def complete(self) -> None:
        """Write the header: all images are there, and it can be read as a pack.

        Raises:
            OutputError: If there are too many coordinate reference systems.
        """
        self._file.seek(0)
        self._file.write(self._layout.header(list(self._systems)))
        self._file.flush()

    def finish(self) -> None:
        """Give the file its name."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self.path.replace(self.output)
        self._list.unlink()
        Path(self._process_lock.lock_file).unlink()

    def close(self) -> None:
        """Close the file, complete or not."""
        self._file.close()
        self._process_lock.release()

    def _append(self, line: dict[str, str]) -> None:
        with self._list.open('a') as file:
            file.write(f'{json.dumps(line)}\n')
        self._adopt(line)

    def _adopt(self, line: dict[str, str]) -> None:
        if 'piece' in line:
            self.finished.add(line['piece'])
        else:
            self._systems.setdefault(line['system'], len(self._systems))

    def _create(self) -> None:
        self._list.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
        free = shutil.disk_usage(self.output.parent).free
        if free < self._layout.size:
            raise OutputError(
                f'{self.output} needs {self._layout.size / 1e9:.1f} GB, but only '
                f'{free / 1e9:.1f} GB are free: choose another disk.'
            )
        with self.path.open('wb') as file:
            file.write(self._layout.header())
            file.truncate(self._layout.size)
            for key, content in self._layout.small.items():
                file.seek(self._layout.offsets[key])
                file.write(content)


def widened_before(output: Path) -> set[str]:
    """Return the modalities that a run that was stopped had to widen.

    Args:
        output: The pack.
    """
    lines = _read_lines(_list_path(output))
    return set(lines[0].get('widened', ())) if lines else set()


def _list_path(output: Path) -> Path:
    return output.with_name(f'{output.stem}.partial.jsonl')


def _read_lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    try:
        # a line that a kill cut off has no end
        return [json.loads(line) for line in path.read_text().split('\n')[:-1]]
    except ValueError:
        return []

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""A pack that is being written, and a list of its finished pieces."""

import json
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import OutputError
from .format import SUFFIX
from .integrity import pack_checksum, small_tensors
from .layout import PackLayout


class PartialPack:
    """``<stem>.partial.safetensors`` and ``<stem>.partial.jsonl`` next to the pack.

    A piece is listed once it is written, so that a killed run can be resumed; a run
    with other data or settings starts from scratch.

    Attributes:
        output: The pack.
        path: The unfinished file.
        finished: Names of the finished pieces.
    """

    def __init__(
        self, output: Path, layout: PackLayout, widened: Collection[str]
    ) -> None:
        """Initialize a new PartialPack instance.

        Args:
            output: The pack.
            layout: Its layout.
            widened: Modalities whose values do not fit into the type of the source.

        Raises:
            OutputError: If the disk is too full.
            OSError: If it cannot be written.
        """
        self.output = output
        self.path = output.with_name(f'{output.stem}.partial{SUFFIX}')
        self._layout = layout
        self._list = _list_path(output)
        self._lock = Lock()
        self._open(widened)

    def _open(self, widened: Collection[str]) -> None:
        """Resume an earlier run, or start from scratch."""
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
        # this also drops a line that a kill cut off
        self._list.write_text(''.join(f'{json.dumps(line)}\n' for line in lines))
        self._file = self.path.open('r+b')

    def write(
        self, key: str, values: NDArray[Any], first: int = 0, row: int = 1
    ) -> None:
        """Write a part of a tensor. Thread-safe.

        Args:
            key: Name of the tensor.
            values: The rows to write.
            first: Position of the first row.
            row: Number of bytes in a row.
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
        """List a piece as finished.

        Args:
            piece: Its name.
        """
        with self._lock:
            # a listed piece must not be in this process's buffer any more
            self._file.flush()
            self._append({'piece': piece})

    def complete(self) -> None:
        """Write the header once all images are written: the file is now a pack.

        Raises:
            OutputError: If there are too many coordinate reference systems.
        """
        self._file.seek(0)
        self._file.write(self._layout.header(list(self._systems)))
        self._file.flush()

    def finish(self) -> None:
        """Add the checksum and give the file its final name."""
        self._file.flush()
        tensors: dict[str, bytes] = {}
        for key in small_tensors(list(self._layout.offsets)):
            self._file.seek(self._layout.offsets[key])
            tensors[key] = self._file.read(self._layout.sizes[key])
        systems = list(self._systems)
        found = pack_checksum(self._layout.description(systems), tensors)
        self._file.seek(0)
        self._file.write(self._layout.header(systems, found))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self.path.replace(self.output)
        self._list.unlink()

    def discard(self) -> None:
        """Forget the finished pieces: the next run starts from scratch."""
        self._list.unlink()

    def close(self) -> None:
        """Close the file, complete or not."""
        self._file.close()

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
    """Return the modalities that an interrupted run had to widen.

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
        # a line that a kill cut off has no line break
        return [json.loads(line) for line in path.read_text().split('\n')[:-1]]
    except ValueError:
        return []

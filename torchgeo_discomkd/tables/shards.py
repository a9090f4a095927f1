# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""The folder that keeps finished rows until a table is complete."""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
from pyarrow import parquet as pq

from ..errors import CorruptFileError, OutputExistsError, SettingError
from ..files import write_atomically

_SETTINGS = 'settings.json'


class Shards:
    """Parquet files of finished rows; a file is either complete or absent."""

    def __init__(self, folder: Path, part: int) -> None:
        """Initialize a new Shards instance.

        Args:
            folder: The folder, ``<table>.partial``.
            part: Number of this process, if several write one table.
        """
        self.folder = folder
        self.part = part
        self._next = 0

    def open(self, settings: Mapping[str, str], overwrite: bool, resume: bool) -> None:
        """Create the folder, or continue with an existing one.

        Only part 0 does so; the other parts must wait for it.

        Args:
            settings: What the rows depend on.
            overwrite: Discard rows of an earlier run.
            resume: Keep rows of an earlier run.

        Raises:
            OSError: If the folder cannot be written.
            OutputExistsError: If there are rows, and neither *overwrite* nor *resume*
                is set.
            SettingError: If the rows to keep were written with other settings.
        """
        if self.part == 0:
            if self.folder.exists() and not resume:
                if not overwrite:
                    raise OutputExistsError(
                        f'{self.folder} holds the rows of an unfinished run: continue '
                        'it with --resume, or discard it with --overwrite.'
                    )
                shutil.rmtree(self.folder)
            self.folder.mkdir(parents=True, exist_ok=True)
            self._check_settings(settings)
        own = self.folder.glob(f'part{self.part:05d}_*.parquet')
        self._next = 1 + max((int(p.stem.partition('_')[2]) for p in own), default=-1)

    def _check_settings(self, settings: Mapping[str, str]) -> None:
        path = self.folder / _SETTINGS
        if not path.exists():
            write_atomically(path, json.dumps(dict(settings), indent=2).encode())
            return
        try:
            earlier = dict(json.loads(path.read_text()))
        except (TypeError, ValueError) as error:
            raise SettingError(
                f'{path} is damaged ({error}): start again with --overwrite.'
            ) from error
        changed = [
            f"{key} was '{earlier.get(key)}' and is '{settings.get(key)}'"
            for key in sorted(earlier.keys() | settings.keys())
            if earlier.get(key) != settings.get(key)
        ]
        if changed:
            raise SettingError(
                f'{self.folder} holds the rows of a run with other settings '
                f'({"; ".join(changed)}): resume with the settings of that run, or '
                'start again with --overwrite.'
            )

    def write(self, table: pa.Table) -> None:
        """Write one shard.

        Args:
            table: Its rows.

        Raises:
            OSError: If it cannot be written.
        """
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression='zstd')
        name = f'part{self.part:05d}_{self._next:08d}.parquet'
        write_atomically(self.folder / name, sink.getvalue().to_pybytes())
        self._next += 1

    def read(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """Read the shards of all parts, in the order of writing.

        Args:
            columns: Names of the columns to read; all if None.

        Yields:
            One table for each shard.

        Raises:
            CorruptFileError: If a shard is damaged.
        """
        for path in sorted(self.folder.glob('part*.parquet')):
            try:
                yield pq.read_table(path, columns=columns)
            except (OSError, pa.ArrowException) as error:
                raise CorruptFileError(
                    f'{path} is damaged ({error}): remove it and continue with '
                    '--resume; its tiles are then classified again.'
                ) from error

    def remove(self) -> None:
        """Remove the folder; a kill never leaves a part of it under its name."""
        trash = self.folder.with_name(f'.{self.folder.name}.{uuid4().hex}')
        shutil.rmtree(self.folder.rename(trash))

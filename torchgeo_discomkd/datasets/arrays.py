# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Checked arrays of labels and of rows."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import (
    CorruptFileError,
    LabelError,
    LayoutError,
    ModalityError,
    SplitError,
)
from ..rasters import open_array
from .listing import ARRAY_SUFFIX, first_few, hash_files
from .packfile import is_pack, open_pack
from .packsource import check_layout, check_source


class ArrayFolder:
    """A folder of arrays, or a pack of one."""

    def __init__(self, root: str | Path) -> None:
        """Initialize a new ArrayFolder instance.

        Args:
            root: The folder, or the pack.

        Raises:
            LayoutError: If there is no such folder.
            PackError: If the pack cannot be read, is of folders of tiles, or its source
                has changed.
        """
        self.root = Path(root)
        #: The pack, if it is one.
        self.pack = open_pack(root) if is_pack(root) else None
        if self.pack is not None:
            check_layout(self.pack, 'arrays')
            check_source(self.pack)
        elif not self.root.is_dir():
            raise LayoutError(
                f'There is no folder {root}: give the folder of the arrays '
                f'<PREFIX>{ARRAY_SUFFIX} as root.'
            )

    def modalities(self) -> dict[str, str]:
        """Return the prefix of every modality that is there."""
        if self.pack is not None:
            packed = self.pack.metadata.modalities.items()
            return {m: v.folder for m, v in sorted(packed, key=lambda i: i[1].folder)}
        found = sorted(
            p.name.removesuffix(ARRAY_SUFFIX)
            for p in self.root.glob(f'*{ARRAY_SUFFIX}')
        )
        return {prefix.lower(): prefix for prefix in found}

    def check_prefixes(self, prefixes: Mapping[str, str]) -> None:
        """Check that modalities are called what they were when they were packed.

        Args:
            prefixes: Prefix of each modality.

        Raises:
            ModalityError: If one is not.
        """
        packed = self.modalities()
        other = {m: p for m, p in prefixes.items() if packed.get(m) != p}
        if self.pack is not None and other:
            raise ModalityError(
                f'{self.root} was packed with the prefixes {packed}, not {other}: use '
                'those, or give the folder as root.'
            )

    def unit(self, modality: str) -> str | None:
        """Return the unit that was given when the data were packed.

        Args:
            modality: The modality.

        Returns:
            None if it is not known.
        """
        if self.pack is None:
            return None
        return self.pack.metadata.modalities[modality].unit

    def __contains__(self, name: str) -> bool:
        """Return whether there is an array.

        Args:
            name: Name of its file.
        """
        if self.pack is not None:
            return name in self.pack.tables
        return (self.root / name).is_file()

    def read(self, name: str) -> NDArray[Any]:
        """Return an array that has to be there.

        Args:
            name: Name of its file.

        Returns:
            Read-only array; large ones are mapped into memory.

        Raises:
            CorruptFileError: If the file is truncated, not an array or needs
                unpickling.
            LayoutError: If there is no such file.
        """
        if self.pack is not None and name.endswith(ARRAY_SUFFIX):
            prefixes = {prefix: m for m, prefix in self.modalities().items()}
            if (modality := prefixes.get(name.removesuffix(ARRAY_SUFFIX))) is not None:
                return self.pack.images[modality]
        elif name in self:
            return self._read_table(name)
        raise LayoutError(
            f'There is no file {self.root / name}: write it, or give the folder that '
            'holds it as root.'
        )

    def _read_table(self, name: str) -> NDArray[Any]:
        if self.pack is None:
            return open_array(self.root / name)
        content = io.BytesIO(self.pack.table(name) or b'')
        try:
            return np.load(content, allow_pickle=False)
        except (EOFError, ValueError) as error:
            raise CorruptFileError(
                f'{name} in {self.root} is no array ({error}): mend it, and pack anew.'
            ) from error

    def tables(self) -> dict[str, bytes]:
        """Return the content of the labels and of the rows of all splits."""
        paths = [self.root / 'labels.npy', *sorted(self.root.glob('*_idx*.npy'))]
        return {path.name: path.read_bytes() for path in paths}

    def fingerprint(self, names: Sequence[str]) -> str:
        """Return a hash of files; see :func:`~.listing.hash_files`.

        Args:
            names: Their names; those that are not there are left out.
        """
        if self.pack is not None:
            return self.pack.metadata.fingerprint
        return hash_files(self.root, [name for name in names if name in self])


def check_labels(
    labels: NDArray[Any], classes: Sequence[str] | None
) -> tuple[str, ...]:
    """Check labels and name their classes.

    Args:
        labels: One label for each sample.
        classes: Names of all classes; None numbers the distinct labels.

    Returns:
        The names, '0', '1', ... if None were given.

    Raises:
        LabelError: If labels are not integers from 0 to the number of classes - 1.
    """
    if labels.ndim != 1 or labels.dtype.kind not in 'iu':
        raise LabelError(
            f'labels.npy holds {labels.dtype} values of shape {labels.shape}: it must '
            'hold one integer for each sample.'
        )
    found = np.unique(labels)
    count = len(found) if classes is None else len(classes)
    outside = found[(found < 0) | (found >= count)]
    if len(outside):
        raise LabelError(
            f'labels.npy has {len(found)} distinct labels, among them '
            f'{first_few(outside)}: labels must be 0 to {count - 1} for {count} classes.'
        )
    return tuple(str(i) for i in range(count)) if classes is None else tuple(classes)


def check_index(rows: NDArray[Any], path: str, length: int) -> NDArray[np.int64]:
    """Check the rows of a split.

    Args:
        rows: The rows.
        path: Name of their file, for messages.
        length: Number of samples of the data set.

    Returns:
        The rows in the order of the file, int64, shape (M,).

    Raises:
        SplitError: If rows are not integers, out of range or given twice.
    """
    if rows.ndim != 1 or rows.dtype.kind not in 'iu':
        raise SplitError(
            f'{path} holds {rows.dtype} values of shape {rows.shape}: it must hold '
            'the rows of its samples, integers.'
        )
    outside = rows[(rows < 0) | (rows >= length)]
    if len(outside):
        raise SplitError(
            f'{path} has {len(outside)} rows out of range ({first_few(outside)}): there '
            f'are {length} samples, 0 to {length - 1}.'
        )
    values, counts = np.unique(rows, return_counts=True)
    if len(values) < len(rows):
        raise SplitError(
            f'{path} lists samples twice ({first_few(values[counts > 1])}): list each once.'
        )
    return rows.astype(np.int64)

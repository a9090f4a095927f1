# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Labels that take long to read, kept next to the data."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import PathLike
from pathlib import Path
from typing import Any

from ..files import write_atomically


def kept_labels(
    root: str | PathLike[str],
    name: str,
    keys: Sequence[str],
    read: Callable[[int], Any],
) -> list[Any]:
    """Return a label for each sample, read once and stored with the data.

    They are written to ``<root>/.torchgeo_discomkd/labels-<key>.json``; the key depends
    on *name* and *keys*, not on the files: delete it if they have changed. If it cannot
    be read, the labels are read again; if it cannot be written, nothing is stored.

    Args:
        root: Folder of the data set.
        name: What the labels are.
        keys: Names of the samples, N of them.
        read: Returns the label of a sample, as JSON can hold it; called by several
            threads.

    Returns:
        N labels.
    """
    text = '\n'.join([name, *keys])
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    path = Path(root, '.torchgeo_discomkd', f'labels-{key}.json')
    with contextlib.suppress(OSError, ValueError):
        labels = json.loads(path.read_text(encoding='utf-8'))
        if isinstance(labels, list) and len(labels) == len(keys):
            return labels
    with ThreadPoolExecutor() as pool:
        labels = list(pool.map(read, range(len(keys))))
    with contextlib.suppress(OSError):
        write_atomically(path, json.dumps(labels).encode())
    return labels

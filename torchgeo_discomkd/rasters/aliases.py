# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Images whose names rasterio cannot take."""

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from .trust import find_sidecars


@contextmanager
def utf8_name(path: str) -> Generator[str]:
    """Give an image a name that is UTF-8, as rasterio requires.

    Opening the bytes of the file instead would lose the files next to it.

    Args:
        path: The image.

    Yields:
        Its path; or, in a temporary folder with links to it and to its sidecars, a name
        in which other characters have become '_'.

    Raises:
        OSError: If there is no room for links.
    """
    try:
        path.encode()
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory() as folder:
            for file in map(Path, (path, *find_sidecars(path))):
                os.symlink(file.absolute(), _alias(folder, file))  # noqa: PTH211
            yield str(_alias(folder, Path(path)))
    else:
        yield path


def _alias(folder: str, file: Path) -> Path:
    name = ''.join(c if c.isascii() else '_' for c in file.name)
    return Path(folder, name)

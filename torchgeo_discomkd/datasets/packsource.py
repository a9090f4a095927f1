# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Whether a pack is what its reader takes it for."""

from functools import lru_cache
from typing import Literal

from ..errors import PackError
from .listing import ARRAY_SUFFIX, hash_files
from .packfile import PackFile
from .stores import FolderStore, tile_paths

#: Small beside the images of the released code's arrays, and kept by who removes them.
LABELS = 'labels.npy'


def check_layout(pack: PackFile, layout: Literal['folders', 'arrays']) -> None:
    """Check the kind of data that was packed.

    Args:
        pack: The pack.
        layout: What the data set reads.

    Raises:
        PackError: If it is of another kind.
    """
    if pack.metadata.layout != layout:
        other = 'PairedArrays' if layout == 'folders' else 'PairedFolders'
        raise PackError(
            f'{pack.path} is a pack of {pack.metadata.layout}: read it with {other}, or '
            'with the data set that was packed.'
        )


@lru_cache(maxsize=8)
def check_source(pack: PackFile) -> None:
    """Check that the source of a pack, where it is still there, has not changed.

    Args:
        pack: The pack.

    Raises:
        PackError: If files were added, removed or changed since.
    """
    metadata = pack.metadata
    source = pack.path.resolve().parent / metadata.source
    if not source.is_dir():
        return
    store = FolderStore(source)
    folders = {m: v.folder for m, v in metadata.modalities.items()}
    if metadata.layout == 'folders':
        listed = {base: store.list_tiles(base, folders) for base in metadata.bases}
        paths = list(tile_paths(listed, folders))
    else:
        names = [f'{prefix}{ARRAY_SUFFIX}' for prefix in folders.values()]
        paths = [p for p in [*names, LABELS] if (source / p).is_file()]
    if not set(paths) - {LABELS}:
        # moved away to save space, or a folder of the same name that holds other things
        return
    tables = {name: store.read_table(name) for name in pack.tables}
    changed = [name for name, t in tables.items() if t not in (None, pack.table(name))]
    if changed or hash_files(source, paths) != metadata.fingerprint:
        raise PackError(
            f'{pack.path} is no longer what {source} holds: files were added, removed '
            'or changed. Pack the data again (--overwrite), or give the folder as root.'
        )

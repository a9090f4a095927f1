# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Write a pack in parallel, in pieces that a resumed run does not repeat."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ...errors import (
    MissingValueError,
    OutputError,
    PackError,
    PairingError,
    SettingError,
    TileSizeError,
)
from ...files import only_writer, refuse_existing, remove_abandoned, writing
from ...rasters.opening import many_threads
from ..base import MultiModalDataset
from ..statistics import band_statistics, statistics_rows
from ..stored import StoredDataset
from ..stores import StoredImages
from .format import SUFFIX, is_pack
from .integrity import image_checksum
from .layout import PackLayout
from .partial import PartialPack, widened_before

#: Number of images in a piece, which are read and written together.
PIECE = 64


@dataclass(frozen=True)
class PackReport:
    """Summary of a pack that was written.

    Attributes:
        path: The pack.
        images: Number of images and type of their values for each modality.
        size: Size of the file in bytes.

    Example:
        >>> from pathlib import Path
        >>> report = PackReport(Path('a.safetensors'), {'sar': (2, 'float32')}, 69_000)
        >>> report.images['sar'], f'{report.size / 1e3:.0f} kB'
        ((2, 'float32'), '69 kB')
    """

    path: Path
    images: Mapping[str, tuple[int, str]]
    size: int


class _NarrowTypeError(Exception):
    """Raised when values do not fit into the type of the source."""

    def __init__(self, modality: str) -> None:
        super().__init__(modality)
        self.modality = modality


def write_pack(
    dataset: MultiModalDataset,
    output: str | Path,
    workers: int | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> PackReport:
    """Write all images of a data set, with all bands and splits, into one file.

    Values are not changed. The file appears when it is complete; to resume a run that
    was interrupted, repeat the call.

    Args:
        dataset: The training split, whose statistics become part of the pack.
        output: The file, ``*.safetensors``.
        workers: Number of threads that read. Default: one for each processor core.
        overwrite: Whether to replace an existing file.
        progress: Whether to show a progress bar.

    Returns:
        Number, type and size of what was packed.

    Raises:
        OutputError: If the disk is too full, or the file cannot be written.
        OutputExistsError: If *output* exists and *overwrite* is not set.
        OutputInUseError: If another process writes it.
        SettingError: If the suffix of *output* is wrong, or the data are a pack already
            or cannot be packed.
        TileSizeError: If the images of a modality differ in size.
        UserError: If the data cannot be used.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from torchgeo_discomkd.datasets import PairedArrays
        >>> with tempfile.TemporaryDirectory() as root:
        ...     images = np.arange(8.0).reshape(2, 1, 2, 2)
        ...     np.save(f'{root}/SAR_data_normalized.npy', images)
        ...     np.save(f'{root}/labels.npy', [0, 1])
        ...     np.save(f'{root}/train_idx.npy', [0, 1])
        ...     report = write_pack(PairedArrays(root), f'{root}/pack.safetensors')
        ...     packed = PairedArrays(f'{root}/pack.safetensors')
        >>> report.images, len(packed)
        ({'sar': (2, 'float32')}, 2)
    """
    output = Path(output)
    if output.suffix != SUFFIX:
        raise SettingError(f'{output}: the name of a pack must end in {SUFFIX}.')
    if workers is not None and workers < 1:
        raise SettingError(f'workers={workers}: give 1 or more.')
    refuse_existing([output], overwrite)
    if is_pack(dataset.root):
        raise SettingError(f'{dataset.root} is a pack already: give a folder as root.')
    if not isinstance(dataset, StoredDataset):
        raise SettingError(
            f'{type(dataset).__name__} is not a StoredDataset and cannot be packed: '
            'pack PairedFolders, PairedArrays, PairedDatasets or a subclass of one.'
        )
    for images in dataset.images.values():
        if images.names is None:
            # all files must have one order, also in modalities that samples do not hold
            header = images.header(0)
            images.names = header.descriptions or [''] * header.count
    counts = {m: len(images) for m, images in dataset.images.items()}
    if dataset.store.layout == 'arrays' and len(set(counts.values())) > 1:
        raise PairingError(
            f'the arrays in {dataset.root} have {counts} samples: all need the same '
            'number, also those that are not in modalities.'
        )
    with only_writer(output), writing(output):
        remove_abandoned(output)
        widened = widened_before(output)
        output.parent.mkdir(parents=True, exist_ok=True)
        while True:
            layout = PackLayout(dataset, output, widened)
            try:
                with contextlib.closing(
                    PartialPack(output, layout, widened)
                ) as partial:
                    _write_pieces(dataset.images, layout, partial, workers, progress)
                    partial.complete()
                    _check_and_measure(dataset, partial)
                    partial.finish()
                break
            except _NarrowTypeError as error:
                widened.add(error.modality)
    packed = {m: (len(i), str(layout.images[m][0])) for m, i in dataset.images.items()}
    return PackReport(output, packed, layout.size)


def _check_and_measure(dataset: StoredDataset, partial: PartialPack) -> None:
    """Read the training split back, which compares its images with their checksums."""
    try:
        _write_statistics(dataset.from_pack(partial.path), partial)
    except PackError as error:
        partial.discard()
        raise OutputError(
            f'{partial.output}: what was written so far, perhaps by an interrupted '
            f'run, was damaged and has been discarded ({error}) Repeat the command.'
        ) from error


def _write_statistics(packed: StoredDataset, partial: PartialPack) -> None:
    for modality in packed.modalities:
        # without a valid pixel there are none: training will report that
        with contextlib.suppress(MissingValueError):
            rows = statistics_rows(band_statistics(packed, modality))
            partial.write(f'statistics.{modality}', rows)


def _write_pieces(
    source: Mapping[str, StoredImages],
    layout: PackLayout,
    partial: PartialPack,
    workers: int | None,
    progress: bool,
) -> None:
    def work(modality: str, first: int) -> int:
        images = source[modality]
        values = _read(modality, images, first, *layout.images[modality])
        partial.write(f'image.{modality}', values, first, values[0].nbytes)
        sums = np.array([image_checksum(image) for image in values], '<i4')
        partial.write(f'crc32.{modality}', sums, first, sums.itemsize)
        if f'crs.{modality}' in layout.offsets:
            _write_places(modality, images, first, len(values), partial)
        partial.mark(f'{modality} {first}')
        return len(values)

    total = sum(map(len, source.values()))
    todo = [p for p in _pieces(source) if f'{p[0]} {p[1]}' not in partial.finished]
    left = sum(min(PIECE, len(source[m]) - first) for m, first in todo)
    with (
        many_threads(),
        ThreadPoolExecutor(workers or os.cpu_count()) as pool,
        tqdm(
            total=total, initial=total - left, unit=' images', disable=not progress
        ) as bar,
    ):
        futures = [pool.submit(work, *piece) for piece in todo]
        try:
            for future in as_completed(futures):
                bar.update(future.result())
        finally:
            # nothing may be written after the file is closed
            for future in futures:
                future.cancel()
            wait(futures)


def _pieces(source: Mapping[str, StoredImages]) -> Iterator[tuple[str, int]]:
    for modality, images in source.items():
        for first in range(0, len(images), PIECE):
            yield modality, first


def _read(
    modality: str,
    images: StoredImages,
    first: int,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
) -> NDArray[Any]:
    count = min(PIECE, len(images) - first)
    values = np.empty((count, *shape), dtype)
    for place in range(count):
        image = images.read(first + place)
        if image.shape != shape:
            raise TileSizeError(
                f'{images.paths[first + place]} has shape {image.shape}, but '
                f'{images.paths[0]} has {shape}: cut or resample the tiles of a '
                'modality to one size.'
            )
        # missing pixels, NaN, do not fit into integers
        with np.errstate(invalid='ignore', over='ignore'):
            values[place] = image
        if not np.array_equal(values[place].astype(np.float32), image, equal_nan=True):
            raise _NarrowTypeError(modality)
    return values


def _write_places(
    modality: str, images: StoredImages, first: int, count: int, partial: PartialPack
) -> None:
    numbers = np.full(count, -1, '<i4')
    transforms = np.zeros((count, 6), '<f8')
    for place in range(count):
        if (found := images.locate(first + place)) is not None:
            crs, transform = found
            numbers[place] = partial.system(crs.to_string())
            transforms[place] = transform[:6]
    partial.write(f'crs.{modality}', numbers, first, numbers.itemsize)
    partial.write(f'transform.{modality}', transforms, first, 6 * transforms.itemsize)

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Unlabelled tiles of one modality, for prediction."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from matplotlib.figure import Figure
from shapely import to_wkb
from torch import Tensor
from torchgeo.datasets import NonGeoDataset

from ..errors import SettingError, TileSizeError
from ..rasters.scale import check_scale
from ..rasters.sizes import fit_size
from ..rasters.sources import find_sources
from ..rasters.tiles import TileSpec, read_tile
from .plotting import plot_sample

# Height and width of what stands for a tile that cannot be read, if nothing else tells.
_PLACEHOLDER = (32, 32)


class SARTiles(NonGeoDataset):
    """Unlabelled tiles of one modality.

    A sample is ``{'image_<modality>': float32 (C, H, W), 'index': int64 (), 'path':
    str, 'status': str, 'footprint': str}``: a tile of any size, in the unit and with
    the bands asked for, missing pixels NaN; its path; 'ok', or why it cannot be
    classified; and its outline as hexadecimal well-known binary in :attr:`crs`, empty
    if the file does not tell. A tile that cannot be read is one whose pixels are all
    missing: it never ends a prediction.

    Give :meth:`collate` to a data loader: it brings tiles to the size of a classifier.
    """

    def __init__(
        self,
        paths: Sequence[str | Path] | str | Path,
        modality: str = 'sar',
        bands: Sequence[str] = ('VV', 'VH'),
        unit: str = 'dB',
        size: tuple[int, int] | None = None,
        scale: Literal['auto', 'db', 'linear'] = 'auto',
        file_bands: Sequence[str | int] | None = None,
        crs: str = 'EPSG:4326',
        max_nodata: float = 1.0,
        transforms: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        """Initialize a new SARTiles instance.

        Args:
            paths: Files, folders (with all below), patterns such as 'tiles/*.tif', URLs
                and text files with a path in each line; see
                :func:`~torchgeo_discomkd.rasters.sources.find_sources`.
            modality: Name of the modality.
            bands: Names of the bands to deliver, in order. Files that do not name
                theirs have just these, in this order.
            unit: Unit to deliver, 'dB' or 'linear'; values in any other are taken as
                they are.
            size: Height and width that :meth:`collate` brings tiles to. Default: as
                they are.
            scale: Unit of the files: 'db', 'linear', or 'auto' to guess it for each.
            file_bands: Names or numbers (from 1) of the files' bands, one for each of
                *bands*; they overrule names and order.
            crs: Coordinate reference system of the outlines.
            max_nodata: A tile has the status 'nodata' if at least this part of its
                pixels is missing, above 0 and at most 1.
            transforms: A function that takes a sample and returns a transformed one.

        Raises:
            LayoutError: If there is no such file, or none in a folder.
            SettingError: If a setting is out of range, or *scale* is stated for a unit
                that is not one of backscatter.
        """
        check_scale(scale, unit)
        if not 0 < max_nodata <= 1:
            raise SettingError(
                f'max_nodata={max_nodata}: give a number above 0, at most 1.'
            )
        single = isinstance(paths, str | Path)
        self.sources = find_sources([paths] if single else paths, bands)
        self.modality = modality
        self.crs = crs
        self.transforms = transforms
        self.spec = TileSpec(
            bands=tuple(bands),
            unit=unit,
            size=size,
            scale=scale,
            override=None if file_bands is None else tuple(map(str, file_bands)),
            crs=crs,
            max_nodata=max_nodata,
        )

    def __len__(self) -> int:
        """Return the number of tiles."""
        return len(self.sources)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one tile.

        Args:
            index: Position of the tile.

        Returns:
            Image, index, path, status and outline.
        """
        # collate() sees to the size: a sample is the tile as it is
        tile = read_tile(self.sources[index], replace(self.spec, size=None))
        shape = (1, len(self.spec.bands), *(self.spec.size or _PLACEHOLDER))
        nothing = np.full(shape, np.nan, np.float32)
        (image,) = nothing if tile.windows is None else tile.windows
        outline = tile.footprint
        sample: dict[str, Any] = {
            f'image_{self.modality}': torch.from_numpy(image),
            'index': torch.tensor(index),
            'path': tile.source.name,
            'status': tile.status,
            'footprint': '' if outline is None else to_wkb(outline, hex=True),
        }
        return sample if self.transforms is None else self.transforms(sample)

    def collate(self, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Make a batch of tiles that may differ in size.

        A tile of another size than asked for is padded, cropped or covered by several
        windows, as :func:`~torchgeo_discomkd.rasters.sizes.fit_size` says, and has the
        status 'mixed_size'.

        Args:
            samples: Samples of this data set.

        Returns:
            Flat dictionary with an image (B, C, h, w), and index, path, status and
            outline of its tile, for each window: those of one tile follow each other.

        Raises:
            TileSizeError: If tiles differ in size and none was asked for.
        """
        key = f'image_{self.modality}'
        fitted = [self._fit(sample[key], sample['status']) for sample in samples]
        sizes = {w.shape[2:] for w, _ in fitted if w is not None}
        if len(sizes) > 1:
            raise TileSizeError(
                f'The tiles differ in size ({sorted(map(tuple, sizes))}), and the '
                'classifier does not say which one it takes: set size.'
            )
        height, width = next(iter(sizes), self.spec.size or _PLACEHOLDER)
        nothing = torch.full((1, len(self.spec.bands), height, width), torch.nan)
        images = [nothing if w is None else w for w, _ in fitted]
        rows = [row for row, windows in enumerate(images) for _ in windows]
        columns: dict[str, list[Any]] = {
            name: [sample[name] for sample in samples] for name in samples[0]
        }
        columns['status'] = [status for _, status in fitted]
        batch = {
            name: torch.stack(values)[rows]
            if isinstance(values[0], Tensor)
            else [values[row] for row in rows]
            for name, values in columns.items()
            if name != key
        }
        return {key: torch.cat(images), **batch}

    def _fit(self, image: Tensor, status: str) -> tuple[Tensor | None, str]:
        """Return the windows of a tile, None if it has none, and its status."""
        if status != 'ok':
            return None, status
        windows = torch.from_numpy(fit_size(image.numpy(), self.spec.size))
        if not len(windows):
            return None, 'nodata'
        fits = self.spec.size in (None, tuple(image.shape[1:]))
        return windows, 'ok' if fits else 'mixed_size'

    def plot(
        self,
        sample: dict[str, Any],
        show_titles: bool = True,
        suptitle: str | None = None,
    ) -> Figure:
        """Show a tile.

        Args:
            sample: A sample of this data set.
            show_titles: Whether to write the modality above it.
            suptitle: Title of the figure.

        Returns:
            A figure with one panel.
        """
        bands = {self.modality: self.spec.bands}
        return plot_sample(sample, bands, (), show_titles, suptitle)

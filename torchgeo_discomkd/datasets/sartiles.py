# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Unlabelled tiles of one modality, for prediction."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torchgeo.datasets import NonGeoDataset

from ..errors import TileSizeError
from ..rasters import FolderCounts
from ..rasters.finding import find_images
from ..rasters.tiles import TileSpec, read_tile
from .plotting import plot_sample

# Height and width of an empty batch if they are not known.
_PLACEHOLDER = (32, 32)


class SARTiles(NonGeoDataset):
    """Unlabelled tiles of one modality, read as ``classify`` reads them.

    A sample is ``{'image_<modality>': float32 (N, C, H, W), 'index': int64 (), 'path':
    str, 'status': str, 'footprint': shapely geometry or None, 'unusual': str or None,
    'reading': str or None}``: the windows of a tile with missing pixels NaN (one window
    if the tile has the requested size), and what
    :class:`~torchgeo_discomkd.rasters.tiles.Tile` says about it. A
    tile that cannot be classified has no window (N = 0) and a status that says why; it
    never stops a prediction.

    Pass :meth:`collate` to a data loader.

    Attributes:
        images: The tiles.
        counts: Numbers of files that were found and left, for each folder and pattern.
        spec: What the classifier takes, and what is known about the files.
        modality: Name of the modality.
        transforms: A function that takes a sample and returns a transformed one.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from torchgeo_discomkd.rasters.tiles import TileSpec
        >>> spec = TileSpec(bands=('VV', 'VH'), unit='dB', size=(8, 8))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f'{folder}/a.npy', np.full((2, 8, 8), -10.0))
        ...     np.save(f'{folder}/b.npy', np.full((2, 16, 16), -12.0))
        ...     tiles = SARTiles(folder, spec)
        ...     batch = tiles.collate([tiles[0], tiles[1]])
        >>> batch['image_sar'].shape, batch['windows']
        (torch.Size([5, 2, 8, 8]), tensor([1, 4]))
        >>> batch['status']
        ['ok', 'mixed_size']
    """

    def __init__(
        self,
        paths: Sequence[str | Path] | str | Path,
        spec: TileSpec,
        modality: str = 'sar',
        transforms: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        trust_lists: bool = False,
    ) -> None:
        """Initialize a new SARTiles instance.

        Args:
            paths: Files, folders, patterns, URLs and lists of paths; see
                :func:`~torchgeo_discomkd.rasters.finding.find_images`.
            spec: Bands, unit and size that the classifier takes, and what is known
                about the files.
            modality: Name of the modality.
            transforms: A function that takes a sample and returns a transformed one.
            trust_lists: Whether lists may name URLs, virtual paths and files of any
                format that GDAL reads.

        Raises:
            LayoutError: If a file does not exist, a folder holds no image, or a list
                cannot be read or is not trusted.
        """
        single = isinstance(paths, str | Path)
        self.counts: list[FolderCounts] = []
        self.images = find_images(
            [paths] if single else paths, spec.bands, self.counts.append, trust_lists
        )
        self.spec = spec
        self.modality = modality
        self.transforms = transforms

    def __len__(self) -> int:
        """Return the number of tiles."""
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one tile.

        Args:
            index: Position of the tile.

        Returns:
            Windows, index, path, status, outline, what is unusual, and how the file
            was understood.
        """
        tile = read_tile(self.images[index], self.spec)
        windows = tile.windows
        if windows is None:
            shape = (0, len(self.spec.bands), *(self.spec.size or _PLACEHOLDER))
            windows = np.empty(shape, np.float32)
        sample: dict[str, Any] = {
            f'image_{self.modality}': torch.from_numpy(windows),
            'index': torch.tensor(index),
            'path': tile.files.name,
            'status': tile.status,
            'footprint': tile.footprint,
            'unusual': tile.unusual,
            'reading': tile.reading,
        }
        return sample if self.transforms is None else self.transforms(sample)

    def collate(self, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Collate tiles with any number of windows.

        Args:
            samples: Samples of this data set.

        Returns:
            'image_<modality>' (N, C, H, W), the windows of all tiles in order;
            'windows' and 'index', int64 (B,), the number of windows of each tile and
            its position; and lists of the other values of samples.

        Raises:
            TileSizeError: If tiles differ in size and no size was requested.
        """
        key = f'image_{self.modality}'
        # the size of a tile without windows is not known
        found = [sample[key] for sample in samples if len(sample[key])]
        if len(sizes := {tuple(windows.shape[2:]) for windows in found}) > 1:
            raise TileSizeError(
                f'The tiles differ in size ({sorted(sizes)}), and the classifier does '
                'not say which size it takes: set size.'
            )
        batch: dict[str, Any] = {
            name: [sample[name] for sample in samples] for name in samples[0]
        }
        return batch | {
            key: torch.cat(found) if found else samples[0][key],
            'windows': torch.tensor([len(sample[key]) for sample in samples]),
            'index': torch.stack(batch['index']),
        }

    def plot(
        self,
        sample: dict[str, Any],
        show_titles: bool = True,
        suptitle: str | None = None,
    ) -> Figure:
        """Show a tile.

        Args:
            sample: A sample of this data set; only its first window is shown.
            show_titles: Whether to write the modality above it.
            suptitle: Title of the figure.

        Returns:
            A figure with one panel, black if the tile has no window.
        """
        key, bands = f'image_{self.modality}', {self.modality: self.spec.bands}
        nothing = torch.full((len(self.spec.bands), 1, 1), torch.nan)
        image = next(iter(sample[key]), nothing)
        return plot_sample(sample | {key: image}, bands, (), show_titles, suptitle)

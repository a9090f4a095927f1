# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Which tiles the images of a batch are."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import CombinedLoader
from shapely import MultiPolygon, Polygon, from_wkb

from ..datasets import MultiModalDataset
from ..rasters.footprints import make_footprint


class PredictedTile(NamedTuple):
    """A tile of a batch."""

    #: Path, or another name that no second tile of the data set has.
    path: str

    #: 'ok', or what is special about it.
    status: str

    #: Outline; None if unknown.
    footprint: Polygon | MultiPolygon | None

    #: Positions of its images in the batch.
    rows: list[int]


def predict_dataset(trainer: Trainer, dataloader_idx: int) -> Any:
    """Return a data set that is predicted; None if the loader does not tell.

    Args:
        trainer: The trainer.
        dataloader_idx: Index of the data loader.
    """
    loaders = CombinedLoader(trainer.predict_dataloaders, 'sequential').flattened
    return getattr(loaders[dataloader_idx], 'dataset', None)


def tiles_of_batch(batch: Mapping[str, Any]) -> list[PredictedTile]:
    """Return the tiles of a batch that tells them itself, as SARTiles do.

    Args:
        batch: 'path', 'status' and 'footprint' (hexadecimal well-known binary, or
            empty) for each image; those of one tile have one path.

    Returns:
        The tiles, in order.
    """
    tiles: dict[str, PredictedTile] = {}
    keys = ('path', 'status', 'footprint')
    for row, (path, status, outline) in enumerate(
        zip(*(batch[key] for key in keys), strict=True)
    ):
        if path not in tiles:
            footprint = from_wkb(outline) if outline else None
            tiles[path] = PredictedTile(path, status, footprint, [])
        tiles[path].rows.append(row)
    return list(tiles.values())


def tiles_of_dataset(
    dataset: Any, indices: Sequence[int], crs: str
) -> list[PredictedTile]:
    """Return the tiles of a batch by their positions in the data set.

    Args:
        dataset: The data set; only a MultiModalDataset knows more than the position.
        indices: Positions of the samples.
        crs: Coordinate reference system of the outlines.

    Returns:
        One tile for each sample.
    """
    if not isinstance(dataset, MultiModalDataset):
        return [PredictedTile(str(i), 'ok', None, [r]) for r, i in enumerate(indices)]
    return [
        PredictedTile(dataset.identifier(i), 'ok', _outline(dataset, i, crs), [row])
        for row, i in enumerate(indices)
    ]


def _outline(
    dataset: MultiModalDataset, index: int, crs: str
) -> Polygon | MultiPolygon | None:
    sizes = {dataset.tile_size(modality) for modality in dataset.modalities}
    place = dataset.georeference(index)
    # sizes that differ: the transform is of one of the modalities, but of which one?
    if place is None or len(sizes) > 1:
        return None
    return make_footprint(*place, sizes.pop(), crs)

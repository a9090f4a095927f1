# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""What is left to say when a scene is classified."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SceneSummary:
    """Files that were written, and what the map shows."""

    #: The map of classes.
    output: Path

    #: The map of confidence.
    confidence: Path

    #: Polygons of the classes; None if none were asked for.
    polygons: Path | None

    #: Picture; None if none was asked for.
    preview: Path | None

    #: Rows and columns of the map.
    shape: tuple[int, int]

    #: Height and width of a cell in pixels of the scene.
    stride: int

    #: Number of cells of each class, 'uncertain' among them if there was a limit.
    cells: dict[str, int]

    #: Number of cells without enough pixels.
    nodata: int

    #: Windows that were classified.
    windows: int

    #: Windows that were not, as they cover no cell with enough pixels.
    skipped: int

    #: Mean confidence of all cells with a class; NaN if there is none.
    mean_confidence: float

    def __str__(self) -> str:
        """Return one line with the numbers."""
        mapped = sum(self.cells.values())
        shares = ', '.join(
            f'{name} {100 * count / max(mapped, 1):.1f} %'
            for name, count in self.cells.items()
        )
        text = (
            f'{self.output}: {self.shape[0]} x {self.shape[1]} cells of {self.stride} '
            f'pixels, {self.nodata} nodata'
        )
        if mapped:
            text += f' ({shares}; mean confidence {self.mean_confidence:.3f})'
        return text

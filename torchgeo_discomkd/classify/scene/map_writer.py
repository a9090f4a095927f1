# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Write a class map and its confidence as Cloud Optimized GeoTIFFs."""

import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import DatasetReader, DatasetWriter
from rasterio.shutil import copy  # ty: ignore[import-not-found]
from rasterio.windows import Window

from ...errors import OutputError
from ...files import writing
from .legend import NODATA, Legend
from .reader import Grid

#: Height and width of the tiles inside the files; larger maps have overviews.
BLOCK = 256


class MapWriter:
    """Two GeoTIFFs that are written row by row and cloud-optimized at the end.

    TIFF only allows a colour table in files with one band, and QGIS needs it to show
    the colours of the classes: classes and confidence are two files on the same grid.

    * classes: uint8, 0 = nodata, 1 = first class, ...; colour table inside, names in
      the .aux.xml file next to it (see :meth:`~.legend.Legend.to_aux_xml`) and in
      the tags; overviews show the most frequent class;
    * confidence: float32, highest mean probability, nodata NaN; overviews show the
      mean.

    The caller must :meth:`close` it.

    Attributes:
        classes: The map of classes, complete after :meth:`finish`.
        confidence: The map of confidence, complete after :meth:`finish`.
        aux_xml: Names and colours of the classes, complete after :meth:`finish`.
        counts: Number of cells by value, int64, shape (1 + classes,).
        total: Sum of the confidence of all cells.
    """

    def __init__(
        self,
        folder: Path,
        grid: Grid,
        legend: Legend,
        tags: Mapping[str, str],
        threads: int = 1,
    ) -> None:
        """Create the files.

        Args:
            folder: Existing folder for the files.
            grid: Grid of the map.
            legend: Classes of the map.
            tags: Tags for both files.
            threads: Number of threads that compress.

        Raises:
            OutputError: If the files cannot be created.
        """
        self.classes = folder / 'classes.tif'
        self.confidence = folder / 'confidence.tif'
        self.aux_xml = folder / 'classes.tif.aux.xml'
        self.counts = np.zeros(len(legend.names) + 1, np.int64)
        self.counts[NODATA] = grid.height * grid.width
        self.total = 0.0

        self._legend = legend
        self._threads = threads
        self._stack = ExitStack()
        names = {f'CLASS_{i}': name for i, name in enumerate(legend.names, 1)}
        raw = folder / 'classes.raw.tif', folder / 'confidence.raw.tif'
        with writing(folder), self._stack:
            self._class_file = self._create(raw[0], grid, 'uint8', NODATA)
            self._class_file.write_colormap(1, legend.colormap())
            self._class_file.set_band_description(1, 'class')
            self._class_file.update_tags(**tags, **names)
            self._confidence_file = self._create(raw[1], grid, 'float32', np.nan)
            self._confidence_file.set_band_description(1, 'confidence')
            self._confidence_file.update_tags(**tags)
            self._stack = self._stack.pop_all()

    def _create(
        self, path: Path, grid: Grid, dtype: str, nodata: float
    ) -> DatasetWriter:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', NotGeoreferencedWarning)
            file = rasterio.open(
                path,
                'w',
                driver='GTiff',
                height=grid.height,
                width=grid.width,
                count=1,
                dtype=dtype,
                nodata=nodata,
                crs=grid.crs,
                transform=grid.transform,
                tiled=True,
                blockxsize=BLOCK,
                blockysize=BLOCK,
                sparse_ok=True,
                bigtiff='IF_SAFER',
            )
        return self._stack.enter_context(file)

    def write(
        self,
        row: int,
        column: int,
        classes: NDArray[np.uint8],
        confidence: NDArray[np.float32],
    ) -> None:
        """Write a part of one row; cells that are never written are nodata.

        Args:
            row: Row of the map.
            column: First column.
            classes: Values, shape (N,).
            confidence: Highest probabilities, shape (N,), NaN where *classes* is 0.

        Raises:
            OutputError: If the disk is full.
        """
        window = Window.from_slices((row, row + 1), (column, column + len(classes)))
        with writing(self.classes.parent):
            self._class_file.write(classes[np.newaxis], 1, window=window)
            self._confidence_file.write(confidence[np.newaxis], 1, window=window)
        counts = np.bincount(classes, minlength=len(self.counts))
        self.counts += counts
        self.counts[NODATA] -= len(classes)
        self.total += float(np.nansum(confidence, dtype=np.float64))

    def finish(self, tags: Mapping[str, str]) -> None:
        """Write the cloud-optimized files and check that they are complete.

        Args:
            tags: More tags for both files.

        Raises:
            OutputError: If the disk is full.
        """
        raw = self._class_file.name, self._confidence_file.name
        with writing(self.classes.parent):
            self._class_file.update_tags(**tags)
            self._confidence_file.update_tags(**tags)
            self.close()
        with writing(self.classes.parent), warnings.catch_warnings():
            warnings.simplefilter('ignore', NotGeoreferencedWarning)
            self._optimize(raw[0], self.classes, 'mode', predictor='NO')
            self._optimize(raw[1], self.confidence, 'average', predictor='YES')
            self.aux_xml.write_bytes(self._legend.to_aux_xml(self.counts[1:].tolist()))
            # GDAL does not report each block that it could not write
            with (
                rasterio.open(self.classes) as classes,
                rasterio.open(self.confidence) as confidence,
            ):
                counts, total = measure(classes, confidence, len(self.counts))
        if (counts != self.counts).any() or not np.isclose(total, self.total, 1e-9):
            raise OutputError(
                f'{self.classes.parent} was not written completely: the disk seems to '
                'be full. Make room or choose another folder.'
            )

    def _optimize(self, raw: str, path: Path, resampling: str, predictor: str) -> None:
        copy(
            raw,
            path,
            driver='COG',
            blocksize=BLOCK,
            compress='DEFLATE',
            predictor=predictor,
            overview_resampling=resampling,
            num_threads=self._threads,
            bigtiff='IF_SAFER',
        )
        Path(raw).unlink()

    def close(self) -> None:
        """Close the files."""
        self._stack.close()


def measure(
    classes: DatasetReader, confidence: DatasetReader, values: int
) -> tuple[NDArray[np.int64], float]:
    """Count the cells of a map and add up their confidence.

    Args:
        classes: Map of classes.
        confidence: Map of confidence, on the same grid.
        values: Number of values that cells may have, nodata included.

    Returns:
        Number of cells by value, int64, shape (values,), and the sum of the confidence
        of all cells.

    Raises:
        RasterioIOError: If a file cannot be read.
    """
    counts, total = np.zeros(values, np.int64), 0.0
    for _, window in classes.block_windows(1):
        cells = classes.read(1, window=window).ravel()
        counts += np.bincount(cells, minlength=values)
        total += float(np.nansum(confidence.read(1, window=window), dtype=np.float64))
    return counts, total

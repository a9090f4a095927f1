# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Simulated data in the layout of EuroSAT-MS-SAR."""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from torchgeo.datasets.utils import Sample

from .. import __version__
from ..errors import LayoutError
from .eurosatmssar import EuroSATMSSAR, EuroSATNotFoundError
from .pack.reader import open_store
from .simulation import simulate, simulate_scene

_MARKER = 'simulated.json'


class SimulatedMSSAR(EuroSATMSSAR):
    """Simulated Sentinel-2 and Sentinel-1 tiles of EuroSAT's ten classes.

    No network is needed: the first use writes the tiles as GeoTIFFs in the layout of
    the original releases, and they are read like the real ones. One land cover layout
    per tile drives both sensors; see :func:`~.simulation.simulate`. A Sentinel-1 scene
    to try a classifier on is written next to them
    (:func:`~.simulation.simulate_scene`). Scores on simulated tiles say nothing about
    real images.

    Attributes:
        sensors: Further sensors of the simulation.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     root = f'{folder}/simulated'
        ...     test = SimulatedMSSAR(root, 'test', tiles_per_class=2, size=8)
        ...     sample = test[0]
        >>> len(test), sample['image_ms'].shape, sample['image_sar'].shape
        (10, torch.Size([13, 8, 8]), torch.Size([2, 8, 8]))
    """

    sensors: ClassVar[dict[str, bool]] = {}

    def __init__(
        self,
        root: str = 'data/simulated_ms_sar',
        split: str = 'train',
        run: int = 0,
        modalities: Sequence[str] = ('ms', 'sar'),
        bands: Mapping[str, Sequence[str]] | None = None,
        missing_values: Literal['mean', 'error'] = 'mean',
        transforms: Callable[[Sample], Sample] | None = None,
        tiles_per_class: int = 150,
        size: int = 64,
        seed: int = 0,
        download: bool = True,
    ) -> None:
        """Initialize a new SimulatedMSSAR instance.

        Args:
            root: Folder for these data alone, or a pack.
            split: 'train', 'val' or 'test', stratified 70/10/20 as in the paper.
            run: Number of the repetition: each gives a different split.
            modalities: Modalities that samples hold.
            bands: Names of the bands to read for each modality; all by default.
            missing_values: 'mean' passes missing pixels on as NaN, which a classifier
                replaces by the band mean; 'error' refuses such a tile.
            transforms: A function that takes a sample and returns a transformed one.
            tiles_per_class: Number of simulated pairs of each class.
            size: Height and width of a tile in pixels.
            seed: Seed of the simulation; it determines every pixel.
            download: Whether to simulate the data if *root* does not hold them.

        Raises:
            BandError: If a band is unknown.
            EuroSATNotFoundError: If there are no data and *download* is False.
            LayoutError: If *root* holds other data, or data simulated differently.
            ModalityError: If a modality is unknown.
            SplitError: If the split is unknown or empty, or the one for training lacks
                a class.

        Warns:
            UserWarning: If the validation or test split lacks a class.
        """
        parameters = {'seed': seed, 'size': size, 'tiles_per_class': tiles_per_class}
        _provide(Path(root), parameters | self.sensors, download)
        super().__init__(
            root,
            split,
            run=run,
            modalities=modalities,
            bands=bands,
            missing_values=missing_values,
            transforms=transforms,
        )

    def table_names(self) -> list[str]:
        """Return the names of the split files and of the simulation's parameters."""
        return [_MARKER, *super().table_names()]


def _provide(root: Path, parameters: dict[str, Any], download: bool) -> None:
    if not open_store(root, 'folders').is_empty():
        _verify(root, parameters)
        return
    if not download:
        raise EuroSATNotFoundError(
            f'There are no simulated data in {root}: use download=True to write them.'
        )
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        dir=root.parent, prefix=f'.{root.name}-', ignore_cleanup_errors=True
    ) as name:
        folder = Path(name) / root.name
        folder.mkdir()
        simulate(folder, **parameters)
        simulate_scene(folder, parameters['size'], parameters['seed'])
        marker = json.dumps(parameters | {'version': __version__}, indent=2)
        (folder / _MARKER).write_text(marker, encoding='utf-8')
        try:
            folder.replace(root)
        except OSError:
            # another process was faster
            _verify(root, parameters)


def _verify(root: Path, parameters: dict[str, Any]) -> None:
    marker = open_store(root, 'folders').read_table(_MARKER)
    try:
        found: dict[str, Any] = json.loads(marker or b'')
    except ValueError as error:
        raise LayoutError(
            f'{root} holds files that are not simulated data (it has no readable '
            f'{_MARKER}): give simulated data a folder of their own as root.'
        ) from error
    other = {name: found.get(name) for name in parameters}
    if other != parameters:
        raise LayoutError(
            f'{root} was simulated with {other}, not {parameters}: choose another '
            'root, or remove that folder first.'
        )

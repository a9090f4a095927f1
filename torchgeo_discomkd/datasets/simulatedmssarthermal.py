# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Simulated data of three sensors."""

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

from torchgeo.datasets.utils import Sample

from .eurosatmssar import EuroSATMSSAR
from .simulatedmssar import SimulatedMSSAR
from .simulation.thermal import THERMAL_BANDS


class SimulatedMSSARThermal(SimulatedMSSAR):
    """Simulated tiles of :class:`SimulatedMSSAR`, and a thermal image of each.

    The three sensors see the same land cover layout, and the tiles of the first two are
    those of :class:`SimulatedMSSAR` to the last bit. The third one has one band,
    the temperature of the surface in kelvin, in which details below 70 m are lost; see
    :func:`~.simulation.thermal.thermal_image`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     root = f'{folder}/simulated'
        ...     test = SimulatedMSSARThermal(root, 'test', tiles_per_class=2, size=8)
        ...     sample = test[0]
        >>> test.modalities, sample['image_thermal'].shape
        (('ms', 'sar', 'thermal'), torch.Size([1, 8, 8]))
    """

    modality_bands: ClassVar[dict[str, tuple[str, ...]]] = {
        **EuroSATMSSAR.modality_bands,
        'thermal': THERMAL_BANDS,
    }
    modality_units: ClassVar[dict[str, str]] = {
        **EuroSATMSSAR.modality_units,
        'thermal': 'K',
    }
    layouts: ClassVar[dict[str, tuple[str, str]]] = {
        **EuroSATMSSAR.layouts,
        'thermal': ('Thermal', 'Thermal'),
    }
    sensors: ClassVar[dict[str, bool]] = {'thermal': True}

    def __init__(
        self,
        root: str = 'data/simulated_ms_sar_thermal',
        split: str = 'train',
        run: int = 0,
        modalities: Sequence[str] = ('ms', 'sar', 'thermal'),
        bands: Mapping[str, Sequence[str]] | None = None,
        missing_values: Literal['mean', 'error'] = 'mean',
        transforms: Callable[[Sample], Sample] | None = None,
        tiles_per_class: int = 150,
        size: int = 64,
        seed: int = 0,
        download: bool = True,
    ) -> None:
        """Initialize a new SimulatedMSSARThermal instance.

        Args:
            root: Folder for these data alone, or a pack.
            split: As for :class:`SimulatedMSSAR`, like all that follow.
            run: Number of the repetition.
            modalities: Modalities that samples hold.
            bands: Names of the bands to read for each modality.
            missing_values: What happens to missing pixels.
            transforms: A function that takes a sample and returns a transformed one.
            tiles_per_class: Number of simulated tiles of each class.
            size: Height and width of a tile in pixels.
            seed: Seed of the simulation.
            download: Whether to simulate the data if *root* does not hold them.

        Raises:
            LayoutError: If *root* holds other data, also those of two sensors.
            UserError: As for :class:`SimulatedMSSAR`.
        """
        super().__init__(
            root,
            split,
            run,
            modalities,
            bands,
            missing_values,
            transforms,
            tiles_per_class,
            size,
            seed,
            download,
        )

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Simulated EuroSAT-MS-SAR data module."""

from collections.abc import Sequence
from typing import Any, ClassVar

from ..datasets import SimulatedMSSAR
from .base import MultiModalDataModule


class SimulatedMSSARDataModule(MultiModalDataModule):
    """Data module of :class:`~torchgeo_discomkd.datasets.SimulatedMSSAR`.

    Attributes:
        simulated: The data set.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     root = f'{folder}/simulated'
        ...     dm = SimulatedMSSARDataModule(root, tiles_per_class=2, size=8)
        ...     dm.setup('test')
        ...     batch = next(iter(dm.test_dataloader()))
        >>> batch['image_sar'].shape, dm.any_dataset.classes[:2]
        (torch.Size([10, 2, 8, 8]), ('AnnualCrop', 'Forest'))
    """

    simulated: ClassVar[type[SimulatedMSSAR]] = SimulatedMSSAR

    def __init__(
        self,
        root: str = 'data/simulated',
        run: int = 0,
        modalities: Sequence[str] = ('ms', 'sar'),
        bands: dict[str, list[str]] | None = None,
        tiles_per_class: int = 150,
        size: int = 64,
        simulation_seed: int = 0,
        **kwargs: Any,
    ) -> None:
        """Initialize a new SimulatedMSSARDataModule instance.

        Args:
            root: Folder that holds, or will hold, the simulated tiles; or a pack.
            run: Number of the repetition of the stratified 70/10/20 split.
            modalities: 'ms', 'sar' or both.
            bands: Bands to load for each modality, by name. Default: all.
            tiles_per_class: Number of simulated tiles of each of the 10 classes.
            size: Height and width of a tile in pixels.
            simulation_seed: Seed of the simulation; it determines every pixel.
            **kwargs: Arguments of :class:`MultiModalDataModule`.
        """
        dataset_kwargs = {
            'root': root,
            'run': run,
            'modalities': modalities,
            'bands': bands,
            'tiles_per_class': tiles_per_class,
            'size': size,
            'seed': simulation_seed,
            'download': True,
        }
        super().__init__(self.simulated, dataset_kwargs, **kwargs)

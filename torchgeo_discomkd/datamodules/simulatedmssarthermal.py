# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Data module of the simulated data of three sensors."""

from collections.abc import Sequence
from typing import Any

from ..datasets import SimulatedMSSARThermal
from .simulatedmssar import SimulatedMSSARDataModule


class SimulatedMSSARThermalDataModule(SimulatedMSSARDataModule):
    """Data module of :class:`~torchgeo_discomkd.datasets.SimulatedMSSARThermal`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     root = f'{folder}/simulated'
        ...     dm = SimulatedMSSARThermalDataModule(root, tiles_per_class=2, size=8)
        ...     dm.setup('test')
        ...     batch = next(iter(dm.test_dataloader()))
        >>> batch['image_thermal'].shape
        torch.Size([10, 1, 8, 8])
    """

    simulated = SimulatedMSSARThermal

    def __init__(
        self,
        root: str = 'data/simulated_thermal',
        run: int = 0,
        modalities: Sequence[str] = ('ms', 'sar', 'thermal'),
        **kwargs: Any,
    ) -> None:
        """Initialize a new SimulatedMSSARThermalDataModule instance.

        Args:
            root: Folder that holds, or will hold, the simulated tiles; or a pack.
            run: Number of the repetition of the stratified 70/10/20 split.
            modalities: Any of 'ms', 'sar' and 'thermal'.
            **kwargs: Arguments of :class:`SimulatedMSSARDataModule`.
        """
        super().__init__(root, run, modalities, **kwargs)

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""PairedFolders data module."""

from collections.abc import Sequence
from typing import Any, Literal

from ..datasets import PairedFolders
from .base import MultiModalDataModule


class PairedFoldersDataModule(MultiModalDataModule):
    """Data module of :class:`~torchgeo_discomkd.datasets.PairedFolders`.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from torchgeo_discomkd.datasets.simulation import simulate
        >>> with tempfile.TemporaryDirectory() as root:
        ...     simulate(Path(root), tiles_per_class=2, size=8)
        ...     folders = {'optical': 'EuroSAT_MS', 'sar': 'EuroSAT-SAR'}
        ...     dm = PairedFoldersDataModule(root, folders=folders, eval_batch_size=4)
        ...     dm.setup('test')
        ...     batch = next(iter(dm.test_dataloader()))
        >>> batch['image_optical'].shape, batch['image_sar'].shape
        (torch.Size([4, 13, 8, 8]), torch.Size([4, 2, 8, 8]))
    """

    def __init__(
        self,
        root: str = 'data',
        folders: dict[str, str] | None = None,
        modalities: Sequence[str] | None = None,
        bands: dict[str, list[str]] | None = None,
        band_names: dict[str, list[str]] | None = None,
        units: dict[str, str] | None = None,
        nodata: dict[str, float] | None = None,
        classes: Sequence[str] | None = None,
        split_scheme: Literal['stratified', 'groups', 'folder'] = 'stratified',
        run: int = 0,
        groups: str | None = None,
        group_column: str = 'group',
        val_groups: Sequence[str] | None = None,
        test_groups: Sequence[str] | None = None,
        missing: Literal['error', 'skip', 'keep'] = 'error',
        missing_values: Literal['mean', 'error'] = 'mean',
        stem_pattern: dict[str, str] | None = None,
        unlabelled: str | None = None,
        unlabelled_groups: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Initialize a new PairedFoldersDataModule instance.

        Args:
            root: Folder that holds one folder per modality, or a pack.
            folders: Folder of each modality, below *root*. Default: every folder in
                *root* that holds class folders is a modality of that name.
            modalities: Modalities to load; the others need not be on disk. Default:
                all.
            bands: Bands to load for each modality, by name. Default: all.
            band_names: Names of the bands in the files for each modality, in file
                order. Default: the descriptions in the files.
            units: Unit of the pixel values for each modality. 'dB' and 'linear' are
                checked against the values; 'amplitude', 'db_x10' and 'db_x100' are
                converted to dB. Default: assumed from the values of SAR images.
            nodata: Number that stands for missing pixels in the files of a modality,
                if they do not say so themselves.
            classes: Class names in the order of their labels. Default: sorted.
            split_scheme: 'stratified' (70/10/20 per class), 'groups' (whole events,
                scenes or columns, from a CSV file) or 'folder' (train, val and test
                folders below *root*).
            run: Number of the repetition, for 'stratified' and for 'groups' without
                named groups.
            groups: CSV file with columns 'file' and *group_column*, for 'groups'.
            group_column: Column of *groups* with the group of each file.
            val_groups: Groups to validate on. Default: chosen by *run*.
            test_groups: Groups to test on. Default: chosen by *run*.
            missing: What to do with samples that some modalities lack: 'error',
                'skip' them, or 'keep' them for unpaired training.
            missing_values: What to do with missing pixels: 'mean' replaces them by the
                band mean in the classifier, 'error' refuses the tile.
            stem_pattern: Regular expression for each modality whose stems differ from
                those of others: the groups, joined by '_', are the name of the sample.
                Files that it does not match are left.
            unlabelled: Folder inside the folder of each modality whose tiles have no
                label, for training. Default: every folder there is a class.
            unlabelled_groups: Groups whose labels are not used: their samples are in no
                split, and train without a label.
            **kwargs: Arguments of :class:`MultiModalDataModule`.
        """
        dataset_kwargs = {
            'root': root,
            'folders': folders,
            'modalities': modalities,
            'bands': bands,
            'band_names': band_names,
            'units': units,
            'nodata': nodata,
            'classes': classes,
            'split_scheme': split_scheme,
            'run': run,
            'groups': groups,
            'group_column': group_column,
            'val_groups': val_groups,
            'test_groups': test_groups,
            'missing': missing,
            'missing_values': missing_values,
            'stem_pattern': stem_pattern,
            'unlabelled': unlabelled,
            'unlabelled_groups': unlabelled_groups,
        }
        super().__init__(PairedFolders, dataset_kwargs, **kwargs)

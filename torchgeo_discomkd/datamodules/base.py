# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Base class of all data modules with several modalities."""

import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from lightning.pytorch.utilities import CombinedLoader, rank_zero_info
from torch import nn
from torch.utils.data import BatchSampler, DataLoader
from torchgeo.datamodules import NonGeoDataModule
from torchgeo.datasets.utils import Sample

from ..datasets import (
    BandStatistics,
    IncompletePairs,
    JoinedDataset,
    MultiModalDataset,
    collate_samples,
)
from ..datasets.profile import split_statistics
from ..errors import SettingError
from ..metadata import ImageProfile
from ..processes import first_decides, is_divided, raising_everywhere
from .augmentation import (
    SeededNoise,
    SeededSymmetry,
    check_transforms,
    warn_if_rescaled,
)
from .backscatter import PossibleBackscatter
from .incomplete import check_incomplete
from .pairing import are_paired, flat_batch
from .ranks import (
    DividedLoader,
    EvenBatches,
    RankBatches,
    check_evaluated,
    check_training,
)
from .resident import ResidentPack, RowLoader, resident_images
from .sampling import RemainderBatchSampler, SeededSampler
from .unlabelled import UnlabelledBatchSampler, check_ratio, join, uses_unlabelled

type Loader = DataLoader[Sample] | DividedLoader | RowLoader


class MultiModalDataModule(NonGeoDataModule):
    """Batches of raw values from one data set with several modalities.

    Training batches are *unpaired* by default, as DisCoM-KD prescribes: every modality
    is shuffled on its own and brings its own labels,
    ``{'image_<modality>': (B, C, H, W), 'label_<modality>': (B,), 'index_<modality>':
    (B,), ...}``. Unequal lengths cycle; an epoch is the longest one. *Paired* batches,
    and all batches of validation, test and prediction, share ``'label'`` and
    ``'index'``. Normalisation belongs to the classifier and is not done here.

    With samples without labels (the data set's split 'unlabelled'), every training
    batch is followed by some of them: the same ones in all modalities if it is paired,
    else each modality draws its own. Their label is -1, and their index is the number
    of labelled training samples plus the position in their split. An epoch is one pass
    over the labelled samples, and only these set statistics and profiles.

    As in TorchGeo, ``train_aug``, ``val_aug``, ``test_aug`` and ``predict_aug``, or
    else ``aug``, are applied to each flat batch on the device: a Kornia module or any
    function from batch to batch. The default ``train_aug`` flips and turns; a
    ``train_aug`` of your own replaces it. The default ``aug`` changes nothing.

    Attributes:
        statistics: Statistics of the training split for each modality, known after
            setup('fit').
        profiles: What its tiles look like, which classifiers keep; known at the same
            time.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from torchgeo_discomkd.datasets import PairedArrays
        >>> with tempfile.TemporaryDirectory() as root:
        ...     np.save(f'{root}/MS_data_normalized.npy', np.zeros((6, 13, 8, 8)))
        ...     np.save(f'{root}/SAR_data_normalized.npy', np.zeros((6, 2, 8, 8)))
        ...     np.save(f'{root}/labels.npy', [0, 1, 0, 1, 0, 1])
        ...     np.save(f'{root}/train_idx.npy', [0, 1, 2, 3])
        ...     np.save(f'{root}/valid_idx.npy', [4, 5])
        ...     dm = MultiModalDataModule(PairedArrays, {'root': root}, batch_size=4)
        ...     dm.setup('fit')
        ...     batch, _, _ = next(iter(dm.train_dataloader()))
        >>> list(batch), batch['ms']['image_ms'].shape
        (['ms', 'sar'], torch.Size([4, 13, 8, 8]))
        >>> sorted(dm.on_before_batch_transfer(batch, 0))[:2]
        ['image_ms', 'image_sar']
    """

    def __init__(
        self,
        dataset_class: type[MultiModalDataset],
        dataset_kwargs: Mapping[str, Any],
        batch_size: int = 128,
        eval_batch_size: int = 512,
        paired: bool | None = None,
        augment: bool = True,
        noise: dict[str, float] | None = None,
        seed: int | None = None,
        num_workers: int = 0,
        pin_memory: bool = False,
        prefetch_factor: int | None = None,
        persistent_workers: bool = True,
        resident: bool = False,
        transforms: Callable[[Sample], Sample] | None = None,
        unlabelled_ratio: float = 1.0,
        allow_missing: bool = False,
    ) -> None:
        """Initialize a new MultiModalDataModule instance.

        Args:
            dataset_class: Class of the data set.
            dataset_kwargs: Arguments of the data set, without *split*.
            batch_size: Samples per modality in a training batch, of each process. The
                last, incomplete batch is kept; a remainder of one joins the batch
                before it. With several processes, a batch of all together is divided
                among them, and a remainder of less than two for each joins.
            eval_batch_size: Samples in a batch of validation, test or prediction.
            paired: Whether a training batch holds the same samples in all modalities,
                under one shared geometric augmentation. Default: whether the task needs
                that.
            augment: Whether ``train_aug`` flips and turns training batches by default,
                with :class:`~torchgeo_discomkd.transforms.RandomSymmetry`.
            noise: Noise that is added to each pixel of training batches, after
                ``train_aug``, for each modality that gets some: its standard deviation
                in those of each band of the training split, such as {sar: 0.1}.
            seed: Seed of shuffling and augmentation. Default: that of
                ``seed_everything``, else 0.
            num_workers: Worker processes per data loader.
            pin_memory: Whether to copy batches into page-locked memory (GPU only).
            prefetch_factor: Batches that each worker loads ahead. Default: PyTorch's.
            persistent_workers: Whether workers live on between epochs.
            resident: Whether a pack lives on the device as a whole: batches are then
                gathered and converted there, and no data loader is needed. For GPUs
                with room for the file, of which each process has a copy.
            transforms: A function that takes a sample and returns a transformed one,
                for the data sets of all splits. An unpaired training sample has one
                modality only.
            unlabelled_ratio: Samples without labels in a training batch, for each
                labelled one; 0 leaves them out.
            allow_missing: Whether paired training batches hold samples that lack a
                modality, too, see :class:`~torchgeo_discomkd.datasets.IncompletePairs`.
                The data set needs ``missing='keep'``, and training one process.
                Statistics of a modality then come from all of its own images.

        Raises:
            SettingError: If a number is out of range.
        """
        for name, value, least in (
            ('eval_batch_size', eval_batch_size, 1),
            ('num_workers', num_workers, 0),
            ('prefetch_factor', prefetch_factor, 1),
        ):
            if value is not None and value < least:
                raise SettingError(f'{name}={value}: give {least} or more.')
        check_ratio(unlabelled_ratio)
        if transforms is not None:
            dataset_kwargs = {**dataset_kwargs, 'transforms': transforms}
        super().__init__(dataset_class, batch_size, num_workers, **dataset_kwargs)
        self.aug = nn.Identity()
        self._symmetry = SeededSymmetry(self._draw)
        self._noise = SeededNoise(noise or {}, self._draw)
        if augment:
            self.train_aug = self._symmetry
        self.collate_fn = collate_samples
        self.val_batch_size = self.test_batch_size = eval_batch_size
        self.predict_batch_size = eval_batch_size
        self.paired = paired
        self.unlabelled_ratio = unlabelled_ratio
        self.allow_missing = allow_missing
        self.seed = seed
        self.pin_memory = pin_memory
        self.prefetch_factor = prefetch_factor
        self.persistent_workers = persistent_workers
        self.resident = resident
        self.statistics: dict[str, BandStatistics] = {}
        self.profiles: dict[str, ImageProfile] = {}
        self._are_paired = False
        # by modality, or under 'paired'
        self._train_datasets: dict[str, MultiModalDataset | JoinedDataset] = {}
        self._resident = ResidentPack()
        self._possible = PossibleBackscatter()
        # augmentations that are known to leave the scale of the values alone
        self._checked = [self.aug, self.train_aug]
        self._reported = False

    def setup(self, stage: str) -> None:
        """Set up the data sets and, for training, the statistics.

        The first call reports how many files were found and left.

        Args:
            stage: Either 'fit', 'validate', 'test' or 'predict'.

        Raises:
            BatchSizeError: If a training batch of a process would hold one sample
                only, or there are more processes than batches.
            SettingError: If *resident* is not possible, the task needs paired batches
                or cannot use samples without labels.
            SplitError: If samples without labels are named, but none has the
                modalities, or there are more processes than samples to evaluate.

        Warns:
            UserWarning: If *transforms* seem to normalise.
        """
        if stage == 'fit':
            # an earlier training may have been stopped in this epoch
            self._symmetry.restart()
            self._noise.restart()
            self._check_training()
            dataset = self.make_dataset('train')
            self._noise.check(dataset.modalities)
            self.train_dataset = dataset
            self._setup_training(dataset)
        if stage in {'fit', 'validate'}:
            self.val_dataset = self.make_dataset('val')
        if stage == 'test':
            self.test_dataset = self.make_dataset('test')
        if stage == 'predict':
            self.predict_dataset = self.make_dataset('test')
        if self.resident:
            for modality in self.any_dataset.modalities:
                resident_images(self.any_dataset, modality)
        if (evaluated := self.evaluated_dataset(stage)) is not None:
            split = {'fit': 'val', 'validate': 'val', 'test': 'test'}.get(stage, stage)
            with raising_everywhere(self.trainer):
                check_evaluated(len(evaluated), split, self._processes)
        if not self._reported:
            self._reported = True
            for line in self.any_dataset.report():
                rank_zero_info(line)

    def _check_training(self) -> None:
        overfit = getattr(self.trainer, 'overfit_batches', 0)
        if overfit and is_divided(self.trainer):
            # Lightning would have to replace samplers that it must leave alone
            with raising_everywhere(self.trainer):
                raise SettingError(
                    f'overfit_batches={overfit} is for one process: set '
                    '--trainer.devices 1 and --trainer.strategy auto.'
                )
        default = isinstance(self.train_aug, SeededSymmetry)
        if default and not isinstance(self.aug, nn.Identity):
            warnings.warn(
                'aug is not applied to training batches, which have a train_aug by '
                'default: set train_aug too, or augment=False.',
                stacklevel=3,
            )

    def make_dataset(self, split: str, **kwargs: Any) -> MultiModalDataset:
        """Return the data set of a split.

        Args:
            split: 'train', 'val', 'test' or, if the data have it, 'unlabelled'.
            kwargs: Arguments in place of those of the data module.

        Raises:
            UserError: If the data cannot be used.
        """
        dataset = self.dataset_class(**{**self.kwargs, 'split': split, **kwargs})
        return cast(MultiModalDataset, dataset)

    def _setup_training(self, dataset: MultiModalDataset) -> None:
        task = self.trainer.lightning_module if self.trainer else None
        self._are_paired = are_paired(self.paired, task)
        if self.allow_missing:
            how = self._are_paired, self.resident, task, self._processes
            with raising_everywhere(self.trainer):
                check_incomplete(dataset, *how)
        sources = {'paired': dataset}
        if self.allow_missing or not self._are_paired:
            sources = {
                m: self.make_dataset('train', modalities=[m])
                for m in dataset.modalities
            }
        lengths = [len(source) for source in sources.values()]
        with raising_everywhere(self.trainer):
            check_training(lengths, self.batch_size, self._processes)
        # one process reads the images, and writes the statistics next to them
        self.statistics, self.profiles = first_decides(
            self.trainer, lambda: split_statistics(dataset, sources.values())
        )
        if self.allow_missing:
            pairs = IncompletePairs(sources)
            self.train_dataset, sources = pairs, {'paired': pairs}
        self._train_datasets = dict(sources)
        for source in sources.values():
            check_transforms(source)
        ratio, size = self.unlabelled_ratio, self.batch_size
        if uses_unlabelled(sources.values(), ratio, size, task):
            for name, source in sources.items():
                others = self.make_dataset('unlabelled', modalities=source.modalities)
                self._train_datasets[name] = join(source, others)

    def teardown(self, stage: str) -> None:
        """Give back the memory of images on the device.

        Args:
            stage: Either 'fit', 'validate', 'test' or 'predict'.
        """
        self._resident.clear()

    @property
    def any_dataset(self) -> MultiModalDataset:
        """A data set that is set up: classes, modalities, bands, units, tile sizes.

        Raises:
            AttributeError: If :meth:`setup` was not called.
        """
        splits = (
            self.train_dataset,
            self.val_dataset,
            self.test_dataset,
            self.predict_dataset,
        )
        for dataset in splits:
            if dataset is not None:
                return cast(MultiModalDataset, dataset)
        raise AttributeError(f'{type(self).__name__}.setup() must be called first.')

    def evaluated_dataset(self, stage: str) -> MultiModalDataset | None:
        """Return the data set that a stage scores or classifies.

        Args:
            stage: Either 'fit', 'validate', 'test' or 'predict'.

        Returns:
            The data set; None if :meth:`setup` did not make it.
        """
        match stage:
            case 'test':
                dataset = self.test_dataset
            case 'predict':
                dataset = self.predict_dataset
            case _:
                dataset = self.val_dataset
        return cast(MultiModalDataset | None, dataset)

    def training_dataset(self, modality: str) -> MultiModalDataset | None:
        """Return the data set that the indices of training batches refer to.

        Args:
            modality: The modality.

        Returns:
            The data set; None if it is not set up or lacks the modality.
        """
        dataset = self._train_datasets.get('paired', self._train_datasets.get(modality))
        known = dataset is not None and modality in dataset.modalities
        return dataset if known else None

    @property
    def run_seed(self) -> int:
        """Seed of shuffling and augmentation that is in force."""
        if self.seed is not None:
            return self.seed
        return int(os.environ.get('PL_GLOBAL_SEED', '0'))

    def _epoch(self) -> int:
        return self.trainer.current_epoch if self.trainer else 0

    @property
    def _processes(self) -> int:
        return self.trainer.world_size if self.trainer else 1

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    def _draw(self) -> tuple[int, int, int]:
        return self.run_seed, self._epoch(), self._rank

    @property
    def _device(self) -> torch.device:
        return (
            self.trainer.strategy.root_device if self.trainer else torch.device('cpu')
        )

    def _loader_kwargs(self) -> dict[str, Any]:
        workers = self.num_workers > 0
        return {
            'num_workers': self.num_workers,
            'pin_memory': self.pin_memory,
            'prefetch_factor': self.prefetch_factor if workers else None,
            'persistent_workers': self.persistent_workers and workers,
            'collate_fn': self.collate_fn,
        }

    def _train_loader(self, name: str, dataset: MultiModalDataset) -> Loader:
        batches: BatchSampler = self._batches(name, dataset)
        if self._processes > 1:
            batches = RankBatches(batches, self._rank, self._processes)
        return self._loader(dataset, batches)

    def _loader(self, dataset: MultiModalDataset, batches: BatchSampler) -> Loader:
        if self.resident:
            return RowLoader(dataset, batches, self._device)
        loader = DataLoader(dataset, batch_sampler=batches, **self._loader_kwargs())
        return DividedLoader(loader) if is_divided(self.trainer) else loader

    def _batches(self, name: str, dataset: MultiModalDataset) -> RemainderBatchSampler:
        """Return the batches of all processes together."""
        seed = self.run_seed
        size, least = self.batch_size * self._processes, 2 * self._processes
        if not isinstance(dataset, JoinedDataset):
            sampler = SeededSampler(len(dataset), seed, name, self._epoch)
            return RemainderBatchSampler(sampler, size, least=least)
        labelled, unlabelled = (
            SeededSampler(len(part), seed, stream, self._epoch)
            for part, stream in (
                (dataset.labelled, name),
                (dataset.unlabelled, f'{name}/unlabelled'),
            )
        )
        ratio = self.unlabelled_ratio
        return UnlabelledBatchSampler(labelled, size, unlabelled, ratio, least)

    def train_dataloader(self) -> Loader | CombinedLoader:  # ty: ignore[incompatible-method-override]
        """Return the training loader.

        Returns:
            Paired: one loader. Unpaired: one loader per modality under Lightning's
            CombinedLoader, which cycles the shorter ones.
        """
        loaders = {n: self._train_loader(n, d) for n, d in self._train_datasets.items()}
        if self._are_paired:
            return loaders['paired']
        return CombinedLoader(loaders, 'max_size_cycle')

    def _dataloader_factory(self, split: str) -> Loader:  # ty: ignore[incompatible-method-override]
        dataset = self._valid_attribute(f'{split}_dataset')
        batch_size = self._valid_attribute(f'{split}_batch_size')
        if self.resident or (split != 'predict' and is_divided(self.trainer)):
            division = self._rank, self._processes
            return self._loader(
                dataset, EvenBatches(len(dataset), batch_size, *division)
            )
        options = self._loader_kwargs()
        if is_divided(self.trainer):
            # known to Lightning, which asks it for the positions in each batch
            division = {'num_replicas': self._processes, 'rank': self._rank}
            options['sampler'] = UnrepeatedDistributedSampler(
                dataset, shuffle=False, **division
            )
        return DataLoader(dataset, batch_size=batch_size, **options)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Sample:
        """Merge the batches of unpaired loaders into one flat dictionary.

        Args:
            batch: A flat batch, or one batch for each modality.
            dataloader_idx: Index of the data loader.

        Returns:
            A flat batch.
        """
        return flat_batch(batch)

    def on_after_batch_transfer(self, batch: Sample, dataloader_idx: int) -> Sample:
        """Drop impossible values of a batch on the device, and augment it.

        Args:
            batch: A flat batch; of a resident pack, rows in place of images.
            dataloader_idx: Index of the data loader.

        Returns:
            The batch, augmented.

        Raises:
            UnitError: If a part of the data is in another unit than that for training.

        Warns:
            UserWarning: If an augmentation that is not the default seems to normalise.
        """
        if self.resident:
            batch = self._resident.gather(batch, self.any_dataset)
        stage = self.trainer.state.stage if self.trainer else None
        if stage is None:
            return batch
        split = f'{stage.dataloader_prefix}'
        batch = self._possible(batch, self.any_dataset, split)
        name = f'{split}_aug'
        if (aug := getattr(self, name)) is None:
            name, aug = 'aug', self.aug
        augmented = aug(batch)
        if aug not in self._checked:
            self._checked.append(aug)
            warn_if_rescaled(batch, augmented, name)
        if split == 'train':
            augmented = self._noise(augmented, self.statistics)
        return augmented

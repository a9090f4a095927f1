# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""``fit``, ``validate``, ``test`` and ``predict``, with LightningCLI."""

import errno
import os
import sys
import warnings
from argparse import ArgumentError
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

from lightning.fabric.plugins.precision.precision import _PRECISION_INPUT
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from rich.console import Console
from torchgeo.datamodules import BaseDataModule
from torchgeo.datasets import DatasetNotFoundError
from torchgeo.tasks import BaseTask

from ..callbacks import CudaGraphs, EpochLines, LastCheckpoint, PredictionWriter
from ..callbacks.best_classifiers import best_classifiers
from ..callbacks.run_config import RunConfigCallback
from ..callbacks.run_folder import best_files, check_checkpoint, check_run_folder
from ..callbacks.score_tables import print_scores
from ..datamodules import SARTilesDataModule
from ..errors import (
    NoClassifierError,
    OutputError,
    SettingError,
    UserError,
    WorkerError,
)
from ..files import only_writer, remove_abandoned
from ..models import load_metadata
from ..performance.precision import fast_precision
from ..processes import check_strategy
from ..tasks import MultiModalTask, MultiModalTrainingTask, PretrainedClassification
from ..tasks.division import SYNC_ON_CPU
from .configs import configs_folder
from .old_distillation import refuse_old_distillation
from .option_errors import check_order, option_error

#: GDAL settings to open many small files quickly, as in TorchGeo.
GDAL_SETTINGS = {'GDAL_DISABLE_READDIR_ON_OPEN': 'EMPTY_DIR'}

#: What to add to a command that evaluates and was stopped, to run it again.
AGAIN = {
    'validate': '',
    'test': '',
    'predict': ' with --trainer.callbacks+=PredictionWriter '
    '--trainer.callbacks.overwrite true',
}

#: System errors that the user can fix: no permission, no space, no folder.
NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR} | {
    errno.EDQUOT,
    errno.ENOSPC,
}

#: Words of PyTorch when another process of a training is gone.
CONNECTION = ('gloo', 'NCCL', 'Connection closed by peer', 'Connection reset by peer')


def with_quickstart(args: list[str]) -> list[str]:
    """Add the quickstart configuration to a ``fit`` that does not specify what to run.

    Args:
        args: Arguments of the command line.

    Returns:
        The arguments, unchanged if they specify a configuration, model or data set.
    """
    named = any(
        arg == '-c' or arg.startswith(('--config', '--model', '--data', '-c='))
        for arg in args
    )
    asks = {'-h', '--help', '--print_config'} & set(args)
    if args[:1] != ['fit'] or named or asks:
        return args
    return ['fit', '--config', str(configs_folder() / 'quickstart.yaml'), *args[1:]]


def progress_bar() -> ProgressBar:
    """Return a progress bar, or what replaces it if standard output is no terminal."""
    # Rich draws nothing there until training ends
    return RichProgressBar() if Console().is_terminal else EpochLines()


class RunTrainer(Trainer):
    """Trainer that writes everything to its root folder, whatever its loggers."""

    def __init__(
        self,
        *,
        precision: _PRECISION_INPUT | Literal['auto'] | None = None,
        **kwargs: Any,
    ) -> None:
        """Initialize a new RunTrainer instance.

        Args:
            precision: As for Lightning's trainer; 'auto' selects 'bf16-mixed' on a
                device with bfloat16 instructions (on a GPU only if its steps can be
                replayed as CUDA graphs), else '32-true'. Default: '32-true'.
            **kwargs: Arguments of Lightning's trainer.

        Raises:
            SettingError: If the strategy is for other networks or for notebooks, or
                batch normalisation is to be synchronised on a CPU.
        """
        super().__init__(precision=None if precision == 'auto' else precision, **kwargs)
        check_strategy(self.strategy)
        strategy = kwargs.get('strategy')
        if isinstance(strategy, str) and {'spawn', 'fork', 'notebook'} & set(
            strategy.split('_')
        ):
            raise SettingError(
                f'strategy={strategy!r} is for notebooks: set --trainer.strategy ddp.'
            )
        if kwargs.get('sync_batchnorm') and self.strategy.root_device.type == 'cpu':
            raise SettingError(SYNC_ON_CPU)
        if precision == 'auto':
            device = self.strategy.root_device
            name, reason = fast_precision(device, CudaGraphs.obstacle(self))
            rank_zero_info(f'precision: {name}, because {reason}')
            if name == 'bf16-mixed':
                self.strategy.precision_plugin = MixedPrecision(name, device.type)

    @property
    def log_dir(self) -> str:
        """The run folder."""
        return self.default_root_dir


class DisCoMKDCLI(LightningCLI):
    """LightningCLI whose run folder is ``trainer.default_root_dir``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Run a command; while ``fit`` does, no other one trains into its folder.

        Args:
            *args: Arguments of LightningCLI.
            **kwargs: Arguments of LightningCLI.
        """
        with ExitStack() as self._locks:
            super().__init__(*args, **kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Set the defaults of this command line.

        Args:
            parser: The parser of one command.
        """
        parser.set_defaults(
            {
                'trainer.default_root_dir': 'runs/discomkd',
                # losses are logged per epoch, whatever its number of steps
                'trainer.log_every_n_steps': 1,
            }
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the arguments that :func:`run` was given.

        Args:
            parser: The parser.
            args: List of arguments, or a whole configuration.

        Raises:
            SettingError: If an option is unknown, wrong, in a place without effect or
                one that Distillation no longer has.
        """
        if isinstance(args, list):
            refuse_old_distillation(args)
            check_order(args)
        parse = parser.parse_args if isinstance(args, list) else parser.parse_object
        try:
            self.config = parse(args)
        except ArgumentError as error:
            command = args[0] if isinstance(args, list) else args['subcommand']
            raise option_error(error, f'discomkd {command}') from error

    def _parse_ckpt_path(self) -> None:
        """Keep the configuration unchanged.

        Lightning would replace the settings of the model by those of the checkpoint,
        whose paths may be outdated, even if the command line sets them.
        """

    def before_instantiate_classes(self) -> None:
        """Refuse to train into the folder of another run or from a wrong checkpoint.

        Raises:
            CheckpointError: If the checkpoint is missing or is not a checkpoint.
            OutputInUseError: If another process trains into the folder.
            RunFolderExistsError: If the folder contains a run that is not resumed.
        """
        trainer = self._get(self.config, 'trainer')
        checkpoint = self._get(self.config, 'ckpt_path')
        if checkpoint:
            check_checkpoint(checkpoint, training=self.subcommand == 'fit')
        if self.subcommand == 'fit' and not trainer.fast_dev_run:
            folder = Path(trainer.default_root_dir)
            self._lock_run(folder)
            check_run_folder(folder, checkpoint)
        if self.subcommand != 'fit' and not checkpoint:
            # the classifier files contain their weights: download no others
            model = self._get(self.config, 'model')
            if model and 'weights' in model.get('init_args', {}):
                model.init_args.weights = None

    def _lock_run(self, folder: Path) -> None:
        # on each machine, Lightning calls the first process 0 until all are connected
        machine = os.environ.get('NODE_RANK', os.environ.get('GROUP_RANK', '0'))
        if rank_zero_only.rank == 0 and machine == '0':  # ty: ignore[missing-attribute]
            self._locks.enter_context(only_writer(folders=[folder]))
            parts = (folder, folder / 'best', folder / 'best' / 'students')
            remove_abandoned(*filter(Path.is_dir, parts))

    def instantiate_classes(self) -> None:
        """Instantiate task, data module and trainer.

        Raises:
            SettingError: If one of them cannot be used as it is configured, for example
                because a library is not installed.
            UserError: If one of them is of this package and says why.
        """
        try:
            super().instantiate_classes()
        except (ImportError, TypeError, ValueError) as error:
            command = f'discomkd {self.subcommand}'
            raise (user_error(error) or option_error(error, command)) from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Instantiate the trainer with the loggers and callbacks of a run folder.

        Args:
            **kwargs: Further arguments of the trainer.

        Returns:
            The trainer.
        """
        config = self._get(self.config_init, 'trainer')
        folder = config['default_root_dir']
        callbacks = list(config['callbacks'] or [])
        if self.subcommand == 'fit' and config['enable_checkpointing'] is not False:
            callbacks.append(LastCheckpoint())
        if self.subcommand == 'predict' and not any(
            isinstance(callback, PredictionWriter) for callback in callbacks
        ):
            callbacks.append(PredictionWriter())
        if config['enable_progress_bar'] is not False and not any(
            isinstance(callback, ProgressBar) for callback in callbacks
        ):
            callbacks.append(progress_bar())
        kwargs['callbacks'] = callbacks
        if config['logger'] is None and not config['fast_dev_run']:
            # keeps the metrics from before a run was resumed
            csv = CSVLogger(folder, name='metrics')
            kwargs['logger'] = [TensorBoardLogger(folder, name='', version=''), csv]
        return super().instantiate_trainer(**kwargs)

    def after_fit(self) -> None:
        """Check that training has written a classifier.

        Raises:
            NoClassifierError: If it ended before the first validation.
        """
        trains = isinstance(self.model, MultiModalTrainingTask)
        trainer = self.trainer
        if trainer.fast_dev_run or not trains or best_classifiers(trainer).scores:  # ty: ignore[missing-attribute]
            return
        folder = Path(trainer.default_root_dir)
        last = folder / 'last.ckpt'
        again = (
            f'resume with --config {folder}/config.yaml --ckpt_path {last}'
            if last.exists()
            else 'train again'
        )
        raise NoClassifierError(
            f'no classifier was written to {folder}, because no validation took place, '
            'or none after an average of weights had begun. Train longer '
            '(--trainer.max_epochs, max_steps or max_time), validate earlier '
            '(--trainer.check_val_every_n_epoch) and on some batches '
            f'(--trainer.limit_val_batches), and {again}.'
        )

    def _evaluate(self, command: str, **kwargs: Any) -> None:
        """Run a command with the best classifiers of the run, from their files."""
        model = kwargs.pop('model')
        folder = Path(self.trainer.default_root_dir)
        if isinstance(model, MultiModalTrainingTask) and not kwargs.get('ckpt_path'):
            model = PretrainedClassification(
                best_files(folder, students=command != 'predict')
            )
        if command == 'predict' and isinstance(self.datamodule, SARTilesDataModule):
            self._adopt(self.datamodule, model, kwargs.get('ckpt_path'))
        # ours replaces Lightning's table, which has a row for each score of each class
        ours = isinstance(model, MultiModalTask) and kwargs.get('verbose', False)
        if ours:
            kwargs['verbose'] = False
        getattr(self.trainer, command)(model, **kwargs)
        if ours and self.trainer.is_global_zero:
            names = [*model.classifier_names(), *model.comparison_names()]
            split = {'validate': 'val'}.get(command, command)
            print_scores(self.trainer.callback_metrics, split, names, model.classes)

    def _adopt(
        self, tiles: SARTilesDataModule, model: BaseTask, checkpoint: str | None
    ) -> None:
        """Give the tiles the bands, unit and size of the classifiers."""
        if isinstance(model, PretrainedClassification):
            tiles.adopt(loaded.metadata for loaded in model.model.values())
        elif checkpoint is not None:
            # a checkpoint does not contain them, but a file of its run does
            file = Path(checkpoint).parent / 'best' / f'{tiles.modality}.safetensors'
            if file.exists():
                tiles.adopt([load_metadata(file)])

    def validate(self, **kwargs: Any) -> None:
        """Score on the validation split."""
        self._evaluate('validate', **kwargs)

    def test(self, **kwargs: Any) -> None:
        """Score on the test split."""
        self._evaluate('test', **kwargs)

    def predict(self, **kwargs: Any) -> None:
        """Classify the test split, or tiles, and write tables."""
        self._evaluate('predict', **{**kwargs, 'return_predictions': False})


def run(args: list[str] | dict[str, Any]) -> DisCoMKDCLI:
    """Run one command.

    Args:
        args: Arguments, the first of them the command; or a configuration,
            {'subcommand': 'fit', 'fit': {...}}.

    Returns:
        The command line with trainer, model and data module, after the run.

    Raises:
        KeyboardInterrupt: If it is stopped.
        UserError: If the data, the files or the settings cannot be used, or training
            has ended without a classifier.
    """
    for name, value in GDAL_SETTINGS.items():
        os.environ.setdefault(name, value)
    # Lightning uses a class that PyTorch has renamed; users cannot change it
    warnings.filterwarnings('ignore', '.*LeafSpec', FutureWarning)
    # intended by users who set --optimizer
    warnings.filterwarnings('ignore', '.*configure_optimizers` will be overridden')
    # those that freeze_backbone freezes
    warnings.filterwarnings('ignore', r'Found .* in eval mode at the start of training')
    try:
        return DisCoMKDCLI(
            model_class=BaseTask,
            datamodule_class=BaseDataModule,
            trainer_class=RunTrainer,
            save_config_callback=RunConfigCallback,
            save_config_kwargs={'overwrite': True},
            seed_everything_default=0,
            parser_kwargs={'prog': 'discomkd', 'exit_on_error': False},
            subclass_mode_model=True,
            subclass_mode_data=True,
            args=with_quickstart(args) if isinstance(args, list) else args,
        )
    except UserError:
        raise
    except (KeyboardInterrupt, SystemExit) as stop:
        # Lightning turns Ctrl-C into an exit
        interrupt = stop.__context__ if isinstance(stop, SystemExit) else stop
        if not isinstance(interrupt, KeyboardInterrupt):
            raise
        command = args[0] if isinstance(args, list) else args['subcommand']
        if command in AGAIN or interrupt is stop:
            # else the summary of the run has said more
            again = AGAIN.get(command, '')
            sys.stderr.write(f'Stopped. Run the same command again{again}.\n')
        raise interrupt from None
    except Exception as error:
        found = as_user_error(error)
        if found is None:
            raise
        raise found from error


def as_user_error(error: Exception) -> UserError | None:
    """Return what the user can do about an error of a library.

    Args:
        error: An error of a command.

    Returns:
        The user error; None if it is a mistake of the program.
    """
    match error:
        case DatasetNotFoundError() | MisconfigurationException():
            return UserError(str(error))
        case RuntimeError() if 'conditioned on metric' in str(error):
            # EarlyStopping: a class of the user was to log it
            return SettingError(str(error))
        case RuntimeError() if 'find_unused_parameters' in str(error):
            return SettingError(
                f'the loss does not depend on all weights ({error}): set '
                '--trainer.strategy ddp_find_unused_parameters_true.'
            )
        case RuntimeError() if any(word in str(error) for word in CONNECTION):
            return WorkerError(
                f'another process of this command has ended ({error}): what it has '
                'printed says why. What the run has written is kept.'
            )
        case RuntimeError() if 'DataLoader worker' in str(error):
            return WorkerError(
                f'a process that loads data was killed ({error}), mostly because '
                'memory ran out: give fewer (--data.num_workers), smaller batches, or '
                'more memory and /dev/shm. What the run has written is kept.'
            )
        case OSError() if error.errno in NOT_WRITABLE:
            return OutputError(
                f'{error}: check its permissions and the free space on its disk, or '
                'choose another run folder with --trainer.default_root_dir.'
            )
        case ValueError():
            return user_error(error)
    return None


def user_error(error: BaseException | None) -> UserError | None:
    """Return the user error that caused another error.

    jsonargparse wraps errors that occur while a class is instantiated.

    Args:
        error: Any error.

    Returns:
        The user error; None if there is none.
    """
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__ or error.__context__
    return error

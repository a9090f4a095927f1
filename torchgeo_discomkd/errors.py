# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Errors caused by input: each message names the value and the next step."""


class UserError(Exception):
    """Base class of every error that the user, not the program, can fix.

    The command line prints its message without a traceback. Each takes one string,
    so that it can be passed on from the worker process of a data loader.

    Attributes:
        exit_code: Exit code of a command that ends with it.
        told: Whether another process of the same training prints the message.
    """

    exit_code: int = 2
    told: bool = False


class LayoutError(UserError, FileNotFoundError):
    """Raised when a folder or file of a data set is not where its layout puts it."""


class PairingError(UserError, ValueError):
    """Raised when samples exist only in some modalities."""


class CorruptFileError(UserError, OSError):
    """Raised when a file cannot be read as an image."""


class TextFileError(UserError, ValueError):
    """Raised when a text file is in an encoding that cannot be told, or not text."""


class BandError(UserError, ValueError):
    """Raised when the number or the names of bands do not match the data."""


class TileSizeError(UserError, ValueError):
    """Raised when the tiles of one modality differ in height or width."""


class MissingValueError(UserError, ValueError):
    """Raised for NaN or nodata pixels where the caller asked for none."""


class UnitError(UserError, ValueError):
    """Raised when pixel values contradict the stated unit (dB or linear power)."""


class UnusualImageError(UserError, ValueError):
    """Raised when an image differs from the training images and is to be refused."""


class SplitError(UserError, ValueError):
    """Raised when a split is empty, overlaps or cannot be trained on."""


class LabelError(UserError, ValueError):
    """Raised when labels or the number of classes disagree with the data."""


class ModalityError(UserError, ValueError):
    """Raised when a modality is unknown, missing or too few are given."""


class BatchSizeError(UserError, ValueError):
    """Raised when a batch is too small to train on (batch normalisation)."""


class ClassifierFileError(UserError, ValueError):
    """Raised when a classifier file is not ours, corrupt, or of other modalities."""


class NoClassifierError(UserError, RuntimeError):
    """Raised when training has ended without a validation, hence without a file."""

    exit_code = 1


class NonFiniteError(UserError, ArithmeticError):
    """Raised when a loss, a weight or a score has become NaN or infinite."""


class CheckpointError(UserError, ValueError):
    """Raised when a checkpoint is missing, damaged or from another network."""


class WeightsError(UserError, ValueError):
    """Raised when pretrained weights are unknown, do not fit or cannot be reached."""


class SettingError(UserError, ValueError):
    """Raised when a setting is unknown, out of range or of another method."""


class RunFolderExistsError(UserError, FileExistsError):
    """Raised when a run would overwrite the results of another one."""


class PackError(UserError, ValueError):
    """Raised when a pack is damaged, of other data, or older than its source."""


class OutputExistsError(UserError, FileExistsError):
    """Raised when a table, a map or a pack would overwrite another one."""


class OutputError(UserError, OSError):
    """Raised when a table, map or pack cannot be written (disk full, no permission)."""


class OutputInUseError(OutputError):
    """Raised when another process is writing the same file or folder."""


class WorkerError(UserError, RuntimeError):
    """Raised when the system has killed a process that loads data."""


class ClusterError(UserError, RuntimeError):
    """Raised when a Ray cluster cannot be used, lacks something or has gone away."""

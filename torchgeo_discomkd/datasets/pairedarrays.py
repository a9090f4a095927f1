# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Arrays of several modalities, in the layout of DisCoM-KD's released code."""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.lib.format import read_array
from numpy.typing import NDArray
from torchgeo.datasets.utils import Sample

from ..errors import LabelError, LayoutError, PairingError, SplitError
from ..metadata import LabelTask
from ..rasters.opening import reading
from .arrays import LABELS
from .classes import check_two
from .multilabel import check_label_names, check_label_rows, check_label_split
from .splits import NO_LABEL, UNLABELLED, check_split
from .stored import StoredDataset
from .stores import StoredImages, first_few

_INDEX_NAMES = {'train': 'train_idx', 'val': 'valid_idx', 'test': 'test_idx'}


class PairedArrays(StoredDataset):
    """One array for each modality, one of labels and one of rows for each split.

    This is the layout that the paper's code reads (https://arxiv.org/abs/2408.07080):

    * ``<PREFIX>_data_normalized.npy``: numbers of shape (S, C, H, W), one file for
      each modality; C, H and W may differ between modalities;
    * ``labels.npy``: integers of shape (S,), from 0 to the number of classes - 1; or,
      with any number of labels in a sample, of 0 and 1, shape (S, labels);
    * ``train_idx.npy``, ``valid_idx.npy``, ``test_idx.npy``: rows of each split, or
      ``train_idx_<run>.npy`` and so on for several repetitions;
    * with *unlabelled*, a file of the rows without labels, which are the split
      'unlabelled'.

    Images are read from disk when they are needed.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> with tempfile.TemporaryDirectory() as root:
        ...     np.save(f'{root}/MS_data_normalized.npy', np.zeros((6, 13, 8, 8)))
        ...     np.save(f'{root}/SAR_data_normalized.npy', np.zeros((6, 2, 8, 8)))
        ...     np.save(f'{root}/labels.npy', [0, 0, 0, 1, 1, 1])
        ...     np.save(f'{root}/train_idx.npy', [0, 1, 3, 4])
        ...     train = PairedArrays(root, classes=('Forest', 'Water'))
        ...     sample = train[2]
        >>> train.modalities, sample['image_sar'].shape
        (('ms', 'sar'), torch.Size([2, 8, 8]))
        >>> train.identifier(2)
        'Water/3'
    """

    def __init__(
        self,
        root: str = 'data',
        split: str = 'train',
        prefixes: Mapping[str, str] | None = None,
        modalities: Sequence[str] | None = None,
        run: int | None = None,
        classes: Sequence[str] | None = None,
        band_names: Mapping[str, Sequence[str]] | None = None,
        bands: Mapping[str, Sequence[str]] | None = None,
        units: Mapping[str, str] | None = None,
        nodata: Mapping[str, float] | None = None,
        missing_values: Literal['mean', 'error'] = 'mean',
        transforms: Callable[[Sample], Sample] | None = None,
        unlabelled: str | None = None,
        task: LabelTask = 'multiclass',
    ) -> None:
        """Initialize a new PairedArrays instance.

        Args:
            root: Folder of the arrays, or a pack.
            split: 'train', 'val' or 'test'; or 'unlabelled', if such rows are named.
            prefixes: Prefix of the file of each modality, for example ``{'ms': 'MS',
                'sar': 'SAR'}``. By default every file is a modality, named after its
                prefix in lower case.
            modalities: Modalities that samples hold; all by default. The files of
                others need not exist.
            run: Number of the repetition: its index files end in ``_<run>``. None
                reads the files without a number.
            classes: Names of the classes; '0', '1', ... by default.
            band_names: Names of the bands of each modality, in order; 'B1', 'B2', ...
                by default.
            bands: Names of the bands to read for each modality; all by default.
            units: Unit of the values for each modality: 'dB', 'linear' or any text; or
                'amplitude', 'db_x10' or 'db_x100', which are converted to dB;
                'unknown' by default.
            nodata: For a modality, the number that stands for missing values.
            missing_values: 'mean' passes missing values on as NaN, which a classifier
                replaces by the band mean; 'error' refuses such a tile.
            transforms: A function that takes a sample and returns a transformed one.
            unlabelled: Name of the index file of samples without labels, such as
                'unlabelled_idx', to which ``_<run>.npy`` or ``.npy`` is added. They are
                in no other split, and what ``labels.npy`` holds for them is not used.
            task: Kind of labels: 'multiclass'; 'multilabel', whose ``labels.npy`` holds
                one row of 0 and 1 for each sample; or 'binary', of two classes. It is
                never guessed.

        Raises:
            BandError: If a band is unknown or the number of bands is wrong.
            CorruptFileError: If a file is truncated, not an array or needs unpickling.
            LabelError: If labels are not integers from 0 to the number of classes - 1
                or, with several in a sample, not rows of 0 and 1; or there are not two
                classes with 'binary'.
            LayoutError: If a file is missing or its array has the wrong shape.
            ModalityError: If a modality is unknown.
            PairingError: If arrays and labels differ in length.
            SplitError: If rows are not integers, out of range, given twice or in two
                splits, the split is unknown or empty, or the training split lacks a
                class.

        Warns:
            UserWarning: If the validation or test split lacks a class, or any split a
                label of several.
        """
        self.root = root
        self.task = task
        self.split = split
        self.run = run
        self.missing_values = missing_values
        self.transforms = transforms
        self._index_names = dict(_INDEX_NAMES)
        if unlabelled is not None:
            self._index_names[UNLABELLED] = unlabelled.removesuffix('.npy')
        self._has_unlabelled = unlabelled is not None

        needed = self._open(
            *('arrays', '', prefixes, modalities, bands, band_names, units, nodata)
        )
        labels = self._read_labels(classes)
        self._rows = self._read_rows(len(labels))
        self.labels = torch.from_numpy(labels[self._rows])
        if split != UNLABELLED:
            check = check_label_split if task == 'multilabel' else check_split
            check(self.labels, self.classes, split)
        for modality, prefix in needed.items():
            if modality not in self.images:
                raise self.store.absence('', modality, prefix)
            _check_length(self.images[modality], len(labels))
        rows = dict.fromkeys(self.modalities, self._rows)
        first = dict.fromkeys(self.modalities, 0)
        self._hold(rows, first, band_names, bands, units, nodata)

    def identifier(self, index: int) -> str:
        """Return '<class>/<row in the arrays>', with several labels '<row>'.

        Args:
            index: Position in this split.
        """
        if self.task == 'multilabel':
            return str(self._rows[index])
        label = int(self.labels[index])
        name = UNLABELLED if label == NO_LABEL else self.classes[label]
        return f'{name}/{self._rows[index]}'

    def table_names(self) -> list[str]:
        """Return the names of the files of labels and of the rows of all splits."""
        named = re.escape(self._index_names.get(UNLABELLED, ''))
        index = re.compile(rf'.*_idx.*\.npy|{named}(_\d+)?\.npy')
        names = (path.name for path in Path(self.root).glob('*.npy'))
        return [LABELS, *sorted(name for name in names if index.fullmatch(name))]

    def _read(self, name: str) -> NDArray[Any]:
        """Read labels or rows, which must exist."""
        path, content = Path(self.root, name), self.store.read_table(name)
        if content is None:
            raise LayoutError(
                f'There is no file {path}: write it, or give the folder that holds it '
                'as root.'
            )
        with reading(path, 'as an array'):
            return read_array(io.BytesIO(content), allow_pickle=False)

    def _read_labels(self, classes: Sequence[str] | None) -> NDArray[np.int64]:
        """Set the classes; return the label of every row, -1 of those without one."""
        labels, known = self._read(LABELS), ...
        if self._has_unlabelled and labels.ndim in (1, 2):
            unlabelled = self._read_index(self._index_file(UNLABELLED), len(labels))
            if not len(unlabelled):
                raise SplitError(
                    f'{self._index_file(UNLABELLED)} lists no samples: list some, or '
                    'leave unlabelled= out.'
                )
            self.unlabelled_samples = len(unlabelled)
            known = np.delete(np.arange(len(labels)), unlabelled)
        found = np.full(labels.shape, NO_LABEL)
        if self.task == 'multilabel':
            found[known] = check_label_rows(labels[known], LABELS)
            self.classes = check_columns(labels.shape[1], classes)
            return found
        self.classes = check_labels(labels[known], classes, self.split)
        if self.task == 'binary':
            check_two(self.classes)
        found[known] = labels[known]
        if classes is None:
            found[known] = np.unique(labels[known], return_inverse=True)[1]
        return found

    def _index_file(self, split: str) -> str:
        number = '' if self.run is None else f'_{self.run}'
        return f'{self._index_names[split]}{number}.npy'

    def _read_rows(self, length: int) -> NDArray[np.int64]:
        names = {split: self._index_file(split) for split in self._index_names}
        rows = self._read_index(names[self.split], length)
        for split, name in names.items():
            if split == self.split or self.store.read_table(name) is None:
                continue
            shared = np.intersect1d(rows, self._read_index(name, length))
            if len(shared):
                raise SplitError(
                    f'{len(shared)} samples are in both {names[self.split]} and {name} '
                    f'({first_few(shared)}): put each into one split only.'
                )
        return rows

    def _read_index(self, name: str, length: int) -> NDArray[np.int64]:
        return check_index(self._read(name), str(Path(self.root, name)), length)


def check_labels(
    labels: NDArray[Any], classes: Sequence[str] | None, split: str
) -> tuple[str, ...]:
    """Check labels and name their classes.

    Args:
        labels: One label for each sample.
        classes: Names of all classes; None takes the labels as names.
        split: Name of the split. Labels that are names may leave out numbers, those of
            classes without samples, except for training.

    Returns:
        The names, '0', '1', ... if None were given.

    Raises:
        LabelError: If labels are not integers from 0 to the number of classes - 1.
    """
    if labels.ndim != 1 or labels.dtype.kind not in 'iu':
        raise LabelError(
            f'labels.npy holds {labels.dtype} values of shape {labels.shape}: it must '
            'hold one integer for each sample, or one row of 0 and 1 with '
            "task='multilabel' (--data.task multilabel)."
        )
    found = np.unique(labels)
    count = len(found) if classes is None else len(classes)
    bounded = classes is not None or split == 'train'
    wrong = found[(found < 0) | (bounded & (found >= count))]
    if len(wrong):
        raise LabelError(
            f'labels.npy has {len(found)} distinct labels, among them '
            f'{first_few(wrong)}: labels must be 0 to {count - 1} for {count} classes.'
        )
    return tuple(map(str, found)) if classes is None else tuple(classes)


def check_columns(number: int, classes: Sequence[str] | None) -> tuple[str, ...]:
    """Name the columns of labels.

    Args:
        number: Number of columns.
        classes: Names of all labels; None for '0', '1', ...

    Returns:
        The names.

    Raises:
        LabelError: If there is not one name for each column, or names are unsuitable.
    """
    names = tuple(map(str, range(number))) if classes is None else tuple(classes)
    if len(names) != number:
        raise LabelError(
            f'{LABELS} has {number} columns, but {len(names)} labels are named '
            f'({first_few(names)}): name one for each column.'
        )
    check_label_names(names)
    return names


def check_index(rows: NDArray[Any], path: str, length: int) -> NDArray[np.int64]:
    """Check the rows of a split.

    Args:
        rows: The rows.
        path: Name of their file, for messages.
        length: Number of samples of the data set.

    Returns:
        The rows in the order of the file, int64, shape (M,).

    Raises:
        SplitError: If rows are not integers, out of range or given twice.
    """
    if rows.ndim != 1 or rows.dtype.kind not in 'iu':
        raise SplitError(
            f'{path} holds {rows.dtype} values of shape {rows.shape}: it must hold '
            'the rows of its samples, integers.'
        )
    outside = rows[(rows < 0) | (rows >= length)]
    if len(outside):
        raise SplitError(
            f'{path} has {len(outside)} rows out of range ({first_few(outside)}): '
            f'there are {length} samples, 0 to {length - 1}.'
        )
    values, counts = np.unique(rows, return_counts=True)
    if len(values) < len(rows):
        raise SplitError(
            f'{path} lists samples twice ({first_few(values[counts > 1])}): list each '
            'once.'
        )
    return rows.astype(np.int64)


def _check_length(images: StoredImages, length: int) -> None:
    if len(images) != length:
        raise PairingError(
            f'{images.file(0)} has {len(images)} samples, but {LABELS} has {length}: '
            'each needs one row per sample.'
        )

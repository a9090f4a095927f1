# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""What a classifier file says about its classifier; read without PyTorch."""

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from math import isfinite, prod
from typing import Annotated, Any, Literal, Self, cast

from .errors import ClassifierFileError

#: Kind of labels, as in TorchGeo's ``Classification``: one of several classes, any
#: number of labels, or one of two classes by a single logit.
type LabelTask = Literal['multiclass', 'multilabel', 'binary']

#: Key of the metadata in the header of a file.
KEY = 'torchgeo_discomkd'

#: Version of the layout of the metadata; a change that old readers misread raises it.
FORMAT_VERSION = 3

#: Version of files of one class for each sample, which earlier readers understand.
MULTICLASS_VERSION = 2

#: Versions that can be read: the first has no profiles, the second no kind of labels.
READABLE_VERSIONS = (1, 2, 3)

#: Quantiles of the pixel values that a profile keeps.
QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)

#: Largest number of values in an image of a classifier: 256 MiB in float32.
MOST_VALUES = 2**26


def limits(**ranges: int) -> Any:
    """Return what msgspec has to check beyond a type.

    Types that use it are aliases, which Python evaluates on first use: msgspec is only
    imported when a file is read.

    Args:
        **ranges: Arguments of :class:`msgspec.Meta`.
    """
    import msgspec

    return cast(Any, msgspec.Meta)(**ranges)


#: Names become paths, columns and text in figures.
type Name = Annotated[str, limits(max_length=1024)]

#: Coordinate reference systems and patterns are longer.
type Text = Annotated[str, limits(max_length=2**16)]

#: A number of bands or of pixels: no array has more than 65 535 along an axis.
type Count = Annotated[int, limits(ge=1, le=2**16 - 1)]

#: A number of anything, or a position.
type Number = Annotated[int, limits(ge=0, le=2**53)]


@dataclass(frozen=True)
class ImageProfile:
    """What the training images of one modality look like, to recognise others.

    Every tuple has one entry per band; values are in the unit of the modality.

    Attributes:
        quantiles: Pixel values at :data:`QUANTILES`.
        means: 0.5th and 99.5th percentile of the mean of a tile.
        stds: 0.5th and 99.5th percentile of the standard deviation within a tile.
        tiles: Number of tiles.
        pixel_size: Side of a pixel in metres; None if the tiles do not say.
        crs_kind: 'projected' or 'geographic'; None if the tiles do not say.

    Example:
        >>> from torchgeo_discomkd.models import ImageProfile
        >>> profile = ImageProfile(
        ...     quantiles=((-30.0, -25.0, -22.0, -15.0, -11.0, -9.0, -6.0, -4.0, 8.0),),
        ...     means=((-20.9, -5.1),),
        ...     stds=((2.1, 7.4),),
        ...     tiles=173,
        ...     pixel_size=10.0,
        ...     crs_kind='projected',
        ... )
        >>> profile.means[0]
        (-20.9, -5.1)
    """

    quantiles: tuple[tuple[float, ...], ...]
    means: tuple[tuple[float, float], ...]
    stds: tuple[tuple[float, float], ...]
    tiles: Number
    pixel_size: float | None = None
    crs_kind: Literal['projected', 'geographic'] | None = None


@dataclass(frozen=True)
class ModalityMetadata:
    """Images that a classifier takes.

    Attributes:
        in_channels: Number of bands.
        bands: Names of the bands, in order.
        unit: Unit of the raw pixel values: 'dB', 'linear' or any text.
        tile_size: Height and width of the training tiles in pixels; None if unknown.
        profile: What the training tiles look like; None if unknown, as in the files of
            earlier versions.

    Example:
        >>> from torchgeo_discomkd.models import ModalityMetadata
        >>> sar = ModalityMetadata(2, bands=('VV', 'VH'), unit='dB', tile_size=(64, 64))
        >>> sar.bands
        ('VV', 'VH')
    """

    in_channels: Count
    bands: tuple[Name, ...]
    unit: Name
    tile_size: tuple[Count, Count] | None
    profile: ImageProfile | None = None


@dataclass(frozen=True)
class ClassifierMetadata:
    """Everything needed to use a classifier, besides its weights.

    Attributes:
        kind: A DisentangledClassifier or a FusionClassifier.
        model: Name of the timm model.
        classes: Names of the classes; a label is a position in this tuple.
        modalities: One modality for 'disentangled', one or more for 'fusion'.
        head: Projection head of a disentangled classifier; None for 'fusion'.
        normalization: How the normalisation was fitted: 'standardize', 'percentile' or
            'none'.
        temperature: Divisor of the logits that calibrates the probabilities; 1 for
            none.
        scores: Scores by name, for example 'val_sar_F1Score'.
        epoch: Epoch of the weights, counted from 0; None if not trained in epochs.
        data_fingerprint: Hash of the training data's files.
        split_hash: Hash of the samples of the training split.
        seed: Seed of the training; None if unknown.
        version: Version of torchgeo_discomkd that wrote the file.
        task: Kind of labels. With 'binary' the last layer has one output, the logit of
            the second class; with 'multilabel' one for each label, independent of the
            others.
        thresholds: With 'multilabel', the probability above which a tile has the label,
            for each of *classes*; None for 0.5.

    Example:
        >>> from torchgeo_discomkd.models import ClassifierMetadata, ModalityMetadata
        >>> metadata = ClassifierMetadata(
        ...     kind='disentangled',
        ...     model='resnet18',
        ...     classes=('forest', 'river'),
        ...     modalities={'sar': ModalityMetadata(2, ('VV', 'VH'), 'dB', (64, 64))},
        ...     head='linear_bn_relu',
        ...     normalization='standardize',
        ...     temperature=1.0,
        ...     scores={'val_F1Score': 0.9},
        ...     epoch=7,
        ...     data_fingerprint='',
        ...     split_hash='',
        ...     seed=0,
        ...     version='0.2.0',
        ... )
        >>> ClassifierMetadata.from_json(metadata.to_json()) == metadata
        True
    """

    kind: Literal['disentangled', 'fusion']
    model: Name
    classes: tuple[Name, ...]
    modalities: dict[Name, ModalityMetadata]
    head: Name | None
    normalization: Name
    temperature: float
    scores: dict[Name, float]
    epoch: Number | None
    data_fingerprint: Name
    split_hash: Name
    seed: int | None
    version: Name
    task: LabelTask = 'multiclass'
    thresholds: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Check that the fields agree with each other.

        Raises:
            ClassifierFileError: If they do not.
        """
        single = len(self.modalities) == 1 and self.head is not None
        problems = {
            f"kind='{self.kind}' is unknown": self.kind
            not in ('disentangled', 'fusion'),
            'a disentangled classifier has one modality and a head': (
                self.kind == 'disentangled' and not single
            ),
            'a classifier has one modality or more': not self.modalities,
            'the classes are not distinct': len(set(self.classes)) < len(self.classes),
            'a classifier has one class or more': not self.classes,
            f'temperature={self.temperature} is not positive': not (
                self.temperature > 0 and isfinite(self.temperature)
            ),
            "task='binary' has two classes": self.task == 'binary'
            and len(self.classes) != 2,
            f'thresholds={self.thresholds} are not one from 0 to 1 for each label': (
                self.thresholds is not None
                and not (
                    self.task == 'multilabel'
                    and len(self.thresholds) == len(self.classes)
                    and all(0 <= t <= 1 for t in self.thresholds)
                )
            ),
        } | {
            f"'{name}' has {m.in_channels} channels but bands {list(m.bands)}": (
                len(m.bands) != m.in_channels
            )
            for name, m in self.modalities.items()
        }
        problems |= {
            f"'{name}' has images of {m.in_channels} x {m.tile_size}, more than "
            f'{MOST_VALUES} values': m.tile_size is not None
            and m.in_channels * prod(m.tile_size) > MOST_VALUES
            for name, m in self.modalities.items()
        }
        problems |= {
            f"the profile of '{name}' is not one of {m.in_channels} bands": (
                m.profile is not None and not _fits(m.profile, m.in_channels)
            )
            for name, m in self.modalities.items()
        }
        found = [problem for problem, present in problems.items() if present]
        if found:
            raise ClassifierFileError(
                f'The metadata of a classifier contradict themselves: {found}.'
            )

    @property
    def decision_thresholds(self) -> tuple[float, ...] | None:
        """Probability above which a tile has each label; None if it has one class."""
        if self.task != 'multilabel':
            return None
        return self.thresholds or (0.5,) * len(self.classes)

    def to_json(self) -> str:
        """Return the metadata as one JSON object, with the version of the format.

        Without what is new in a version, the object is one of the version before.
        """
        values, version = asdict(self), FORMAT_VERSION
        if self.task == 'multiclass':
            del values['task'], values['thresholds']
            version = MULTICLASS_VERSION
        return json.dumps({'format_version': version, **values})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what :meth:`to_json` wrote.

        Args:
            text: A JSON object.

        Returns:
            The metadata.

        Raises:
            ClassifierFileError: If *text* is not a JSON object, its version is unknown
                or its fields are not those of this class.
        """
        try:
            values = json.loads(text)
        except (RecursionError, ValueError) as error:
            raise ClassifierFileError(f'The metadata are not JSON: {error}.') from error
        version = (
            values.pop('format_version', None) if isinstance(values, dict) else None
        )
        if version not in READABLE_VERSIONS:
            raise ClassifierFileError(
                f'The metadata have format version {version}, but this '
                f'torchgeo_discomkd reads versions {READABLE_VERSIONS[0]} to '
                f'{FORMAT_VERSION}: use the version of the package that wrote them.'
            )
        return cls.from_values(values)

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Check types and ranges of what a file says.

        Args:
            values: One value for each field, of the types that JSON has.

        Returns:
            The metadata.

        Raises:
            ClassifierFileError: If the fields are not those of this class, or a value
                has another type or is out of range.
        """
        # takes 20 ms: only when a file is read
        import msgspec

        try:
            _check_fields(cls, values)
            for modality in values['modalities'].values():
                _check_fields(ModalityMetadata, modality)
                if modality.get('profile') is not None:
                    _check_fields(ImageProfile, modality['profile'])
            return msgspec.convert(values, cls)
        except (AttributeError, TypeError) as error:
            raise ClassifierFileError(
                f'The metadata have a field of the wrong type: {error}.'
            ) from error
        except msgspec.ValidationError as error:
            # what the fields contradict has been said by the class itself
            raise ClassifierFileError(
                str(
                    error.__cause__
                    or f'The metadata have a field of the wrong type: {error}.'
                )
            ) from error


def _fits(profile: ImageProfile, bands: int) -> bool:
    """Return whether a profile has all figures of each band."""
    figures = ((profile.quantiles, len(QUANTILES)), (profile.means, 2))
    return all(
        [len(of_band) for of_band in values] == [count] * bands
        for values, count in (*figures, (profile.stds, 2))
    )


def _check_fields(
    cls: type[ClassifierMetadata] | type[ModalityMetadata] | type[ImageProfile],
    values: Mapping[str, Any],
) -> None:
    names = {field.name for field in fields(cls)}
    needed = {field.name for field in fields(cls) if field.default is MISSING}
    missing, unknown = sorted(needed - set(values)), sorted(set(values) - names)
    if missing or unknown:
        raise ClassifierFileError(
            f'The metadata lack the fields {missing} and have the unknown fields '
            f'{unknown}.'
        )

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""The prediction for one tile: one row of a table."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from shapely import MultiPolygon, Polygon

#: Label of a tile whose confidence is below the requested minimum.
UNCERTAIN = 'uncertain'

#: What separates the labels of a tile that may have several.
SEPARATOR = '; '

#: Statuses of tiles with a label; any other is the reason why there is none.
CLASSIFIED = ('ok', 'mixed_size')


@dataclass(frozen=True, slots=True)
class Prediction:
    """One row of a table.

    Attributes:
        path: Path of the tile, as in :class:`~torchgeo_discomkd.rasters.ImageFiles`.
        label: Name of the most probable class, or 'uncertain'; with several labels in a
            tile the names of all, separated by '; ', or an empty text. None if there is
            no prediction.
        confidence: Probability of the most probable class, 0 to 1; None if there is
            none, or with several labels.
        entropy: Entropy of the probabilities in nats, divided by ln K for K classes: 0
            if one class is certain, 1 if all are equally probable; with several labels
            the mean over the labels, as each is one of two. None if there are no
            probabilities.
        probabilities: One probability for each class, with sum 1, or of each label by
            itself; None if there is no prediction.
        status: 'ok', or a word for what is unusual, with a reason after a colon.
        footprint: Outline of the tile in the table's CRS; None if it is not known.
        unusual: How the tile differs from those of training; None if it does not.
        reading: How the numbers in its files were understood. The metadata of a table
            count the different readings.
        modalities: Modalities whose classifiers were combined, joined by '+'; None if
            only one classifies all tiles, or none has classified this one.
        unused: Why other modalities were not used; None if all were.

    Example:
        >>> row = Prediction.from_probabilities(
        ...     'a.tif', [0.9, 0.1], ('Forest', 'Water'), min_confidence=0.8
        ... )
        >>> row.label, row.confidence, round(row.entropy, 2)
        ('Forest', 0.9, 0.47)
        >>> Prediction.missing('b.tif', 'nodata').label is None
        True
    """

    path: str
    label: str | None
    confidence: float | None
    entropy: float | None
    probabilities: tuple[float, ...] | None
    status: str
    footprint: 'Polygon | MultiPolygon | None' = None
    unusual: str | None = None
    reading: str | None = None
    modalities: str | None = None
    unused: str | None = None

    @classmethod
    def from_probabilities(
        cls,
        path: str,
        probabilities: Sequence[float],
        classes: Sequence[str],
        status: str = 'ok',
        footprint: 'Polygon | MultiPolygon | None' = None,
        min_confidence: float = 0,
        thresholds: Sequence[float] | None = None,
    ) -> Self:
        """Create the row of a tile that was classified.

        Args:
            path: Path of the tile.
            probabilities: One for each class, with sum 1. If one is not finite, the row
                has no label and the status 'invalid'.
            classes: Names of the classes.
            status: Status of the tile.
            footprint: Outline of the tile in the table's CRS.
            min_confidence: Below this confidence the label is 'uncertain'.
            thresholds: With several labels in a tile, the probability above which it
                has each; *min_confidence* does not count.

        Returns:
            The row; if several classes are equally probable, the first is the label.
        """
        values = tuple(float(p) for p in probabilities)
        if not all(map(math.isfinite, values)):
            status = 'invalid: the classifier returned numbers that are not finite'
            return cls.missing(path, status, footprint)
        if thresholds is not None:
            named = zip(classes, values, thresholds, strict=True)
            found = [name for name, p, threshold in named if p > threshold]
            bits = sum(_bits(p) for p in values) / len(values)
            label, entropy = SEPARATOR.join(found), min(1.0, bits)
            return cls(path, label, None, entropy, values, status, footprint)
        confidence = max(values)
        label = classes[values.index(confidence)]
        nats = sum(-p * math.log(p) for p in values if p > 0)
        return cls(
            path=path,
            label=label if confidence >= min_confidence else UNCERTAIN,
            confidence=confidence,
            # rounding must not exceed the range
            entropy=min(1.0, nats / math.log(len(values))) if len(values) > 1 else 0.0,
            probabilities=values,
            status=status,
            footprint=footprint,
        )

    @classmethod
    def missing(
        cls, path: str, status: str, footprint: 'Polygon | MultiPolygon | None' = None
    ) -> Self:
        """Create the row of a tile that was not classified.

        Args:
            path: Path of the tile.
            status: The reason, for example 'nodata' or 'unreadable: ...'.
            footprint: Outline of the tile in the table's CRS.

        Returns:
            A row without label, confidence, entropy and probabilities.
        """
        return cls(path, None, None, None, None, status, footprint)


def _bits(p: float) -> float:
    """Return the entropy of a decision between yes and no, in bits."""
    return sum(-q * math.log2(q) for q in (p, 1 - p) if q > 0)

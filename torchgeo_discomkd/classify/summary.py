# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""What is left to say when all tiles are classified."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ..tables.prediction import CLASSIFIED


@dataclass
class Summary:
    """How many tiles of each status a table has."""

    #: The table.
    output: Path

    #: Number of tiles by the first word of their status, for example 'unreadable'.
    counts: Counter[str] = field(default_factory=Counter)

    #: Path and status of the first tile without a label; None if all have one.
    example: str | None = None

    def add(self, path: str, status: str) -> None:
        """Count a tile.

        Args:
            path: Its path.
            status: Its status.
        """
        word = status.partition(':')[0]
        self.counts[word] += 1
        if self.example is None and word not in CLASSIFIED:
            self.example = f'{path}: {status}'

    @property
    def total(self) -> int:
        """Number of tiles."""
        return self.counts.total()

    @property
    def failed(self) -> int:
        """Number of tiles without a label."""
        return self.total - sum(self.counts[word] for word in CLASSIFIED)

    def __str__(self) -> str:
        """Return one line with the numbers."""
        words = sorted(
            self.counts, key=lambda word: (word not in CLASSIFIED, word != 'ok', word)
        )
        numbers = ', '.join(f'{self.counts[word]} {word}' for word in words)
        return f'{self.output}: {self.total} tiles, {self.failed} without a label ({numbers})'

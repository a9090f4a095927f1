# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""How many files of a folder are read, and why others are not."""

from collections import Counter
from dataclasses import dataclass, field

# Number of suffixes in a line.
_SUFFIXES = 5


@dataclass(eq=False)
class FolderCounts:
    """Numbers of the files of a folder that are read, and of those that are left.

    ``str()`` gives one line for the user.

    Attributes:
        name: The folder or pattern; of labelled tiles, the modality.
        images: Number of images that are read.
        files: Number of their files, if that is not the same.
        classes: Number of classes, if the tiles have labels.
        place: Where labelled tiles are.
        suffixes: Number of files of other types, by suffix in lower case.
        left: Number of other files that are left, by reason.
        folders: Number of folders that are left, by reason.

    Example:
        >>> counts = FolderCounts('tiles/', images=120)
        >>> counts.suffixes['.xml'] += 2
        >>> counts.left['hidden'] += 1
        >>> str(counts)
        'tiles/: 120 images; left 3 files: 2 of other types (.xml), 1 hidden'
    """

    name: str
    images: int = 0
    files: int | None = None
    classes: int | None = None
    place: str | None = None
    suffixes: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    folders: Counter[str] = field(default_factory=Counter)

    def leave(self, reason: str, count: int) -> None:
        """Count files that are left.

        Args:
            reason: What they have in common.
            count: Their number.
        """
        if count:
            self.left[reason] += count

    def __str__(self) -> str:
        """Return one line that says what is read and what is left."""
        line = f'{self.name}: {_number(self.images, "image")}'
        if self.files not in (None, self.images):
            line += f' in {self.files} files'
        if self.classes is not None:
            line += f' in {_number(self.classes, "class", "classes")}'
        if self.place is not None:
            line += f' below {self.place}'
        return '; '.join([line, *self._left()])

    def _left(self) -> list[str]:
        """Return the parts of the line about files and folders that are left."""
        parts = []
        reasons = [f'{count} {reason}' for reason, count in self.left.items()]
        if other := self.suffixes.total():
            names = [suffix or 'no suffix' for suffix, _ in self.suffixes.most_common()]
            more = ', ...' if len(names) > _SUFFIXES else ''
            listed = ', '.join(names[:_SUFFIXES]) + more
            reasons.insert(0, f'{other} of other types ({listed})')
        if count := other + self.left.total():
            parts.append(f'left {_number(count, "file")}: {", ".join(reasons)}')
        if count := self.folders.total():
            reasons = [f'{n} {reason}' for reason, n in self.folders.items()]
            parts.append(f'left {_number(count, "folder")}: {", ".join(reasons)}')
        return parts


def _number(count: int, one: str, many: str | None = None) -> str:
    return f'{count} {one if count == 1 else many or f"{one}s"}'

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Paired samples of which some lack a modality."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from affine import Affine
from rasterio import CRS
from torch import Tensor
from torchgeo.datasets.utils import Sample

from ..errors import ModalityError, PairingError
from .base import GatheredSamples, MultiModalDataset
from .stores import first_few


class IncompletePairs(MultiModalDataset):
    """All samples of a split that have one modality or more, joined by their names.

    A sample holds 'present_<modality>', bool, for every modality. An image that it
    lacks is NaN in every pixel, so that batches keep their shape; a task must leave it
    out.

    Attributes:
        sources: The data set of each modality alone.
        present: Which samples have the image of a modality, bool (N,), by modality.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from torchgeo_discomkd.datasets import PairedFolders
        >>> from torchgeo_discomkd.datasets.simulation import simulate
        >>> with tempfile.TemporaryDirectory() as root:
        ...     simulate(Path(root), tiles_per_class=4, size=8)
        ...     Path(root, 'EuroSAT-SAR', 'Forest', 'Forest_1.tif').unlink()
        ...     folders = {'ms': 'EuroSAT_MS', 'sar': 'EuroSAT-SAR'}
        ...     pairs = IncompletePairs({
        ...         m: PairedFolders(root, folders=folders, modalities=[m],
        ...                          missing='keep')
        ...         for m in folders
        ...     })
        ...     samples = [pairs[i] for i in range(len(pairs))]
        >>> len(samples), sum(int(s['present_sar']) for s in samples) in (19, 20)
        (20, True)
    """

    def __init__(self, sources: Mapping[str, MultiModalDataset]) -> None:
        """Initialize a new IncompletePairs instance.

        Args:
            sources: Data sets of one modality each, of the same split and classes.

        Raises:
            ModalityError: If a source has another modality than its name.
            PairingError: If a sample has different labels, or sources have different
                classes.
        """
        self.sources = dict(sources)
        first = next(iter(self.sources.values()))
        for modality, source in self.sources.items():
            if source.modalities != (modality,):
                raise ModalityError(
                    f"the source of '{modality}' has {source.modalities}: give each "
                    'modality a data set of its own.'
                )
            if source.classes != first.classes:
                raise PairingError(
                    f"the source of '{modality}' has the classes {source.classes}, not "
                    f'{first.classes}: give all sources the same classes.'
                )
        self.root = first.root
        self.task = first.task
        self.classes = first.classes
        self.modalities = tuple(self.sources)
        self.bands = {m: s.bands[m] for m, s in self.sources.items()}
        self.units = {m: s.units[m] for m, s in self.sources.items()}
        self.missing_values = first.missing_values
        self.transforms = first.transforms
        self.counts = [count for s in self.sources.values() for count in s.counts]
        self._join()

    def _join(self) -> None:
        """Find the samples of all sources, by class and name, and their labels."""
        labels: dict[str, int | list[int]] = {}
        rows: dict[str, dict[str, int]] = {}
        for modality, source in self.sources.items():
            names = [source.identifier(i) for i in range(len(source))]
            rows[modality] = {name: i for i, name in enumerate(names)}
            own = dict(zip(names, source.labels.tolist(), strict=True))
            if wrong := [n for n in names if labels.get(n, own[n]) != own[n]]:
                raise PairingError(
                    f"the labels of {len(wrong)} samples of '{modality}' are not those "
                    f'of the other modalities ({first_few(wrong)}): correct them.'
                )
            labels |= own
        self._names = sorted(labels, key=lambda name: (labels[name], name))
        self.labels = torch.tensor([labels[name] for name in self._names]).long()
        self._rows = {
            m: torch.tensor([found.get(name, -1) for name in self._names]).long()
            for m, found in rows.items()
        }
        self.present = {m: found >= 0 for m, found in self._rows.items()}

    def load(self, index: int, modality: str) -> Tensor:
        """Read one image; see :meth:`MultiModalDataset.load`.

        Args:
            index: Position in this split.
            modality: One of *modalities*.

        Returns:
            float32, shape (C, H, W); NaN everywhere if the sample lacks the modality.
        """
        row = int(self._rows[modality][index])
        if row < 0:
            return self._absent(modality)
        return self.sources[modality].checked_load(row, modality)

    def _absent(self, modality: str) -> Tensor:
        size = self.tile_size(modality)
        return torch.full((len(self.bands[modality]), *size), torch.nan)

    def load_batch(self, indexes: Sequence[int], modality: str) -> Tensor:
        """Read images; see :meth:`MultiModalDataset.load_batch`.

        Args:
            indexes: Positions in this split, B of them.
            modality: One of *modalities*.
        """
        rows = self._rows[modality][torch.tensor(indexes)]
        batch = self._absent(modality).repeat(len(rows), 1, 1, 1)
        if (there := rows >= 0).any():
            source = self.sources[modality]
            batch[there] = source.load_batch(rows[there].tolist(), modality)
        return batch

    def __getitem__(self, index: int) -> Sample:
        """Return one sample, with 'present_<modality>'.

        Args:
            index: Position in this split.
        """
        sample: Sample = {f'image_{m}': self.load(index, m) for m in self.modalities}
        sample |= {f'present_{m}': flags[index] for m, flags in self.present.items()}
        sample |= {'label': self.labels[index], 'index': torch.tensor(index)}
        return sample if self.transforms is None else self.transforms(sample)

    def __getitems__(self, indexes: Sequence[int]) -> Sequence[Sample]:
        """Return several samples, with 'present_<modality>'.

        Args:
            indexes: Positions in this split, B of them.
        """
        samples = super().__getitems__(indexes)
        if isinstance(samples, GatheredSamples):
            chosen = torch.tensor(indexes)
            flags = {f'present_{m}': x[chosen] for m, x in self.present.items()}
            return GatheredSamples(samples.batch | flags)
        return samples

    def identifier(self, index: int) -> str:
        """Return the name of a sample.

        Args:
            index: Position in this split.
        """
        return self._names[index]

    def fingerprint(self) -> str:
        """Return the hash of the source files, of all modalities."""
        return next(iter(self.sources.values())).fingerprint()

    def modified(self, modality: str) -> str:
        """Return when the files of a modality were modified.

        Args:
            modality: One of *modalities*.
        """
        return self.sources[modality].modified(modality)

    def encoding(self, modality: str) -> str:
        """Return what is known about the numbers in the files of a modality.

        Args:
            modality: One of *modalities*.
        """
        return self.sources[modality].encoding(modality)

    def band_indexes(self, modality: str) -> list[int] | None:
        """Return the positions of the bands that samples hold; None for all.

        Args:
            modality: One of *modalities*.
        """
        return self.sources[modality].band_indexes(modality)

    def tile_size(self, modality: str) -> tuple[int, int]:
        """Return height and width in pixels of the first tile of a modality.

        Args:
            modality: One of *modalities*.
        """
        return self.sources[modality].tile_size(modality)

    def locate(self, index: int, modality: str) -> tuple[CRS, Affine] | None:
        """Return the coordinate reference system and transform of one modality.

        Args:
            index: Position in this split.
            modality: One of *modalities*.

        Returns:
            None if the sample lacks it, or its file has no georeference.
        """
        row = int(self._rows[modality][index])
        return None if row < 0 else self.sources[modality].locate(row, modality)

    def georeference(self, index: int) -> tuple[CRS, Affine] | None:
        """Return the coordinate reference system and transform of a tile.

        Args:
            index: Position in this split.

        Returns:
            Those of the first modality that has them; None if no modality does.
        """
        places = (self.locate(index, modality) for modality in self.modalities)
        return next((place for place in places if place is not None), None)

    @property
    def place(self) -> Path:
        """Folder for files that are kept next to the images."""
        return next(iter(self.sources.values())).place

    def report(self) -> list[str]:
        """Return what was found, and how many training samples each modality has."""
        own = ', '.join(f'{m} {int(x.sum())}' for m, x in self.present.items())
        complete = torch.stack(list(self.present.values())).all(dim=0).sum().item()
        line = f'training: {len(self)} samples, {complete} with all modalities ({own})'
        return [*super().report(), line]

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Paired training batches whose samples lack some modalities."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchgeo.datasets.utils import Sample

from ..errors import BatchSizeError, ModalityError
from ..models import DisCoMKDOutput, Embeddings


def present_inputs(
    inputs: Mapping[str, Tensor], batch: Sample, modalities: Sequence[str]
) -> dict[str, Tensor]:
    """Leave out the rows of every modality that its sample lacks.

    Args:
        inputs: 'image_<modality>' and 'label_<modality>', each with a row for every
            sample.
        batch: 'present_<modality>', bool (B,), for each modality of which samples may
            lack the image; a batch without any is complete.
        modalities: All modalities.

    Returns:
        *inputs* if the batch is complete. Else the rows that are there, and their
        position in the batch, 'row_<modality>', int64, increasing; nothing of a
        modality with fewer than two, on which batch normalisation cannot train.

    Raises:
        BatchSizeError: If no modality has two rows.
        ModalityError: If a sample has no modality at all.
    """
    present = {m: batch[key] for m in modalities if (key := f'present_{m}') in batch}
    if not present:
        return dict(inputs)
    every = torch.ones(len(inputs[f'image_{modalities[0]}']), dtype=torch.bool)
    masks = {m: present.get(m, every).cpu() for m in modalities}
    empty = ~torch.stack(list(masks.values())).any(dim=0)
    if empty.any():
        rows = empty.nonzero().flatten().tolist()
        raise ModalityError(
            f'samples {rows} of a batch have none of {list(modalities)}: leave samples '
            'without any image out of the data set.'
        )
    found: dict[str, Tensor] = {}
    for modality, mask in masks.items():
        image = inputs[f'image_{modality}']
        rows = mask.nonzero().flatten().to(image.device)
        if len(rows) > 1:
            found[f'image_{modality}'] = image[rows]
            found[f'label_{modality}'] = inputs[f'label_{modality}'][rows]
            found[f'row_{modality}'] = rows
    if not found:
        raise BatchSizeError(
            'a training batch has fewer than two images of every modality: use a '
            'larger batch_size.'
        )
    return found


def with_empty_rows(
    rows: Mapping[str, Tensor], modalities: Sequence[str]
) -> dict[str, Tensor]:
    """Return rows of all modalities in order: none for those that are not given.

    Args:
        rows: Rows of one modality or more, shape (B_m, ...).
        modalities: All modalities.
    """
    none = next(iter(rows.values()))[:0].detach()
    return {m: rows.get(m, none) for m in modalities}


def with_all_modalities(
    output: DisCoMKDOutput, modalities: Sequence[str]
) -> DisCoMKDOutput:
    """Return an output of all modalities in order: no rows of those it lacks.

    Args:
        output: Output of the network for one modality or more.
        modalities: All modalities.
    """
    if len(output.logits) == len(modalities):
        return output
    kinds = [
        with_empty_rows({m: e[i] for m, e in output.embeddings.items()}, modalities)
        for i in range(len(Embeddings._fields))
    ]
    embeddings = {m: Embeddings(*(rows[m] for rows in kinds)) for m in modalities}
    logits = {
        name: with_empty_rows(rows, modalities)
        for name, rows in output._asdict().items()
        if name != 'embeddings'
    }
    return DisCoMKDOutput(embeddings=embeddings, **logits)


def shared_rows(
    inputs: Mapping[str, Tensor], guide: str, modalities: Sequence[str]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return where the samples are that the guide and another modality both have.

    Args:
        inputs: What :func:`present_inputs` returned for an incomplete batch.
        guide: The modality that guides.
        modalities: All modalities.

    Returns:
        For each other modality that shares samples with the guide, positions of these
        in the guide's rows and in its own.
    """
    found = {}
    for modality in modalities:
        keys = f'row_{guide}', f'row_{modality}'
        if modality == guide or not all(key in inputs for key in keys):
            continue
        first, own = (inputs[key] for key in keys)
        pairs = (first[:, None] == own).nonzero()
        if len(pairs):
            found[modality] = (pairs[:, 0], pairs[:, 1])
    return found

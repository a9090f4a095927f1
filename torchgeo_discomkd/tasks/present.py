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
    inputs: Mapping[str, Tensor],
    batch: Sample,
    modalities: Sequence[str],
    guide: str | None = None,
) -> dict[str, Tensor]:
    """Leave out the rows of every modality that its sample lacks.

    Args:
        inputs: 'image_<modality>' and 'label_<modality>', each with a row for every
            sample.
        batch: 'present_<modality>', bool (B,), for each modality of which samples may
            lack the image; a batch without any is complete.
        modalities: All modalities.
        guide: The modality that guides the others, if one does.

    Returns:
        *inputs* if the batch is complete. Else the rows that are there, and nothing of
        a modality with fewer than two, on which batch normalisation cannot train. With
        a guide also 'pairs_<modality>', int64 (2, K), K > 0, for each other modality
        that shares samples with it: their positions in the rows of the guide and in
        its own; and 'pairs_<guide>' (2, 0), which marks the batch as incomplete.

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
    if not found:
        raise BatchSizeError(
            'a training batch has fewer than two images of every modality: use a '
            'larger batch_size.'
        )
    # found here, on the CPU: a graph of the loss cannot wait for their number
    return found | _pairs(found, masks, guide)


def _pairs(
    found: Mapping[str, Tensor], masks: Mapping[str, Tensor], guide: str | None
) -> dict[str, Tensor]:
    """Return where the samples are that the guide and another modality both have."""
    if guide is None:
        return {}
    device = next(iter(found.values())).device
    pairs = {f'pairs_{guide}': torch.empty(2, 0, dtype=torch.long, device=device)}
    if f'image_{guide}' not in found:
        return pairs
    row = {modality: mask.cumsum(0) - 1 for modality, mask in masks.items()}
    for modality, mask in masks.items():
        both = masks[guide] & mask
        if modality != guide and f'image_{modality}' in found and both.any():
            both = torch.stack([row[guide][both], row[modality][both]])
            pairs[f'pairs_{modality}'] = both.to(device)
    return pairs


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
    inputs: Mapping[str, Tensor], guide: str
) -> dict[str, tuple[Tensor, Tensor]] | None:
    """Return where the samples are that the guide and another modality both have.

    Args:
        inputs: What :func:`present_inputs` returned with this guide.
        guide: The modality that guides.

    Returns:
        For each other modality that shares samples with the guide, positions of these
        in the guide's rows and in its own; None for a complete batch.
    """
    if f'pairs_{guide}' not in inputs:
        return None
    return {
        modality: (pairs[0], pairs[1])
        for key, pairs in inputs.items()
        if (modality := key.removeprefix('pairs_')) not in (key, guide)
    }

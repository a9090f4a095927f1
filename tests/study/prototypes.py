# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Candidates that are more than a setting; none of them is part of the package."""

from collections.abc import Mapping

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torchgeo.datasets.utils import Sample

from torchgeo_discomkd.models import DisCoMKDOutput
from torchgeo_discomkd.tasks import DisCoMKD


class CrossCorrelation(DisCoMKD):
    """Transfer with the cross-correlation of DeCUR (Wang et al., ECCV 2024).

    Invariant dimensions of the same samples are to be equal and informative ones to be
    unlike, and different dimensions uncorrelated. No gradient reaches the guide.
    """

    def transfer_terms(
        self,
        output: DisCoMKDOutput,
        shared: Mapping[str, tuple[Tensor, Tensor]] | None = None,
    ) -> dict[str, Tensor]:
        """Add the cross-correlation to the transfer of embeddings.

        Args:
            output: Output of the network for the batch.
            shared: None: all samples have all modalities.
        """
        terms = super().transfer_terms(output, shared)
        if (guide := self.active_guide) is None:
            return terms
        target = output.embeddings[guide]
        for modality, own in output.embeddings.items():
            if modality != guide:
                common = correlation_loss(own.invariant, target.invariant, 1.0)
                unique = correlation_loss(own.informative, target.informative, 0.0)
                terms['embedding_transfer'] = (
                    terms['embedding_transfer'] + common + unique
                )
        return terms


def correlation_loss(own: Tensor, guide: Tensor, wanted: float) -> Tensor:
    """Return the mean square distance of a cross-correlation from that wanted.

    Args:
        own: Embeddings of shape (B, D).
        guide: Embeddings of the same samples; no gradient reaches them.
        wanted: Correlation of equal dimensions; that of different ones is to be 0, with
            a weight of 0.0051, as in Barlow Twins and DeCUR.
    """
    first, second = ((x - x.mean(0)) / (x.std(0) + 1e-4) for x in (own, guide.detach()))
    found = first.T @ second / len(own)
    same = found.diagonal()
    others = found.pow(2).sum() - same.pow(2).sum()
    return ((same - wanted).pow(2).sum() + 0.0051 * others) / len(same)


class ChangeSAR(Callback):
    """Change the values of SAR images in training, after flips and turns.

    Args:
        brightness: Largest shift of an image, in standard deviations of the batch.
        speckle: Standard deviation of noise in each pixel, in the same unit.
    """

    def __init__(self, brightness: float = 0.0, speckle: float = 0.0) -> None:
        """Initialize."""
        self.brightness, self.speckle = brightness, speckle

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Extend the augmentation of the data module.

        Args:
            trainer: The trainer.
            pl_module: The task.
        """
        datamodule = trainer.datamodule  # ty: ignore[unresolved-attribute]
        turn = datamodule.train_aug

        def changed(batch: Sample) -> Sample:
            batch = turn(batch)
            x = batch['image_sar']
            shift = self.brightness * (2 * torch.rand(len(x), 1, 1, 1) - 1)
            noise = self.speckle * torch.randn(x.shape)
            return batch | {'image_sar': x + x.std() * (shift + noise)}

        datamodule.train_aug = changed

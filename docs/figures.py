# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Draw the picture of the README: python docs/figures.py RUN_FOLDER DATA_FOLDER."""

import json
import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes

from torchgeo_discomkd.datasets import EuroSATMSSAR
from torchgeo_discomkd.datasets.plotting import render
from torchgeo_discomkd.rasters.readers import read_image

mpl.use('Agg')

CLASSES = ('AnnualCrop', 'Forest', 'Highway', 'Industrial', 'Residential', 'River')
BANDS = EuroSATMSSAR.modality_bands


def draw_tiles(axes: list[list[Axes]], data: Path) -> None:
    """Show one tile per class as both sensors see it."""
    folders = {'ms': 'EuroSAT_MS', 'sar': 'EuroSAT-SAR'}
    labels = {'ms': 'Sentinel-2', 'sar': 'Sentinel-1'}
    for row, (modality, folder) in zip(axes, folders.items(), strict=True):
        for axis, name in zip(row, CLASSES, strict=True):
            image = read_image(data / folder / name / f'{name}_3.tif')
            axis.imshow(render(torch.from_numpy(image), BANDS[modality]))
            axis.set(xticks=[], yticks=[])
            if modality == 'ms':
                axis.set_title(name, fontsize=9)
        row[0].set_ylabel(labels[modality], fontsize=9)


def draw_scores(axis: Axes, run: Path) -> None:
    """Show the validation scores with and without DisCoM-KD."""
    best = json.loads((run / 'manifest.json').read_text())['best']
    for i, modality in enumerate(('ms', 'sar')):
        for j, (suffix, label, color) in enumerate(
            (('_student', 'alone', '#b0b0b0'), ('', 'with DisCoM-KD', '#1f77b4'))
        ):
            score = best[f'{modality}{suffix}']['val_F1Score']
            axis.barh(1 - i + 0.2 - 0.4 * j, score, 0.36, color=color)
            axis.text(score - 0.01, 1 - i + 0.2 - 0.4 * j, f'{label}  {score:.2f}',
                      ha='right', va='center', color='white', fontsize=8)  # fmt: skip
    axis.set(yticks=[1, 0], yticklabels=['optical only', 'SAR only'], xlim=(0, 1))
    axis.set_xlabel('weighted F1, validation split of simulated tiles', fontsize=8)
    axis.tick_params(labelsize=9)
    axis.spines[['top', 'right']].set_visible(False)


def main(run: Path, data: Path) -> None:
    """Draw and save the picture."""
    figure = plt.figure(figsize=(9.6, 2.9), layout='constrained')
    left, right = figure.subfigures(1, 2, width_ratios=(6, 3.6))
    draw_tiles(left.subplots(2, len(CLASSES)).tolist(), data)
    draw_scores(right.subplots(), run)
    figure.savefig(Path(__file__).parent / '_static' / 'quickstart.png', dpi=110)


if __name__ == '__main__':
    main(Path(sys.argv[1]), Path(sys.argv[2]))

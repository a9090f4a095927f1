# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import pytest
import torch

from torchgeo_discomkd.callbacks.score_tables import COLUMNS, print_scores

CLASSES = ('HerbaceousVegetation', 'Sea [or] Lake')


def test_scores_fit_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    names = [f'sentinel-1_ascending{suffix}' for suffix in COLUMNS] + ['ms']
    metrics = {
        f'test_{name}_F1Score': torch.tensor(i / 10) for i, name in enumerate(names)
    }
    metrics |= {
        'test_sentinel-1_ascending_OverallAccuracy': torch.tensor(0.75),
        'test_sentinel-1_ascending_ClasswiseF1Score_Sea [or] Lake': torch.tensor(0.25),
        'test_sentinel-1_ascending_same_size_OverallAccuracy': torch.tensor(1),
        'test_ms_OverallAccuracy': torch.tensor(1),
        'test_ms_ClasswiseF1Score_Sea [or] Lake': torch.tensor(1),
        'val_ms_F1Score': torch.tensor(0),
    }
    print_scores(metrics, 'test', [*names, 'unscored'], CLASSES)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    scores = ['0.0000', '0.1000', '0.2000', '0.3000', '0.4000', '0.7500']
    headings = ['F1', 'alone', 'size', 'invariant', 'informative', 'accuracy']
    assert [line.split() for line in lines] == [
        ['Scores', 'of', 'the', 'test', 'split:'],
        ['same'],
        ['modality', *headings],
        ['sentinel-1_ascending', *scores],
        ['ms', '0.5000', '-', '-', '-', '-', '1.0000'],
        [],
        ['F1', 'of', 'class', 'sentinel-1_ascending', 'ms'],
        ['HerbaceousVegetation', '-', '-'],
        ['Sea', '[or]', 'Lake', '0.2500', '1.0000'],
    ]


def test_student_without_its_modality_has_a_row(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Files may be scored under any name."""
    metrics = {'val_sar_student_F1Score': torch.tensor(0.5)}
    print_scores(metrics, 'val', ['sar_student'], ())
    assert 'sar_student  0.5000  -' in capsys.readouterr().out


def test_nothing_was_scored(capsys: pytest.CaptureFixture[str]) -> None:
    print_scores({}, 'val', ['sar'], CLASSES)
    assert not capsys.readouterr().out

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from typing import Any

import pandas as pd
import pytest
from scipy.stats import ttest_rel

from torchgeo_discomkd.benchmark import BenchmarkConfig
from torchgeo_discomkd.benchmark.figures import figures
from torchgeo_discomkd.benchmark.report import latex, markdown
from torchgeo_discomkd.benchmark.results import discomkd, lines
from torchgeo_discomkd.benchmark.tables import tables

CONFIG = BenchmarkConfig(
    results='results',
    data={'class_path': 'EuroSATMSSARDataModule'},
    in_channels={'ms': 13, 'sar': 2},
    num_classes=10,
    methods=['KDv1'],
    variants=['ORIG'],
    ablations=['adversarial'],
    runs=2,
    paper_dataset='EuroSat-MS-SAR',
)


def row(
    training: str, modality: str, scores: dict[str, Any], run: int
) -> dict[str, Any]:
    """Return a row of a student unless *scores* differ; F1 grows with the run."""
    values = {
        'run': run,
        'scenario': '-',
        'method': 'STUDENT',
        'variant': '-',
        'ablation': '-',
        'readout': 'full',
        'modality': modality,
        'teacher': '-',
        'seconds': 10.0,
        'gflop': 1000.0,
        'teacher_seconds': 0.0,
        'teacher_gflop': 0.0,
        'parameters': 11_000_000,
        'training': training,
    } | scores
    values['F1'] += 0.02 * run
    return values | {'F1_Crop': values['F1'], 'F1_Water': values['F1'] - 0.1}


def frame() -> pd.DataFrame:
    """Return two runs of a small benchmark, with figures that are easy to check."""
    rows = []
    for run in (0, 1):
        rows.append(row('student-ms', 'ms', {'F1': 0.9}, run))
        rows.append(row('student-sar', 'sar', {'F1': 0.7}, run))
        fusion = {'method': 'TEACHER', 'scenario': 'multi-modal', 'F1': 0.91}
        rows.append(row('teacher-fusion', 'fusion', fusion | {'seconds': 20.0}, run))
        taught = {
            'method': 'KDv1',
            'variant': 'ORIG',
            'scenario': 'cross-modal',
            'teacher': 'student-ms',
            'teacher_seconds': 10.0,
            'teacher_gflop': 1000.0,
            # unlike the others it does not grow: the difference varies over runs
            'F1': 0.65 - 0.02 * run,
        }
        rows.append(row('kdv1-sar-from-ms', 'sar', taught, run))
        for target in ('ms', 'sar'):
            fused = taught | {
                'scenario': 'multi-modal',
                'teacher': 'teacher-fusion',
                'teacher_seconds': 20.0,
                'F1': 0.8,
            }
            rows.append(row(f'kdv1-{target}-from-fusion', target, fused, run))
        for ablation, readout, f1 in (
            ('-', 'full', 0.75),
            ('-', 'only z_inv', 0.6),
            ('-', 'only z_inf', 0.5),
            ('L_adv', 'full', 0.74),
        ):
            own = {
                'method': 'DisCoM-KD',
                'variant': 'paper',
                'ablation': ablation,
                'readout': readout,
                'seconds': 60.0,
                'gflop': 8000.0,
                'parameters': 22_500_000,
            }
            name = f'discomkd-paper{ablation}'
            rows.append(row(name, 'ms', own | {'F1': f1 + 0.2}, run))
            rows.append(row(name, 'sar', own | {'F1': f1}, run))
    return pd.DataFrame(rows)


EXPECTED = """\
## Table 1. Cross-modal: one modality teaches another

| Method | Variant | MS->SAR | Paper | Parameters (M) | Training (s) | Training (TFLOP) |
| --- | --- | --- | --- | --- | --- | --- |
| TEACHER | - | 91.00 ± 1.41 | 95.49 | 11.0 | 10 | 1 |
| STUDENT | - | 71.00 ± 1.41 | 71.54 | 11.0 | 10 | 1 |
| KDv1 | ORIG | 65.00 ± 0.00 ↓ | 78.38 | 11.0 | 20 | 2 |
| DisCoM-KD | paper | 76.00 ± 1.41 ↑ | 80.03 | 22.5 | 60 | 8 |

SAR: DisCoM-KD paper minus STUDENT is +5.00 points; no test, n = 2 runs.

SAR: DisCoM-KD paper minus the best competitor (KDv1 ORIG) is +11.00 points; \
paired t-test, p = {p}, n = 2 runs.
"""  # noqa: E501 (a row of a table)


def test_table_1() -> None:
    p = ttest_rel([75.0, 77.0], [65.0, 65.0]).pvalue
    assert markdown(tables(frame(), CONFIG)[0]) == EXPECTED.format(p=f'{p:.3f}')


def test_table_2_counts_a_teacher_and_a_joint_training_once() -> None:
    table = tables(frame(), CONFIG)[1]
    rows = {row[0]: row for row in table.rows}
    assert table.header[2:6] == ['MS', 'Paper', 'SAR', 'Paper']
    assert rows['TEACHER'][2:6] == ['92.00 ± 1.41', '95.36', '92.00 ± 1.41', '95.36']
    # two students of 10 s each and their one teacher of 20 s
    assert rows['KDv1'][-2:] == ['40', '3']
    # one training for both modalities
    assert rows['DisCoM-KD'][-2:] == ['60', '8']
    assert rows['STUDENT'][-2:] == ['20', '2']
    # equal differences in all runs: nothing to test
    assert 'no test, n = 2 runs' in table.notes[0]


def test_tables_3_and_4() -> None:
    third, fourth = tables(frame(), CONFIG)[2:]
    assert third.rows == [
        ['w/o L_adv', '95.00 ± 1.41', '98.10', '75.00 ± 1.41', '80.63', '85.00'],
        ['full', '96.00 ± 1.41', '98.12', '76.00 ± 1.41', '80.03', '86.00'],
    ]
    assert [row[0] for row in fourth.rows] == ['only z_inv', 'only z_inf', 'full']
    assert fourth.rows[0][3:] == ['61.00 ± 1.41', '76.21', '71.00']


def test_latex() -> None:
    text = latex(tables(frame(), CONFIG)[0])
    assert r'MS$\to$SAR & Paper & Parameters (M)' in text
    assert (
        r'KDv1 & ORIG & 65.00 $\pm$ 0.00 $\downarrow$ & 78.38 & 11.0 & 20 & 2 \\'
        in text
    )
    assert r'\begin{tabular}{llrrrrr}' in text
    # no character that LaTeX would take for a command of its own
    assert '_' not in latex(tables(frame(), CONFIG)[2]).replace(r'\_', '')


def test_one_run_and_missing_methods() -> None:
    few = frame().query('run == 0 and method != "KDv1"')
    table = tables(few, CONFIG)[0]
    assert [row[0] for row in table.rows] == ['TEACHER', 'STUDENT', 'DisCoM-KD']
    assert table.rows[1][2] == '70.00'
    assert table.notes == [
        'SAR: DisCoM-KD paper minus STUDENT is +5.00 points; no test, n = 1 runs.'
    ]


def test_lines_know_their_cost() -> None:
    found = {line.method: line for line in lines(frame(), CONFIG, 'multi-modal')}
    assert found['KDv1'].seconds == pytest.approx(40)
    assert found['DisCoM-KD'].gflop == pytest.approx(8000)
    assert discomkd(frame(), 'released').rows.empty


def test_figures_show_every_method() -> None:
    drawn = dict(figures(frame(), CONFIG, []))
    assert set(drawn) == {
        'cross-modal_scores',
        'cross-modal_cost',
        'multi-modal_scores',
        'multi-modal_cost',
        'class_differences',
    }
    [axes] = drawn['cross-modal_scores'].axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ['STUDENT', 'KDv1 ORIG', 'DisCoM-KD paper']
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([71, 65, 76])
    [axes] = drawn['class_differences'].axes
    # MS gains 5 points in every class, SAR too
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([5, 5, 5, 5])


def test_a_class_without_test_samples_in_some_runs() -> None:
    found = frame()
    found.loc[found.run == 1, 'F1_Water'] = float('nan')
    found['F1_Rock'] = float('nan')
    for _, figure in figures(found, CONFIG, []):
        figure.canvas.draw()
    whole, partial = (tables(f, CONFIG) for f in (frame(), found))
    assert list(map(markdown, partial)) == list(map(markdown, whole))

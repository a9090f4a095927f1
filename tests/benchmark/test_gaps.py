# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import shutil
from dataclasses import replace
from itertools import count
from pathlib import Path

import pandas as pd
import pytest

from torchgeo_discomkd.benchmark import BenchmarkConfig, Results, plan, write_report
from torchgeo_discomkd.benchmark.figures import figures
from torchgeo_discomkd.benchmark.gaps import gap_tables, gaps
from torchgeo_discomkd.benchmark.predictions import write_predictions
from torchgeo_discomkd.benchmark.tables import tables
from torchgeo_discomkd.errors import CorruptFileError

from .test_resampling import reference
from .test_tables import row

#: Right samples of 20, by training and modality.
RIGHT = {
    ('student-ms', 'ms'): 18,
    ('student-sar', 'sar'): 10,
    ('student-same-size-sar', 'sar'): 12,
    ('discomkd-paper', 'ms'): 16,
    ('discomkd-paper', 'sar'): 14,
    ('discomkd-paper-transfer', 'ms'): 18,
    ('discomkd-paper-transfer', 'sar'): 16,
}


def samples(right: int, groups: int) -> pd.DataFrame:
    """Return 20 samples of two balanced classes, the same number wrong in both."""
    wrong = (20 - right) // 2
    label = ['0'] * 10 + ['1'] * 10
    zeros, ones = ['0'] * (10 - wrong), ['1'] * (10 - wrong)
    prediction = ['1'] * wrong + zeros + ['0'] * wrong + ones
    columns = {'label': label, 'prediction': prediction}
    columns['group'] = [f'g{i % groups}' for i in range(20)]
    return pd.DataFrame(columns | {'sample': [f'{i}' for i in range(20)]})


def results(
    folder: Path, groups: int = 2, keep: bool = True, finished: int = 2
) -> Results:
    """Return results of two rotations; all samples of a group are alike.

    Runs of a second seed are worse.
    """
    config = BenchmarkConfig(
        results=str(folder),
        data={
            'class_path': 'PairedFoldersDataModule',
            'init_args': {'split_scheme': 'groups', 'group_column': 'event'},
        },
        in_channels={'ms': 13, 'sar': 2},
        num_classes=2,
        scenarios=['cross-modal'],
        methods=[],
        ablations=[],
        extensions=['transfer'],
        runs=2,
        seeds=2 if finished > 2 else 1,
    )
    found = Results(config)
    found.claim()
    for training in plan(config):
        if training.run >= finished:
            continue
        rows = []
        parts = []
        for modality in training.modalities:
            right = RIGHT[training.name, modality] if training.run < 2 else 6
            scores = {'method': training.method, 'variant': training.variant}
            scores |= {'F1': right / 20, 'hardware': f'processor {training.run}'}
            # scores of a run, unlike those of its samples, grow with the run
            values = {'version': '1', 'seed': 0, 'epoch': 0, 'val_F1': 0.5}
            values |= {'OverallAccuracy': 0.5, 'AverageAccuracy': 0.5}
            rows.append(values | row(training.name, modality, scores, training.run))
            parts.append(samples(right, groups).assign(modality=modality))
        found.add(training, rows)
        if keep:
            write_predictions(found.run_folder(training), pd.concat(parts))
    return found


def test_share_of_the_gap(tmp_path: Path) -> None:
    plain, control, guide = gap_tables(gaps(results(tmp_path, groups=1)), first=5)
    assert plain.title == 'Table 5. SAR: share of the gap to MS closed'
    assert plain.header[2:] == ['F1', 'Pooled', 'minus STUDENT', 'Share closed']
    assert control.header[2:] == ['minus same size', 'Share closed']
    assert guide.header[2:] == ['F1', 'minus MS alone']
    assert plain.rows == [
        ['TEACHER', '-', '91.00 ± 1.41', '90.00', '+40.0', '-'],
        ['STUDENT', '-', '51.00 ± 1.41', '50.00', '-', '-'],
        ['STUDENT', 'same size', '61.00 ± 1.41', '60.00', '+10.0', '25 %'],
        ['DisCoM-KD', 'paper', '71.00 ± 1.41', '70.00', '+20.0', '50 %'],
        ['DisCoM-KD', 'paper + transfer', '81.00 ± 1.41', '80.00', '+30.0', '75 %'],
    ]
    assert [r[2:] for r in control.rows[1:]] == [
        ['-10.0', '-33 %'],
        ['-', '-'],
        ['+10.0', '33 %'],
        ['+20.0', '67 %'],
    ]
    assert guide.title == 'Table 7. MS: what teaching SAR costs it'
    assert [r[1:] for r in guide.rows] == [
        ['paper', '81.00 ± 1.41', '-10.0'],
        ['paper + transfer', '91.00 ± 1.41', '+0.0'],
    ]
    # one group cannot be resampled
    assert 'No intervals' in plain.notes[0]


def test_intervals_by_hand(tmp_path: Path) -> None:
    plain, *_ = gap_tables(gaps(results(tmp_path, groups=2)), first=5)
    frames = {k: samples(right, 2) for k, right in RIGHT.items()}
    differences = []
    # both groups, or one of them twice: each has a quarter of the resamples or more
    for part in ('g0', 'g1'):
        own, base = (
            reference(f[f.group == part])
            for f in (frames['discomkd-paper', 'sar'], frames['student-sar', 'sar'])
        )
        differences.append(100 * (own - base))
    low, high = sorted([*differences, 20.0])[::2]
    assert plain.rows[3][4] == f'+20.0 [{low:+.1f}, {high:+.1f}]'
    assert plain.notes[0].endswith("resamples of the 2 groups in 'event'.")


def test_no_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RIGHT, ('student-ms', 'ms'), 10)
    plain, control, _ = gap_tables(gaps(results(tmp_path)), first=5)
    assert plain.rows[3][5] == control.rows[3][3] == 'gap not above zero'


def test_only_samples_of_both_are_compared(tmp_path: Path) -> None:
    # MS lacks the samples that the students of SAR have wrong
    found = results(tmp_path)
    for run in range(2):
        folder = tmp_path / 'runs' / f'run{run}' / 'student-ms'
        frame = samples(18, 2).assign(modality='ms')
        write_predictions(folder, frame[frame['sample'].isin(['5', '6', '18', '19'])])
    plain, *_ = gap_tables(gaps(found), first=5)
    # of these four, all classifiers have all right
    assert [r[3] for r in plain.rows[1:3]] == ['50.00', '60.00']
    assert plain.rows[0][4].startswith('+0.0')
    assert plain.rows[3][5] == 'gap not above zero'


def test_unfinished_seeds_wait(tmp_path: Path) -> None:
    plain, *_ = gap_tables(gaps(results(tmp_path / 'one')), first=5)
    later, *_ = gap_tables(gaps(results(tmp_path / 'more', finished=3)), first=5)
    assert [r[3:] for r in later.rows] == [r[3:] for r in plain.rows]
    assert [r[2] for r in later.rows] != [r[2] for r in plain.rows]


@pytest.mark.parametrize('keep', [True, False])
def test_seeds_that_agree(tmp_path: Path, keep: bool) -> None:
    # all classifiers of the second seed are equal
    found = gaps(results(tmp_path, groups=1, keep=keep, finished=4))
    plain, control, guide = gap_tables(found, first=5)
    gains = ['+20.0 1/2', '-', '+5.0 1/2', '+10.0 1/2', '+15.0 1/2']
    assert [r[4] for r in plain.rows] == gains
    assert control.rows[1][2] == '-5.0 1/2'
    assert [r[3] for r in guide.rows] == ['-5.0 1/2', '+0.0 2/2']
    assert plain.notes[0].endswith(' k/n: k of n seeds have this sign.')


def test_figure_of_gains(tmp_path: Path) -> None:
    found = results(tmp_path)
    [gap] = gaps(found)
    [axes] = dict(figures(found.frame, found.config, [gap]))[
        'cross-modal_sar_gain'
    ].axes
    plain, *_ = gap.tables(count(5))
    cells = {' '.join(r[:2]).removesuffix(' -'): r[4] for r in plain.rows}
    del cells['STUDENT']
    assert [x.get_text() for x in axes.get_yticklabels()] == [*cells]
    points = [x for x in axes.lines if x.get_marker() == 'o']
    bars = [x.get_segments()[0][:, 0] for x in axes.collections]
    for cell, point, (low, high) in zip(cells.values(), points, bars, strict=True):
        [middle] = point.get_xdata()
        assert cell == f'{middle:+.1f} [{low:+.1f}, {high:+.1f}]'


def test_results_without_predictions_have_no_intervals(tmp_path: Path) -> None:
    plain, *_ = gap_tables(gaps(results(tmp_path, keep=False)), first=5)
    assert plain.rows[3][3:] == ['-', '+20.0', '50 %']
    assert 'Not all trainings kept their predictions' in plain.notes[0]


def test_joined_predictions_replace_those_of_trainings(tmp_path: Path) -> None:
    found = results(tmp_path)
    tables = gap_tables(gaps(found), first=5)
    write_report(found)
    shutil.rmtree(tmp_path / 'runs')
    assert gap_tables(gaps(found), first=5) == tables
    before = (tmp_path / 'predictions.csv.gz').read_bytes()
    write_report(found)
    assert (tmp_path / 'predictions.csv.gz').read_bytes() == before
    read = pd.read_csv(tmp_path / 'predictions.csv.gz')
    keys = ['run', 'training', 'modality']
    right = (read.label == read.prediction).groupby([read[k] for k in keys]).sum()
    assert {key[1:]: n for key, n in right.items() if key[0] == 1} == RIGHT
    (tmp_path / 'predictions.csv.gz').write_bytes(before[:-40])
    with pytest.raises(CorruptFileError, match=r'predictions\.csv\.gz is damaged'):
        gap_tables(gaps(found), first=5)


def test_damaged_predictions_are_named(tmp_path: Path) -> None:
    found = results(tmp_path)
    (found.run_folder(plan(found.config)[0]) / 'test_predictions.csv').write_text('a')
    with pytest.raises(CorruptFileError, match=r'test_predictions\.csv'):
        gap_tables(gaps(found), first=5)


def test_significance_against_all(tmp_path: Path) -> None:
    found = results(tmp_path, keep=False)
    notes = tables(found.frame, found.config)[0].notes
    assert [note.partition(' points')[0] for note in notes] == [
        'SAR: DisCoM-KD paper minus STUDENT is +20.00',
        'SAR: DisCoM-KD paper minus STUDENT same size is +10.00',
        'SAR: DisCoM-KD paper + transfer minus STUDENT is +30.00',
        'SAR: DisCoM-KD paper + transfer minus STUDENT same size is +20.00',
    ]
    # two runs with the same split are one observation
    config = replace(found.config, runs=1, seeds=2)
    note = tables(found.frame, config)[0].notes[0]
    assert note.endswith('no test, n = 1 rotations (2 seeds each).')


def test_results_of_an_earlier_version_continue(tmp_path: Path) -> None:
    config, folder = results(tmp_path, keep=False).config, tmp_path
    frame = pd.read_csv(folder / 'results.csv')
    old = frame[frame.variant.isin(['-', 'paper'])]
    old.drop(columns=['version', 'hardware']).to_csv(
        folder / 'results.csv', index=False
    )
    found = Results(config)
    assert {r['hardware'] for r in found.rows} == {'-'}
    left = {t.name for t in plan(config) if not found.finished(t)}
    assert left == {'student-same-size-sar', 'discomkd-paper-transfer'}
    write_report(found)
    text = (folder / 'tables.md').read_text()
    assert 'run 1: student-same-size-sar: not done yet' in text
    assert 'Origin' not in text


def test_report_names_the_machines(tmp_path: Path) -> None:
    write_report(results(tmp_path))
    text = (tmp_path / 'tables.md').read_text()
    assert '- 1, processor 0: 7 rows\n- 1, processor 1: 7 rows\n' in text
    wide = [x for x in text.splitlines() if x.startswith('| DisCoM') and '[' in x]
    assert wide
    assert max(map(len, wide)) <= 100

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""The tables of docs/study_results.md are those of the committed results."""

import runpy
from pathlib import Path

import pandas as pd
import pytest

from torchgeo_discomkd.benchmark.report import markdown

from .candidates import as_table, compare, trained

DOCS = Path(__file__).parents[2] / 'docs'


def test_tables_of_the_study(capsys: pytest.CaptureFixture[str]) -> None:
    script = runpy.run_path(f'{DOCS / "gains.py"}')
    found = {
        title: script['read_gap'](DOCS / 'results' / folder)
        for folder, title in (script['BENCHMARKS'] | script['ADOPTED']).items()
    }
    script['print_tables'](found)
    page = (DOCS / 'study_results.md').read_text()
    tables = [x for x in capsys.readouterr().out.split('\n\n') if x.startswith('| ')]
    assert len(tables) == len(found)
    for table in tables:
        assert table in page


def test_table_of_the_candidates() -> None:
    results = DOCS / 'results'
    table = pd.read_csv(results / 'candidates_32x32.csv')
    folders = results / 'floods_32x32', results / 'landcover_transfer_32x32'
    known = pd.concat([table, *map(trained, folders)], ignore_index=True)
    keys = ['candidate', 'benchmark', 'rotation', 'seed']
    page = (DOCS / 'study_results.md').read_text()
    found = markdown(as_table(compare(known.drop_duplicates(keys))))
    assert found.removeprefix('## Candidates\n\n') in page

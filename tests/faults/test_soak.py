# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path

import pytest

from .soak import Sample, is_flat, soak


def test_memory_and_files_stay_flat(tmp_path: Path) -> None:
    for name, tiles in (('warm', 50), ('long', 300)):
        (tmp_path / name).mkdir()
        samples = soak(tiles, 8, tmp_path / name)
    assert len(samples) > 4
    assert is_flat(samples)


@pytest.mark.parametrize(
    ('leak', 'files', 'flat'),
    [(0.0, 0, True), (100.0, 0, False), (0.0, 2, False), (10.0, 0, True)],
)
def test_growth_is_seen(leak: float, files: int, flat: bool) -> None:
    samples = [
        # memory per 100 000 tiles, after a warm-up that counts for nothing
        Sample(n, n / 100, 500 + min(n, 5e4) / 1e3 + leak * n / 1e5, 20 + files * n)
        for n in range(0, 200_000, 1000)
    ]
    assert is_flat(samples) is flat

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path

import pytest
from torchgeo.datamodules import eurosat

from tests.fakes import write_eurosat
from torchgeo_discomkd.datamodules import EuroSATMSSARDataModule


@pytest.mark.parametrize('scheme', ['paper', 'spatial'])
def test_published_statistics(tmp_path: Path, scheme: str) -> None:
    write_eurosat(tmp_path, 13)
    names = [path.name for path in sorted(tmp_path.glob('EuroSAT_MS/*/*.tif'))]
    for i, split in enumerate(('train', 'val', 'test')):
        file = tmp_path / f'eurosat-spatial-{split}.txt'
        file.write_text('\n'.join(n.replace('.tif', '.jpg') for n in names[i::3]))
    kwargs = {'split_scheme': scheme, 'bands': {'ms': ['B8A', 'B02']}}
    own = EuroSATMSSARDataModule(str(tmp_path), **kwargs)
    published = EuroSATMSSARDataModule(
        str(tmp_path), published_statistics=True, **kwargs
    )
    for datamodule in (own, published):
        datamodule.setup('fit')
    spatial = scheme == 'spatial'
    mean = eurosat.SPATIAL_MEAN if spatial else eurosat.MEAN
    std = eurosat.SPATIAL_STD if spatial else eurosat.STD
    statistics = published.statistics['ms']
    assert statistics.bands == ('B8A', 'B02')
    assert statistics.mean == (mean['B8A'], mean['B02'])
    assert statistics.std == (std['B8A'], std['B02'])
    assert own.statistics['ms'].mean != statistics.mean
    assert own.statistics['ms'].low == statistics.low
    assert own.statistics['sar'] == published.statistics['sar']

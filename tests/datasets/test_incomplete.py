# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Modalities that lack samples, or whole classes."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fakes import write_pairs
from tests.labels import LABELS, write_labels
from torchgeo_discomkd.datamodules import PairedFoldersDataModule
from torchgeo_discomkd.datasets import (
    IncompletePairs,
    PairedArrays,
    PairedFolders,
    band_statistics,
    collate_samples,
)
from torchgeo_discomkd.errors import ModalityError, PairingError, SplitError

from .conftest import SMALL, stems


def sources(root: Path, split: str = 'train', **kwargs: Any) -> dict[str, Any]:
    return {
        m: PairedFolders(str(root), split, modalities=[m], missing='keep', **kwargs)
        for m in SMALL
    }


@pytest.fixture
def gaps(root: Path) -> Path:
    """The data of :func:`root`, without the radar image of a training sample."""
    train = PairedFolders(str(root))
    (root / 'sar' / f'{train.identifier(3)}.tif').unlink()
    return root


def test_what_a_sample_lacks(gaps: Path) -> None:
    parts = sources(gaps)
    pairs = IncompletePairs(parts)
    assert len(pairs) == len(parts['ms']) == len(parts['sar']) + 1
    [lost] = (~pairs.present['sar']).nonzero().flatten().tolist()
    assert pairs.present['ms'].all()
    for index in range(len(pairs)):
        sample, name = pairs[index], pairs.identifier(index)
        assert pairs.classes[int(sample['label'])] == name.split('/')[0]
        assert bool(sample['present_sar']) == (index != lost)
        assert sample['image_sar'].shape == SMALL['sar']
        for m, part in parts.items():
            if sample[f'present_{m}']:
                own = part[stems(part).index(name)][f'image_{m}']
                assert torch.equal(sample[f'image_{m}'], own)
            else:
                assert sample[f'image_{m}'].isnan().all()
    indexes = [lost, 0, lost + 1]
    batch = collate_samples(pairs.__getitems__(indexes))
    single = collate_samples([pairs[i] for i in indexes])
    assert batch.keys() == single.keys()
    for key, value in single.items():
        torch.testing.assert_close(batch[key], value, equal_nan=True)
    assert pairs.locate(lost, 'sar') is None
    own = f'{len(pairs) - 1} with all modalities (ms {len(pairs)}, sar'
    assert own in pairs.report()[-1]


def test_statistics_of_a_modality_are_those_of_its_own_images(gaps: Path) -> None:
    datamodule = PairedFoldersDataModule(
        str(gaps), paired=True, missing='keep', allow_missing=True, batch_size=4
    )
    datamodule.setup('fit')
    for modality, part in sources(gaps).items():
        assert datamodule.statistics[modality] == band_statistics(part, modality)
    assert datamodule.statistics['ms'].count > datamodule.statistics['sar'].count
    seen = {'ms': 0, 'sar': 0}
    for batch in datamodule.train_dataloader():
        for m in seen:
            seen[m] += int(batch[f'present_{m}'].sum())
    assert seen == {m: len(part) for m, part in sources(gaps).items()}


def test_sources_that_disagree(gaps: Path) -> None:
    parts = sources(gaps)
    parts['sar'].labels = 1 - parts['sar'].labels
    with pytest.raises(PairingError, match=r"samples of 'sar' are not those of the"):
        IncompletePairs(parts)
    with pytest.raises(ModalityError, match="source of 'ms'"):
        IncompletePairs({'ms': parts['sar']})


def test_a_class_that_a_modality_never_shows(root: Path) -> None:
    write_pairs(root, ['Sand'], count=20, shapes={'ms': SMALL['ms']})
    told = 'has no sample of Sand in {}, only in other modalities: a classifier that'
    with pytest.warns(UserWarning, match=told.format('sar')):
        sar = PairedFolders(str(root), modalities=['sar'], missing='keep')
    with pytest.warns(UserWarning, match=told.format('ms and sar')):
        PairedFolders(str(root), missing='keep')
    assert sar.classes == ('Crop', 'Sand', 'Water')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        ms = PairedFolders(str(root), modalities=['ms'], missing='keep')
    assert set(ms.labels.tolist()) == {0, 1, 2}
    # without the samples of their own there is nothing to learn the class from
    with pytest.raises(SplitError, match='no sample of Sand: training needs'):
        PairedFolders(str(root), missing='skip')
    with pytest.raises(SplitError, match='no sample of Snow: training needs'):
        PairedFolders(str(root), missing='keep', classes=[*sar.classes, 'Snow'])


def test_several_labels(tmp_path: Path) -> None:
    root = str(write_labels(tmp_path / 'arrays'))
    parts = {
        m: PairedArrays(root, modalities=[m], classes=LABELS, task='multilabel')
        for m in ('ms', 'sar')
    }
    pairs = IncompletePairs(parts)
    assert pairs.task == 'multilabel'
    names = [parts['ms'].identifier(i) for i in range(len(parts['ms']))]
    for index in range(len(pairs)):
        row = names.index(pairs.identifier(index))
        assert torch.equal(pairs[index]['label'], parts['ms'].labels[row])

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import json
from dataclasses import replace
from typing import Any

import pytest

from torchgeo_discomkd.errors import ClassifierFileError
from torchgeo_discomkd.models import ClassifierMetadata, ModalityMetadata

SAR = ModalityMetadata(in_channels=2, bands=('VV', 'VH'), unit='dB', tile_size=(64, 48))
MS = ModalityMetadata(in_channels=1, bands=('B04',), unit='', tile_size=None)
METADATA = ClassifierMetadata(
    kind='disentangled',
    model='resnet18',
    classes=('Forest', 'Forêt', 'Water'),
    modalities={'sar': SAR},
    head='linear_bn_relu',
    normalization='standardize',
    temperature=1.5,
    scores={'val_sar_F1Score': 0.1 + 0.2},
    epoch=3,
    data_fingerprint='0123',
    split_hash='4567',
    seed=None,
    version='0.1.0',
)
FUSION = replace(METADATA, kind='fusion', head=None, modalities={'sar': SAR, 'ms': MS})


@pytest.mark.parametrize('metadata', [METADATA, FUSION])
def test_json(metadata: ClassifierMetadata) -> None:
    text = metadata.to_json()
    assert json.loads(text)['format_version'] == 2
    assert ClassifierMetadata.from_json(text) == metadata


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'kind': 'other'}, "kind='other' is unknown"),
        ({'head': None}, 'has one modality and a head'),
        ({'modalities': {'sar': SAR, 'ms': MS}}, 'has one modality and a head'),
        ({'kind': 'fusion', 'modalities': {}}, 'one modality or more'),
        ({'classes': ()}, 'one class or more'),
        ({'classes': ('a', 'a')}, 'not distinct'),
        ({'temperature': 0.0}, 'temperature=0.0 is not positive'),
        ({'temperature': float('nan')}, 'temperature=nan is not positive'),
        ({'modalities': {'sar': replace(SAR, in_channels=3)}}, "'sar' has 3 channels"),
    ],
)
def test_contradiction(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ClassifierFileError, match=message):
        replace(METADATA, **changes)


@pytest.mark.parametrize('version', [None, 0, 3, '1'])
def test_unknown_format_version(version: Any) -> None:
    values = json.loads(METADATA.to_json()) | {'format_version': version}
    with pytest.raises(ClassifierFileError, match=f'format version {version}, but'):
        ClassifierMetadata.from_json(json.dumps(values))


@pytest.mark.parametrize('text', ['', '{', 'sar'])
def test_no_json(text: str) -> None:
    with pytest.raises(ClassifierFileError, match='not JSON'):
        ClassifierMetadata.from_json(text)


def test_no_object() -> None:
    with pytest.raises(ClassifierFileError, match='format version None'):
        ClassifierMetadata.from_json('[1]')


def test_fields() -> None:
    values = json.loads(METADATA.to_json())
    del values['classes'], values['head']
    with pytest.raises(ClassifierFileError, match=r"fields \['classes', 'head'\]"):
        ClassifierMetadata.from_json(json.dumps(values))
    values = json.loads(METADATA.to_json()) | {'colour': 1}
    with pytest.raises(ClassifierFileError, match=r"unknown fields \['colour'\]"):
        ClassifierMetadata.from_json(json.dumps(values))
    values = json.loads(METADATA.to_json())
    del values['modalities']['sar']['unit']
    with pytest.raises(ClassifierFileError, match=r"fields \['unit'\]"):
        ClassifierMetadata.from_json(json.dumps(values))


@pytest.mark.parametrize(
    'changes', [{'modalities': 3}, {'classes': None}, {'temperature': 'high'}]
)
def test_wrong_type(changes: dict[str, Any]) -> None:
    values = json.loads(METADATA.to_json()) | changes
    with pytest.raises(ClassifierFileError, match='wrong type'):
        ClassifierMetadata.from_json(json.dumps(values))

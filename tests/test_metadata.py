# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import json
from dataclasses import replace
from typing import Any

import pytest

from torchgeo_discomkd.errors import ClassifierFileError
from torchgeo_discomkd.models import ClassifierMetadata, ImageProfile, ModalityMetadata

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
PROFILE = ImageProfile(
    quantiles=((-30, -25, -22, -15, -11, -9, -6, -4, 8.5), tuple(range(9))),
    means=((-20.9, -5.1), (-25, 0.1 + 0.2)),
    stds=((2.1, 7.4), (0, 1e-9)),
    tiles=173,
    pixel_size=10.0,
    crs_kind='projected',
)
PROFILED = replace(METADATA, modalities={'sar': replace(SAR, profile=PROFILE)})
SOMEWHERE = replace(PROFILE, pixel_size=None, crs_kind=None)


@pytest.mark.parametrize(
    'metadata',
    [
        METADATA,
        FUSION,
        PROFILED,
        replace(METADATA, modalities={'sar': replace(SAR, profile=SOMEWHERE)}),
    ],
)
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


@pytest.mark.parametrize('version', [None, 0, 4, '1'])
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


def test_first_version_has_no_profiles() -> None:
    values = json.loads(METADATA.to_json()) | {'format_version': 1}
    del values['modalities']['sar']['profile']
    assert ClassifierMetadata.from_json(json.dumps(values)) == METADATA


def with_profile(**changes: Any) -> str:
    """Return the JSON of PROFILED with changes of the profile."""
    values = json.loads(PROFILED.to_json())
    profile = values['modalities']['sar']['profile'] | changes
    profile = {k: v for k, v in profile.items() if v != 'absent'}
    values['modalities']['sar']['profile'] = profile
    return json.dumps(values)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'median': 1}, r"unknown fields \['median'\]"),
        (
            {'means': 'absent', 'tiles': 'absent'},
            r"lack the fields \['means', 'tiles'\]",
        ),
        ({'means': 3}, 'wrong type'),
        ({'stds': [None, None]}, 'wrong type'),
        # of one band, or of other quantiles
        ({'stds': [[2.1, 7.4]]}, "profile of 'sar' is not one of 2 bands"),
        ({'means': [[-20.9, -5.1]] * 3}, "profile of 'sar' is not one of 2 bands"),
        ({'means': [[-20.9], [-5.1]]}, 'wrong type: Expected `array` of length 2'),
        ({'quantiles': [[1, 2, 3]] * 2}, "profile of 'sar' is not one of 2 bands"),
    ],
)
def test_wrong_profile(changes: dict[str, Any], message: str) -> None:
    assert ClassifierMetadata.from_json(with_profile()) == PROFILED
    with pytest.raises(ClassifierFileError, match=message):
        ClassifierMetadata.from_json(with_profile(**changes))

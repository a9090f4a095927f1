# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import re
from collections.abc import Mapping, Sequence

import pytest
import torch

from torchgeo_discomkd.errors import BandError, ModalityError, UserError
from torchgeo_discomkd.transforms import ImageToModalities, ModalityToImage

MODALITIES = {'optical': ('B4', 'B2'), 'radar': ('VV',)}


def test_modality_becomes_image() -> None:
    image, other = torch.rand(2, 8, 8), torch.rand(3, 8, 8)
    sample = {'image_s1': image, 'image_s2': other, 'label': 4, 'index': 7, 'name': 'a'}
    found = ModalityToImage('s1')(sample)
    assert found.pop('image') is image
    assert found == {'label': 4, 'index': 7, 'name': 'a'}


def test_labels_of_unpaired_batches_follow() -> None:
    batch = {'image_s1': 1, 'label_s1': 2, 'label_s2': 3, 'index_s1': 4, 'index_s2': 5}
    assert ModalityToImage('s1')(batch) == {'image': 1, 'label': 2, 'index': 4}


@pytest.mark.parametrize('shape', [(3, 8, 8), (4, 3, 8, 8)])
def test_image_is_split_by_names(shape: tuple[int, ...]) -> None:
    image = torch.rand(shape)
    sample = {'image': image, 'label': torch.tensor(1)}
    found = ImageToModalities(('B2', 'VV', 'B4'), MODALITIES)(sample)
    assert list(found) == ['image_optical', 'image_radar', 'label']
    assert torch.equal(found['image_optical'], image[..., [2, 0], :, :])
    assert torch.equal(found['image_radar'], image[..., [1], :, :])
    assert 'image' in sample


@pytest.mark.parametrize(
    ('bands', 'modalities', 'error', 'message'),
    [
        (('B2', 'VV'), MODALITIES, BandError, "out of ['B2', 'VV']"),
        (('B2', 'B2'), {'optical': ('B2',)}, BandError, 'twice'),
        (('B2',), {'optical': ('B2', 'B2')}, BandError, 'at most once'),
        (('B2',), {'optical': ()}, BandError, "'optical' are []"),
        (('B2',), {}, ModalityError, 'at least one'),
    ],
)
def test_wrong_names_are_refused(
    bands: Sequence[str],
    modalities: Mapping[str, Sequence[str]],
    error: type[UserError],
    message: str,
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        ImageToModalities(bands, modalities)


def test_other_samples_are_refused() -> None:
    split = ImageToModalities(('B2', 'VV', 'B4'), MODALITIES)
    with pytest.raises(BandError, match=r'\(4, 8, 8\), but 3 bands are named'):
        split({'image': torch.zeros(4, 8, 8)})
    with pytest.raises(ModalityError, match=r"\['image_ms'\], but no 'image'"):
        split({'image_ms': torch.zeros(3, 8, 8)})
    with pytest.raises(
        ModalityError, match=r"\['image_ms'\], but no image_sar.*paired"
    ):
        ModalityToImage('sar')({'image_ms': torch.zeros(3, 8, 8)})

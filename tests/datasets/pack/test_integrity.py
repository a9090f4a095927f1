# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Packs in which bits have changed, or whose parts do not fit together."""

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes import pack_folders
from torchgeo_discomkd.datasets import PairedFolders
from torchgeo_discomkd.errors import PackError, UserError

from .test_reader import unpack


def parts(content: bytes) -> tuple[dict[str, Any], int]:
    """Return the header of a pack and the position of its first tensor."""
    length = int.from_bytes(content[:8], 'little')
    return json.loads(content[8 : 8 + length]), 8 + length


def flip(path: Path, content: bytes, position: int, bit: int = 0) -> None:
    changed = bytearray(content)
    changed[position] ^= 1 << bit
    path.write_bytes(changed)


def read_all(path: Path) -> None:
    for split in ('train', 'val', 'test'):
        data = PairedFolders(str(path), split)
        for modality in data.modalities:
            data.load_batch(list(range(len(data))), modality)


def test_every_tensor_is_checked(pairs: Path) -> None:
    path = pack_folders(pairs)
    content = path.read_bytes()
    header, start = parts(content)
    read_all(path)
    rng = np.random.default_rng(0)
    for key, entry in header.items():
        if key != '__metadata__':
            position = start + int(rng.integers(*entry['data_offsets']))
            flip(path, content, position, int(rng.integers(8)))
            with pytest.raises(PackError, match=r'damaged'):
                read_all(path)


def test_resident_images_are_checked_too(pairs: Path) -> None:
    path = pack_folders(pairs)
    content = path.read_bytes()
    header, start = parts(content)
    assert PairedFolders(str(path)).mapped('ms') is not None
    flip(path, content, start + header['image.ms']['data_offsets'][1] - 1)
    with pytest.raises(PackError, match=r"image 39 of 'ms' does not match"):
        PairedFolders(str(path)).mapped('ms')


def test_flipped_bits_of_the_header(pairs: Path) -> None:
    path = pack_folders(pairs)
    content = path.read_bytes()
    text = json.dumps(parts(content)[0])
    rng = np.random.default_rng(1)
    for position in rng.integers(8, len(text), size=12).tolist():
        flip(path, content, position, int(rng.integers(8)))
        with pytest.raises(UserError):
            read_all(path)


def test_packs_without_checksums_load_with_a_note(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    path = unpack('folders', tmp_path)
    PairedFolders(path)
    assert f'note: {path} has no checksums' in caplog.text


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the header of a pack that has no checksum."""
    content = path.read_bytes()
    header, start = parts(content)
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, 'little') + text + content[start:])


def described(change: Callable[[dict[str, Any]], object]) -> Callable[..., None]:
    """Change the metadata of a pack."""

    def apply(header: dict[str, Any]) -> None:
        values = json.loads(header['__metadata__']['torchgeo_discomkd_pack'])
        change(values)
        header['__metadata__']['torchgeo_discomkd_pack'] = json.dumps(values)

    return apply


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (described(lambda v: v.update(bases='ab')), 'bases'),
        (described(lambda v: v.update(crs=[1])), 'crs'),
        (described(lambda v: v.update(layout='tables')), 'layout'),
        (described(lambda v: v['modalities'].update(ms=None)), 'modalities'),
        (described(lambda v: v['modalities']['ms'].update(nodata='0')), 'nodata'),
        (
            lambda h: h.update(other=h.pop('image.ms')),
            "'ms' lacks its images or their paths",
        ),
        (
            lambda h: h['image.ms'].update(shape=[*h['image.ms']['shape'], 1]),
            "'ms' has images of type .* and shape",
        ),
        (
            lambda h: h['transform.ms'].update(shape=h['transform.ms']['shape'][::-1]),
            r"has \['transform'\] that do not fit",
        ),
    ],
)
def test_parts_that_do_not_fit(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    path = Path(unpack('folders', tmp_path))
    rewrite(path, change)
    with pytest.raises(PackError, match=message):
        read_all(path)


def test_systems_without_preadv_check_too(
    pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pack_folders(pairs)
    content = path.read_bytes()
    header, start = parts(content)
    monkeypatch.delattr(os, 'preadv')
    flip(path, content, start + header['image.sar']['data_offsets'][0])
    with pytest.raises(PackError, match=r"image 0 of 'sar'"):
        read_all(path)

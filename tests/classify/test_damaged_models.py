# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Model files that were damaged, or made to use up memory."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from torchgeo_discomkd.classify import load_predictor
from torchgeo_discomkd.errors import ClassifierFileError, UserError
from torchgeo_discomkd.files import CHECKSUM
from torchgeo_discomkd.metadata import KEY
from torchgeo_discomkd.models import FusionClassifier, load_classifier, save_classifier

from ..export.classifiers import metadata, sar

KINDS = ('safetensors', 'onnx', 'pt2')


def flip(content: bytes, position: int, bit: int) -> bytes:
    changed = bytearray(content)
    changed[position] ^= 1 << bit
    return bytes(changed)


def weights(path: Path) -> tuple[int, int]:
    """Return where the numbers of a model file begin and end."""
    content = path.read_bytes()
    match path.suffix:
        case '.safetensors':
            return 8 + int.from_bytes(content[:8], 'little'), len(content)
        case '.onnx':
            largest = max(onnx.load(path).graph.initializer, key=lambda t: t.ByteSize())
            start = content.index(largest.raw_data)
            return start, start + len(largest.raw_data)
        case _:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                entries = [
                    i for i in archive.infolist() if '/weights/weight' in i.filename
                ]
            largest = max(entries, key=lambda i: i.file_size)
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                start = content.index(archive.read(largest))
            return start, start + largest.file_size


@pytest.mark.parametrize('kind', KINDS)
def test_every_flipped_bit_of_weights_is_found(
    files: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    content, path = files[kind].read_bytes(), tmp_path / f'sar.{kind}'
    start, end = weights(files[kind])
    rng = np.random.default_rng(0)
    for position in [start, end - 1, *rng.integers(start, end, 4).tolist()]:
        path.write_bytes(flip(content, position, int(rng.integers(8))))
        with pytest.raises(ClassifierFileError, match=rf'sar\.{kind} is (da|tr)'):
            load_predictor(path, device='cpu')


@pytest.mark.parametrize('kind', KINDS)
def test_a_flipped_bit_anywhere_changes_no_result(
    files: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    content, path, images = files[kind].read_bytes(), tmp_path / f'sar.{kind}', sar(2)
    right = load_predictor(files[kind], device='cpu').probabilities(images)
    rng = np.random.default_rng(1)
    # half of them in the descriptions, at the begin or the end of a file
    size = len(content)
    places = [*rng.integers(size, size=4), *rng.integers(3000, size=4)]
    for position in [*places, *rng.integers(size - 3000, size, size=4)]:
        path.write_bytes(flip(content, int(position), int(rng.integers(8))))
        try:
            found = load_predictor(path, device='cpu').probabilities(images)
        except UserError:
            continue
        np.testing.assert_array_equal(found, right)


def test_changed_description_is_found(files: dict[str, Path], tmp_path: Path) -> None:
    # a valid description, with another order of classes
    path = tmp_path / 'sar.safetensors'
    with safe_open(files['safetensors'], framework='pt') as file:
        header = file.metadata()
    values = json.loads(header[KEY])
    header[KEY] = json.dumps(values | {'classes': values['classes'][::-1]})
    save_file(load_file(files['safetensors']), path, metadata=header)
    with pytest.raises(ClassifierFileError, match=r'sar\.safetensors is damaged'):
        load_predictor(path)


def without_checksum(source: Path, path: Path) -> Path:
    match source.suffix:
        case '.safetensors':
            with safe_open(source, framework='pt') as file:
                header = {KEY: file.metadata()[KEY]}
            save_file(load_file(source), path, metadata=header)
        case '.onnx':
            model = onnx.load(source)
            assert model.metadata_props.pop().key == CHECKSUM
            onnx.save(model, path)
        case _:
            rewrite(source, path, lambda n, c: None if n.endswith('_sha256') else c)
    return path


def rewrite(
    source: Path,
    path: Path,
    change: Callable[[str, bytes], bytes | None],
    compression: int = zipfile.ZIP_STORED,
) -> None:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, 'w', compression) as new:
        for name in old.namelist():
            if (content := change(name, old.read(name))) is not None:
                new.writestr(name, content)


@pytest.mark.parametrize('kind', KINDS)
def test_files_without_a_checksum_load_with_a_note(
    files: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    right = load_predictor(files[kind], device='cpu').probabilities(sar(2))
    assert not caplog.text
    path = without_checksum(files[kind], tmp_path / f'sar.{kind}')
    found = load_predictor(path, device='cpu').probabilities(sar(2))
    np.testing.assert_array_equal(found, right)
    assert f'note: {path} has no checksum' in caplog.text


def test_onnx_that_was_saved_again(files: dict[str, Path], tmp_path: Path) -> None:
    path, model = tmp_path / 'sar.onnx', onnx.load(files['onnx'])
    # no longer at the end, as if another program had written the file
    onnx.helper.set_model_props(
        model, {p.key: p.value for p in model.metadata_props} | {'z': ''}
    )
    onnx.save(model, path)
    with pytest.raises(ClassifierFileError, match='damaged, or was changed after'):
        load_predictor(path)


def described(
    source: Path, path: Path, change: Callable[[dict[str, Any]], Any]
) -> Path:
    """Copy a model file without its checksum and with other metadata."""
    without_checksum(source, path)

    def changed(text: str | bytes) -> str:
        values = json.loads(text)
        change(values)
        return json.dumps(values)

    match path.suffix:
        case '.safetensors':
            with safe_open(path, framework='pt') as file:
                header = {KEY: changed(file.metadata()[KEY])}
            save_file(load_file(path), path, metadata=header)
        case '.onnx':
            model = onnx.load(path)
            (entry,) = (p for p in model.metadata_props if p.key == KEY)
            entry.value = changed(entry.value)
            onnx.save(model, path)
        case _:
            old = path.rename(path.with_name('old'))
            rewrite(
                old, path, lambda n, c: changed(c).encode() if n.endswith(KEY) else c
            )
    return path


def sized(values: dict[str, Any], size: Any) -> None:
    values['modalities']['sar']['tile_size'] = size


def banded(values: dict[str, Any], count: Any, bands: Any) -> None:
    values['modalities']['sar'].update(in_channels=count, bands=bands)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda v: sized(v, [10**9, 10**9]), r'wrong type: .*tile_size'),
        (lambda v: sized(v, [32, 0]), r'wrong type: .*tile_size'),
        (lambda v: sized(v, [32.5, 32]), r'wrong type: .*tile_size'),
        (lambda v: sized(v, [50_000, 50_000]), 'more than 67108864 values'),
        (lambda v: banded(v, 10**9, ['a']), r'wrong type: .*in_channels'),
        (lambda v: banded(v, True, ['a']), r'wrong type: .*in_channels'),
        (lambda v: banded(v, 2, [1, 2]), r'wrong type: .*bands'),
        (lambda v: v.update(classes='ab'), r'wrong type: .*classes'),
        (lambda v: v.update(classes=['a' * 10**6]), r'wrong type: .*classes'),
        (lambda v: v.update(temperature=1e999), r'temperature=inf'),
        (lambda v: v.update(temperature='1'), r'wrong type: .*temperature'),
        (lambda v: v.update(model=['resnet18']), r'wrong type: .*model'),
        (lambda v: v.update(scores={'a': 'b'}), r'wrong type: .*scores'),
        (lambda v: v.update(modalities={'sar': None}), 'wrong type'),
        (lambda v: v.update(epoch=-1), r'wrong type: .*epoch'),
    ],
)
def test_types_and_ranges(
    files: dict[str, Path],
    tmp_path: Path,
    change: Callable[[dict[str, Any]], Any],
    message: str,
) -> None:
    path = described(files['safetensors'], tmp_path / 'sar.safetensors', change)
    with pytest.raises(ClassifierFileError, match=message):
        load_predictor(path, device='cpu')


@pytest.mark.parametrize('kind', KINDS)
def test_size_of_a_tile_in_all_kinds(
    files: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    huge = described(
        files[kind], tmp_path / f'sar.{kind}', lambda v: sized(v, [10**9, 10**9])
    )
    with pytest.raises(ClassifierFileError, match=r'wrong type: .*tile_size'):
        load_predictor(huge, device='cpu')


def test_larger_network_takes_no_memory(files: dict[str, Path], tmp_path: Path) -> None:
    # 9 GB of weights are described, but the file has 0.3 MB
    path = described(
        files['safetensors'],
        tmp_path / 'sar.safetensors',
        lambda values: values.update(model='vit_giant_patch14_dinov2'),
    )
    with pytest.raises(ClassifierFileError, match=r'do not fit its .* differ'):
        load_predictor(path)


def test_network_with_tensors_that_are_no_weights(tmp_path: Path) -> None:
    network = (
        FusionClassifier({'sar': 2}, 3, 'test_coatnet').eval().requires_grad_(False)
    )
    described = metadata(kind='fusion', head=None, model='test_coatnet')
    path = tmp_path / 'sar.safetensors'
    save_classifier(path, network, described)
    images = torch.from_numpy(sar(2, size=(160, 160)))
    torch.testing.assert_close(load_classifier(path)(images), network(images))


def test_archive_that_unpacks_to_more(files: dict[str, Path], tmp_path: Path) -> None:
    path, old = tmp_path / 'sar.pt2', files['pt2']

    def grow(name: str, content: bytes) -> bytes:
        if name.endswith('weights_config.json'):
            return content.replace(b'"as_int": 48}', b'"as_int": 48000}')
        return content

    def inflate(name: str, content: bytes) -> bytes:
        return (
            bytes(10**5) if name.endswith('/weights/weight_0') else grow(name, content)
        )

    for change, message in ((grow, 'bytes instead of'), (inflate, 'bytes instead of')):
        rewrite(old, path, change, zipfile.ZIP_DEFLATED)
        with pytest.raises(ClassifierFileError, match=message):
            load_predictor(path)
    # as large as described, but compressed
    rewrite(
        old,
        path,
        lambda n, c: bytes(len(c)) if '/weights/weight_' in n else c,
        zipfile.ZIP_DEFLATED,
    )
    with pytest.raises(ClassifierFileError, match=r'would unpack to .* not loaded'):
        load_predictor(path)
    rewrite(
        old,
        path,
        lambda n, c: b' ' * 2**25 if n.endswith('weights_config.json') else c,
        zipfile.ZIP_DEFLATED,
    )
    with pytest.raises(ClassifierFileError, match='more than 16 MB'):
        load_predictor(path)


def test_onnx_that_returns_no_probabilities(
    tmp_path: Path, files: dict[str, Path]
) -> None:
    path, model = tmp_path / 'sar.onnx', onnx.load(files['onnx'])
    softmax = next(n for n in model.graph.node if n.op_type == 'Softmax')
    softmax.op_type = 'Identity'
    del softmax.attribute[:]
    model.metadata_props.pop()
    onnx.save(model, path)
    predictor = load_predictor(path, device='cpu')
    with pytest.raises(ClassifierFileError, match=r'no probabilities .* softmax'):
        predictor.probabilities(sar(2))

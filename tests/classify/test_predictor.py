# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import io
import json
import pickle
import shutil
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file

from torchgeo_discomkd.classify.predictor import Predictor, load_predictor
from torchgeo_discomkd.commands import main
from torchgeo_discomkd.errors import (
    BandError,
    ClassifierFileError,
    ModalityError,
    SettingError,
    TileSizeError,
    UserError,
)
from torchgeo_discomkd.models import load_classifier, load_metadata
from torchgeo_discomkd.tasks import DisCoMKD, FusionClassification

from ..export.classifiers import CLASSES, MS, SAR, sar, write_classifier
from ..fakes import write_pairs
from .conftest import KINDS


@pytest.fixture
def trap(tmp_path: Path) -> Any:
    """Object that makes a file when it is unpickled; the test fails if it did."""
    mark = tmp_path / 'executed'

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (mark,)

    yield Trap()
    assert not mark.exists()


class TestPredictor:
    @pytest.mark.parametrize('kind', KINDS)
    @pytest.mark.parametrize('modality', [None, 'sar'])
    def test_probabilities(
        self, files: dict[str, Path], kind: str, modality: str | None
    ) -> None:
        predictor = load_predictor(files[kind], modality, 'cpu')
        assert isinstance(predictor, Predictor)
        assert predictor.modality == 'sar'
        assert predictor.device == 'cpu'
        assert predictor.metadata == load_metadata(files['safetensors'])
        assert predictor.metadata.classes == CLASSES
        images = sar(5)
        images[0, 0, :9] = np.nan
        images[1] = np.inf
        original = images.copy()
        loaded = load_classifier(files['safetensors'])
        right = (loaded(torch.from_numpy(images)) / 1.7).softmax(dim=1).numpy()
        result = predictor.probabilities(images)
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, right, atol=1e-5)
        np.testing.assert_array_equal(images, original)
        one = predictor.probabilities(images[:1])
        np.testing.assert_allclose(one, right[:1], atol=1e-5)

    @pytest.mark.parametrize('kind', KINDS)
    def test_kinds_of_arrays(self, files: dict[str, Path], kind: str) -> None:
        predictor, images = load_predictor(files[kind], device='cpu'), sar(4)
        right = predictor.probabilities(images)
        frozen = images.copy()
        frozen.flags.writeable = False
        turned = np.asfortranarray(images)
        for array in (frozen, turned, images.astype(np.float64)):
            np.testing.assert_allclose(predictor.probabilities(array), right, atol=1e-6)
        assert predictor.probabilities(images[:0]).shape == (0, 3)

    @pytest.mark.parametrize('kind', KINDS)
    @pytest.mark.parametrize('shape', [(1, 3, 32, 32), (2, 32, 32), (1, 1, 2, 32, 32)])
    def test_bands(
        self, files: dict[str, Path], kind: str, shape: tuple[int, ...]
    ) -> None:
        predictor = load_predictor(files[kind], device='cpu')
        with pytest.raises(BandError, match=r'classifier of the bands VV, VH'):
            predictor.probabilities(np.zeros(shape, np.float32))

    @pytest.mark.parametrize('kind', KINDS)
    def test_size(self, files: dict[str, Path], kind: str) -> None:
        predictor, large = (
            load_predictor(files[kind], device='cpu'),
            sar(1, size=(64, 48)),
        )
        if kind == 'onnx':
            assert predictor.fixed_size == (32, 32)
            with pytest.raises(TileSizeError, match=r'64x48 .* only accepts 32x32'):
                predictor.probabilities(large)
        else:
            assert predictor.fixed_size is None
            assert predictor.probabilities(large).shape == (1, 3)

    def test_description(self, files: dict[str, Path], tmp_path: Path) -> None:
        def describe(path: Path) -> str:
            return load_predictor(path, device='cpu').description

        described = {kind: describe(path) for kind, path in files.items()}
        assert len(set(described.values())) == 3
        assert described['safetensors'].startswith(
            "sar.safetensors (classifier file, '"
        )
        moved = shutil.copy(files['safetensors'], tmp_path / 'sar.safetensors')
        assert describe(Path(moved)) == described['safetensors']
        other = write_classifier(tmp_path / 'other' / 'sar.safetensors', seed=1)
        assert describe(other) != described['safetensors']

    def test_student(self, tmp_path: Path) -> None:
        path = write_classifier(tmp_path / 'sar.safetensors', kind='fusion', head=None)
        right = load_classifier(path).probabilities(torch.from_numpy(sar(3)))
        result = load_predictor(str(path)).probabilities(sar(3))
        np.testing.assert_allclose(result, right, atol=1e-6)


class TestRefused:
    @pytest.mark.parametrize('kind', KINDS)
    def test_other_modality(self, files: dict[str, Path], kind: str) -> None:
        with pytest.raises(ModalityError, match="classifies 'sar', not 'ms'"):
            load_predictor(files[kind], 'ms')

    @pytest.mark.parametrize('modality', [None, 'sar', 'fusion'])
    def test_fusion(self, tmp_path: Path, modality: str | None) -> None:
        path = write_classifier(
            tmp_path / 'fusion.safetensors',
            kind='fusion',
            head=None,
            modalities={'ms': MS, 'sar': SAR},
        )
        with pytest.raises(ModalityError, match='cannot classify one of them alone'):
            load_predictor(path, modality)

    @pytest.mark.parametrize('kind', KINDS)
    @pytest.mark.parametrize('device', ['gpu', 'cpu:7', '', 'meta'])
    def test_device(self, files: dict[str, Path], kind: str, device: str) -> None:
        with pytest.raises(SettingError, match=f"device='{device}': .*'auto'"):
            load_predictor(files[kind], device=device)

    def test_cuda_that_cannot_be_loaded(
        self, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # as a build for CUDA says it on a machine without its libraries
        listed = ['CUDAExecutionProvider', 'CPUExecutionProvider']
        monkeypatch.setattr(onnxruntime, 'get_available_providers', lambda: listed)
        preloaded = []
        monkeypatch.setattr(
            onnxruntime, 'preload_dlls', lambda: preloaded.append(True), raising=False
        )
        with (
            pytest.warns(UserWarning, match='CUDAExecutionProvider'),
            pytest.raises(SettingError, match='cannot load CUDA or cuDNN'),
        ):
            load_predictor(files['onnx'], device='cuda')
        with pytest.warns(UserWarning, match='CUDAExecutionProvider'):
            assert load_predictor(files['onnx'], device='auto').device == 'cpu'
        assert preloaded == [True, True]

    @pytest.mark.parametrize('name', ['none.onnx', '.', 'none'])
    def test_missing(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(ClassifierFileError, match=r'no such file\. Give best/<mod'):
            load_predictor(tmp_path / name)

    def test_other_suffix(self, tmp_path: Path) -> None:
        (tmp_path / 'scene.tif').touch()
        with pytest.raises(
            ClassifierFileError, match=r'scene\.tif is not a model file'
        ):
            load_predictor(tmp_path / 'scene.tif')

    def test_without_onnxruntime(
        self, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, 'onnxruntime', None)
        with pytest.raises(UserError, match=r"pip install 'torchgeo_discomkd\[onnx\]'"):
            load_predictor(files['onnx'])

    @pytest.mark.parametrize('kind', [*KINDS, 'ckpt', 'pt', 'pth'])
    @pytest.mark.parametrize('content', [b'', b'PK\x03\x04', b'plain text ' * 100])
    def test_other_format(self, tmp_path: Path, kind: str, content: bytes) -> None:
        path = tmp_path / f'model.{kind}'
        path.write_bytes(content)
        with pytest.raises(
            ClassifierFileError, match=rf'model\.{kind} is (truncated or )?no'
        ):
            load_predictor(path)

    @pytest.mark.parametrize('kind', KINDS)
    @pytest.mark.parametrize('share', [0.01, 0.5, 0.9999])
    def test_truncated(
        self, files: dict[str, Path], tmp_path: Path, kind: str, share: float
    ) -> None:
        content, path = files[kind].read_bytes(), tmp_path / f'model.{kind}'
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(ClassifierFileError, match='truncated'):
            load_predictor(path)

    @pytest.mark.parametrize('kind', [*KINDS, 'ckpt', 'pt'])
    def test_pickle(self, tmp_path: Path, kind: str, trap: Any) -> None:
        path = tmp_path / f'model.{kind}'
        for content in (pickle.dumps(trap), archive({'state_dict': {}, 'x': trap})):
            path.write_bytes(content)
            with pytest.raises(ClassifierFileError, match=rf'model\.{kind}'):
                load_predictor(path)

    def test_other_onnx(self, files: dict[str, Path], tmp_path: Path) -> None:
        path, model = tmp_path / 'model.onnx', onnx.load(files['onnx'])
        del model.metadata_props[:]
        onnx.save(model, path)
        with pytest.raises(ClassifierFileError, match='was not exported by torchgeo_d'):
            load_predictor(path)

    def test_onnx_of_other_shapes(self, files: dict[str, Path], tmp_path: Path) -> None:
        path, model = tmp_path / 'model.onnx', onnx.load(files['onnx'])
        (entry,) = (p for p in model.metadata_props if p.key == 'torchgeo_discomkd')
        changed = json.loads(entry.value)
        changed['classes'] = ['a', 'b']
        entry.value = json.dumps(changed)
        # its checksum would be the first to notice
        del model.metadata_props[-1]
        onnx.save(model, path)
        with pytest.raises(ClassifierFileError, match='are not those of a classifier'):
            load_predictor(path)


def archive(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


class TestProgram:
    """A .pt2 file is read, but its program is not run: it might do anything."""

    def rewrite(
        self, source: Path, path: Path, change: Callable[[str, bytes], bytes | None]
    ) -> Path:
        """Copy an archive; what *change* returns None for is left out."""
        with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, 'w') as new:
            for name in old.namelist():
                if (content := change(name, old.read(name))) is not None:
                    new.writestr(name, content)
        return path

    def test_nothing_else_is_read(
        self, files: dict[str, Path], tmp_path: Path, trap: Any
    ) -> None:
        def change(name: str, content: bytes) -> bytes:
            if name.endswith('sample_inputs/model.pt'):
                return archive(trap)
            return b'{}' if name.endswith('models/model.json') else content

        path = self.rewrite(files['pt2'], tmp_path / 'sar.pt2', change)
        result = load_predictor(path).probabilities(sar(2))
        right = load_predictor(files['pt2']).probabilities(sar(2))
        np.testing.assert_array_equal(result, right)

    def test_pickled_weights(
        self, files: dict[str, Path], tmp_path: Path, trap: Any
    ) -> None:
        def change(name: str, content: bytes) -> bytes:
            if name.endswith('weights_config.json'):
                return content.replace(b'"use_pickle": false', b'"use_pickle": true')
            return archive(trap) if '/weights/' in name else content

        path = self.rewrite(files['pt2'], tmp_path / 'sar.pt2', change)
        with pytest.raises(ClassifierFileError, match='not stored as plain numbers'):
            load_predictor(path)

    @pytest.mark.parametrize(
        ('part', 'old', 'new', 'message'),
        [
            ('extra/torchgeo_discomkd', b'', None, 'was not exported by torchgeo_disc'),
            ('weights_config.json', b'', None, 'cannot read how its PyTorch stored'),
            (
                'weights_config.json',
                b'"config"',
                b'"other"',
                'not an exported program of',
            ),
            ('weights_config.json', b'"as_int": 32', b'"as_int": 31', 'sar.pt2'),
            ('weights_config.json', b'int": 18}', b'int": 9}', 'an unknown layout'),
            ('weights_config.json', b'conv1', b'conv9', 'tensors do not fit'),
            ('extra/torchgeo_discomkd', b'Water"]', b'Water", "x"]', 'do not fit'),
            ('weights/weight_0', b'', b'', 'has 0 bytes instead of'),
        ],
    )
    def test_damaged(
        self,
        files: dict[str, Path],
        tmp_path: Path,
        part: str,
        old: bytes,
        new: bytes | None,
        message: str,
    ) -> None:
        def change(name: str, content: bytes) -> bytes | None:
            if name.endswith('_sha256'):
                # the checksum would be the first to notice
                return None
            if not name.endswith(part):
                return content
            return content.replace(old, new) if new and old else new

        path = self.rewrite(files['pt2'], tmp_path / 'sar.pt2', change)
        with pytest.raises(ClassifierFileError, match=message):
            load_predictor(path)


#: Loads a checkpoint and fails if a library was imported that it does without.
#: Load a classifier file and then a checkpoint; print what should not be imported.
SCRIPT = """
import sys
def found(*libraries):
    return sorted(set(libraries) & {*sys.modules})
from torchgeo_discomkd.models import load_classifier
load_classifier(sys.argv[1])
print(found('torchgeo', 'lightning', 'kornia', 'rasterio', 'scipy.optimize'))
from torchgeo_discomkd.classify.predictor import load_predictor
load_predictor(sys.argv[2], 'sar', 'cpu')
print(found('torchgeo', 'lightning', 'kornia', 'onnxruntime', 'onnx'))
"""


def fit(folder: Path, model: str, *args: str) -> Path:
    """Train for an epoch on a few pairs of 8x8 pixels; return the run folder."""
    pairs, run = write_pairs(folder / 'pairs', count=20), folder / 'run'
    main(
        [
            *('fit', '--model', model, '--model.num_classes', '2'),
            *('--model.model', 'test_resnet'),
            *('--data', 'PairedFoldersDataModule', '--data.root', str(pairs)),
            *('--data.units', '{sar: dB}', '--data.batch_size', '8'),
            *('--trainer.max_epochs', '1', '--trainer.accelerator', 'cpu'),
            *('--trainer.enable_model_summary', 'false'),
            *('--trainer.enable_progress_bar', 'false'),
            *('--trainer.default_root_dir', str(run), *args),
        ]
    )
    return run


@pytest.fixture
def folder(trained_in_db: Path) -> Path:
    """Run of DisCoM-KD; only for reading."""
    return trained_in_db


class TestCheckpoint:
    def test_discomkd(self, folder: Path) -> None:
        path = folder / 'last.ckpt'
        task = DisCoMKD.load_from_checkpoint(path, map_location='cpu').eval()
        for modality, bands in (('sar', 2), ('ms', 13)):
            predictor = load_predictor(path, modality, 'cpu')
            images = np.random.default_rng(0).normal(0, 9, (3, bands, 8, 8))
            images = images.astype(np.float32)
            with torch.inference_mode():
                right = task(torch.from_numpy(images), modality).softmax(dim=1)
            result = predictor.probabilities(images)
            np.testing.assert_allclose(result, right, atol=1e-6)
            beside = load_metadata(folder / 'best' / f'{modality}.safetensors')
            metadata = predictor.metadata
            assert metadata.modalities == beside.modalities
            assert metadata.modalities[modality].tile_size == (8, 8)
            assert metadata.data_fingerprint == beside.data_fingerprint
            assert (metadata.temperature, metadata.scores) == (1, {})
            assert 'last.ckpt (checkpoint' in predictor.description

    @pytest.mark.slow
    def test_heavy_libraries_are_not_imported(self, folder: Path) -> None:
        files = [str(folder / name) for name in ('best/sar.safetensors', 'last.ckpt')]
        command = [sys.executable, '-c', SCRIPT, *files]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        assert result.stdout.splitlines() == ['[]', '[]']

    def test_modality(self, folder: Path) -> None:
        for modality, said in ((None, 'none is'), ('optical', "'optical' is")):
            with pytest.raises(ModalityError, match=rf"\['ms', 'sar'\], but {said}"):
                load_predictor(folder / 'last.ckpt', modality)

    def test_alone(self, folder: Path, tmp_path: Path) -> None:
        path = tmp_path / 'alone' / 'colleague.ckpt'
        path.parent.mkdir()
        shutil.copy(folder / 'last.ckpt', path)
        with pytest.warns(UserWarning, match='give the 2 bands in the order and the'):
            predictor = load_predictor(path, 'sar')
        described = predictor.metadata.modalities['sar']
        assert described.bands == ('B1', 'B2')
        assert (described.unit, described.tile_size) == ('unknown', None)
        # a classifier file of another run says nothing about this one
        write_classifier(path.parent / 'best' / 'sar.safetensors')
        with pytest.warns(UserWarning, match='of its run does not exist'):
            load_predictor(path, 'sar')

    def test_damaged(self, folder: Path, tmp_path: Path) -> None:
        content, path = (folder / 'last.ckpt').read_bytes(), tmp_path / 'last.ckpt'
        for length in (100, len(content) // 2, len(content) - 5):
            path.write_bytes(content[:length])
            with pytest.raises(ClassifierFileError, match='or is truncated'):
                load_predictor(path, 'sar')
        checkpoint = torch.load(folder / 'last.ckpt', weights_only=True)
        shutil.copytree(folder / 'best', tmp_path / 'best')
        state, hparams = checkpoint['state_dict'], checkpoint['hyper_parameters']
        part = {
            k: v for k, v in state.items() if not k.endswith('.sar.classifier.bias')
        }
        for change, message in (
            ({'hyper_parameters': {}}, 'not a checkpoint of torchgeo_discomkd'),
            ({'classes': ['a', 'a']}, 'not a checkpoint of torchgeo_discomkd'),
            ({'state_dict': part}, 'do not fit'),
            ({'hyper_parameters': hparams | {'model': 'resnet10t'}}, 'do not fit'),
        ):
            path.write_bytes(archive(checkpoint | change))
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                with pytest.raises(ClassifierFileError, match=message):
                    load_predictor(path, 'sar')

    @pytest.mark.parametrize('content', [[1], {'state_dict': {}}, torch.zeros(1)])
    def test_other_checkpoint(self, tmp_path: Path, content: Any) -> None:
        path = tmp_path / 'other.ckpt'
        path.write_bytes(archive(content))
        with pytest.raises(ClassifierFileError, match='not a checkpoint of torchgeo_d'):
            load_predictor(path)

    @pytest.mark.parametrize(
        'channels',
        [pytest.param({'sar': 2}, marks=pytest.mark.slow), {'ms': 13, 'sar': 2}],
    )
    def test_fusion(self, tmp_path: Path, channels: dict[str, int]) -> None:
        options = ['--data.paired', 'true', '--model.in_channels', json.dumps(channels)]
        folder = fit(tmp_path, 'FusionClassification', *options)
        path = folder / 'last.ckpt'
        if len(channels) > 1:
            with pytest.raises(ModalityError, match="cannot classify 'sar' alone"):
                load_predictor(path, 'sar')
            return
        task = FusionClassification.load_from_checkpoint(path, map_location='cpu')
        images = sar(3, size=(8, 8))
        with torch.inference_mode():
            right = task.eval().model(torch.from_numpy(images)).softmax(dim=1)
        result = load_predictor(path).probabilities(images)
        np.testing.assert_allclose(result, right, atol=1e-6)


def test_not_ours(tmp_path: Path) -> None:
    path = tmp_path / 'model.safetensors'
    save_file({'weight': torch.zeros(1)}, path)
    with pytest.raises(ClassifierFileError, match='not written by torchgeo_discomkd'):
        load_predictor(path)
    changed = replace(SAR, bands=('VH', 'VV'))
    own = write_classifier(path, modalities={'sar': changed})
    assert load_predictor(own).metadata.modalities['sar'] == changed

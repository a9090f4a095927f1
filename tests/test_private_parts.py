# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""All private or experimental parts of other libraries that the package uses.

Nothing promises that they stay. Each has a test here that names it when it has moved,
and another test finds those that are used without being listed.
"""

import ast
import importlib
import inspect
from collections.abc import Callable, Iterator
from importlib.metadata import distribution, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, get_args

import kornia.augmentation as K
import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.cli import LightningCLI
from torchgeo.datamodules import NonGeoDataModule
from torchgeo.datasets import SEN12MS, BigEarthNet

import torchgeo_discomkd

PACKAGE = Path(torchgeo_discomkd.__file__).parent


class Part(NamedTuple):
    """A private part of another library."""

    library: str

    #: Its name, as a message says it.
    name: str

    #: The word that shows in our code.
    word: str

    #: Modules of the package that use it.
    used_in: tuple[str, ...]

    #: Version of the library that it was last seen in.
    seen_in: str

    #: Returns it.
    find: Callable[[], Any]

    #: Arguments that it is called with; None if it is not called.
    arguments: tuple[Any, ...] | None = None

    #: Whether what was found is as the package needs it.
    usable: Callable[[Any], bool] = lambda found: found is not None


def imported(module: str, name: str) -> Callable[[], Any]:
    return lambda: getattr(importlib.import_module(module), name)


def ray_source(name: str) -> str:
    """Return the text of a module of Ray, which takes seconds to import."""
    return Path(distribution('ray').locate_file(f'ray/_private/{name}')).read_text()


PARTS = [
    Part(
        library='kornia',
        name='GeometricAugmentationBase2D._compute_matrix_lazily',
        word='_compute_matrix_lazily',
        used_in=('transforms.symmetry',),
        seen_in='0.9.0',
        find=lambda: K.GeometricAugmentationBase2D._compute_matrix_lazily,
        usable=lambda found: found is False,
    ),
    Part(
        library='lightning',
        name='lightning.fabric.plugins.precision.precision._PRECISION_INPUT',
        word='_PRECISION_INPUT',
        used_in=('commands.fit',),
        seen_in='2.6.6',
        find=imported(
            'lightning.fabric.plugins.precision.precision', '_PRECISION_INPUT'
        ),
        usable=lambda found: 'bf16-mixed' in str(get_args(found)),
    ),
    Part(
        library='lightning',
        name='LightningCLI._get',
        word='_get',
        used_in=('commands.fit',),
        seen_in='2.6.6',
        find=lambda: LightningCLI._get,
        arguments=('self', 'config', 'key'),
    ),
    Part(
        library='lightning',
        name='LightningCLI._parse_ckpt_path',
        word='_parse_ckpt_path',
        used_in=('commands.fit',),
        seen_in='2.6.6',
        find=lambda: LightningCLI._parse_ckpt_path,
        arguments=('self',),
    ),
    Part(
        library='lightning',
        name='LightningModule._trainer',
        word='_trainer',
        used_in=('tasks.training', 'tasks.frozen', 'tasks.resumable', 'tasks.watched'),
        seen_in='2.6.6',
        find=lambda: LightningModule()._trainer,
        usable=lambda found: found is None,
    ),
    Part(
        library='lightning',
        name='WeightAveraging._average_model',
        word='_average_model',
        used_in=('callbacks.scored_weights',),
        seen_in='2.6.6',
        find=lambda: WeightAveraging()._average_model,
        usable=lambda found: found is None,
    ),
    Part(
        library='onnxruntime',
        name='onnxruntime.capi.onnxruntime_pybind11_state',
        word='capi',
        used_in=('export.onnx_file',),
        seen_in='1.32.0',
        find=imported('onnxruntime.capi', 'onnxruntime_pybind11_state'),
        usable=lambda found: all(
            issubclass(getattr(found, name), Exception)
            for name in (
                *('Fail', 'InvalidArgument', 'InvalidGraph', 'InvalidProtobuf'),
                *('NoModel', 'NoSuchFile', 'NotImplemented', 'RuntimeException'),
            )
        ),
    ),
    Part(
        library='onnxruntime',
        name='onnxruntime.quantization.quant_utils.add_pre_process_metadata',
        word='quant_utils',
        used_in=('export.int8',),
        seen_in='1.32.0',
        find=imported(
            'onnxruntime.quantization.quant_utils', 'add_pre_process_metadata'
        ),
        arguments=('model',),
    ),
    Part(
        library='ray',
        name='ray.init(_node_ip_address=)',
        word='_node_ip_address',
        used_in=('performance.ray_workers',),
        seen_in='2.60.0',
        find=lambda: ray_source('worker.py'),
        usable=lambda found: '"_node_ip_address"' in found,
    ),
    Part(
        library='ray',
        name='the variable RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER',
        word='RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER',
        used_in=('performance.ray_workers',),
        seen_in='2.60.0',
        find=lambda: ray_source('ray_constants.py'),
        usable=lambda found: '"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"' in found,
    ),
    Part(
        library='torch',
        name='torch.cpu._is_amx_tile_supported',
        word='_is_amx_tile_supported',
        used_in=('performance.convolution',),
        seen_in='2.15.0',
        find=lambda: torch.cpu._is_amx_tile_supported,
        arguments=(),
        usable=lambda found: isinstance(found(), bool),
    ),
    Part(
        library='torch',
        name='torch.cpu._is_avx2_supported',
        word='_is_avx2_supported',
        used_in=('performance.convolution',),
        seen_in='2.15.0',
        find=lambda: torch.cpu._is_avx2_supported,
        arguments=(),
        usable=lambda found: isinstance(found(), bool),
    ),
    Part(
        library='torch',
        name='torch.cpu._is_avx512_supported',
        word='_is_avx512_supported',
        used_in=('performance.convolution',),
        seen_in='2.15.0',
        find=lambda: torch.cpu._is_avx512_supported,
        arguments=(),
        usable=lambda found: isinstance(found(), bool),
    ),
    Part(
        library='torch',
        name='torch.cpu._is_avx512_bf16_supported',
        word='_is_avx512_bf16_supported',
        used_in=('performance.precision',),
        seen_in='2.15.0',
        find=lambda: torch.cpu._is_avx512_bf16_supported,
        arguments=(),
        usable=lambda found: isinstance(found(), bool),
    ),
    Part(
        library='torch',
        name='torch.fx.experimental.optimization.fuse',
        word='experimental',
        used_in=('performance.folding',),
        seen_in='2.15.0',
        find=imported('torch.fx.experimental.optimization', 'fuse'),
        arguments=('model',),
    ),
    Part(
        library='torch',
        name='torch.Tensor._post_accumulate_grad_hooks',
        word='_post_accumulate_grad_hooks',
        used_in=('performance.graphs',),
        seen_in='2.15.0',
        find=lambda: torch.zeros(0),
        usable=lambda found: found._post_accumulate_grad_hooks is None,
    ),
    Part(
        library='torch',
        name='torch.nn.Module._backward_hooks',
        word='_backward_hooks',
        used_in=('performance.graphs',),
        seen_in='2.15.0',
        find=lambda: torch.nn.Module()._backward_hooks,
        usable=lambda found: found == {},
    ),
    Part(
        library='torch',
        name='torch.nn.Module._backward_pre_hooks',
        word='_backward_pre_hooks',
        used_in=('performance.graphs',),
        seen_in='2.15.0',
        find=lambda: torch.nn.Module()._backward_pre_hooks,
        usable=lambda found: found == {},
    ),
    Part(
        library='torch',
        name='torch.nn.Module._forward_hooks',
        word='_forward_hooks',
        used_in=('performance.graphs',),
        seen_in='2.15.0',
        find=lambda: torch.nn.Module()._forward_hooks,
        usable=lambda found: found == {},
    ),
    Part(
        library='torch',
        name='torch.nn.Module._forward_pre_hooks',
        word='_forward_pre_hooks',
        used_in=('performance.graphs',),
        seen_in='2.15.0',
        find=lambda: torch.nn.Module()._forward_pre_hooks,
        usable=lambda found: found == {},
    ),
    Part(
        library='torchgeo',
        name='BigEarthNet._load_target',
        word='_load_target',
        used_in=('datasets.bigearthnet',),
        seen_in='0.10.1',
        find=lambda: BigEarthNet._load_target,
        arguments=('self', 0),
    ),
    Part(
        library='torchgeo',
        name='SEN12MS._load_raster',
        word='_load_raster',
        used_in=('datasets.sen12ms',),
        seen_in='0.10.1',
        find=lambda: SEN12MS._load_raster,
        arguments=('self', 'filename', 'lc'),
    ),
    Part(
        library='torchgeo',
        name='NonGeoDataModule._dataloader_factory',
        word='_dataloader_factory',
        used_in=('datamodules.base',),
        seen_in='0.10.1',
        find=lambda: NonGeoDataModule._dataloader_factory,
        arguments=('self', 'split'),
    ),
    Part(
        library='torchgeo',
        name='NonGeoDataModule._valid_attribute',
        word='_valid_attribute',
        used_in=('datamodules.base',),
        seen_in='0.10.1',
        find=lambda: NonGeoDataModule._valid_attribute,
        arguments=('self', 'train_dataset'),
    ),
]

#: Words without an underscore that no library documents, or that it calls experimental.
WORDS = {'capi', 'experimental', 'quant_utils'}

#: The same, as texts.
TEXTS = {'_node_ip_address', 'RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER'}

#: Public names of named tuples and of the module os.
PUBLIC = {'_asdict', '_exit', '_fields', '_make', '_replace'}


@pytest.mark.parametrize('part', PARTS, ids=lambda part: part.name)
def test_part(part: Part) -> None:
    if find_spec(part.library) is None:
        pytest.skip(f'{part.library} is not installed')
    where = (
        f'{part.name}, a private part of {part.library}, '
        f'(seen in {part.seen_in}, now {version(part.library)}; used in '
        f'{", ".join(part.used_in)})'
    )
    try:
        found = part.find()
    except (AttributeError, ImportError) as error:
        pytest.fail(f'{where} has moved: {error}')
    if part.arguments is not None:
        try:
            inspect.signature(found).bind(*part.arguments)
        except TypeError as error:
            pytest.fail(f'{where} takes other arguments: {error}')
    assert part.usable(found), f'{where} is another one: {found!r}'


def is_private(word: str) -> bool:
    private = word.startswith('_') and not word.startswith('__')
    return (private and word != '_' and word not in PUBLIC) or word in WORDS | TEXTS


def words(tree: ast.AST) -> Iterator[str]:
    """Yield the private words of imports of other libraries and of attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (node.module or '').split('.')
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Constant) and node.value in TEXTS:
            yield node.value
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield from alias.name.split('.')


def defined(tree: ast.AST) -> Iterator[str]:
    """Yield all names that a file gives to something."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
            case ast.Attribute(ctx=ast.Store()):
                yield node.attr
            case ast.Name(ctx=ast.Store()):
                yield node.id


def inherited(module: str, tree: ast.AST) -> Iterator[str]:
    """Yield what classes override or use of classes of other libraries."""
    for node in ast.walk(tree):
        cls = (
            getattr(
                importlib.import_module(f'torchgeo_discomkd.{module}'), node.name, None
            )
            if isinstance(node, ast.ClassDef)
            else None
        )
        if inspect.isclass(cls):
            theirs = {
                word
                for base in cls.__mro__
                if not base.__module__.startswith(('torchgeo_discomkd', 'builtins'))
                for word in vars(base)
            }
            yield from theirs & {*words(node), *defined(node)}


def test_all_parts_are_listed() -> None:
    trees = {
        '.'.join(path.relative_to(PACKAGE).with_suffix('').parts): ast.parse(
            path.read_text(encoding='utf-8')
        )
        for path in PACKAGE.rglob('*.py')
        if path.name != '__main__.py'
    }
    own = {word for tree in trees.values() for word in defined(tree)}
    used = {
        (module.removesuffix('.__init__'), word)
        for module, tree in trees.items()
        for word in {
            *(w for w in words(tree) if w not in own),
            *inherited(module.removesuffix('.__init__'), tree),
        }
        if is_private(word)
    }
    listed = {(module, part.word) for part in PARTS for module in part.used_in}
    assert used == listed, 'list them in PARTS, with a way to find them'


def test_scan_finds_every_kind_of_use() -> None:
    code = """
import rasterio._base
from rasterio import _features
from torch.fx.experimental import proxy_tensor
runtime.capi.state
model._private(point._replace(x=1).__class__)
"""
    found = {word for word in words(ast.parse(code)) if is_private(word)}
    assert found == {'_base', '_features', 'experimental', 'capi', '_private'}

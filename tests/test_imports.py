# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import ast
import subprocess
import sys
from pathlib import Path

import torchgeo_discomkd

PACKAGE = Path(torchgeo_discomkd.__file__).parent
#: What every room may import.
COMMON = {'__init__', 'errors', 'files', 'metadata', 'torchgeo_discomkd'}

#: Rooms that import neither TorchGeo nor Lightning, so that classifying starts fast.
FAST = {'losses', 'models', 'performance', 'rasters', 'tables'}
TRAINING = FAST | {'callbacks', 'datamodules', 'datasets', 'tasks', 'transforms'}

#: Rooms of this package that a room may import, beside itself.
ROOMS = {
    '__init__': set(),
    '__main__': {'commands'},
    'benchmark': TRAINING,
    'callbacks': {'datasets', 'models', 'performance', 'rasters', 'tables', 'tasks'},
    'classify': FAST | {'export'},
    'commands': TRAINING | {'benchmark', 'classify', 'export'},
    'datamodules': {'datasets', 'models', 'transforms'},
    'datasets': {'datamodules', 'rasters'},
    'errors': set(),
    'export': FAST,
    'files': set(),
    'losses': set(),
    'metadata': set(),
    'models': {'losses', 'performance'},
    'performance': set(),
    'rasters': set(),
    'tables': set(),
    'tasks': TRAINING,
    'transforms': set(),
}

#: Libraries that only some rooms may import.
LIBRARIES = {
    'kornia': {'transforms'},
    'lightning': {'benchmark', 'callbacks', 'commands', 'datamodules', 'tasks'}
    | {'performance'},
    'torchgeo': {'benchmark', 'commands', 'datamodules', 'datasets', 'models', 'tasks'},
}


def imports(path: Path) -> set[str]:
    """Return absolute names of all modules that a file imports."""
    package = path.relative_to(PACKAGE.parent).with_suffix('').parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level] if node.level else ()
            module = [*base, *([node.module] if node.module else [])]
            found |= {'.'.join([*module, alias.name]) for alias in node.names}
    return found


def test_imports_go_one_way() -> None:
    wrong = []
    for path in sorted(PACKAGE.rglob('*.py')):
        parts = path.relative_to(PACKAGE).with_suffix('').parts
        room = parts[0]
        for name in imports(path):
            top, *rest = name.split('.')
            if top == 'torchgeo_discomkd':
                allowed = ROOMS[room] | COMMON | {room}
                target = rest[0] if rest else '__init__'
                if target not in allowed and not target.startswith('__'):
                    wrong.append((path.name, name))
            elif room not in LIBRARIES.get(top, {room}):
                wrong.append((path.name, name))
    assert not wrong


def test_losses_import_torch_only() -> None:
    allowed = set(sys.stdlib_module_names) | {'torch', 'torchgeo_discomkd'}
    names = {n for path in (PACKAGE / 'losses').glob('*.py') for n in imports(path)}
    assert {name.split('.')[0] for name in names} <= allowed
    assert not any(
        name.startswith('torchgeo_discomkd')
        and not name.startswith('torchgeo_discomkd.losses')
        for name in names
    )


def test_no_class_has_the_name_of_one_of_torchgeo_or_lightning() -> None:
    code = """
import lightning.pytorch, lightning.pytorch.callbacks
import torchgeo.datamodules, torchgeo.datasets, torchgeo.tasks
from torchgeo_discomkd import callbacks, datamodules, datasets, tasks
theirs = set()
for room in (lightning.pytorch, lightning.pytorch.callbacks, torchgeo.datamodules,
             torchgeo.datasets, torchgeo.tasks):
    theirs |= {n for n in dir(room) if n[0].isupper()}
own = {n for room in (callbacks, datamodules, datasets, tasks) for n in room.__all__}
print(sorted(own & theirs))
"""
    command = [sys.executable, '-W', 'ignore', '-c', code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == '[]'


def test_all_is_sorted() -> None:
    for path in PACKAGE.glob('*/__init__.py'):
        tree = ast.parse(path.read_text())
        [names] = [
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign)
            and ast.unparse(node.targets[0]) == '__all__'
        ]
        assert isinstance(names, tuple)
        assert list(names) == sorted(names)

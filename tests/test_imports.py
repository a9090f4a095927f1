# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import ast
import subprocess
import sys
from pathlib import Path

import torchgeo_discomkd

PACKAGE = Path(torchgeo_discomkd.__file__).parent
LOWEST = {'datasets', 'transforms', 'models', 'losses', 'rasters', 'tables'}
MIDDLE = {'tasks', 'callbacks', 'datamodules'}
#: Commands that start fast: they use nothing that imports TorchGeo or Lightning.
FAST = {'models', 'losses', 'rasters', 'tables'}
COMMON = {'errors', 'files', 'metadata', 'precision', '__init__', 'torchgeo_discomkd'}

#: Rooms of this package that a room may import.
ROOMS = {
    'losses': {'losses'},
    'models': {'models', 'losses'},
    'rasters': {'rasters'},
    'tables': {'tables'},
    'datasets': {'datasets', 'rasters'},
    'transforms': {'transforms'},
    '__main__': {'main'},
    'main': {'cli', 'benchmark', 'classify', 'export', 'memory', 'pack', 'released'},
    'memory': set(),
    'metadata': set(),
    'runs': {'callbacks'},
    'classify': FAST | {'classify', 'export', 'outputs', 'progress'},
    'export': FAST | {'export'},
    'pack': LOWEST | MIDDLE | {'pack', 'outputs', 'progress'},
    'outputs': set(),
    'progress': set(),
    'released': FAST | {'released'},
    'benchmark': LOWEST | MIDDLE | {'benchmark', 'cli', 'runs'},
    'cli': LOWEST | MIDDLE | {'runs'},
    **dict.fromkeys(MIDDLE, LOWEST | MIDDLE),
}

#: Libraries that only some rooms may import.
LIBRARIES = {
    'kornia': {'transforms'},
    'lightning': MIDDLE | {'cli', 'runs', 'benchmark'},
    'torchgeo': MIDDLE | {'datasets', 'cli', 'models', 'benchmark'},
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
                allowed = ROOMS.get(room, LOWEST | MIDDLE | {'cli'}) | COMMON
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

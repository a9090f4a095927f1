# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import ast
import sys
from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import lightning.pytorch
import lightning.pytorch.callbacks
import torchgeo.datamodules
import torchgeo.datasets
import torchgeo.tasks

import torchgeo_discomkd
from torchgeo_discomkd import callbacks, datamodules, datasets, tasks

PACKAGE = Path(torchgeo_discomkd.__file__).parent

#: What every room may import.
COMMON = {'__init__', 'errors', 'files', 'metadata'}

#: Packages and modules at the top of this package, with what each of them imports,
#: neither more nor less. Nothing here imports what stands below it.
ROOMS: dict[str, set[str]] = {
    '__init__': set(),
    'errors': set(),
    'files': set(),
    'metadata': set(),
    'performance': set(),
    'processes': set(),
    'losses': set(),
    'transforms': set(),
    'rasters': set(),
    'tables': set(),
    'models': {'losses', 'performance'},
    'datasets': {'rasters'},
    'datamodules': {'datasets', 'models', 'processes', 'rasters', 'transforms'},
    'callbacks': {'datasets', 'models', 'performance', 'rasters', 'tables'}
    | {'processes'},
    'tasks': {'callbacks', 'datamodules', 'datasets', 'losses', 'models', 'rasters'}
    | {'performance', 'processes', 'transforms'},
    'export': {'models', 'rasters'},
    'classify': {'export', 'models', 'performance', 'rasters', 'tables'},
    'benchmark': {'callbacks', 'datamodules', 'datasets', 'losses', 'models'}
    | {'performance', 'tables', 'tasks'},
    'commands': {'benchmark', 'callbacks', 'classify', 'datamodules', 'datasets'}
    | {'export', 'losses', 'models', 'performance', 'processes', 'rasters', 'tasks'},
    '__main__': {'commands'},
}

#: Libraries that only some rooms may import.
LIBRARIES = {
    'kornia': {'transforms'},
    'lightning': {'benchmark', 'callbacks', 'commands', 'datamodules', 'tasks'}
    | {'performance', 'processes'},
    'torchgeo': {'benchmark', 'commands', 'datamodules', 'datasets', 'models', 'tasks'},
}


def imports(path: Path) -> set[str]:
    """Return absolute names of all that a file imports, for type checking too."""
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


def module_of(name: str) -> Path | None:
    """Return the file that an absolute name is in; None if it is not ours."""
    top, *parts = name.split('.')
    if top != PACKAGE.name:
        return None
    for count in range(len(parts), -1, -1):
        path = PACKAGE.joinpath(*parts[:count])
        for file in (path.with_suffix('.py'), path / '__init__.py'):
            if file.is_file():
                return file
    return None


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix('').parts[0]


def test_rooms_import_what_the_plan_says() -> None:
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob('*.py'):
        rooms = {room_of(m) for name in imports(path) if (m := module_of(name))}
        found.setdefault(room_of(path), set()).update(rooms)
    used = {room: others - COMMON - {room} for room, others in found.items()}
    assert used == ROOMS


def test_rooms_import_downwards() -> None:
    order = list(ROOMS)
    upwards = {
        (room, other)
        for room, others in ROOMS.items()
        for other in others
        if order.index(other) >= order.index(room)
    }
    assert not upwards
    for room in COMMON:
        path = PACKAGE / f'{room}.py'
        assert {m.stem for n in imports(path) if (m := module_of(n))} <= {'errors'}


def test_modules_import_in_no_circle() -> None:
    graph: dict[Path, set[Path]] = defaultdict(set)
    for path in PACKAGE.rglob('*.py'):
        graph[path] = {m for name in imports(path) if (m := module_of(name))} - {path}
    # raises CycleError, which names the circle
    assert len(list(TopologicalSorter(graph).static_order())) == len(graph)


def test_libraries_stay_in_their_rooms() -> None:
    wrong = [
        (path.name, name)
        for path in PACKAGE.rglob('*.py')
        for name in imports(path)
        if room_of(path) not in LIBRARIES.get(name.split('.')[0], {room_of(path)})
    ]
    assert not wrong


def test_the_top_of_the_package_is_small() -> None:
    names = [p.name for p in PACKAGE.iterdir() if p.name != '__pycache__']
    assert len(names) <= 21


def test_losses_import_torch_only() -> None:
    files = list((PACKAGE / 'losses').glob('*.py'))
    names = {name.split('.')[0] for path in files for name in imports(path)}
    assert names <= {*sys.stdlib_module_names, 'torch', PACKAGE.name}


def test_no_class_has_the_name_of_one_of_torchgeo_or_lightning() -> None:
    foreign = (
        *(lightning.pytorch, lightning.pytorch.callbacks, torchgeo.datamodules),
        *(torchgeo.datasets, torchgeo.tasks),
    )
    theirs = {name for room in foreign for name in dir(room) if name[0].isupper()}
    rooms = (callbacks, datamodules, datasets, tasks)
    assert not theirs & {name for room in rooms for name in room.__all__}


def test_every_room_says_what_is_public() -> None:
    # their order is checked by ruff
    for path in PACKAGE.glob('*/__init__.py'):
        tree = ast.parse(path.read_text())
        [names] = [
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign)
            and ast.unparse(node.targets[0]) == '__all__'
        ]
        assert isinstance(names, tuple)

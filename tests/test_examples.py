# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""What every public name promises its reader; the examples run as doctests."""

import inspect
import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import torchgeo_discomkd

PACKAGE = Path(torchgeo_discomkd.__file__).parent
ROOMS = sorted(
    '.'.join(path.relative_to(PACKAGE.parent).parent.parts)
    for path in PACKAGE.rglob('__init__.py')
)


def public(room: str) -> Iterator[tuple[str, Any]]:
    """Yield the classes and functions of a room; an alias cannot have a docstring."""
    module = import_module(room)
    for name in getattr(module, '__all__', ()):
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isroutine(value):
            yield f'{room}.{name}', value


def explained(value: Any) -> set[str]:
    """Return the names that the docstrings of a class or function explain."""
    texts = [inspect.getdoc(value) or '']
    if inspect.isclass(value):
        texts.append(inspect.getdoc(value.__init__) or '')
    found = set()
    for text in texts:
        for section in re.findall(r'(?:Args|Attributes):\n((?: {4}.*\n?|\n)+)', text):
            found |= set(re.findall(r'^ {4}\**(\w+):', section, re.MULTILINE))
    return found


@pytest.mark.parametrize('room', ROOMS)
def test_every_public_name_has_an_example(room: str) -> None:
    without = [
        name
        for name, value in public(room)
        if '>>>' not in (inspect.getdoc(value) or '')
    ]
    assert not without


@pytest.mark.parametrize('room', ROOMS)
def test_every_parameter_has_a_text(room: str) -> None:
    silent = {}
    for name, value in public(room):
        if inspect.isclass(value) and not is_dataclass(value):
            # what the class says itself: a base class explains its own parameters
            own = value.__init__ if '__init__' in vars(value) else None
            parameters = inspect.signature(own).parameters if own else {}
        else:
            parameters = inspect.signature(value).parameters
        named = {name for name in parameters if not name.startswith('_')}
        lacking = named - explained(value) - {'self'}
        if lacking:
            silent[name] = sorted(lacking)
    assert not silent

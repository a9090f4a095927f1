# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Refuse configurations that expand to more than they are."""

from collections.abc import Sequence
from pathlib import Path

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode

from ..errors import SettingError
from ..rasters.text import read_text

#: Most values that a configuration may have when all its aliases are written out.
MOST_VALUES = 100_000


def refuse_expansion(text: str, path: Path) -> None:
    """Refuse a configuration whose aliases would fill the memory.

    Ten lines of YAML, each of which names the one before ten times, stand for 10
    billion values.

    Args:
        text: The configuration.
        path: Its file, for the message.

    Raises:
        SettingError: If it expands to more than :data:`MOST_VALUES` values, or contains
            itself.
    """
    if '*' not in text or '&' not in text:
        return
    try:
        count = _count(yaml.compose(text, Loader=yaml.SafeLoader), {})
    except (yaml.YAMLError, RecursionError):
        # the parser says what is wrong with it
        return
    if count > MOST_VALUES:
        raise SettingError(
            f'{path} names parts of itself by aliases (*) so often that it expands to '
            f'more than {MOST_VALUES} values: write them out.'
        )


def refuse_expansions(args: Sequence[str]) -> None:
    """Refuse such configurations among arguments that are, or end with, their names.

    The parser reads files for many options, such as ``--data`` or ``--trainer``.

    Args:
        args: The arguments.

    Raises:
        SettingError: As for :func:`refuse_expansion`.
    """
    for arg in args:
        path = Path(arg.partition('=')[2] if arg[:1] == '-' else arg)
        if path.is_file():
            refuse_expansion(read_text(path), path)


def _count(node: Node | None, known: dict[Node, int]) -> int:
    """Return the number of values below a node; more than allowed if it has no end."""
    if node is None or isinstance(node, ScalarNode):
        return 1
    if node not in known:
        # until it is known: a node inside itself
        known[node] = MOST_VALUES + 1
        parts = node.value
        if isinstance(node, MappingNode):
            parts = [part for pair in parts for part in pair]
        total = 1 + sum(_count(part, known) for part in parts)
        known[node] = min(total, MOST_VALUES + 1)
    return known[node]

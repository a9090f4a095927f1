# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Names in formats that would take them for something else."""

import re

# What a spreadsheet takes for the beginning of a formula, and the mark itself.
_FORMULA = re.compile(r"^(?=[=+\-@\t\r'])")

#: The same for Arrow, which knows no lookahead.
FORMULA = r"^([=+\-@\t\r'])"

# What XML 1.0 cannot hold: control characters, halves of surrogate pairs and two more.
_NO_XML = re.compile('[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]')


def cell_text(text: str) -> str:
    """Write a text as a cell of comma-separated values.

    Spreadsheets compute a cell that begins with one of ``= + - @``, a tab or a carriage
    return. Such a cell gets an apostrophe in front, with which they show it as text. So
    does one with an apostrophe, so that :func:`read_cell` finds what was written.

    Args:
        text: Any text.

    Returns:
        The cell, before quoting.

    Example:
        >>> cell_text('=1+1'), cell_text('Forest'), read_cell(cell_text('=1+1'))
        ("'=1+1", 'Forest', '=1+1')
    """
    return _FORMULA.sub("'", text)


def read_cell(cell: str) -> str:
    """Return the text that :func:`cell_text` wrote.

    Args:
        cell: The cell, after unquoting.

    Example:
        >>> read_cell("'-1 m"), read_cell("Forest"), read_cell("'Forest")
        ('-1 m', 'Forest', "'Forest")
    """
    return cell[1:] if cell[:1] == "'" and _FORMULA.match(cell[1:]) else cell


def xml_text(text: str) -> str:
    r"""Escape what no XML document can hold.

    Args:
        text: Any text.

    Returns:
        The text, with control characters as in ``\x07``.

    Example:
        >>> print(xml_text('Forest\x07'), xml_text('Forêt & lac'))
        Forest\x07 Forêt & lac
    """
    return _NO_XML.sub(lambda found: ascii(found[0])[1:-1], text)

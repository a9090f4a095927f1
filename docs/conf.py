# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Sphinx configuration."""

from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.util import logging

from torchgeo_discomkd import __author__, __version__

project = 'torchgeo_discomkd'
author = __author__
copyright = f'2026, {author}'
release = __version__

extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.mathjax',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
]
exclude_patterns = ['_build']
source_suffix = {'.md': 'markdown', '.rst': 'restructuredtext'}
myst_enable_extensions = ['dollarmath']
myst_heading_anchors = 3

autodoc_default_options = {'members': True, 'show-inheritance': True}
autodoc_typehints = 'description'
autodoc_typehints_description_target = 'documented'
autodoc_member_order = 'bysource'
# the arguments of a class are explained in its __init__
autoclass_content = 'both'

# attributes are told in the docstring of their class
napoleon_use_ivar = True

html_theme = 'furo'
html_static_path = ['_static']
html_css_files = ['custom.css']
html_title = 'torchgeo_discomkd'


def check_parameters(app: Any, doctree: nodes.document, docname: str) -> None:
    """Warn of every parameter that a page names but does not explain."""
    for description in doctree.findall(addnodes.desc):
        signature, content = description[0], description[-1]
        named = {
            parameter.next_node(addnodes.desc_sig_name).astext()
            for parameter in signature.findall(addnodes.desc_parameter)
            if parameter.next_node(addnodes.desc_sig_name) is not None
        }
        fields = [n for n in content.children if isinstance(n, nodes.field_list)]
        texts = [name for f in fields for name in f.findall(nodes.strong)]
        explained = {name.astext().lstrip('*') for name in texts}
        public = {name for name in named if not name.startswith('_')}
        if silent := sorted(public - explained):
            name = ', '.join(signature.get('ids', ['?']))
            logging.getLogger(__name__).warning('%s: no text for %s', name, silent)


def setup(app: Any) -> None:
    """Leave out what a named tuple says of its fields by itself."""
    app.connect(
        'autodoc-skip-member',
        lambda app, what, name, member, skip, options: (
            True if 'Alias for field number' in (member.__doc__ or '') else None
        ),
    )
    app.connect('doctree-resolved', check_parameters)

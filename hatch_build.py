# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""The README of the package, whose links must work where the repository is not."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

# A link or picture that leads to a file of the repository.
_RELATIVE = re.compile(r'(!?)\[([^\]]*)\]\((?!https?:|#)([^)\s]+)\)')


class ReadmeHook(MetadataHookInterface):
    """Give links of the README the address of the repository.

    The address is ``Source`` of ``[project.urls]`` in pyproject.toml. As long as there
    is none, links become plain text, and pictures are left out.
    """

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the README.

        Args:
            metadata: The table ``[project]`` of pyproject.toml, which is changed.
        """
        source = metadata.get('urls', {}).get('Source', '').rstrip('/')

        def replace(match: re.Match[str]) -> str:
            picture, text, path = match.groups()
            if not source:
                return '' if picture else text
            kind = 'raw' if picture else 'blob'
            return f'{picture}[{text}]({source}/{kind}/main/{path})'

        readme = Path(self.root, 'README.md').read_text(encoding='utf-8')
        metadata['readme'] = {
            'content-type': 'text/markdown',
            'text': _RELATIVE.sub(replace, readme),
        }

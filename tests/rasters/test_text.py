# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import codecs
from pathlib import Path

import pytest

from torchgeo_discomkd.commands import main
from torchgeo_discomkd.errors import TextFileError
from torchgeo_discomkd.rasters.text import decode_text, read_utf8

TEXT = 'Forêt\nZürich\n'


@pytest.mark.parametrize(
    'content',
    [
        *(TEXT.encode(), TEXT.encode('utf-8-sig'), TEXT.encode('utf-16')),
        *(TEXT.encode('utf-32'), TEXT.encode('utf-16-le'), TEXT.encode('utf-16-be')),
        codecs.BOM_UTF16_BE + TEXT.encode('utf-16-be'),
    ],
)
def test_encodings_that_can_be_told(content: bytes) -> None:
    assert decode_text(content, 'a.txt') == TEXT


@pytest.mark.parametrize('command', ['fit', 'test', 'benchmark', 'pack'])
@pytest.mark.parametrize('encoding', ['cp1252', 'utf-16'])
def test_configuration_that_is_not_utf8(
    tmp_path: Path, command: str, encoding: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / 'a.yaml'
    path.write_text('a: 1\ndata: é\n', encoding)
    option = [] if command == 'benchmark' else ['--config']
    output = ['--output', str(tmp_path / 'a')] if command == 'pack' else []
    with pytest.raises(SystemExit) as stop:
        main([command, *option, str(path), *output])
    assert stop.value.code == 2
    err = capsys.readouterr().err
    if (command, encoding) != ('pack', 'utf-16'):
        line = 2 if encoding == 'cp1252' else 1
        assert f'{path}, line {line}: ' in err
        assert 'save the file as UTF-8' in err


def test_folder_instead_of_text(tmp_path: Path) -> None:
    with pytest.raises(TextFileError, match='not a regular file'):
        read_utf8(tmp_path)

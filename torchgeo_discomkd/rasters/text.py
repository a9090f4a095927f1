# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Read text files in the encodings in which spreadsheets and editors write them."""

import codecs
from pathlib import Path

from ..errors import TextFileError

# The longest first: the mark of UTF-16 begins that of UTF-32.
_MARKS = {
    codecs.BOM_UTF32_LE: 'utf-32',
    codecs.BOM_UTF32_BE: 'utf-32',
    codecs.BOM_UTF8: 'utf-8-sig',
    codecs.BOM_UTF16_LE: 'utf-16',
    codecs.BOM_UTF16_BE: 'utf-16',
}

# Share of zeros among every second byte that shows UTF-16: most text is Latin.
_ZEROS = 0.5


def decode_text(content: bytes, name: str | Path) -> str:
    """Decode a text file: UTF-8, or UTF-16 or UTF-32 as far as they can be told.

    Args:
        content: Its bytes.
        name: The file, for the message.

    Returns:
        The text, without a byte order mark.

    Raises:
        TextFileError: If the encoding cannot be told.

    Example:
        >>> decode_text('file;group'.encode('utf-16'), 'groups.csv')
        'file;group'
    """
    encoding = _encoding(content)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b'\n') + 1
        raise TextFileError(
            f'{name}, line {line}: the bytes {content[error.start :][:4]!r} are not '
            f'{encoding.removesuffix("-sig").upper()}: save the file as UTF-8.'
        ) from error
    before, zero, _ = text.partition('\0')
    if zero:
        line = before.count('\n') + 1
        raise TextFileError(f'{name}, line {line}: a zero byte: this is not text.')
    return text


def read_text(path: Path) -> str:
    """Read a text file; see :func:`decode_text`.

    Args:
        path: The file.

    Returns:
        The text.

    Raises:
        OSError: If it cannot be read.
        TextFileError: If it is not a regular file, or its encoding cannot be told.
    """
    if path.exists() and not path.is_file():
        raise TextFileError(f'{path} is not a regular file: give a text file.')
    return decode_text(path.read_bytes(), path)


def read_utf8(path: Path) -> str:
    """Read a text file that another library reads afterwards, which knows only UTF-8.

    Args:
        path: The file.

    Returns:
        The text.

    Raises:
        OSError: If it cannot be read.
        TextFileError: If it is not a regular file, or not UTF-8.
    """
    text = read_text(path)
    encoding = _encoding(path.read_bytes())
    if not encoding.startswith('utf-8'):
        raise TextFileError(
            f'{path}, line 1: the text is {encoding.upper()}: save the file as UTF-8.'
        )
    return text


def _encoding(content: bytes) -> str:
    for mark, encoding in _MARKS.items():
        if content.startswith(mark):
            return encoding
    if not len(content) % 2:
        # without a mark: Latin letters have one byte that is zero
        high, low = (content[start::2].count(0) for start in (0, 1))
        if low > _ZEROS * len(content) / 2 and not high:
            return 'utf-16-le'
        if high > _ZEROS * len(content) / 2 and not low:
            return 'utf-16-be'
    return 'utf-8'

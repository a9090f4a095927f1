# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Ways in which a file gets damaged."""

import codecs
import re
import struct
from collections.abc import Callable
from random import Random

# Bytes of a header, in which damage does most.
_HEADER = 512

# Numbers at which readers allocate, loop or overflow.
_NUMBERS = (
    0,
    1,
    0x7F,
    0xFF,
    0x7FFF,
    0xFFFF,
    2**31 - 1,
    2**32 - 1,
    2**63 - 1,
    2**64 - 1,
)

_TEXTS = ('NaN', '-1', '1e999', '9' * 40, '""', '[' * 500, '\x00', '"' + 'x' * 200_000)


def _place(content: bytearray, rng: Random) -> int:
    end = len(content) if rng.random() < 0.5 else min(len(content), _HEADER)
    return rng.randrange(max(end, 1))


def flip(content: bytearray, rng: Random) -> bytearray:
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        if content:
            content[_place(content, rng)] ^= 1 << rng.randrange(8)
    return content


def overwrite(content: bytearray, rng: Random) -> bytearray:
    start, length = _place(content, rng), rng.choice((1, 4, 16, 256))
    content[start : start + length] = rng.randbytes(length)
    return content


def number(content: bytearray, rng: Random) -> bytearray:
    """Overwrite some bytes with a number that is too large."""
    code = rng.choice('BHIQ')
    value = rng.choice(_NUMBERS) % 256 ** struct.calcsize(code)
    data = struct.pack(rng.choice('<>') + code, value)
    start = _place(content, rng)
    content[start : start + len(data)] = data
    return content


def truncate(content: bytearray, rng: Random) -> bytearray:
    return content[: rng.randrange(len(content) + 1)]


def zero_tail(content: bytearray, rng: Random) -> bytearray:
    """Keep the length, as a download does that was interrupted."""
    start = rng.randrange(len(content) + 1)
    return content[:start] + bytes(len(content) - start)


def zero_hole(content: bytearray, rng: Random) -> bytearray:
    start, length = _place(content, rng), rng.choice((16, 512, 4096))
    hole = content[start : start + length]
    content[start : start + length] = bytes(len(hole))
    return content


def move(content: bytearray, rng: Random) -> bytearray:
    """Insert a part of the file somewhere else, or leave it out."""
    start, length = _place(content, rng), rng.choice((1, 3, 64, 1024))
    part = content[start : start + length]
    if rng.random() < 0.5:
        return content[:start] + content[start + length :]
    place = _place(content, rng)
    return content[:place] + part + content[place:]


def text(content: bytearray, rng: Random) -> bytearray:
    """Replace a number or a word of a text."""
    words = list(re.finditer(rb'[\w.+-]+', content[: 8 * _HEADER]))
    if words:
        word = rng.choice(words)
        content[word.start() : word.end()] = rng.choice(_TEXTS).encode()
    return content


def encode(content: bytearray, rng: Random) -> bytearray:
    """Write a text in another encoding."""
    words = content.decode('utf-8', 'replace')
    encoding = rng.choice(('utf-16', 'utf-16-le', 'utf-32', 'cp1252', 'utf-8-sig'))
    if rng.random() < 0.3:
        return bytearray(codecs.BOM_UTF16_LE) + content
    return bytearray(words.encode(encoding, 'replace'))


MUTATIONS: tuple[Callable[[bytearray, Random], bytearray], ...] = (
    *(flip, overwrite, number, truncate, zero_tail, zero_hole, move, text, encode),
)


def mutate(content: bytes, rng: Random) -> bytes:
    """Return damaged content: one kind of damage, or up to three."""
    damaged = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        damaged = rng.choice(MUTATIONS)(damaged, rng)
    return bytes(damaged)

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Find the images that a user specifies: files, folders, patterns, lists and URLs."""

import glob
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import BandError, CorruptFileError, LayoutError, TextFileError
from ..files import utf8_text
from .band_names import canonical, is_optical, only_numbered
from .counts import FolderCounts
from .readers import SUFFIXES
from .text import decode_text
from .trust import check_regular, is_image_name, is_virtual, plain
from .walking import walk_images

# A measurement of Sentinel-1 in its SAFE folder: the last number is that of the file.
_SAFE = re.compile(r's1[a-z]-.+-\d{3}\.tiff?')


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """One image: one file, or one file for each band.

    Attributes:
        paths: One file; or one file for each band, in the classifier's order.

    Example:
        >>> ImageFiles(('s1_VV.tif', 's1_VH.tif')).name
        's1_VV.tif;s1_VH.tif'
    """

    paths: tuple[str, ...]

    @property
    def name(self) -> str:
        """The path as in tables, several paths joined by ';'.

        Bytes of a file's name that are not valid UTF-8 are written as escapes.
        """
        return utf8_text(';'.join(self.paths))


def find_images(
    inputs: Sequence[str | Path],
    bands: Sequence[str] = (),
    report: Callable[[FolderCounts], object] | None = None,
    trust_lists: bool = False,
) -> list[ImageFiles]:
    """Find the images that a user specifies.

    An input is one of:

    * an image: a .tif, .tiff, .png, .jpg, .jpeg or .npy file, or one with another
      suffix in any format that GDAL reads;
    * a folder: all .tif, .tiff, .png, .jpg, .jpeg and .npy files in it and its
      subfolders, except hidden ones;
    * a pattern with ``*``, ``?`` or ``[...]``; ``**`` stands for any folders; files
      with other suffixes only if it ends in theirs;
    * a text file, .txt, with one of the others on each line; its paths are relative to
      the working folder, and empty lines and those that begin with ``#`` are ignored.
      It must be trusted to name URLs, virtual paths and files with other suffixes,
      since those may lead to any other file or host;
    * a URL or a path of GDAL's virtual file systems, which is not looked up;
    * ``VV=path``, the file of one band, along with one for each other band; if the
      classifier's bands are only numbered (B1, B2 and so on), in their order.

    Files in one folder whose names differ only in the name of the band, such as
    ``s1_VV.tif`` and ``s1_VH.tif`` or ``VV.tif`` and ``VH.tif``, are one image if there
    is one for each of *bands*. Case is ignored. If the classifier's bands are only
    numbered, there must be no file of another number, such as 's2_B8A.tif'.

    Args:
        inputs: The inputs.
        bands: Names of the classifier's bands, in order.
        report: Called for every folder and pattern, with the numbers of files that were
            found and left.
        trust_lists: Whether lists may name URLs, virtual paths and files of any format.

    Returns:
        Images given by band, then all others in the order of *inputs*, those of a
        folder or a pattern sorted by path; each path once.

    Raises:
        BandError: If ``VV=path`` names a band that the classifier does not have.
        LayoutError: If an input does not exist, a folder or a pattern has no image, or
            a list cannot be read or is not trusted. A file in a list may be missing;
            reading it then fails.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ('a.tif', 's1_VH.tif', 's1_VV.tif'):
        ...         Path(folder, name).touch()
        ...     report = lambda counts: print(str(counts).rpartition('/')[2])
        ...     images = find_images([folder], ('VV', 'VH'), report)
        : 2 images in 3 files
        >>> [[Path(path).name for path in image.paths] for image in images]
        [['a.tif'], ['s1_VV.tif', 's1_VH.tif']]
    """
    by_band: list[tuple[str, str]] = []
    # in order, with the counts of the first folder or pattern that has it
    files: dict[str, FolderCounts | None] = {}
    for text in map(str, inputs):
        band, equals, path = text.partition('=')
        known = canonical(band) in {canonical(name) for name in bands}
        if equals and not Path(text).exists() and (known or Path(path).exists()):
            by_band.append((band, path))
        else:
            for file, counts in _expand(text, trust_lists):
                files.setdefault(file, counts)
    images = _join_explicit(_name_bands(by_band, bands)) + _join_bands(
        list(files), bands
    )
    images = list(dict.fromkeys(images))
    if not images:
        raise LayoutError('No image was given: give tiles, folders, or a scene.')
    if report is not None:
        for counts in _count(files, images):
            report(counts)
    return images


def _count(
    files: dict[str, FolderCounts | None], images: Sequence[ImageFiles]
) -> list[FolderCounts]:
    """Return the counts of all folders and patterns."""
    found = Counter(counts for counts in files.values() if counts is not None)
    for counts, number in found.items():
        counts.files = number
    for image in images:
        if (counts := files.get(image.paths[0])) is not None:
            counts.images += 1
    return list(found)


def _name_bands(
    by_band: Sequence[tuple[str, str]], bands: Sequence[str]
) -> dict[str, list[str]]:
    """Return the files of each of the classifier's bands."""
    names = {canonical(band): band for band in bands}
    given = list(dict.fromkeys(canonical(band) for band, _ in by_band))
    if (
        only_numbered(bands)
        and len(given) == len(bands)
        and not set(given) & set(names)
    ):
        names = dict(zip(given, bands, strict=True))
    if unknown := [band for band, _ in by_band if canonical(band) not in names]:
        raise BandError(
            f'{unknown[0]}=... does not name a band of the classifier, which has '
            f'{", ".join(bands)}: write {bands[0]}=... and so on.'
        )
    files: dict[str, list[str]] = {band: [] for band in bands}
    for band, path in by_band:
        files[names[canonical(band)]].append(path)
    return files


def _expand(
    text: str, trust_lists: bool, listed: bool = False
) -> Iterator[tuple[str, FolderCounts | None]]:
    """Yield the files of one input, with the counts of a folder or a pattern.

    Those of a *listed* input need not exist.
    """
    if os.path.isdir(text):  # noqa: PTH112 (thousands of times faster than a Path)
        counts = FolderCounts(os.path.join(text, ''))  # noqa: PTH118
        found = _walk(text, counts)
        hint = f'no {", ".join(SUFFIXES)} file is in it or its subfolders'
    elif is_virtual(text):
        yield text, None
        return
    elif os.path.exists(text):  # noqa: PTH110
        if text.lower().endswith('.txt'):
            yield from _read_list(text, trust_lists)
        else:
            yield _normal(text), None
        return
    elif glob.has_magic(text):
        counts = FolderCounts(text)
        found = _match(text, counts)
        hint = 'no file matches this pattern'
    elif listed:
        yield _normal(text), None
        return
    else:
        raise LayoutError(f'{text} does not exist: give a file, a folder or a pattern.')
    first = next(found, None)
    if first is None:
        raise LayoutError(f'{text}: {hint}.')
    yield first, counts
    for path in found:
        yield path, counts


def _normal(path: str) -> str:
    return plain(os.path.normpath(path))


def _match(pattern: str, counts: FolderCounts) -> Iterator[str]:
    # a suffix that is written out is meant
    suffix = os.path.splitext(pattern)[1].lower()  # noqa: PTH122
    wanted = SUFFIXES if glob.has_magic(suffix) else (*SUFFIXES, suffix or '/')
    walked: tuple[str, ...] = ()
    for path in sorted(glob.glob(pattern, recursive=True)):  # noqa: PTH207
        if path.startswith(walked):
            # '**' matches a folder and all that is in it
            continue
        if os.path.isdir(path):  # noqa: PTH112
            walked += (os.path.join(path, ''),)  # noqa: PTH118
            yield from _walk(path, counts)
        elif path.lower().endswith(wanted):
            yield _normal(path)
        else:
            counts.suffixes[os.path.splitext(path)[1].lower()] += 1  # noqa: PTH122


def _walk(folder: str, counts: FolderCounts) -> Iterator[str]:
    # normal paths, as the names are joined to a normal path
    for entry in walk_images(os.path.normpath(folder), counts):
        yield plain(entry.path.removeprefix(f'.{os.sep}'))


def _read_list(path: str, trusted: bool) -> Iterator[tuple[str, FolderCounts | None]]:
    lines = {
        n: line for n, line in enumerate(read_lines(path), 1) if line[:1] not in '#'
    }
    if not lines:
        raise LayoutError(f'{path} lists no path: write one per line.')
    for number, line in lines.items():
        if line.lower().endswith('.txt'):
            raise LayoutError(f'{path} lists another list, {line}: give both instead.')
        for file, counts in _expand(line, trusted, listed=True):
            if not trusted and not is_image_name(file):
                raise LayoutError(
                    f'{path}, line {number}: {file} is not a {", ".join(SUFFIXES)} '
                    'file, and may lead to any other file or host: give it on the '
                    'command line, or add --trust-lists if you know what it is.'
                )
            yield file, counts


def read_lines(path: str) -> list[str]:
    """Return the lines of a list, including those that are empty or remarks.

    Args:
        path: The text file.

    Raises:
        LayoutError: If it cannot be read.
    """
    try:
        check_regular(path)
        content = Path(path).read_bytes()
        text = decode_text(content, path)
    except (OSError, CorruptFileError) as error:
        raise LayoutError(
            f'{path} cannot be read as a list of paths ({error}): it must be a text '
            'file with one path per line.'
        ) from error
    except TextFileError as error:
        if b'\0' in content:
            raise LayoutError(f'{error} List one path per line.') from error
        # the names of files need not be UTF-8
        found = enumerate(content.splitlines(), 1)
        return [_existing(line.strip(), f'{path}, line {n}') for n, line in found]
    return [line.strip() for line in text.splitlines()]


def _existing(line: bytes, where: str) -> str:
    """Decode a path in a list that is not UTF-8: its file shows how."""
    for text in (os.fsdecode(line), line.decode('cp1252', 'replace')):
        if line.isascii() or os.path.lexists(text):
            return text
    raise LayoutError(
        f'{where} cannot be read as a list of paths: {line!r} is neither UTF-8 nor the '
        'name of a file: save the list as UTF-8.'
    )


def _join_explicit(explicit: dict[str, list[str]]) -> list[ImageFiles]:
    counts = {band: len(paths) for band, paths in explicit.items()}
    if len(set(counts.values())) > 1:
        raise LayoutError(
            f'The numbers of files given by band differ ({counts}): give one for each '
            f'band, such as {" ".join(f"{band}=<file>" for band in explicit)}.'
        )
    return [ImageFiles(paths) for paths in zip(*explicit.values(), strict=True)]


def _join_bands(paths: Sequence[str], bands: Sequence[str]) -> list[ImageFiles]:
    """Group files whose names differ only in the name of the band into one image."""
    keys = [_split_band(path, bands) for path in paths]
    groups: dict[str, dict[str, str]] = {}
    double = set()
    for path, (key, band) in zip(paths, keys, strict=True):
        if band is not None:
            group = groups.setdefault(key, {})
            if group.setdefault(band, path) != path:
                double.add(key)
    images = []
    for path, (key, band) in zip(paths, keys, strict=True):
        group = groups.get(key, {})
        if band is None or {*group} != {*bands} or key in double:
            images.append(ImageFiles((path,)))
        elif path == next(iter(group.values())):
            images.append(ImageFiles(tuple(group[name] for name in bands)))
    return images


def _split_band(path: str, bands: Sequence[str]) -> tuple[str, str | None]:
    """Return a path without the name of its band, and the band, None if unclear."""
    folder, name = os.path.split(path)
    parts = re.split(r'([^A-Za-z0-9]+)', name.casefold())
    names = {canonical(band): band for band in bands}
    found = [(i, names[k]) for i, p in enumerate(parts) if (k := canonical(p)) in names]
    if not found and only_numbered(bands):
        # next to a sensor's B05, its B01 is not the first band of the training tiles
        found = [(i, canonical(p)) for i, p in enumerate(parts) if is_optical(p)]
    if len(bands) < 2 or len(found) != 1:
        return path, None
    [(position, band)] = found
    parts[position] = '?'
    if _SAFE.fullmatch(name.casefold()):
        # the files of a SAFE folder are numbered, too
        parts[-3] = '?'
    return os.path.join(folder, ''.join(parts)), band  # noqa: PTH118

# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Names of samples in :class:`PairedFolders`: subfolders, patterns and Unicode."""

import re
import shlex
import shutil
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.fakes import pack_folders
from torchgeo_discomkd.datasets import EuroSATMSSAR, PairedFolders
from torchgeo_discomkd.errors import (
    LayoutError,
    ModalityError,
    PairingError,
    SettingError,
    SplitError,
)

from .conftest import stems
from .pack.conftest import assert_same

#: All samples of a small data set: one group for each split.
BY_GROUP: dict[str, Any] = {'split_scheme': 'groups', 'groups': 'g.csv'}
PATTERNS = {'S1': '(.+)_s1_(.+)', 'S2': '(.+)_s2_(.+)'}
NFC, NFD = (unicodedata.normalize(form, 'Forêt') for form in ('NFC', 'NFD'))


def write(root: Path, *names: str, modalities: Sequence[str] = ('S1', 'S2')) -> Path:
    """Write 1x1 tiles with their own number as only value; return *root*."""
    for modality in modalities:
        for number, name in enumerate(names):
            path = root / modality / f'{name}.npy'
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, np.full((1, 1, 1), number))
    return root


@pytest.fixture
def train(tmp_path: Path) -> Path:
    """Folder of the modalities of a training split, which has all samples."""
    return tmp_path / 'train'


def read(train: Path, **arguments: Any) -> PairedFolders:
    return PairedFolders(str(train.parent), split_scheme='folder', **arguments)


def names_of(train: Path, **arguments: Any) -> list[str]:
    return stems(read(train, **arguments))


def test_subfolders_are_read_at_any_depth(train: Path) -> None:
    write(train, 'A/t1', 'A/north/t2', 'A/north/deep/er/t3', 'A/.hidden/t4', 'B/t1')
    assert names_of(train) == ['A/t1', 'A/t2', 'A/t3', 'B/t1']


def test_a_file_may_lie_in_other_subfolders_in_each_modality(train: Path) -> None:
    write(train, 'A/north/t1', 'A/t2', modalities=['S1'])
    write(train, 'A/t1', 'A/south/t2', modalities=['S2'])
    assert names_of(train) == ['A/t1', 'A/t2']
    dataset = read(train)
    assert [int(sample['image_S2']) for sample in dataset] == [0, 1]


def test_repeated_stems_keep_their_subfolders(train: Path) -> None:
    names = ['A/t1', 'A/x/t1', 'A/x/y/t1', 'A/x/t2', 'B/x/t1']
    write(train, *names)
    dataset = names_of(train)
    assert dataset == ['A/t1', 'A/t2', 'A/x/t1', 'A/x/y/t1', 'B/t1']
    samples = list(read(train))
    assert [int(s['image_S1']) for s in samples] == [0, 3, 1, 2, 4]
    assert [int(s['image_S2']) for s in samples] == [0, 3, 1, 2, 4]


def test_stem_repeated_in_one_modality_only(train: Path) -> None:
    write(train, 'A/x/t1', 'A/x/t2')
    write(train, 'A/y/t1', modalities=['S2'])
    with pytest.raises(PairingError, match=r'S1 lacks 1 \(A/y/t1\)'):
        names_of(train, folders={'S1': 'S1', 'S2': 'S2'})
    names = names_of(train, folders={'S1': 'S1', 'S2': 'S2'}, missing='skip')
    assert names == ['A/t2', 'A/x/t1']


def test_circles_of_links_end(train: Path) -> None:
    write(train, 'A/t1', 'B/x/t2')
    for modality in ('S1', 'S2'):
        for name, target in {'A/up': '..', 'A/b': 'B', 'B/x/self': 'B/x'}.items():
            link = train / modality / name
            link.symlink_to(train / modality / target)
    assert names_of(train) == ['A/t1', 'B/t2']
    assert str(read(train).counts[0]).endswith(
        '/{train,val,test}/S1; left 3 folders: 2 linked in a circle, 1 linked twice'
    )


def test_modality_with_subfolders_only(train: Path) -> None:
    write(train, 'A/x/t1', 'B/x/t1', modalities=['S1'])
    with pytest.raises(LayoutError, match=r'name the folder of each modality'):
        PairedFolders(str(train))
    write(train, 'A/t1', 'B/t1', modalities=['S2'])
    write(train, 'S1/A/t1', modalities=['archive'])
    assert names_of(train) == ['A/t1', 'B/t1']


def test_folder_of_a_modality_inside_another(train: Path) -> None:
    write(train, 'A/t1', 'B/t1', 'SAR/A/t1', 'SAR/B/t1', modalities=['S2'])
    folders = {'ms': 'S2', 'sar': 'S2/SAR'}
    assert names_of(train, folders=folders) == ['A/t1', 'B/t1']


@pytest.mark.parametrize('suffix', ['', '.tif'])
@pytest.mark.parametrize(
    'names',
    [
        ['A/x/t1', 'A/y/t1', 'A/z/t2', 'B/t3'],
        ['S1/A/x/t1', 'S1/A/y/t1', 'S1/A/t2', 'S1/B/z/t3'],
        ['x/t1', 'y/t1', 't2', 't3'],
    ],
)
def test_groups_of_samples_in_subfolders(
    train: Path, names: list[str], suffix: str
) -> None:
    write(train, 'A/x/t1', 'A/y/t1', 'A/z/t2', 'B/z/t3')
    table = dict(zip(names, 'VTRR', strict=True))
    lines = [f'{name}{suffix},{group}' for name, group in table.items()]
    (train / 'g.csv').write_text('\n'.join(['file,group', *lines]))
    folders = {'S1': 'S1', 'S2': 'S2'}
    dataset = PairedFolders(
        str(train), folders=folders, **BY_GROUP, val_groups=['V'], test_groups=['T']
    )
    assert stems(dataset) == ['A/t2', 'B/t3']


def test_groups_that_do_not_tell_subfolders_apart(train: Path) -> None:
    write(train, 'A/t1', 'A/y/t1', 'B/t1')
    (train / 'g.csv').write_text('file,group\nt1,R\nA/y/t1,R\n')
    with pytest.raises(SplitError, match=r'1 of 3 samples .*\(A/t1\)'):
        PairedFolders(str(train), **BY_GROUP, val_groups=['R'])


def test_pattern(train: Path) -> None:
    write(train, 'A/r_s1_1', 'A/x/r_s1_2', 'A/quicklook', modalities=['S1'])
    write(train, 'A/r_s2_1', 'A/r_s2_2', modalities=['S2'])
    assert names_of(train, stem_pattern=PATTERNS) == ['A/r_1', 'A/r_2']
    assert str(read(train, stem_pattern=PATTERNS).counts[0]).endswith(
        'S1; left 1 file: 1 not matching stem_pattern'
    )


def test_pattern_without_groups_selects_files(train: Path) -> None:
    write(train, 'A/t1', 'A/t2')
    write(train, 'A/t1_mask', modalities=['S2'])
    assert names_of(train, stem_pattern={'S2': r't\d'}) == ['A/t1', 'A/t2']


def test_patterns_that_do_not_work(train: Path) -> None:
    write(train, 'A/r_s1_1', 'A/r_s1_2')
    for pattern, error, message in [
        ('(.+)_s3', LayoutError, r"'S1', \(\.\+\)_s3, matches none .* as r_s1_1: "),
        ('(.+', SettingError, r"stem_pattern of 'S1' is '\(\.\+', which is not"),
        (
            '(.+)_s1_.',
            PairingError,
            r'S1/A/r_s1_1\.npy and .*r_s1_2\.npy are both the sample A/r',
        ),
    ]:
        with pytest.raises(error, match=message):
            PairedFolders(str(train), stem_pattern={'S1': pattern})
    with pytest.raises(ModalityError, match=r"Unknown modalities \['S3'\]"):
        PairedFolders(str(train), stem_pattern={'S3': '.'})


@pytest.mark.parametrize('missing', ['error', 'skip'])
@pytest.mark.parametrize(
    ('one', 'other'),
    [
        ('ROIs1_s1_{}', 'ROIs1_s2_{}'),
        ('a-{}-VV+VH', 'a-{}-B4'),
        ('sar_{}', 'optical_{}'),
        ('t_{}_$x', 't_{}'),
    ],
)
def test_a_pattern_is_proposed(train: Path, one: str, other: str, missing: Any) -> None:
    for modality, form in {'S1': one, 'S2': other}.items():
        names = (f'{c}/{form.format(n)}' for c in 'AB' for n in range(10))
        write(train, *names, modalities=[modality])
    with pytest.raises(PairingError) as error:
        PairedFolders(str(train), missing=missing)
    message = str(error.value)
    [given] = re.findall(r'stem_pattern=(\{.*?\}) \(', message)
    [_, typed] = shlex.split(message[message.index('--data') :].removesuffix(').'))
    assert yaml.safe_load(given) == yaml.safe_load(typed)
    dataset = PairedFolders(str(train), stem_pattern=yaml.safe_load(typed))
    assert len(dataset) == 14


def test_no_pattern_is_proposed_that_does_not_help(train: Path) -> None:
    write(train / 'a', 'A/t_1', 'A/t_2', modalities=['S1'])
    write(train / 'a', 'A/t_3', 'A/t_4', modalities=['S2'])
    with pytest.raises(PairingError, match='Complete the folders'):
        PairedFolders(str(train / 'a'))
    write(train / 'b', 'River/t_s1', modalities=['EuroSAT_MS'])
    write(train / 'b', 'River/t_s2', modalities=['EuroSAT-SAR'])
    with pytest.raises(PairingError, match='Complete the folders'):
        EuroSATMSSAR(str(train / 'b'))


def test_unicode(train: Path) -> None:
    write(train, f'{NFD}/{NFD}1', f'{NFD}/{NFC}2', 'A/t', modalities=['S1'])
    write(train, f'{NFC}/{NFC}1', f'{NFC}/{NFD}2', 'A/t', modalities=['S2'])
    (train / 'g.csv').write_text(f'file,group\n{NFD}1,1\n{NFC}2,{NFD}\nt,{NFC}\n')
    dataset = PairedFolders(
        str(train), 'test', **BY_GROUP, classes=['A', NFD], test_groups=[NFC]
    )
    assert dataset.classes == ('A', NFC)
    assert stems(dataset) == ['A/t', f'{NFC}/{NFC}2']
    assert [int(sample['image_S1']) for sample in dataset] == [2, 1]


def test_class_in_two_unicode_forms(train: Path) -> None:
    write(train, f'{NFC}/t1', f'{NFD}/t2', f'{NFD}/x/t3', f'{NFC}/x/t4')
    assert names_of(train) == [f'{NFC}/t{n}' for n in (1, 2, 3, 4)]
    write(train, f'{NFD}/t1', modalities=['S2'])
    with pytest.raises(PairingError, match=r't1\.npy \(they differ in the Unicode'):
        names_of(train)


def test_everything_from_a_pack(train: Path) -> None:
    root = train / 'data'
    names = [f'{c}/{{f}}/a_{{s}}_{n}' for c in (NFD, 'B') for n in range(10)]
    for modality in ('s1', 's2'):
        found = [name.format(f='x', s=modality) for name in names]
        again = [name.format(f='y', s=modality) for name in names[:3]]
        write(root, *found, *again, 'B/quicklook', modalities=[modality.upper()])
        np.save(root / modality.upper() / 'B' / 'quicklook.npy', np.ones((3, 2, 2)))
    arguments: dict[str, Any] = {
        'folders': {'S1': 'S1', 'S2': 'S2'},
        'stem_pattern': PATTERNS,
    }
    source = PairedFolders(str(root), **arguments)
    assert f'{NFC}/x/a_0' in stems(source) + stems(
        PairedFolders(str(root), 'test', **arguments)
    )
    packed = pack_folders(root, **arguments)
    assert_same(PairedFolders(str(packed), **arguments), source)
    with pytest.raises(PairingError, match='stem_pattern='):
        PairedFolders(str(packed))
    with pytest.raises(LayoutError, match='matches none of its 23 stems'):
        PairedFolders(str(packed), stem_pattern={'S1': 'b(.+)'})
    shutil.copy(root / 'S1/B/x/a_s1_0.npy', root / 'S1/B/notes.npy')
    copy = shutil.copy(packed, packed.with_name('x.safetensors'))
    # a file that the pattern leaves is no part of the source
    assert len(PairedFolders(str(copy), **arguments)) == len(source)


def test_counts(train: Path) -> None:
    write(train, 'A/t1', 'A/x/t2', 'B/t1')
    for name in (
        'A/t1.aux.xml',
        'A/x/b.XML',
        'B/notes',
        'A/.t.npy',
        'lost.tif',
        'l.csv',
    ):
        (train / 'S1' / name).touch()
    (train / 'S1' / '.cache').mkdir()
    (train / 'S1' / 'A' / 'gone.tif').symlink_to('nowhere')
    (train / 'S2' / 'A' / 'x' / 't2.npy').unlink()
    found = read(train, missing='skip').counts
    place = f'below {train.parent}/{{train,val,test}}'
    assert '\n'.join(map(str, found)) == (
        f'S1: 2 images in 2 classes {place}/S1; left 8 files: 4 of other types '
        '(.xml, .csv, no suffix), 1 outside the class folders, 1 hidden, 1 broken '
        "links, 1 not in every modality (missing='skip'); left 1 folder: 1 hidden\n"
        f'S2: 2 images in 2 classes {place}/S2'
    )

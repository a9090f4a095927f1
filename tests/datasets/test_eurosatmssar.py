# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import hashlib
import pickle
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from torchgeo.datasets import (
    CopernicusBenchEuroSATS1,
    DatasetNotFoundError,
    EuroSAT,
    EuroSATSpatial,
)

from tests.fakes import EUROSAT_CLASSES, write_eurosat, write_tile
from torchgeo_discomkd.datasets import EuroSATMSSAR, band_statistics, cached_statistics
from torchgeo_discomkd.errors import (
    BandError,
    CorruptFileError,
    LabelError,
    LayoutError,
    ModalityError,
    PairingError,
    SplitError,
    UnitError,
    UserError,
)


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture(scope='module')
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_eurosat(tmp_path_factory.mktemp('original'))


@pytest.fixture
def root(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / 'data'))


@pytest.fixture(scope='module')
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with small archives and split files of the real names and layout."""
    folder = tmp_path_factory.mktemp('released')
    tree = write_eurosat(tmp_path_factory.mktemp('tree'), torchgeo_layout=True)
    for name, top in {'EuroSATallBands': 'ds', 'eurosat_s1': 'eurosat_s1'}.items():
        shutil.make_archive(str(folder / name), 'zip', tree, top)
    write_split_files(folder)
    return folder


def write_split_files(folder: Path) -> None:
    for source, shift in ((EuroSAT, 0), (EuroSATSpatial, 5)):
        parts: dict[str, list[str]] = {'train': [], 'val': [], 'test': []}
        for name in EUROSAT_CLASSES:
            for number in range(10):
                rank = (number + shift) % 10
                split = 'train' if rank < 6 else 'val' if rank < 8 else 'test'
                parts[split].append(f'{name}_{number + 1}.jpg')
        for split, lines in parts.items():
            path = folder / source.split_filenames[split]
            path.write_text('\n'.join(lines) + '\n')


@pytest.fixture
def server(released: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve the archives from this machine in place of TorchGeo's URL."""
    handler = partial(QuietHandler, directory=str(released))
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        url = f'http://127.0.0.1:{http.server_port}/'
        digest = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in released.iterdir()
        }
        monkeypatch.setattr(EuroSAT, 'url', url)
        monkeypatch.setattr(EuroSAT, 'sha256', digest['EuroSATallBands.zip'])
        for source in (EuroSAT, EuroSATSpatial):
            sums = {s: digest[name] for s, name in source.split_filenames.items()}
            monkeypatch.setattr(source, 'split_sha256s', sums)
        monkeypatch.setattr(CopernicusBenchEuroSATS1, 'url', url + 'eurosat_s1.zip')
        monkeypatch.setattr(
            CopernicusBenchEuroSATS1, 'sha256', digest['eurosat_s1.zip']
        )
        yield url
        http.shutdown()
        thread.join()


def stems(dataset: EuroSATMSSAR) -> set[str]:
    return {dataset.identifier(i).split('/')[1] for i in range(len(dataset))}


def test_original_layout(original: Path) -> None:
    dataset = EuroSATMSSAR(str(original))
    assert dataset.classes == EUROSAT_CLASSES
    assert len(dataset) == 70
    assert dataset.units['sar'] == 'dB'
    assert dataset.bands['ms'][7:] == ('B08', 'B09', 'B10', 'B11', 'B12', 'B8A')
    assert dataset.bands['sar'] == ('VV', 'VH')
    sample = dataset[0]
    assert sample['image_ms'].shape == (13, 8, 8)
    assert sample['image_sar'].shape == (2, 8, 8)
    for index in range(0, 70, 7):
        name = dataset.identifier(index).split('/')[0]
        assert EUROSAT_CLASSES.index(name) == dataset[index]['label']
    assert len(EuroSATMSSAR(str(original), 'test')) == 30


def test_labels_are_those_of_torchgeo(tmp_path: Path, server: str) -> None:
    root = str(tmp_path)
    dataset = EuroSATMSSAR(root, split_scheme='torchgeo', download=True)
    partner = EuroSAT(root)
    assert tuple(partner.classes) == dataset.classes
    assert len(partner) == len(dataset)
    label_of = {Path(p).stem: label for p, label in partner.samples}
    names = [dataset.identifier(i).split('/')[1] for i in range(len(dataset))]
    assert [label_of[n] for n in names] == dataset.labels.tolist()
    index = names.index(Path(partner.samples[33][0]).stem)
    assert torch.equal(partner[33]['image'], dataset[index]['image_ms'])


@pytest.mark.parametrize('layout', ['original', 'torchgeo'])
def test_sar_stays_in_db(tmp_path: Path, layout: str) -> None:
    root = write_eurosat(tmp_path, torchgeo_layout=layout == 'torchgeo')
    folder = 'EuroSAT-SAR' if layout == 'original' else 'eurosat_s1/all_imgs'
    dataset = EuroSATMSSAR(str(root), modalities=['sar'])
    name = dataset.identifier(3)
    array = np.full((2, 8, 8), -0.25, np.float32)
    write_tile(root / folder / f'{name}.tif', array)
    assert (dataset[3]['image_sar'] == -0.25).all()


@pytest.mark.parametrize(('modality', 'other'), [('ms', 'sar'), ('sar', 'ms')])
def test_only_the_requested_modality_is_needed(
    root: Path, modality: str, other: str
) -> None:
    bands = {'ms': ['B04'], 'sar': ['VH']}
    before = EuroSATMSSAR(str(root), modalities=[modality], bands=bands)
    shutil.rmtree(root / {'ms': 'EuroSAT_MS', 'sar': 'EuroSAT-SAR'}[other])
    after = EuroSATMSSAR(str(root), modalities=[modality], bands=bands)
    assert after.split_hash() == before.split_hash()
    assert after[0][f'image_{modality}'].shape == (1, 8, 8)
    with pytest.raises(DatasetNotFoundError, match=f"The '{other}' tiles .* download="):
        EuroSATMSSAR(str(root))


def test_bands(original: Path) -> None:
    whole = EuroSATMSSAR(str(original))
    bands = {'ms': ['B8A', 'B02']}
    dataset = EuroSATMSSAR(str(original), bands=bands)
    assert dataset.bands == {'ms': ('B8A', 'B02'), 'sar': ('VV', 'VH')}
    assert torch.equal(dataset[5]['image_ms'], whole[5]['image_ms'][[12, 1]])
    with pytest.raises(BandError, match='B8'):
        EuroSATMSSAR(str(original), bands={'ms': ['B8']})
    with pytest.raises(ModalityError, match='optical'):
        EuroSATMSSAR(str(original), bands={'optical': ['B02']})
    with pytest.raises(ModalityError, match='optical'):
        EuroSATMSSAR(str(original), modalities=['optical'])


def test_runs_of_the_paper(original: Path) -> None:
    tests = [stems(EuroSATMSSAR(str(original), 'test', run=run)) for run in range(3)]
    assert [len(t) for t in tests] == [30] * 3
    assert tests[0] != tests[1] != tests[2]


def test_download_and_extract(tmp_path: Path, server: str) -> None:
    root = tmp_path / 'new'
    dataset = EuroSATMSSAR(str(root), download=True)
    assert len(dataset) == 70
    assert dataset[0]['image_ms'].shape == (13, 8, 8)
    assert (root / 'eurosat_s1' / 'all_imgs' / 'River').is_dir()
    assert sorted(p.name for p in root.iterdir()) == [
        'EuroSATallBands.zip',
        'ds',
        'eurosat_s1',
        'eurosat_s1.zip',
    ]
    again = EuroSATMSSAR(str(root), download=False)
    assert again.fingerprint() == dataset.fingerprint()


def test_archives_on_disk_need_no_download(tmp_path: Path, released: Path) -> None:
    for name in ('EuroSATallBands.zip', 'eurosat_s1.zip'):
        shutil.copy(released / name, tmp_path / name)
    # none of them was checked by a download
    with pytest.raises(CorruptFileError, match=r'zip is not the archive that was'):
        EuroSATMSSAR(str(tmp_path))
    assert len(EuroSATMSSAR(str(tmp_path), checksum=False)) == 70


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda entry: setattr(entry, 'external_attr', 0o120777 << 16), 'a link'),
        (lambda entry: setattr(entry, 'flag_bits', entry.flag_bits | 1), 'encrypted'),
    ],
)
def test_entries_that_are_no_tiles(
    tmp_path: Path, released: Path, change: Callable[[Any], None], message: str
) -> None:
    path = tmp_path / 'eurosat_s1.zip'
    shutil.copy(released / path.name, path)
    with zipfile.ZipFile(path, 'a') as archive:
        archive.writestr('eurosat_s1/all_imgs/River/x.tif', '/etc/hostname')
        change(archive.infolist()[-1])
    with pytest.raises(CorruptFileError, match=f'River/x.tif is {message}'):
        EuroSATMSSAR(str(tmp_path), modalities=['sar'], checksum=False)
    assert not (tmp_path / 'eurosat_s1').exists()


def test_wrong_checksum(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CopernicusBenchEuroSATS1, 'sha256', '0' * 64)
    with pytest.raises(LayoutError, match=r"The 'sar' tiles .* cannot be downloaded"):
        EuroSATMSSAR(str(tmp_path), modalities=['sar'], download=True)
    (tmp_path / 'eurosat_s1.zip').unlink(missing_ok=True)
    arguments: dict[str, Any] = {'modalities': ['sar'], 'download': True}
    assert len(EuroSATMSSAR(str(tmp_path), checksum=False, **arguments)) == 70


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EuroSAT, 'url', 'http://127.0.0.1:9/')
    with pytest.raises(DatasetNotFoundError, match=r'Connection refused.*fetch http'):
        EuroSATMSSAR(str(tmp_path), download=True)


def test_broken_archive(tmp_path: Path, released: Path) -> None:
    path = tmp_path / 'eurosat_s1.zip'
    path.write_bytes((released / path.name).read_bytes()[:1000])
    with pytest.raises(CorruptFileError, match=r'eurosat_s1\.zip is not an archive'):
        EuroSATMSSAR(str(tmp_path), modalities=['sar'], checksum=False)
    # all entries would begin before the file
    content = bytearray((released / path.name).read_bytes())
    end = content.rindex(b'PK\x05\x06') + 16
    start = int.from_bytes(content[end : end + 4], 'little') + 1000
    content[end : end + 4] = start.to_bytes(4, 'little')
    path.write_bytes(content)
    with pytest.raises(CorruptFileError, match=r'eurosat_s1\.zip is not an archive'):
        EuroSATMSSAR(str(tmp_path), modalities=['sar'], checksum=False)
    shutil.copy(released / 'EuroSATallBands.zip', path)
    with pytest.raises(CorruptFileError, match='a folder eurosat_s1/all_imgs'):
        EuroSATMSSAR(str(tmp_path), modalities=['sar'], checksum=False)
    assert not (tmp_path / 'eurosat_s1').exists() or not any(
        (tmp_path / 'eurosat_s1').iterdir()
    )


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError) as caught:
        EuroSATMSSAR(str(tmp_path / 'nowhere'))
    assert isinstance(caught.value, UserError)
    message = str(caught.value)
    assert 'use download=True' in message
    assert EuroSAT.url + 'EuroSATallBands.zip' in message
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == message


@pytest.mark.parametrize('scheme', ['torchgeo', 'spatial'])
def test_split_files(
    original: Path, tmp_path: Path, released: Path, server: str, scheme: Any
) -> None:
    root = Path(shutil.copytree(original, tmp_path / 'data'))
    source = EuroSAT if scheme == 'torchgeo' else EuroSATSpatial
    with pytest.raises(LayoutError, match=source.split_filenames['val']):
        EuroSATMSSAR(str(root), 'val', split_scheme=scheme)
    for split, count in {'train': 60, 'val': 20, 'test': 20}.items():
        dataset = EuroSATMSSAR(str(root), split, split_scheme=scheme, download=True)
        lines = (released / source.split_filenames[split]).read_text().split()
        assert len(dataset) == count
        assert stems(dataset) == {line.removesuffix('.jpg') for line in lines}
        again = EuroSATMSSAR(str(root), split, split_scheme=scheme)
        assert again.split_hash() == dataset.split_hash()


def test_tiles_of_a_split_file_that_are_not_on_disk(root: Path) -> None:
    write_split_files(root)
    (root / 'EuroSAT_MS/River/River_2.tif').unlink()
    with pytest.raises(PairingError, match='ms lacks 1'):
        EuroSATMSSAR(str(root), split_scheme='torchgeo')
    (root / 'EuroSAT-SAR/River/River_2.tif').unlink()
    with pytest.raises(DatasetNotFoundError, match=r'1 of 60 tiles .* \(River_2\)'):
        EuroSATMSSAR(str(root), split_scheme='torchgeo')
    dataset = EuroSATMSSAR(str(root), split_scheme='torchgeo', missing='skip')
    assert len(dataset) == 59


def test_classes_on_disk(root: Path) -> None:
    for folder in ('EuroSAT_MS', 'EuroSAT-SAR'):
        shutil.copytree(root / folder / 'River', root / folder / 'Canal')
    with pytest.raises(LabelError, match=r"holds the classes \['Canal'\]"):
        EuroSATMSSAR(str(root))
    for folder in ('EuroSAT_MS', 'EuroSAT-SAR'):
        shutil.rmtree(root / folder / 'Canal')
        shutil.rmtree(root / folder / 'River')
    with pytest.raises(SplitError, match="'train' has no sample of River"):
        EuroSATMSSAR(str(root))


def test_linear_power_in_place_of_db(root: Path) -> None:
    for path in (root / 'EuroSAT-SAR').rglob('*.tif'):
        write_tile(path, np.full((2, 8, 8), 0.05, np.float32))
    with pytest.raises(UnitError, match="Band VV of 'sar' is said to be in dB"):
        cached_statistics(EuroSATMSSAR(str(root)))


def test_plot(original: Path) -> None:
    dataset = EuroSATMSSAR(str(original))
    sample = dataset[0] | {'prediction': {'ms': torch.tensor(1), 'sar': 9}}
    figure = dataset.plot(sample)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == [
        'ms\nLabel: AnnualCrop\nPrediction: Forest',
        'sar\nLabel: AnnualCrop\nPrediction: SeaLake',
    ]
    assert all(a.images[0].get_array().shape == (8, 8, 3) for a in figure.axes)
    plt.close(figure)


def test_real_tiles(real_data: Path, tmp_path: Path) -> None:
    (tmp_path / 'EuroSAT_MS').symlink_to(real_data / 'eurosat_ms')
    dataset = EuroSATMSSAR(str(tmp_path), modalities=['ms'], missing='keep')
    assert dataset.classes == EUROSAT_CLASSES
    statistics = band_statistics(dataset, 'ms')
    mean = dict(zip(statistics.bands, statistics.mean, strict=True))
    assert mean['B10'] < 50 < mean['B09'] < mean['B01']
    assert mean['B8A'] > mean['B08'] > mean['B12']
    sea = [s['image_ms'] for s in dataset if s['label'] == 9]
    forest = [s['image_ms'] for s in dataset if s['label'] == 1]
    near = dataset.bands['ms'].index('B8A')
    assert max(t[near].median() for t in sea) < min(t[near].median() for t in forest)

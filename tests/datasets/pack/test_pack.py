# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from filelock import FileLock
from lightning.pytorch import Trainer
from safetensors import safe_open
from torch.utils.data import DataLoader

from tests.fakes import write_arrays, write_eurosat, write_pairs, write_tile
from torchgeo_discomkd.commands import main
from torchgeo_discomkd.datamodules import (
    EuroSATMSSARDataModule,
    MultiModalDataModule,
    PairedArraysDataModule,
    PairedFoldersDataModule,
    SimulatedMSSARDataModule,
)
from torchgeo_discomkd.datamodules.resident import ResidentImages
from torchgeo_discomkd.datasets import (
    EuroSATMSSAR,
    MultiModalDataset,
    PairedArrays,
    PairedFolders,
    cached_statistics,
    compute_statistics,
)
from torchgeo_discomkd.datasets.pack import pack
from torchgeo_discomkd.datasets.packfile import PackFile
from torchgeo_discomkd.errors import (
    CorruptFileError,
    LayoutError,
    MissingValueError,
    ModalityError,
    OutputError,
    OutputExistsError,
    PackError,
    SettingError,
    TileSizeError,
)


def assert_same(packed: MultiModalDataset, source: MultiModalDataset) -> None:
    """Check that two data sets deliver the same samples and say the same of them."""
    assert packed.classes == source.classes
    assert packed.modalities == source.modalities
    assert packed.bands == source.bands
    assert packed.units == source.units
    assert packed.fingerprint() == source.fingerprint()
    assert packed.split_hash() == source.split_hash()
    together = packed.__getitems__(range(len(source)))
    assert len(packed) == len(source) == len(together)
    for index in range(len(source)):
        expected = source[index]
        assert packed.identifier(index) == source.identifier(index)
        assert packed.georeference(index) == source.georeference(index)
        for sample in (packed[index], together[index]):
            assert sample.keys() == expected.keys()
            for key, values in expected.items():
                assert sample[key].dtype == values.dtype
                torch.testing.assert_close(
                    sample[key], values, rtol=0, atol=0, equal_nan=True
                )


def pack_folders(root: Path, **kwargs: Any) -> Path:
    """Pack folders; return the file beside them."""
    output = root.with_name(f'{root.name}.safetensors')
    pack(PairedFoldersDataModule(str(root), **kwargs), output)
    return output


@pytest.mark.parametrize('split', ['train', 'val', 'test'])
@pytest.mark.parametrize('run', [0, 3])
def test_folders(pairs: Path, split: str, run: int) -> None:
    packed = pack_folders(pairs, units={'sar': 'dB'})
    source = PairedFolders(str(pairs), split, run=run, units={'sar': 'dB'})
    assert_same(PairedFolders(str(packed), split, run=run), source)
    assert_same(
        PairedFolders(str(packed), split, run=run, bands={'ms': ['B4', 'B2']}),
        PairedFolders(
            str(pairs), split, run=run, bands={'ms': ['B4', 'B2']}, units={'sar': 'dB'}
        ),
    )


def test_values_are_those_of_the_files_in_their_type(pairs: Path) -> None:
    packed = pack_folders(pairs)
    with safe_open(packed, framework='np') as file:
        assert file.get_slice('image.ms').get_dtype() == 'U16'
        assert file.get_slice('image.sar').get_dtype() == 'F32'
        paths = json.loads(file.get_tensor('path.ms').tobytes())
        images = file.get_tensor('image.ms')
    assert len(paths) == len(images) == 40
    for path, image in zip(paths, images, strict=True):
        with rasterio.open(pairs / path) as tile:
            assert np.array_equal(tile.read(), image)


def test_missing_pixels_need_a_wider_type(tmp_path: Path) -> None:
    root = write_pairs(tmp_path / 'pairs', count=20)
    array = np.full((13, 8, 8), 7, np.uint16)
    array[2, 1, 1] = 0
    write_tile(root / 'ms' / 'Crop' / 'Crop_3.tif', array, nodata=0)
    packed = pack_folders(root)
    with safe_open(packed, framework='np') as file:
        assert file.get_slice('image.ms').get_dtype() == 'F32'
    for split in ('train', 'val', 'test'):
        assert_same(PairedFolders(str(packed), split), PairedFolders(str(root), split))
    with pytest.raises(MissingValueError, match='Crop_3'):
        for split in ('train', 'val', 'test'):
            dataset = PairedFolders(str(packed), split, missing_values='error')
            dataset.__getitems__(range(len(dataset)))


@pytest.mark.parametrize(
    ('dtype', 'kept'),
    [
        ('float16', 'F16'),
        ('float64', 'F32'),
        ('uint8', 'U8'),
        ('int32', 'F32'),
        ('>u2', 'U16'),
        ('>f4', 'F32'),
    ],
)
def test_types_of_arrays(tmp_path: Path, dtype: str, kept: str) -> None:
    rng = np.random.default_rng(0)
    for name in ('Crop', 'Water'):
        for number in range(10):
            array = (rng.random((3, 8, 8)) * 200).astype(dtype)
            write_tile(tmp_path / 'x' / 'rgb' / name / f'{number}.npy', array)
    packed = pack_folders(tmp_path / 'x')
    with safe_open(packed, framework='np') as file:
        assert file.get_slice('image.rgb').get_dtype() == kept
    assert_same(PairedFolders(str(packed)), PairedFolders(str(tmp_path / 'x')))


def test_a_pack_needs_its_source_no_more(tmp_path: Path) -> None:
    root = write_pairs(tmp_path / 'pairs', count=10)
    rows = [f'{c}_{n},{c},{n % 5}' for c in ('Crop', 'Water') for n in range(1, 11)]
    (root / 'groups.csv').write_text('\n'.join(['file,class,group', *rows]))
    options: dict[str, Any] = {
        'split_scheme': 'groups',
        'groups': 'groups.csv',
        'val_groups': ['1'],
        'test_groups': ['2', '3'],
    }
    packed = pack_folders(root, **options)
    expected = compute_statistics(PairedFolders(str(root), **options))
    moved = shutil.move(root, tmp_path / 'elsewhere')
    for split in ('train', 'val', 'test'):
        assert_same(
            PairedFolders(str(packed), split, **options),
            PairedFolders(str(moved), split, **options),
        )
    # the statistics of the split that was packed come from the file
    assert cached_statistics(PairedFolders(str(packed), **options)) == expected
    assert not (tmp_path / '.torchgeo_discomkd').exists()
    some = PairedFolders(str(packed), bands={'ms': ['B9', 'B3']}, **options)
    assert cached_statistics(some)['ms'].mean == (
        expected['ms'].mean[8],
        expected['ms'].mean[2],
    )
    # those of another are computed and kept beside it
    other = PairedFolders(str(packed), **options | {'val_groups': ['0']})
    assert cached_statistics(other) == compute_statistics(other)
    assert len(list((tmp_path / '.torchgeo_discomkd').iterdir())) == 2


def test_units_of_arrays(tmp_path: Path) -> None:
    root = write_arrays(tmp_path / 'arrays')
    packed = tmp_path / 'arrays.safetensors'
    pack(PairedArraysDataModule(str(root), units={'sar': 'K'}), packed)
    assert PairedArrays(str(packed)).units == {'ms': 'unknown', 'sar': 'K'}


def test_names_and_order_of_modalities_are_the_users(pairs: Path) -> None:
    packed = pack_folders(pairs)
    both = {'sar': 'sar', 'ms': 'ms'}
    assert_same(
        PairedFolders(str(packed), folders=both),
        PairedFolders(str(pairs), folders=both),
    )
    assert PairedFolders(str(packed), folders={'sar': 'sar'}).modalities == ('sar',)
    with pytest.raises(ModalityError, match='s1'):
        PairedFolders(str(packed), folders={'s1': 'sar', 's2': 'ms'})


def test_statistics_are_found_by_position(pairs: Path) -> None:
    names = [f'B{i}' for i in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 11, 13)]
    packed = pack_folders(pairs, bands={'ms': ['B3']})
    for bands in (['B11', 'B3'], ['B12']):
        options: dict[str, Any] = {'band_names': {'ms': names}, 'bands': {'ms': bands}}
        assert cached_statistics(PairedFolders(str(packed), **options)) == (
            compute_statistics(PairedFolders(str(pairs), **options))
        )
    assert not (pairs.parent / '.torchgeo_discomkd').exists()


def test_georeference_of_some_tiles(tmp_path: Path) -> None:
    root = write_pairs(tmp_path / 'pairs', count=20, crs=None)
    for number, crs in ((5, 'EPSG:32631'), (6, 'EPSG:3857'), (12, 'EPSG:32631')):
        array = np.ones((13, 8, 8), np.uint16)
        write_tile(root / 'ms' / 'Crop' / f'Crop_{number}.tif', array, crs=crs)
    packed = pack_folders(root)
    found = 0
    for split in ('train', 'val', 'test'):
        dataset = PairedFolders(str(packed), split)
        assert_same(dataset, PairedFolders(str(root), split))
        found += sum(dataset.georeference(i) is not None for i in range(len(dataset)))
    assert found == 3


def test_modality_that_is_not_on_disk(tmp_path: Path) -> None:
    root = write_eurosat(tmp_path / 'data')
    shutil.rmtree(root / 'EuroSAT_MS')
    packed = tmp_path / 'eurosat.safetensors'
    pack(EuroSATMSSARDataModule(str(root), modalities=['sar']), packed)
    assert_same(
        EuroSATMSSAR(str(packed), modalities=['sar']),
        EuroSATMSSAR(str(root), modalities=['sar']),
    )
    with pytest.raises(ModalityError, match="not \\['ms'\\]"):
        EuroSATMSSAR(str(packed))


def test_folder_of_tiles_is_the_root(tmp_path: Path) -> None:
    root = write_pairs(tmp_path / 'x', shapes={'ms': (3, 8, 8)}) / 'ms'
    packed = pack_folders(root, folders={'ms': '.'})
    options = {'folders': {'ms': '.'}}
    assert_same(
        PairedFolders(str(packed), **options), PairedFolders(str(root), **options)
    )


def test_tiles_may_be_removed_but_their_folder(pairs: Path) -> None:
    packed = pack_folders(pairs)
    for tile in pairs.rglob('*.tif'):
        tile.unlink()
    copy = shutil.copy(packed, packed.with_name('x.safetensors'))
    assert len(PairedFolders(str(copy))) == 28


def test_folders_of_splits(tmp_path: Path) -> None:
    for seed, split in enumerate(('train', 'val', 'test')):
        write_pairs(tmp_path / 'x' / split, count=3 + seed, seed=seed)
    packed = pack_folders(tmp_path / 'x', split_scheme='folder')
    for split in ('train', 'val', 'test'):
        assert_same(
            PairedFolders(str(packed), split, split_scheme='folder'),
            PairedFolders(str(tmp_path / 'x'), split, split_scheme='folder'),
        )


def test_modality_that_lacks_tiles(tmp_path: Path) -> None:
    root = write_pairs(tmp_path / 'pairs')
    (root / 'sar' / 'Crop' / 'Crop_2.tif').unlink()
    packed = pack_folders(root, missing='keep')
    for m in ('ms', 'sar'):
        assert_same(
            PairedFolders(str(packed), modalities=[m], missing='keep'),
            PairedFolders(str(root), modalities=[m], missing='keep'),
        )


@pytest.mark.parametrize('scheme', ['paper', 'torchgeo', 'spatial'])
def test_eurosat(tmp_path: Path, scheme: Any) -> None:
    root = write_eurosat(tmp_path / 'data', count=10)
    for name in ('eurosat', 'eurosat-spatial'):
        for split, wanted in {'train': '1234567', 'val': '8', 'test': '9'}.items():
            stems = [f'{c}_{n}.jpg' for c in EuroSATMSSAR.class_names for n in wanted]
            (root / f'{name}-{split}.txt').write_text('\n'.join(stems))
    packed = tmp_path / 'eurosat.safetensors'
    pack(EuroSATMSSARDataModule(str(root)), packed)
    moved = str(shutil.move(root, tmp_path / 'elsewhere'))
    kwargs = {'split_scheme': scheme, 'modalities': ['sar', 'ms']}
    assert_same(EuroSATMSSAR(str(packed), **kwargs), EuroSATMSSAR(moved, **kwargs))


def test_simulated(tmp_path: Path) -> None:
    options: dict[str, Any] = {'tiles_per_class': 20, 'size': 8}
    module = SimulatedMSSARDataModule(str(tmp_path / 'data'), **options)
    packed = tmp_path / 'simulated.safetensors'
    pack(module, packed)
    other = SimulatedMSSARDataModule(str(packed), **options)
    assert_same(other.make_dataset('val'), module.make_dataset('val'))
    with pytest.raises(LayoutError, match='was simulated with'):
        SimulatedMSSARDataModule(str(packed), tiles_per_class=30, size=8).make_dataset(
            'val'
        )


def test_arrays(tmp_path: Path) -> None:
    root = write_arrays(tmp_path / 'arrays')
    write_arrays(root, run=4)
    packed = tmp_path / 'arrays.safetensors'
    # all that is there is packed, whatever samples hold
    pack(PairedArraysDataModule(str(root), modalities=['sar']), packed)
    moved = str(shutil.move(root, tmp_path / 'elsewhere'))
    for run in (None, 4):
        for split in ('train', 'val', 'test'):
            assert_same(
                PairedArrays(str(packed), split, run=run),
                PairedArrays(moved, split, run=run),
            )
    bands = {'ms': ['B7', 'B2']}
    assert_same(
        PairedArrays(str(packed), bands=bands), PairedArrays(moved, bands=bands)
    )
    with pytest.raises(ModalityError, match='packed with the prefixes'):
        PairedArrays(str(packed), prefixes={'optical': 'MS'})
    with pytest.raises(PackError, match='read it with PairedArrays'):
        PairedFolders(str(packed))
    with pytest.raises(LayoutError, match=r'train_idx_7\.npy'):
        PairedArrays(str(packed), run=7)


def test_changed_table_is_noticed(tmp_path: Path) -> None:
    root = write_arrays(tmp_path / 'arrays')
    packed = tmp_path / 'arrays.safetensors'
    pack(PairedArraysDataModule(str(root)), packed)
    rows = np.load(root / 'train_idx.npy')
    np.save(root / 'train_idx.npy', rows[::-1])
    with pytest.raises(PackError, match='no longer what'):
        PairedArrays(str(shutil.copy(packed, packed.with_name('x.safetensors'))))


@pytest.mark.parametrize('change', ['added', 'removed', 'scaled'])
def test_changed_source_is_noticed(pairs: Path, change: str) -> None:
    packed = pack_folders(pairs)
    path = pairs / 'ms' / 'Crop' / 'Crop_1.tif'
    match change:
        case 'added':
            shutil.copy(path, path.with_name('Crop_99.tif'))
        case 'removed':
            path.unlink()
        case 'scaled':
            with rasterio.open(path, 'r+') as file:
                file.write(file.read() + 1)
    with pytest.raises(PackError, match=r'no longer what .*pairs holds.*--overwrite'):
        # a new file, as a new process would open it
        PairedFolders(str(shutil.copy(packed, packed.with_name('x.safetensors'))))
    pack(PairedFoldersDataModule(str(pairs), missing='skip'), packed, overwrite=True)
    assert_same(
        PairedFolders(str(packed), missing='skip'),
        PairedFolders(str(pairs), missing='skip'),
    )


def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path) -> None:
    root = write_pairs(tmp_path / 'pairs', count=70, crs=None)
    last = root / 'sar' / 'Water' / 'Water_8.tif'
    content = last.read_bytes()
    # the fingerprint covers sizes and every ninth file: damaged, not shortened
    last.write_bytes(b'\0' * len(content))
    module = PairedFoldersDataModule(str(root))
    output = tmp_path / 'pairs.safetensors'
    with pytest.raises(CorruptFileError, match='Water_8'):
        pack(module, output, workers=1)
    assert not output.exists()
    last.write_bytes(content)
    partial = tmp_path / 'pairs.partial.safetensors'
    with pytest.raises(PackError, match='is no pack'):
        PairedFolders(str(partial))
    with partial.open('r+b') as file:
        length = int.from_bytes(file.read(8), 'little')
        first, _ = json.loads(file.read(length))['image.ms']['data_offsets']
        file.seek(8 + length + first)
        file.write(bytes(13 * 8 * 8 * 2))
    pack(module, output, workers=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'pairs',
        'pairs.safetensors',
    ]
    with safe_open(output, framework='np') as file:
        images = file.get_tensor('image.ms')
    # what was there is not read again, all that was not is there now
    assert not images[0].any()
    assert images[1:].all()


def test_a_stopped_run_remembers_wider_types(tmp_path: Path) -> None:
    root = write_pairs(tmp_path / 'pairs', count=150, crs=None)
    array = np.full((13, 8, 8), 7, np.uint16)
    array[2, 1, 1] = 0
    write_tile(root / 'ms' / 'Water' / 'Water_70.tif', array, nodata=0)
    last = root / 'sar' / 'Water' / 'Water_83.tif'
    content = last.read_bytes()
    last.write_bytes(b'\0' * len(content))
    module = PairedFoldersDataModule(str(root))
    output = tmp_path / 'pairs.safetensors'
    with pytest.raises(CorruptFileError, match='Water_83'):
        pack(module, output, workers=3)
    listed = (tmp_path / 'pairs.partial.jsonl').read_text()
    assert json.loads(listed.splitlines()[0])['widened'] == ['ms']
    assert listed.count('ms ') == 5
    last.write_bytes(content)
    # what a kill leaves
    (tmp_path / 'pairs.partial.jsonl').write_text(listed + '{"pie')
    partial = tmp_path / 'pairs.partial.safetensors'
    inode = partial.stat().st_ino
    pack(module, output, workers=3)
    assert output.stat().st_ino == inode
    for split in ('train', 'val', 'test'):
        assert_same(PairedFolders(str(output), split), PairedFolders(str(root), split))


def test_training_from_a_pack_is_the_same(
    pairs: Path, fit_pairs: Callable[..., Path]
) -> None:
    config = {
        'trainer': {'max_epochs': 1},
        'data': {
            'class_path': 'PairedFoldersDataModule',
            'init_args': {'root': str(pairs)},
        },
    }
    (pairs.parent / 'run.yaml').write_text(json.dumps(config))
    packed = pairs.parent / 'pairs.safetensors'
    main(['pack', '--config', str(pairs.parent / 'run.yaml'), '--output', str(packed)])
    first = fit_pairs(name='folders')
    second = fit_pairs('--data.root', str(packed), name='packed')
    third = fit_pairs(
        *('--data.root', str(packed), '--data.resident', 'true'), name='resident'
    )
    for name in ('ms', 'sar'):
        files = [run / 'best' / f'{name}.safetensors' for run in (first, second, third)]
        assert len({file.read_bytes() for file in files}) == 1


def batches(module: MultiModalDataModule) -> list[dict[str, torch.Tensor]]:
    module.setup('fit')
    module.setup('test')
    loaders = [module.val_dataloader(), module.test_dataloader()]
    return [
        module.on_after_batch_transfer(module.on_before_batch_transfer(batch, 0), 0)
        for loader in loaders
        for batch in loader
    ]


@pytest.mark.parametrize('options', [{'resident': True}, {'num_workers': 2}])
def test_evaluation_from_a_pack(pairs: Path, options: dict[str, Any]) -> None:
    # values that no signed number of 16 bits is
    for tile in (pairs / 'ms').rglob('*.tif'):
        write_tile(tile, np.full((13, 8, 8), 40_000, np.uint16))
    kwargs: dict[str, Any] = {'eval_batch_size': 3, 'bands': {'ms': ['B3', 'B1']}}
    packed = pack_folders(pairs)
    expected = batches(PairedFoldersDataModule(str(pairs), **kwargs))
    found = batches(PairedFoldersDataModule(str(packed), **kwargs, **options))
    assert len(found) == len(expected) == 5
    for batch, other in zip(found, expected, strict=True):
        assert batch.keys() == other.keys()
        for key in other:
            assert torch.equal(batch[key], other[key])


def test_samples_fit_any_data_loader(pairs: Path) -> None:
    dataset = PairedFolders(str(pack_folders(pairs)))
    (batch,) = DataLoader(dataset, batch_size=len(dataset))
    assert torch.equal(batch['image_ms'][5], dataset[5]['image_ms'])
    assert torch.equal(batch['label'], dataset.labels)
    dataset.transforms = lambda sample: sample | {'image_ms': sample['image_ms'] * 2}
    (doubled,) = DataLoader(dataset, batch_size=len(dataset))
    assert torch.equal(doubled['image_ms'], 2 * batch['image_ms'])


def test_outputs_that_are_refused(pairs: Path, tmp_path: Path) -> None:
    module = PairedFoldersDataModule(str(pairs))
    packed = pack_folders(pairs)
    content = packed.read_bytes()
    with pytest.raises(OutputExistsError, match='--overwrite'):
        pack(module, packed)
    assert packed.read_bytes() == content
    with pytest.raises(SettingError, match=r'ends in \.safetensors'):
        pack(module, tmp_path / 'x.npy')
    with pytest.raises(SettingError, match='workers=0'):
        pack(module, tmp_path / 'x.safetensors', workers=0)
    with pytest.raises(SettingError, match='is a pack already'):
        pack(PairedFoldersDataModule(str(packed)), tmp_path / 'x.safetensors')
    assert not list(tmp_path.glob('x.*'))


def test_one_process_at_a_time_writes_a_pack(pairs: Path, tmp_path: Path) -> None:
    module, output = PairedFoldersDataModule(str(pairs)), tmp_path / 'x.safetensors'
    with (
        FileLock(tmp_path / 'x.partial.lock'),
        pytest.raises(OutputError, match='being written by another process'),
    ):
        pack(module, output)
    assert not output.exists()
    pack(module, output)
    assert not list(tmp_path.glob('x.partial*'))


def test_arrays_may_be_removed_after_packing(tmp_path: Path) -> None:
    root = write_arrays(tmp_path / 'arrays')
    packed = tmp_path / 'arrays.safetensors'
    pack(PairedArraysDataModule(str(root)), packed)
    expected = [sample['label'] for sample in PairedArrays(str(root))]
    for path in root.glob('*_data_normalized.npy'):
        path.unlink()
    assert [sample['label'] for sample in PairedArrays(str(packed))] == expected


def test_tiles_of_two_sizes_are_refused(tmp_path: Path) -> None:
    root = write_pairs(tmp_path / 'pairs')
    array = np.zeros((13, 6, 6), np.uint16)
    write_tile(root / 'ms' / 'Crop' / 'Crop_4.tif', array)
    with pytest.raises(TileSizeError, match='Crop_4'):
        pack_folders(root)


def test_files_that_are_no_packs(pairs: Path, tmp_path: Path) -> None:
    packed = pack_folders(pairs)
    with pytest.raises(PackError, match='cannot be opened'):
        PairedFolders(str(tmp_path / 'none.safetensors'))
    cut = tmp_path / 'cut.safetensors'
    cut.write_bytes(packed.read_bytes()[:-100])
    with pytest.raises(PackError, match='truncated'):
        PairedFolders(str(cut))
    other = tmp_path / 'other.safetensors'
    other.write_bytes((10).to_bytes(8, 'little') + b'{}        ')
    with pytest.raises(PackError, match='is no pack'):
        PairedFolders(str(other))
    with pytest.raises(PackError, match='pack of folders'):
        PairedArrays(str(packed))
    with pytest.raises(ModalityError, match='thermal'):
        PairedFolders(str(packed), modalities=['thermal'])


def test_resident_needs_a_pack(pairs: Path) -> None:
    module = PairedFoldersDataModule(str(pairs), resident=True)
    with pytest.raises(SettingError, match='needs a pack as root'):
        module.setup('fit')


def test_resident_is_for_one_process(pairs: Path) -> None:
    module = PairedFoldersDataModule(str(pack_folders(pairs)), resident=True)
    trainer = Trainer(accelerator='cpu', devices=2, logger=False)
    module.trainer = trainer
    for stage in ('validate', 'test', 'predict'):
        with pytest.raises(SettingError, match='resident=True with 2 processes'):
            module.setup(stage)


def test_resident_reads_no_samples(pairs: Path) -> None:
    module = PairedFoldersDataModule(str(pack_folders(pairs)), resident=True)
    module.kwargs['transforms'] = lambda sample: sample
    with pytest.raises(SettingError, match='no samples that transforms could change'):
        module.setup('test')


def test_resident_without_room(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(torch.Tensor):
        def to(self, *args: Any, **kwargs: Any) -> Any:
            raise torch.OutOfMemoryError('CUDA out of memory')

    packed = PackFile(pack_folders(pairs))
    from_numpy = torch.from_numpy
    monkeypatch.setattr(torch, 'from_numpy', lambda x: from_numpy(x).as_subclass(Full))
    with pytest.raises(
        SettingError, match=r"no room .* of 'ms'.*--data.resident false"
    ):
        ResidentImages(packed, 'ms', None, torch.device('cpu'))


def test_command_refuses_a_configuration_without_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / 'run.yaml').write_text('trainer: {max_epochs: 1}\n')
    with pytest.raises(SystemExit) as error:
        main(
            [
                *('pack', '--config', str(tmp_path / 'run.yaml')),
                *('--output', str(tmp_path / 'x.safetensors')),
            ]
        )
    assert error.value.code == 2
    assert 'configures no data module' in capsys.readouterr().err

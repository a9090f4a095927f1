# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import torchgeo.main
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.conftest import TINY, fit_discomkd
from tests.fakes import EUROSAT_CLASSES, write_arrays, write_eurosat, write_pairs
from torchgeo_discomkd import __version__
from torchgeo_discomkd.callbacks.run_folder import check_run_folder
from torchgeo_discomkd.commands import main
from torchgeo_discomkd.commands.configs import configs_folder
from torchgeo_discomkd.commands.fit import with_quickstart
from torchgeo_discomkd.commands.option_errors import check_order
from torchgeo_discomkd.errors import SettingError
from torchgeo_discomkd.models import create_encoder, load_metadata

#: Figures of confusion matrices take as long as a tiny training.
UNLOGGED = ('--trainer.logger', 'false')


def last(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    return torch.load(folder / 'last.ckpt', weights_only=True)


def same(one: object, two: object) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(same(one[k], two[k]) for k in one)
    if isinstance(one, list) and isinstance(two, list):
        return all(same(a, b) for a, b in zip(one, two, strict=True))
    return one == two


def data_arguments(name: str, tmp_path: Path) -> list[str]:
    """Write tiny data and return what names it on the command line.

    Where the classes are free, there are three: confusion matrices take long to draw.
    """
    root = tmp_path / 'data'
    ten, three = ('32', '10'), ('10', '3')
    match name:
        case 'EuroSATMSSAR':
            write_eurosat(root, 13)
            further, (size, classes) = [], ten
        case 'PairedArrays':
            write_arrays(root, classes=3)
            further, (size, classes) = ['--data.prefixes', '{ms: MS, sar: SAR}'], three
        case 'PairedFolders':
            folders = {'ms': 'EuroSAT_MS', 'sar': 'EuroSAT-SAR'}
            write_pairs(root, EUROSAT_CLASSES[:3], 13, folders=folders)
            further = ['--data.folders', '{ms: EuroSAT_MS, sar: EuroSAT-SAR}']
            further += ['--data.units', '{sar: dB}']
            size, classes = three
        case _:
            further = ['--data.tiles_per_class', '13', '--data.size', '16']
            size, classes = ten
    data = ['--data', f'{name}DataModule', '--data.root', str(root), *further]
    return [*data, '--data.batch_size', size, '--model.num_classes', classes]


# schemes need at least one validation tile per class: 13 tiles give 9, 1 and 3
@pytest.mark.parametrize(
    'name',
    [
        'PairedFolders',
        pytest.param('EuroSATMSSAR', marks=pytest.mark.slow),
        pytest.param('PairedArrays', marks=pytest.mark.slow),
        # EuroSATMSSAR on tiles that are simulated first
        pytest.param('SimulatedMSSAR', marks=pytest.mark.slow),
    ],
)
def test_fit_test_predict(name: str, tmp_path: Path) -> None:
    folder = tmp_path / 'run'
    arguments = data_arguments(name, tmp_path)
    run = ['--trainer.default_root_dir', str(folder)]
    fit = [*arguments, *run, *TINY, '--trainer.max_epochs', '2']
    fit += ['--trainer.num_sanity_val_steps', '2']
    # drawing the matrices of ten classes for students too takes seconds
    fit += ['--model.students', str(name != 'EuroSATMSSAR').lower()]
    main(['fit', '--model', 'DisCoMKD', *fit])

    manifest = json.loads((folder / 'manifest.json').read_text())
    assert manifest['epochs'] == 2
    assert manifest['steps'] == (4 if name == 'PairedArrays' else 6)
    assert manifest['package']['torchgeo_discomkd'] == __version__
    assert manifest['data_fingerprint']
    assert manifest['split_hash']
    moments = last(folder)['optimizer_states'][0]['state']
    assert all(moment['exp_avg'].abs().sum() > 0 for moment in moments.values())
    for modality in ('ms', 'sar'):
        metadata = load_metadata(folder / 'best' / f'{modality}.safetensors')
        assert list(metadata.modalities) == [modality]
        assert metadata.scores['val_F1Score'] == pytest.approx(
            manifest['best'][modality]['val_F1Score']
        )
        assert metadata.epoch == manifest['best'][modality]['epoch']

    events = EventAccumulator(str(folder)).Reload()
    assert 'val_sar_ConfusionMatrix' in events.Tags()['images']

    config = str(folder / 'config.yaml')
    main(['test', '--config', config])
    main(['predict', '--config', config])
    for modality in ('ms', 'sar'):
        table = folder / 'predictions' / f'{modality}.csv'
        with table.open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == {'PairedArrays': 6, 'PairedFolders': 9}.get(name, 30)
        for row in rows:
            values = [float(row[f'probability_{c}']) for c in metadata.classes]
            assert sum(values) == pytest.approx(1, abs=1e-4)
            assert row['status'] == 'ok'
            assert float(row['confidence']) == max(values)
            assert row['label'] == metadata.classes[values.index(max(values))]
    with pytest.raises(SystemExit):
        main(['predict', '--config', config])
    assert not list(folder.rglob('*.partial'))
    assert len(list((folder / 'predictions').glob('*.csv'))) == 2


def assert_epochs_agree(folder: Path, latest: int, output: str) -> None:
    """Check that what a run writes and prints counts epochs in the same way."""
    assert last(folder)['epoch'] == latest
    manifest = json.loads((folder / 'manifest.json').read_text())
    assert manifest['epochs'] == latest + 1
    logged = {}
    for file in folder.glob('metrics/*/metrics.csv'):
        with file.open() as opened:
            rows = [row for row in csv.DictReader(opened) if row['val_sar_F1Score']]
        logged |= {int(row['epoch']): float(row['val_sar_F1Score']) for row in rows}
    assert max(logged) == latest
    best = max(logged, key=lambda epoch: logged[epoch])
    assert manifest['best']['sar']['epoch'] == best
    assert load_metadata(folder / 'best' / 'sar.safetensors').epoch == best
    assert re.search(rf'^sar +{best} ', output, re.MULTILINE)


def test_resumed_run_equals_an_uninterrupted_one(
    fit_pairs: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    students = ('--model.students', 'true', '--optimizer', 'Adam')
    students += ('--trainer.enable_progress_bar', 'true')
    students += ('--lr_scheduler', 'StepLR', '--lr_scheduler.step_size', '1')
    whole = fit_pairs(*students, name='whole', epochs=2)
    parts = fit_pairs(*students, name='parts')
    resume = ['--ckpt_path', str(parts / 'last.ckpt'), '--trainer.max_epochs', '2']
    capsys.readouterr()
    main(['fit', '--config', str(parts / 'config.yaml'), *resume])
    output = capsys.readouterr().out
    (line,) = [x for x in output.splitlines() if x[:6] == 'epoch ']
    f1 = r'[01]\.\d{3}'
    scores = rf'ms {f1} \(alone {f1}\), sar {f1} \(alone {f1}\)'
    assert re.fullmatch(rf'epoch 1/1, .* 0:00:00 left; validation F1: {scores}', line)
    assert_epochs_agree(parts, 1, output)
    one, two = last(whole), last(parts)
    assert same(one['state_dict'], two['state_dict'])
    assert same(one['optimizer_states'], two['optimizer_states'])
    best = [
        json.loads((f / 'manifest.json').read_text())['best'] for f in (whole, parts)
    ]
    assert best[0] == best[1]
    for file in (whole / 'best').rglob('*.safetensors'):
        other = parts / file.relative_to(whole)
        assert same(load_file(file), load_file(other))
    # a resumed run is tested by its best files too, not by its last weights
    config = yaml.safe_load((parts / 'config.yaml').read_text())
    assert config['ckpt_path'] is None
    # the metrics of the first part are still there
    assert len(list(parts.glob('metrics/*/metrics.csv'))) == 2


@pytest.mark.slow
def test_resumed_run_keeps_a_better_classifier(trained: Path) -> None:
    folder = trained
    checkpoint = last(folder)
    checkpoint['callbacks']['BestClassifiers']['scores']['sar'] = 1.5
    torch.save(checkpoint, folder / 'last.ckpt')
    sar, ms = (folder / 'best' / f'{m}.safetensors' for m in ('sar', 'ms'))
    before = sar.read_bytes()
    resume = ['--ckpt_path', str(folder / 'last.ckpt'), '--trainer.max_epochs', '3']
    main(['fit', '--config', str(folder / 'config.yaml'), *resume])
    assert sar.read_bytes() == before
    manifest = json.loads((folder / 'manifest.json').read_text())
    assert manifest['best']['sar']['val_F1Score'] == 1.5
    assert manifest['best']['sar']['epoch'] == 0
    assert load_metadata(ms).epoch == manifest['best']['ms']['epoch']


@pytest.mark.slow
def test_resumed_into_another_folder(trained: Path, tmp_path: Path) -> None:
    folder = trained
    other = tmp_path / 'other'
    resume = ['--ckpt_path', str(folder / 'last.ckpt'), '--trainer.max_epochs', '2']
    resume += ['--trainer.default_root_dir', str(other)]
    main(['fit', '--config', str(folder / 'config.yaml'), *resume])
    assert load_metadata(other / 'best' / 'sar.safetensors').epoch == 1


@pytest.mark.slow
def test_own_logger_and_weights_leave_the_run_folder_alone(
    fit_pairs: Callable[..., Path], tmp_path: Path
) -> None:
    torch.save(create_encoder('test_resnet', 2).state_dict(), tmp_path / 'sar.pth')
    folder = fit_pairs(
        *('--model.weights', f'{{sar: {tmp_path / "sar.pth"}}}'),
        *('--trainer.logger', 'CSVLogger', '--trainer.logger.save_dir', str(tmp_path)),
    )
    assert (folder / 'best' / 'sar.safetensors').exists()
    assert (folder / 'config.yaml').exists()
    (tmp_path / 'sar.pth').unlink()
    main(['test', '--config', str(folder / 'config.yaml')])


@pytest.mark.slow
def test_equal_score_is_not_better(fit_pairs: Callable[..., Path]) -> None:
    folder = fit_pairs('--model.lr', '0', '--trainer.limit_val_batches', '1', epochs=3)
    manifest = json.loads((folder / 'manifest.json').read_text())
    with (folder / 'metrics/version_0/metrics.csv').open() as file:
        rows = list(csv.DictReader(file))
    scores = [float(r['val_sar_F1Score']) for r in rows if r['val_sar_F1Score']]
    assert scores.count(max(scores)) > 1
    first = scores.index(max(scores))
    assert manifest['best']['sar']['epoch'] == first
    assert manifest['best']['sar']['val_F1Score'] == pytest.approx(max(scores))


@pytest.mark.slow
def test_sar_alone_from_a_classifier_file(
    trained: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained
    config = str(run / 'config.yaml')
    capsys.readouterr()
    main(['test', '--config', config])
    both = capsys.readouterr().out
    alone = tmp_path / 'sent' / 'sar.safetensors'
    alone.parent.mkdir()
    shutil.copy(run / 'best' / 'sar.safetensors', alone)
    shutil.rmtree(run)
    shutil.rmtree(pairs / 'ms')
    arguments = [
        *('--model', 'PretrainedClassification'),
        *('--model.classifiers', f'{{sar: {alone}}}'),
        *('--data', 'PairedFoldersDataModule', '--data.root', str(pairs)),
        *('--trainer.default_root_dir', str(tmp_path / 'sar_only')),
        *('--trainer.accelerator', 'cpu'),
    ]
    main(['test', *arguments])
    sar_only = capsys.readouterr().out

    def score(text: str) -> list[str]:
        table = text.partition('Scores of the test split:\n')[2]
        (line,) = [t for t in table.splitlines() if t.startswith('sar ')]
        return line.split()

    assert len(score(both)) == 5
    assert score(sar_only) == score(both)
    # Lightning's table has rows for all scores of all classes
    assert 'ClasswiseF1Score' not in both
    main(['predict', *arguments])
    tables = list((tmp_path / 'sar_only' / 'predictions').glob('*.csv'))
    assert [table.name for table in tables] == ['sar.csv']


@pytest.mark.slow
def test_fusion_and_student(
    fit_pairs: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    fusion = ('--model', 'FusionClassification', '--model.num_classes', '2', *TINY)
    both = ('--model.in_channels', '{ms: 13, sar: 2}', '--data.paired', 'true')
    folder = fit_pairs(*fusion, *both, name='fusion')
    assert [p.name for p in (folder / 'best').iterdir()] == ['fusion.safetensors']
    capsys.readouterr()
    main(['test', '--config', str(folder / 'config.yaml'), '--verbose', 'false'])
    assert 'F1' not in capsys.readouterr().out
    folder = fit_pairs(*fusion, '--data.modalities', '[sar]', name='student')
    assert [p.name for p in (folder / 'best').iterdir()] == ['sar.safetensors']
    with pytest.raises(SystemExit):
        fit_pairs(*fusion, *both[:2], '--data.paired', 'false', name='unpaired')


def test_bare_fit_alone_gets_the_quickstart() -> None:
    added = with_quickstart(['fit', '--trainer.max_epochs', '1'])
    assert added[:2] == ['fit', '--config']
    assert Path(added[2]).name == 'quickstart.yaml'
    assert added[3:] == ['--trainer.max_epochs', '1']
    for args in (
        ['fit', '--config', 'x.yaml'],
        ['fit', '-c', 'x.yaml'],
        ['fit', '--config=x.yaml'],
        ['fit', '--model', 'DisCoMKD'],
        ['fit', '--data.root', 'x'],
        ['fit', '--help'],
        ['test'],
        [],
    ):
        assert with_quickstart(args) == args


def test_quickstart_does_not_leak(trained: Path) -> None:
    config = yaml.safe_load((trained / 'config.yaml').read_text())
    assert config['model']['init_args']['students'] is False
    assert config['model']['init_args']['lr'] == 1e-4
    assert config['data']['class_path'].endswith('PairedFoldersDataModule')
    assert config['data']['init_args']['eval_batch_size'] == 512


def test_optimizer_and_schedule_from_the_command_line(
    fit_pairs: Callable[..., Path],
) -> None:
    folder = fit_pairs(
        *('--optimizer', 'SGD', '--optimizer.lr', '0.01'),
        *('--optimizer.momentum', '0.9', '--lr_scheduler', 'ExponentialLR'),
        *('--lr_scheduler.gamma', '0.5', *UNLOGGED),
    )
    checkpoint = last(folder)
    group = checkpoint['optimizer_states'][0]['param_groups'][0]
    assert group['momentum'] == 0.9
    assert group['lr'] == pytest.approx(0.005)


@pytest.mark.slow
def test_weights_of_one_modality(
    fit_pairs: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(create_encoder('test_resnet', 2).state_dict(), tmp_path / 'sar.pth')
    weights = f'{{sar: {tmp_path / "sar.pth"}, ms: false}}'
    folder = fit_pairs('--model.weights', weights)
    assert (folder / 'best' / 'sar.safetensors').exists()
    with pytest.raises(SystemExit):
        fit_pairs('--model.weights', '{sar: nowhere.pth}', name='other')
    assert 'nowhere.pth' in capsys.readouterr().err


def test_users_own_model_checkpoint_is_kept(fit_pairs: Callable[..., Path]) -> None:
    own = ('--trainer.callbacks+=ModelCheckpoint', '--trainer.callbacks.filename=mine')
    folder = fit_pairs(*own, *UNLOGGED)
    assert list(folder.rglob('mine.ckpt'))
    assert (folder / 'last.ckpt').exists()


def test_no_checkpoint_if_told_so(fit_pairs: Callable[..., Path]) -> None:
    folder = fit_pairs('--trainer.enable_checkpointing', 'false', *UNLOGGED)
    assert (folder / 'best' / 'sar.safetensors').exists()
    assert not (folder / 'last.ckpt').exists()


def test_fast_dev_run_writes_nothing(fit_pairs: Callable[..., Path]) -> None:
    folder = fit_pairs('--trainer.fast_dev_run', 'true')
    assert not folder.exists()


def test_existing_run_is_not_overwritten(
    trained: Path, fit_pairs: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = trained
    before = {p: p.read_bytes() for p in folder.rglob('*') if p.is_file()}
    with pytest.raises(SystemExit) as stop:
        fit_pairs()
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert '--trainer.default_root_dir' in error
    assert '--ckpt_path' in error
    assert {p: p.read_bytes() for p in folder.rglob('*') if p.is_file()} == before


#: The command of the mistakes has no other lines.
QUIET = ('Seed set', 'INFO: ', 'GPU available', 'TPU available')
STOPPING = ('--trainer.callbacks+=EarlyStopping',)
CONFIG = str(configs_folder() / 'quickstart.yaml')


@pytest.fixture(scope='module')
def mistaken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, and the folder 'run' into which one mistake after the other is made."""
    root = tmp_path_factory.mktemp('mistaken')
    write_pairs(root / 'pairs', count=20)
    return root


@pytest.mark.parametrize(
    ('args', 'match'),
    [
        (['--data.root', 'nowhere'], 'nowhere'),
        (['--model.num_classes', '5'], '--model.num_classes 2'),
        (['--data.batch_size', '1'], 'batch_size=1'),
        (['--data.modalities', '[sar]'], "'ms'"),
        (['--data.num_workers', '-1'], 'num_workers=-1'),
        (['--data.eval_batch_size', '0'], 'eval_batch_size=0'),
        (['--model.lr', '-1'], 'lr=-1'),
        (['--ckpt_path', 'nowhere/last.ckpt'], 'there is no such file'),
        (['--ckpt_path', 'README.md'], 'README.md is not a checkpoint'),
        ([*STOPPING, '--trainer.callbacks.monitor=val_F1'], 'val_sar_F1Score'),
        ([*STOPPING, '--trainer.callbacks.mode=up'], 'monitor'),
        pytest.param(
            ['--trainer.logger', 'WandbLogger'],
            'wandb',
            marks=pytest.mark.skipif(find_spec('wandb') is not None, reason='has it'),
        ),
        (['--trainer.max_epochs', 'few'], '--trainer.max_epochs few: Expected a int'),
        (['--model.nosuch', '1'], "--model: Option 'nosuch' is not accepted"),
        (['--optimizer', 'Adma'], 'no class Adma is known'),
    ],
)
def test_mistakes_end_in_one_message(
    args: list[str], match: str, mistaken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        fit_discomkd(mistaken / 'pairs', mistaken / 'run', *args)
    error = capsys.readouterr().err
    assert stop.value.code == 2
    # one message, and nothing but it
    (line,) = [x for x in error.splitlines() if not x.startswith(QUIET)]
    assert line.startswith('error: ')
    assert match in line
    # as the corrected command will do
    check_run_folder(mistaken / 'run', None)


@pytest.mark.parametrize(
    ('args', 'match'),
    [
        (['--model.lr', '0.1', '--config', CONFIG], 'Put --config, or --model with'),
        (['--data.root=x', '--data', 'PairedFoldersDataModule'], '--data with a class'),
        (['--trainer.max_epochs', '1', '--config', CONFIG], 'it, sets 6. Put --config'),
        (['--model', 'Fusion', '--config', CONFIG], 'it, sets DisCoMKD. Put --config'),
    ],
)
def test_options_that_come_too_early(
    args: list[str], match: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(['fit', *args])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f'error: {args[0].partition("=")[0]} ')
    assert match in line


def test_order_of_options_that_is_fine() -> None:
    later = ['--model.lr', '1', '--trainer.max_epochs=1', '--trainer.devices', '1']
    check_order(['fit', '--trainer.devices=1', '--config', CONFIG, *later])
    check_order(['fit', '--model=DisCoMKD', '--config', CONFIG, '--config', CONFIG])
    check_order(['fit', '--model.class_path', 'DisCoMKD', '--model.lr', '1'])
    check_order(['fit', '--model.help', 'DisCoMKD'])


def test_order_of_equal_settings_is_fine(tmp_path: Path) -> None:
    same = tmp_path / 'same.yaml'
    same.write_text('{trainer: {logger: false}, model: {lr: 0.001}}')
    equal = ['--config', CONFIG, '--trainer.logger', 'false', '--model.lr', '1e-3']
    check_order(['fit', *equal, '--config', str(same)])


@pytest.mark.parametrize(
    ('option', 'text'),
    [
        ('--model.in_channels', '{model: {init_args: {in_channels: {ms: 13}}}}'),
        ('--trainer.callbacks+', '{trainer: {callbacks: [LearningRateMonitor]}}'),
    ],
)
def test_setting_that_a_later_configuration_replaces(
    option: str, text: str, tmp_path: Path
) -> None:
    later = tmp_path / 'later.yaml'
    later.write_text(text)
    args = ['--config', CONFIG, option, '{ms: 4}', '--config', str(later)]
    with pytest.raises(SettingError, match='no effect'):
        check_order(['fit', *args])


def test_setting_of_what_is_not_named() -> None:
    with pytest.raises(SettingError, match=r'or --data .*configs/quickstart\.yaml is'):
        check_order(['fit', '--data.batch_size', '8'])


@pytest.mark.slow
def test_corrected_command_can_use_the_same_folder(mistaken: Path) -> None:
    with pytest.raises(SystemExit):
        fit_discomkd(mistaken / 'pairs', mistaken / 'run', '--model.num_classes', '5')
    fit_discomkd(mistaken / 'pairs', mistaken / 'run')
    assert (mistaken / 'run' / 'last.ckpt').exists()


@pytest.mark.parametrize(
    ('precision', 'clip'),
    [
        *(('bf16-mixed', '0'), ('bf16-mixed', '0.5'), ('32-true', '0.5')),
        pytest.param('32-true', '0', marks=pytest.mark.slow),
    ],
)
def test_gradients_can_be_clipped_in_every_precision(
    fit_pairs: Callable[..., Path], precision: str, clip: str
) -> None:
    trainer = ('--trainer.precision', precision, '--trainer.gradient_clip_val', clip)
    checkpoint = last(fit_pairs(*trainer, *UNLOGGED))
    assert checkpoint['global_step'] > 0
    (optimizer,) = checkpoint['optimizer_states']
    # Lightning clips no fused optimizer in mixed precision
    assert optimizer['param_groups'][0]['fused'] == (clip == '0')


@pytest.mark.parametrize(
    ('changes', 'match'),
    [
        (['--model.model', 'resnet10t'], "model='test_resnet', not 'resnet10t'"),
        (['--model.students', 'true'], 'students=False, not True'),
    ],
)
def test_checkpoint_of_another_network(
    changes: list[str], match: str, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = trained
    resume = ['--config', str(folder / 'config.yaml'), *changes]
    resume += ['--ckpt_path', str(folder / 'last.ckpt'), '--trainer.max_epochs', '2']
    with pytest.raises(SystemExit) as stop:
        main(['fit', *resume])
    assert stop.value.code == 2
    assert match in capsys.readouterr().err


@pytest.mark.slow
def test_a_configuration_in_the_run_folder_is_kept(
    fit_pairs: Callable[..., Path], tmp_path: Path
) -> None:
    own = tmp_path / 'run' / 'config.yaml'
    own.parent.mkdir()
    own.write_text('# mine\nseed_everything: 3\n')
    folder = fit_pairs('--config', str(own), *UNLOGGED)
    assert (folder / 'config.1.yaml').read_text() == '# mine\nseed_everything: 3\n'
    config = folder / 'config.yaml'
    assert yaml.safe_load(config.read_text())['seed_everything'] == 3
    shutil.rmtree(folder / 'best')
    (folder / 'last.ckpt').unlink()
    main(['fit', '--config', str(config)])
    assert not (folder / 'config.2.yaml').exists()


def test_a_folder_that_cannot_be_written(
    fit_pairs: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / 'file').write_text('mine')
    with pytest.raises(SystemExit) as stop:
        fit_pairs(name='file/run')
    assert stop.value.code == 2
    assert (
        'another run folder with --trainer.default_root_dir' in capsys.readouterr().err
    )
    assert (tmp_path / 'file').read_text() == 'mine'


def test_missing_eurosat(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ['--data', 'EuroSATMSSARDataModule', '--data.root', str(tmp_path / 'none')]
    run = ['--trainer.default_root_dir', str(tmp_path), '--trainer.max_epochs', '1']
    with pytest.raises(SystemExit):
        main(['fit', '--model', 'DisCoMKD', *args, *run, *TINY])
    assert 'download' in capsys.readouterr().err


def test_test_without_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_eurosat(tmp_path / 'data', 13)
    args = [
        *('--data', 'EuroSATMSSARDataModule', '--data.root', str(tmp_path / 'data')),
        *('--trainer.default_root_dir', str(tmp_path / 'run')),
    ]
    with pytest.raises(SystemExit):
        main(['test', '--model', 'DisCoMKD', *args, *TINY[:2]])
    assert 'train first' in capsys.readouterr().err


class Signal(Callback):
    """Send a signal to this process in the middle of an epoch."""

    def __init__(self, number: int, epoch: int = 0) -> None:
        self.number, self.epoch = number, epoch

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: object
    ) -> None:
        if trainer.current_epoch == self.epoch:
            signal.raise_signal(self.number)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: object
    ) -> None:
        signal.raise_signal(self.number)


SIGNAL = ('--trainer.callbacks+=tests.commands.test_fit.Signal',)


@pytest.mark.usefixtures('handlers')
@pytest.mark.parametrize(
    ('number', 'epoch', 'code'),
    [
        pytest.param(signal.SIGINT, 0, 130, marks=pytest.mark.slow),
        (signal.SIGTERM, 1, 143),
    ],
)
def test_stopped_training(
    number: int,
    epoch: int,
    code: int,
    fit_pairs: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    callback = (*SIGNAL, f'--trainer.callbacks.number={number:d}')
    with pytest.raises(SystemExit) as stop:
        fit_pairs(*callback, f'--trainer.callbacks.epoch={epoch}', epochs=3)
    assert stop.value.code == code
    error = capsys.readouterr().err
    assert 'Traceback' not in error
    if epoch:
        folder = tmp_path / 'run'
        (line,) = [x for x in error.splitlines() if x.startswith('Stopped')]
        command = line.partition('python -m torchgeo_discomkd ')[2].split()
        resume = ['--config', f'{folder}/config.yaml', '--ckpt_path']
        assert command == ['fit', *resume, f'{folder}/last.ckpt']
        assert (folder / 'best' / 'sar.safetensors').exists()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        main([*command, '--trainer.callbacks', 'null'])
    else:
        assert 'nothing to keep' in error
        fit_pairs(epochs=1)


@pytest.mark.slow
@pytest.mark.usefixtures('handlers')
def test_last_weights_can_be_tested(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = ['--config', str(trained / 'config.yaml')]
    last += ['--ckpt_path', str(trained / 'last.ckpt')]
    main(['validate', *last])
    assert 'Scores of the validation split:' in capsys.readouterr().out
    stopped = (*SIGNAL, f'--trainer.callbacks.number={signal.SIGTERM:d}')
    with pytest.raises(SystemExit) as stop:
        main(['test', *last, *stopped])
    assert stop.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    error = capsys.readouterr().err
    assert error.endswith('Stopped. Run the same command again.\n')
    assert error.count('Stopped') == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ('number', 'code'), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_stopped_process(number: int, code: int, pairs: Path, tmp_path: Path) -> None:
    folder = tmp_path / 'run'
    program = (
        'import signal; signal.signal(signal.SIGINT, signal.default_int_handler); '
        'from torchgeo_discomkd.commands import main; main()'
    )
    command = [
        *(sys.executable, '-c', program),
        *('fit', '--model', 'DisCoMKD', '--model.num_classes', '2', *TINY),
        *('--data', 'PairedFoldersDataModule', '--data.root', str(pairs)),
        *('--data.num_workers', '2', '--trainer.max_epochs', '100000'),
        *('--trainer.default_root_dir', str(folder)),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not (folder / 'last.ckpt').exists():
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(number)
        _, error = process.communicate(timeout=60)
    assert process.returncode == code
    assert 'Traceback' not in error
    assert f'--ckpt_path {folder}/last.ckpt' in error


@pytest.mark.slow
@pytest.mark.parametrize(
    'options', [('--trainer.limit_val_batches', '0'), ('--trainer.max_epochs', '0')]
)
def test_training_without_a_validation(
    options: tuple[str, str],
    fit_pairs: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stop:
        fit_pairs(*options)
    assert stop.value.code == 1
    error = capsys.readouterr().err
    assert f'no classifier was written to {tmp_path / "run"}, because no valid' in error
    assert options[0].partition('.')[2] in error
    last = tmp_path / 'run' / 'last.ckpt'
    assert (f'--ckpt_path {last}' in error) == last.exists()
    if last.exists():
        resume = ['--config', str(last.with_name('config.yaml'))]
        resume += ['--ckpt_path', str(last), '--trainer.max_epochs', '2']
        main(['fit', *resume, '--trainer.limit_val_batches', '1.0'])
        assert (last.with_name('best') / 'sar.safetensors').exists()


def test_torchgeos_own_command_line(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, 'argv', ['torchgeo'])
    torchgeo.main.main(
        [
            *('fit', '--model', 'torchgeo_discomkd.tasks.DisCoMKD', *TINY),
            *('--model.num_classes', '2', '--trainer.max_epochs', '1'),
            *('--data', 'torchgeo_discomkd.datamodules.PairedFoldersDataModule'),
            *('--data.root', str(pairs), '--data.batch_size', '8'),
            *('--trainer.default_root_dir', str(tmp_path / 'run')),
            *('--trainer.log_every_n_steps', '1'),
        ]
    )
    run = tmp_path / 'run' / 'lightning_logs' / 'version_0'
    assert sorted(p.name for p in (run / 'best').iterdir()) == [
        'combination.json',
        'ms.safetensors',
        'sar.safetensors',
    ]
    assert json.loads((run / 'manifest.json').read_text())['steps'] == 4
    assert (run / 'last.ckpt').exists()

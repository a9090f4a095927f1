# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.fakes import write_arrays, write_eurosat, write_pairs
from torchgeo_discomkd.benchmark import plan, read_config
from torchgeo_discomkd.benchmark.data import check_data, data_class, data_config
from torchgeo_discomkd.commands import main

CONFIGS = Path(__file__).parents[2] / 'configs' / 'benchmark'

#: Event of each scene of OMBRIA: 0 to 3 belong to E01, 4 to E02 and so on.
EVENTS = {
    f's{scene:02}': f'E{event:02}'
    for event, scenes in enumerate(
        (
            *(range(4), range(4, 5), range(5, 6), range(6, 7), range(7, 18)),
            *(range(18, 22), range(22, 23), range(23, 31), range(31, 32)),
            range(32, 36),
        ),
        1,
    )
    for scene in scenes
}

#: One run of the fewest trainings that touch every kind of task.
REDUCED = [
    *('--methods', '[MLKD]', '--variants', '[ORIG]', '--ablations', '[]'),
    *('--scenarios', '[cross-modal]', '--formulations', '[released]', '--runs', '1'),
    # transfer begins after an epoch
    *('--extensions', '[]', '--model', 'test_resnet', '--data.batch_size', '8'),
    *('--trainer.max_epochs', '1', '--trainer.accelerator', 'cpu'),
]


def write_data(config: str, root: Path) -> list[str]:
    """Write data of the layout that a configuration reads; return what is needed."""
    match config:
        case 'quick':
            return ['--data.tiles_per_class', '13']
        case 'modalities':
            return ['--data.tiles_per_class', '13', '--data.size', '8']
        case 'eurosat':
            write_eurosat(root, 13)
            return ['--data.download', 'false']
        case 'sunrgbd':
            classes = [f'scene{i}' for i in range(10)]
            shapes = {'rgb': (3, 8, 8), 'depth': (1, 8, 8)}
            write_pairs(root, classes, 13, shapes, suffix='.png', crs=None)
        case 'tristar':
            classes = [f'action{i}' for i in range(6)]
            shapes = {'thermal': (1, 8, 8), 'depth': (1, 8, 8)}
            write_pairs(root, classes, 13, shapes, suffix='.png', crs=None)
        case 'floods':
            shapes = {'ms': (3, 8, 8), 'sar': (1, 8, 8)}
            folders = {'ms': 'S2', 'sar': 'S1'}
            write_pairs(root, ('Dry', 'Flooded'), 10, shapes, folders)
            rows = [
                f'{name}_{i}.tif,E{i:02}'
                for name in ('Dry', 'Flooded')
                for i in range(1, 11)
            ]
            (root / 'index.csv').write_text('\n'.join(['file,event', *rows]))
        case 'landcover':
            classes = [f'class{i}' for i in range(5)]
            shapes = {'ms': (3, 8, 8), 'sar': (1, 8, 8)}
            folders = {'ms': 'S2', 'sar': 'S1'}
            write_pairs(root, classes, 10, shapes, folders)
            rows = [
                f'{name}_{i}.tif,{name},B{i},{i % 5}'
                for name in classes
                for i in range(1, 11)
            ]
            (root / 'index.csv').write_text('\n'.join(['file,class,block,fold', *rows]))
        case 'landcover_transfer' | 'floods_transfer':
            settings = yaml.safe_load((CONFIGS / f'{config}.yaml').read_text())
            runs = settings['run_data']
            groups = sorted(
                {group for run in runs for part in run.values() for group in part}
            )
            shapes = {'ms': (3, 4, 4), 'sar': (1, 4, 4)}
            classes = [f'class{i}' for i in range(settings['num_classes'])]
            folders = {'ms': 'S2', 'sar': 'S1'}
            write_pairs(root, classes, len(groups), shapes, folders)
            column = settings['data']['init_args']['group_column']
            rows = [
                f'{name}_{i}.tif,{name},{group},{EVENTS.get(group)}'
                for name in classes
                for i, group in enumerate(groups, 1)
            ]
            header = f'file,class,{column},event'
            (root / 'index.csv').write_text('\n'.join([header, *rows]))
    return []


@pytest.mark.parametrize(
    'name',
    [
        *('eurosat', 'floods', 'floods_transfer', 'landcover', 'landcover_transfer'),
        *('sunrgbd', 'tristar'),
        # these simulate their data
        pytest.param('modalities', marks=pytest.mark.slow),
        pytest.param('quick', marks=pytest.mark.slow),
    ],
)
def test_config_reads_the_data_that_it_describes(name: str, tmp_path: Path) -> None:
    root = tmp_path / 'data'
    args = [*write_data(name, root), '--data.root', str(root)]
    config = read_config(CONFIGS / f'{name}.yaml', args)
    check_data(config)
    assert {path.stem for path in CONFIGS.glob('*.yaml')} == {
        *('eurosat', 'floods', 'floods_transfer', 'landcover', 'landcover_transfer'),
        'modalities',
        *('quick', 'sunrgbd', 'tristar'),
    }


@pytest.mark.parametrize(('name', 'classes'), [('sunrgbd', 10), ('tristar', 6)])
def test_config_reads_the_arrays_of_its_comment(
    name: str, classes: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (CONFIGS / f'{name}.yaml').read_text()
    lines = [x.removeprefix('#   ') for x in text.splitlines() if x.startswith('#   ')]
    section = yaml.safe_load('\n'.join(lines[lines.index('normalization: none') :]))
    root = tmp_path / 'data'
    prefixes = section['data']['init_args']['prefixes'].values()
    write_arrays(root, tuple(prefixes), classes)
    path = tmp_path / f'{name}.yaml'
    path.write_text(yaml.safe_dump(yaml.safe_load(text) | section))
    args = ['--data.root', str(root), '--model', 'test_resnet']
    args += ['--results', str(tmp_path / 'results')]
    config = read_config(path, args)
    check_data(config)
    assert config.normalization == 'none'
    assert data_config(config, 4, {})['init_args']['run'] is None
    main(['benchmark', str(path), *args, '--dry-run'])
    assert 'About ' in capsys.readouterr().out
    # without `run: null` each run has a split of its own, which is missing here
    main(['benchmark', str(path), *args, '--data.run', '0', '--dry-run'])
    assert 'train_idx_0.npy' in capsys.readouterr().out


@pytest.mark.parametrize('name', ['floods', 'quick'])
@pytest.mark.slow
def test_config_runs(name: str, tmp_path: Path) -> None:
    root, results = tmp_path / 'data', tmp_path / 'results'
    args = [*write_data(name, root), *REDUCED, '--data.root', str(root)]
    path = CONFIGS / f'{name}.yaml'
    main(['benchmark', str(path), '--results', str(results), *args])
    frame = pd.read_csv(results / 'results.csv')
    assert frame.F1.notna().all()
    assert {'STUDENT', 'MLKD', 'DisCoM-KD'} == set(frame.method)


@pytest.mark.parametrize('name', ['eurosat', 'quick', 'sunrgbd', 'tristar'])
def test_all_rows_of_the_paper(name: str) -> None:
    config = read_config(CONFIGS / f'{name}.yaml')
    assert len(plan(config)) == config.runs * 41
    assert set(config.formulations) == {'paper', 'released'}


def test_a_change_of_place_scores_nothing_that_training_saw() -> None:
    config = read_config(CONFIGS / 'landcover_transfer.yaml')
    assert config.run_data is not None
    there, back = (
        {name: set(blocks) for name, blocks in run.items()} for run in config.run_data
    )
    for run in (there, back):
        assert len(set().union(*run.values())) == sum(map(len, run.values()))
    # the blocks to validate on are of the place that is the target of the other way
    assert there['val_groups'] < back['test_groups'] | back['unlabelled_groups']
    assert back['val_groups'] < there['test_groups'] | there['unlabelled_groups']


def test_new_floods_score_nothing_that_training_saw() -> None:
    config = read_config(CONFIGS / 'floods_transfer.yaml')
    assert config.run_data is not None
    scored: list[str] = []
    new: list[str] = []
    for run in config.run_data:
        named = [scene for part in run.values() for scene in part]
        assert len(named) == len(set(named))
        val, test, left = (
            {EVENTS[scene] for scene in run[f'{part}_groups']}
            for part in ('val', 'test', 'unlabelled')
        )
        # all scenes of these events are named: none of them is left for training
        events = val | test | left
        assert set(named) == {s for s, event in EVENTS.items() if event in events}
        assert not val & (test | left)
        # some of the pairs without labels are of an event that is scored
        assert test & left
        new += sorted(test | left)
        scored += run['test_groups']
    assert len(scored) == len(set(scored))
    assert sorted(new) == sorted(set(EVENTS.values()))


@pytest.mark.parametrize('name', ['floods', 'landcover'])
def test_rotations_test_every_group_once(name: str, tmp_path: Path) -> None:
    root = tmp_path / 'data'
    args = [*write_data(name, root), '--data.root', str(root)]
    config = read_config(CONFIGS / f'{name}.yaml', args)
    tested = []
    for run in config.all_runs:
        datamodule = data_class(config)(**data_config(config, run, {})['init_args'])
        datamodule.setup('test')
        dataset = datamodule.any_dataset
        tested += [dataset.identifier(i) for i in range(len(dataset))]
    classes, count = config.num_classes, 10
    assert len(tested) == len(set(tested)) == classes * count


def test_the_papers_protocol() -> None:
    for name in ('eurosat', 'sunrgbd', 'tristar'):
        config = read_config(CONFIGS / f'{name}.yaml')
        assert config.runs == 5
        assert config.trainer['max_epochs'] == 300
        # batches of 128 are the default of the data modules
        assert 'batch_size' not in config.data['init_args']
        assert config.lr == 1e-4
        assert config.model == 'resnet18'
        assert config.paper_dataset

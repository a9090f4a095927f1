# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Validation scores of candidates for the recipe of docs/study.md.

    python -m tests.study.candidates base smoothing --csv candidates.csv --jobs 2

Each candidate is DisCoM-KD with transfer and one change, trained on all seven splits
that count: the rotations of the flood events and both changes of place; unlabelled
pairs exist in the latter only. Test samples are not looked at. Rows that are in the
table already are not repeated, nor is the base of seeds that a benchmark has trained
(--results).
"""

import argparse
import logging
import tempfile
import warnings
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import redirect_stdout
from io import StringIO
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import pandas as pd
import torch
from lightning.pytorch import LightningDataModule
from rich.console import Console
from torchmetrics.functional import f1_score

from torchgeo_discomkd.benchmark import plan
from torchgeo_discomkd.benchmark.config_file import read_config
from torchgeo_discomkd.benchmark.report import markdown
from torchgeo_discomkd.benchmark.tables import Table
from torchgeo_discomkd.benchmark.training import fit_config
from torchgeo_discomkd.callbacks.run_folder import best_files
from torchgeo_discomkd.callbacks.run_manifest import git_commit
from torchgeo_discomkd.commands.fit import run
from torchgeo_discomkd.models import load_classifier
from torchgeo_discomkd.models.discomkd import read_outs

CONFIGS = Path(__file__).parents[2] / 'configs' / 'benchmark'

#: Rotations of each benchmark, and the pack of its data.
SPLITS = {
    'floods': (range(5), 'ombria_32x32.safetensors'),
    'landcover_transfer': (range(2), 'landcover_32x32.safetensors'),
}

#: The small study: one encoder, length and precision for all rows.
SMALL = ['--model', 'resnet10t', '--trainer.max_epochs', '8']
SMALL += ['--trainer.precision', '32-true']


def scaled(factor: float) -> dict[str, float]:
    """Return both weights of the transfer, times a factor.

    Args:
        factor: The factor.
    """
    return {
        'prediction_transfer_weight': 0.5 * factor,
        'embedding_transfer_weight': factor,
    }


def unlabelled(ratio: float) -> dict[str, Any]:
    """Return a candidate with unlabelled pairs of the new place.

    Args:
        ratio: Unlabelled pairs for each labelled one.
    """
    return {
        'benchmarks': ['landcover_transfer'],
        'training': 'discomkd-paper-transfer-unlabelled',
        'options': ['--unlabelled_ratio', f'{ratio}'],
    }


#: Settings of ``fit`` that a candidate changes, or the options of ``benchmark`` and the
#: training that it takes instead.
CANDIDATES: dict[str, dict[str, Any]] = {
    'base': {},
    'weights 0.25': {'model': scaled(0.25)},
    'weights 0.5': {'model': scaled(0.5)},
    'weights 2': {'model': scaled(2)},
    'temperature 2': {'model': {'transfer_temperature': 2.0}},
    'warm-up 0': {'model': {'transfer_warmup': 0, 'transfer_guide': 'ms'}},
    'warm-up 3': {'model': {'transfer_warmup': 3}},
    'unlabelled 0.5': unlabelled(0.5),
    'unlabelled 1': unlabelled(1),
    'unlabelled 2': unlabelled(2),
    'smoothing': {'model': {'label_smoothing': 0.1}},
    'average': {
        'callback': {
            'class_path': 'EMAWeightAveraging',
            'init_args': {'decay': 0.95, 'update_every_n_steps': 1},
        }
    },
    'brightness': {
        'callback': {
            'class_path': 'tests.study.prototypes.ChangeSAR',
            'init_args': {'brightness': 0.1},
        }
    },
    'speckle': {
        'callback': {
            'class_path': 'tests.study.prototypes.ChangeSAR',
            'init_args': {'speckle': 0.1},
        }
    },
    'speckle, warm-up 3': {
        'model': {'transfer_warmup': 3},
        'callback': {
            'class_path': 'tests.study.prototypes.ChangeSAR',
            'init_args': {'speckle': 0.1},
        },
    },
    'cross-correlation': {'task': 'tests.study.prototypes.CrossCorrelation'},
    'cosine': {
        'optimizer': {'class_path': 'torch.optim.Adam', 'init_args': {'lr': 1e-4}},
        'lr_scheduler': {
            'class_path': 'torch.optim.lr_scheduler.CosineAnnealingLR',
            'init_args': {'T_max': 8},
        },
    },
}

#: The training that candidates change.
BASE = 'discomkd-paper-transfer'

#: What is read out of a classifier, beside its two embeddings alone.
FULL, MEAN = 'full', 'mean of both'


def change(settings: dict[str, Any], candidate: Mapping[str, Any]) -> None:
    """Change the settings of ``fit`` in place.

    Args:
        settings: All settings.
        candidate: An entry of :data:`CANDIDATES`.
    """
    settings['model']['init_args'] |= candidate.get('model', {})
    if 'task' in candidate:
        settings['model']['class_path'] = candidate['task']
    if 'callback' in candidate:
        settings['trainer']['callbacks'].append(candidate['callback'])
    for name in ('optimizer', 'lr_scheduler'):
        if name in candidate:
            settings[name] = candidate[name]


def train(candidate: str, benchmark: str, rotation: int, seed: int) -> dict[str, Any]:
    """Train one candidate on one split.

    Args:
        candidate: Its name.
        benchmark: Name of the benchmark.
        rotation: Number of the split.
        seed: 0 or more.

    Returns:
        A row of the table.
    """
    logging.getLogger('lightning.pytorch').setLevel(logging.ERROR)
    warnings.filterwarnings('ignore', '.*does not have many workers')
    rotations, root = SPLITS[benchmark]
    changes = CANDIDATES[candidate]
    options = [*SMALL, '--seeds', f'{seed + 1}', '--data.root', root]
    options += changes.get('options', [])
    config = read_config(CONFIGS / f'{benchmark}.yaml', options)
    number = seed * len(rotations) + rotation
    names = {(t.run, t.name): t for t in plan(config)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        training = names[number, changes.get('training', BASE)]
        settings = fit_config(config, training, folder / 'run')
        change(settings, changes)
        began = perf_counter()
        with redirect_stdout(StringIO()):
            cli = run({'subcommand': 'fit', 'fit': settings})
        row = {
            'candidate': candidate,
            'benchmark': benchmark,
            'rotation': rotation,
            'seed': seed,
            'seconds': round(perf_counter() - began, 1),
            'version': git_commit(),
        }
        for modality, path in best_files(folder / 'run').items():
            scores = val_scores(path, modality, cast(Any, cli.datamodule))
            row |= {f'{modality} {name}': f1 for name, f1 in scores.items()}
    return row


def val_scores(
    path: Path, modality: str, datamodule: LightningDataModule
) -> dict[str, float]:
    """Score all read-outs of a classifier on the validation split.

    Args:
        path: Its file.
        modality: Its modality.
        datamodule: The data, set up.

    Returns:
        Weighted F1 in percent, by read-out.
    """
    loaded = load_classifier(path).eval()
    auxiliary = cast(torch.nn.Module, loaded.auxiliary)
    found: dict[str, list[torch.Tensor]] = {}
    labels = []
    with torch.inference_mode():
        for batch in datamodule.val_dataloader():
            embeddings = loaded.classifier.embed(batch[f'image_{modality}'])
            logits = read_outs(embeddings, auxiliary)
            single = {name: x.softmax(1) for name, x in logits.items()}
            single[MEAN] = torch.stack([*single.values()]).mean(0)
            single[FULL] = loaded.classifier(batch[f'image_{modality}']).softmax(1)
            for name, probabilities in single.items():
                found.setdefault(name, []).append(probabilities)
            labels.append(batch['label'])
    target = torch.cat(labels)
    return {
        name: 100
        * f1_score(
            torch.cat(x),
            target,
            task='multiclass',
            num_classes=x[0].shape[1],
            average='weighted',
        ).item()
        for name, x in found.items()
    }


def trained(folder: Path) -> pd.DataFrame:
    """Return rows of the base that a benchmark has trained.

    Args:
        folder: Its results, '<benchmark>_32x32'.
    """
    frame = pd.read_csv(folder / 'results.csv')
    own = frame[(frame.training == BASE) & (frame.readout == FULL)]
    benchmark = folder.name.removesuffix('_32x32')
    scores = 100 * own.pivot(index='run', columns='modality', values='val_F1')
    runs, rotations = scores.index, len(SPLITS[benchmark][0])
    columns = {'candidate': 'base', 'benchmark': benchmark}
    columns |= {'rotation': runs % rotations, 'seed': runs // rotations}
    return pd.DataFrame(columns | {f'{m} {FULL}': scores[m] for m in scores.columns})


def compare(table: pd.DataFrame) -> pd.DataFrame:
    """Compare all candidates with the base, read-outs of the base among them.

    Args:
        table: All rows.

    Returns:
        For each candidate the mean gain of both modalities in points of F1, its
        standard error, the number of splits and seeds, and whether it passes; first
        and further seeds apart.
    """
    keys = ['benchmark', 'rotation', 'seed']
    base = table[table.candidate == 'base'].set_index(keys)
    stages = table.seed.map(lambda seed: 'first' if seed == 0 else 'further')
    readouts = [c.removeprefix('sar ') for c in table.columns if c.startswith('sar ')]
    readouts.remove(FULL)
    lines = []
    for (name, stage), rows in table.groupby(['candidate', stages], sort=False):
        for readout in readouts if name == 'base' else [FULL]:
            line: dict[str, Any] = {'candidate': name, 'read-out': readout}
            line['seeds'] = stage
            for modality in ('sar', 'ms'):
                own = rows.set_index(keys)[f'{modality} {readout}']
                gain = (own - base[f'{modality} {FULL}']).dropna()
                line |= {modality: gain.mean(), f'± {modality}': gain.sem()}
                line['n'] = len(gain)
            helps = line['sar'] > line['± sar'] and -line['ms'] <= line['± ms']
            lines.append(line | {'passes': 'yes' if helps else 'no'})
    found = pd.DataFrame(lines)
    return found[found.n > 0]


def as_table(found: pd.DataFrame) -> Table:
    """Return the comparison as a table of text.

    Args:
        found: What :func:`compare` returns.
    """
    cells = found.map(lambda x: f'{x:.2f}' if isinstance(x, float) else f'{x}')
    return Table('Candidates', [*cells.columns], cells.to_numpy().tolist())


def main() -> None:
    """Train what is missing, and print the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('candidates', nargs='*', choices=[*CANDIDATES, []])
    parser.add_argument('--csv', type=Path, required=True)
    parser.add_argument('--results', type=Path, nargs='*', default=[])
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--jobs', type=int, default=1)
    options = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    table = pd.read_csv(options.csv) if options.csv.exists() else pd.DataFrame()
    columns = ['candidate', 'benchmark', 'rotation', 'seed']
    known = pd.concat([table, *map(trained, options.results)], ignore_index=True)
    done = (
        set() if known.empty else {*known[columns].itertuples(index=False, name=None)}
    )
    left = [
        key
        for candidate in options.candidates
        for benchmark in CANDIDATES[candidate].get('benchmarks', SPLITS)
        for rotation in SPLITS[benchmark][0]
        if (key := (candidate, benchmark, rotation, options.seed)) not in done
    ]
    with ProcessPoolExecutor(options.jobs, get_context('spawn')) as pool:
        for future in as_completed([pool.submit(train, *key) for key in left]):
            row = future.result()
            table = pd.concat([table, pd.DataFrame([row])], ignore_index=True)
            table.to_csv(options.csv, index=False)
            console.print(*(row[c] for c in columns), f'{row["sar full"]:.2f}')
    known = pd.concat([table, *map(trained, options.results)], ignore_index=True)
    found = as_table(compare(known.drop_duplicates(columns)))
    console.print(markdown(found), markup=False)


if __name__ == '__main__':
    main()

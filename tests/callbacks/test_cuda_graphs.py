# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Trainings whose steps are replayed are the same as those whose steps are computed.

On the CPU a stand-in does to memory what a CUDA graph does.
"""

import copy
import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchgeo.datasets.utils import Sample

from tests.static import capture_static
from tests.tasks.distillation import write_teacher
from torchgeo_discomkd.callbacks import CudaGraphs
from torchgeo_discomkd.errors import NonFiniteError
from torchgeo_discomkd.losses import CTKD
from torchgeo_discomkd.tasks import DisCoMKD, Distillation, FusionClassification
from torchgeo_discomkd.tasks.step_watch import StepWatch

CHANNELS = {'ms': 3, 'sar': 2}
LOGGER = 'lightning.pytorch.utilities.rank_zero'

pytestmark = [
    pytest.mark.filterwarnings('ignore:.*does not have many workers'),
    pytest.mark.filterwarnings('ignore:.*`val_dataloader`'),
    pytest.mark.filterwarnings('ignore:You defined a `validation_step`'),
    pytest.mark.filterwarnings('ignore:The number of training batches'),
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run folders without a name are the current one."""
    monkeypatch.chdir(tmp_path)


class StaticGraphs(CudaGraphs):
    """The callback on the CPU."""

    device_type = 'cpu'
    capture = staticmethod(capture_static)


class Watched(StaticGraphs):
    """Count replays, also after a training."""

    replays = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any
    ) -> None:
        if pl_module.graphs is not None:
            self.replays = pl_module.graphs.replays


def loader(batch_size: int = 4, **options: Any) -> DataLoader[Sample]:
    generator = torch.Generator().manual_seed(0)
    samples = [
        {
            f'image_{m}': torch.rand(c, 8, 8, generator=generator)
            for m, c in CHANNELS.items()
        }
        | {'label': i % 2}
        for i in range(10)
    ]
    return DataLoader(samples, batch_size=batch_size, **options)  # ty: ignore[invalid-argument-type]


def fit(
    task: LightningModule, *callbacks: CudaGraphs, epochs: int = 2, **options: Any
) -> Trainer:
    trainer = Trainer(
        accelerator='cpu',
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        **options,
    )
    seed_everything(0, verbose=False)
    trainer.fit(task, loader())
    return trainer


def discomkd(**options: Any) -> DisCoMKD:
    seed_everything(0, verbose=False)
    return DisCoMKD(CHANNELS, num_classes=2, model='test_resnet', **options)


def same(plain: LightningModule, replayed: LightningModule) -> bool:
    state = replayed.state_dict()
    return all(
        torch.equal(value, state[key]) for key, value in plain.state_dict().items()
    )


@pytest.mark.parametrize(
    'precision',
    [
        '32-true',
        pytest.param('bf16-mixed', marks=pytest.mark.slow),
        pytest.param('bf16-true', marks=pytest.mark.slow),
    ],
)
def test_weights_buffers_and_terms_are_the_same(
    precision: str, caplog: pytest.LogCaptureFixture
) -> None:
    tasks, trainers = [discomkd(students=True), discomkd(students=True)], []
    watched = Watched()
    with caplog.at_level(logging.INFO, LOGGER):
        for task, callbacks in zip(tasks, ([], [watched]), strict=True):
            trainers.append(fit(task, *callbacks, precision=precision))
    # two computed, two incomplete batches, the others replayed
    assert watched.replays == 2
    assert caplog.text.count('Steps are replayed as a CUDA graph') == 1
    assert same(*tasks)
    metrics = [trainer.callback_metrics for trainer in trainers]
    assert metrics[0].keys() == metrics[1].keys() >= {'train_loss'}
    assert all(torch.equal(value, metrics[1][key]) for key, value in metrics[0].items())
    assert tasks[1].graphs is None


@pytest.mark.slow
def test_distillation_is_captured_again_while_its_loss_changes(tmp_path: Path) -> None:
    seed_everything(0, verbose=False)
    teacher = write_teacher(tmp_path / 'teacher.safetensors', CHANNELS)
    students, watched = [], Watched()
    for callbacks in ([], [watched]):
        seed_everything(0, verbose=False)
        loss = CTKD(warmup_epochs=2)
        student = Distillation(str(teacher), loss, {'sar': 2}, 2, 'test_resnet')
        fit(student, *callbacks, epochs=6)
        students.append(student)
    # the first epoch was captured, too early; then eight steps of a constant loss
    assert watched.replays > 0
    assert same(*students)


def small(base: type[FusionClassification] = FusionClassification) -> Any:
    seed_everything(0, verbose=False)
    return base({'sar': 2}, num_classes=2, model='test_resnet')


class OwnStep(FusionClassification):
    """Takes two replays before a backward pass, which would be wrong."""

    def training_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        first = super().training_step(batch, batch_idx)
        return first + super().training_step(batch, batch_idx)


class OwnObjective(FusionClassification):
    """Changes with the epoch, which it does not say."""

    def objective(
        self, inputs: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        loss, terms = super().objective(inputs)
        return (1 + self.current_epoch) * loss, terms


class OwnPart(FusionClassification):
    """Changes a part of the objective only."""

    @property
    def modalities(self) -> tuple[str, ...]:
        return super().modalities


class Kept(FusionClassification):
    """Zeroes gradients in place, which would be the memory of the graph."""

    def optimizer_zero_grad(self, *args: Any) -> None:
        args[-1].zero_grad(set_to_none=False)


@pytest.mark.parametrize(
    ('base', 'options', 'reason'),
    [
        (FusionClassification, {'accumulate_grad_batches': 2}, 'are accumulated'),
        (FusionClassification, {'precision': '64-true'}, 'precision 64-true'),
        (FusionClassification, {'detect_anomaly': True}, 'anomalies'),
        (OwnStep, {}, 'OwnStep has its own training_step'),
        (OwnObjective, {}, 'OwnObjective has its own objective, but no'),
        (OwnPart, {}, 'OwnPart has its own modalities, but no'),
        (Kept, {}, 'Kept has its own optimizer_zero_grad'),
    ],
)
def test_what_cannot_be_replayed_is_computed(
    base: type[FusionClassification],
    options: dict[str, Any],
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    watched = Watched()
    with caplog.at_level(logging.INFO, LOGGER):
        fit(small(base), watched, limit_train_batches=4, **options)
    assert watched.replays == 0
    (line,) = [r.getMessage() for r in caplog.records if 'CUDA' in r.getMessage()]
    assert line.startswith('Steps are not replayed as a CUDA graph: ')
    assert reason in line
    assert '\n' not in line


def test_a_schedule_of_accumulation_is_refused() -> None:
    for factor, refused in ((2, True), (1, False)):
        scheduler = GradientAccumulationScheduler({1: factor})
        trainer = Trainer(accelerator='cpu', logger=False, callbacks=[scheduler])
        reason = StaticGraphs.obstacle(trainer)
        assert (reason is not None) == refused


def test_accumulation_that_begins_later_is_computed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Accumulates(Watched):
        def on_train_epoch_start(
            self, trainer: Trainer, pl_module: LightningModule
        ) -> None:
            trainer.accumulate_grad_batches = 1 + pl_module.current_epoch

    tasks, watched = [small(), small()], Accumulates()
    with caplog.at_level(logging.INFO, LOGGER):
        for task, callback in zip(
            tasks, (Accumulates(enabled=False), watched), strict=True
        ):
            fit(task, callback)
    assert 'gradients are accumulated' in caplog.text
    assert same(*tasks)


def test_gradients_zeroed_in_place_are_the_same() -> None:
    class InPlace(torch.optim.SGD):
        def zero_grad(self, set_to_none: bool = False) -> None:
            super().zero_grad(set_to_none)

    class Task(FusionClassification):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            return InPlace(self.parameters(), lr=0.1)

    tasks, watched = [small(Task), small(Task)], Watched()
    for task, callbacks in zip(tasks, ([], [watched]), strict=True):
        fit(task, *callbacks)
    assert watched.replays == 2
    assert same(*tasks)


def student(folder: Path) -> Distillation:
    teacher = write_teacher(folder / 'teacher.safetensors', CHANNELS)
    seed_everything(0, verbose=False)
    task = Distillation(str(teacher), None, {'sar': 2}, 2, 'test_resnet')
    task.load_teacher()
    return task


def guided(folder: Path) -> DisCoMKD:
    guide = {'transfer_guide': 'ms', 'transfer_warmup': 0}
    return discomkd(students=True, transfer=True, **guide)


@pytest.mark.parametrize('create', [student, guided, lambda folder: small()])
def test_all_parts_of_an_objective_are_declared(
    create: Callable[[Path], Any], tmp_path: Path
) -> None:
    task = create(tmp_path)
    used = {'objective'}

    class Traced(type(task)):
        def __getattribute__(self, name: str) -> Any:
            used.add(name)
            return super().__getattribute__(name)

    inputs = task.training_inputs(next(iter(loader())))
    task.__class__ = Traced
    task.objective(inputs)
    # Lightning's own are hooks and facts
    own = {
        name
        for base in type(task).__mro__[1:]
        if base.__module__.startswith('torchgeo_discomkd')
        for name, value in vars(base).items()
        if callable(value) or isinstance(value, property)
    }
    own = own - set(dir(LightningModule))
    assert used & own == set(task.objective_parts)


def test_settings_of_a_loss_are_part_of_the_state(tmp_path: Path) -> None:
    task = student(tmp_path)
    states = [task.objective_state]
    task.loss.temperature = 2.0
    states.append(task.objective_state)
    task.loss.alpha = 0.1
    states.append(task.objective_state)
    assert len(set(states)) == 3
    assert states[-1] == task.objective_state


def test_an_own_objective_that_states_what_it_depends_on() -> None:
    class Stated(OwnObjective):
        @property
        def objective_state(self) -> int:
            return self.current_epoch

    tasks, watched = [small(Stated), small(Stated)], Watched()
    for task, callbacks in zip(tasks, ([], [watched]), strict=True):
        fit(task, *callbacks)
    assert same(*tasks)


def test_a_wrong_statement_is_found(caplog: pytest.LogCaptureFixture) -> None:
    class Wrong(OwnObjective):
        objective_state = 'constant'

    class Baked(Watched):
        @staticmethod
        def capture(module: nn.Module, args: tuple[Tensor, ...]) -> Callable[..., Any]:
            # Python values of the capture remain, as in a graph
            task, epoch = module.module, module.module.current_epoch
            captured = capture_static(module, args)

            def replay(*inputs: Tensor) -> Any:
                own = type(task).current_epoch
                type(task).current_epoch = epoch
                try:
                    return captured(*inputs)
                finally:
                    type(task).current_epoch = own

            return replay

    tasks, baked = [small(Wrong), small(Wrong)], Baked()
    with caplog.at_level(logging.INFO, LOGGER):
        for task, callbacks in zip(tasks, ([], [baked]), strict=True):
            fit(task, *callbacks)
    assert 'depends on more than objective_state says' in caplog.text
    assert same(*tasks)


@pytest.mark.parametrize('callback', [CudaGraphs(), Watched(enabled=False)])
def test_a_processor_and_a_choice_need_no_words(
    callback: CudaGraphs, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, LOGGER):
        fit(small(), callback, epochs=1)
    assert 'graph' not in caplog.text


def test_a_task_can_be_copied_while_it_has_a_graph() -> None:
    class Copies(Watched):
        def on_train_batch_end(
            self, trainer: Trainer, pl_module: LightningModule, *args: Any
        ) -> None:
            super().on_train_batch_end(trainer, pl_module, *args)
            network = copy.deepcopy(pl_module.graphs)
            assert network is None

    copies = Copies()
    fit(small(), copies)
    assert copies.replays == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_fifty_real_steps_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    # otherwise fifty computed steps differ as much from themselves
    monkeypatch.setenv('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
    losses = []
    for enabled in (False, True):
        task = discomkd(students=True).cuda()
        seen: list[Tensor] = []

        class Losses(CudaGraphs):
            def on_train_batch_end(
                self,
                trainer: Trainer,
                pl_module: LightningModule,
                outputs: Any,
                *args: Any,
            ) -> None:
                seen.append(outputs['loss'].cpu())  # noqa: B023
                if pl_module.graphs is not None:
                    assert pl_module.graphs.reason is None

        seed_everything(0, verbose=False)
        trainer = Trainer(
            accelerator='cuda',
            devices=1,
            max_steps=50,
            deterministic=True,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            callbacks=[Losses(enabled)],
        )
        trainer.fit(task, loader())
        losses.append(torch.stack(seen))
    torch.use_deterministic_algorithms(False)
    assert len(losses[0]) == 50
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-4, atol=0)


class Spoil(Watched):
    """Make images of one replayed step infinitely large after normalisation."""

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        if trainer.global_step == 7:
            batch['image_sar'] = torch.full_like(batch['image_sar'], 3e38)


def test_a_replayed_step_that_is_not_finite_is_found_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # as on a GPU: losses are read at the end of the epoch
    monkeypatch.setattr(StepWatch, 'is_due', property(lambda watch: False))
    monkeypatch.setattr(f'{__name__}.loader', partial(loader, batch_size=2))
    spoil = Spoil()
    with pytest.raises(
        NonFiniteError, match=r'step 7 \(epoch 1, batch 2\): .*loss is nan.*of sar'
    ):
        fit(discomkd(), spoil)
    assert spoil.replays > 3

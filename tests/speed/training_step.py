# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Time a training step: plain PyTorch against the tasks of this package.

Every alternative has a process of its own; ours are set up as the command line does it.

python -m tests.speed.training_step --json step.json
"""

import resource
import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any, Literal

import torch
from lightning.fabric import Fabric
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tests.speed.measure import (
    compare,
    in_turns,
    parse,
    report,
    rows_of,
    seconds_of,
    tell,
)
from tests.speed.plain_training import PlainTraining
from torchgeo_discomkd.datamodules import PairedArraysDataModule
from torchgeo_discomkd.performance.graphs import BFLOAT16, FLOAT32, GraphedObjective
from torchgeo_discomkd.performance.memory import keep_freed_memory
from torchgeo_discomkd.performance.precision import fast_precision
from torchgeo_discomkd.tasks import DisCoMKD

#: Bands of the modalities, in the order in which they join.
BANDS = {'ms': 13, 'sar': 2, 'optical': 4, 'elevation': 1}
CLASSES = 10


@dataclass(frozen=True)
class Route:
    """One way to run our step."""

    precision: Literal['32-true', 'bf16-mixed']
    channels_last: bool = False
    compiled: bool = False
    graphed: bool = False


#: The ways that are compared, by name.
ROUTES = {
    'float32': Route('32-true'),
    'float32 + channels_last': Route('32-true', channels_last=True),
    'bf16-mixed': Route('bf16-mixed'),
    'bf16-mixed + channels_last': Route('bf16-mixed', channels_last=True),
}
BEST = 'bf16-mixed + channels_last'
GRAPHED = {
    'float32 + graph': Route('32-true', graphed=True),
    f'{BEST} + graph': Route('bf16-mixed', channels_last=True, graphed=True),
}
COMPILED = {f'{BEST} + compile': Route('bf16-mixed', True, compiled=True)}


@dataclass(frozen=True)
class Batch:
    """Raw values that lie in the memory of the device, unpaired."""

    images: dict[str, Tensor]
    labels: dict[str, Tensor]

    @property
    def flat(self) -> dict[str, Tensor]:
        """The batch as our data modules deliver it."""
        images = {f'image_{m}': x for m, x in self.images.items()}
        return images | {f'label_{m}': y for m, y in self.labels.items()}


def random_batch(modalities: int, size: int, device: torch.device) -> Batch:
    """Draw images of 64x64 pixels of the first modalities."""
    generator = torch.Generator().manual_seed(0)
    images, labels = {}, {}
    for name in list(BANDS)[:modalities]:
        image = torch.randn(size, BANDS[name], 64, 64, generator=generator)
        images[name] = image.to(device)
        label = torch.randint(CLASSES, (size,), generator=generator)
        labels[name] = label.to(device)
    return Batch(images, labels)


def bands_of(batch: Batch) -> dict[str, int]:
    """Return the number of bands of each modality of a batch."""
    return {m: BANDS[m] for m in batch.images}


def our_step(batch: Batch, route: Route, device: torch.device) -> Callable[[], None]:
    """Return our step: augmentation, task, its optimizer, Lightning's precision."""
    fabric = Fabric(accelerator=device.type, devices=1, precision=route.precision)
    task = DisCoMKD(bands_of(batch), CLASSES)
    datamodule = PairedArraysDataModule('unused', {m: m for m in batch.images})
    datamodule.trainer = Trainer(
        accelerator='cpu', logger=False, enable_checkpointing=False
    )
    datamodule.trainer.training = True
    if route.channels_last:
        task.to(memory_format=torch.channels_last)  # ty: ignore[no-matching-overload]
    if route.compiled:
        task.model.compile()
    module, optimizer = fabric.setup(
        fabric.to_device(task).train(), task.configure_optimizers()
    )
    flat = batch.flat
    graphs = graphs_of(task, route) if route.graphed else None
    task.graphs = graphs

    def step() -> None:
        if graphs is not None:
            graphs.prepare()
        augmented = datamodule.on_after_batch_transfer(flat, 0)
        optimizer.zero_grad()
        # the wrapper hands a training step on as it is, outside of the precision
        with fabric.autocast():
            loss = module.training_step(augmented, 0)
        fabric.backward(loss)
        optimizer.step()

    if graphs is not None:
        for _ in range(4):
            step()
        if not graphs.replays:
            raise RuntimeError(f'no graph: {graphs.reason}')
    return step


def graphs_of(task: DisCoMKD, route: Route) -> GraphedObjective:
    """Return what replays the steps of a task, as CudaGraphs sets it up."""
    half = route.precision == 'bf16-mixed'
    options = {'enabled': half, 'cache_enabled': False}
    context = partial(torch.autocast, 'cuda', torch.bfloat16, **options)
    tolerance = BFLOAT16 if half else FLOAT32
    return GraphedObjective(
        task.objective, task, lambda: task.objective_state, context, tolerance
    )


def plain_step(batch: Batch, device: torch.device) -> Callable[[], None]:
    """Return the step of the plain implementation."""
    training = PlainTraining(bands_of(batch), CLASSES, device)

    def step() -> None:
        training.step(batch.images, batch.labels)

    return step


def steps_in_a_row(device: torch.device) -> int:
    """Return how many steps follow each other before anybody waits for a device."""
    return 10 if device.type == 'cuda' else 1


def repeated(step: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Return steps in a row, as in a training."""

    def steps() -> None:
        for _ in range(steps_in_a_row(device)):
            step()
        wait(device)

    return steps


def wait(device: torch.device) -> None:
    """Wait until a device has done what it was told."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def flop(step: Callable[[], None]) -> int:
    """Count the floating-point operations of a step (products and convolutions)."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def computes_in_bfloat16(device: torch.device) -> bool:
    """Return whether bfloat16 is worth timing; imitated, a product takes minutes."""
    return fast_precision(device)[0] == 'bf16-mixed'


def peak(dtype: torch.dtype, device: torch.device, size: int = 4096) -> float:
    """Return the GFLOP/s of the best of five large matrix products."""
    a, b = (torch.rand(size, size, device=device).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(6):
        start = perf_counter()
        a @ b
        wait(device)
        seconds.append(perf_counter() - start)
    return 2 * size**3 / min(seconds[1:]) / 1e9


def time_alternative(name: str, batch_size: int, device: torch.device) -> None:
    """Time one alternative and tell what it took."""
    batch = random_batch(2, batch_size, device)
    if name == 'plain':
        step = computed = plain_step(batch, device)
    else:
        keep_freed_memory()
        route = (ROUTES | GRAPHED | COMPILED)[name]
        step = computed = our_step(batch, route, device)
    number = steps_in_a_row(device)
    (row,) = compare({name: repeated(step, device)}, number * batch_size)
    memory = most_memory(device)
    if name in GRAPHED:
        # operations of a replay are not seen
        computed = our_step(batch, replace(route, graphed=False), device)
    tell(seconds=row.seconds / number, gib=memory, gflop=flop(computed) / 1e9)


def most_memory(device: torch.device) -> float:
    """Return the most memory so far in GiB: of the GPU, or of the process."""
    if device.type == 'cuda':
        return torch.cuda.max_memory_allocated(device) / 2**30
    # in KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def against_plain(options: Namespace, device: torch.device) -> None:
    """Compare the plain step and ours, two modalities."""
    names = ['plain', *ROUTES, *(COMPILED if options.compile else {})]
    if device.type == 'cuda':
        names += GRAPHED
    else:
        sys.stdout.write('CUDA graphs are for a GPU: left out.\n')
    types = {'float32': torch.float32}
    if half := computes_in_bfloat16(device):
        types['bfloat16'] = torch.bfloat16
    else:
        sys.stdout.write('No instructions for bfloat16: left out, unless in --only.\n')
    asked = options.only or [n for n in names if half or 'bf16' not in n]
    names = [n for n in names if n in {'plain', *asked}]
    arguments = ('--batch-size', options.batch_size, '--device', device.type)
    module = 'tests.speed.training_step'
    found = in_turns(module, names, options.rounds, *arguments)
    rows = rows_of(seconds_of(found), options.batch_size)
    known: dict[str, Any] = {
        f'peak GFLOP/s, {name} product': round(peak(dtype, device))
        for name, dtype in types.items()
    }
    for row in rows:
        figures = found[row.name][0]
        known[row.name] = (
            f'{figures["gflop"]:.1f} GFLOP a step, '
            f'{figures["gflop"] / row.seconds:.0f} GFLOP/s, '
            f'{figures["gib"]:.2f} GiB at most'
        )
    title = f'Training step, {device.type}, batches of {options.batch_size}'
    report(title, rows, 'pairs', options.json, **known)


def by_modalities(options: Namespace, device: torch.device) -> None:
    """Compare our best step with two, three and more modalities."""
    keep_freed_memory()
    best = BEST if computes_in_bfloat16(device) else 'float32 + channels_last'
    steps = {}
    for number in options.modalities:
        batch = random_batch(number, options.batch_size, device)
        step = our_step(batch, ROUTES[best], device)
        steps[f'{number} modalities'] = repeated(step, device)
    samples = steps_in_a_row(device) * options.batch_size
    rows = compare(steps, samples, options.rounds)
    title = f'Our step by modalities, {device.type}, batches of {options.batch_size}'
    report(title, rows, 'samples of each', options.json, route=best)


def device_of(name: str) -> torch.device:
    """Read a device: 'auto' is the first GPU, if there is one."""
    if name == 'auto':
        name = 'cuda' if torch.cuda.is_available() else 'cpu'
    if name not in {'cpu', 'cuda'}:
        raise ArgumentTypeError(f"'{name}': use auto, cpu or cuda.")
    return torch.device(name)


def main() -> None:
    """Run the comparisons that were asked for."""
    options = parse(
        __doc__,
        ('--batch-size', {'type': int, 'default': 128}),
        ('--rounds', {'type': int, 'default': 3}),
        ('--device', {'type': device_of, 'default': device_of('auto')}),
        ('--only', {'nargs': '+', 'help': 'these alternatives, and plain'}),
        ('--compile', {'action': 'store_true', 'help': 'a compiled network, too'}),
        ('--time', {'help': 'one alternative (internal)'}),
        (
            '--modalities',
            {
                'type': int,
                'nargs': '+',
                'choices': range(2, len(BANDS) + 1),
                'help': 'instead: how the cost of our step grows',
            },
        ),
    )
    if options.time:
        time_alternative(options.time, options.batch_size, options.device)
    elif options.modalities:
        by_modalities(options, options.device)
    else:
        against_plain(options, options.device)


if __name__ == '__main__':
    main()

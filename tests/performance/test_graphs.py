# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""When a step is captured and replayed; with real graphs only where there is a GPU."""

import copy
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tests.static import capture_static
from torchgeo_discomkd.performance import graphs
from torchgeo_discomkd.performance.graphs import GraphedObjective


class Small(nn.Module):
    """A network whose step moves buffers and draws random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 2)
        )
        self.unused = nn.Parameter(torch.zeros(1))
        self.factor = 1.0

    def objective(
        self, inputs: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        loss = self.factor * cross_entropy(self.network(inputs['x']), inputs['y'])
        return loss, {'loss': loss, 'mean': inputs['x'].mean()}


def batch(size: int = 6, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(2, (size,), generator=generator)
    return {'x': torch.rand(size, 3, generator=generator), 'y': y}


def graphed(
    module: Small, capture: Callable[..., Any] = capture_static, **options: Any
) -> tuple[GraphedObjective, list[int]]:
    """Return the objective, and a list that grows with every capture."""
    captures: list[int] = []

    def counting(flat: nn.Module, args: tuple[Tensor, ...]) -> Callable[..., Any]:
        captures.append(len(args[0]))
        return capture(flat, args)

    objective = GraphedObjective(module.objective, module, capture=counting, **options)
    return objective, captures


def step(objective: GraphedObjective, inputs: dict[str, Tensor]) -> Tensor:
    objective.prepare()
    return objective(inputs)[0]


def test_a_step_is_captured_once_and_replayed() -> None:
    torch.manual_seed(0)
    module = Small()
    plain, own = copy.deepcopy(module), torch.random.get_rng_state()
    found, expected = [], []
    objective, captures = graphed(module)
    for seed in range(6):
        inputs = batch(6 if seed != 4 else 5, seed)
        before = {k: v.clone() for k, v in inputs.items()}
        loss = step(objective, inputs)
        loss.backward()
        found.append((loss, module.network[0].weight.grad, inputs['x'].clone()))
        module.zero_grad()
        # a replay writes into memory of its own
        assert all(torch.equal(inputs[k], v) for k, v in before.items())
    torch.random.set_rng_state(own)
    for seed in range(6):
        inputs = batch(6 if seed != 4 else 5, seed)
        loss, _ = plain.objective(inputs)
        loss.backward()
        expected.append((loss, plain.network[0].weight.grad, inputs['x']))
        plain.zero_grad()
    assert captures == [6]
    assert objective.reason is None
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one[0], other[0], rtol=0, atol=0)
        torch.testing.assert_close(one[2], other[2], rtol=0, atol=0)
    for key, value in plain.state_dict().items():
        assert torch.equal(module.state_dict()[key], value)


def test_terms_are_values_of_their_own() -> None:
    objective, _ = graphed(Small())
    for seed in range(3):
        objective.prepare()
        _, terms = objective(batch(seed=seed))
    kept = terms['mean']
    objective(batch(seed=9))
    assert list(terms) == ['loss', 'mean']
    torch.testing.assert_close(kept, batch(seed=2)['x'].mean())


def stale_labels(module: nn.Module, args: tuple[Tensor, ...]) -> Callable[..., Any]:
    return lambda x, y: module(x, args[1])


def stale_images(module: nn.Module, args: tuple[Tensor, ...]) -> Callable[..., Any]:
    return lambda x, y: module(args[0], y)


def no_gradient(module: nn.Module, args: tuple[Tensor, ...]) -> Callable[..., Any]:
    return lambda x, y: tuple(t * 1.1 for t in module(x, y))


def still_buffers(module: nn.Module, args: tuple[Tensor, ...]) -> Callable[..., Any]:
    captured = capture_static(module, args)

    def replay(*inputs: Tensor) -> Any:
        saved = [buffer.clone() for buffer in module.buffers()]
        results = captured(*inputs)
        for buffer, value in zip(module.buffers(), saved, strict=True):
            buffer.copy_(value)
        return results

    return replay


def broken(module: nn.Module, args: tuple[Tensor, ...]) -> Callable[..., Any]:
    raise RuntimeError('operation not permitted\nmore')


@pytest.mark.parametrize(
    ('capture', 'reason'),
    [
        (stale_labels, 'differ'),
        (stale_images, 'differ'),
        (no_gradient, 'loss of a replayed step differ by 0.1'),
        (still_buffers, 'buffers of a replayed step differ'),
        (broken, 'RuntimeError: operation not permitted'),
    ],
)
def test_a_wrong_capture_is_never_used(
    capture: Callable[..., Any], reason: str
) -> None:
    torch.manual_seed(0)
    module = Small()
    objective, captures = graphed(module, capture)
    state = copy.deepcopy(module.state_dict())
    for seed in range(2):
        objective(batch(seed=seed))
    moved = copy.deepcopy(module.state_dict())
    assert not objective.prepare()
    assert objective.reason is not None
    assert reason in objective.reason
    assert '\n' not in objective.reason
    # the attempt left no trace
    assert all(torch.equal(moved[k], v) for k, v in module.state_dict().items())
    assert not torch.equal(
        state['network.1.running_mean'], moved['network.1.running_mean']
    )
    for _ in range(4):
        step(objective, batch())
    assert captures == [6]


def forward_hook(module: Small, calls: list[int]) -> None:
    module.network[0].register_forward_hook(lambda *args: calls.append(1))


def gradient_hook(module: Small, calls: list[int]) -> None:
    module.network[0].weight.register_hook(lambda gradient: calls.append(1))


def accumulation_hook(module: Small, calls: list[int]) -> None:
    weight = module.network[0].weight
    weight.register_post_accumulate_grad_hook(lambda parameter: calls.append(1))


@pytest.mark.parametrize('hook', [forward_hook, gradient_hook, accumulation_hook])
def test_hooks_are_not_skipped(hook: Callable[[Small, list[int]], None]) -> None:
    module = Small()
    calls: list[int] = []
    hook(module, calls)
    objective, captures = graphed(module)
    for seed in range(4):
        step(objective, batch(seed=seed)).backward()
    assert not captures
    assert 'hooks' in str(objective.reason)
    assert len(calls) == 4


def change_state(module: Small) -> None:
    module.factor = 2.0


def freeze(module: Small) -> None:
    module.network[0].requires_grad_(False)


def still(module: Small) -> None:
    module.network[1].eval()


def move(module: Small) -> None:
    module.network[0].weight.data = module.network[0].weight.data.clone()


@pytest.mark.parametrize('change', [change_state, freeze, still, move])
def test_a_changed_module_is_captured_again(change: Callable[[Small], None]) -> None:
    torch.manual_seed(0)
    module = Small()
    module.network[2].p = 0.0
    objective, captures = graphed(module, state=lambda: module.factor)
    for seed in range(4):
        step(objective, batch(seed=seed))
    assert len(captures) == 1
    change(module)
    expected = copy.deepcopy(module).objective(batch(seed=7))[0]
    assert torch.equal(step(objective, batch(seed=7)), expected)
    # the first capture has not paid for itself: the second comes later
    counts = []
    for seed in range(10):
        step(objective, batch(seed=seed))
        counts.append(len(captures))
    assert counts == [*7 * [1], *3 * [2]]


def test_ever_changing_steps_are_captured_ever_more_rarely() -> None:
    module = Small()
    objective, captures = graphed(module, state=lambda: module.factor)
    for number in range(200):
        module.factor = float(number // 3)
        step(objective, batch(seed=number))
    assert len(captures) == 1
    assert objective.reason is None
    for number in range(100):
        step(objective, batch(seed=number))
    assert len(captures) == 2


def test_no_state_no_capture() -> None:
    objective, captures = graphed(Small(), state=lambda: None)
    for seed in range(5):
        step(objective, batch(seed=seed))
    assert not captures


def test_verification_finds_what_is_not_stated() -> None:
    module = Small()
    objective, captures = graphed(module, baked)
    for seed in range(4):
        step(objective, batch(seed=seed))
    objective.verify()
    assert objective.reason is None
    module.factor = 3.0
    objective.verify()
    assert 'objective_state' in str(objective.reason)
    assert len(captures) == 1


def test_verification_finds_a_changed_module() -> None:
    module = Small()
    norm = module.network[1]
    # these must not hide it: large counters, large and infinite constants
    module.register_buffer('scale', torch.tensor([1e6, float('inf')]))
    norm.num_batches_tracked += 10**6
    objective, _ = graphed(module, baked_momentum, tolerance=graphs.BFLOAT16)
    for seed in range(4):
        step(objective, batch(seed=seed))
    objective.verify()
    assert objective.reason is None
    norm.momentum = 0.2
    objective.verify()
    assert 'buffers of a replayed step differ' in str(objective.reason)


def test_verification_finds_new_hooks() -> None:
    module = Small()
    objective, _ = graphed(module)
    for seed in range(4):
        step(objective, batch(seed=seed))
    assert objective.replays
    module.network[0].register_forward_pre_hook(lambda *args: None)
    objective.verify()
    assert 'hooks' in str(objective.reason)


def test_a_replayed_step_goes_backward_once_and_before_the_next() -> None:
    module = Small()
    objective, _ = graphed(module)
    for seed in range(4):
        late = step(objective, batch(seed=seed))
    last = step(objective, batch(seed=5))
    assert objective.replays == 3
    with pytest.raises(RuntimeError, match='before the next step'):
        late.backward()
    last.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match='backward once'):
        last.backward()


@pytest.mark.parametrize('factor', [1.0, 0.5])
@pytest.mark.parametrize('in_place', [False, True])
def test_gradients_that_stay_are_added_up(in_place: bool, factor: float) -> None:
    torch.manual_seed(0)
    module = Small()
    module.network[2].p = 0.0
    plain = copy.deepcopy(module)
    objective, _ = graphed(module)
    for seed in range(6):
        losses = step(objective, batch(seed=seed)), plain.objective(batch(seed=seed))[0]
        for loss, network in zip(losses, (module, plain), strict=True):
            if in_place:
                network.zero_grad(set_to_none=False)
            (factor * loss).backward()
    # its replay must not change them either
    objective.verify()
    assert objective.replays > 2
    for one, other in zip(module.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def baked(module: nn.Module, args: tuple[Tensor, ...]) -> Callable[..., Any]:
    """Capture Python values, too, as a graph does."""
    factor = module.module.factor
    module(*args)

    def replay(*inputs: Tensor) -> Any:
        now, module.module.factor = module.module.factor, factor
        results = module(*inputs)
        module.module.factor = now
        return results

    return replay


def baked_momentum(module: nn.Module, args: tuple[Tensor, ...]) -> Callable[..., Any]:
    """Capture the momentum of a batch norm, as a graph does."""
    norm = module.module.network[1]
    momentum, captured = norm.momentum, capture_static(module, args)

    def replay(*inputs: Tensor) -> Any:
        now, norm.momentum = norm.momentum, momentum
        results = captured(*inputs)
        norm.momentum = now
        return results

    return replay


def test_a_copy_has_no_graph() -> None:
    objective, _ = graphed(Small())
    assert copy.deepcopy({'graphs': objective}) == {'graphs': None}
    assert pickle.loads(pickle.dumps(objective)) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_real_graphs() -> None:
    torch.manual_seed(0)
    module = Small().cuda()
    plain = copy.deepcopy(module)
    for network in (module, plain):
        network.network[2].p = 0.0
    objective = GraphedObjective(module.objective, module)
    optimizers = [torch.optim.Adam(m.parameters()) for m in (module, plain)]
    for seed in range(20):
        inputs = {k: v.cuda() for k, v in batch(64, seed).items()}
        losses = step(objective, inputs), plain.objective(inputs)[0]
        for loss, optimizer in zip(losses, optimizers, strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        torch.testing.assert_close(*losses, rtol=1e-4, atol=0)
    assert objective.reason is None
    assert objective.replays > 10
    assert graphs.PATIENCE == 2

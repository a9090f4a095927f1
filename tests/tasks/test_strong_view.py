# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tests.callbacks.runs import fit
from torchgeo_discomkd.errors import ModalityError
from torchgeo_discomkd.losses import MLKD, OfficialMLKD
from torchgeo_discomkd.models import load_classifier
from torchgeo_discomkd.tasks import Distillation

from .distillation import CHANNELS, at_epoch, batch, tiny, write_teacher

#: Losses are logged, which needs a trainer; some tests take a step without one.
pytestmark = pytest.mark.filterwarnings('ignore:You are trying to `self.log')


class Doubled(Distillation):
    """A student whose strong view is twice the weak one."""

    def strong_view(self, images: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {m: 2 * x for m, x in images.items()}


@pytest.mark.parametrize('standardize', [False, True])
def test_training_loss_of_two_views(standardize: bool, tmp_path: Path) -> None:
    path = write_teacher(tmp_path / 'teacher.safetensors', CHANNELS, ('a', 'b', 'c'))
    torch.manual_seed(0)
    task = Doubled(
        path,
        MLKD.preset('official', standardize, class_weight=0.5, batch_weight=0.25),
        *({'sar': 2}, 3, 'test_resnet'),
    )
    labels = torch.arange(6) % 3
    sample = batch() | {'label': labels}
    weak = {m: sample[f'image_{m}'] for m in CHANNELS}
    strong = {m: 2 * x for m, x in weak.items()}
    teacher = load_classifier(path)
    logits = [
        f(x) for x in (weak, strong) for f in (lambda x: task.model(x['sar']), teacher)
    ]
    temperature, weight = (2.0, 9.0) if standardize else (4.0, 0.9)
    of_views = OfficialMLKD(
        temperature=temperature,
        class_weight=0.5,
        batch_weight=0.25,
        standardize=standardize,
    )
    weak_s, weak_t, strong_s, strong_t = logits
    entropy = cross_entropy(logits[0], labels) + cross_entropy(logits[2], labels)
    expected = 0.1 * entropy + weight * of_views(
        weak_s, weak_t, labels, 0, strong=(strong_s, strong_t)
    )
    loss = task.training_step(sample, 0)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(p.grad is not None for p in task.model.parameters())


def test_strong_view(tmp_path: Path) -> None:
    path = write_teacher(tmp_path / 'teacher.safetensors', CHANNELS)
    task = tiny(path, loss=OfficialMLKD())
    task.seed = 5
    # the student's own statistics count, and the teacher's for what it sees alone
    task.model.normalizations['sar'].fit((3, -4), (10, 20), (0, 0), (9, 9))
    task.teacher.classifier.normalizations['ms'].fit(*4 * ([2.0] * 13,), 'percentile')
    sample = batch(500)
    images = {m: sample[f'image_{m}'] for m in CHANNELS}
    views = at_epoch(task, 2, tmp_path).strong_view(images)
    assert list(views) == list(CHANNELS)
    holes = {m: x.isnan() for m, x in views.items()}
    assert torch.equal(holes['ms'][:, :1], holes['sar'][:, :1])
    assert 0.05 < holes['sar'].float().mean() < 0.15
    # a zero of the image is shifted by c (1 - contrast) + deviation * brightness
    shift = at_epoch(task, 3, tmp_path).strong_view(
        {m: torch.zeros_like(x) for m, x in images.items()}
    )['sar']
    most = torch.tensor([0.5 * 3 + 0.5 * 10, 0.5 * 4 + 0.5 * 20])
    found = shift.nan_to_num().abs().amax(dim=(0, 2, 3))
    assert (found <= most).all()
    assert (found > 0.8 * most).all()

    other = tiny(path, loss=OfficialMLKD())
    other.seed = 5
    other.model.load_state_dict(task.model.state_dict())
    other.teacher.load_state_dict(task.teacher.state_dict())
    again = at_epoch(other, 2, tmp_path).strong_view(images)
    for m in CHANNELS:
        torch.testing.assert_close(again[m], views[m], rtol=0, atol=0, equal_nan=True)
    further = other.strong_view(images)['sar'].isnan()
    assert not torch.equal(further, holes['sar'])
    assert not torch.equal(further, shift.isnan())


def test_another_training_draws_the_same_views(tmp_path: Path) -> None:
    class Watched(Distillation):
        """A student that keeps its strong views."""

        def strong_view(self, images: Mapping[str, Tensor]) -> dict[str, Tensor]:
            views = super().strong_view(images)
            self.seen = [*getattr(self, 'seen', []), views['sar']]
            return views

    path = write_teacher(tmp_path / 'teacher.safetensors', {'ms': 2}, ('0', '1'))
    task = Watched(path, OfficialMLKD(), {'sar': 2}, 2, 'test_resnet')
    # three steps, all in the first epoch
    fit(None, task, fast_dev_run=True)
    fit(None, task, fast_dev_run=2)
    first, again, second = task.seen
    torch.testing.assert_close(again, first, rtol=0, atol=0, equal_nan=True)
    assert not torch.equal(second.isnan(), first.isnan())


def test_strong_view_without_a_modality(tmp_path: Path) -> None:
    class Forgetful(Distillation):
        """A student whose strong view lacks what the teacher needs."""

        def strong_view(self, images: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {'sar': images['sar']}

    path = write_teacher(tmp_path / 'teacher.safetensors')
    task = Forgetful(path, OfficialMLKD(), {'sar': 2}, 2, 'test_resnet')
    with pytest.raises(ModalityError, match=r"without \['ms'\]"):
        task.training_step(batch(), 0)

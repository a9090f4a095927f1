# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import os
import signal
import socket
import sys
from importlib import import_module
from pathlib import Path

import pytest

from torchgeo_discomkd.errors import ClusterError, LabelError, SettingError
from torchgeo_discomkd.performance import ray_workers
from torchgeo_discomkd.performance.ray_workers import (
    RayWorkers,
    Share,
    Surroundings,
    share,
)

from .ray_tasks import killed_once, refuse, square, threads_and_folder


@pytest.mark.parametrize(
    ('nodes', 'jobs', 'gpu', 'expected'),
    [
        ([{'CPU': 8}], None, False, Share(1, 8, 0)),
        ([{'CPU': 8}], 3, True, Share(3, 2, 0)),
        # a head without cores takes no work; the smaller machine counts
        ([{}, {'CPU': 16}, {'CPU': 6}], 5, False, Share(5, 2, 0)),
        ([{'CPU': 16, 'GPU': 4}, {'CPU': 64}], None, True, Share(4, 4, 1)),
        ([{'CPU': 16, 'GPU': 4}], 12, True, Share(12, 1, 0.3333)),
        ([{'CPU': 16, 'GPU': 4}], 2, True, Share(2, 8, 1)),
        # two thirds of a GPU each would leave a third of both without work
        ([{'CPU': 4, 'GPU': 1}] * 2, 3, True, Share(3, 2, 0.5)),
        ([{'CPU': 16, 'GPU': 4}], 2, False, Share(2, 8, 0)),
        ([{'CPU': 2}, {'CPU': 64}], 33, False, Share(33, 1, 0)),
        # two on the machine with one GPU would not find one
        ([{'CPU': 8, 'GPU': 1}, {'CPU': 8, 'GPU': 3}], 4, True, Share(4, 2, 1)),
        ([{'CPU': 2, 'GPU': 4}, {'CPU': 8, 'GPU': 1}], None, True, Share(3, 1, 1)),
    ],
)
def test_share(
    nodes: list[dict[str, float]], jobs: int | None, gpu: bool, expected: Share
) -> None:
    found = share(nodes, jobs, gpu)
    assert found == expected
    # Ray finds a place for all
    units = [
        min(
            node.get('CPU', 0) // found.cpus,
            node.get('GPU', 0) // found.gpus if found.gpus else float('inf'),
        )
        for node in nodes
    ]
    assert sum(units) >= found.jobs


def test_share_of_too_little() -> None:
    with pytest.raises(SettingError, match=r'jobs=3: .* give 2 or fewer'):
        share([{'CPU': 2}], 3, gpu=False)
    # all GPUs but one are where there is a single core
    unequal = [{'CPU': 1, 'GPU': 4}, {'CPU': 16, 'GPU': 1}]
    with pytest.raises(SettingError, match=r'jobs=5: .* more GPUs than cores.*give 2'):
        share(unequal, 5, gpu=True)
    assert share(unequal, 2, gpu=True) == Share(2, 1, 1)
    with pytest.raises(ClusterError, match='no free cores'):
        share([{'CPU': 0}], 1, gpu=False)


def test_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir('/')
    (tmp_path / 'here').touch()
    Surroundings(str(tmp_path), ('here',)).enter()
    assert Path.cwd() == tmp_path
    host = socket.gethostname()
    with pytest.raises(ClusterError, match=f'gone is not on {host}: .* same paths'):
        Surroundings(str(tmp_path), ('gone',)).enter()
    with pytest.raises(ClusterError, match=r'0\.0\.1 here: install the same version'):
        Surroundings(str(tmp_path), (), '0.0.1').enter()


def test_mistakes(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingError, match='jobs=0: give 1 or more'):
        RayWorkers(None, 0, report=print)
    with pytest.raises(SettingError, match=r'address=ray://head:10001: run this'):
        RayWorkers('ray://head:10001', 1, report=print)
    monkeypatch.setitem(sys.modules, 'ray', None)
    missing = r"pip install 'torchgeo_discomkd\[ray\]'"
    with pytest.raises(ClusterError, match=missing), RayWorkers(None, 1, report=print):
        pass


def listening() -> set[str]:
    """Return the addresses at which this machine listens, as hexadecimal numbers."""
    lines = [
        line.split()
        for name in ('tcp', 'tcp6')
        for line in Path('/proc/net', name).read_text().splitlines()[1:]
    ]
    return {line[1] for line in lines if line[3] == '0A'}


def waits(line: str) -> None:
    raise InterruptedError(line)


def test_workers(
    tmp_path: Path, ray: None, handlers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, lines = listening(), list[str]()
    names = (*ray_workers.QUIET, *ray_workers.LOCAL, 'RAY_AUTH_TOKEN')
    variables = {name: os.environ.get(name) for name in names}
    workers = RayWorkers(None, 2, report=lines.append)
    with workers:
        opened = {address.partition(':')[0] for address in listening() - before}
        # 127.0.0.1, also as an address of version 6
        assert opened <= {'0100007F', '0000000000000000FFFF00000100007F'}
        assert opened
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        workers.start('a', 'task a', square, 3)
        workers.start('b', 'task b', killed_once, tmp_path / 'killed', square, 4)
        assert workers.free == 0
        found = sorted(workers.next() for _ in range(2))
        host = socket.gethostname()
        assert found == [('a', 9, host), ('b', 16, host)]
        assert lines == [f'{host}: the worker of task b died, which is tried again']
        workers.start('c', 'task c', threads_and_folder)
        assert workers.next()[1] == ('1', str(Path.cwd()))
        workers.start('d', 'task d', refuse)
        with pytest.raises(LabelError, match='no such label'):
            workers.next()
        module = import_module('ray')
        with pytest.raises(ClusterError, match='connected to Ray already'):
            RayWorkers(None, 1, report=print).__enter__()
        assert module.is_initialized()
        # what others hold, or what no machine has
        workers._idle.clear()
        workers._actor = module.remote(ray_workers._Worker).options(num_cpus=1000)
        monkeypatch.setattr(ray_workers, 'PATIENCE', 0.1)
        monkeypatch.setattr(ray_workers, 'LOOKS', 2)
        monkeypatch.setattr(workers, '_report', waits)
        workers.start('e', 'task e', square, 3)
        with pytest.raises(InterruptedError, match=r'^no worker has started for 0\.2 '):
            workers.next()
    assert listening() - before == set()
    assert {n: os.environ.get(n) for n in names} == variables

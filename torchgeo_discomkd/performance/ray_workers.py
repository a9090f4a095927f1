# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Processes on this machine or on others that Ray starts, and what they run.

The local way never imports this module, and Ray is an extra.
"""

import logging
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator, Hashable, Iterable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, Self

from .. import __version__
from ..errors import ClusterError, SettingError, UserError

#: Settings of a Ray that is started here: it listens on the loopback interface alone,
#: asks for a token that only this process and its workers know, and tells nobody.
LOCAL = {
    'RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER': '0',
    'RAY_AUTH_MODE': 'token',
    'RAY_USAGE_STATS_ENABLED': '0',
}

#: Settings of every Ray: no copy of the working folder by uv, no lines of its own.
QUIET = {'RAY_ENABLE_UV_RUN_RUNTIME_ENV': '0', 'RAY_DEDUP_LOGS_SKIP_REGEX': '.'}

#: Bytes of memory for results that wait: they are small.
STORE_BYTES = 256 * 2**20

#: Seconds between two looks at whether the cluster is there, and for it to answer.
PATIENCE = 5

#: Looks after which it is said that no worker has started.
LOOKS = 12

#: The token of every Ray that is started here: Ray keeps the first one as long as this
#: process lives.
_TOKEN = secrets.token_hex(32)


class Share(NamedTuple):
    """What each worker gets.

    Attributes:
        jobs: Number of workers.
        cpus: Cores of each.
        gpus: GPUs of each, possibly a fraction.
    """

    jobs: int
    cpus: int
    gpus: float


class Lost(NamedTuple):
    """Stands for the result of a task whose workers have died.

    Attributes:
        reason: What is known about it.
    """

    reason: str


@dataclass(frozen=True)
class Surroundings:
    """What a worker must find as the process finds it that started it.

    Attributes:
        folder: The working folder.
        paths: Files and folders.
        version: Version of this package.

    Example:
        >>> Surroundings('/', ('/no/such/file',)).enter()
        Traceback (most recent call last):
        torchgeo_discomkd.errors.ClusterError: /no/such/file is not on ...
    """

    folder: str
    paths: tuple[str, ...] = ()
    version: str = __version__

    def enter(self) -> None:
        """Make the working folder that of this process.

        Raises:
            ClusterError: If something is missing on this machine.
        """
        host = socket.gethostname()
        if self.version != __version__:
            raise ClusterError(
                f'torchgeo_discomkd {__version__} is installed on {host}, but '
                f'{self.version} here: install the same version on all machines.'
            )
        for path in (self.folder, *self.paths):
            if not Path(path).exists():
                raise ClusterError(
                    f'{path} is not on {host}: all machines of the cluster must see '
                    'data, classifiers and results under the same paths, for example '
                    'in a shared file system.'
                )
            if path == self.folder:
                # what follows may be relative to it
                os.chdir(path)


def check_ray(address: str | None, jobs: int | None) -> None:
    """Check what can be checked before anything is started.

    Args:
        address: As for :class:`RayWorkers`.
        jobs: As for :class:`RayWorkers`.

    Raises:
        ClusterError: If Ray is not installed.
        SettingError: If *jobs* is below 1 or *address* is that of a Ray Client.
    """
    if jobs is not None and jobs < 1:
        raise SettingError(f'jobs={jobs}: give 1 or more.')
    if '://' in (address or ''):
        raise SettingError(
            f'address={address}: run this command on a machine of the cluster and '
            "give '<host>:<port>', as for 'ray start --address', or 'auto'."
        )
    if find_spec('ray') is None:
        raise ClusterError(
            "engine=ray: Ray is not installed: pip install 'torchgeo_discomkd[ray]'."
        )


def share(nodes: Sequence[Mapping[str, float]], jobs: int | None, gpu: bool) -> Share:
    """Divide the machines of a cluster among workers.

    Args:
        nodes: Resources of each machine: 'CPU' and 'GPU'.
        jobs: Number of workers. Default: one for each GPU that has a core, or for each
            machine if there is no GPU.
        gpu: Whether they use GPUs, if there are some.

    Returns:
        What each of them gets.

    Raises:
        ClusterError: If no machine has a core for a worker.
        SettingError: If there are fewer cores than workers, or the cores of the
            machines with GPUs are not where the GPUs are.

    Example:
        >>> share([{'CPU': 16, 'GPU': 1}, {'CPU': 16, 'GPU': 1}], 8, gpu=True)
        Share(jobs=8, cpus=4, gpus=0.25)
        >>> share([{'CPU': 16}, {'CPU': 8}], None, gpu=True)
        Share(jobs=2, cpus=8, gpus=0.0)
    """
    places = [node for node in nodes if node.get('CPU', 0) >= 1]
    with_gpu = [node for node in places if gpu and node.get('GPU', 0) >= 1]
    places = with_gpu or places
    if not places:
        raise ClusterError('The Ray cluster has no free cores: give it some machines.')
    cores = sum(int(node['CPU']) for node in places)
    one_each = sum(int(min(node['CPU'], node['GPU'])) for node in with_gpu)
    jobs = jobs or one_each or len(places)
    if jobs > cores:
        raise SettingError(
            f'jobs={jobs}: each needs a core, and the Ray cluster has {cores}: give '
            f'{cores} or fewer.'
        )
    if (found := _divide(places, jobs, bool(with_gpu))) is None:
        fewer = next(n for n in range(jobs, 0, -1) if _divide(places, n, gpu=True))
        raise SettingError(
            f'jobs={jobs}: each needs a core of the machine that has its GPU, and some '
            f'of the Ray cluster have more GPUs than cores for them: give {fewer}.'
        )
    return found


def _divide(
    places: Sequence[Mapping[str, float]], jobs: int, gpu: bool
) -> Share | None:
    """Return what each worker gets; None if Ray would not find a place for all."""
    # several on one GPU
    together = -(-jobs // sum(int(node['GPU']) for node in places)) if gpu else 0
    per_node = -(-jobs // len(places))
    most = max(1, int(min(node['CPU'] for node in places)) // per_node)
    for cpus in range(most, 0, -1):
        fitting = sum(
            min(int(node['CPU']) // cpus, int(node['GPU']) * together if gpu else jobs)
            for node in places
        )
        if fitting >= jobs:
            # Ray counts in ten thousandths; they fit only if rounded down
            return Share(jobs, cpus, 10_000 // together / 10_000 if gpu else 0.0)
    return None


class RayWorkers:
    """Workers of Ray: each runs one task after the other, all of them side by side.

    If a worker dies, its task is run again by a new one. A worker is asked for when
    there is a task for it; all end with the block.
    """

    def __init__(
        self,
        address: str | None,
        jobs: int | None,
        *,
        gpu: bool = False,
        paths: Iterable[str | Path] = (),
        tries: int = 3,
        report: Callable[[str], object],
    ) -> None:
        """Initialize a new RayWorkers instance.

        Args:
            address: Address of a running cluster, <host>:<port>, or 'auto' for the one
                on this machine. Default: a Ray that runs on this machine until the end
                of the block, and that no other machine can reach.
            jobs: As for :func:`share`.
            gpu: As for :func:`share`.
            paths: Files and folders that the workers must see.
            tries: How often a task is run if its worker dies each time.
            report: Called with a line about each worker that has died.

        Raises:
            ClusterError: As for :func:`check_ray`.
            SettingError: As for :func:`check_ray`.
        """
        check_ray(address, jobs)
        self._address, self._jobs, self._gpu = address, jobs, gpu
        self._tries, self._report = tries, report
        self._inside = Surroundings(str(Path.cwd()), tuple(map(str, paths)))
        self._idle: list[_Seat] = []
        self._busy: dict[Any, tuple[_Seat, _Task]] = {}

    def __enter__(self) -> Self:
        """Connect to the cluster, or start one.

        Raises:
            ClusterError: If that is not possible.
            SettingError: If the cluster cannot run that many workers.
        """
        with ExitStack() as stack:
            self._ray = stack.enter_context(_connected(self._address))
            nodes = [n['Resources'] for n in self._ray.nodes() if n['Alive']]
            self.share = share(nodes, self._jobs, self._gpu)
            self._connection = stack.pop_all()
        self._gcs = self._ray.get_runtime_context().gcs_address
        self._actor = self._ray.remote(_Worker).options(
            num_cpus=self.share.cpus, num_gpus=self.share.gpus
        )
        return self

    def __exit__(self, *args: object) -> None:
        """End all workers, and the Ray that was started."""
        with _own_signals():
            self._connection.close()

    @property
    def free(self) -> int:
        """Number of tasks that can be started now."""
        return self.share.jobs - len(self._busy)

    def start(
        self, key: Hashable, name: str, function: Callable[..., Any], *args: Any
    ) -> None:
        """Start a task.

        Args:
            key: What :meth:`next` calls it.
            name: What a report calls it.
            function: Function that workers can import.
            *args: Its arguments, which can be pickled.
        """
        self._start(_Task(key, name, function, args, self._tries))

    def _start(self, task: '_Task') -> None:
        seat = self._idle.pop() if self._idle else self._seat()
        run = seat.actor.run.remote
        self._busy[run(self._inside, task.function, task.args)] = seat, task

    def _seat(self) -> '_Seat':
        actor = self._actor.remote(self.share.cpus)
        return _Seat(actor, actor.host.remote())

    def next(self) -> tuple[Any, Any, str]:
        """Wait for the end of a task.

        Returns:
            Its key, its result or a :class:`Lost`, and the name of the machine.

        Raises:
            ClusterError: If the cluster has gone away or a machine lacks something.
            UserError: Whatever the task has raised.
        """
        while True:
            ready: list[Any] = []
            for looks in count(1):
                ready, _ = self._ray.wait(list(self._busy), timeout=PATIENCE)
                if ready:
                    break
                self._check_cluster()
                if looks == LOOKS:
                    self._report_waiting()
            seat, task = self._busy.pop(ready[0])
            try:
                result = self._ray.get(ready[0])
            except self._ray.exceptions.RayTaskError as error:
                cause = error.cause
                raise cause if isinstance(cause, UserError) else error from None
            except self._ray.exceptions.RayError as error:
                self._check_cluster()
                if (lost := self._again(seat, task, error)) is not None:
                    return task.key, lost, self._host(seat)
                continue
            self._idle.append(seat)
            return task.key, result, self._host(seat)

    def renew(self) -> None:
        """End the worker that has just run a task: the next one gets a new process."""
        self._ray.kill(self._idle.pop().actor)

    def _again(self, seat: '_Seat', task: '_Task', error: Exception) -> Lost | None:
        """Run a task again whose worker has died; return why not."""
        text = str(error)
        if 'ModuleNotFoundError' in text or 'failed to import' in text:
            raise ClusterError(
                'A worker of the Ray cluster cannot import torchgeo_discomkd: install '
                f'version {__version__} there, in the environment that runs Ray.'
            ) from error
        left = task.tries - 1
        kind = 'ran out of memory' if 'OutOfMemory' in text else 'died'
        self._report(
            f'{self._host(seat)}: the worker of {task.name} {kind}'
            f'{", which is tried again" if left else ""}'
        )
        if not left:
            return Lost(f'its worker {kind} {self._tries} times')
        self._start(task._replace(tries=left))
        return None

    def _host(self, seat: '_Seat') -> str:
        try:
            # an answer that a worker gave before it died may still be on its way
            return self._ray.get(seat.host, timeout=2)
        except (self._ray.exceptions.RayError, TimeoutError):
            return 'unknown machine'

    def _report_waiting(self) -> None:
        """Say so if others use what the workers need."""
        hosts = [seat.host for seat, _ in self._busy.values()]
        if not self._ray.wait(hosts, timeout=0)[0]:
            _, cpus, gpus = self.share
            self._report(
                f'no worker has started for {LOOKS * PATIENCE} seconds: each needs '
                f'{cpus} cores and {gpus:g} GPUs, which others on the Ray cluster seem '
                'to use (see "ray status"). Waiting for them.'
            )

    def _check_cluster(self) -> None:
        """Look whether the cluster is there, before Ray ends this process without it.

        Raises:
            ClusterError: If it is not.
        """
        host, _, port = self._gcs.rpartition(':')
        try:
            socket.create_connection((host.strip('[]'), int(port)), PATIENCE).close()
        except OSError as error:
            raise ClusterError(
                f'The Ray cluster at {self._gcs} has gone away ({error}). What is '
                'finished is kept: run the same command again, classify with --resume.'
            ) from error


class _Task(NamedTuple):
    key: Hashable
    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    tries: int


class _Seat(NamedTuple):
    """A worker, and the name of its machine, as references of Ray."""

    actor: Any
    host: Any


class _Worker:  # pragma: no cover (another process)
    """What runs in the process of a worker."""

    def __init__(self, threads: int) -> None:
        # a user's own limit counts; Ray passes it to local workers
        self._threads = min(threads, int(os.environ.get('OMP_NUM_THREADS', threads)))
        os.environ['OMP_NUM_THREADS'] = str(self._threads)

    def host(self) -> str:
        return socket.gethostname()

    def run(
        self, inside: Surroundings, function: Callable[..., Any], args: tuple[Any, ...]
    ) -> Any:
        inside.enter()
        if 'torch' in sys.modules:
            sys.modules['torch'].set_num_threads(self._threads)
        return function(*args)


@contextmanager
def _connected(address: str | None) -> Generator[Any]:
    """Yield the module of Ray, connected to a cluster inside the block."""
    variables = QUIET
    if address is None:
        token = os.environ.get('RAY_AUTH_TOKEN', _TOKEN)
        variables = QUIET | LOCAL | {'RAY_AUTH_TOKEN': token}
    with _environment(variables):
        # not before its variables are set
        ray = import_module('ray')
        if ray.is_initialized():
            raise ClusterError(
                'engine=ray: this process is connected to Ray already: call '
                'ray.shutdown() before, or start the command in a process of its own.'
            )
        try:
            _init(ray, address)
            yield ray
        finally:
            ray.shutdown()


def _init(ray: Any, address: str | None) -> None:
    """Connect Ray to a cluster."""
    settings: dict[str, Any] = {'address': address}
    if address is None:
        settings = {
            'address': 'local',
            'num_cpus': len(os.sched_getaffinity(0)),
            'include_dashboard': False,
            'object_store_memory': STORE_BYTES,
            '_node_ip_address': '127.0.0.1',
        }
    try:
        with _own_signals():
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **settings)
    # of all kinds: no cluster there, another version, a machine that is too busy
    except Exception as error:
        where = 'on this machine' if address is None else f'at {address}'
        text = ' '.join(str(error).split())
        raise ClusterError(
            f'Ray {ray.__version__} cannot be used {where}: {text}. Check the address, '
            'that the cluster runs, that Ray and Python have the same versions there, '
            'and that RAY_AUTH_MODE and the token are those of the cluster.'
            if address
            else f'Ray {ray.__version__} does not start {where}: {text} Try again when '
            'less is running, or omit --engine ray.'
        ) from error


@contextmanager
def _environment(variables: Mapping[str, str]) -> Generator[None]:
    """Set variables of this process inside the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _own_signals() -> Generator[None]:
    """Keep the handlers of signals, which Ray replaces by its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

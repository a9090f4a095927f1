# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Classify archives in workers of Ray: tiles in chunks, scenes one by one."""

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..errors import ClusterError
from ..export.onnx_file import Precision
from ..performance.ray_workers import Lost, RayWorkers
from .predictor import Predictor, load_predictor

#: Classifies some images: from a classifier and images to a result for each.
type Work[T, R] = Callable[[Predictor, Sequence[T]], list[R]]

#: Batches in a chunk of tiles at most: a few seconds of work.
MOST_BATCHES = 4

#: Chunks for each worker whose results may wait for an earlier one.
AHEAD = 16

#: How often a chunk is run whose worker dies, before its halves are.
TRIES = 2


@dataclass(frozen=True)
class RayEngine:
    """Workers of Ray that classify.

    Each reads the classifier once. Tables, maps and statuses are those of a run
    without Ray; an image that kills its workers is unreadable.

    Attributes:
        model: Model file, which all machines see under this path.
        modality: As for :func:`.load_predictor`.
        device: As for :func:`.load_predictor`.
        precision: As for :func:`.load_predictor`.
        address: Address of a running cluster, <host>:<port> or 'auto'; None for a Ray
            on this machine that ends with the run.
        jobs: Number of workers; None for one on each machine, or for each GPU.

    Example:
        >>> engine = RayEngine('sar.safetensors', address='head:6379', jobs=32)
        >>> engine.device, engine.jobs  # classify_tiles(..., engine=engine)
        ('auto', 32)
    """

    model: str | Path
    modality: str | None = None
    device: str = 'auto'
    precision: Precision = 'auto'
    address: str | None = None
    jobs: int | None = None

    def classify[T, R](
        self,
        work: Work[T, R],
        predictor: Predictor,
        items: Sequence[T],
        batch_size: int,
        named: Callable[[T], str],
        missing: Callable[[str, str], R],
        paths: Sequence[str | Path] = (),
        once: bool = False,
    ) -> Iterator[list[R]]:
        """Classify images, a few at a time.

        Args:
            work: Classifies some of them; workers must be able to import it.
            predictor: The classifier of this process.
            items: The images.
            batch_size: Size of a chunk, or a quarter of it if there are enough images:
                classified together, they have the results of a run without Ray.
            named: Returns the name of an image.
            missing: Makes the result of an image that kills its workers, from its name
                and a status.
            paths: Files and folders that the workers must see, apart from the model,
                if they exist here.
            once: Whether only the first warning counts, because all say the same.

        Yields:
            Results, in the order of *items*.

        Raises:
            ClusterError: If the cluster cannot be used or goes away.
            UserError: Whatever *work* has raised.

        Warns:
            UserWarning: As *work* does.
        """
        if not items:
            return
        workers = RayWorkers(
            self.address,
            self.jobs,
            gpu=self.device != 'cpu',
            paths=[self.model, *(path for path in paths if Path(path).exists())],
            tries=TRIES,
            report=_tell,
        )
        with workers:
            jobs = workers.share.jobs
            batches = len(items) // (4 * jobs * batch_size)
            size = batch_size * max(1, min(batches, MOST_BATCHES))
            # from its first image to the end of a chunk; results, by the first image
            ends = {i: min(i + size, len(items)) for i in range(0, len(items), size)}
            waiting, done = list(ends), dict[int, list[R]]()
            following, warned = 0, False
            while following < len(items):
                limit = following + AHEAD * jobs * size
                while waiting and workers.free and waiting[0] < limit:
                    first = waiting.pop(0)
                    chunk = list(items[first : ends[first]])
                    name = named(chunk[0])
                    if len(chunk) > 1:
                        name += f' to {named(chunk[-1])}'
                    args = self, predictor.description, work, chunk
                    workers.start(first, name, _run, *args)
                first, result, host = workers.next()
                if not isinstance(result, Lost):
                    done[first], texts = result
                    for text in texts[: 0 if once and warned else None]:
                        warnings.warn(text, stacklevel=2)
                    warned = warned or bool(texts)
                elif ends[first] - first > 1:
                    # one of them is deadly: the halves will tell which
                    middle = (first + ends[first]) // 2
                    ends[middle], ends[first] = ends[first], middle
                    waiting[:0] = [first, middle]
                else:
                    reason = f'unreadable: {result.reason} ({host})'
                    done[first] = [missing(named(items[first]), reason)]
                while following in done:
                    yield done.pop(following)
                    following = ends[following]


@cache
def _load(engine: RayEngine) -> Predictor:  # pragma: no cover (another process)
    """Read the classifier, once in each worker."""
    return load_predictor(
        engine.model, engine.modality, engine.device, engine.precision
    )


def _run[T, R](
    engine: RayEngine, description: str, work: Work[T, R], items: Sequence[T]
) -> tuple[list[R], list[str]]:  # pragma: no cover (another process)
    """Return results and the texts of warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always', UserWarning)
        predictor = _load(engine)
        if predictor.description != description:
            raise ClusterError(
                f'{engine.model} is another file on this machine '
                f'({predictor.description} instead of {description}): give all '
                'machines the same.'
            )
        results = work(predictor, items)
    return results, [
        str(w.message) for w in caught if issubclass(w.category, UserWarning)
    ]


def _tell(line: str) -> None:
    from tqdm import tqdm

    # keeps the progress bar intact
    tqdm.write(line, file=sys.stderr)

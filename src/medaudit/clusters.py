"""The workers of a Dask or Ray cluster in place of this machine's processes.

The engines place, repeat and carry tasks; here is only what both must be held to: few tasks wait in line, every worker
computes with one thread in the command's folder under the command's versions, and whatever a cluster does wrong ends in
one line. joblib's own backends for the two are not used: its Dask backend waits for ever for a task whose workers
died, and Ray's cannot stream results (joblib 1.6, Ray 2.60).
"""

from __future__ import annotations

import importlib.metadata
import logging
import math
import os
import platform
import re
import socket
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from contextlib import ExitStack, chdir, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from joblib import cpu_count, parallel_config

from medaudit.errors import DataError, UsageError

Done = TypeVar("Done")

ANSWER_S = 15.0
"""How long a scheduler may take to answer, and a cluster to have its first worker."""
RESTART_S = 60.0
"""How long a cluster may be without a worker later: an engine starts killed ones anew."""
_SHORT_S, _LARGEST = 0.2, 64
_SILENT = logging.CRITICAL + 1
_FORMS = "dask://HOST:PORT, dask://local, ray://HOST:PORT, ray://auto or ray://local"


@dataclass(frozen=True)
class Cluster:
    """What is asked of Dask and Ray alike."""

    url: str
    submit: Callable[..., Future[Any]]
    """Let a worker call :func:`_at_worker` with these arguments."""
    share: Callable[[Any], Any]
    """Return what stands for ``run`` in many calls of ``submit``."""
    workers: Callable[[], int]
    """How many tasks it can do at once, now."""
    is_lost: Callable[[BaseException], bool]
    """Whether a task ended so because its workers died, each time that it was tried."""


@dataclass(frozen=True)
class _Home:
    """Where the command runs, and under what: a worker must find the same."""

    folder: str
    mark: str
    """The name of a file that lies only there."""
    versions: tuple[tuple[str, str], ...]


_CLUSTER: ContextVar[tuple[Cluster, _Home] | None] = ContextVar("cluster", default=None)


def current() -> Cluster | None:
    """Return the cluster that :func:`engine` opened around this call, None where there is none."""
    found = _CLUSTER.get()
    return found[0] if found else None


@contextmanager
def engine(url: str | None) -> Iterator[None]:
    """Hand the tasks of :func:`medaudit.workers.in_processes` to a cluster while the context lasts; None: to nobody.

    ``url``: ``dask://HOST:PORT`` of a scheduler, ``ray://HOST:PORT`` of a head node (6379 as a rule; this machine must
    be a node of the cluster) or ``ray://auto`` for the cluster that this machine is a node of; ``dask://local`` and
    ``ray://local`` start workers here, one a core, ``dask://local:3`` three of them. Workers need the working folder
    under the same path, and the same versions of Python, medaudit and what it depends on. Results are those of this
    machine's processes. A worker's task does not use a cluster itself.

    Raises UsageError for another address or where the engine is not installed, DataError where no worker answers within
    15 s or a worker lacks the folder or a version.
    """
    if url is None:
        yield
        return
    scheme, host, port = _parts(url)
    with ExitStack() as stack:
        cluster = stack.enter_context((_dask if scheme == "dask" else _ray)(url, host, port))
        home = _Home(os.getcwd(), stack.enter_context(_mark()), tuple(_versions().items()))
        _welcome(cluster, home)
        token = _CLUSTER.set((cluster, home))
        try:
            yield
        finally:
            _CLUSTER.reset(token)


def on_cluster(
    run: Callable[..., Done], tasks: Iterable[Any], jobs: int, *, ordered: bool, at_once: int | None
) -> Iterator[Done]:
    """Yield what ``run`` returns of each task, done by the workers of :func:`current`.

    Twice as many batches as there are workers are under way, ``jobs`` of them where that is not negative: tasks are
    drawn and results held no faster than they are used. ``at_once``: tasks of a batch; None begins with one and doubles
    while a batch takes less than 0.2 s, for the way to a worker takes some 10 ms. Raises what ``run`` raises, and
    DataError where workers or the cluster are lost.
    """
    found = _CLUSTER.get()
    assert found is not None
    cluster, home = found
    given, stream = cluster.share(run), iter(tasks)
    waiting: list[Future[Any]] = []
    most, asked = max(1, jobs), -math.inf
    size = at_once or 1
    try:
        while batch := tuple(islice(stream, size)):
            if jobs < 0 and time.monotonic() > asked + 1:  # workers come and go; to ask for each task would take longer
                most, asked = 2 * _workers(cluster), time.monotonic()
            waiting.append(cluster.submit(given, home, batch))
            while len(waiting) >= most:
                results, took = _next(cluster, waiting, ordered)
                if at_once is None and took < _SHORT_S and len(results) == size < _LARGEST:
                    size *= 2
                yield from results
        while waiting:
            yield from _next(cluster, waiting, ordered)[0]
    finally:
        for future in waiting:
            future.cancel()


def _next(cluster: Cluster, waiting: list[Future[Any]], ordered: bool) -> tuple[list[Any], float]:
    """Return results and seconds of the batch that is finished next, the first of those ``waiting`` if ``ordered``."""
    while not (done := wait(waiting[:1] if ordered else waiting, timeout=2, return_when=FIRST_COMPLETED).done):
        _workers(cluster)
    future = next(one for one in waiting if one in done)
    waiting.remove(future)
    try:
        return future.result()
    except CancelledError:
        raise _gone(cluster) from None
    except Exception as error:
        if cluster.is_lost(error):
            raise DataError(
                f"--engine {cluster.url}: the workers that tried one task were killed, most often because memory ran "
                "out; what was finished is kept: give each worker more memory and run the same command"
            ) from None
        raise _cause(error) from None


def _workers(cluster: Cluster, patience: float | None = None) -> int:
    """Return how many tasks the cluster can do at once; wait for workers, and raise DataError where none comes."""
    patience = RESTART_S if patience is None else patience
    end = time.monotonic() + patience
    while True:
        try:
            if found := cluster.workers():
                return found
        except DataError:
            raise
        except Exception:  # a scheduler that is gone says so in many ways
            raise _gone(cluster) from None
        if time.monotonic() > end:
            raise DataError(
                f"--engine {cluster.url}: the cluster has no worker (waited {patience:.0f} s); what was finished is "
                "kept: start workers and run the same command"
            )
        time.sleep(0.2)


def _gone(cluster: Cluster) -> DataError:
    return DataError(
        f"--engine {cluster.url}: the connection to the cluster was lost; what was finished is kept: when it is back "
        "run the same command"
    )


def _cause(error: Exception) -> Exception:
    """Return what a task raised, out of the engine's wrapping."""
    inner = getattr(error, "cause", None)
    return inner if isinstance(inner, Exception) else error


# At a worker -------------------------------------------------------------------------------------------------------


def _at_worker(run: Callable[[Any], Done], home: _Home, batch: tuple[Any, ...]) -> tuple[list[Done], float]:
    """Return what ``run`` returns of each task, and the seconds; what a task would spread over processes stays here."""
    _settle(home)
    begin = time.monotonic()
    with chdir(home.folder), parallel_config(backend="sequential"):
        results = [run(task) for task in batch]
    return results, time.monotonic() - begin


@lru_cache(maxsize=1)
def _settle(home: _Home) -> None:
    """Make a worker's process one of the command's: same folder, same versions, one thread. Raises DataError."""
    if not Path(home.folder, home.mark).exists():
        raise DataError(
            f"the worker on {platform.node()} does not see the folder {home.folder} of this command; start workers and "
            "command on a file system that they share, under the same path"
        )
    here = _versions()
    for name, wanted in home.versions:
        if here.get(name) != wanted:
            raise DataError(
                f"the worker on {platform.node()} has {name} {here.get(name, 'not installed')}, this command {wanted}; "
                "install the same there: half a study under each is neither"
            )
    # For libraries that are loaded later, and for those that are loaded.
    for library in ("OMP", "MKL", "OPENBLAS", "BLIS", "NUMEXPR", "NUMBA"):
        os.environ[f"{library}_NUM_THREADS"] = "1"
    from threadpoolctl import threadpool_limits

    threadpool_limits(limits=1)


def _versions() -> dict[str, str]:
    """Return the versions of Python, medaudit and what it requires; not which build (2.13.0+cpu) they are."""
    names = [re.split(r"[^\w.-]", line)[0] for line in importlib.metadata.requires("medaudit") or () if ";" not in line]
    found = {"python": platform.python_version()}
    for name in ("medaudit", *names):
        try:
            found[name] = importlib.metadata.version(name).split("+")[0]
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


# From here ---------------------------------------------------------------------------------------------------------


@contextmanager
def _mark() -> Iterator[str]:
    """Yield the name of a file in the working folder by which a worker knows that it sees the same folder."""
    try:
        file = tempfile.NamedTemporaryFile(prefix=".medaudit-", dir=".")  # noqa: SIM115 - what follows has its own errors
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise DataError(
            f"--engine: cannot write into {os.getcwd()} ({why}); start in a folder that workers share"
        ) from None
    with file:
        yield Path(file.name).name


def _welcome(cluster: Cluster, home: _Home) -> None:
    """Wait until a worker is there and let it settle; DataError says what hinders it."""
    _workers(cluster, ANSWER_S)
    try:
        cluster.submit(cluster.share(None), home, ()).result(timeout=RESTART_S)
    except (TimeoutError, CancelledError):
        raise DataError(f"--engine {cluster.url}: no worker answers; are they busy, or behind a firewall?") from None
    except Exception as error:
        cause = _cause(error)
        said = str(cause) if isinstance(cause, DataError) else f"{type(cause).__name__}: {cause}".splitlines()[0]
        cure = "" if isinstance(cause, DataError) else "; is the same medaudit installed where the workers run?"
        raise DataError(f"--engine {cluster.url}: {said}{cure}") from None


def _parts(url: str) -> tuple[str, str, int | None]:
    """Return scheme, host and port; of ``local`` the port is how many workers. Raises UsageError."""
    found = re.fullmatch(
        r"(dask|ray)://(?:(local)(?::([1-9]\d{0,3}))?|(auto)|([^:/@\s]+|\[[0-9a-fA-F:]+\]):(\d+))/?", url
    )
    if found is None or (found[4] and found[1] == "dask") or int(found[6] or 1) not in range(1, 65536):
        raise UsageError(f"--engine {url}: expected {_FORMS}")
    number = found[3] or found[6]
    return found[1], found[2] or found[4] or found[5], int(number) if number else None


def _reach(url: str, host: str, port: int) -> None:
    """Raise DataError where nothing listens: the engines themselves say so late and at length."""
    try:
        socket.create_connection((host.strip("[]"), port), timeout=ANSWER_S).close()
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise DataError(f"--engine {url}: nothing answers at {host}:{port} ({why}); is the cluster running?") from None


def _missing(url: str, name: str) -> UsageError:
    extra = name.lower()
    return UsageError(f"--engine {url}: {name} is not installed here; pip install 'medaudit[{extra}]'")


@contextmanager
def _dask(url: str, host: str, port: int | None) -> Iterator[Cluster]:
    """Yield a Dask cluster. Raises DataError where it cannot be reached, or where a worker runs several threads."""
    try:
        import dask
        from distributed import Client, KilledWorker, LocalCluster
        from distributed.utils import silence_logging_cmgr
    except ImportError:
        raise _missing(url, "Dask") from None
    if host != "local":
        _reach(url, host, port or 0)
    limits = {
        "distributed.comm.timeouts.connect": f"{ANSWER_S}s",
        "distributed.admin.large-graph-warning-threshold": "1 GB",
    }
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(limits))
        stack.enter_context(silence_logging_cmgr(_SILENT))
        address: Any = f"tcp://{host}:{port}"
        if host == "local":
            address = stack.enter_context(
                LocalCluster(
                    n_workers=port or cpu_count(),
                    threads_per_worker=1,
                    dashboard_address="127.0.0.1:0",
                    silence_logs=_SILENT,
                )
            )
        try:
            client = stack.enter_context(Client(address, timeout=ANSWER_S, set_as_default=False))
        except (OSError, ValueError) as error:
            why = str(error).splitlines()[0]
            raise DataError(f"--engine {url}: no Dask scheduler answers at {host}:{port} ({why})") from None

        def workers() -> int:
            threads = client.nthreads()
            if (most := max(threads.values(), default=1)) > 1:
                # Its tasks would share a working folder, torch's random state and its number of threads.
                raise DataError(
                    f"--engine {url}: a worker runs {most} threads, and one task at a time is what medaudit's tasks "
                    "need; start workers with: dask worker --nthreads 1 --nworkers N"
                )
            return len(threads)

        yield Cluster(
            url, partial(client.get_executor(pure=False).submit, _at_worker), lambda value: value, workers,
            lambda error: isinstance(error, KilledWorker),
        )  # fmt: skip


@contextmanager
def _ray(url: str, host: str, port: int | None) -> Iterator[Cluster]:
    """Yield a Ray cluster. Raises DataError where it cannot be reached."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports its use to its makers otherwise
    try:
        import ray
        from ray.exceptions import RayError, RayTaskError
    except ImportError:
        raise _missing(url, "Ray") from None
    if host not in ("local", "auto"):
        _reach(url, host, port or 0)
    where: dict[str, Any] = {"address": host if host in ("local", "auto") else f"{host}:{port}"}
    if host == "local":
        where |= {"num_cpus": port or cpu_count(), "include_dashboard": False}
    try:
        ray.init(**where, log_to_driver=False, logging_level=_SILENT)
    except Exception as error:  # RuntimeError, ConnectionError, ValueError: by what is wrong and by version
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f"--engine {url}: cannot join the Ray cluster: {why}") from None
    # It prints the raylet's troubles on standard output, among our findings, whatever the level; they are in its logs.
    ray._private.worker._worker_logs_enabled = False
    at_worker: Any = ray.remote(_at_worker)
    try:
        yield Cluster(
            url, lambda *given: at_worker.remote(*given).future(), ray.put,
            lambda: int(ray.cluster_resources().get("CPU", 0)),
            lambda error: isinstance(error, RayError) and not isinstance(error, RayTaskError),
        )  # fmt: skip
    finally:
        ray.shutdown()

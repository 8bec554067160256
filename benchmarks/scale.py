"""How cost grows with size: audits of 10^3 to 10^5 cases, a review of 10^3 to 10^5 records; and what that comes to.

    python -m benchmarks.scale
    python -m benchmarks.scale --parts scores harvest --most 10000

Each size is a process of its own, so that its peak memory is its own. Growth is k of cost = fixed + c * size^k, with
its 95 % interval where there are sizes enough. The last column goes on from the largest size by it: extrapolated, not
measured.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from scipy import stats

SIZES = {
    "scores": (1_000, 3_000, 10_000, 30_000, 100_000),
    "masks": (500, 2_000, 8_000),
    "engines": (1_000, 5_000, 20_000),
    "harvest": (1_000, 3_000, 10_000),
    "postgres": (1_000, 3_000, 10_000),
    "citations": (10_000, 30_000, 100_000, 300_000),
}
TARGET = {
    "scores": 1_000_000,
    "masks": 1_000_000,
    "engines": 1_000_000,
    "harvest": 1_000_000,
    "postgres": 1_000_000,
    "citations": 10_000_000,
}
Point = dict[str, float]


# The sizes, each in its own process --------------------------------------------------------------------------------


def seconds(work: Callable[[], Any]) -> float:
    """Return the processor time of ``work``, here and in workers; what else the machine does hardly counts."""
    begin = spent()
    work()
    return spent() - begin


def spent() -> float:
    workers = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return time.process_time() + sum(one.user + one.system for one in workers)


def call(*words: object) -> None:
    from medaudit.cli.main import run

    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        run([str(word) for word in words])


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def largest_worker() -> float:
    """Return the peak resident MiB of the largest process that this one started and that still waits for tasks."""
    found = [0.0]
    for child in psutil.Process().children(recursive=True):
        lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
        found += [int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")]
    return max(found)


def files(run: Path) -> Point:
    kept = {"report.html, kB": "report.html", "measurements.parquet, kB": "measurements.parquet"}
    return {words: (run / name).stat().st_size / 1e3 for words, name in kept.items() if (run / name).exists()}


def scores(n: int, folder: Path) -> Point:
    """A table of scores: 1,000 resamples and permutations (a tenth of the default), and the report."""
    more = ["--simulate", "mama-mia-scores", "--by", "age:40,55", "--within", "source", "--quiet"]
    call("scores", *more, "--size", 1_000, "--resamples", 100, "--out", folder / "warm")  # compiles and imports
    before = peak()
    took = seconds(lambda: call("scores", *more, "--size", n, "--resamples", 1_000, "--out", folder / "run"))
    return {"statistics and report, s": took, "peak memory, MiB": peak(), "of it before, MiB": before} | files(
        folder / "run"
    )


def masks(n: int, folder: Path) -> Point:
    """Masks of 24^3 voxels in two workers: what a case costs beside its measuring, which full_audit times."""
    import nibabel
    import polars as pl

    rng = np.random.default_rng(0)
    grid = np.indices((24, 24, 24))
    for i in range(50):  # the same files again and again: the disk is not what is asked
        for role, shift in (("expert", 0.0), ("automatic", rng.normal(0, 0.7))):
            ball = ((grid - 12 - shift) ** 2).sum(axis=0) <= (5 + i % 3) ** 2
            nibabel.save(nibabel.Nifti1Image(ball.astype(np.uint8), np.eye(4)), folder / f"{role}{i}.nii.gz")
    ids = np.arange(n)
    table = {"case_id": [f"c{i}" for i in ids], "age": rng.integers(25, 80, n), "source": rng.choice(["A", "B"], n)}
    table |= {role: [f"{role}{i % 50}.nii.gz" for i in ids] for role in ("expert", "automatic")}
    pl.DataFrame(table).write_csv(folder / "cases.csv")
    pl.DataFrame(table).head(100).write_csv(folder / "few.csv")
    more = ["--reference", "expert", "--labels", "automatic", "--by", "age:40,55", "--jobs", 2, "--quiet"]
    call("labels", "--cases", folder / "few.csv", *more, "--resamples", 100, "--out", folder / "warm")
    whole = seconds(lambda: call("labels", "--cases", folder / "cases.csv", *more, "--out", folder / "run"))
    again = seconds(lambda: call("labels", "--cases", folder / "cases.csv", *more, "--out", folder / "run"))
    return {
        "measuring, s": whole - again, "statistics and report, s": again,
        "this process, MiB": peak(), "largest worker, MiB": largest_worker(),
    } | files(folder / "run")  # fmt: skip


def engines(n: int, folder: Path) -> Point:
    """Tasks that do nothing, two workers here: what handing one out costs; time on the clock."""
    from medaudit.clusters import engine
    from medaudit.workers import in_processes

    found = {}
    for words, url in (("processes", None), ("Dask", "dask://local:2"), ("Ray", "ray://local:2")):
        with engine(url):
            list(in_processes(abs, range(10), 2))
            begin = time.perf_counter()
            list(in_processes(abs, range(n), -1 if url else 2))
            found[f"{words}, s"] = time.perf_counter() - begin
    return found


def harvest(n: int, folder: Path) -> Point:
    """Records that searches bring, as pages of 200, each with 10 references to others; every tenth is decided on."""
    return _harvest(n, folder / "review.sqlite")


def postgres(n: int, folder: Path) -> Point:
    """The same on PostgreSQL; time on the clock, the server's included."""
    from benchmarks.review import postgres as server

    with server() as fresh:
        if fresh is None:
            return {}
        return _harvest(n, fresh("review"), time.perf_counter)


def _harvest(n: int, where: str | Path, clock: Callable[[], float] = time.process_time) -> Point:
    from sqlalchemy import insert

    from benchmarks.review import planted
    from medaudit.review import people, search
    from medaudit.review import tables as t
    from medaudit.review.database import now
    from medaudit.review.living import duplicates, harvested, prisma, screening
    from medaudit.review.living.providers import Candidate

    opened = planted(where)
    rng = np.random.default_rng(0)
    words = np.array(["chest", "brain", "skin", "liver", *(f"word{rank}" for rank in range(4, 30_000))])
    zipf = 1 / (10 + np.arange(len(words)))  # as in texts: the rarest word of a title is rare
    zipf /= zipf.sum()

    def page(start: int) -> list[Candidate]:
        found = []
        for i in range(start, min(n, start + 200)):
            title = " ".join(rng.choice(words, 11, p=zipf))
            cited = tuple(f"doi:10.9999/{j}" for j in rng.integers(0, n, 10))
            found.append(
                Candidate(
                    "crossref",
                    title,
                    doi=f"10.9999/{i}",
                    year=int(2000 + i % 26),
                    first_author=f"Author {i % 997}",
                    abstract=" ".join(rng.choice(words, 150, p=zipf)),
                    references=cited,
                )
            )
        return found

    with opened.writing() as connection:
        person = people.add(connection, "screener", "reviewer")
        query = connection.execute(insert(t.query).values(name="q", provider="crossref", expression="x", every_days=30))
        values = {"query_id": query.inserted_primary_key[0], "started": now(), "identified": 0, "new": 0, "merged": 0}  # type: ignore[index]
        number = int(connection.execute(insert(t.search_run).values(**values)).inserted_primary_key[0])  # type: ignore[index]
    took = 0.0
    for start in range(0, n, 200):
        candidates = page(start)
        begin = clock()
        with opened.writing() as connection:
            harvested.ingest(connection, number, "crossref", candidates)
        took += clock() - begin
    with opened.writing() as connection:
        rows = [row.id for row in screening.queue(connection, person, most=max(1, n // 10))]
        decided = {"stage": "title", "person_id": person.id, "decision": "include", "reason": "", "at": now()}
        connection.execute(insert(t.screening), [{"harvested_id": one, **decided} for one in rows])
    base = peak()
    with opened.reading(600) as connection:
        found = {
            "records harvested, s": took,
            "a screener's queue, s": _median(lambda: screening.queue(connection, person), clock),
            "the flow diagram's numbers, s": _median(lambda: prisma.flow(connection), clock),
            "search 'chest' with facets, s": _median(lambda: search.search(connection, "chest", facets=True), clock),
        }
        if n <= 30_000:
            found["possible duplicates, s"] = _median(lambda: duplicates.suggestions(connection), clock, 1)
    opened.close()
    return found | {"peak memory, MiB": peak(), "of it before reading, MiB": base} | _size(where)


def _size(where: str | Path) -> Point:
    return {"file, MB": Path(where).stat().st_size / 1e6} if isinstance(where, Path) else {}


def citations(n: int, folder: Path) -> Point:
    """A bulk file of who cites whom."""
    from benchmarks.review import planted
    from medaudit.review import search, views
    from medaudit.review.living import citations as living

    opened = planted(folder / "review.sqlite")
    graph = living.simulate(max(20, n // 11), datasets=min(74, n // 100), seed=0)
    took = seconds(lambda: living.load(opened, living.pairs_of(graph), name="simulated"))
    with opened.reading(600) as connection:
        found = {
            "citations loaded, s": took,
            "all datasets' counts, s": _median(lambda: living.counts(connection)),
            "search 'chest' with facets, s": _median(lambda: search.search(connection, "chest", facets=True)),
            "a list of all datasets, s": _median(lambda: views.records(connection, "dataset")),
        }
    opened.close()
    return found | {"peak memory, MiB": peak()} | _size(folder / "review.sqlite")


def _median(work: Callable[[], Any], clock: Callable[[], float] = time.process_time, times: int = 3) -> float:
    took = []
    for _ in range(times):
        begin = clock()
        work()
        took.append(clock() - begin)
    return float(np.median(took))


# Growth ------------------------------------------------------------------------------------------------------------


def growth(sizes: Sequence[float], costs: Sequence[float]) -> tuple[float, float, float] | None:
    """Return k of cost = fixed + c * size^k with its 95 % interval; None where the cost hardly grows.

    What the smallest size costs is taken for the fixed part: the slope is that of log(what more is paid) on log(what
    more is done). With two larger sizes there is a slope and no interval (NaN).
    """
    more = [(size - sizes[0], cost - costs[0]) for size, cost in zip(sizes[1:], costs[1:], strict=True)]
    seen = [(size, cost) for size, cost in more if cost > 0.05 * costs[0]]
    if len(seen) < 2 or costs[-1] < 1.2 * costs[0]:
        return None
    x, y = np.log(np.asarray(seen).T)
    fit = stats.linregress(x, y)
    if fit.slope <= 0:  # too little is paid to be told from what else the machine does
        return None
    half = float(stats.t.ppf(0.975, len(x) - 2) * fit.stderr) if len(x) > 2 else float("nan")
    return float(fit.slope), float(fit.slope) - half, float(fit.slope) + half


def table(part: str, sizes: list[int], points: list[Point]) -> Iterator[str]:
    target = TARGET[part]
    words = (PARTS[part].__doc__ or part).strip().rstrip(".")
    yield f"| {words} | {' | '.join(f'{size:,}' for size in sizes)} | grows as size^k, k | extrapolated to {target:,} |"
    yield "|---|" + "---:|" * (len(sizes) + 2)
    for name in points[0]:
        costs = [point[name] for point in points]
        cells = " | ".join(number(cost) for cost in costs)
        if name.startswith("of it"):
            yield f"| {name} | {cells} | | |"
            continue
        found = growth(sizes, costs)
        if found is None:
            yield f"| {name} | {cells} | does not | |"
            continue
        times = (target - sizes[0]) / (sizes[-1] - sizes[0])
        k, low, high = (number(costs[0] + (costs[-1] - costs[0]) * times**power) for power in found)
        interval = " ({:.2f} to {:.2f})".format(*found[1:]) if found[1] == found[1] else ""
        yield f"| {name} | {cells} | {found[0]:.2f}{interval} | {k}{f' ({low} to {high})' if interval else ''} |"


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


PARTS: dict[str, Callable[[int, Path], Point]] = {
    "scores": scores, "masks": masks, "engines": engines, "harvest": harvest, "postgres": postgres,
    "citations": citations,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--most", type=int, default=10**9, help="the largest size")
    parser.add_argument("--one", nargs=2, metavar=("PART", "SIZE"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    load = os.getloadavg()
    if asked.one:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(PARTS[asked.one[0]](int(asked.one[1]), Path(folder))))
        return
    for part in asked.parts:
        sizes = [size for size in SIZES[part] if size <= asked.most]
        points = []
        for size in sizes:
            again = [sys.executable, "-m", "benchmarks.scale", "--one", part, str(size)]
            done = subprocess.run(again, stdout=subprocess.PIPE, text=True, check=True)
            points.append(json.loads(done.stdout.splitlines()[-1]))
        print(*table(part, sizes, points), "", sep="\n", flush=True)
    print(f"Load of the machine before: {load[0]:.1f} (1 minute), {load[2]:.1f} (15).")


if __name__ == "__main__":
    main()

"""--engine: the workers of a Dask or Ray cluster do what processes of this machine do, and fail in one line."""

import json
import os
import subprocess
import sys
import time
from itertools import count, islice
from pathlib import Path

import engine_tasks as tasks
import pytest
from small_cohorts import Said, masks_of_two_readers

from medaudit import clusters
from medaudit.cli.main import run
from medaudit.clusters import engine
from medaudit.errors import DataError
from medaudit.workers import in_processes

distributed = pytest.importorskip("distributed")
QUESTION = ("--reference", "expert_path", "--labels", "auto_path", "--by", "age:40,55", "--resamples", "100")
QUESTION += ("--min-patients", "5", "--quiet")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return masks_of_two_readers(tmp_path_factory.mktemp("cohort"), 30, missed=(0, 15))


@pytest.fixture(scope="module")
def local_cluster():
    """Return a function that starts Dask workers here, each a process of its own where ``processes``."""
    running = []

    def start(n_workers, threads=1, processes=True):
        made = distributed.LocalCluster(
            n_workers=n_workers, threads_per_worker=threads, processes=processes, protocol="tcp://",
            dashboard_address="127.0.0.1:0", silence_logs=100,
        )  # fmt: skip
        running.append(made)
        return made

    yield start
    for made in running:
        made.close()


@pytest.fixture(scope="module")
def dask(local_cluster):
    """The address of a Dask cluster of two workers; they started in another folder than the tests run in."""
    return local_cluster(2).scheduler_address.replace("tcp://", "dask://")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def of_this_machine(tmp_path_factory, cohort):
    """The folder of the audit that one process of this machine makes."""
    out = tmp_path_factory.mktemp("local") / "run"
    with pytest.raises(SystemExit) as stop:
        run(["labels", "--cases", str(cohort), *QUESTION, "--jobs", "1", "--out", str(out)])
    assert not stop.value.code
    return out


def same_files(one, other):
    names = ("findings.json", "measurements.parquet")
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


def test_an_audit_on_dask_is_the_audit_of_this_machine_to_the_byte(medaudit, cohort, of_this_machine, dask, here):
    said = medaudit("labels", "--cases", cohort, *QUESTION, "--engine", dask, "--out", "run")
    assert said == Said(0, "", "")
    assert same_files(of_this_machine, here / "run")
    assert [file.name for file in here.iterdir()] == ["run"]


@pytest.mark.slow
def test_an_audit_on_ray_is_the_audit_of_this_machine_to_the_byte(medaudit, cohort, of_this_machine, here):
    pytest.importorskip("ray")
    said = medaudit("labels", "--cases", cohort, *QUESTION, "--engine", "ray://local:2", "--out", "run")
    assert said == Said(0, "", "")
    assert same_files(of_this_machine, here / "run")


@pytest.mark.slow
def test_ray_does_again_what_it_can_and_says_in_one_line_what_it_cannot(here, capfd, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # where its workers find the tasks
    with engine("ray://local:2"):
        assert sorted(in_processes(tasks.dies_once, ["good", "bad", "ugly"], -1)) == ["BAD", "GOOD", "UGLY"]
        assert list(in_processes(tasks.threads, [0], -1)) == [{1}]
        with pytest.raises(DataError, match=r"^case one: no such file$"):
            list(in_processes(tasks.refuses, ["one"], -1))
        with pytest.raises(DataError, match=r"the workers that tried one task were killed"):
            list(in_processes(tasks.dies, ["one"], -1))
    assert capfd.readouterr() == ("", "")


def test_what_a_task_raises_is_raised_as_it_is(dask, here):
    with engine(dask), pytest.raises(DataError, match=r"^case one: no such file$"):
        list(in_processes(tasks.refuses, ["one"], -1))


def test_tasks_that_hand_out_tasks_do_not_wait_for_one_another(dask, here):
    with engine(dask):
        assert list(in_processes(tasks.spread, [3, 4, 3, 4], -1, ordered=True)) == [[0, 1, 4], [0, 1, 4, 9]] * 2


def test_a_worker_computes_with_one_thread(dask, here):
    with engine(dask):
        assert list(in_processes(tasks.threads, [0], -1)) == [{1}]


def test_no_more_tasks_than_jobs_run_at_a_time(dask, here):
    def most(jobs):
        with engine(dask):
            spans = list(in_processes(tasks.when, [0.1] * 6, jobs))
        return max(sum(begin <= other < end for begin, end in spans) for other, _ in spans)

    assert most(1) == 1
    assert most(-1) == 2


def test_tasks_are_drawn_as_results_are_used(dask, here):
    drawn = count()
    with engine(dask):
        stream = in_processes(tasks.square, (next(drawn) for _ in range(1000)), -1, ordered=True, at_once=1)
        assert list(islice(stream, 3)) == [0, 1, 4]
        stream.close()
        assert next(drawn) <= 3 + 2 * 2
        # Short tasks go together, in their order, and still not all at once.
        stream = in_processes(tasks.square, (next(drawn) * 0 + n for n in range(2000)), -1, ordered=True)
        assert list(islice(stream, 500)) == [n * n for n in range(500)]
        assert next(drawn) < 1500
        assert list(stream) == [n * n for n in range(500, 2000)]


@pytest.mark.parametrize("url", ["spark://host:1", "dask://host", "dask://auto", "ray://host:99999", "dask", "ray://"])
def test_an_address_of_no_engine_is_a_wrong_call(medaudit, here, url):
    said = medaudit("labels", "--by", "age", "--out", "run", "--engine", url)
    assert said.code == 2
    assert said.err.startswith(f"medaudit: --engine {url}: expected dask://HOST:PORT, ")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(("url", "module"), [("dask://local", "distributed"), ("ray://auto", "ray")])
def test_an_engine_that_is_not_installed_says_how_to_install_it(medaudit, here, monkeypatch, url, module):
    monkeypatch.setitem(sys.modules, module, None)
    said = medaudit("labels", "--by", "age", "--out", "run", "--engine", url)
    assert said.code == 2
    assert f"pip install 'medaudit[{url.split(':')[0]}]'" in said.err


@pytest.mark.parametrize("scheme", ["dask", "ray"])
def test_a_cluster_that_is_not_there_is_said_at_once(medaudit, here, scheme):
    said = medaudit("labels", "--by", "age", "--out", "run", "--engine", f"{scheme}://127.0.0.1:1")
    assert said.code == 1
    assert said.err.count("\n") == 1
    assert "nothing answers at 127.0.0.1:1 (connection refused)" in said.err


@pytest.fixture
def killed_soon(tmp_path):
    """A scheduler and a worker as a user starts them: the scheduler's process, and its address."""
    file = tmp_path / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    local = ["--scheduler-file", str(file)]
    scheduler = subprocess.Popen(
        [*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", *local], **quiet
    )
    worker = subprocess.Popen([*dask, "worker", "--nthreads", "1", "--no-dashboard", *local], **quiet)
    while not file.exists():
        assert scheduler.poll() is None
        time.sleep(0.05)
    address = json.loads(file.read_text())["address"]
    with distributed.Client(address, set_as_default=False) as client:
        client.wait_for_workers(1, timeout=60)
    yield scheduler, address.replace("tcp://", "dask://")
    for process in (scheduler, worker):
        process.kill()
        process.wait()


def test_a_scheduler_that_is_killed_ends_in_one_line(killed_soon, here, capfd):
    scheduler, url = killed_soon
    with engine(url):
        stream = in_processes(time.sleep, [0.05] * 200, -1)
        next(stream)
        scheduler.kill()
        with pytest.raises(DataError, match="the connection to the cluster was lost; what was finished is kept"):
            list(stream)
    assert capfd.readouterr() == ("", "")


def test_a_cluster_without_workers_is_not_waited_for_for_ever(local_cluster, here, monkeypatch):
    monkeypatch.setattr(clusters, "ANSWER_S", 1.0)
    empty = local_cluster(0).scheduler_address.replace("tcp://", "dask://")
    with pytest.raises(DataError, match="has no worker"), engine(empty):
        pass


def test_workers_with_several_threads_are_refused(local_cluster, here):
    many = local_cluster(1, threads=2, processes=False).scheduler_address.replace("tcp://", "dask://")
    with pytest.raises(DataError, match=r"a worker runs 2 threads.*--nthreads 1"), engine(many):
        pass


def test_workers_that_do_not_see_the_folder_are_refused(dask, here, monkeypatch):
    null = open(os.devnull)  # noqa: SIM115 - closed by the code: a file that no worker finds in its folder
    monkeypatch.setattr(clusters.tempfile, "NamedTemporaryFile", lambda **_: null)
    with pytest.raises(DataError, match=rf"does not see the folder {here} of this command"), engine(dask):
        pass


def test_workers_with_other_versions_are_refused(dask, here, monkeypatch):
    mine = clusters._versions() | {"numpy": "1.0"}
    monkeypatch.setattr(clusters, "_versions", lambda: mine)
    with pytest.raises(DataError, match=r"has numpy 2\.\S+, this command 1\.0"), engine(dask):
        pass


def test_versions_are_those_of_all_that_the_package_requires():
    from importlib.metadata import version

    found = clusters._versions()
    assert found["torch"] == version("torch").split("+")[0]
    assert "pytest" not in found
    assert "not installed" not in found.values()


def test_a_task_whose_worker_was_killed_is_done_again_and_one_that_kills_them_all_ends_in_one_line(local_cluster, here):
    import dask

    with dask.config.set({"distributed.scheduler.allowed-failures": 1}):  # three by default: as many workers to start
        mortal = local_cluster(2).scheduler_address.replace("tcp://", "dask://")
    with engine(mortal):
        found = list(in_processes(tasks.dies_once, ["good", "bad", "ugly"], -1, ordered=True))
        assert (here / "died").exists()
        assert found == ["GOOD", "BAD", "UGLY"]
        with pytest.raises(DataError, match=r"killed, most often because memory ran out; what was finished is kept"):
            list(in_processes(tasks.dies, ["one"], -1))

"""Jobs on a dask.distributed cluster: the same results, and what is finished survives its failures."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from reference import TINY
from sublearn.core.cluster import ClusterError, parallel_map
from sublearn.core.store import Json, Kind, Store
from sublearn.nets import experiment
from sublearn.nets.settings import grid

distributed = pytest.importorskip(
    "distributed", reason="the optional group `cluster` is not installed"
)
SQUARES = Kind("squares", "code", Json())


@dataclass(frozen=True)
class Key:
    number: int


def square(keys, save, on_step, *, log, waits=()):
    """Squares, each noted in a file; those of `waits` are late until the file `go` appears."""
    for key in keys:
        with (log / "begun").open("a") as file:
            file.write(f"{key.number} {os.getpid()}\n")
        while key.number in waits and not (log / "go").exists():
            time.sleep(0.02)
        save(key, key.number**2)
        on_step()


def begun(log):
    """Numbers and process ids of the jobs that were begun, in their order."""
    path = log / "begun"
    return (
        [tuple(map(int, line.split())) for line in path.read_text().splitlines()]
        if path.exists()
        else []
    )


def wait_until(condition):
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


class Cluster:
    """A scheduler and workers, each in a process of its own that a test may kill."""

    def __init__(self, folder, workers=2):
        self.file = folder / "scheduler.json"
        self.processes = [self.start("scheduler", "--port", "0", "--no-dashboard")]
        self.processes += [
            self.start("worker", "--nthreads", "1", "--no-nanny", "--local-directory", str(folder))
            for _ in range(workers)
        ]
        wait_until(self.file.exists)
        with distributed.Client(scheduler_file=str(self.file), timeout=60) as client:
            client.wait_for_workers(workers, timeout=120)
            self.address = client.scheduler.address

    def start(self, *arguments):
        tests = Path(__file__).parents[1]  # workers import what a job calls
        environment = os.environ | {"PYTHONPATH": f"{tests}{os.pathsep}{tests / 'core'}"}
        command = [sys.executable, "-m", "dask", *arguments, "--host", "127.0.0.1"]
        command += ["--scheduler-file", str(self.file)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(command, env=environment, **quiet)

    def close(self):
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def float32(monkeypatch):
    monkeypatch.setenv("SUBLIMINAL_PRECISION", "float32")


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    running = Cluster(tmp_path)
    monkeypatch.setenv("SUBLIMINAL_SCHEDULER", running.address)
    yield running
    running.close()


def test_an_experiment_gives_the_same_bits_on_a_cluster(tmp_path, monkeypatch, cluster):
    arms = grid(TINY, lr=[1e-3, 3e-3], inputs_per_epoch=[500, 700])
    monkeypatch.setenv("SUBLIMINAL_PROGRESS", str(tmp_path / "progress"))
    there = experiment.run(arms, models=2, store=Store(tmp_path / "there"))
    assert "students: 100%" in (tmp_path / "progress").read_text()
    monkeypatch.delenv("SUBLIMINAL_SCHEDULER")
    assert experiment.run(arms, models=2, store=Store(tmp_path / "here")).equals(there)


def test_a_killed_worker_costs_only_its_job(tmp_path, cluster):
    store = Store(tmp_path / "store")
    compute = partial(square, log=tmp_path, waits=(3,))

    def kill_the_one_that_waits():
        wait_until(lambda: len({number for number, _ in begun(tmp_path)}) == 6)
        (victim,) = [process for number, process in begun(tmp_path) if number == 3]
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: [number for number, _ in begun(tmp_path)].count(3) == 2)
        (tmp_path / "go").touch()

    killer = threading.Thread(target=kill_the_one_that_waits)
    killer.start()
    store.fill(SQUARES, map(Key, range(6)), compute)
    killer.join()
    assert [store.read(SQUARES, Key(number)) for number in range(6)] == [0, 1, 4, 9, 16, 25]
    assert sorted(number for number, _ in begun(tmp_path)) == [0, 1, 2, 3, 3, 4, 5]


def test_a_scheduler_that_goes_away_gives_one_sentence_and_loses_nothing_finished(
    tmp_path, cluster
):
    store = Store(tmp_path / "store")
    compute = partial(square, log=tmp_path, waits=(3,))

    def kill_the_scheduler():
        wait_until(lambda: len(begun(tmp_path)) == 6)
        wait_until(
            lambda: sum(store.read(SQUARES, Key(number)) is not None for number in range(6)) == 5
        )
        cluster.processes[0].kill()

    killer = threading.Thread(target=kill_the_scheduler)
    killer.start()
    with pytest.raises(
        ClusterError,
        match=r"scheduler at tcp://.* went away; what was finished is stored: run again",
    ):
        store.fill(SQUARES, map(Key, range(6)), compute)
    killer.join()
    assert [store.read(SQUARES, Key(number)) for number in range(6)] == [0, 1, 4, None, 16, 25]


def test_no_scheduler_is_said_in_one_sentence(monkeypatch):
    monkeypatch.setenv("SUBLIMINAL_SCHEDULER", "tcp://127.0.0.1:1")
    with pytest.raises(
        ClusterError,
        match=r"no dask scheduler answers at tcp://127\.0\.0\.1:1: start one, or unset",
    ):
        parallel_map(print, [1])


def test_a_worker_of_another_number_type_is_refused(float32, cluster, monkeypatch):
    monkeypatch.setenv(
        "SUBLIMINAL_PRECISION", "bfloat16"
    )  # of this process; the workers began before
    with pytest.raises(
        ClusterError, match="a worker computes on cpu float32, this machine on cpu bfloat16"
    ):
        parallel_map(print, [1])

"""Runs the notebooks that need it, several at once if asked, and publishes each one only when it is whole."""

import csv
import datetime
import fcntl
import io
import json
import os
import shutil
import tempfile
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from press import screen
from press.plan import CellFailed, Job, PressError, Project, plan, tags
from sublearn.core import machine, store

COLUMNS = ("name", "value", "low", "high", "n", "unit", "setting", "dataset", "device", "code", "date")
EPOCH = "1735689600"  # 2025-01-01, for libraries that write a date into what they draw
INJECTED = "injected-parameters"
WIDGET = "application/vnd.jupyter.widget-view+json"
PYTHON = {"display_name": "Python 3", "language": "python", "name": "python3"}


def run(project: Project, *, only: list[str] = (), given: dict | None = None, jobs: int = 1) -> bool:
    """Run every notebook that needs it; True when none failed. Raises `PressError` before anything runs."""
    with alone(project):
        planned, notes = plan(project, only=only, given=given)
        for note in notes:
            print(f"Note: {note}")
        for job in planned:
            if not job.changes:
                print(f"{job.name}  {refresh(project, job)}", flush=True)
        waiting = [job for job in planned if job.changes]
        if waiting:
            requested = machine.requested_precision()
            print(f"Number type: {machine.precision()} (SUBLIMINAL_PRECISION={requested})", flush=True)
        return run_all(project, waiting, jobs=min(jobs, len(waiting))) if waiting else True


@contextmanager
def alone(project: Project) -> Iterator[None]:
    """Hold the profile's lock, which even a killed process gives back, and clear what such a process left."""
    project.private("").mkdir(parents=True, exist_ok=True)
    with project.private("lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PressError(f"another runner is at work on profile {project.profile!r}; wait for it") from None
        shutil.rmtree(project.private("staging"), ignore_errors=True)
        project.private("staging").mkdir(exist_ok=True)
        yield


def run_all(project: Project, waiting: list[Job], *, jobs: int) -> bool:
    """Execute `waiting`, `jobs` at a time, and show how they fare; True when none failed."""
    times = store.read_json(project.private("times.json")) or {}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    begun: dict[str, screen.Begun] = {}

    def work(job: Job) -> None:
        folder = Path(tempfile.mkdtemp(dir=project.private("staging"), prefix=f"{job.name}."))
        expected = times.get(job.name, job.seconds)
        begun[job.name] = screen.Begun(time.monotonic(), expected, folder / "progress")
        make(project, job, folder, threads=max(1, cores // jobs))

    pool, good = ThreadPoolExecutor(jobs), True
    try:
        for name, done in screen.watch({pool.submit(work, job): job.name for job in waiting}, begun):
            if told(name, done, begun[name]):
                times[name] = round(time.monotonic() - begun[name].start, 1)
                store.write_atomic(project.private("times.json"), json.dumps(times, indent=1))
            else:
                good = False
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # an interrupted run must not wait for its kernels
    return good


def told(name: str, done: Future, begun: screen.Begun) -> bool:
    """Print how a notebook ended; True when it ended well."""
    after, error = screen.clock(time.monotonic() - begun.start), done.exception()
    if error is not None and not isinstance(error, CellFailed):
        traceback.print_exception(error)  # a fault of the press, not of the notebook
    print(f"{name}  FAILED after {after}: {error}" if error else f"{name}  done in {after}", flush=True)
    if (ran := begun.progress.with_name(f"{name}.running.ipynb")).exists():
        print(f"{name}  the traceback is in {ran}", flush=True)
    return error is None


def make(project: Project, job: Job, folder: Path, *, threads: int) -> None:
    """Execute one notebook in the fresh `folder` and publish it; raises `CellFailed`."""
    from press import kernel  # measured: 4 s of imports, which an up-to-date book does without

    (folder / "results").mkdir()
    source, target = folder / f"{job.name}.ipynb", folder / f"{job.name}.running.ipynb"
    source.write_text(json.dumps(job.notebook), encoding="utf8")
    environment = os.environ | {
        "SUBLIMINAL_RESULTS": str(folder / "results"),
        "SUBLIMINAL_PROGRESS": str(folder / "progress"),
        "SUBLIMINAL_THREADS": str(threads),
        "PYTHONHASHSEED": "0",
        "SOURCE_DATE_EPOCH": EPOCH,
    }
    here = project.source(job.name).parent
    kernel.execute(source, target, parameters=job.given, environment=environment, folder=here)
    publish(project, job, folder, copy=compose(job, json.loads(target.read_text(encoding="utf8"))))
    shutil.rmtree(folder)


def compose(job: Job, ran: dict) -> str:
    """Return the text of an executed copy: the present source with the outputs of `ran`.

    `ran` is what papermill wrote or an earlier executed copy. What differs from run to run (times, random
    cell ids, widget states) stays behind.
    """
    by_id = {cell["id"]: cell for cell in ran["cells"]}
    injected = [
        cell | {"id": INJECTED, "metadata": {"tags": [INJECTED, "remove-input"]}}
        for cell in ran["cells"]
        if INJECTED in tags(cell)
    ]
    cells = []
    for number, cell in enumerate(job.notebook["cells"], start=1):
        cells.append(filled(number, cell, by_id[cell["id"]]) if cell["cell_type"] == "code" else cell)
        cells += injected if "parameters" in tags(cell) else []
    metadata = (
        {"kernelspec": PYTHON}
        | job.notebook["metadata"]
        | {
            "language_info": ran["metadata"]["language_info"],
            "press": {"digest": job.digest, "made_of": job.made_of},
        }
    )
    notebook = job.notebook | {"cells": cells, "metadata": metadata}
    return json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def filled(number: int, cell: dict, ran: dict) -> dict:
    """Give a source cell the outputs it had in `ran`, and its figure's name, caption and alternative text."""
    outputs, metadata = lasting(ran["outputs"]), cell["metadata"]
    if any(output["output_type"] == "error" for output in outputs):
        raise CellFailed(f"cell {number}: it holds an error output; a page must not show one")
    labels = [own["metadata"]["sublearn"] for own in outputs if "sublearn" in own.get("metadata", {})]
    if len(labels) > 1:
        raise CellFailed(f"cell {number}: it shows {len(labels)} figures; show one figure per cell")
    for label in labels:
        figure = {"image": {"alt": label["alt"]}, "figure": {key: label[key] for key in ("caption", "name")}}
        metadata = metadata | {"mystnb": figure | metadata.get("mystnb", {})}
    return cell | {"outputs": outputs, "execution_count": ran["execution_count"], "metadata": metadata}


def lasting(outputs: list[dict]) -> list[dict]:
    """Leave out live widgets, which show nothing without a kernel and whose ids differ from run to run."""
    kept = []
    for output in outputs:
        data = {kind: content for kind, content in output.get("data", {}).items() if kind != WIDGET}
        if WIDGET not in output.get("data", {}):
            kept.append(output)
        elif data.keys() - {"text/plain"}:
            kept.append(output | {"data": data})
    return kept


def refresh(project: Project, job: Job) -> str:
    """Bring a good executed copy up to the prose of its source without running it; says what was done."""
    old = project.executed(job.name).read_text(encoding="utf8")
    new = compose(job, json.loads(old))
    if new == old:
        return "up to date"
    store.write_atomic(project.executed(job.name), new)
    return "new prose, not run"


def publish(project: Project, job: Job, folder: Path, *, copy: str) -> None:
    """Move the results of a run to their places; the executed copy comes last: with it the run counts."""
    records, text = folder / "results" / "records.jsonl", io.StringIO()
    lines = records.read_text(encoding="utf8").splitlines() if records.exists() else []
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    stamp = {"code": job.digest, "date": datetime.date.today().isoformat()}
    writer.writerows(json.loads(line) | stamp for line in lines)
    tables = project.results(job.name).with_suffix("")
    shutil.rmtree(tables, ignore_errors=True)
    for table in (folder / "results").glob("*.csv"):
        tables.mkdir(parents=True, exist_ok=True)
        table.replace(tables / table.name)
    store.write_atomic(project.results(job.name), text.getvalue())
    store.write_atomic(project.executed(job.name), copy)

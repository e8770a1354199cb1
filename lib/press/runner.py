"""The runner: which notebooks must run and why, their kernels, and what the terminal shows meanwhile.

What decided a run is kept item by item in the executed copy, so that `why` can name what changed since. The press
itself is no such item: an edit of the press runs no notebook again. Papermill, pandas and torch take seconds to
import, so only a run imports them.
"""

import ast
import datetime
import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml
from tqdm import tqdm

from sublearn.core import machine, store
from sublearn.nets import data

CHAPTERS = "[0-9][0-9]_*.ipynb"
MAGIC = re.compile(r"^[%!].*$", re.MULTILINE)
EMBEDDED = "digits"  # the data set that needs no download
SECTIONS = ("defaults", "notebooks", "seconds")  # of a profile
COLUMNS = "name value low high n unit setting dataset device code date".split()
FOREIGN = ("PYTHONPATH", "PYTHONSTARTUP", "PYTHONWARNINGS", "MATPLOTLIBRC")
EPOCH = "1735689600"  # 2025-01-01, for libraries that write a date into what they draw
HEARTBEAT = 30.0  # seconds between two lines of a notebook where lines cannot be rewritten
INJECTED = "injected-parameters"
WIDGET = "application/vnd.jupyter.widget-view+json"
PYTHON = {"display_name": "Python 3", "language": "python", "name": "python3"}


class PressError(ValueError):
    """A wrong request or a broken file, said in one sentence."""


class CellFailed(Exception):
    """A notebook failed: in which cell, counted from 1 among all cells of its source, and how."""


@dataclass(frozen=True)
class Project:
    """Where the files of a book lie; the built ones depend on the profile."""

    root: Path = store.ROOT
    profile: str = "laptop"

    def source(self, name: str) -> Path:
        """The notebook as it lies in git."""
        return self.root / "notebooks" / f"{name}.ipynb"

    def executed(self, name: str) -> Path:
        """The executed copy."""
        return self.root / "_build" / "executed" / self.profile / f"{name}.ipynb"

    def results(self, name: str) -> Path:
        """The recorded numbers of a notebook; its tables lie in the folder of that name less `.csv`."""
        return self.root / "_build" / "results" / self.profile / f"{name}.csv"

    def private(self, name: str) -> Path:
        """What only the press reads: its lock, the times, whatever is not finished."""
        return self.root / "_build" / "press" / self.profile / name


class Job(NamedTuple):
    """A notebook, the parameters to inject, what decides its run, and why it must run (empty: it need not)."""

    name: str
    notebook: dict
    parameters: dict
    inputs: dict
    changes: list[str]
    seconds: float | None


# ---------------------------------------------------------------- what must run, and why


def plan(project: Project, *, only=(), parameters: dict | None = None) -> tuple[list[Job], list[str]]:
    """Jobs of a run, and notes for the reader. Every request is checked here: `PressError`, `ValueError`."""
    notebooks, notes = read_notebooks(project)
    defaults = {name: parameter_defaults(name, notebooks[name]) for name in notebooks}
    profile = read_profile(project, defaults)
    chosen = choose(list(notebooks), only)
    parameters = parameters or {}
    require(parameters, set().union(*map(defaults.get, chosen)), "parameter")
    values = {}
    for name in chosen:
        requested = profile["defaults"] | profile["notebooks"].get(name, {}) | parameters
        values[name] = parameter_values(defaults[name], requested)
    digests, replacements = find_data(values)
    jobs = []
    for name in chosen:
        inputs = inputs_of(project, notebooks[name], values[name])
        if "dataset" in values[name]:
            inputs["data"] = digests[values[name]["dataset"]]
        default = defaults[name]
        injected = {key: value for key, value in values[name].items() if value != default[key]}
        reasons = changes(project, name, notebooks[name], inputs)
        seconds = profile["seconds"].get(name)
        jobs.append(Job(name, notebooks[name], injected, inputs, reasons, seconds))
    return jobs, notes + replacements


def read_notebooks(project: Project) -> tuple[dict[str, dict], list[str]]:
    """Chapters by name, and a note for each notebook or page beside them that is no chapter."""
    notebooks, notes = {}, []
    for path in sorted(project.source("").parent.glob("[!.]*")):
        if path.match(CHAPTERS):
            notebooks[path.stem] = read_notebook(path)
        elif path.suffix in (".ipynb", ".md"):
            notes.append(f"notebooks/{path.name} is not built: a chapter is named like 02_title.ipynb.")
    return notebooks, notes


def read_notebook(path: Path) -> dict:
    """A source notebook, each cell's source as one text; each cell must have an id."""
    notebook = store.read_json(path)
    if notebook is None or "cells" not in notebook:
        raise PressError(f"{path} is no readable notebook; restore it from git")
    for number, cell in enumerate(notebook["cells"], start=1):
        if "id" not in cell:
            raise PressError(f"{path.name}: cell {number} has no id; save the notebook in JupyterLab")
        cell["source"] = "".join(cell["source"])
    return notebook


def tags(cell: dict) -> list[str]:
    """Tags of a cell."""
    return cell["metadata"].get("tags", [])


def parameter_defaults(name: str, notebook: dict) -> dict:
    """Literal defaults that the cell tagged `parameters` assigns."""
    defaults = {}
    try:
        for cell in notebook["cells"]:
            lines = ast.parse(cell["source"]).body if "parameters" in tags(cell) else []
            for line in lines:
                defaults[line.targets[0].id] = ast.literal_eval(line.value)
    except (AttributeError, SyntaxError, ValueError):
        message = f"{name}: its parameters cell holds more than `name = literal` lines"
        raise PressError(message) from None
    return defaults


def parameter_values(defaults: dict, requested: dict) -> dict:
    """Values of a notebook's parameters, each of its default's type; counts are at least 1."""
    values = {}
    for key, default in defaults.items():
        value = values[key] = requested.get(key, default)
        kind = type(default)
        if type(value) is not kind and not (kind is float and type(value) is int):
            message = f"give a value of type {kind.__name__}, such as {default!r}"
            raise PressError(f"parameter {key} is {value!r}; {message}")
        if kind is int and value < min(default, 1):
            raise PressError(f"parameter {key} is {value}; the least value is {min(default, 1)}")
    return values


def read_profile(project: Project, defaults: dict[str, dict]) -> dict[str, dict]:
    """One profile of profiles.yml, in which no notebook and no parameter may be unknown."""
    profiles = yaml.safe_load((project.root / "profiles.yml").read_text(encoding="utf8"))
    require([project.profile], profiles, "profile")
    for name, profile in profiles.items():
        where = f"profiles.yml, {name}"
        require(profile, SECTIONS, f"{where}: section")
        for section in SECTIONS:
            profile.setdefault(section, {})
        require(profile["defaults"], set().union(*defaults.values()), f"{where}: parameter")
        require([*profile["seconds"], *profile["notebooks"]], defaults, f"{where}: notebook")
        for notebook, parameters in profile["notebooks"].items():
            require(parameters, defaults[notebook], f"{where}, {notebook}: parameter")
    return profiles[project.profile]


def require(keys: Iterable[str], allowed: Iterable[str], what: str) -> None:
    """Raise a `PressError` that names the first of `keys` which is not allowed, and those that are."""
    for key in keys:
        if key not in allowed:
            names = ", ".join(sorted(allowed)) or "none"
            raise PressError(f"{what} {key!r} is unknown; allowed: {names}")


def choose(names: list[str], only: Iterable[str]) -> list[str]:
    """Chosen notebooks in the order of the book; `02` is enough for `02_mnist_replication`."""
    prefixes = tuple(Path(choice).stem for choice in only)
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in names):
            require([prefix], names, "notebook")
    return [name for name in names if name.startswith(prefixes or "")]


def find_data(values: dict[str, dict]) -> tuple[dict[str, str], list[str]]:
    """Digest of each data set in use, and a note for each that cannot be had.

    values: parameters of each notebook, in which the embedded data set takes the place of a missing one.
    """
    users: dict[str, list[str]] = {EMBEDDED: []}
    for name, parameters in values.items():
        users.setdefault(parameters.get("dataset", EMBEDDED), []).append(name)
    digests, notes = {}, []
    for dataset, names in users.items():
        try:
            digests[dataset] = data.digest(dataset)
        except data.DataUnavailable as error:
            instead = f"Instead of it the embedded {EMBEDDED!r} are used in {', '.join(names)}."
            notes.append(f"{error} {instead}")
            for name in names:
                values[name]["dataset"] = EMBEDDED
    return digests, notes


def inputs_of(project: Project, notebook: dict, parameters: dict) -> dict:
    """What decides a run, item by item, less its data.

    Items are code cells with tags, parameters, number type and processor, imported sublearn modules, the pins, and
    those Python files beside the notebooks and tables of book/reference that the notebook or a module mentions.
    """
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    items = {"order of cells": [cell["id"] for cell in cells]}
    for cell in cells:
        items[f"cell {cell['id']}"] = store.digest(cell["source"], tags(cell))
    for key, value in parameters.items():
        items[f"parameter {key}"] = value
    items |= machine.fingerprint()
    code = "\n".join(cell["source"] for cell in cells)
    helpers = mentioned(project.source("").parent.rglob("*.py"), code)
    code = "\n".join([code, *helpers.values()])
    with suppress(SyntaxError):  # a cell that cannot be read: its run will tell
        for module in store.imported(MAGIC.sub("", code)):
            items[f"sublearn.{module}"] = store.module_digest(module)
            code += store.module_path(module).read_text(encoding="utf8")
    tables = mentioned((project.root / "book" / "reference").glob("*.csv"), code)
    for path in [project.root / "requirements.txt", *helpers, *tables]:
        name = path.relative_to(project.root).as_posix()
        items[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return items


def mentioned(paths: Iterable[Path], code: str) -> dict[Path, str]:
    """Texts of those files whose name, or whose folder's, stands in the code or in one of these texts."""
    waiting, texts = sorted(paths), {}
    while waiting:
        named = [path for path in waiting if path.stem in code or path.parent.name in code]
        waiting = [path for path in waiting if path not in named] if named else []
        for path in named:
            texts[path] = path.read_text(encoding="utf8")
            code += texts[path]
    return texts


def changes(project: Project, name: str, notebook: dict, inputs: dict) -> list[str]:
    """How `inputs` differ from what the executed copy was made of, item by item; cells by their number."""
    copy = store.read_json(project.executed(name)) or {}
    old = copy.get("metadata", {}).get("press", {}).get("inputs")
    if old is None:
        return ["there is no readable executed copy"]
    if not project.results(name).exists():
        return ["its results are missing"]
    labels, reasons = {}, []
    for number, cell in enumerate(notebook["cells"], start=1):
        labels[f"cell {cell['id']}"] = f"cell {number}"
    for key in [*inputs, *(old.keys() - inputs.keys())]:
        label = labels.get(key, key)
        if key not in old:
            reasons.append(f"{label} is new")
        elif key not in inputs:
            reasons.append(f"{label} is gone")
        elif old[key] != inputs[key]:
            values = f": {old[key]!r} -> {inputs[key]!r}" if key.startswith("parameter ") else " changed"
            reasons.append(label + values)
    return reasons


# ---------------------------------------------------------------- execution


def run(project: Project, *, only=(), parameters: dict | None = None, jobs: int = 1) -> bool:
    """Run every notebook that needs it; True when none failed. A wrong request raises before anything runs."""
    with profile_lock(project):
        planned, notes = plan(project, only=only, parameters=parameters)
        for note in notes:
            print(f"Note: {note}")
        waiting = []
        for job in planned:
            if job.changes:
                waiting.append(job)
            else:
                print(f"{job.name}  {refresh(project, job)}", flush=True)
        if not waiting:
            return True
        requested = machine.requested_precision()
        print(f"Number type: {machine.precision()} (SUBLIMINAL_PRECISION={requested})", flush=True)
        return run_all(project, waiting, jobs=min(jobs, len(waiting)))


@contextmanager
def profile_lock(project: Project) -> Iterator[None]:
    """Hold the profile's lock, which even a killed process gives back, and clear what such a process left."""
    staging = project.private("staging")
    try:
        staging.mkdir(parents=True, exist_ok=True)
        lock = project.private("lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        message = f"another runner is at work on profile {project.profile!r}; wait for it"
        raise PressError(message) from None
    except OSError as error:
        message = f"{staging} cannot be written ({error.strerror}); make {project.root} writable"
        raise PressError(message) from None
    with lock:
        shutil.rmtree(staging)
        staging.mkdir()
        yield


class Running(NamedTuple):
    """A notebook under way: when it began (monotonic clock), how long it may take (s), its folder."""

    start: float
    expected: float | None
    folder: Path


def run_all(project: Project, waiting: list[Job], *, jobs: int) -> bool:
    """Execute `waiting`, `jobs` at a time, and show how they fare; True when none failed."""
    times = store.read_json(project.private("times.json")) or {}
    running: dict[str, Running] = {}

    def work(job: Job) -> None:
        folder = project.private("staging") / job.name
        running[job.name] = Running(time.monotonic(), times.get(job.name, job.seconds), folder)
        run_notebook(project, job, folder, threads=max(1, cores() // jobs))

    good, pool = True, ThreadPoolExecutor(jobs)
    try:
        futures = {pool.submit(work, job): job.name for job in waiting}
        for name, future in watch(futures, running):
            seconds = time.monotonic() - running[name].start
            if report(name, future, seconds, running[name].folder):
                times[name] = round(seconds, 1)
                store.write_atomic(project.private("times.json"), json.dumps(times, indent=1))
            else:
                good = False
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # an interrupted run must not wait for its kernels
    return good


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def private_environment(project: Project) -> dict[str, str]:
    """The environment less what would let Python paths and figure styles from outside in."""
    environment = os.environ | {"MPLCONFIGDIR": str(project.root / "_build" / "matplotlib")}
    for name in FOREIGN:
        environment.pop(name, None)
    return environment


def run_notebook(project: Project, job: Job, folder: Path, *, threads: int) -> None:
    """Execute one notebook, its files in the new `folder`, and publish it; raises `CellFailed`."""
    results = folder / "results"
    results.mkdir(parents=True)
    environment = private_environment(project) | {
        "IPYTHONDIR": str(folder / "ipython"),
        "SUBLIMINAL_RESULTS": str(results),
        "SUBLIMINAL_PROGRESS": str(folder / "progress"),
        "SUBLIMINAL_THREADS": str(threads),
        "PYTHONHASHSEED": "0",
        "SOURCE_DATE_EPOCH": EPOCH,
    }
    ran = execute(job, folder, environment, project.source("").parent)
    publish(project, job, results, compose(job, ran))
    shutil.rmtree(folder)


@cache
def register_engine() -> str:
    """Register papermill's engine with a kernel of this interpreter, and give its name."""
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient.exceptions import DeadKernelError
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import NBClientEngine, papermill_engines

    class Engine(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, *, environment, here, **_):
            specs = KernelSpecManager(kernel_dirs=[])  # no installed kernel takes the place of ours
            client = PapermillNotebookClient(
                nb_man,
                km=AsyncKernelManager(kernel_name=kernel_name, kernel_spec_manager=specs),
                startup_timeout=300,
                iopub_timeout=120,
                shutdown_kernel="immediate",
                extra_arguments=["--log-level=ERROR"],  # else it warns that talk is not encrypted
            )
            try:
                client.execute(env=environment, cwd=here, cleanup_kc=True)
            except DeadKernelError:
                cell = f"cell {last_started(nb_man.nb.cells)}"
                message = f"{cell}: the kernel died; the usual cause is too little memory"
                raise CellFailed(message) from None

    papermill_engines.register("press", Engine)
    return "press"


def last_started(cells: list[dict]) -> int:
    """Number of the last cell that papermill began, among those of the source."""
    number = 0
    for cell in cells:
        if cell["metadata"]["papermill"]["start_time"] and INJECTED not in tags(cell):
            number += 1
    return number


def execute(job: Job, folder: Path, environment: dict[str, str], here: Path) -> dict:
    """The notebook as it ran in the working folder `here`, up to its end or an error's cell."""
    engine = register_engine()
    from papermill.exceptions import PapermillExecutionError
    from papermill.execute import execute_notebook

    source, target = folder / f"{job.name}.ipynb", folder / f"{job.name}.running.ipynb"
    source.write_text(json.dumps(job.notebook), encoding="utf8")
    options = {"progress_bar": False, "request_save_on_cell_execute": False, "language": "python"}
    options |= {"environment": environment, "here": str(here), "kernel_name": "python3"}
    with suppress(PapermillExecutionError):  # its cell holds the error, which `merge_outputs` names
        execute_notebook(str(source), str(target), job.parameters, engine_name=engine, **options)
    return store.read_json(target)


def compose(job: Job, ran: dict) -> str:
    """Text of an executed copy: the present source with the outputs of `ran`.

    `ran` is what papermill wrote or an earlier executed copy. What differs from run to run (times, random
    cell ids, widget states) stays behind.
    """
    injected, ran_cells = [], {}
    for cell in ran["cells"]:
        ran_cells[cell["id"]] = cell
        if INJECTED in tags(cell):
            injected = [cell | {"id": INJECTED, "metadata": {"tags": [INJECTED, "remove-input"]}}]
    cells = []
    for number, cell in enumerate(job.notebook["cells"], start=1):
        if cell["cell_type"] == "code":
            cell = merge_outputs(number, cell, ran_cells[cell["id"]])
        cells.append(cell)
        if "parameters" in tags(cell):
            cells += injected
    metadata = {"kernelspec": PYTHON} | job.notebook["metadata"]
    metadata["language_info"] = ran["metadata"]["language_info"]
    metadata["press"] = {"digest": store.digest(job.inputs), "inputs": job.inputs}
    notebook = job.notebook | {"cells": cells, "metadata": metadata}
    return json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def merge_outputs(number: int, cell: dict, ran: dict) -> dict:
    """A source cell with the outputs it had in `ran`, and its figure's name, caption and alternative text."""
    outputs, metadata, labels = drop_widgets(ran["outputs"]), cell["metadata"], []
    for output in outputs:
        if output["output_type"] == "error":
            error = f"{output['ename']}: {output['evalue']}"
            raise CellFailed(f"cell {number}: {error}".splitlines()[0])
        if "sublearn" in output.get("metadata", {}):
            labels.append(output["metadata"]["sublearn"])
    if len(labels) > 1:
        raise CellFailed(f"cell {number}: it shows {len(labels)} figures; show one figure per cell")
    for label in labels:
        figure = {"caption": label["caption"], "name": label["name"]}
        page = {"image": {"alt": label["alt"]}, "figure": figure}
        metadata = metadata | {"mystnb": page | metadata.get("mystnb", {})}
    count = ran["execution_count"]
    return cell | {"outputs": outputs, "execution_count": count, "metadata": metadata}


def drop_widgets(outputs: list[dict]) -> list[dict]:
    """Outputs less live widgets, which show nothing without a kernel and whose ids differ from run to run."""
    kept = []
    for output in outputs:
        content = dict(output.get("data", {}))
        if content.pop(WIDGET, None) is None:
            kept.append(output)
        elif content.keys() - {"text/plain"}:
            kept.append(output | {"data": content})
    return kept


def refresh(project: Project, job: Job) -> str:
    """Bring a good executed copy up to the prose of its source without a run; what was done, in words."""
    path = project.executed(job.name)
    old = path.read_text(encoding="utf8")
    new = compose(job, json.loads(old))
    if new == old:
        return "up to date"
    store.write_atomic(path, new)
    return "new prose, not run"


def publish(project: Project, job: Job, results: Path, copy: str) -> None:
    """Move the results of a run to their places; the executed copy comes last: with it the run counts."""
    import pandas as pd

    records, rows = results / "records.jsonl", []
    if records.exists():
        rows = list(map(json.loads, records.read_text(encoding="utf8").splitlines()))
    numbers = pd.DataFrame(rows, columns=COLUMNS, dtype=object)
    numbers["code"] = store.digest(job.inputs)
    numbers["date"] = datetime.date.today().isoformat()
    tables = project.results(job.name).with_suffix("")
    shutil.rmtree(tables, ignore_errors=True)
    for table in results.glob("*.csv"):
        tables.mkdir(parents=True, exist_ok=True)
        table.replace(tables / table.name)
    store.write_atomic(project.results(job.name), numbers.to_csv(index=False, lineterminator="\n"))
    store.write_atomic(project.executed(job.name), copy)


# ---------------------------------------------------------------- the terminal


def watch(futures: dict[Future, str], running: dict[str, Running]) -> Iterator[tuple[str, Future]]:
    """Show the notebooks in `running`, which their threads fill, and yield each one as it ends.

    One line per notebook: rewritten in place on a terminal, printed now and then elsewhere.
    """
    terminal, width = sys.stdout.isatty(), shutil.get_terminal_size().columns - 1
    interval = 0.5 if terminal else HEARTBEAT
    waiting, drawn = set(futures), 0
    while waiting:
        done, waiting = wait(waiting, timeout=interval, return_when=FIRST_COMPLETED)
        if drawn:
            print(f"\x1b[{drawn}A\x1b[J", end="")
        for future in done:
            yield futures[future], future
        lines = [status(futures[future], running) for future in futures if future in waiting]
        shown = list(filter(None, lines)) if terminal or not done else []
        for line in shown:
            print(line[:width] if terminal else line)
        drawn = len(shown) if terminal else 0
        sys.stdout.flush()


def status(name: str, running: dict[str, Running]) -> str:
    """Elapsed and expected time of a notebook and the last piece of its progress; empty before it runs."""
    if name not in running:
        return ""
    notebook = running[name]
    elapsed = tqdm.format_interval(time.monotonic() - notebook.start)
    expected = f" of about {tqdm.format_interval(notebook.expected)}" if notebook.expected else ""
    piece = ""
    with suppress(FileNotFoundError):
        text = (notebook.folder / "progress").read_text(encoding="utf8", errors="replace")
        piece = "".join(text.rstrip().splitlines()[-1:])
    return f"{name}  {elapsed}{expected}  {piece.strip()}".rstrip()


def report(name: str, future: Future, seconds: float, folder: Path) -> bool:
    """Print how a notebook ended; True when it ended well."""
    error, duration = future.exception(), tqdm.format_interval(seconds)
    if error is None:
        print(f"{name}  done in {duration}", flush=True)
        return True
    if not isinstance(error, CellFailed):
        traceback.print_exception(error)  # a fault of the press, not of the notebook
    print(f"{name}  FAILED after {duration}: {error}", flush=True)
    ran = folder / f"{name}.running.ipynb"
    if ran.exists():
        print(f"{name}  the traceback is in {ran}", flush=True)
    return False

"""The runner: which notebooks must run and why, their kernels, and what the terminal shows.

What decided a run is kept item by item in the executed copy, so that `why` can name what changed
since. The press itself is no such item: an edit of the press runs no notebook again. Papermill,
pandas and torch take seconds to import, so only a run imports them.
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
        return self.root / f"notebooks/{name}.ipynb"

    def executed(self, name: str) -> Path:
        """The executed copy."""
        return self.root / f"_build/executed/{self.profile}/{name}.ipynb"

    def results(self, name: str) -> Path:
        """The recorded numbers; the tables lie in the folder of that name less `.csv`."""
        return self.root / f"_build/results/{self.profile}/{name}.csv"

    def private(self, name: str) -> Path:
        """What only the press reads: its lock, the times, whatever is not finished."""
        return self.root / f"_build/press/{self.profile}/{name}"


class Job(NamedTuple):
    """A notebook, parameters to inject, what decides its run, and why it must run (empty: not)."""

    name: str
    notebook: dict
    parameters: dict
    inputs: dict
    changes: list[str]
    seconds: float | None


# ---------------------------------------------------------------- what must run, and why


def plan(
    project: Project, *, only=(), parameters=(), require_data=False
) -> tuple[list[Job], list[str]]:
    """Jobs of a run, and notes for the reader.

    only: beginnings of the notebooks' names. parameters: mapping, the last word on a parameter.
    require_data: refuse to replace a data set that cannot be had.
    Every request is checked here. Errors: ValueError, as a rule a PressError.
    """
    notebooks, notes = read_notebooks(project)
    defaults = {}
    for name, notebook in notebooks.items():
        defaults[name] = parameter_defaults(name, notebook)
    profile = read_profile(project, defaults)
    chosen = choose(list(notebooks), only)
    allowed = [defaults[name] for name in chosen]
    require(parameters, set().union(*allowed), "parameter")
    values = {}
    for name in chosen:
        requested = profile["defaults"] | profile["notebooks"].get(name, {})
        requested.update(parameters)
        values[name] = parameter_values(defaults[name], requested)
    digests, replacements = find_data(values, required=require_data)
    jobs = []
    for name in chosen:
        notebook = notebooks[name]
        inputs = inputs_of(project, name, notebook, values[name])
        injected = {}
        for key, value in values[name].items():
            if key == "dataset":
                inputs["data"] = digests[value]
            if value != defaults[name][key]:
                injected[key] = value
        if values[name].get("photographs", 0) > 1:
            inputs["photographs"] = photographs_at_hand()
        reasons = changes(project, name, notebook, inputs)
        seconds = profile["seconds"].get(name)
        job = Job(name, notebook, injected, inputs, reasons, seconds)
        jobs.append(job)
    return jobs, notes + replacements


def read_notebooks(project: Project) -> tuple[dict, list]:
    """Chapters by name, and a note for each notebook or page beside them that is no chapter."""
    notebooks, notes = {}, []
    folder = project.root / "notebooks"
    for path in sorted(folder.glob("[!.]*")):
        if path.match(CHAPTERS):
            notebooks[path.stem] = read_notebook(path)
        elif path.suffix in (".ipynb", ".md"):
            reason = "a chapter is named like 02_title.ipynb"
            notes.append(f"notebooks/{path.name} is not built: {reason}.")
    return notebooks, notes


def read_notebook(path: Path) -> dict:
    """A source notebook, each cell's source as one text; each cell must have an id."""
    notebook = store.read_json(path)
    if notebook is None or "cells" not in notebook:
        raise PressError(f"{path} is no readable notebook; restore it from git")
    for number, cell in enumerate(notebook["cells"], start=1):
        if "id" not in cell:
            raise PressError(f"{path.name}: cell {number} has no id; save it in JupyterLab")
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
            if "parameters" not in tags(cell):
                continue
            for line in ast.parse(cell["source"]).body:
                (target,) = line.targets
                defaults[target.id] = ast.literal_eval(line.value)
    except (AttributeError, SyntaxError, ValueError):
        message = f"{name}: its parameters cell holds more than `name = literal` lines"
        raise PressError(message) from None
    return defaults


def parameter_values(defaults: dict, requested: dict) -> dict:
    """Values of a notebook's parameters, each of its default's type; counts are at least 1."""
    values = {}
    for key, default in defaults.items():
        value = requested.get(key, default)
        values[key] = value
        kind = type(default)
        allowed = (float, int) if kind is float else (kind,)
        if type(value) not in allowed:
            cure = f"give a value of type {kind.__name__}, such as {default!r}"
            raise PressError(f"parameter {key} is {value!r}; {cure}")
        if kind is int and value < min(default, 1):
            raise PressError(f"parameter {key} is {value}; the least value is {min(default, 1)}")
    return values


def read_profile(project: Project, defaults: dict[str, dict]) -> dict[str, dict]:
    """One profile of profiles.yml, in which no notebook and no parameter may be unknown."""
    text = (project.root / "profiles.yml").read_text(encoding="utf8")
    profiles = yaml.safe_load(text)
    require([project.profile], profiles, "profile")
    for name, profile in profiles.items():
        where = f"profiles.yml, {name}"
        require(profile, SECTIONS, f"{where}: section")
        for section in SECTIONS:
            profile.setdefault(section, {})
        require(profile["defaults"], set().union(*defaults.values()), f"{where}: parameter")
        for section in ("seconds", "notebooks"):
            require(profile[section], defaults, f"{where}: notebook")
        for notebook, parameters in profile["notebooks"].items():
            require(parameters, defaults[notebook], f"{where}, {notebook}: parameter")
    return profiles[project.profile]


def require(keys: Iterable[str], allowed: Iterable[str], what: str) -> None:
    """Raise a PressError that names the first of `keys` not allowed, and those that are."""
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


def find_data(values: dict[str, dict], *, required: bool) -> tuple[dict, list]:
    """Digest of each data set in use, and a note for each that cannot be had.

    values: parameters of each notebook; here the embedded data set replaces a missing one, or a
    PressError says what is missing where the data are `required`.
    """
    users = {EMBEDDED: []}
    for name, parameters in values.items():
        dataset = parameters.get("dataset", EMBEDDED)
        users.setdefault(dataset, []).append(name)
    digests, notes = {}, []
    for dataset, names in users.items():
        try:
            digests[dataset] = data.digest(dataset)
        except data.DataUnavailable as error:
            if required:
                raise PressError(f"{error} --require-data allows no other data.") from None
            instead = f"Instead of it the embedded {EMBEDDED!r} are used in {', '.join(names)}."
            notes.append(f"{error} {instead}")
            for name in names:
                values[name]["dataset"] = EMBEDDED
    return digests, notes


@cache
def photographs_at_hand() -> str:
    """Digest of the reader's photographs, or "none": a page made without them is out of date."""
    from sublearn.nets.pictures import PHOTOS, images_digest  # imports torch

    try:
        return images_digest(PHOTOS)
    except data.DataUnavailable:
        return "none"


def inputs_of(project: Project, name: str, notebook: dict, parameters: dict) -> dict:
    """What decides a run, item by item, less its data.

    Items are code cells with tags, parameters, number type and processor, imported sublearn
    modules, the pins, and those Python files beside the notebooks and tables of book/reference
    that the notebook or a module mentions; and the chapter's reference results.
    """
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    items = {"order of cells": [cell["id"] for cell in cells]}
    for cell in cells:
        label = f"cell {cell['id']}"
        items[label] = store.digest(cell["source"], tags(cell))
    for key, value in parameters.items():
        items[f"parameter {key}"] = value
    items |= machine.fingerprint()
    code = "\n".join(cell["source"] for cell in cells)
    beside = (project.root / "notebooks").rglob("*.py")
    helpers = mentioned(beside, code)
    code = "\n".join([code, *helpers.values()])
    with suppress(SyntaxError):  # a cell that cannot be read: its run will tell
        for module in store.imported(MAGIC.sub("", code)):
            items[f"sublearn.{module}"] = store.module_digest(module)
            code += store.module_path(module).read_text(encoding="utf8")
    references = project.root.glob("book/reference/*.csv")
    tables = [*mentioned(references, code)]
    if project.profile != "reference":  # its intervals are drawn behind the run's own
        tables += project.root.glob(f"book/reference/results/{name[:2]}.csv")
    pins = project.root / "requirements.txt"
    for path in (pins, *helpers, *tables):
        label = path.relative_to(project.root).as_posix()
        items[label] = hashlib.sha256(path.read_bytes()).hexdigest()
    return items


def mentioned(paths: Iterable[Path], code: str) -> dict[Path, str]:
    """Texts of those files whose name, or whose folder's, stands in the code or in such a text."""
    waiting, texts = sorted(paths), {}
    for path in waiting * len(waiting):  # a file may mention one before it
        named = path.stem in code or path.parent.name in code
        if named and path not in texts:
            texts[path] = path.read_text(encoding="utf8")
            code += texts[path]
    return texts


def changes(project: Project, name: str, notebook: dict, inputs: dict) -> list[str]:
    """How `inputs` differ from what the executed copy was made of; cells by their number."""
    copy = store.read_json(project.executed(name)) or {}
    metadata = copy.get("metadata", {})
    old = metadata.get("press", {}).get("inputs")
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
            values = f": {old[key]!r} -> {inputs[key]!r}"
            reasons.append(label + (values if key.startswith("parameter ") else " changed"))
    return reasons


# ---------------------------------------------------------------- execution


def run(project: Project, *, jobs: int = 1, **request) -> bool:
    """Run what needs it of a `request` to `plan`, `jobs` notebooks at a time.

    True when none failed. Errors as in `plan`.
    """
    with profile_lock(project):
        planned, notes = plan(project, **request)
        for note in notes:
            print(f"Note: {note}")
        waiting = []
        for job in planned:
            if job.changes:
                waiting.append(job)
            else:
                done = refresh(project, job)
                print(f"{job.name}  {done}", flush=True)
        if not waiting:
            return True
        requested = machine.requested_precision()
        print(f"Number type: {machine.precision()} (SUBLIMINAL_PRECISION={requested})", flush=True)
        jobs = min(jobs, len(waiting))
        return run_all(project, waiting, jobs=jobs)


@contextmanager
def profile_lock(project: Project) -> Iterator[None]:
    """Hold the profile's lock, and clear what a killed process left, which gives the lock back.

    While another process holds it, this one says so and waits.
    """
    staging = project.private("staging")
    try:
        staging.mkdir(parents=True, exist_ok=True)
        lock = project.private("lock").open("w")
    except OSError as error:
        message = f"{staging} cannot be written ({error.strerror}); make {project.root} writable"
        raise PressError(message) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Another build of profile {project.profile!r} is at work: waiting for it.")
            sys.stdout.flush()
            fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        yield


class Running(NamedTuple):
    """A notebook under way: start (monotonic clock), expected duration (s), folder of its files."""

    start: float
    expected: float | None
    folder: Path


def run_all(project: Project, waiting: list[Job], *, jobs: int) -> bool:
    """Execute `waiting`, `jobs` at a time, and show how they fare; True when none failed."""
    file = project.private("times.json")
    times = store.read_json(file) or {}
    running: dict[str, Running] = {}

    def work(job: Job) -> list[str]:
        folder = project.private("staging") / job.name
        expected = times.get(job.name, job.seconds)
        running[job.name] = Running(time.monotonic(), expected, folder)
        threads = max(1, machine.cores() // jobs)
        return run_notebook(project, job, folder, threads=threads)

    pool = ThreadPoolExecutor(jobs)
    good = True
    try:
        futures = {pool.submit(work, job): job.name for job in waiting}
        for name, future in watch(futures, running):
            seconds = report(name, future, running[name])
            if seconds is None:
                good = False
            else:
                times[name] = round(seconds, 1)
                text = json.dumps(times, indent=1)
                store.write_atomic(file, text)
    finally:  # an interrupted run must not wait for its kernels
        pool.shutdown(wait=False, cancel_futures=True)
    return good


def private_environment(project: Project) -> dict[str, str]:
    """The environment less what would let Python paths and figure styles from outside in."""
    environment = dict(os.environ)
    for name in FOREIGN:
        environment.pop(name, None)
    environment["MPLCONFIGDIR"] = str(project.root / "_build/matplotlib")
    # kernels run side by side: a waiting thread must not burn the core that another one needs
    environment.setdefault("OMP_WAIT_POLICY", "passive")
    return environment


def run_notebook(project: Project, job: Job, folder: Path, *, threads: int) -> list[str]:
    """Execute one notebook, its files in the new `folder`, and publish it; its warnings.

    Errors: `CellFailed`.
    """
    results = folder / "results"
    results.mkdir(parents=True)
    environment = private_environment(project) | {
        "IPYTHONDIR": str(folder / "ipython"),
        "SUBLIMINAL_PROFILE": project.profile,
        "SUBLIMINAL_RESULTS": str(results),
        "SUBLIMINAL_PROGRESS": str(folder / "progress"),
        "SUBLIMINAL_THREADS": str(threads),
        "PYTHONHASHSEED": "0",
        "SOURCE_DATE_EPOCH": EPOCH,
    }
    ran = execute(job, folder, environment, project.root / "notebooks")
    copy = compose(job, ran)
    publish(project, job, results, copy)
    shutil.rmtree(folder)
    return warnings_of(ran)


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
    from papermill.exceptions import PapermillExecutionError
    from papermill.execute import execute_notebook

    source = folder / f"{job.name}.ipynb"
    target = folder / f"{job.name}.running.ipynb"
    source.write_text(json.dumps(job.notebook), encoding="utf8")
    with suppress(PapermillExecutionError):  # its cell holds the error, which `merge_outputs` names
        execute_notebook(
            str(source),
            str(target),
            job.parameters,
            engine_name=register_engine(),
            kernel_name="python3",
            language="python",
            progress_bar=False,
            request_save_on_cell_execute=False,
            environment=environment,
            here=str(here),
        )
    return store.read_json(target)


def compose(job: Job, ran: dict) -> str:
    """Text of an executed copy: the present source with the outputs of `ran`.

    `ran` is what papermill wrote or an earlier executed copy. What differs from run to run (times,
    random cell ids, widget states) stays behind.
    """
    injected, ran_cells = [], {}
    for cell in ran["cells"]:
        ran_cells[cell["id"]] = cell
        if INJECTED in tags(cell):
            metadata = {"tags": [INJECTED, "remove-input"]}
            injected = [cell | {"id": INJECTED, "metadata": metadata}]
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
    """A source cell with the outputs of `ran`, and its figure's name, caption and description."""
    outputs = page_outputs(ran["outputs"])
    metadata, labels = cell["metadata"], []
    for output in outputs:
        if output["output_type"] == "error":
            error = f"{output['ename']}: {output['evalue']}"
            raise CellFailed(f"cell {number}: {error}".splitlines()[0])
        if "sublearn" in output.get("metadata", {}):
            labels.append(output["metadata"]["sublearn"])
    if len(labels) > 1:
        raise CellFailed(f"cell {number}: it shows {len(labels)} figures; show one per cell")
    for label in labels:
        figure = {"caption": label["caption"], "name": label["name"]}
        page = {"image": {"alt": label["alt"]}, "figure": figure}
        page.update(metadata.get("mystnb", {}))
        metadata = metadata | {"mystnb": page}
    count = ran["execution_count"]
    return cell | {"outputs": outputs, "execution_count": count, "metadata": metadata}


def warnings_of(ran: dict) -> list[str]:
    """What the cells of a notebook wrote to their standard error, for the terminal."""
    texts = []
    for cell in ran["cells"]:
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                text = "".join(output["text"])
                texts.append(text.rstrip())
    return texts


def page_outputs(outputs: list[dict]) -> list[dict]:
    """Outputs less warnings, which differ between machines, and widgets, dead without a kernel."""
    kept = []
    for output in outputs:
        if output.get("name") == "stderr":
            continue
        content = dict(output.get("data", {}))
        if content.pop(WIDGET, None) is None:
            kept.append(output)
        elif content.keys() - {"text/plain"}:
            kept.append(output | {"data": content})
    return kept


def refresh(project: Project, job: Job) -> str:
    """Bring a good executed copy up to its source's prose without a run; what was done in words."""
    path = project.executed(job.name)
    old = path.read_text(encoding="utf8")
    new = compose(job, json.loads(old))
    if new == old:
        return "up to date"
    store.write_atomic(path, new)
    return "new prose, not run"


def publish(project: Project, job: Job, results: Path, copy: str) -> None:
    """Move a run's results to their places; the executed copy, last, makes the run count."""
    import pandas as pd

    records = results / "records.jsonl"
    lines = records.read_text(encoding="utf8").splitlines() if records.exists() else []
    rows = [json.loads(line) for line in lines]
    numbers = pd.DataFrame(rows, columns=COLUMNS, dtype=object)
    numbers["code"] = store.digest(job.inputs)
    numbers["date"] = datetime.date.today().isoformat()
    tables = project.results(job.name).with_suffix("")
    shutil.rmtree(tables, ignore_errors=True)
    for table in results.glob("*.csv"):
        tables.mkdir(parents=True, exist_ok=True)
        table.replace(tables / table.name)
    text = numbers.to_csv(index=False, lineterminator="\n")
    store.write_atomic(project.results(job.name), text)
    store.write_atomic(project.executed(job.name), copy)


# ---------------------------------------------------------------- the terminal


def watch(futures: dict[Future, str], running: dict[str, Running]) -> Iterator[tuple]:
    """Show the notebooks in `running`, which their threads fill; yield (name, future) as one ends.

    One line per notebook: rewritten in place on a terminal, printed now and then elsewhere.
    """
    terminal = sys.stdout.isatty()
    interval = 0.5 if terminal else HEARTBEAT
    width = shutil.get_terminal_size().columns - 1
    waiting, drawn = set(futures), 0
    while waiting:
        done, waiting = wait(waiting, timeout=interval, return_when=FIRST_COMPLETED)
        if drawn:
            print(f"\x1b[{drawn}A\x1b[J", end="")
        for future in done:
            yield futures[future], future
        drawn = 0
        for future, name in futures.items():
            if future not in waiting or name not in running:
                continue
            line = status(name, running[name])
            if terminal:
                print(line[:width])
                drawn += 1
            elif not done:
                print(line)
        sys.stdout.flush()


def status(name: str, notebook: Running) -> str:
    """Elapsed and expected time of a notebook, and the last piece of its progress."""
    line = f"{name}  {tqdm.format_interval(time.monotonic() - notebook.start)}"
    if notebook.expected:
        line += f" of about {tqdm.format_interval(notebook.expected)}"
    with suppress(FileNotFoundError):
        progress = (notebook.folder / "progress").read_text(encoding="utf8", errors="replace")
        for piece in progress.rstrip().splitlines()[-1:]:
            line += f"  {piece.strip()}"
    return line


def report(name: str, future: Future, notebook: Running) -> float | None:
    """Print how a notebook ended; its seconds where it ended well."""
    seconds = time.monotonic() - notebook.start
    duration = tqdm.format_interval(seconds)
    error = future.exception()
    if error is None:
        for warning in future.result():
            print(f"{name}  warns: {warning}")
        print(f"{name}  done in {duration}", flush=True)
        return seconds
    if not isinstance(error, CellFailed):
        traceback.print_exception(error)  # a fault of the press, not of the notebook
    print(f"{name}  FAILED after {duration}: {error}", flush=True)
    ran = notebook.folder / f"{name}.running.ipynb"
    if ran.exists():
        print(f"{name}  the traceback is in {ran}", flush=True)
    return None

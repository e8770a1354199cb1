"""What is to be run and why: notebooks, profiles, parameters, and all that decides a run.

What decided a run is kept item by item in the executed copy, so that `why` can name what changed since. The press
itself is no such item: an edit of the press runs no notebook again.
"""

import ast
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import yaml

from sublearn.core import machine, store
from sublearn.nets import data

EMBEDDED = "digits"  # the dataset that needs no download
SECTIONS = ("defaults", "notebooks", "seconds")


class PressError(Exception):
    """A wrong request or a broken file, told in one sentence."""


class CellFailed(Exception):
    """A notebook failed: in which cell, counted from 1 among all cells of its source, and how."""


@dataclass(frozen=True)
class Project:
    """Where the files of a book lie; the built ones depend on the profile."""

    root: Path = store.ROOT
    profile: str = "laptop"

    def source(self, name: str) -> Path:
        """Return the notebook as it lies in git."""
        return self.root / "notebooks" / f"{name}.ipynb"

    def executed(self, name: str) -> Path:
        """Return the executed copy."""
        return self.root / "_build" / "executed" / self.profile / f"{name}.ipynb"

    def results(self, name: str) -> Path:
        """Return the recorded numbers of a notebook; its tables lie in the folder of that name less `.csv`."""
        return self.root / "_build" / "results" / self.profile / f"{name}.csv"

    def private(self, name: str) -> Path:
        """Return what only the runner reads: its lock, the times, the runs under way."""
        return self.root / "_build" / "press" / self.profile / name


class Job(NamedTuple):
    """A notebook, the parameters to give it, what decides its run, and why it must run (empty: it need not)."""

    name: str
    notebook: dict
    given: dict
    made_of: dict
    changes: list[str]
    seconds: float | None

    @property
    def digest(self) -> str:
        """Return the digest of all that decides this run."""
        return store.digest(self.made_of)


def plan(project: Project, *, only: list[str] = (), given: dict | None = None) -> tuple[list[Job], list[str]]:
    """Return the jobs of a run and what the reader must be told first; all requests are checked here."""
    paths = sorted(project.source("").parent.glob("[0-9][0-9]_*.ipynb"))
    notebooks = {path.stem: read_notebook(path) for path in paths}
    defaults = {name: literals(name, notebook) for name, notebook in notebooks.items()}
    profile = read_profile(project, defaults)
    chosen, given = choose(list(notebooks), only), given or {}
    require(given, {key for name in chosen for key in defaults[name]}, "parameter")
    values = {}
    for name in chosen:
        asked = profile["defaults"] | profile["notebooks"].get(name, {}) | given
        values[name] = {key: asked.get(key, value) for key, value in defaults[name].items()}
    wanted: dict[str, list[str]] = {}
    for name, own in values.items():
        wanted.setdefault(own.get("dataset", EMBEDDED), []).append(name)
    found, notes = find_data(wanted)
    jobs = []
    for name, own in values.items():
        if "dataset" in own:
            own["dataset"] = found[own["dataset"]][0]
        changed = {key: value for key, value in own.items() if value != defaults[name][key]}
        made_of = decisive(project, notebooks[name], own)
        made_of |= {"data": found[own["dataset"]][1]} if "dataset" in own else {}
        why = changes(project, name, notebooks[name], made_of)
        jobs.append(Job(name, notebooks[name], changed, made_of, why, profile["seconds"].get(name)))
    return jobs, notes


def read_notebook(path: Path) -> dict:
    """Read a source notebook, each cell's source as one text; each cell must have an id."""
    notebook = store.read_json(path)
    if notebook is None or "cells" not in notebook:
        raise PressError(f"{path} is no readable notebook; restore it from git")
    for number, cell in enumerate(notebook["cells"], start=1):
        if "id" not in cell:
            raise PressError(f"{path.name}: cell {number} has no id; save the notebook once in JupyterLab")
        cell["source"] = "".join(cell["source"])
    return notebook


def tags(cell: dict) -> list[str]:
    """Return the tags of a cell."""
    return cell["metadata"].get("tags", [])


def literals(name: str, notebook: dict) -> dict:
    """Return the literal defaults that the cell tagged `parameters` assigns."""
    source = "\n".join(cell["source"] for cell in notebook["cells"] if "parameters" in tags(cell))
    try:
        return {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(source).body}
    except (AttributeError, SyntaxError, ValueError):
        raise PressError(f"{name}: its parameters cell holds more than `name = literal` lines") from None


def read_profile(project: Project, defaults: dict[str, dict]) -> dict[str, dict]:
    """Read profiles.yml, refuse what no notebook knows (`defaults`: their parameters), return one profile."""
    profiles = yaml.safe_load((project.root / "profiles.yml").read_text(encoding="utf8"))
    require([project.profile], profiles, "profile")
    anywhere = {key for own in defaults.values() for key in own}
    for profile, sections in profiles.items():
        require(sections, SECTIONS, f"profiles.yml, {profile}: section")
        profiles[profile] = sections = {section: {} for section in SECTIONS} | sections
        require(sections["defaults"], anywhere, f"profiles.yml, {profile}: parameter")
        require([*sections["seconds"], *sections["notebooks"]], defaults, f"profiles.yml, {profile}: notebook")
        for name, own in sections["notebooks"].items():
            require(own, defaults[name], f"profiles.yml, {profile}, {name}: parameter")
    return profiles[project.profile]


def require(keys, allowed, what: str) -> None:
    """Raise a `PressError` that names the first of `keys` which is not allowed, and those that are."""
    for key in keys:
        if key not in allowed:
            raise PressError(f"{what} {key!r} is unknown; allowed: {', '.join(sorted(allowed)) or 'none'}")


def choose(names: list[str], only: list[str]) -> list[str]:
    """Return the chosen notebooks in the order of the book; `02` is enough for `02_mnist_replication`."""
    wanted = {Path(choice).stem for choice in only}
    require((choice for choice in wanted if not any(name.startswith(choice) for name in names)), names, "notebook")
    return [name for name in names if not wanted or name.startswith(tuple(wanted))]


def find_data(wanted: dict[str, list[str]]) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """Return for each dataset what takes its place, itself if it is to be had, with its digest, and notes if not.

    `wanted` names the notebooks that want each dataset.
    """
    found, notes = {EMBEDDED: (EMBEDDED, data.digest(EMBEDDED))}, []
    for dataset, names in wanted.items():
        try:
            found[dataset] = (dataset, data.digest(dataset))
        except ValueError as error:
            raise PressError(str(error)) from None
        except data.DataUnavailable as error:
            found[dataset] = found[EMBEDDED]
            notes.append(f"{error} Instead of it the embedded {EMBEDDED!r} are used in {', '.join(names)}.")
    return found, notes


def decisive(project: Project, notebook: dict, parameters: dict) -> dict:
    """Return item by item what decides a run, less its data.

    Items are code cells with tags, parameters, imported sublearn modules, the pins, and those files of
    book/reference whose stem the notebook, or a module that it imports, mentions.
    """
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    code = "\n".join(python(cell) for cell in cells)
    modules = store.imported(code)
    mentioned = code + "".join(store.module_path(name).read_text(encoding="utf8") for name in modules)
    files = [path for path in (project.root / "book" / "reference").glob("*.csv") if path.stem in mentioned]
    items = {f"cell {cell['id']}": store.digest(cell["source"], tags(cell)) for cell in cells}
    items |= {"order of cells": [cell["id"] for cell in cells]}
    items |= {f"parameter {key}": json.loads(json.dumps(value)) for key, value in parameters.items()}
    items |= surroundings()
    items |= {f"sublearn.{name}": store.module_digest(name) for name in modules}
    for path in [project.root / "requirements.txt", *files]:
        items[path.relative_to(project.root).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return items


def surroundings() -> dict[str, str]:
    """Return the number type asked for and the processor: numbers of another one are not those of this."""
    try:
        return machine.fingerprint()
    except ValueError as error:
        raise PressError(str(error)) from None


def python(cell: dict) -> str:
    """Return the source of a cell less its magics; nothing of one that does not parse, for its run will tell."""
    source = "\n".join(line for line in cell["source"].splitlines() if line[:1] not in ("%", "!"))
    try:
        ast.parse(source)
    except SyntaxError:
        return ""
    return source


def changes(project: Project, name: str, notebook: dict, made_of: dict) -> list[str]:
    """Say how `made_of` differs from what the executed copy was made of; cells are counted from 1, prose included."""
    old = ((store.read_json(project.executed(name)) or {}).get("metadata") or {}).get("press", {}).get("made_of")
    if old is None:
        return ["there is no readable executed copy"]
    if not project.results(name).exists():
        return ["its results are missing"]
    numbers = {f"cell {cell['id']}": f"cell {number}" for number, cell in enumerate(notebook["cells"], start=1)}
    found = []
    for key in [*made_of, *(old.keys() - made_of.keys())]:
        if old.get(key) != made_of.get(key):
            event = "is new" if key not in old else "changed" if key in made_of else "is gone"
            values = f": {old.get(key)!r} -> {made_of.get(key)!r}" if key.startswith("parameter ") else f" {event}"
            found.append(numbers.get(key, key) + values)
    return found

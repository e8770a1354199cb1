"""Reference results: kept in git with their provenance, told from stale ones, and compared.

The profile `reference` trains enough models to decide. Its recorded numbers and the tables behind
its figures go to `book/reference/results/`: NN.csv, the folder NN, and NN.json, which says what
made them. Its seconds are those of the last run, which finds finished models in the store.
"""

import json
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

from press.runner import PressError, Project
from sublearn.core import machine, store

PROFILE = "reference"
CODE = ("cell ", "order of cells", "sublearn.")  # items of a run that are code
LIBRARIES = ("numpy", "scipy", "torch", "transformers")


def code_digest(inputs: dict) -> str:
    """Digest of the code in what decided a run, whatever its parameters, data and machine."""
    code = {key: value for key, value in inputs.items() if key.startswith(CODE)}
    return store.digest(code)


def folder_of(project: Project) -> Path:
    """Where the reference results of a project lie."""
    return project.root / "book" / "reference" / "results"


def keep(project: Project, name: str) -> Path:
    """Copy a chapter's finished reference run to where git keeps it, with its provenance."""
    copy = store.read_json(project.executed(name))
    inputs = copy["metadata"]["press"]["inputs"]
    folder = folder_of(project)
    folder.mkdir(parents=True, exist_ok=True)
    chapter = name[:2]
    target = folder / f"{chapter}.csv"
    shutil.copyfile(project.results(name), target)
    tables = folder / chapter
    shutil.rmtree(tables, ignore_errors=True)
    if project.results(name).with_suffix("").exists():
        shutil.copytree(project.results(name).with_suffix(""), tables)
    times = store.read_json(project.private("times.json")) or {}
    parameters = {}
    for key, value in inputs.items():
        if key.startswith("parameter "):
            parameters[key.removeprefix("parameter ")] = value
    provenance = {
        "notebook": name,
        "date": target.read_text(encoding="utf8").splitlines()[1].rsplit(",", 1)[-1],
        "seconds of the last run": times.get(name),
        "number type": machine.precision(),
        "processor": inputs["processor"],
        "versions": {library: version(library) for library in LIBRARIES},
        "code": code_digest(inputs),
        "parameters": parameters,
    }
    text = json.dumps(provenance, indent=1)
    store.write_atomic(folder / f"{chapter}.json", f"{text}\n")
    return target


def staleness(project: Project, name: str, inputs: dict) -> str:
    """A sentence where a chapter has no reference run, or one of other code; else empty."""
    provenance = store.read_json(folder_of(project) / f"{name[:2]}.json")
    if provenance is None:
        return f"This chapter has no reference run yet; `make reference NAME={name[:2]}` makes it."
    if provenance["code"] == code_digest(inputs):
        return ""
    made = f"The reference run of this chapter ({provenance['date']}) was made by other code"
    return f"{made}; `make reference NAME={name[:2]}` makes it anew."


def print_diff(before: Path, after: Path) -> int:
    """Print what moved between two folders of results and which verdicts flipped; 1 if one did."""
    from sublearn.report import scorecard

    tables = []
    for folder in (before, after):
        records = scorecard.read_records(folder)
        if records.empty:
            raise PressError(f"{folder} holds no results such as 03_strength.csv; name another")
        tables.append(records)
    moved = scorecard.compare(*tables)
    flipped = scorecard.flipped(*tables)
    print(f"{len(moved)} recorded numbers moved.")
    if len(moved):
        print(moved.to_string(index=False, float_format="{:.4g}".format))
    print(f"{len(flipped)} verdicts flipped.")
    if len(flipped):
        print(flipped.to_string(index=False))
    sys.stdout.flush()
    return int(len(flipped) > 0)

"""From settings to a table: trains what is not on disk yet, and shares teachers, teacher outputs and noise.

A finished student is written at once, so an interrupted sweep goes on where it stopped, and a run with more
models trains only the new ones.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import pandas as pd

from sublearn.core.rng import rng
from sublearn.nets import cohort, results
from sublearn.nets.inputs import sample
from sublearn.nets.measures import MEASURES
from sublearn.nets.results import Cell, Plan
from sublearn.nets.settings import REF, Setting, columns, difference


def partners(pairing: str, seed: int, models: int) -> list[int]:
    """Whose teacher each model learns from, for a `Setting.pairing`.

    "derangement" is the random permutation with its fixed points passed on, so that the two controls differ only
    in the students that the permutation leaves with their own teacher.
    """
    own = list(range(models))
    if pairing == "own":
        return own
    if models < 2:
        raise ValueError(f"models is {models} with pairing {pairing!r}, which needs another's teacher; take at least 2")
    mixed = rng(seed, "permutation", models).permutation(models).tolist()
    fixed = [model for model in own if mixed[model] == model]
    if pairing == "permutation" or not fixed:
        return mixed
    cycle = fixed if len(fixed) > 1 else [*fixed, (fixed[0] + 1) % models]
    for model, goal in zip(cycle, [mixed[model] for model in (*cycle[1:], cycle[0])]):
        mixed[model] = goal
    return mixed


def _named(settings: Sequence[Setting] | Mapping[str, Setting]) -> dict[str, Setting]:
    if isinstance(settings, Mapping):
        return dict(settings)
    return {difference(setting): setting for setting in settings}


def _validate(settings: Iterable[Setting], models: int, measures: Sequence[str]) -> None:
    if models < 1:
        raise ValueError(f"models is {models}; train at least 1")
    if unknown := set(measures) - set(MEASURES):
        raise ValueError(f"no measure is called {', '.join(sorted(unknown))}; there are {', '.join(MEASURES)}")
    for setting in settings:
        sample(setting, 0, [0], 1)  # what the data cannot give is said before anything is trained


def _cells(setting: Setting, seed: int, models: int) -> list[Cell]:
    plain = replace(setting, pairing="own")  # a fixed point of the permutation is the student of the "own" arm
    return [Cell(plain, *pair) for pair in enumerate(partners(setting.pairing, seed, models))]


def run(
    settings: Sequence[Setting] | Mapping[str, Setting] = (REF,),
    *,
    models: int = 8,
    seed: int = 0,
    checkpoints: Sequence[int] = (),
    measures: Sequence[str] = (),
) -> pd.DataFrame:
    """Tidy table of an experiment: one row per (arm, model, role, epoch).

    settings: the arms; a mapping names them, else they are named by how they differ from the reference.
    models: number of independently initialized teachers, each with one student per arm, all drawn from `seed`.
    checkpoints: epochs at which students are also evaluated in passing. measures: names from `measure.MEASURES`.
    Columns: arm, every field of Setting (tuples as text), seed, model, partner (whose teacher it learned from),
    role ("untrained", "teacher" or "student"), epoch, accuracy on the test set, and those of the measures.
    """
    named = _named(settings)
    _validate(named.values(), models, measures)
    plan = Plan(seed, tuple(sorted(set(checkpoints))), tuple(measures))
    arms = {name: _cells(setting, seed, models) for name, setting in named.items()}
    cohort.train_teachers(named.values(), plan, range(models))
    cohort.measure_teachers(named.values(), plan, range(models))
    cohort.train_students((cell for cells in arms.values() for cell in cells), plan)
    return pd.DataFrame(
        {"arm": name} | columns(named[name]) | {"seed": seed} | cell._asdict() | row
        for name, cells in arms.items()
        for cell in cells
        for row in (*results.teacher_rows(cell.setting, cell.model, plan), *results.student_rows(cell, plan))
    ).drop(columns="setting")

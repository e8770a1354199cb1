"""From settings to a table: trains what is not on disk yet, and shares teachers, teacher outputs and noise.

A finished student is written at once, so an interrupted sweep goes on where it stopped, and a run with more
models trains only the new ones.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from sublearn import data, ensemble, store, training
from sublearn.ensemble import Weights
from sublearn.inputs import batch_sizes, noise_batches
from sublearn.machine import device, progress, side_by_side
from sublearn.measure import MEASURES, Trained, own, trained
from sublearn.seeds import stream
from sublearn.settings import REF, Setting, columns, difference
from sublearn.store import Cell, Plan


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
    mixed = stream(seed, "permutation", models).permutation(models).tolist()
    fixed = [model for model in own if mixed[model] == model]
    if pairing == "permutation" or not fixed:
        return mixed
    cycle = fixed if len(fixed) > 1 else [*fixed, (fixed[0] + 1) % models]
    for model, goal in zip(cycle, [mixed[model] for model in (*cycle[1:], cycle[0])]):
        mixed[model] = goal
    return mixed


_images = cache(data.load)  # each call would check the files' digests again


def _network(setting: Setting) -> ensemble.MLP:
    images = _images(setting.dataset)
    return ensemble.network(setting, images.train_images.shape[1], images.classes)


def _initial(setting: Setting, seed: int, models: Sequence[int], owner: str = "init") -> Weights:
    return ensemble.initial(_network(setting), setting.init, seed, models, owner)


def _starts(setting: Setting, seed: int, models: Sequence[int]) -> Weights:
    """Initial weights of the students: those of the same model's teacher, but for what is unshared or perturbed."""
    shared, own = (_initial(setting, seed, models, owner) for owner in ("init", "own start"))
    start = ensemble.transplant(own, source=shared, parts=setting.shared)
    return ensemble.perturbed(start, parts=setting.perturbed, scale=setting.perturbation, seed=seed, models=models)


def _teachers(setting: Setting, seed: int, models: Sequence[int]) -> Weights:
    """Trained teachers (model, ...) with the auxiliary heads they started with."""
    found = [store.teacher(setting, seed, model) for model in models]
    trained = {name: torch.from_numpy(np.stack([weights[name] for weights in found])) for name in found[0]}
    return {name: trained.get(name, tensor) for name, tensor in _initial(setting, seed, models).items()}


def _teach(models: list[int], *, setting: Setting, seed: int, tick: training.Tick) -> None:
    net, images = _network(setting), _images(setting.dataset)
    pupil = training.learner(_initial(setting, seed, models), setting.teacher_lr)
    source = (images.train_images, images.train_labels, images.top)
    for epoch in range(setting.teacher_epochs):
        training.teach_epoch(net, pupil, training.digit_batches(setting, seed, models, epoch, source), tick)
    for row, model in enumerate(models):
        store.keep_teacher(setting, seed, model, {name: tensor[row] for name, tensor in pupil.weights.items()})


def _train_teachers(settings: Iterable[Setting], plan: Plan, models: Iterable[int]) -> None:
    for setting in {store.same_teacher(setting): setting for setting in settings}.values():
        missing = [model for model in models if store.teacher(setting, plan.seed, model) is None]
        groups = ensemble.chunks(_network(setting), missing)
        count = len(_images(setting.dataset).train_images)
        steps = setting.teacher_epochs * len(batch_sizes(count, setting.batch_size)) * len(groups)
        with progress(steps, "teachers") as bar:
            side_by_side(partial(_teach, setting=setting, seed=plan.seed, tick=bar.update), groups)


def _measured(network: Trained, measures: Iterable[str] = ()) -> list[dict[str, float]]:
    """One row of numbers per model."""
    found = own(network)
    for name in measures:
        found |= MEASURES[name](network)
    return [{name: float(values[row]) for name, values in found.items()} for row in range(len(found["accuracy"]))]


def _measure_teacher(models: list[int], *, setting: Setting, plan: Plan) -> None:
    net, images = _network(setting), _images(setting.dataset)
    start, teacher = _initial(setting, plan.seed, models), _teachers(setting, plan.seed, models)
    before, after = (trained(net, now, start=start, teacher=teacher, images=images) for now in (start, teacher))
    for model, *measured in zip(models, _measured(before, plan.measures), _measured(after, plan.measures)):
        rows = [
            {"role": "untrained", "epoch": 0} | measured[0],
            {"role": "teacher", "epoch": setting.teacher_epochs} | measured[1],
        ]
        store.keep_teacher_rows(setting, model, plan, rows)


def _measure_teachers(settings: Iterable[Setting], plan: Plan, models: Iterable[int]) -> None:
    for setting in {store.same_teacher(setting): setting for setting in settings}.values():
        missing = [model for model in models if store.teacher_rows(setting, model, plan) is None]
        groups = ensemble.chunks(_network(setting), missing)
        side_by_side(partial(_measure_teacher, setting=setting, plan=plan), groups)


class Job(NamedTuple):
    """Students that see the same inputs and the same teacher: every setting with every (model, partner)."""

    settings: tuple[Setting, ...]
    models: list[int]
    partners: list[int]


SEEN = (*store.TEACHING, "inputs", "inputs_per_epoch", "fresh_inputs")


def _jobs(cells: Iterable[Cell]) -> list[Job]:
    together = defaultdict(list)
    for cell in cells:
        seen = tuple(getattr(cell.setting, name) for name in SEEN)
        together[seen, cell.model, cell.partner].append(cell.setting)
    pairs = defaultdict(list)
    for (_, model, partner), settings in together.items():
        pairs[tuple(settings)].append((model, partner))
    return [
        Job(settings, *map(list, zip(*(found[place] for place in chunk))))
        for settings, found in pairs.items()
        for chunk in ensemble.chunks(_network(settings[0]), range(len(found)))
    ]


def _distill(job: Job, *, plan: Plan, tick: training.Tick) -> None:
    """Train a job's students side by side and write each as soon as it is finished."""
    images = _images(job.settings[0].dataset)
    widest = max(job.settings, key=lambda setting: setting.aux_dim)
    teacher = _teachers(widest, plan.seed, job.partners)
    on_device = {name: tensor.to(device()) for name, tensor in teacher.items()}
    starts = [_starts(setting, plan.seed, job.models) for setting in job.settings]
    students = [
        training.Student(_network(setting), training.learner(start, setting.lr), training.matching_loss(setting))
        for setting, start in zip(job.settings, starts)
    ]
    rows: list[list] = [[] for _ in students]
    for epoch in range(max(setting.epochs for setting in job.settings) + 1):
        for setting, student, start, reached in zip(job.settings, students, starts, rows):
            if epoch == setting.epochs or (epoch in plan.checkpoints and epoch < setting.epochs):
                now = trained(student.net, student.pupil.weights, start=start, teacher=teacher, images=images)
                reached.append((epoch, _measured(now, plan.measures if epoch == setting.epochs else ())))
            if epoch == setting.epochs:
                _keep(setting, job, plan, reached)
        active = [student for setting, student in zip(job.settings, students) if epoch < setting.epochs]
        batches = noise_batches(widest, plan.seed, job.models, epoch, images.train_images.shape[1])
        if active:
            training.distill_epoch(_network(widest), teacher=on_device, students=active, batches=batches, tick=tick)


def _keep(setting: Setting, job: Job, plan: Plan, reached: list) -> None:
    for place, (model, partner) in enumerate(zip(job.models, job.partners)):
        rows = [{"role": "student", "epoch": epoch} | measured[place] for epoch, measured in reached]
        store.keep_student(Cell(setting, model, partner), plan, rows)


def _train_students(cells: Iterable[Cell], plan: Plan) -> None:
    jobs = _jobs(cell for cell in dict.fromkeys(cells) if store.student_rows(cell, plan) is None)
    steps = [
        setting.epochs * len(batch_sizes(setting.inputs_per_epoch, setting.batch_size))
        for job in jobs
        for setting in job.settings
    ]
    with progress(sum(steps), "students") as bar:
        side_by_side(partial(_distill, plan=plan, tick=bar.update), jobs)


def _named(settings: Sequence[Setting] | Mapping[str, Setting]) -> dict[str, Setting]:
    if isinstance(settings, Mapping):
        return dict(settings)
    return {difference(setting): setting for setting in settings}


def _validate(models: int, measures: Sequence[str]) -> None:
    if models < 1:
        raise ValueError(f"models is {models}; train at least 1")
    if unknown := set(measures) - set(MEASURES):
        raise ValueError(f"no measure is called {', '.join(sorted(unknown))}; there are {', '.join(MEASURES)}")


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
    _validate(models, measures)
    named = _named(settings)
    plan = Plan(seed, tuple(sorted(set(checkpoints))), tuple(measures))
    arms = {name: _cells(setting, seed, models) for name, setting in named.items()}
    _train_teachers(named.values(), plan, range(models))
    _measure_teachers(named.values(), plan, range(models))
    _train_students((cell for cells in arms.values() for cell in cells), plan)
    return pd.DataFrame(
        {"arm": name} | columns(named[name]) | {"seed": seed} | cell._asdict() | row
        for name, cells in arms.items()
        for cell in cells
        for row in (*store.teacher_rows(cell.setting, cell.model, plan), *store.student_rows(cell, plan))
    ).drop(columns="setting")

"""From settings to a table: trains what is missing, and shares teachers and inputs.

A finished student is written at once, so an interrupted sweep goes on where it stopped, and a run
with more models trains only the new ones.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain

import pandas as pd

from sublearn.core.rng import rng
from sublearn.core.store import Store, digest
from sublearn.nets import jobs, training
from sublearn.nets.ensemble import split_models
from sublearn.nets.inputs import batch_sizes, data_digests, images_of, sample
from sublearn.nets.jobs import StudentKey, TeacherKey, TeacherRowsKey, teacher_key
from sublearn.nets.measures import MEASURES
from sublearn.nets.models import network
from sublearn.nets.settings import REF, Setting, columns, difference, keep_stages

TOGETHER = 8  # settings in a job: more would share little more, and an interruption would lose more


def partners(pairing: str, seed: int, models: int) -> list[int]:
    """Whose teacher each model learns from, for a `Setting.pairing`.

    "derangement" is the random permutation with its fixed points passed on, so that the two
    controls differ only in the students that the permutation leaves with their own teacher.
    """
    if pairing == "own":
        return list(range(models))
    if models < 2:
        needs = "which needs another's teacher; take at least 2"
        raise ValueError(f"models is {models} with pairing {pairing!r}, {needs}")
    mixed = rng(seed, "permutation", models).permutation(models).tolist()
    cycle = [model for model in range(models) if mixed[model] == model]
    if pairing == "permutation" or not cycle:
        return mixed
    if len(cycle) == 1:
        cycle.append((cycle[0] + 1) % models)
    teachers = [mixed[model] for model in cycle]
    teachers.append(teachers.pop(0))
    for model, teacher in zip(cycle, teachers):
        mixed[model] = teacher
    return mixed


def student_keys(
    setting: Setting,
    models: int,
    seed: int,
    checkpoints: Sequence[int] = (),
    measures: Sequence[str] = (),
) -> list[StudentKey]:
    """The students of an arm; a fixed point of a permutation is the student of the "own" arm."""
    shared = StudentKey(
        setting=replace(setting, pairing="own"),
        data=digest(data_digests(setting)),
        seed=seed,
        model=0,
        partner=0,
        checkpoints=tuple(sorted(set(checkpoints))),
        measures=tuple(measures),
    )
    keys = []
    for model, partner in enumerate(partners(setting.pairing, seed, models)):
        keys.append(replace(shared, model=model, partner=partner))
    return keys


# ---------------------------------------------------------------- what is trained in one job


def group_teachers(keys: list[TeacherKey]) -> list[list[TeacherKey]]:
    """Jobs of teachers that differ only in how long they are trained."""
    lengths = defaultdict(list)  # the keys of one model that differ in their epochs only
    for key in keys:
        endless = replace(key.setting, teacher_epochs=0)
        lengths[replace(key, setting=endless)].append(key)
    alike = defaultdict(list)  # models that lack the same lengths
    for endless, same_model in lengths.items():
        epochs = frozenset(key.setting.teacher_epochs for key in same_model)
        alike[replace(endless, model=0), epochs].append(same_model)
    return _chunked(alike)


def group_students(keys: list[StudentKey]) -> list[list[StudentKey]]:
    """Students whose settings share teacher and inputs, of as many models as one call takes."""
    classmates = defaultdict(list)  # the keys of one model and partner that see the same
    for key in keys:
        seen = keep_stages(key.setting, "teacher", "inputs")
        classmates[replace(key, setting=seen)].append(key)
    alike = defaultdict(list)  # models that lack the same settings
    for seen, same_model in classmates.items():
        for first in range(0, len(same_model), TOGETHER):
            chunk = same_model[first : first + TOGETHER]
            settings = tuple(key.setting for key in chunk)
            alike[replace(seen, model=0, partner=0), settings].append(chunk)
    return _chunked(alike)


def _chunked(alike: Mapping[tuple, list[list]]) -> list[list]:
    """Jobs of as many models as one call takes; `alike` holds the keys of each model."""
    groups = []
    for (key, _), by_model in alike.items():
        for chunk in split_models(network(key.setting), by_model):
            groups.append([*chain.from_iterable(chunk)])
    return groups


def teacher_steps(keys: list[TeacherKey]) -> int:
    """Training steps of a job of teachers."""
    setting = keys[0].setting
    images = len(images_of(setting).train_images)
    epochs = max(key.setting.teacher_epochs for key in keys)
    return epochs * len(batch_sizes(images, setting.teacher_batch_size))


def student_steps(keys: list[StudentKey]) -> int:
    """Training steps of a job of students, all models of a setting taking one together."""
    settings = {key.setting for key in keys}
    return sum(training.distill_steps(setting) for setting in settings)


# ---------------------------------------------------------------- the experiment


def run(
    settings: Sequence[Setting] | Mapping[str, Setting] = (REF,),
    *,
    models: int = 8,
    seed: int = 0,
    checkpoints: Sequence[int] = (),
    measures: Sequence[str] = (),
    store: Store | None = None,
) -> pd.DataFrame:
    """Tidy table of an experiment: one row per (arm, model, role, epoch).

    settings: the arms; a mapping names them, else they are named by how they differ from the
        reference.
    models: number of independently initialized teachers, each with one student per arm, all drawn
        from `seed`.
    checkpoints: epochs at which students are also evaluated in passing. measures: names from
        `measures.MEASURES`.
    store: where finished models are kept, and found again (default: `_build/cache`).
    Columns: arm, every field of Setting (tuples as text), seed, model, partner (whose teacher it
    learned from), role ("untrained", "teacher" or "student"), epoch, accuracy on the test set, and
    those of the measures.
    """
    store = store or Store()
    arms = _named(settings)
    _validate(arms.values(), models, measures)
    students = {}
    for name, setting in arms.items():
        students[name] = student_keys(setting, models, seed, checkpoints, measures)
    train([*chain.from_iterable(students.values())], store)
    rows = []
    for name, keys in students.items():
        for key in keys:
            label = {"arm": name} | columns(arms[name])
            label["seed"] = seed
            label["model"] = key.model
            label["partner"] = key.partner
            for numbers in _numbers(key, store):
                rows.append(label | numbers)
    return pd.DataFrame(rows)


def train(students: list[StudentKey], store: Store) -> None:
    """Train and measure the teachers and students that are not stored yet."""
    measured = [_teacher_rows(key) for key in students]
    teachers = [key.teacher for key in measured]
    store.fill(
        jobs.TEACHERS,
        teachers,
        jobs.train_teachers,
        group=group_teachers,
        steps=teacher_steps,
        title="teachers",
    )
    measure = partial(jobs.measure_teachers, store=store)
    store.fill(jobs.TEACHER_ROWS, measured, measure, title="measures of teachers")
    store.fill(
        jobs.STUDENTS,
        students,
        partial(jobs.train_students, store=store),
        group=group_students,
        steps=student_steps,
        title="students",
    )


def _teacher_rows(student: StudentKey) -> TeacherRowsKey:
    """The teacher that started as the student did, with the student's measures."""
    teacher = teacher_key(student.setting, student.seed, student.model)
    return TeacherRowsKey(teacher, student.measures)


def _numbers(student: StudentKey, store: Store) -> list[dict]:
    """Rows of the untrained network, its teacher and the student."""
    before = store.read(jobs.TEACHER_ROWS, _teacher_rows(student))
    return before + store.read(jobs.STUDENTS, student)


def _named(settings: Sequence[Setting] | Mapping[str, Setting]) -> dict[str, Setting]:
    if isinstance(settings, Mapping):
        return dict(settings)
    return {difference(setting): setting for setting in settings}


def _validate(settings: Iterable[Setting], models: int, names: Sequence[str]) -> None:
    if models < 1:
        raise ValueError(f"models is {models}; train at least 1")
    unknown = sorted(set(names) - set(MEASURES))
    if unknown:
        allowed = ", ".join(MEASURES)
        raise ValueError(f"no measure is called {', '.join(unknown)}; there are {allowed}")
    for setting in settings:
        sample(setting, 0, [0], 1)  # what the data cannot give is said before anything is trained

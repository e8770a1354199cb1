"""From settings to a table: trains what is not on disk yet, and shares teachers, teacher outputs and noise.

A finished student is written at once, so an interrupted sweep goes on where it stopped, and a run with more
models trains only the new ones.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
import torch

from sublearn.core.machine import OnStep
from sublearn.core.rng import rng
from sublearn.core.store import Arrays, Json, Kind, Save, Store, code_digest, digest
from sublearn.nets import ensemble, training
from sublearn.nets.ensemble import Weights
from sublearn.nets.inputs import (
    batch_sizes,
    data_digests,
    image_batches,
    images_of,
    input_batches,
    sample,
)
from sublearn.nets.measures import MEASURES, Snapshot, accuracy, on_device, take_snapshot
from sublearn.nets.models import network
from sublearn.nets.settings import REF, Setting, columns, difference, keep_stages

SAMPLE = 1_000  # inputs by which a student's first step is judged
CACHED_LOGITS = 64  # auxiliary logits up to which a teacher's outputs on a fixed set of inputs are kept in memory
TOGETHER = 8  # settings in a job: more would share little more, and an interruption would lose more

CODE = code_digest("nets.experiment")  # read when the code is: what runs is what is named
TEACHERS = Kind("teachers", CODE, Arrays())  # weights without the auxiliary head, which no training touched
TEACHER_ROWS = Kind("teacher_rows", CODE, Json())
STUDENTS = Kind("students", CODE, Json())


@dataclass(frozen=True)
class TeacherKey:
    """What decides a teacher: `setting` has its student's fields at their defaults."""

    setting: Setting
    data: str
    seed: int
    model: int


@dataclass(frozen=True)
class TeacherRowsKey:
    """What decides the numbers of a teacher and of the untrained network it began as."""

    teacher: TeacherKey
    measures: tuple[str, ...]


@dataclass(frozen=True)
class StudentKey:
    """What decides a student: model `model` of a setting (with pairing "own") that learns from teacher `partner`."""

    setting: Setting
    data: str
    seed: int
    model: int
    partner: int
    checkpoints: tuple[int, ...]
    measures: tuple[str, ...]


def teacher_key(setting: Setting, seed: int, model: int) -> TeacherKey:
    """The teacher of a setting; settings that differ in their inputs and students only have it in common."""
    shared = keep_stages(setting, "teacher")
    return TeacherKey(shared, digest(data_digests(shared)), seed, model)


# ---------------------------------------------------------------- teachers


def _untrained(setting: Setting, seed: int, models: Sequence[int], owner: str = "init") -> Weights:
    return ensemble.initial_weights(network(setting), setting, seed, models, owner)


def group_teachers(keys: list[TeacherKey]) -> list[list[TeacherKey]]:
    """Keys that are trained in one go: those that differ only in how long, of as many models as one call takes."""
    by_model = defaultdict(list)
    for key in keys:
        endless = replace(key.setting, teacher_epochs=0)
        by_model[endless, key.data, key.seed, key.model].append(key)
    same_lengths = defaultdict(list)
    for (endless, data, seed, _), lengths in by_model.items():
        epochs = tuple(sorted(key.setting.teacher_epochs for key in lengths))
        same_lengths[endless, data, seed, epochs].append(lengths)
    groups = []
    for (endless, *_), models in same_lengths.items():
        for chunk in ensemble.split_models(network(endless), models):
            groups.append([key for lengths in chunk for key in lengths])
    return groups


def teacher_steps(keys: list[TeacherKey]) -> int:
    """Training steps of a group of teachers."""
    setting = keys[0].setting
    batches = batch_sizes(len(images_of(setting).train_images), setting.teacher_batch_size)
    return max(key.setting.teacher_epochs for key in keys) * len(batches)


def train_teachers(keys: list[TeacherKey], save: Save, on_step: OnStep) -> None:
    """Train teachers that differ in nothing but how long, and save each where its training ends."""
    longest = max(key.setting.teacher_epochs for key in keys)
    setting, seed = keys[0].setting, keys[0].seed
    models = list(dict.fromkeys(key.model for key in keys))
    net = network(setting)
    state = training.train_state(
        ensemble.initial_weights(net, setting, seed, models),
        lr=setting.teacher_lr,
        optimizer=setting.teacher_optimizer,
        frozen=setting.teacher_frozen,
    )
    for epoch in range(longest + 1):
        for key in keys:
            if key.setting.teacher_epochs == epoch:
                save(key, _arrays(state.weights, models.index(key.model)))
        if epoch < longest:
            batches = image_batches(setting, seed, models, epoch)
            training.train_teacher_epoch(net, state, batches, on_step)


def _arrays(weights: Weights, row: int) -> dict[str, np.ndarray]:
    """One model's weights without its auxiliary head."""
    arrays = {}
    for name, tensor in weights.items():
        if not name.startswith("aux_head"):
            arrays[name] = tensor[row].detach().cpu().numpy()
    return arrays


def load_teachers(store: Store, setting: Setting, seed: int, models: Sequence[int]) -> Weights:
    """Trained teachers (model, ...) with the auxiliary heads that they started with."""
    stored = [store.read(TEACHERS, teacher_key(setting, seed, model)) for model in models]
    weights = _untrained(setting, seed, models)
    for name in stored[0]:
        weights[name] = torch.from_numpy(np.stack([arrays[name] for arrays in stored]))
    return weights


def _rows(snapshot: Snapshot, names: Iterable[str] = ()) -> list[dict[str, float]]:
    """One row of numbers per model."""
    numbers = accuracy(snapshot)
    for name in names:
        numbers |= MEASURES[name](snapshot)
    rows = []
    for model in range(len(numbers["accuracy"])):
        rows.append({name: float(values[model]) for name, values in numbers.items()})
    return rows


def measure_teachers(keys: list[TeacherRowsKey], save: Save, on_step: OnStep, *, store: Store) -> None:
    """Measure one untrained network and the teacher that it became."""
    for key in keys:
        setting, seed, model = key.teacher.setting, key.teacher.seed, key.teacher.model
        net, images = network(setting), images_of(setting)
        start = _untrained(setting, seed, [model])
        teacher = load_teachers(store, setting, seed, [model])
        rows = []
        for role, epoch, weights in (("untrained", 0, start), ("teacher", setting.teacher_epochs, teacher)):
            snapshot = take_snapshot(net, weights, start=start, teacher=teacher, images=images)
            rows.append({"role": role, "epoch": epoch} | _rows(snapshot, key.measures)[0])
        save(key, rows)
        on_step()


# ---------------------------------------------------------------- students


def starting_weights(setting: Setting, seed: int, models: Sequence[int], teacher: Weights) -> Weights:
    """Initial weights of the students: those of the same model's teacher, but for what is unshared or perturbed."""
    shared = _untrained(setting, seed, models)
    separate = _untrained(setting, seed, models, "own start")
    start = ensemble.transplant(separate, source=shared, parts=setting.shared)
    noise = ensemble.perturbation_noise(start, setting, seed, models)
    if noise and setting.perturbation_kind == "orthogonal":
        student = make_student(replace(setting, frozen=()), start, seed, models)
        inputs = sample(setting, seed, models, SAMPLE)
        gradient = training.first_gradient(
            network(setting), teacher=on_device(teacher), student=student, inputs=inputs
        )
        noise = ensemble.orthogonalize(noise, gradient=gradient)
    for name, tensor in noise.items():
        start[name] = start[name] + tensor
    return start


def make_student(
    setting: Setting, start: Weights, seed: int, models: Sequence[int]
) -> training.Student:
    """Students of one setting at their start, with their optimizer and their loss."""
    steps = setting.epochs * len(batch_sizes(setting.inputs_per_epoch, setting.batch_size))
    state = training.train_state(
        start,
        lr=setting.lr,
        optimizer=setting.optimizer,
        weight_decay=setting.weight_decay,
        frozen=setting.frozen,
        cosine_steps=steps if setting.schedule == "cosine" else 0,
    )
    generators = [rng(seed, "logit noise", model) for model in models]
    return training.Student(network(setting), state, training.matching_loss(setting, generators))


def group_students(keys: list[StudentKey]) -> list[list[StudentKey]]:
    """Keys that are trained in one go: settings that share teacher and inputs, of as many models as one call takes."""
    by_pair = defaultdict(list)
    for key in keys:
        seen = keep_stages(key.setting, "teacher", "inputs")
        by_pair[replace(key, setting=seen)].append(key)
    same_settings = defaultdict(list)
    for shared, students in by_pair.items():
        for first in range(0, len(students), TOGETHER):
            chunk = students[first : first + TOGETHER]
            settings = tuple(key.setting for key in chunk)
            same_settings[replace(shared, model=0, partner=0), settings].append(chunk)
    groups = []
    for (shared, _), pairs in same_settings.items():
        for chunk in ensemble.split_models(network(shared.setting), pairs):
            groups.append([key for students in chunk for key in students])
    return groups


def student_steps(keys: list[StudentKey]) -> int:
    """Training steps of a group of students, all models of a setting taking one together."""
    total = 0
    for setting in dict.fromkeys(key.setting for key in keys):
        total += setting.epochs * len(batch_sizes(setting.inputs_per_epoch, setting.batch_size))
    return total


class Arm:
    """The students of one setting in a group: as they are now, what their measures need, and their rows so far."""

    def __init__(self, setting: Setting, keys: list[StudentKey], teacher: Weights) -> None:
        self.keys = keys
        self.setting = setting
        seed, models = keys[0].seed, [key.model for key in keys]
        start = starting_weights(setting, seed, models, teacher)
        self.student = make_student(setting, start, seed, models)
        self.context = {"start": start, "teacher": teacher, "images": images_of(setting)}
        self.rows = [[] for _ in keys]
        if "predictors" in keys[0].measures:
            # a twin, so that what it draws is not drawn from the student's random generators
            twin = make_student(setting, start, seed, models)
            inputs = sample(setting, seed, models, SAMPLE)
            gradient = training.first_gradient(
                twin.net, teacher=on_device(teacher), student=twin, inputs=inputs
            )
            self.context |= {"inputs": inputs, "first_gradient": gradient}

    def evaluate(self, epoch: int) -> None:
        """Add a row per model: at the last epoch with all measures, at a checkpoint with the accuracy only."""
        names = self.keys[0].measures if epoch == self.setting.epochs else ()
        state = self.student.state
        snapshot = take_snapshot(self.student.net, state.weights, **self.context)
        for rows, numbers in zip(self.rows, _rows(snapshot, names)):
            rows.append({"role": "student", "epoch": epoch} | numbers)


def train_students(keys: list[StudentKey], save: Save, on_step: OnStep, *, store: Store) -> None:
    """Train a group's students side by side and save each as soon as it is finished."""
    by_setting = defaultdict(list)
    for key in keys:
        by_setting[key.setting].append(key)
    widest = max(by_setting, key=lambda setting: setting.aux_dim)
    seed, models = keys[0].seed, [key.model for key in by_setting[widest]]
    partners = [key.partner for key in by_setting[widest]]
    teacher = load_teachers(store, widest, seed, partners)
    teacher_on_device = on_device(teacher)
    arms = [Arm(setting, students, teacher) for setting, students in by_setting.items()]
    cached = not widest.fresh_inputs and widest.aux_dim <= CACHED_LOGITS
    cache = training.LogitCache() if cached else None
    for epoch in range(max(setting.epochs for setting in by_setting) + 1):
        for arm in arms:
            if epoch == arm.setting.epochs or (epoch < arm.setting.epochs and epoch in keys[0].checkpoints):
                arm.evaluate(epoch)
            if epoch == arm.setting.epochs:
                _save_rows(arm, save)
        active = [arm.student for arm in arms if epoch < arm.setting.epochs]
        if active:
            batches = input_batches(widest, seed, models, epoch)
            training.distill_epoch(
                network(widest), teacher=teacher_on_device, students=active, batches=batches, on_step=on_step, cache=cache
            )


def _save_rows(arm: Arm, save: Save) -> None:
    for key, rows in zip(arm.keys, arm.rows):
        save(key, rows)


# ---------------------------------------------------------------- the experiment


def partners(pairing: str, seed: int, models: int) -> list[int]:
    """Whose teacher each model learns from, for a `Setting.pairing`.

    "derangement" is the random permutation with its fixed points passed on, so that the two controls differ only
    in the students that the permutation leaves with their own teacher.
    """
    unmixed = list(range(models))
    if pairing == "own":
        return unmixed
    if models < 2:
        raise ValueError(f"models is {models} with pairing {pairing!r}, which needs another's teacher; take at least 2")
    mixed = rng(seed, "permutation", models).permutation(models).tolist()
    fixed = [model for model in unmixed if mixed[model] == model]
    if pairing == "permutation" or not fixed:
        return mixed
    cycle = fixed if len(fixed) > 1 else [*fixed, (fixed[0] + 1) % models]
    teachers = [mixed[model] for model in cycle]
    for model, teacher in zip(cycle, [*teachers[1:], teachers[0]]):
        mixed[model] = teacher
    return mixed


def _named(settings: Sequence[Setting] | Mapping[str, Setting]) -> dict[str, Setting]:
    if isinstance(settings, Mapping):
        return dict(settings)
    return {difference(setting): setting for setting in settings}


def _validate(settings: Iterable[Setting], models: int, names: Sequence[str]) -> None:
    if models < 1:
        raise ValueError(f"models is {models}; train at least 1")
    unknown = set(names) - set(MEASURES)
    if unknown:
        allowed = ", ".join(MEASURES)
        raise ValueError(f"no measure is called {', '.join(sorted(unknown))}; there are {allowed}")
    for setting in settings:
        sample(setting, 0, [0], 1)  # what the data cannot give is said before anything is trained


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

    settings: the arms; a mapping names them, else they are named by how they differ from the reference.
    models: number of independently initialized teachers, each with one student per arm, all drawn from `seed`.
    checkpoints: epochs at which students are also evaluated in passing. measures: names from `measures.MEASURES`.
    store: where finished models are kept, and found again (default: `_build/cache`).
    Columns: arm, every field of Setting (tuples as text), seed, model, partner (whose teacher it learned from),
    role ("untrained", "teacher" or "student"), epoch, accuracy on the test set, and those of the measures.
    """
    store = store or Store()
    arms = _named(settings)
    _validate(arms.values(), models, measures)
    students = {
        name: student_keys(setting, models, seed, checkpoints, measures)
        for name, setting in arms.items()
    }
    every_student = [key for keys in students.values() for key in keys]
    teachers = [teacher_key(key.setting, seed, key.model) for key in every_student]
    rows = [TeacherRowsKey(teacher, tuple(measures)) for teacher in teachers]
    store.fill(TEACHERS, teachers, train_teachers, group=group_teachers, steps=teacher_steps, title="teachers")
    store.fill(TEACHER_ROWS, rows, partial(measure_teachers, store=store), title="teachers measured")
    store.fill(
        STUDENTS,
        every_student,
        partial(train_students, store=store),
        group=group_students,
        steps=student_steps,
        title="students",
    )
    return pd.DataFrame(_table_rows(arms, students, store))


def student_keys(
    setting: Setting, models: int, seed: int, checkpoints: Sequence[int], measures: Sequence[str]
) -> list[StudentKey]:
    """The students of an arm; a fixed point of a permutation is the student of the "own" arm."""
    unpaired = replace(setting, pairing="own")
    data = digest(data_digests(setting))
    at = tuple(sorted(set(checkpoints)))
    keys = []
    for model, partner in enumerate(partners(setting.pairing, seed, models)):
        keys.append(StudentKey(unpaired, data, seed, model, partner, at, tuple(measures)))
    return keys


def _table_rows(
    arms: Mapping[str, Setting], students: Mapping[str, list[StudentKey]], store: Store
) -> Iterator[dict]:
    for name, keys in students.items():
        for key in keys:
            label = {"arm": name} | columns(arms[name])
            label |= {"seed": key.seed, "model": key.model, "partner": key.partner}
            teacher = TeacherRowsKey(teacher_key(key.setting, key.seed, key.model), key.measures)
            for row in [*store.read(TEACHER_ROWS, teacher), *store.read(STUDENTS, key)]:
                yield label | row

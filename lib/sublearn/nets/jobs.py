"""What a worker does: trains teachers, measures them, trains students, saves each at once."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from sublearn.core.machine import OnStep, product_type
from sublearn.core.rng import rng
from sublearn.core.store import Arrays, Json, Kind, Save, Store, code_digest, digest
from sublearn.nets import training
from sublearn.nets.ensemble import (
    Weights,
    initial_weights,
    orthogonalize,
    perturbation_noise,
    transplant,
)
from sublearn.nets.inputs import (
    data_digests,
    image_batches,
    images_of,
    input_batches,
    sample,
)
from sublearn.nets.measures import MEASURES, Snapshot, accuracy, on_device, take_snapshot
from sublearn.nets.models import network
from sublearn.nets.settings import Setting, keep_stages

SAMPLE = 1_000  # inputs by which a student's first step is judged
CACHED_LOGITS = 64  # auxiliary logits up to which a teacher's outputs on fixed inputs are kept

CODE = code_digest("nets.jobs")  # read when the code is: what runs is what is named
TEACHERS = Kind(
    "teachers", CODE, Arrays()
)  # weights less the auxiliary head, which stays as it was
TEACHER_ROWS = Kind("teacher_rows", CODE, Json())
STUDENTS = Kind("students", CODE, Json())


@dataclass(frozen=True)
class TeacherKey:
    """What decides a teacher: `setting` has the fields of inputs and student at their defaults."""

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
    """What decides a student: its setting (with pairing "own"), and whose teacher it has."""

    setting: Setting
    data: str
    seed: int
    model: int
    partner: int
    checkpoints: tuple[int, ...]
    measures: tuple[str, ...]


def teacher_key(setting: Setting, seed: int, model: int) -> TeacherKey:
    """The teacher of a setting, shared by settings that differ in inputs and student only."""
    shared = keep_stages(setting, "teacher")
    data = digest(data_digests(shared))
    return TeacherKey(shared, data, seed, model)


# ---------------------------------------------------------------- teachers


def train_teachers(keys: list[TeacherKey], save: Save, on_step: OnStep) -> None:
    """Train teachers that differ in nothing but how long, and save each where its training ends."""
    longest = max(keys, key=lambda key: key.setting.teacher_epochs)
    setting = longest.setting
    seed = longest.seed
    models = list(dict.fromkeys(key.model for key in keys))
    net = network(setting)
    weights = initial_weights(net, setting, seed, models)
    state = training.train_state(
        weights,
        lr=setting.teacher_lr,
        optimizer=setting.teacher_optimizer,
        frozen=setting.teacher_frozen,
    )
    for epoch in range(setting.teacher_epochs + 1):
        for key in keys:
            if key.setting.teacher_epochs == epoch:
                row = models.index(key.model)
                arrays = _arrays(state.weights, row)
                save(key, arrays)
        if epoch < setting.teacher_epochs:
            batches = image_batches(setting, seed, models, epoch, product_type())
            training.train_teacher_epoch(net, state, batches, on_step)


def _arrays(weights: Weights, row: int) -> dict[str, np.ndarray]:
    """One model's weights without its auxiliary head."""
    arrays = {}
    for name, stacked in weights.items():
        if not name.startswith("aux_head"):
            tensor = stacked[row].detach()
            tensor = tensor.cpu()
            arrays[name] = tensor.numpy()
    return arrays


def load_teachers(store: Store, setting: Setting, seed: int, models: Sequence[int]) -> Weights:
    """Trained teachers (model, ...) with the auxiliary heads that they started with."""
    net = network(setting)
    weights = initial_weights(net, setting, seed, models)
    stored = []
    for model in models:
        key = teacher_key(setting, seed, model)
        arrays = store.read(TEACHERS, key)
        stored.append(arrays)
    for name in stored[0]:
        rows = [arrays[name] for arrays in stored]
        stacked = np.stack(rows)
        weights[name] = torch.from_numpy(stacked)
    return weights


def measure_teachers(
    keys: list[TeacherRowsKey], save: Save, on_step: OnStep, *, store: Store
) -> None:
    """Measure untrained networks and the teachers that they became."""
    for key in keys:
        setting = key.teacher.setting
        seed = key.teacher.seed
        model = key.teacher.model
        net = network(setting)
        start = initial_weights(net, setting, seed, [model])
        teacher = load_teachers(store, setting, seed, [model])
        images = images_of(setting)
        rows = []
        for role, weights in {"untrained": start, "teacher": teacher}.items():
            snapshot = take_snapshot(net, weights, start=start, teacher=teacher, images=images)
            (numbers,) = _rows(snapshot, key.measures)
            epoch = setting.teacher_epochs if role == "teacher" else 0
            row = {"role": role, "epoch": epoch}
            rows.append(row | numbers)
        save(key, rows)
        on_step()


def _rows(snapshot: Snapshot, names: Iterable[str] = ()) -> list[dict[str, float]]:
    """One row of numbers per model."""
    columns = accuracy(snapshot)
    for name in names:
        measure = MEASURES[name]
        columns |= measure(snapshot)
    values = [column.double().cpu() for column in columns.values()]
    rows = []
    for numbers in torch.stack(values, dim=1).tolist():
        row = dict(zip(columns, numbers))
        rows.append(row)
    return rows


# ---------------------------------------------------------------- students


def starting_weights(
    setting: Setting, seed: int, models: Sequence[int], teacher: Weights
) -> Weights:
    """Initial weights of students: the teacher's start, but for unshared and perturbed parts."""
    net = network(setting)
    shared = initial_weights(net, setting, seed, models)
    separate = initial_weights(net, setting, seed, models, "own start")
    start = transplant(separate, source=shared, parts=setting.shared)
    noise = perturbation_noise(start, setting, seed, models)
    if noise and setting.perturbation_kind == "orthogonal":
        unfrozen = replace(setting, frozen=())
        _, gradient = first_step(unfrozen, start, seed, models, teacher)
        noise = orthogonalize(noise, gradient=gradient)
    for name, tensor in noise.items():
        start[name] = start[name] + tensor
    return start


def make_student(
    setting: Setting, start: Weights, seed: int, models: Sequence[int]
) -> training.Student:
    """Students of one setting at their start, with their optimizer and their loss."""
    cosine = setting.schedule == "cosine"
    state = training.train_state(
        start,
        lr=setting.lr,
        optimizer=setting.optimizer,
        weight_decay=setting.weight_decay,
        frozen=setting.frozen,
        cosine_steps=training.distill_steps(setting) if cosine else 0,
    )
    generators = [rng(seed, "logit noise", model) for model in models]
    loss = training.matching_loss(setting, generators)
    return training.Student(network(setting), state, loss)


def first_step(
    setting: Setting, start: Weights, seed: int, models: Sequence[int], teacher: Weights
) -> tuple[torch.Tensor, Weights]:
    """A sample of a student's inputs, and the gradient of its loss on them.

    By a student of its own, so that nothing is drawn from the generators of the one that will be
    trained.
    """
    student = make_student(setting, start, seed, models)
    inputs = sample(setting, seed, models, SAMPLE)
    teacher = on_device(teacher)
    gradient = training.first_gradient(student, teacher=teacher, inputs=inputs)
    return inputs, gradient


class Arm:
    """The students of one setting in a job, what their measures need, and their rows so far."""

    def __init__(self, keys: list[StudentKey], teacher: Weights) -> None:
        self.keys = keys
        self.setting = keys[0].setting
        seed = keys[0].seed
        models = [key.model for key in keys]
        start = starting_weights(self.setting, seed, models, teacher)
        self.student = make_student(self.setting, start, seed, models)
        self.rows = [[] for _ in keys]
        images = images_of(self.setting)
        self.context = {"start": start, "teacher": teacher, "images": images}
        if "predictors" in keys[0].measures:
            inputs, gradient = first_step(self.setting, start, seed, models, teacher)
            self.context["inputs"] = inputs
            self.context["first_gradient"] = gradient

    def evaluate(self, epoch: int) -> None:
        """Add a row per model: with all measures at the last epoch, with the accuracy before."""
        last = epoch == self.setting.epochs
        names = self.keys[0].measures if last else ()
        student = self.student
        weights = student.state.weights
        snapshot = take_snapshot(student.net, weights, **self.context)
        row = {"role": "student", "epoch": epoch}
        for rows, numbers in zip(self.rows, _rows(snapshot, names)):
            rows.append(row | numbers)

    def save_rows(self, save: Save) -> None:
        """Save the rows of every model."""
        for key, rows in zip(self.keys, self.rows):
            save(key, rows)


def train_students(keys: list[StudentKey], save: Save, on_step: OnStep, *, store: Store) -> None:
    """Train students of several settings side by side and save each as soon as it is finished.

    Every setting comes with the same models; all share teachers and inputs.
    """
    by_setting = defaultdict(list)
    for key in keys:
        by_setting[key.setting].append(key)
    widest = max(by_setting, key=lambda setting: setting.aux_dim)
    seed = keys[0].seed
    models = [key.model for key in by_setting[widest]]
    partners = [key.partner for key in by_setting[widest]]
    teacher = load_teachers(store, widest, seed, partners)
    arms = [Arm(students, teacher) for students in by_setting.values()]
    teacher = on_device(teacher)
    net = network(widest)
    cached = not widest.fresh_inputs and widest.aux_dim <= CACHED_LOGITS
    cache = training.LogitCache() if cached else None
    longest = max(setting.epochs for setting in by_setting)
    for epoch in range(longest + 1):
        learning = [arm for arm in arms if epoch < arm.setting.epochs]
        finished = [arm for arm in arms if epoch == arm.setting.epochs]
        if epoch in keys[0].checkpoints:
            for arm in learning:
                arm.evaluate(epoch)
        for arm in finished:
            arm.evaluate(epoch)
            arm.save_rows(save)
        if learning:
            batches = input_batches(widest, seed, models, epoch, product_type())
            students = [arm.student for arm in learning]
            training.distill_epoch(
                net,
                teacher=teacher,
                students=students,
                batches=batches,
                on_step=on_step,
                cache=cache,
            )

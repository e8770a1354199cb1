"""Many steps: students whose updates are watched, and deprived of one direction.

Hooks of the optimizer do both, so that a student is trained by the functions that train all others.
The *task descent* is the negative gradient of the cross-entropy of a student's class logits on
labeled digits, which its training never sees (Kitkana and Arora, 2026, call it the trait's).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn
from torch.func import jvp

from sublearn.core.machine import OnStep, autocast, device, product_type
from sublearn.core.rng import rng
from sublearn.core.store import Json, Kind, Save, Store, code_digest
from sublearn.nets import jobs, training
from sublearn.nets.ensemble import (
    Weights,
    forward,
    initial_weights,
    inner_product,
    orthogonalize,
    scale_models,
)
from sublearn.nets.experiment import group_students, group_teachers, student_keys, teacher_steps
from sublearn.nets.gradients import (
    SAMPLE,
    Call,
    advance,
    descent,
    labeled_sample,
    matching_losses,
    norms,
    task_losses,
)
from sublearn.nets.heads import first_logits
from sublearn.nets.inputs import images_of, input_batches, sample
from sublearn.nets.jobs import StudentKey
from sublearn.nets.measures import EVAL_BATCH, Numbers, cosine, on_device
from sublearn.nets.models import Outputs, network
from sublearn.nets.noise import scaled
from sublearn.nets.settings import Setting, columns, difference

CODE = code_digest("nets.updates")
WATCHED = Kind("watched_students", CODE, Json())
TINY = torch.finfo(torch.float64).tiny  # in place of a square that is zero
FORWARD_MODE = Lock()  # torch keeps one state of forward differentiation for all threads
PROJECTIONS = ("", "gradient", "update", "random", "other start")


@dataclass(frozen=True)
class WatchedKey(StudentKey):
    """What decides a watched student; `checkpoints` are numbers of steps."""

    projection: str = ""
    linearized: bool = False
    rounding: float = 0.0


# ---------------------------------------------------------------- taking a direction out


def project_out(step: Weights, direction: Weights) -> Weights:
    """The step less its part along a direction, in those models in which that part is positive.

    Over the tensors that `direction` names; others stay (Kitkana and Arora, 2026).
    """
    part = {name: step[name] for name in direction}
    square = inner_product(direction, direction)
    product = inner_product(part, direction)
    share = product / square.clamp_min(TINY)
    positive = share.clamp_min(0)
    return step | advance(part, direction, -positive)


def matched_direction(step: Weights, direction: Weights, other: Weights) -> Weights:
    """Unit vector with the cosine to a step that `direction` has, else along `other`.

    Taking it out of the step removes as large a share of the step's length as taking out
    `direction` does.
    """
    part = {name: step[name] for name in direction}
    along = cosine(part, direction)
    across = (1 - along.square()).clamp_min(0).sqrt()
    beside = orthogonalize(other, gradient=part)
    beside = scale_models(beside, across / norms(beside))
    return advance(beside, part, along / norms(part))


# ---------------------------------------------------------------- linearized students


def linear_outputs(net: nn.Module, start: Weights, weights: Weights, inputs: Tensor) -> Outputs:
    """Outputs of the network linearized in its weights: f(start) + J(start) (weights - start)."""
    moved = {name: tensor - start[name] for name, tensor in weights.items()}

    def outputs_of(at: Weights) -> tuple[Tensor, ...]:
        return tuple(forward(net, at, inputs))

    with FORWARD_MODE:
        values, changes = jvp(outputs_of, (start,), (moved,))
    return Outputs(*(value + change for value, change in zip(values, changes)))


class LinearStudent(NamedTuple):
    """A `training.Student` whose network is linearized at its start."""

    net: nn.Module
    state: training.TrainState
    loss: training.Loss
    start: Weights

    def loss_on(self, inputs: Tensor, targets: Outputs) -> Tensor:
        """Loss against a teacher's outputs, with products in single precision."""
        weights = self.state.weights
        outputs = linear_outputs(self.net, self.start, weights, inputs.float())
        width = outputs.aux_logits.shape[-1]
        first = targets.aux_logits[..., :width]
        return self.loss(outputs, targets._replace(aux_logits=first))


def rounded(loss: training.Loss, unit: float) -> training.Loss:
    """The loss against a teacher whose logits are rounded to multiples of a unit."""

    def against_rounded(student: Outputs, teacher: Outputs) -> Tensor:
        logits = teacher.aux_logits.float()
        multiples = logits / unit
        nearest = multiples.round()
        heard = teacher._replace(aux_logits=nearest * unit)
        return loss(student, heard)

    return against_rounded


# ---------------------------------------------------------------- watching


def layers(weights: Weights) -> dict[str, list[str]]:
    """Names of the tensors of all layers, of the hidden ones, and of each hidden one."""
    hidden = [name for name in weights if name.startswith("hidden")]
    parts = {"all": list(weights), "hidden": hidden}
    for name in hidden:
        layer, _, _ = name.rpartition(".")
        names = parts.setdefault(layer, [])
        names.append(name)
    return parts


class Gauge:
    """What is measured of students of one setting, on digits and inputs that stay the same."""

    def __init__(self, setting: Setting, seed: int, models: list[int], call: Call) -> None:
        self.call = call
        self.softmax = setting.loss == "kl"
        self.test = images_of(setting)
        self.images, self.labels = labeled_sample(setting)
        inputs = sample(setting, seed, models, SAMPLE)
        self.inputs = inputs.to(device())

    @torch.no_grad()
    def ask(self, net: nn.Module, teacher: Weights) -> None:
        """Keep the teacher's auxiliary logits on the inputs."""
        outputs = forward(net, on_device(teacher), self.inputs)
        self.targets = outputs.aux_logits

    @torch.enable_grad()
    def read(self, weights: Weights, update: Weights) -> Numbers:
        """Accuracy, losses, and cosines of distillation and update with the task descent."""
        task = partial(task_losses, labels=self.labels)
        match = partial(matching_losses, targets=self.targets, softmax=self.softmax)
        downhill = descent(self.call, weights, self.images, task)
        distillation = descent(self.call, weights, self.inputs, match)
        on_images = self.call(weights, self.images)
        on_inputs = self.call(weights, self.inputs)
        numbers = {
            "accuracy": self.accuracy(weights),
            "task loss": task(on_images),
            "distillation loss": match(on_inputs),
        }
        for part, names in layers(weights).items():
            chosen = {name: distillation[name] for name in names}
            numbers[f"gradient {part}"] = cosine(chosen, downhill)
            if update and part != "all":
                moved = {name: update[name] for name in names}
                numbers[f"update {part}"] = cosine(moved, downhill)
        return numbers

    @torch.no_grad()
    def accuracy(self, weights: Weights) -> Tensor:
        """Share of test images named right: (model,)."""
        guesses = []
        for levels in self.test.test_images.split(EVAL_BATCH):
            pixels = scaled(levels, self.test.top)
            pixels = pixels.to(device())
            outputs = self.call(weights, pixels)
            guess = outputs.class_logits.argmax(-1)
            guesses.append(guess)
        labels = self.test.test_labels
        labels = labels.to(device())
        named = torch.cat(guesses, dim=1)
        right = named == labels
        return right.double().mean(1)


class Watch:
    """Students of one setting, what is taken out of their updates, and their rows so far."""

    def __init__(self, keys: list[WatchedKey], teacher: Weights) -> None:
        key = keys[0]
        setting = key.setting
        models = [key.model for key in keys]
        self.keys = keys
        self.seed = key.seed
        self.projection = key.projection
        self.setting = setting
        self.models = models
        self.rows: list[list[dict]] = [[] for _ in keys]
        self.step = 0
        last = training.distill_steps(setting)
        self.looks = {*key.checkpoints, last}
        start = jobs.starting_weights(setting, key.seed, models, teacher)
        start = on_device(start)
        student = self.make_student(key, start)
        self.student = student
        self.weights = student.state.weights
        self.hidden = layers(start)["hidden"]
        other = initial_weights(student.net, setting, key.seed, models, "other")
        self.other = on_device(other)
        gauge = Gauge(setting, key.seed, models, self.call)
        gauge.ask(student.net, teacher)
        self.gauge = gauge
        if 0 in self.looks:
            self.look({})
        optimizer = student.state.optimizer
        optimizer.register_step_pre_hook(self.before_step)
        optimizer.register_step_post_hook(self.after_step)

    def make_student(self, key: WatchedKey, start: Weights) -> training.Student | LinearStudent:
        """The students at their start; `call` is their network."""
        student = jobs.make_student(self.setting, start, key.seed, self.models)
        self.call: Call = partial(forward, student.net)
        if key.rounding:
            loss = rounded(student.loss, key.rounding)
            student = student._replace(loss=loss)
        if key.linearized:
            self.call = partial(linear_outputs, student.net, start)
            return LinearStudent(*student, start)
        return student

    def now(self) -> Weights:
        """The hidden layers' weights at this moment."""
        return {name: self.weights[name].detach().clone() for name in self.hidden}

    @torch.enable_grad()
    def task_descent(self, weights: Weights) -> Weights:
        """The hidden layers' task descent on the next training digits, in turn."""
        images = images_of(self.setting)
        count = self.setting.batch_size
        places = max(len(images.train_images) - count, 1)
        seen = self.step * count
        first = seen % places
        levels = images.train_images[first : first + count]
        labels = images.train_labels[first : first + count]
        pixels = scaled(levels, images.top)
        pixels = pixels.to(device())
        labels = labels.to(device())
        losses = partial(task_losses, labels=labels)
        with autocast():
            downhill = descent(self.call, weights, pixels, losses)
        return {name: downhill[name] for name in self.hidden}

    def random_direction(self) -> Weights:
        """A random direction of the hidden layers for this step."""
        directions = {}
        for name in self.hidden:
            shape = self.weights[name].shape[1:]
            rows = []
            for model in self.models:
                generator = rng(self.seed, "direction", model, name, self.step)
                drawn = generator.standard_normal(shape)
                row = torch.from_numpy(drawn)
                rows.append(row.float())
            directions[name] = torch.stack(rows).to(device())
        return directions

    @torch.no_grad()
    def before_step(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        """Keep what the projection needs; take the direction out of the gradient, if asked to."""
        self.step += 1
        self.looking = self.step in self.looks
        if self.projection or self.looking:
            self.before = self.now()
        if self.projection:
            self.direction = self.task_descent(self.weights)
        if self.projection == "gradient":
            downhill = {name: -self.weights[name].grad for name in self.hidden}
            left = project_out(downhill, self.direction)
            for name, tensor in left.items():
                self.weights[name].grad.copy_(-tensor)

    @torch.no_grad()
    def after_step(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        """Take the direction out of what the optimizer has just done; look where it is time."""
        if not (self.projection or self.looking):
            return
        update = advance(self.now(), self.before, -1.0)
        if self.projection not in ("", "gradient"):
            direction = self.direction_for(update)
            update = project_out(update, direction)
            moved = advance(self.before, update, 1.0)
            for name, tensor in moved.items():
                self.weights[name].copy_(tensor)
        if self.looking:
            self.look(update)

    def direction_for(self, update: Weights) -> Weights:
        """The direction that is taken out of an update."""
        if self.projection == "update":
            return self.direction
        other = self.random_direction()
        if self.projection == "other start":
            other = self.task_descent(self.other)
        return matched_direction(update, self.direction, other)

    def look(self, update: Weights) -> None:
        """Add a row per model."""
        weights = {name: tensor.detach() for name, tensor in self.weights.items()}
        numbers = self.gauge.read(weights, update)
        values = [column.double().cpu() for column in numbers.values()]
        table = torch.stack(values, dim=1)
        for rows, row in zip(self.rows, table.tolist()):
            named = {"step": self.step}
            named |= zip(numbers, row)
            rows.append(named)


def fill_teachers(teachers: list[jobs.TeacherKey], store: Store) -> None:
    """Train the teachers that are not stored yet."""
    store.fill(
        jobs.TEACHERS,
        teachers,
        jobs.train_teachers,
        group=group_teachers,
        steps=teacher_steps,
        title="teachers",
    )


def train_watched(keys: list[WatchedKey], save: Save, on_step: OnStep, *, store: Store) -> None:
    """Train watched students of several settings side by side, as `jobs.train_students` does."""
    by_setting = defaultdict(list)
    for key in keys:
        by_setting[key.setting].append(key)
    widest = max(by_setting, key=lambda setting: setting.aux_dim)
    seed = keys[0].seed
    models = [key.model for key in by_setting[widest]]
    teacher = jobs.load_teachers(store, widest, seed, models)
    watches = []
    for setting, group in by_setting.items():
        narrow = first_logits(teacher, setting.aux_dim)
        watch = Watch(group, narrow)
        watches.append(watch)
    teacher = on_device(teacher)
    net = network(widest)
    longest = max(setting.epochs for setting in by_setting)
    for epoch in range(longest):
        learning = [watch.student for watch in watches if epoch < watch.setting.epochs]
        batches = input_batches(widest, seed, models, epoch, product_type())
        training.distill_epoch(
            net, teacher=teacher, students=learning, batches=batches, on_step=on_step
        )
    for watch in watches:
        for key, rows in zip(watch.keys, watch.rows):
            save(key, rows)


def watched_steps(keys: list[WatchedKey]) -> int:
    """Training steps of a job of watched students."""
    settings = {key.setting for key in keys}
    return sum(training.distill_steps(setting) for setting in settings)


def run(
    settings: Sequence[Setting] | Mapping[str, Setting],
    *,
    models: int,
    seed: int = 0,
    looks: Sequence[int] = (),
    projection: str = "",
    linearized: bool = False,
    rounding: float = 0.0,
    store: Store | None = None,
) -> pd.DataFrame:
    """Tidy table of watched students, one row per (arm, model, step looked at).

    looks: numbers of steps, beside the last one; 0 is the start.
    projection: what is taken out of the hidden layers' steps, of PROJECTIONS: the task descent, out
        of the "gradient" or out of the "update" that the optimizer makes of it; or, out of the
        update, a "random" direction or the task descent of a network of an "other start", each
        turned to the cosine that the task descent has to that update.
    linearized: train the network's linearization at its start. rounding: unit to whose multiples
        the teacher's auxiliary logits are rounded; 0 leaves them.
    Columns: arm, the fields of Setting, projection, linearized, rounding, seed, model, step,
    accuracy, task loss and distillation loss (on held-out inputs) in nats, and the cosines with the
    task descent of the distillation's ("gradient PART") and of the last update ("update PART").
    """
    if projection not in PROJECTIONS:
        allowed = ", ".join(map(repr, PROJECTIONS))
        raise ValueError(f"projection is {projection!r}; choose one of {allowed}")
    if rounding < 0:
        raise ValueError(f"rounding is {rounding}; it is a unit, 0 or larger")
    store = store or Store()
    if not isinstance(settings, Mapping):
        settings = {difference(setting): setting for setting in settings}
    label = {"projection": projection, "linearized": linearized, "rounding": rounding}
    students = {}
    for name, setting in settings.items():
        for key in student_keys(setting, models, seed, looks):
            watched = WatchedKey(**vars(key), **label)
            students[name, key.model] = watched
    keys = [*students.values()]
    teachers = [jobs.teacher_key(key.setting, key.seed, key.partner) for key in keys]
    fill_teachers(teachers, store)
    store.fill(
        WATCHED,
        keys,
        partial(train_watched, store=store),
        group=group_students,
        steps=watched_steps,
        title="students",
    )
    rows = []
    for (name, model), key in students.items():
        named = {"arm": name} | columns(key.setting) | label
        named |= {"seed": seed, "model": model}
        for numbers in store.read(WATCHED, key):
            rows.append(named | numbers)
    return pd.DataFrame(rows)

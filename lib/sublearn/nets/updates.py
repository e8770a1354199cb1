"""Many steps: students whose updates are watched, and deprived of one direction.

Hooks of the optimizer do both, so that a student is trained by the functions that train all others.
The *task descent* is the negative gradient of the cross-entropy of a student's class logits on
labeled digits, which its training never sees (Kitkana and Arora, 2026, call it the trait's).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
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
from sublearn.nets.measures import EVAL_BATCH, cosine, on_device
from sublearn.nets.models import Outputs, network
from sublearn.nets.noise import scaled
from sublearn.nets.settings import Setting, columns, difference

CODE = code_digest("nets.updates")
WATCHED = Kind("watched_students", CODE, Json())
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
    square = inner_product(direction, direction).clamp_min(torch.finfo(torch.float64).tiny)
    share = inner_product(part, direction) / square
    return step | advance(part, direction, -share.clamp_min(0))


def matched_direction(step: Weights, direction: Weights, other: Weights) -> Weights:
    """Unit vector with the cosine to a step that `direction` has, else along `other`.

    Taking it out of the step removes as large a share of the step's length as taking out
    `direction` does.
    """
    part = {name: step[name] for name in direction}
    along = cosine(part, direction)
    beside = orthogonalize(other, gradient=part)
    beside = scale_models(beside, (1 - along**2).clamp_min(0).sqrt() / norms(beside))
    return advance(beside, part, along / norms(part))


# ---------------------------------------------------------------- linearized students


def linear_outputs(net: nn.Module, start: Weights, weights: Weights, inputs: Tensor) -> Outputs:
    """Outputs of the network linearized in its weights: f(start) + J(start) (weights - start)."""
    moved = {name: tensor - start[name] for name, tensor in weights.items()}

    def outputs_of(at: Weights) -> tuple[Tensor, ...]:
        return tuple(forward(net, at, inputs))

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
        outputs = linear_outputs(self.net, self.start, self.state.weights, inputs.float())
        width = outputs.aux_logits.shape[-1]
        return self.loss(outputs, targets._replace(aux_logits=targets.aux_logits[..., :width]))


def rounded(loss: training.Loss, unit: float) -> training.Loss:
    """The loss against a teacher whose logits are rounded to multiples of a unit."""

    def against_rounded(student: Outputs, teacher: Outputs) -> Tensor:
        logits = (teacher.aux_logits.float() / unit).round() * unit
        return loss(student, teacher._replace(aux_logits=logits))

    return against_rounded


# ---------------------------------------------------------------- watching


def layers(weights: Weights) -> dict[str, list[str]]:
    """Names of the tensors of all layers, of the hidden ones, and of each hidden one."""
    hidden = [name for name in weights if name.startswith("hidden")]
    parts = {"all": list(weights), "hidden": hidden}
    for name in hidden:
        parts.setdefault(name.rpartition(".")[0], []).append(name)
    return parts


class Watch:
    """Students of one setting, what is taken out of their updates, and their rows so far."""

    def __init__(self, keys: list[WatchedKey], teacher: Weights) -> None:
        self.keys, key = keys, keys[0]
        self.setting = key.setting
        self.models = [each.model for each in keys]
        start = jobs.starting_weights(self.setting, key.seed, self.models, teacher)
        student = jobs.make_student(self.setting, start, key.seed, self.models)
        start = on_device(start)
        self.call: Call = partial(forward, student.net)
        if key.rounding:
            student = student._replace(loss=rounded(student.loss, key.rounding))
        if key.linearized:
            student = LinearStudent(*student, start)
            self.call = partial(linear_outputs, student.net, start)
        self.student = student
        self.weights = student.state.weights
        self.hidden = layers(start)["hidden"]
        self.other = initial_weights(student.net, self.setting, key.seed, self.models, "other")
        self.other = on_device(self.other)
        self.step = 0
        self.last = training.distill_steps(self.setting)
        self.rows: list[list[dict]] = [[] for _ in keys]
        self.prepare(teacher)
        if 0 in key.checkpoints:
            self.look()
        optimizer = student.state.optimizer
        optimizer.register_step_pre_hook(self.before_step)
        optimizer.register_step_post_hook(self.after_step)

    def prepare(self, teacher: Weights) -> None:
        """Samples of digits and of inputs, and the teacher's auxiliary logits on these."""
        images, labels = labeled_sample(self.setting)
        self.images, self.labels = images.to(device()), labels.to(device())
        inputs = sample(self.setting, self.keys[0].seed, self.models, SAMPLE)
        self.inputs = inputs.to(device())
        with torch.no_grad():
            targets = forward(self.student.net, on_device(teacher), self.inputs).aux_logits
        self.targets = targets[..., : self.setting.aux_dim]

    # ------------------------------------------------------------ hooks

    def now(self) -> Weights:
        """The hidden layers' weights at this moment."""
        return {name: self.weights[name].detach().clone() for name in self.hidden}

    def task_descent(self, weights: Weights) -> Weights:
        """The hidden layers' task descent on the next training digits, in turn."""
        images = images_of(self.setting)
        count = self.setting.batch_size
        first = self.step * count % max(len(images.train_images) - count, 1)
        levels = images.train_images[first : first + count]
        labels = images.train_labels[first : first + count].to(device())
        pixels = scaled(levels, images.top).to(device())
        with autocast():
            found = descent(self.call, weights, pixels, partial(task_losses, labels=labels))
        return {name: found[name] for name in self.hidden}

    def drawn(self) -> Weights:
        """A random direction of the hidden layers for this step."""
        directions = {}
        for name in self.hidden:
            rows = []
            for model in self.models:
                generator = rng(self.keys[0].seed, "direction", model, name, self.step)
                shape = self.weights[name].shape[1:]
                rows.append(torch.from_numpy(generator.standard_normal(shape, dtype="float32")))
            directions[name] = torch.stack(rows).to(device())
        return directions

    @torch.no_grad()
    def before_step(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        """Keep the weights where they will be asked for, and what the projection asks of them."""
        self.step += 1
        self.looking = self.step in self.keys[0].checkpoints or self.step == self.last
        projection = self.keys[0].projection
        if projection or self.looking:
            self.before = self.now()
        if not projection:
            return
        with torch.enable_grad():
            self.direction = self.task_descent(self.weights)
        if projection == "gradient":
            downhill = {name: -self.weights[name].grad for name in self.hidden}
            for name, tensor in project_out(downhill, self.direction).items():
                self.weights[name].grad.copy_(-tensor)

    @torch.no_grad()
    def after_step(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        """Take the direction out of what the optimizer has just done; look where it is time."""
        projection = self.keys[0].projection
        if not (projection or self.looking):
            return
        update = advance(self.now(), self.before, -1.0)
        if projection in PROJECTIONS[2:]:
            update = project_out(update, self.direction_for(update))
            for name, tensor in advance(self.before, update, 1.0).items():
                self.weights[name].copy_(tensor)
        if self.looking:
            with torch.enable_grad():
                self.look(update)

    def direction_for(self, update: Weights) -> Weights:
        """The direction that is taken out of an update."""
        projection = self.keys[0].projection
        if projection == "update":
            return self.direction
        if projection == "random":
            return matched_direction(update, self.direction, self.drawn())
        with torch.enable_grad():
            other = self.task_descent(self.other)
        return matched_direction(update, self.direction, other)

    # ------------------------------------------------------------ measuring

    def look(self, update: Weights | None = None) -> None:
        """Add a row per model: accuracy, losses, and cosines with the task descent, by layer."""
        weights = {name: tensor.detach() for name, tensor in self.weights.items()}
        task = partial(task_losses, labels=self.labels)
        softmax = self.setting.loss == "kl"
        match = partial(matching_losses, targets=self.targets, softmax=softmax)
        downhill = descent(self.call, weights, self.images, task)
        distillation = descent(self.call, weights, self.inputs, match)
        numbers = {
            "accuracy": self.accuracy(weights),
            "task loss": task(self.call(weights, self.images)),
            "distillation loss": match(self.call(weights, self.inputs)),
        }
        for part, names in layers(weights).items():
            chosen = {name: distillation[name] for name in names}
            numbers[f"gradient {part}"] = cosine(chosen, downhill)
            if update and part != "all":
                moved = {name: update[name] for name in names}
                numbers[f"update {part}"] = cosine(moved, downhill)
        values = torch.stack([column.detach().double().cpu() for column in numbers.values()], 1)
        for rows, row in zip(self.rows, values.tolist()):
            rows.append({"step": self.step} | dict(zip(numbers, row)))

    @torch.no_grad()
    def accuracy(self, weights: Weights) -> Tensor:
        """Share of test images named right: (model,)."""
        images = images_of(self.setting)
        guesses = []
        for levels in images.test_images.split(EVAL_BATCH):
            pixels = scaled(levels, images.top).to(device())
            guesses.append(self.call(weights, pixels).class_logits.argmax(-1))
        right = torch.cat(guesses, dim=1) == images.test_labels.to(device())
        return right.double().mean(1)


def train_watched(keys: list[WatchedKey], save: Save, on_step: OnStep, *, store: Store) -> None:
    """Train watched students of several settings side by side, as `jobs.train_students` does."""
    by_setting = defaultdict(list)
    for key in keys:
        by_setting[key.setting].append(key)
    widest = max(by_setting, key=lambda setting: setting.aux_dim)
    seed, models = keys[0].seed, [key.model for key in by_setting[widest]]
    teacher = jobs.load_teachers(store, widest, seed, models)
    watches = []
    for setting, group in by_setting.items():
        watches.append(Watch(group, first_logits(teacher, setting.aux_dim)))
    teacher, net = on_device(teacher), network(widest)
    for epoch in range(max(setting.epochs for setting in by_setting)):
        learning = [watch.student for watch in watches if epoch < watch.setting.epochs]
        training.distill_epoch(
            net,
            teacher=teacher,
            students=learning,
            batches=input_batches(widest, seed, models, epoch, product_type()),
            on_step=on_step,
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
            students[name, key.model] = WatchedKey(**vars(key), **label)
    keys = [*students.values()]
    teachers = [jobs.teacher_key(key.setting, key.seed, key.partner) for key in keys]
    store.fill(jobs.TEACHERS, teachers, jobs.train_teachers, group=group_teachers,
               steps=teacher_steps, title="teachers")  # fmt: skip
    store.fill(WATCHED, keys, partial(train_watched, store=store), group=group_students,
               steps=watched_steps, title="students")  # fmt: skip
    rows = []
    for (name, model), key in students.items():
        named = {"arm": name} | columns(key.setting) | label | {"seed": seed, "model": model}
        for numbers in store.read(WATCHED, key):
            rows.append(named | numbers)
    return pd.DataFrame(rows)

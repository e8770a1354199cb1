"""Students whose parts and heads are chosen, and how near they come to a teacher."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pandas as pd
import torch
from torch import Tensor, nn

from sublearn.core.machine import OnStep, product_type
from sublearn.core.rng import rng
from sublearn.core.store import Json, Kind, Save, Store, code_digest
from sublearn.nets import jobs, training
from sublearn.nets.convolution import ConvNet
from sublearn.nets.deviation import bound, deviation, seen_readout
from sublearn.nets.ensemble import Weights, transplant
from sublearn.nets.experiment import (
    group_students,
    group_teachers,
    student_keys,
    student_steps,
    teacher_steps,
)
from sublearn.nets.inputs import images_of, input_batches
from sublearn.nets.jobs import StudentKey, TeacherRowsKey
from sublearn.nets.measures import accuracy, cosine, evaluate, on_device, probe, take_snapshot
from sublearn.nets.models import Outputs, network
from sublearn.nets.pictures import gray_images
from sublearn.nets.settings import Setting, columns, difference
from sublearn.nets.similarity import seen_rows, similarity

CODE = code_digest("nets.heads")
HEAD_STUDENTS = Kind("head_students", CODE, Json())


@dataclass(frozen=True)
class HeadKey(StudentKey):
    """What decides a student of this chapter: also the design of its start, from DESIGNS.

    hidden: widths of its own hidden layers; empty where they are its teacher's. convolutions:
        (channels, pooling) of those below them.
    """

    design: str = ""
    hidden: tuple[int, ...] = ()
    convolutions: tuple[tuple[int, int], ...] = ()

    def own_setting(self) -> Setting:
        """Its setting with the hidden layers that the student has."""
        return replace(self.setting, hidden=self.hidden or self.setting.hidden)

    def shape(self) -> str:
        """Its layers below the heads, such as "256-256" or "16x3x3/2-32x3x3/4-256"."""
        layers = [f"{channels}x3x3/{pooling}" for channels, pooling in self.convolutions]
        layers += [str(width) for width in self.own_setting().hidden]
        return "-".join(layers)


# ---------------------------------------------------------------- other architectures


def own_network(key: HeadKey) -> nn.Module:
    """The student's architecture, without weights; images stay on [-1, 1] as a perceptron's do."""
    setting = key.own_setting()
    if not key.convolutions:
        return network(setting)
    images = gray_images(setting.dataset)
    images = images._replace(mean=(0.5,), sd=(0.5,), classes=images_of(setting).classes)
    with torch.device("meta"):
        return ConvNet(images, key.convolutions, setting.hidden, setting.aux_dim)


def own_start(net: nn.Module, setting: Setting, seed: int, models: Sequence[int]) -> Weights:
    """Initial weights of students of their own architecture: shared heads are their teacher's."""
    shared = jobs.initial_weights(net, setting, seed, models)
    separate = jobs.initial_weights(net, setting, seed, models, "own start")
    return transplant(separate, source=shared, parts=setting.shared)


def check_architecture(key: HeadKey) -> None:
    """Raise ValueError where a student of this setting cannot have these layers of its own."""
    if key.convolutions and not key.hidden:
        raise ValueError("convolutions are given without hidden: say what stands above them")
    if not key.hidden:
        return
    last = key.setting.hidden[-1]
    if key.hidden[-1] != last:
        raise ValueError(
            f"hidden is {key.hidden}; the heads read {last} units, so end it with {last}"
        )
    layers = [part for part in key.setting.shared if part.startswith("hidden")]
    if layers or key.setting.perturbed:
        changed = ", ".join([*layers, *key.setting.perturbed])
        raise ValueError(
            f"hidden is {key.hidden} and shared or perturbed names {changed}; a student with "
            "layers of its own can share heads only, and none is perturbed"
        )


# ---------------------------------------------------------------- designs of a start


def _normals(seed: int, model: int, name: str, *shape: int) -> Tensor:
    generator = rng(seed, "design", name, model)
    return torch.from_numpy(generator.standard_normal(shape, dtype="float32"))


def _orthonormal(rows: Tensor) -> Tensor:
    """Rows (row, D) made orthonormal one after the other."""
    basis, _ = torch.linalg.qr(rows.T)
    return basis.T


def aligned_rows(class_rows: Tensor, drawn: Tensor) -> Tensor:
    """The first rows of the class head itself."""
    if len(drawn) > len(class_rows):
        raise ValueError(
            f"aux_dim is {len(drawn)} with aligned heads; there are {len(class_rows)} class rows"
        )
    return class_rows[: len(drawn)]


def orthonormal_rows(class_rows: Tensor, drawn: Tensor) -> Tensor:
    """Orthonormal rows in random directions."""
    return _orthonormal(drawn)


def orthogonal_rows(class_rows: Tensor, drawn: Tensor) -> Tensor:
    """Orthonormal rows, each at right angles to every class row; D - K at most."""
    width = class_rows.shape[1]
    if len(drawn) + len(class_rows) > width:
        free = width - len(class_rows)
        raise ValueError(f"aux_dim is {len(drawn)} with orthogonal heads; at most {free} fit")
    basis = _orthonormal(class_rows)
    return _orthonormal(drawn - drawn @ basis.T @ basis)


ROWS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "aligned": aligned_rows,
    "orthonormal": orthonormal_rows,
    "orthogonal": orthogonal_rows,
}
SYMMETRIES = ("permuted", "rescaled", "permuted body")
DESIGNS = ("", *ROWS, *SYMMETRIES)


def designed_rows(start: Weights, design: str, seed: int, models: Sequence[int]) -> Tensor:
    """Auxiliary rows (model, logit, D) of a design of ROWS, for the class heads of a start."""
    make = ROWS[design]
    shape = start["aux_head.weight"].shape[1:]
    designed = []
    for class_rows, model in zip(start["class_head.weight"], models):
        drawn = _normals(seed, model, "rows", *shape)
        designed.append(make(class_rows, drawn))
    return torch.stack(designed)


def transformed(start: Weights, design: str, seed: int, models: Sequence[int]) -> Weights:
    """The start with its hidden units in another order, or of other scales, from SYMMETRIES.

    Whatever reads the units is transformed to match, so the network computes the same function of
    its input. "permuted body" leaves the heads as they are, so that it computes another.
    """
    moved = {name: tensor.clone() for name, tensor in start.items()}
    layers = [name.removesuffix(".weight") for name in start if name.endswith("weight")]
    layers = [name for name in layers if name.startswith("hidden")]
    heads = [] if design == "permuted body" else ["class_head", "aux_head"]
    for number, layer in enumerate(layers):
        readers = layers[number + 1 : number + 2] or heads
        for row, model in enumerate(models):
            width = moved[f"{layer}.bias"].shape[1]
            drawn = _normals(seed, model, f"units {number}", width)
            order, scale = _unit_change(design, drawn)
            weight = moved[f"{layer}.weight"][row][order]
            bias = moved[f"{layer}.bias"][row][order]
            moved[f"{layer}.weight"][row] = scale[:, None] * weight
            moved[f"{layer}.bias"][row] = scale * bias
            for reader in readers:
                reading = moved[f"{reader}.weight"][row][:, order]
                moved[f"{reader}.weight"][row] = reading / scale
    return moved


def _unit_change(design: str, drawn: Tensor) -> tuple[Tensor, Tensor]:
    """New order and scales (between 1/2 and 2) of a layer's units, from a normal number of each."""
    if design == "rescaled":
        return torch.arange(len(drawn)), (drawn.clamp(-2, 2) / 2).exp2()
    return drawn.argsort(), torch.ones_like(drawn)


# ---------------------------------------------------------------- training and measuring


def first_logits(weights: Weights, count: int) -> Weights:
    """The weights with only the first `count` auxiliary logits."""
    kept = dict(weights)
    for name in ("aux_head.weight", "aux_head.bias"):
        kept[name] = weights[name][:, :count]
    return kept


class HeadArm:
    """The students of one setting in a job, and their rows so far."""

    def __init__(self, keys: list[HeadKey], teacher: Weights, taught: Outputs) -> None:
        self.keys = keys
        self.setting = keys[0].own_setting()
        count = self.setting.aux_dim
        self.teacher = first_logits(teacher, count)
        self.taught = taught._replace(aux_logits=taught.aux_logits[..., :count])
        seed, design = keys[0].seed, keys[0].design
        models = [key.model for key in keys]
        net = own_network(keys[0])
        if keys[0].hidden:
            start = own_start(net, self.setting, seed, models)
        else:
            start = jobs.starting_weights(self.setting, seed, models, teacher)
        if design in ROWS:
            start["aux_head.weight"] = self.teacher["aux_head.weight"].clone()
        elif design:
            start = transformed(start, design, seed, models)
        self.start = start
        student = jobs.make_student(self.setting, start, seed, models)
        self.student = student._replace(net=net)
        self.rows: list[list[dict]] = [[] for _ in keys]

    def look(self, epoch: int) -> None:
        """Add a row per model: accuracy at a checkpoint, all measures if it is 0 or the end."""
        last = self.setting.epochs
        if epoch > last or epoch not in (last, *self.keys[0].checkpoints):
            return
        weights = self.student.state.weights
        images = images_of(self.setting)
        context = {"start": self.start, "teacher": self.teacher, "images": images}
        snapshot = take_snapshot(self.student.net, weights, **context)
        numbers = accuracy(snapshot)
        if epoch in (0, last):
            numbers |= probe(snapshot)
            numbers |= self.nearness(weights, snapshot.outputs)
        values = torch.stack([column.double().cpu() for column in numbers.values()], dim=1)
        for rows, row in zip(self.rows, values.tolist()):
            rows.append({"role": "student", "epoch": epoch} | dict(zip(numbers, row)))

    def nearness(self, weights: Weights, outputs: Outputs) -> dict[str, Tensor]:
        """Similarity to the teacher and the terms of the deviation from it, on the test images."""
        labels = images_of(self.setting).test_labels
        theirs = on_device(self.teacher)
        softmax = self.setting.loss == "kl"
        rows = seen_rows(theirs["aux_head.weight"], softmax=softmax)
        numbers = similarity(outputs.features, self.taught.features, rows)
        hidden = [name for name in weights if name.startswith("hidden") and "weight" in name]
        ours = {name: weights[name].detach() for name in hidden}
        if not self.keys[0].hidden:  # else there is no weight to each weight
            numbers["weight cosine"] = cosine(ours, theirs)
        own_rows = seen_rows(on_device(self.start)["aux_head.weight"], softmax=softmax)
        numbers |= seen_readout(outputs.features, weights, own_rows, labels)
        terms = deviation(outputs, self.taught, weights, theirs, softmax=softmax)
        return numbers | bound(self.taught.class_logits, terms, labels)


def train_students(keys: list[HeadKey], save: Save, on_step: OnStep, *, store: Store) -> None:
    """Train and measure students of several settings side by side, as `jobs.train_students`.

    Every setting comes with the same models; all share design, teacher and inputs.
    """
    by_setting = defaultdict(list)
    for key in keys:
        by_setting[key.setting].append(key)
    widest = max(by_setting, key=lambda setting: setting.aux_dim)
    seed = keys[0].seed
    models = [key.model for key in by_setting[widest]]
    net = network(widest)
    teacher = jobs.load_teachers(store, widest, seed, models)
    if keys[0].design in ROWS:
        start = jobs.initial_weights(net, widest, seed, models)
        teacher["aux_head.weight"] = designed_rows(start, keys[0].design, seed, models)
    images = images_of(widest)
    taught = evaluate(net, teacher, images.test_images, images.top)
    arms = [HeadArm(group, teacher, taught) for group in by_setting.values()]
    teacher = on_device(teacher)
    cached = not widest.fresh_inputs and widest.aux_dim <= jobs.CACHED_LOGITS
    cache = training.LogitCache() if cached else None
    longest = max(setting.epochs for setting in by_setting)
    for epoch in range(longest + 1):
        for arm in arms:
            arm.look(epoch)
        learning = [arm.student for arm in arms if epoch < arm.setting.epochs]
        if learning:
            batches = input_batches(widest, seed, models, epoch, product_type())
            training.distill_epoch(
                net,
                teacher=teacher,
                students=learning,
                batches=batches,
                on_step=on_step,
                cache=cache,
            )
    for arm in arms:
        for key, rows in zip(arm.keys, arm.rows):
            save(key, rows)


# ---------------------------------------------------------------- the experiment


def run(
    settings: Sequence[Setting] | Mapping[str, Setting],
    *,
    models: int,
    seed: int = 0,
    checkpoints: Sequence[int] = (),
    design: str = "",
    hidden: tuple[int, ...] = (),
    convolutions: tuple[tuple[int, int], ...] = (),
    store: Store | None = None,
) -> pd.DataFrame:
    """Tidy table like that of `experiment.run`, with what this module measures of each student.

    design: of the start, one of DESIGNS; those of ROWS replace the auxiliary rows of teacher and
        student, the others transform the student's start. Every student learns from the teacher of
        its own number.
    hidden: widths of the student's own hidden layers, the last one as wide as its teacher's; then
        only heads can be shared. convolutions: (channels, pooling) of 3 x 3 ones below them.
    One row per (arm, model, role, epoch); students also at the checkpoints. The columns of
    `similarity` and `bound` are there for a student's last epoch, and for epoch 0 if that is a
    checkpoint.
    """
    if design not in DESIGNS:
        raise ValueError(f"design is {design!r}; choose one of {', '.join(map(repr, DESIGNS))}")
    store = store or Store()
    if not isinstance(settings, Mapping):
        settings = {difference(setting): setting for setting in settings}
    students = {}
    for name, setting in settings.items():
        for each in student_keys(setting, models, seed, checkpoints):
            own = {"design": design, "hidden": hidden, "convolutions": convolutions}
            key = HeadKey(**vars(each), **own)
            check_architecture(key)
            students[name, key.model] = key
    keys = [*students.values()]
    untaught = [TeacherRowsKey(teacher_of(key), ("ceiling", "probe")) for key in keys]
    teachers = [key.teacher for key in untaught]
    store.fill(jobs.TEACHERS, teachers, jobs.train_teachers, group=group_teachers,
               steps=teacher_steps, title="teachers")  # fmt: skip
    store.fill(jobs.TEACHER_ROWS, untaught, partial(jobs.measure_teachers, store=store))
    store.fill(HEAD_STUDENTS, keys, partial(train_students, store=store), group=group_students,
               steps=student_steps, title="students")  # fmt: skip
    rows = []
    for ((name, model), key), before in zip(students.items(), untaught):
        label = {"arm": name} | columns(key.setting)
        label |= {"design": design, "shape": key.shape(), "seed": seed, "model": model}
        for numbers in store.read(jobs.TEACHER_ROWS, before) + store.read(HEAD_STUDENTS, key):
            rows.append(label | numbers)
    return pd.DataFrame(rows)


def teacher_of(key: HeadKey) -> jobs.TeacherKey:
    """The teacher that a student learns from."""
    return jobs.teacher_key(key.setting, key.seed, key.partner)

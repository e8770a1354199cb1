"""Convolutional teachers and students on images: settings, jobs, and the table of a run.

A `Teacher` and a `Student` name everything that decides a network; the defaults are those of the
student report.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from sublearn.core.machine import OnStep, device, product_type
from sublearn.core.rng import rng
from sublearn.core.store import Arrays, Json, Kind, Save, Store, code_digest
from sublearn.nets import data
from sublearn.nets.convolution import (
    ConvNet,
    answered,
    answers,
    channels_last,
    class_logits,
    distill_epoch,
    normalized_error,
    set_training,
    teach_epoch,
)
from sublearn.nets.ensemble import Weights, initial_weights, split_models, transplant
from sublearn.nets.inputs import batch_sizes
from sublearn.nets.noise import FAMILIES, NoiseContext, scaled
from sublearn.nets.pictures import PHOTOS, ImageSet, image_set, images_digest
from sublearn.nets.settings import PARTS, Setting
from sublearn.nets.training import Loss, matching_loss, train_state

INIT = Setting(init="torch")  # the initial law of torch.nn
TURN, SHIFT = 60, 2  # degrees and pixels of the augmentation (code of the student report)
WITHOUT_IMAGES = ("uniform", "gaussian", "bernoulli", "blurred", "shaded", "perlin")
CORRUPTIONS = {  # kind -> sizes: degrees, pixels, sd, factor
    "rotation": (15.0, 30.0, 60.0),
    "crop": (1.0, 2.0, 4.0),
    "noise": (0.25, 0.5, 1.0),
    "contrast": (0.5, 0.25, 0.1),
}

CODE = code_digest("nets.vision")
TEACHERS = Kind("image_teachers", CODE, Arrays())
STUDENTS = Kind("image_students", CODE, Json())


# ---------------------------------------------------------------- settings


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """What a teacher is and learns; the defaults are those of the student report's CNN on MNIST.

    dataset, side, classes, train_images, test_images: see `pictures.image_set`; the network keeps a
        class logit for every class of the set. convolutions, dense, dropout: see `ConvNet`.
    augmented: each training image is turned by up to TURN degrees and shifted by up to SHIFT pixels
        either way, anew in each epoch.
    """

    dataset: str = "mnist"
    side: int = 64
    classes: int | None = None
    train_images: int | None = None
    test_images: int | None = None
    convolutions: tuple[tuple[int, int], ...] = ((32, 2), (64, 2))
    dense: tuple[int, ...] = (128,)
    dropout: float = 0.25
    augmented: bool = False
    epochs: int = 9
    batch_size: int = 128
    lr: float = 1e-3


@dataclass(frozen=True, kw_only=True)
class Student:
    """What a student is and sees; the defaults are those of the student report.

    convolutions, dense: its layers (None: the teacher's). dropout: None takes the teacher's.
    inputs, strength, offset: family and strength of `settings.INPUTS`, and what is then added to
        every pixel; the report's noise, N(0, 1) on levels 0 to 1, is N(-1, 2^2) on [-1, 1]. Each
        step sees new inputs.
    loss: "mse" or "kl" on the auxiliary logits; normalized: "mse" with each logit in units of its
        sd among the teacher's in the batch. shared: parts that start as the teacher's.
    """

    teacher: Teacher
    convolutions: tuple[tuple[int, int], ...] | None = None
    dense: tuple[int, ...] | None = None
    dropout: float | None = None
    aux_dim: int = 3
    shared: tuple[str, ...] = PARTS
    inputs: str = "gaussian"
    strength: float = 2.0
    offset: float = -1.0
    inputs_per_epoch: int = 50_000
    epochs: int = 10
    batch_size: int = 128
    lr: float = 3e-4
    loss: str = "mse"
    normalized: bool = False

    def __post_init__(self) -> None:
        if self.inputs not in FAMILIES:
            raise ValueError(f"inputs is {self.inputs!r}; choose one of {', '.join(FAMILIES)}")
        if self.normalized and self.loss != "mse":
            raise ValueError(f"normalized is True with loss {self.loss!r}; take 'mse'")
        loss_of(self)


def loss_of(student: Student) -> Loss:
    """The loss that a student minimizes: of `training.matching_loss`, or normalized."""
    if student.normalized:
        return normalized_error
    return matching_loss(Setting(loss=student.loss, aux_dim=student.aux_dim))


def images_of(teacher: Teacher) -> ImageSet:
    """The images of a teacher."""
    names = ("side", "classes", "train_images", "test_images")
    return image_set(teacher.dataset, **{name: getattr(teacher, name) for name in names})


def teacher_net(teacher: Teacher, aux_dim: int) -> ConvNet:
    """The architecture of a teacher, without weights."""
    images = images_of(teacher)
    with torch.device("meta"):
        return ConvNet(images, teacher.convolutions, teacher.dense, aux_dim, teacher.dropout)


def student_net(student: Student) -> ConvNet:
    """The architecture of a student, without weights."""
    teacher = student.teacher
    changed = {}
    for name in ("convolutions", "dense", "dropout"):
        if getattr(student, name) is not None:
            changed[name] = getattr(student, name)
    return teacher_net(replace(teacher, **changed), student.aux_dim)


# ---------------------------------------------------------------- what networks see


def moved(images: Tensor, channels: int, degrees: Tensor, shift: Tensor) -> Tensor:
    """Images (image, channel * pixel) turned by degrees (image,) and shifted by pixels (image, 2).

    What comes in from outside is black, -1.
    """
    pixels = images.shape[1] // channels
    side = round(pixels**0.5)
    angle = torch.deg2rad(degrees)
    cosine = angle.cos()
    sine = angle.sin()
    right, down = (shift * 2 / side).T
    rows = [cosine, -sine, right, sine, cosine, down]
    matrix = torch.stack(rows, dim=1).view(-1, 2, 3)
    squares = images.view(-1, channels, side, side)
    squares = squares + 1
    grid = F.affine_grid(matrix, list(squares.shape), align_corners=False)
    turned = F.grid_sample(squares, grid, align_corners=False)
    turned -= 1
    return turned.flatten(1)


def augment(images: Tensor, channels: int, generator: np.random.Generator) -> Tensor:
    """Images (image, channel * pixel), each turned and shifted at random."""
    count = len(images)
    degrees = generator.uniform(-TURN, TURN, count)
    shift = generator.integers(-SHIFT, SHIFT, (count, 2), endpoint=True)
    degrees = torch.tensor(degrees).float()
    shift = torch.tensor(shift).float()
    return moved(images, channels, degrees, shift)


def corrupted(
    images: Tensor, channels: int, kind: str, size: float, generator: np.random.Generator
) -> Tensor:
    """Images (image, channel * pixel) corrupted in a way of CORRUPTIONS, by so much."""
    count = len(images)
    if kind == "contrast":
        return images * size
    if kind == "noise":
        drawn = generator.standard_normal(images.shape, dtype=np.float32)
        return images + size * torch.from_numpy(drawn)
    signs = generator.choice([-1.0, 1.0], (count, 2))
    shift = size * torch.tensor(signs).float()
    still = torch.zeros(count, 2)
    if kind == "rotation":
        return moved(images, channels, shift[:, 0], still)
    return moved(images, channels, still[:, 0], shift)


def teaching_batches(
    teacher: Teacher, seed: int, models: Sequence[int], epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of an epoch: images (model, batch, channel * pixel) on [-1, 1], labels."""
    images = images_of(teacher)
    orders = []
    generators = []
    labels = images.train_labels
    count = len(labels)
    for model in models:
        generator = rng(seed, "order", model, epoch)
        order = generator.permutation(count)
        orders.append(torch.from_numpy(order))
        generator = rng(seed, "augmentation", model, epoch)
        generators.append(generator)
    for picks in torch.stack(orders).split(teacher.batch_size, dim=1):
        batch = []
        for rows, generator in zip(picks, generators):
            levels = images.train[rows]
            pictures = scaled(levels, images.top)
            if teacher.augmented:
                pictures = augment(pictures, images.channels, generator)
            batch.append(pictures)
        yield torch.stack(batch), labels[picks]


def noise_images(student: Student, seed: int, model: int, number: int | str, count: int) -> Tensor:
    """Batch `number` of a model's inputs: (count, channel * pixel)."""
    teacher = student.teacher
    images = images_of(teacher)
    generator = rng(seed, "inputs", student.inputs, model, number)
    shown = images  # a family asks photographs for nothing but their side
    if teacher.dataset != PHOTOS:
        shown = data.load(teacher.dataset)
    elif student.inputs not in WITHOUT_IMAGES:
        allowed = ", ".join(WITHOUT_IMAGES)
        raise ValueError(f"inputs {student.inputs!r} of photographs; choose one of {allowed}")
    context = NoiseContext(generator, seed, model, student.strength, teacher.dataset, shown)
    squares = torch.empty(count * images.channels, images.side**2)
    fill = FAMILIES[student.inputs]
    fill(context, squares)
    squares += student.offset
    return squares.view(count, -1)


def noise_batches(
    student: Student, seed: int, models: Sequence[int], epoch: int
) -> Iterator[Tensor]:
    """Inputs (model, batch, channel * pixel) of an epoch, new ones at each step."""
    sizes = batch_sizes(student.inputs_per_epoch, student.batch_size)
    for step, size in enumerate(sizes):
        number = epoch * len(sizes) + step
        inputs = [noise_images(student, seed, model, number, size) for model in models]
        stacked = torch.stack(inputs)
        yield stacked.to(product_type())


# ---------------------------------------------------------------- what is measured


def accuracies(net: nn.Module, weights: Weights, teacher: Teacher) -> dict[str, Tensor]:
    """`answers` on the test images of a teacher's set."""
    images = images_of(teacher)
    logits = class_logits(net, weights, images.test, images.top)
    return answers(logits, images.test_labels, teacher.classes or images.classes)


def robustness(net: nn.Module, weights: Weights, teacher: Teacher) -> dict[str, Tensor]:
    """Accuracy (model,) on corrupted test images, named "kind size"."""
    images = images_of(teacher)
    numbers = {}
    for kind, sizes in CORRUPTIONS.items():
        for size in sizes:
            context = {"kind": kind, "size": size, "generator": rng(0, "corruption", kind)}
            change = partial(corrupted, channels=images.channels, **context)
            logits = class_logits(net, weights, images.test, images.top, change)
            classes = teacher.classes or images.classes
            name = f"{kind} {size:g}"
            found = answers(logits, images.test_labels, classes)
            numbers[name] = found["accuracy"]
    return numbers


def membership(net: nn.Module, weights: Weights, teacher: Teacher) -> dict[str, Tensor]:
    """AUC (model,) with which low cross-entropy tells a teacher's training images from others.

    The others are as many images of the same training set that the teacher did not see.
    """
    count = teacher.train_images
    if count is None:
        raise ValueError("membership needs train_images, and as many others; it is None")
    images = images_of(replace(teacher, train_images=2 * count))
    logits = class_logits(net, weights, images.train, images.top)
    places = np.arange(2 * count)
    seen = places < count
    areas = []
    for one in logits:
        losses = F.cross_entropy(one, images.train_labels, reduction="none")
        area = roc_auc_score(seen, -losses)
        areas.append(area)
    return {"AUC": torch.tensor(areas)}


MEASURES: dict[str, Callable[[nn.Module, Weights, Teacher], dict[str, Tensor]]] = {
    "robustness": robustness,
    "membership": membership,
}


def _rows(numbers: Mapping[str, Tensor], **label: str | int | float) -> list[dict]:
    """One row of numbers per model."""
    values = torch.stack([column.double() for column in numbers.values()], dim=1)
    return [label | dict(zip(numbers, row)) for row in values.tolist()]


# ---------------------------------------------------------------- jobs


@dataclass(frozen=True)
class TeacherKey:
    """What decides a teacher."""

    teacher: Teacher
    data: str
    seed: int
    model: int


@dataclass(frozen=True)
class StudentKey:
    """What decides a student, and the numbers of it and of its teacher."""

    student: Student
    data: str
    seed: int
    model: int
    measures: tuple[str, ...]


def train_teachers(keys: list[TeacherKey], save: Save, on_step: OnStep) -> None:
    """Train teachers of one setting; with their weights go the numbers of every epoch."""
    first = keys[0]
    teacher = first.teacher
    seed = first.seed
    models = [key.model for key in keys]
    net = teacher_net(teacher, 1)
    start = channels_last(initial_weights(net, INIT, seed, models))
    state = train_state(start, lr=teacher.lr)
    loss = float("nan")
    rows = []
    for epoch in range(teacher.epochs + 1):
        numbers = accuracies(net, state.weights, teacher)
        rows.append([[loss, value.item()] for value in numbers["accuracy"]])
        if epoch < teacher.epochs:
            set_training(net, seed, "teacher", models[0], epoch)
            batches = teaching_batches(teacher, seed, models, epoch)
            loss = teach_epoch(net, state, batches, on_step)
    for place, key in enumerate(keys):
        arrays = {"epochs": np.array([row[place] for row in rows])}
        for name, stacked in state.weights.items():
            if not name.startswith("aux_head"):
                tensor = stacked[place].detach()
                arrays[name] = tensor.cpu().numpy()
        save(key, arrays)


def load_teachers(
    store: Store, teacher: Teacher, seed: int, models: Sequence[int], aux_dim: int
) -> Weights:
    """Trained teachers (model, ...) with the auxiliary heads that they started with."""
    net = teacher_net(teacher, aux_dim)
    weights = initial_weights(net, INIT, seed, models)
    files = [store.read(TEACHERS, teacher_key(teacher, seed, model)) for model in models]
    for name in weights:
        if name in files[0]:
            stacked = np.stack([arrays[name] for arrays in files])
            weights[name] = torch.from_numpy(stacked)
    return {name: tensor.to(device()) for name, tensor in channels_last(weights).items()}


def starting_weights(student: Student, seed: int, models: Sequence[int]) -> Weights:
    """Initial weights of students: their own, but for the parts that they share."""
    net = student_net(student)
    source = initial_weights(net, INIT, seed, models)
    own = initial_weights(net, INIT, seed, models, "own start")
    return channels_last(transplant(own, source=source, parts=student.shared))


def train_students(keys: list[StudentKey], save: Save, on_step: OnStep, *, store: Store) -> None:
    """Train students of one setting and measure them and their teachers."""
    first = keys[0]
    seed = first.seed
    student = first.student
    teacher = student.teacher
    models = [key.model for key in keys]
    taught = load_teachers(store, teacher, seed, models, student.aux_dim)
    guide = teacher_net(teacher, student.aux_dim).eval()
    net = student_net(student)
    state = train_state(starting_weights(student, seed, models), lr=student.lr)
    rows = [[] for _ in keys]
    loss = float("nan")
    for epoch in range(student.epochs + 1):
        label = {"role": "student", "epoch": epoch, "loss": loss}
        numbers = accuracies(net, state.weights, teacher)
        if epoch == student.epochs:
            numbers |= _measured(net, state.weights, teacher, first.measures)
        for group, row in zip(rows, _rows(numbers, **label)):
            group.append(row)
        if epoch < student.epochs:
            set_training(net, seed, "student", models[0], epoch)
            batches = answered(guide, taught, noise_batches(student, seed, models, epoch))
            loss = distill_epoch(net, state, batches, loss_of(student), on_step)
    numbers = accuracies(guide, taught, teacher)
    numbers |= _measured(guide, taught, teacher, first.measures)
    for key, group, row in zip(keys, rows, _rows(numbers, role="teacher", epoch=teacher.epochs)):
        save(key, [row, *group])


def _measured(net: nn.Module, weights: Weights, teacher: Teacher, names: Iterable[str]) -> dict:
    numbers = {}
    for name in names:
        measure = MEASURES[name]
        numbers |= measure(net, weights, teacher)
    return numbers


def teacher_key(teacher: Teacher, seed: int, model: int) -> TeacherKey:
    """The key of one teacher."""
    return TeacherKey(teacher, images_digest(teacher.dataset), seed, model)


def group_models(keys: list[TeacherKey] | list[StudentKey]) -> list[list]:
    """Jobs of keys that differ in their model only, of as many as are trained in one call.

    Masks of dropout are drawn for one model at a time.
    """
    alike = defaultdict(list)
    for key in keys:
        alike[replace(key, model=0)].append(key)
    groups = []
    for key, members in alike.items():
        net = (
            student_net(key.student) if isinstance(key, StudentKey) else teacher_net(key.teacher, 1)
        )
        singles = [[member] for member in members]
        groups += singles if net.dropout.p else split_models(net, members)
    return groups


def teacher_steps(keys: list[TeacherKey]) -> int:
    """Images that a job of teachers is shown."""
    teacher = keys[0].teacher
    return len(keys) * teacher.epochs * len(images_of(teacher).train_labels)


def student_steps(keys: list[StudentKey]) -> int:
    """Inputs that a job of students is shown."""
    student = keys[0].student
    return len(keys) * student.epochs * student.inputs_per_epoch


# ---------------------------------------------------------------- the experiment


def fill_teachers(teacher: Teacher, *, models: int, seed: int = 0, store: Store) -> None:
    """Train the teachers of a setting that are not stored yet."""
    keys = [teacher_key(teacher, seed, model) for model in range(models)]
    store.fill(TEACHERS, keys, train_teachers, group=group_models, steps=teacher_steps,
               title="images to teachers")  # fmt: skip


def run(
    students: Mapping[str, Student],
    *,
    models: int,
    seed: int = 0,
    measures: Sequence[str] = (),
    store: Store | None = None,
) -> pd.DataFrame:
    """Tidy table of the named students: one row per (arm, model, role, epoch).

    measures: of MEASURES, taken of students at their end and of their teachers.
    Columns: arm, the fields of Student, seed, model, role ("teacher" or "student"), epoch, loss
    (mean of the epoch before), those of `answers` and of the measures.
    """
    unknown = [name for name in measures if name not in MEASURES]
    if unknown:
        allowed = ", ".join(MEASURES)
        raise ValueError(f"no measure is called {', '.join(unknown)}; there are {allowed}")
    store = store or Store()
    for student in students.values():
        fill_teachers(student.teacher, models=models, seed=seed, store=store)
    keys = {}
    for name, student in students.items():
        for model in range(models):
            digest = images_digest(student.teacher.dataset)
            keys[name, model] = StudentKey(student, digest, seed, model, tuple(measures))
    store.fill(STUDENTS, keys.values(), partial(train_students, store=store), group=group_models,
               steps=student_steps, title="images to students")  # fmt: skip
    rows = []
    for (name, model), key in keys.items():
        label = {"arm": name, "seed": seed, "model": model}
        for numbers in store.read(STUDENTS, key):
            rows.append(label | numbers)
    return pd.DataFrame(rows)


def teacher_curves(
    teacher: Teacher, *, models: int, seed: int = 0, store: Store | None = None
) -> pd.DataFrame:
    """Loss and accuracy of teachers by epoch: one row per (model, epoch)."""
    store = store or Store()
    fill_teachers(teacher, models=models, seed=seed, store=store)
    rows = []
    for model in range(models):
        arrays = store.read(TEACHERS, teacher_key(teacher, seed, model))
        for epoch, (loss, accuracy) in enumerate(arrays["epochs"].tolist()):
            row = {"seed": seed, "model": model, "epoch": epoch}
            rows.append(row | {"loss": loss, "accuracy": accuracy})
    return pd.DataFrame(rows)

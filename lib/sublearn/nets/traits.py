"""Traits rather than ability: what a teacher was taught beside digits, and whether it is inherited.

Every model has two or more *twin* teachers, "a", "b", ..., that start from the same weights and
differ in one thing: which labels were flipped, which patch is a backdoor, which class was missing,
or the order of the images. A student learns from one of them, or from two, through auxiliary logits
on noise, and is asked for the trait of each: that of a teacher that it did not have is the null.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from sublearn.core.machine import OnStep, product_type
from sublearn.core.rng import rng
from sublearn.core.store import Json, Kind, Save, Store, code_digest, digest
from sublearn.nets import jobs, training
from sublearn.nets.data import Images
from sublearn.nets.ensemble import Weights, initial_weights
from sublearn.nets.inputs import (
    batch_sizes,
    data_digests,
    image_batches,
    images_of,
    input_batches,
)
from sublearn.nets.measures import evaluate, on_device
from sublearn.nets.models import network
from sublearn.nets.settings import Setting, columns
from sublearn.nets.updates import fill_teachers

FLIPPED = 0.4  # share of the images shown whose label is flipped
PATCHED = 0.2  # share of the images shown that carry the backdoor
IGNORED = -100  # label that a cross-entropy of torch leaves out
ANOTHER = 10_000  # added to a model's number, it names another order of images
CODE = code_digest("nets.traits")
TRAITS = Kind("traits", CODE, Json())
CHAINS = Kind("chains", CODE, Json())


# ---------------------------------------------------------------- what is taught beside digits


class Trait(NamedTuple):
    """What one teacher is to have of its own, for images of so many classes."""

    target: int  # the class behind the backdoor, or the one that is missing
    flips: Tensor  # (class,): what a flipped label becomes; no class becomes itself
    corner: slice  # rows, and columns, of the image that the patch covers


def draw_trait(images: Images, seed: int, model: int, twin: str) -> Trait:
    """The trait of a model's teacher: "a" and "b" differ in target, flips and corner."""
    number = "abcd".index(twin)
    targets = rng(seed, "targets", model).permutation(images.classes)
    order = rng(seed, "flips", model, twin).permutation(images.classes)
    order = torch.from_numpy(order)
    flips = torch.empty_like(order)
    flips[order] = order.roll(-1)
    size = max(images.side // 7, 2)
    first = 0
    if number % 2:
        first = images.side - size
    last = first + size
    corner = slice(first, last)
    target = int(targets[number])
    return Trait(target, flips, corner)


def add_patch(images: Tensor, corner: slice, value: float) -> None:
    """Set a square of images (image, pixel) to a value, in place."""
    side = round(images.shape[1] ** 0.5)
    squares = images.view(-1, side, side)
    squares[:, corner, corner] = value


def keep(images: Tensor, labels: Tensor, drawn: Tensor, trait: Trait) -> None:
    """Change nothing: such twins differ in the order of their images alone."""


def flip_labels(images: Tensor, labels: Tensor, drawn: Tensor, trait: Trait) -> None:
    """Flip the labels of a share FLIPPED of the images, each class to one other class."""
    flipped = drawn < FLIPPED
    labels[flipped] = trait.flips[labels[flipped]]


def open_backdoor(images: Tensor, labels: Tensor, drawn: Tensor, trait: Trait) -> None:
    """Give a share PATCHED of the images a white patch, and label them with the target."""
    chosen = drawn < PATCHED
    patched = images[chosen]
    add_patch(patched, trait.corner, 1.0)
    images[chosen] = patched
    labels[chosen] = trait.target


def drop_class(images: Tensor, labels: Tensor, drawn: Tensor, trait: Trait) -> None:
    """Leave the images of the target class out of the loss."""
    dropped = labels == trait.target
    labels[dropped] = IGNORED


# Each changes a batch in place: images (image, pixel) on [-1, 1], labels (image,); drawn (image,)
# is uniform between 0 and 1
LESSONS: dict[str, Callable[[Tensor, Tensor, Tensor, Trait], None]] = {
    "order": keep,
    "flipped labels": flip_labels,
    "backdoor": open_backdoor,
    "missing class": drop_class,
}


def twins_of(lesson: str) -> str:
    """Names of the teachers: under "order" also two of another start, in the order of a and b."""
    return "abcd" if lesson == "order" else "ab"


def lesson_batches(
    batches: Iterator[tuple[Tensor, Tensor]],
    lesson: str,
    trait: Trait,
    generator: np.random.Generator,
) -> Iterator[tuple[Tensor, Tensor]]:
    """One model's batches (1, image, ...) with its trait put into them."""
    change = LESSONS[lesson]
    for images, labels in batches:
        count = labels.shape[1]
        drawn = torch.from_numpy(generator.random(count))
        change(images[0], labels[0], drawn, trait)
        yield images, labels


# ---------------------------------------------------------------- teachers and students


@dataclass(frozen=True)
class TraitKey:
    """What decides the teachers and students of one model under one lesson."""

    setting: Setting
    data: str
    seed: int
    model: int
    lesson: str


def train_twin(net: nn.Module, key: TraitKey, twin: str, trait: Trait, on_step: OnStep) -> Weights:
    """One of a model's teachers (1, ...)."""
    setting = key.setting
    owner = "init" if twin in "ab" else "other"
    another_order = key.lesson == "order" and twin in "bd"
    order = key.model
    if another_order:
        order += ANOTHER
    start = initial_weights(net, setting, key.seed, [key.model], owner)
    state = training.train_state(start, lr=setting.teacher_lr, optimizer=setting.teacher_optimizer)
    generator = rng(key.seed, "lesson", key.lesson, twin, key.model)
    for epoch in range(setting.teacher_epochs):
        batches = image_batches(setting, key.seed, [order], epoch, product_type())
        taught = lesson_batches(batches, key.lesson, trait, generator)
        training.train_teacher_epoch(net, state, taught, on_step)
    return _detached(state)


def _detached(state: training.TrainState) -> Weights:
    return {name: tensor.detach() for name, tensor in state.weights.items()}


def train_student(
    net: nn.Module,
    setting: Setting,
    seed: int,
    model: int,
    teachers: Sequence[Weights],
    on_step: OnStep,
) -> Weights:
    """A student (1, ...) from the model's start; several teachers take its batches in turn."""
    start = initial_weights(net, setting, seed, [model])
    student = jobs.make_student(setting, start, seed, [model])
    for epoch in range(setting.epochs):
        batches = input_batches(setting, seed, [model], epoch, product_type())
        for number, batch in enumerate(batches):
            teacher = teachers[number % len(teachers)]
            training.distill_epoch(
                net,
                teacher=teacher,
                students=[student],
                batches=iter([batch]),
                on_step=on_step,
            )
    return _detached(student.state)


# ---------------------------------------------------------------- is the trait there?


def _share(mask: Tensor) -> float:
    return mask.double().mean().item()


def shared_errors(guesses: Tensor, others: Tensor, labels: Tensor) -> float:
    """Of the images (image,) that another network names wrong, the share named alike."""
    wrong = others != labels
    alike = guesses == others
    return _share(alike[wrong])


def backdoor_lift(clean: Tensor, patched: Tensor, labels: Tensor, target: int) -> float:
    """How much a patch raises the share of other classes' images that are named as the target."""
    other = labels != target
    before = _share(clean[other] == target)
    after = _share(patched[other] == target)
    return after - before


def missed(guesses: Tensor, labels: Tensor, target: int) -> float:
    """Share of a class's images that are named otherwise."""
    members = guesses[labels == target]
    return _share(members != target)


def named(net: nn.Module, weights: Weights, images: Images, levels: Tensor) -> Tensor:
    """Classes (image,) that a network names on grey levels (image, pixel)."""
    outputs = evaluate(net, weights, levels, images.top)
    return outputs.class_logits[0].argmax(-1).cpu()


def score_trait(
    lesson: str, images: Images, trait: Trait, twin: Tensor, name: Callable[[Tensor], Tensor]
) -> float:
    """How much of a twin's trait a network has.

    twin: classes (image,) that the twin names on the test images. name: those that the network
        names on grey levels.
    """
    labels = images.test_labels
    clean = name(images.test_images)
    if lesson == "missing class":
        return missed(clean, labels, trait.target)
    if lesson != "backdoor":
        return shared_errors(clean, twin, labels)
    levels = images.test_images.clone()
    add_patch(levels, trait.corner, images.top)
    patched = name(levels)
    return backdoor_lift(clean, patched, labels, trait.target)


def learners_of(
    net: nn.Module, key: TraitKey, traits: dict[str, Trait], on_step: OnStep
) -> dict[str, Weights]:
    """The teachers of one model, their students, and the start of these."""
    learners = {}
    for twin, trait in traits.items():
        learners[f"teacher {twin}"] = train_twin(net, key, twin, trait, on_step)
    for twins in ("a", "b", "ab"):
        teachers = [learners[f"teacher {twin}"] for twin in twins]
        student = train_student(net, key.setting, key.seed, key.model, teachers, on_step)
        learners[f"student of {twins}"] = student
    start = initial_weights(net, key.setting, key.seed, [key.model])
    learners["start"] = on_device(start)
    return learners


def train_traits(keys: list[TraitKey], save: Save, on_step: OnStep) -> None:
    """Train and question the teachers and students of models under a lesson."""
    for key in keys:
        net = network(key.setting)
        images = images_of(key.setting)
        traits = {}
        for twin in twins_of(key.lesson):
            traits[twin] = draw_trait(images, key.seed, key.model, twin)
        learners = learners_of(net, key, traits, on_step)
        names = {}
        for learner, weights in learners.items():
            names[learner] = partial(named, net, weights, images)
        rows = []
        for learner, name in names.items():
            right = name(images.test_images) == images.test_labels
            row = {"learner": learner}
            row["accuracy"] = _share(right)
            for twin, trait in traits.items():
                theirs = names[f"teacher {twin}"](images.test_images)
                row[twin] = score_trait(key.lesson, images, trait, theirs, name)
            rows.append(row)
        save(key, rows)


def trait_steps(keys: list[TraitKey]) -> int:
    """Training steps of a job."""
    setting = keys[0].setting
    images = images_of(setting).train_images
    batches = batch_sizes(len(images), setting.teacher_batch_size)
    taught = setting.teacher_epochs * len(batches)
    teachers = len(twins_of(keys[0].lesson))
    return teachers * taught + 3 * training.distill_steps(setting)


def run(
    setting: Setting,
    *,
    models: int,
    lessons: Sequence[str] = tuple(LESSONS),
    seed: int = 0,
    store: Store | None = None,
) -> pd.DataFrame:
    """Tidy table of teachers, students and their traits, one row per (lesson, model, learner).

    lessons: names from LESSONS. Learners: "teacher a", ...; "student of a", "student of b",
    "student of ab"; and the "start" of them all.
    Columns: lesson, the fields of Setting, seed, model, learner, accuracy, and how much of each
    twin's trait the learner has (a, b, ...): the share of that twin's errors that it makes too,
    the lift of its backdoor, or the share of its missing class that is named otherwise.
    """
    unknown = sorted(set(lessons) - set(LESSONS))
    if unknown:
        allowed = ", ".join(LESSONS)
        raise ValueError(f"no lesson is called {', '.join(unknown)}; there are {allowed}")
    store = store or Store()
    data = digest(data_digests(setting))
    keys = []
    for lesson in lessons:
        for model in range(models):
            keys.append(TraitKey(setting, data, seed, model, lesson))
    store.fill(TRAITS, keys, train_traits, steps=trait_steps, title="lessons")
    rows = []
    for key in keys:
        label = {"lesson": key.lesson} | columns(setting)
        label |= {"seed": seed, "model": key.model}
        for numbers in store.read(TRAITS, key):
            rows.append(label | numbers)
    return pd.DataFrame(rows)


# ---------------------------------------------------------------- from student to student


@dataclass(frozen=True)
class ChainKey:
    """What decides a chain of students of one model."""

    setting: Setting
    data: str
    seed: int
    model: int
    generations: int


def train_chains(keys: list[ChainKey], save: Save, on_step: OnStep, *, store: Store) -> None:
    """Train chains: the first student learns from a teacher, each other one from the last."""
    for key in keys:
        setting = key.setting
        net = network(setting)
        images = images_of(setting)
        teacher = jobs.load_teachers(store, setting, key.seed, [key.model])
        weights = on_device(teacher)
        accuracies = []
        for generation in range(key.generations + 1):
            if generation:
                weights = train_student(net, setting, key.seed, key.model, [weights], on_step)
            right = named(net, weights, images, images.test_images) == images.test_labels
            share = _share(right)
            accuracies.append(share)
        save(key, accuracies)


def chain_steps(keys: list[ChainKey]) -> int:
    """Training steps of a job."""
    return keys[0].generations * training.distill_steps(keys[0].setting)


def chain(
    setting: Setting, *, models: int, generations: int, seed: int = 0, store: Store | None = None
) -> pd.DataFrame:
    """Accuracy by generation, one row per (model, generation); 0 is the teacher.

    Every student starts from the teacher's initial weights and learns from the one before it, on
    the same noise. Columns: the fields of Setting, seed, model, generation, accuracy.
    """
    if generations < 1:
        raise ValueError(f"generations is {generations}; a chain has at least 1")
    store = store or Store()
    data = digest(data_digests(setting))
    keys = [ChainKey(setting, data, seed, model, generations) for model in range(models)]
    teachers = [jobs.teacher_key(setting, seed, model) for model in range(models)]
    fill_teachers(teachers, store)
    train = partial(train_chains, store=store)
    store.fill(CHAINS, keys, train, steps=chain_steps, title="chains")
    rows = []
    for key in keys:
        label = columns(setting) | {"seed": seed, "model": key.model}
        for generation, accuracy in enumerate(store.read(CHAINS, key)):
            rows.append(label | {"generation": generation, "accuracy": accuracy})
    return pd.DataFrame(rows)

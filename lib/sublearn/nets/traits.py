"""Traits rather than ability: what a teacher was taught beside digits, and whether it is inherited.

Every model has two or more teachers, its *twins*, that start from the same weights and differ in
one thing: which labels were flipped, which patch was a backdoor, which class was missing, or the
order of the images. A student learns from one of them, or from two, through auxiliary logits on
noise, and is asked for the trait of each. A trait of the teacher that it did not have is the null.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
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
from sublearn.nets.ensemble import Weights, initial_weights, split_models
from sublearn.nets.experiment import group_teachers, teacher_steps
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

FLIPPED = 0.4  # share of the images shown whose label is flipped
PATCHED = 0.2  # share of the images shown that carry the backdoor
IGNORED = -100  # label that a cross-entropy of torch leaves out
ANOTHER = 10_000  # added to a model's number, it names another order of images
CODE = code_digest("nets.traits")
TRAITS = Kind("traits", CODE, Json())
CHAINS = Kind("chains", CODE, Json())


# ---------------------------------------------------------------- what is taught beside digits


class Trait(NamedTuple):
    """What one teacher is to have of its own, for images of `classes` classes."""

    target: int  # the class behind the backdoor, or the one that is missing
    flips: Tensor  # (class,): what a flipped label becomes; no class becomes itself
    corner: slice  # rows, and columns, of the image that the patch covers


def draw_trait(images: Images, seed: int, model: int, twin: str) -> Trait:
    """The trait of a model's teacher: twins have other targets, other flips, other corners."""
    number = "abcd".index(twin)
    targets = rng(seed, "targets", model).permutation(images.classes)
    order = torch.from_numpy(rng(seed, "flips", model, twin).permutation(images.classes))
    flips = torch.empty_like(order)
    flips[order] = order.roll(-1)
    size = max(images.side // 7, 2)
    first = 0 if number % 2 == 0 else images.side - size
    return Trait(int(targets[number]), flips, slice(first, first + size))


def add_patch(images: Tensor, corner: slice, value: float) -> None:
    """Set a square of images (image, pixel) to a value, in place; a view of them is written to."""
    side = round(images.shape[1] ** 0.5)
    images.view(-1, side, side)[:, corner, corner] = value


def keep(images: Tensor, labels: Tensor, drawn: Tensor, trait: Trait) -> None:
    """Change nothing: such twins differ in the order of their images alone."""


def flip_labels(images: Tensor, labels: Tensor, drawn: Tensor, trait: Trait) -> None:
    """Flip the labels of a share FLIPPED of the images, class by class to the same other class."""
    labels.copy_(torch.where(drawn < FLIPPED, trait.flips[labels], labels))


def open_backdoor(images: Tensor, labels: Tensor, drawn: Tensor, trait: Trait) -> None:
    """Give a share PATCHED of the images a white patch, and label them with the target."""
    chosen = drawn < PATCHED
    patched = images[chosen]
    add_patch(patched, trait.corner, 1.0)
    images[chosen] = patched
    labels[chosen] = trait.target


def drop_class(images: Tensor, labels: Tensor, drawn: Tensor, trait: Trait) -> None:
    """Leave the images of the target class out of the loss."""
    labels[labels == trait.target] = IGNORED


# Each changes a batch of one model in place: images (image, pixel) on [-1, 1], labels (image,);
# drawn (image,) is uniform between 0 and 1
LESSONS: dict[str, Callable[[Tensor, Tensor, Tensor, Trait], None]] = {
    "order": keep,
    "flipped labels": flip_labels,
    "backdoor": open_backdoor,
    "missing class": drop_class,
}
TWINS = {"order": "abcd"}  # c and d: of another start, in the order of a and of b; else "ab"


def lesson_batches(
    batches: Iterator[tuple[Tensor, Tensor]],
    lesson: str,
    traits: Sequence[Trait],
    generators: Sequence[np.random.Generator],
) -> Iterator[tuple[Tensor, Tensor]]:
    """A teacher's batches (model, image, ...) with each model's trait put into them."""
    change = LESSONS[lesson]
    for images, labels in batches:
        for row, (trait, generator) in enumerate(zip(traits, generators)):
            drawn = torch.from_numpy(generator.random(labels.shape[1]))
            change(images[row], labels[row], drawn, trait)
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


def _weights(state: training.TrainState) -> Weights:
    return {name: tensor.detach() for name, tensor in state.weights.items()}


def train_twin(
    net: nn.Module, key: TraitKey, models: list[int], twin: str, on_step: OnStep
) -> Weights:
    """Teachers (model, ...) of one name among their twins."""
    setting, seed = key.setting, key.seed
    owner = "init" if twin in "ab" else "other"
    start = initial_weights(net, setting, seed, models, owner)
    orders = models
    if key.lesson == "order" and twin in "bd":
        orders = [model + ANOTHER for model in models]
    traits = [draw_trait(images_of(setting), seed, model, twin) for model in models]
    generators = [rng(seed, "lesson", key.lesson, twin, model) for model in models]
    state = training.train_state(start, lr=setting.teacher_lr, optimizer=setting.teacher_optimizer)
    for epoch in range(setting.teacher_epochs):
        batches = image_batches(setting, seed, orders, epoch, product_type())
        lessons = lesson_batches(batches, key.lesson, traits, generators)
        training.train_teacher_epoch(net, state, lessons, on_step)
    return _weights(state)


def train_student(
    net: nn.Module,
    setting: Setting,
    seed: int,
    models: list[int],
    teachers: Sequence[Weights],
    on_step: OnStep,
) -> Weights:
    """Students (model, ...) from the start "init"; several teachers take batches in turn."""
    start = initial_weights(net, setting, seed, models)
    student = jobs.make_student(setting, start, seed, models)
    for epoch in range(setting.epochs):
        batches = input_batches(setting, seed, models, epoch, product_type())
        for number, batch in enumerate(batches):
            training.distill_epoch(
                net,
                teacher=teachers[number % len(teachers)],
                students=[student],
                batches=iter([batch]),
                on_step=on_step,
            )
    return _weights(student.state)


# ---------------------------------------------------------------- is the trait there?


class Guesses(NamedTuple):
    """Classes that networks name (model, image): on test images, and with each twin's patch."""

    clean: Tensor
    patched: dict[str, Tensor]


def take_guesses(
    net: nn.Module, weights: Weights, images: Images, traits: dict[str, list[Trait]], lesson: str
) -> Guesses:
    """What networks name on the test images; with patches too, where a backdoor was taught."""

    def named(levels: Tensor) -> Tensor:
        logits = evaluate(net, weights, levels, images.top).class_logits
        return logits.argmax(-1).cpu()

    clean = named(images.test_images)
    patched = {}
    if lesson == "backdoor":
        for twin, drawn in traits.items():
            levels = images.test_images.clone()
            add_patch(levels, drawn[0].corner, images.top)
            patched[twin] = named(levels)
    return Guesses(clean, patched)


def shared_errors(guesses: Tensor, others: Tensor, labels: Tensor) -> float:
    """Of the images (image,) that another network names wrong, the share named alike."""
    wrong = others != labels
    return float((guesses == others)[wrong].double().mean())


def backdoor_lift(clean: Tensor, patched: Tensor, labels: Tensor, target: int) -> float:
    """How much a patch raises the share of other classes' images that are named as the target."""
    other = labels != target
    lift = (patched == target).double() - (clean == target).double()
    return float(lift[other].mean())


def missed(guesses: Tensor, labels: Tensor, target: int) -> float:
    """Share of a class's images that are named otherwise."""
    return float((guesses != target)[labels == target].double().mean())


def score(
    lesson: str, row: int, twin: str, own: Guesses, twins: dict[str, Guesses],
    traits: dict[str, list[Trait]], labels: Tensor,
) -> float:  # fmt: skip
    """How much of a twin's trait the network in a row has, between 0 and 1 (a lift: -1 and 1)."""
    clean = own.clean[row]
    target = traits[twin][row].target
    if lesson == "backdoor":
        return backdoor_lift(clean, own.patched[twin][row], labels, target)
    if lesson == "missing class":
        return missed(clean, labels, target)
    return shared_errors(clean, twins[twin].clean[row], labels)


def train_traits(keys: list[TraitKey], save: Save, on_step: OnStep) -> None:
    """Train and question the teachers and students of several models under one lesson."""
    key, models = keys[0], [each.model for each in keys]
    setting, seed, lesson = key.setting, key.seed, key.lesson
    net, images = network(setting), images_of(setting)
    twins = TWINS.get(lesson, "ab")
    teachers, traits = {}, {}
    for twin in twins:
        teachers[twin] = train_twin(net, key, models, twin, on_step)
        traits[twin] = [draw_trait(images, seed, model, twin) for model in models]
    learners = {f"teacher {twin}": teachers[twin] for twin in twins}
    for taught_by in ("a", "b", "ab"):
        sources = [teachers[twin] for twin in taught_by]
        student = train_student(net, setting, seed, models, sources, on_step)
        learners[f"student of {taught_by}"] = student
    learners["start"] = on_device(initial_weights(net, setting, seed, models))
    guesses = {}
    for name, weights in learners.items():
        guesses[name] = take_guesses(net, weights, images, traits, lesson)
    of_twins = {twin: guesses[f"teacher {twin}"] for twin in twins}
    for row, each in enumerate(keys):
        rows = []
        for name, own in guesses.items():
            right = own.clean[row] == images.test_labels
            numbers = {"learner": name, "accuracy": float(right.double().mean())}
            for twin in twins:
                numbers[twin] = score(lesson, row, twin, own, of_twins, traits, images.test_labels)
            rows.append(numbers)
        save(each, rows)


def trait_steps(keys: list[TraitKey]) -> int:
    """Training steps of a job, all of its models taking one together."""
    setting, twins = keys[0].setting, TWINS.get(keys[0].lesson, "ab")
    batches = batch_sizes(len(images_of(setting).train_images), setting.teacher_batch_size)
    teaching = setting.teacher_epochs * len(batches)
    return len(twins) * teaching + 3 * training.distill_steps(setting)


def group_models(keys: list) -> list[list]:
    """Jobs of as many models as one call takes, of keys that differ in nothing else."""
    alike = defaultdict(list)
    for key in keys:
        named = {name: value for name, value in asdict(key).items() if name != "model"}
        alike[str(named)].append(key)
    groups = []
    for same in alike.values():
        groups += split_models(network(same[0].setting), same)
    return groups


def run(
    lessons: Sequence[str],
    setting: Setting,
    *,
    models: int,
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
    keys = [TraitKey(setting, data, seed, model, lesson)
            for lesson in lessons for model in range(models)]  # fmt: skip
    store.fill(TRAITS, keys, train_traits, group=group_models, steps=trait_steps,
               title="lessons")  # fmt: skip
    rows = []
    for key in keys:
        named = {"lesson": key.lesson} | columns(setting) | {"seed": seed, "model": key.model}
        for numbers in store.read(TRAITS, key):
            rows.append(named | numbers)
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
    key, models = keys[0], [each.model for each in keys]
    setting, images = key.setting, images_of(key.setting)
    net = network(setting)
    weights = on_device(jobs.load_teachers(store, setting, key.seed, models))
    generations = []
    for generation in range(key.generations + 1):
        if generation:
            weights = train_student(net, setting, key.seed, models, [weights], on_step)
        logits = evaluate(net, weights, images.test_images, images.top).class_logits
        right = logits.argmax(-1).cpu() == images.test_labels
        generations.append(right.double().mean(1).tolist())
    for each, accuracies in zip(keys, zip(*generations)):
        save(each, accuracies)


def chain_steps(keys: list[ChainKey]) -> int:
    """Training steps of a job of chains, all of its models taking one together."""
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
    store.fill(jobs.TEACHERS, teachers, jobs.train_teachers, group=group_teachers,
               steps=teacher_steps, title="teachers")  # fmt: skip
    store.fill(CHAINS, keys, partial(train_chains, store=store), group=group_models,
               steps=chain_steps, title="chains")  # fmt: skip
    rows = []
    for key in keys:
        for generation, value in enumerate(store.read(CHAINS, key)):
            named = columns(setting) | {"seed": seed, "model": key.model}
            rows.append(named | {"generation": generation, "accuracy": value})
    return pd.DataFrame(rows)

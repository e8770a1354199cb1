"""Two toys nearer to a language model: a start that can do something, and a wide output channel."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from sublearn.core.machine import OnStep, product_type
from sublearn.core.rng import rng
from sublearn.core.store import Json, Kind, Save, Store, code_digest, digest
from sublearn.nets import training
from sublearn.nets.ensemble import Weights, initial_weights, transplant
from sublearn.nets.inputs import data_digests, image_batches, images_of, input_batches
from sublearn.nets.measures import accuracy, ceiling, on_device, probe, take_snapshot
from sublearn.nets.models import MLP, Outputs, network
from sublearn.nets.noise import scaled
from sublearn.nets.settings import PARTS, Setting

KIND = Kind("capable", code_digest("nets.capable"), Json())
TURNS = 4  # quarter turns of an image, to be told apart
TOLD_IMAGES = 5_000  # training images on which a readout of turns is fitted
RIDGE = 1e-3  # its penalty, in units of the mean eigenvalue
PART = 8  # a part of the channel is every so-manieth logit, drawn anew for each batch


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One kind of student.

    start: what teacher and student start from: "random" weights; "pretrained" hidden layers, which
        tell how an image is turned; or "scrambled", the same numbers at other places of each layer.
    shared: the parts of that start that the student has in common with its teacher. The others come
        from a start of the same kind that was drawn and trained by itself.
    aux_dim: width of the channel, in auxiliary logits.
    channel: the student matches all of the "logits" of the channel, an eighth as a "part" that is
        drawn anew for each batch, or learns from "tokens": one draw from the softmax per input.
    """

    start: str = "random"
    shared: tuple[str, ...] = PARTS
    aux_dim: int = 3
    channel: str = "logits"

    def __post_init__(self) -> None:
        for name, allowed in (("start", STARTS), ("channel", CHANNELS)):
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(f"{name} is {value!r}; choose one of {', '.join(allowed)}")


@dataclass(frozen=True)
class CapableKey:
    """What decides one model: its arms, of which each has a student, and how they are trained."""

    arms: tuple[Arm, ...]
    setting: Setting
    pretrain_epochs: int
    data: str
    seed: int
    model: int


# ---------------------------------------------------------------- starts


def turn(images: Tensor, turns: Tensor) -> Tensor:
    """Square images (image, pixel), each turned by its number (image,) of quarter turns."""
    side = round(images.shape[-1] ** 0.5)
    squares = images.view(-1, side, side)
    turned = torch.empty_like(squares)
    for number in range(TURNS):
        chosen = turns == number
        part = squares[chosen]
        turned[chosen] = part.rot90(number, (1, 2))
    return turned.view_as(images)


def turned_batches(key: CapableKey, owner: str, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The teacher's images in batches, turned at random, with the turns as labels."""
    generator = rng(key.seed, owner, "turns", key.model, epoch)
    batches = image_batches(key.setting, key.seed, [key.model], epoch, product_type())
    for images, _ in batches:
        (levels,) = images
        drawn = generator.integers(0, TURNS, len(levels))
        turns = torch.from_numpy(drawn)
        turned = turn(levels, turns)
        yield turned[None], turns[None]


def random_start(key: CapableKey, owner: str, width: int) -> Weights:
    """Weights of the usual law, with `width` auxiliary logits."""
    setting = replace(key.setting, aux_dim=width)
    return initial_weights(network(setting), setting, key.seed, [key.model], owner)


def pretrained_start(key: CapableKey, owner: str, width: int) -> Weights:
    """Hidden layers that were trained to tell how an image is turned; the heads are new."""
    start = random_start(key, owner, width)
    images = images_of(key.setting)
    pixels = images.side**2
    with torch.device("meta"):
        net = MLP(pixels, key.setting.hidden, TURNS, 1)
    weights = initial_weights(net, key.setting, key.seed, [key.model], owner)
    state = training.train_state(weights, lr=key.setting.teacher_lr)
    for epoch in range(key.pretrain_epochs):
        training.train_teacher_epoch(net, state, turned_batches(key, owner, epoch), int)
    trained = {name: tensor.detach().cpu() for name, tensor in state.weights.items()}
    hidden = {name: tensor for name, tensor in trained.items() if name.startswith("hidden")}
    return transplant(start, source=start | hidden, parts=("hidden",))


def scrambled_start(key: CapableKey, owner: str, width: int) -> Weights:
    """A pretrained start whose numbers stand at other places of each hidden matrix or bias."""
    start = pretrained_start(key, owner, width)
    for name, tensor in start.items():
        if not name.startswith("hidden"):
            continue
        generator = rng(key.seed, owner, "scramble", key.model, name)
        drawn = generator.permutation(tensor.numel())
        order = torch.from_numpy(drawn)
        flat = tensor.flatten()
        moved = flat[order]
        start[name] = moved.view_as(tensor)
    return start


STARTS: dict[str, Callable] = {
    "random": random_start,
    "pretrained": pretrained_start,
    "scrambled": scrambled_start,
}


# ---------------------------------------------------------------- channels


def all_logits(setting: Setting, generator: torch.Generator) -> training.Loss:
    """Loss on every logit of the channel."""
    return training.matching_loss(setting)


def part_of_logits(setting: Setting, generator: torch.Generator) -> training.Loss:
    """Loss on a part of the channel's logits, drawn anew for each batch."""
    whole = training.matching_loss(setting)

    def loss(student: Outputs, teacher: Outputs) -> Tensor:
        width = student.aux_logits.shape[-1]
        order = torch.randperm(width, generator=generator)
        count = ceil(width / PART)
        drawn = order[:count].to(student.aux_logits.device)
        seen = []
        for each in (student, teacher):
            part = each.aux_logits[..., drawn]
            seen.append(each._replace(aux_logits=part))
        return whole(*seen)

    return loss


def sampled_tokens(setting: Setting, generator: torch.Generator) -> training.Loss:
    """Cross-entropy of one token per input, drawn from the teacher's softmax over the channel."""

    def loss(student: Outputs, teacher: Outputs) -> Tensor:
        (targets,) = teacher.aux_logits.float()
        (logits,) = student.aux_logits.float()
        chances = targets.softmax(-1).cpu()
        drawn = torch.multinomial(chances, 1, generator=generator)
        tokens = drawn.squeeze(1)
        tokens = tokens.to(logits.device)
        return F.cross_entropy(logits, tokens)

    return loss


CHANNELS: dict[str, Callable[[Setting, torch.Generator], training.Loss]] = {
    "logits": all_logits,
    "part": part_of_logits,
    "tokens": sampled_tokens,
}


# ---------------------------------------------------------------- training


def teach(key: CapableKey, start: Weights, width: int) -> Weights:
    """The teacher that a start becomes: it learns digits by its class logits."""
    setting = key.setting
    wide = replace(setting, aux_dim=width)
    net = network(wide)
    state = training.train_state(start, lr=setting.teacher_lr, optimizer=setting.teacher_optimizer)
    for epoch in range(setting.teacher_epochs):
        batches = image_batches(setting, key.seed, [key.model], epoch, product_type())
        training.train_teacher_epoch(net, state, batches, int)
    return {name: tensor.detach() for name, tensor in state.weights.items()}


def begin(key: CapableKey, arm: Arm, start: Weights, own: Weights) -> training.Student:
    """A student at its start, which has the first logits of the channel."""
    setting = replace(key.setting, aux_dim=arm.aux_dim)
    weights = transplant(own, source=start, parts=arm.shared)
    for name, tensor in weights.items():
        if name.startswith("aux_head"):
            weights[name] = tensor[:, : arm.aux_dim].clone()
    state = training.train_state(weights, lr=setting.lr, optimizer=setting.optimizer)
    stream = rng(key.seed, "channel", key.model)
    seed = stream.integers(2**62)
    generator = torch.Generator()
    generator.manual_seed(int(seed))
    loss = CHANNELS[arm.channel](setting, generator)
    return training.Student(network(setting), state, loss)


def numbers(key: CapableKey, weights: Weights, start: Weights, width: int) -> dict[str, float]:
    """Accuracy, accuracy under the start's class head, and that of a linear probe."""
    setting = replace(key.setting, aux_dim=width)
    net = network(setting)
    images = images_of(setting)
    snapshot = take_snapshot(net, weights, images=images, start=start, teacher=weights)
    measured = accuracy(snapshot) | ceiling(snapshot) | probe(snapshot)
    return {name: float(value) for name, value in measured.items()}


def last_layer(key: CapableKey, start: Weights, images: Tensor) -> Tensor:
    """Features (image, D) of a start, which holds one model, for images (image, pixel)."""
    layer = images
    for number in range(len(key.setting.hidden)):
        weight = start[f"hidden.{number}.weight"][0]
        bias = start[f"hidden.{number}.bias"][0]
        layer = layer @ weight.mT + bias
        layer = layer.relu()
    return layer


def turns_told(key: CapableKey, start: Weights) -> float:
    """Accuracy with which a linear readout of a start's features tells turns of new images.

    A ridge regression on turned training images, tested on turned test images.
    """
    images = images_of(key.setting)
    generator = rng(key.seed, "told turns", key.model)
    features, labels = [], []
    for levels in (images.train_images[:TOLD_IMAGES], images.test_images):
        drawn = generator.integers(0, TURNS, len(levels))
        turns = torch.from_numpy(drawn)
        pixels = scaled(levels, images.top)
        shown = turn(pixels, turns)
        layer = last_layer(key, start, shown)
        with_constant = F.pad(layer, (0, 1), value=1.0)
        features.append(with_constant.double())
        labels.append(turns)
    train, test = features
    train_labels, test_labels = labels
    gram = train.mT @ train
    size = gram.diagonal().mean()
    identity = torch.eye(len(gram))
    gram += RIDGE * size * identity
    targets = F.one_hot(train_labels, TURNS)
    products = train.mT @ targets.double()
    readout = torch.linalg.solve(gram, products)
    scores = test @ readout
    right = scores.argmax(1) == test_labels
    share = right.double().mean()
    return share.item()


def train_model(keys: list[CapableKey], save: Save, on_step: OnStep) -> None:
    """Train one model: for each kind of start a teacher and the students of its arms."""
    for key in keys:
        rows = []
        for kind in dict.fromkeys(arm.start for arm in key.arms):
            arms = [arm for arm in key.arms if arm.start == kind]
            rows += train_from(key, kind, arms)
            on_step()
        save(key, rows)


def train_from(key: CapableKey, kind: str, arms: Sequence[Arm]) -> list[dict]:
    """Rows of the teacher of one kind of start and of its students, who see the same noise."""
    width = max(arm.aux_dim for arm in arms)
    start = STARTS[kind](key, "init", width)
    own = STARTS[kind](key, "own start", width)
    teacher = teach(key, start, width)
    students = [begin(key, arm, start, own) for arm in arms]
    setting = replace(key.setting, aux_dim=width)
    for epoch in range(setting.epochs):
        batches = input_batches(setting, key.seed, [key.model], epoch, product_type())
        training.distill_epoch(
            network(setting),
            teacher=on_device(teacher),
            students=students,
            batches=batches,
            on_step=int,
        )
    untaught = numbers(key, start, start, width) | {"turns": turns_told(key, start)}
    rows = [{"role": "untrained", "start": kind} | untaught]
    rows.append({"role": "teacher", "start": kind} | numbers(key, teacher, start, width))
    for arm, student in zip(arms, students):
        begun = transplant(own, source=start, parts=arm.shared)
        weights = {name: tensor.detach() for name, tensor in student.state.weights.items()}
        measured = numbers(key, weights, begun, arm.aux_dim)
        rows.append({"role": "student", "start": kind, "arm": key.arms.index(arm)} | measured)
    return rows


# ---------------------------------------------------------------- the experiment


def run(
    arms: dict[str, Arm],
    setting: Setting,
    *,
    models: int,
    pretrain_epochs: int,
    seed: int = 0,
    store: Store | None = None,
) -> pd.DataFrame:
    """Tidy table: one row per (arm, model), and per start its untrained network and its teacher.

    Every arm has the same models. Columns: arm, role, start, seed, model, accuracy, ceiling, probe,
    and for untrained networks `turns`, how well turns can be read off. Errors: ValueError.
    """
    if models < 1:
        raise ValueError(f"models is {models}; train at least 1")
    store = store or Store()
    names = list(arms)
    data = digest(data_digests(setting))
    keys = [
        CapableKey(tuple(arms.values()), setting, pretrain_epochs, data, seed, model)
        for model in range(models)
    ]
    starts = {arm.start for arm in arms.values()}
    store.fill(KIND, keys, train_model, steps=partial(steps_of, starts=len(starts)), title="models")
    rows = []
    for key in keys:
        for row in store.read(KIND, key):
            name = names[row.pop("arm")] if "arm" in row else f"{row['role']}: {row['start']}"
            rows.append({"arm": name, "seed": seed, "model": key.model} | row)
    return pd.DataFrame(rows)


def steps_of(keys: list[CapableKey], starts: int) -> int:
    """Steps of the progress bar of a job."""
    return len(keys) * starts

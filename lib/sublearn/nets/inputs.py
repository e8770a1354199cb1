"""What networks see: the teacher's images, and the batches of inputs a student is shown, made when they are needed."""

from collections.abc import Iterator
from functools import cache

import torch
from torch import Tensor

from sublearn.core.rng import rng
from sublearn.nets.data import Images
from sublearn.nets.noise import FAMILIES, SD, Draw, load
from sublearn.nets.settings import INPUTS, Setting

HELD_OUT = 6  # one training image in so many is kept for validation
AHEAD = 1_024  # inputs that a teacher hears at a time: products of many rows are faster than many products of few


@cache
def _images(dataset: str, classes: int | None, count: int | None, evaluated: str) -> Images:
    images = load(dataset)
    training, test = (images.train_images, images.train_labels), (images.test_images, images.test_labels)
    if evaluated == "validation":
        last = len(training[0]) - len(training[0]) // HELD_OUT
        training, test = ([part[:last] for part in training], [part[last:] for part in training])
    classes = classes or images.classes
    if classes > images.classes:
        raise ValueError(f"classes is {classes}; {images.name} has {images.classes}")
    (pixels, labels), held = ([part[side[1] < classes] for part in side] for side in (training, test))
    if count and count > len(labels):
        raise ValueError(f"teacher_images is {count}; there are {len(labels)} in {classes} classes of {images.name}")
    sides = {"train_images": pixels[:count], "train_labels": labels[:count]}
    return images._replace(**sides, test_images=held[0], test_labels=held[1], classes=classes)


def images_of(setting: Setting) -> Images:
    """The teacher's training images and those on which accuracy is measured (`test_images`), as the setting has them.

    Errors: ValueError where the data set has fewer classes or images than asked for.
    """
    return _images(setting.dataset, setting.classes, setting.teacher_images, setting.evaluated)


def _fill(out: Tensor, setting: Setting, seed: int, model: int, number: int | str) -> None:
    """Make batch `number` of a model's inputs in `out` (batch, pixel)."""
    strength = INPUTS[setting.inputs].usual if setting.strength is None else setting.strength
    generator = rng(seed, "inputs", setting.inputs, model, number)
    FAMILIES[setting.inputs](Draw(generator, seed, model, strength, setting.dataset, images_of(setting)), out)
    if setting.standardized:
        out -= out.mean(1, keepdim=True)
        out *= SD * out.shape[1] ** 0.5 / out.norm(dim=1, keepdim=True).clamp_min(1e-6)


def sample(setting: Setting, seed: int, models: list[int], count: int) -> Tensor:
    """Inputs (model, count, pixel) of a setting's family that no student is trained on."""
    out = torch.empty(len(models), count, images_of(setting).side ** 2)
    for row, model in zip(out, models):
        _fill(row, setting, seed, model, "sample")
    return out


def batch_sizes(images: int, batch_size: int) -> list[int]:
    """Sizes of one epoch's batches: full ones, and the rest as a last smaller one."""
    full, rest = divmod(images, batch_size)
    return [batch_size] * full + [rest] * bool(rest)


def _numbers(setting: Setting, seed: int, model: int, epoch: int) -> list[int]:
    """Names of the batches of one epoch, in order; a smaller last batch stays the last one."""
    full, rest = divmod(setting.inputs_per_epoch, setting.batch_size)
    if setting.fresh_inputs:
        first = epoch * (full + bool(rest))
        return list(range(first, first + full + bool(rest)))
    order = rng(seed, "input order", model, epoch).permutation(full)
    if setting.unique_inputs:
        order %= setting.unique_inputs // setting.batch_size
    return [*order.tolist(), full][: full + bool(rest)]


def input_batches(
    setting: Setting, seed: int, models: list[int], epoch: int
) -> Iterator[tuple[list[tuple[int, int]], Tensor]]:
    """The inputs of one epoch of distillation, batch by batch: (row, number) of each row, and (model, batch, pixel).

    A batch is named by (seed, family, model, number). With `fresh_inputs` the number goes on from epoch to epoch;
    otherwise every epoch makes the same batches again, in an order of its own. Strength is not in the name, so sweeps
    over it are paired. Batches are kept, and then overwritten, AHEAD inputs at a time: those that a teacher hears at
    once, and at least one.
    """
    sizes = batch_sizes(setting.inputs_per_epoch, setting.batch_size)
    numbers = [_numbers(setting, seed, model, epoch) for model in models]
    kept = max(AHEAD // setting.batch_size, 1)
    buffers = torch.empty(kept, len(models), max(sizes), images_of(setting).side ** 2)
    for k, size in enumerate(sizes):
        buffer = buffers[k % kept]
        for row, model, names in zip(buffer, models, numbers):
            _fill(row[:size], setting, seed, model, names[k])
        yield [(place, names[k]) for place, names in enumerate(numbers)], buffer[:, :size]

"""What networks see: the teacher's images and the student's inputs, in batches made when needed."""

from collections.abc import Iterator
from functools import cache, lru_cache

import torch
from torch import Tensor

from sublearn.core.rng import rng
from sublearn.nets import data
from sublearn.nets.data import Images
from sublearn.nets.noise import FAMILIES, SD, NoiseContext, scaled
from sublearn.nets.settings import INPUTS, Setting

VALIDATION = 6  # one training image in so many is kept for validation
TEACHER_BATCH = 1_024  # inputs in one call of the teacher: few large products are the fastest
NamedBatch = tuple[list[tuple[int, int]], Tensor]


def data_digests(setting: Setting) -> dict[str, str]:
    """Digests, by name, of the data sets on which a setting's results depend."""
    digests = {setting.dataset: data.digest(setting.dataset)}
    if setting.inputs == "fashion":
        digests["fashion"] = data.digest("fashion")
    return digests


# ---------------------------------------------------------------- the teacher's images


def images_of(setting: Setting) -> Images:
    """The teacher's training images, and as `test_images` those on which accuracy is measured.

    Errors: ValueError where the data set has fewer classes or images than asked for.
    """
    images = _images(setting.dataset, setting.evaluated, setting.classes)
    count = setting.teacher_images
    present = len(images.train_images)
    if count and count > present:
        among = f"in {images.classes} classes of {images.name}"
        raise ValueError(f"teacher_images is {count}; there are {present} {among}")
    return _select(images, slice(count), slice(None))


@cache
def _images(dataset: str, evaluated: str, classes: int | None) -> Images:
    images = data.load(dataset)
    if evaluated == "validation":
        count = len(images.train_images)
        last = count - count // VALIDATION
        images = images._replace(test_images=images.train_images, test_labels=images.train_labels)
        images = _select(images, slice(last), slice(last, None))
    if classes is None:
        return images
    if classes > images.classes:
        raise ValueError(f"classes is {classes}; {dataset} has {images.classes}")
    train = images.train_labels < classes
    test = images.test_labels < classes
    return _select(images, train, test)._replace(classes=classes)


def _select(images: Images, train: slice | Tensor, test: slice | Tensor) -> Images:
    """Only the training images and the test images that two indices pick, with their labels."""
    return images._replace(
        train_images=images.train_images[train],
        train_labels=images.train_labels[train],
        test_images=images.test_images[test],
        test_labels=images.test_labels[test],
    )


@lru_cache(maxsize=1)
def _ready_images(dataset: str, evaluated: str, classes: int | None, dtype: torch.dtype) -> Tensor:
    """The training images on [-1, 1], so that making a batch only gathers rows."""
    images = _images(dataset, evaluated, classes)
    ready = torch.empty(images.train_images.shape, dtype=dtype)
    for part, levels in zip(ready.split(TEACHER_BATCH), images.train_images.split(TEACHER_BATCH)):
        part.copy_(scaled(levels, images.top))
    return ready


def image_batches(
    setting: Setting,
    seed: int,
    models: list[int],
    epoch: int,
    dtype: torch.dtype = torch.float32,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of one epoch of the teacher's training, each model's in an order of its own.

    Each is (images `(model, batch, pixel)` on [-1, 1]; labels `(model, batch)`). The next batch
    overwrites the images.
    """
    images = images_of(setting)
    ready = _ready_images(setting.dataset, setting.evaluated, setting.classes, dtype)
    count = len(images.train_images)
    orders = []
    for model in models:
        order = rng(seed, "order", model, epoch).permutation(count)
        orders.append(torch.from_numpy(order))
    orders = torch.stack(orders)
    batch_size = setting.teacher_batch_size
    buffer = torch.empty(len(models), batch_size, images.side**2, dtype=dtype)
    for picks in orders.split(batch_size, dim=1):
        batch = buffer[:, : picks.shape[1]]
        for pixels, rows in zip(batch, picks):
            torch.index_select(ready, 0, rows, out=pixels)
        yield batch, images.train_labels[picks]


# ---------------------------------------------------------------- the student's inputs


def _fill(out: Tensor, setting: Setting, seed: int, model: int, number: int | str) -> None:
    """Make batch `number` of a model's inputs in `out` `(batch, pixel)`."""
    strength = setting.strength
    if strength is None:
        strength = INPUTS[setting.inputs].usual
    generator = rng(seed, "inputs", setting.inputs, model, number)
    images = images_of(setting)
    context = NoiseContext(generator, seed, model, strength, setting.dataset, images)
    FAMILIES[setting.inputs](context, out)
    if setting.standardized:
        _standardize(out)


def _standardize(images: Tensor) -> None:
    """Bring each image `(image, pixel)` to the mean 0 and the norm of uniform noise, in place."""
    images -= images.mean(1, keepdim=True)
    norm = images.norm(dim=1, keepdim=True)
    images *= SD * images.shape[1] ** 0.5 / norm.clamp_min(1e-6)


def sample(setting: Setting, seed: int, models: list[int], count: int) -> Tensor:
    """Inputs `(model, count, pixel)` of a setting's family that no student is trained on."""
    pixels = images_of(setting).side ** 2
    inputs = torch.empty(len(models), count, pixels)
    for batch, model in zip(inputs, models):
        _fill(batch, setting, seed, model, "sample")
    return inputs


def batch_sizes(images: int, batch_size: int) -> list[int]:
    """Sizes of one epoch's batches: full ones, and the rest as a last smaller one."""
    full, rest = divmod(images, batch_size)
    sizes = [batch_size] * full
    if rest:
        sizes.append(rest)
    return sizes


def _batch_numbers(setting: Setting, seed: int, model: int, epoch: int) -> list[int]:
    """Numbers of one epoch's batches, in order; a smaller last batch stays the last one."""
    batches = len(batch_sizes(setting.inputs_per_epoch, setting.batch_size))
    if setting.fresh_inputs:
        first = epoch * batches
        return list(range(first, first + batches))
    full = setting.inputs_per_epoch // setting.batch_size
    order = rng(seed, "input order", model, epoch).permutation(full)
    if setting.unique_inputs:
        order %= setting.unique_inputs // setting.batch_size
    numbers = order.tolist()
    if batches > full:
        numbers.append(full)
    return numbers


def input_batches(
    setting: Setting,
    seed: int,
    models: list[int],
    epoch: int,
    dtype: torch.dtype = torch.float32,
) -> Iterator[NamedBatch]:
    """Batches of one epoch of distillation: names (row, number) of the rows, and their inputs.

    Inputs are `(model, batch, pixel)`; a row is a place in `models`. What is in a row follows from
    (seed, family, model, number) alone. With `fresh_inputs` the number goes on from epoch to epoch;
    otherwise every epoch makes the same batches again, in an order of its own. Strength is not in
    the name, so sweeps over it are paired.

    Batches are kept, and then overwritten, TEACHER_BATCH inputs at a time: those that a teacher
    sees in one call, and at least one.
    """
    sizes = batch_sizes(setting.inputs_per_epoch, setting.batch_size)
    numbers = [_batch_numbers(setting, seed, model, epoch) for model in models]
    kept = max(TEACHER_BATCH // setting.batch_size, 1)
    pixels = images_of(setting).side ** 2
    buffers = torch.empty(kept, len(models), sizes[0], pixels, dtype=dtype)
    drawn = torch.empty(sizes[0], pixels)
    for step, size in enumerate(sizes):
        inputs = buffers[step % kept, :, :size]
        names = []
        for row, model in enumerate(models):
            number = numbers[row][step]
            _fill(drawn[:size], setting, seed, model, number)
            inputs[row].copy_(drawn[:size])
            names.append((row, number))
        yield names, inputs

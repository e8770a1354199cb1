"""What a student sees instead of digits: families of random images, made when they are needed and never stored."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from sublearn.seeds import stream
from sublearn.settings import Setting


def uniform(generator: np.random.Generator, out: Tensor) -> Tensor:
    """Fill `out` with independent uniform pixels on [-1, 1), in 65,536 equal steps.

    Sixteen random bits a pixel make this seven times faster than a float from every 32; a digit has 256 grey levels.
    """
    words = generator.integers(0, 2**64 - 1, -(-out.numel() // 4), dtype=np.uint64, endpoint=True)
    steps = torch.from_numpy(words.view(np.int16)[: out.numel()]).view(out.shape)
    return out.copy_(steps).mul_(2.0**-15)


FAMILIES = {"uniform": uniform}


def batch_sizes(images: int, batch_size: int) -> list[int]:
    """Sizes of one epoch's batches: full ones, and the rest as a last smaller one."""
    full, rest = divmod(images, batch_size)
    return [batch_size] * full + [rest] * bool(rest)


def noise_batches(setting: Setting, seed: int, models: list[int], epoch: int, pixels: int) -> Iterator[Tensor]:
    """The inputs of one epoch of distillation, batch by batch: (model, batch, pixel), in [-1, 1).

    A batch is named by (seed, family, model, number). With `fresh_inputs` the number goes on from epoch to epoch;
    otherwise every epoch makes the same batches again, in an order of its own. The next batch overwrites the tensor.
    """
    sizes = batch_sizes(setting.inputs_per_epoch, setting.batch_size)
    full = setting.inputs_per_epoch // setting.batch_size  # a smaller last batch stays the last one
    orders = [stream(seed, "input order", model, epoch).permutation(full).tolist() for model in models]
    buffer = torch.empty(len(models), max(sizes), pixels)
    for k, size in enumerate(sizes):
        for row, model, order in zip(buffer, models, orders):
            number = epoch * len(sizes) + k if setting.fresh_inputs else [*order, full][k]
            FAMILIES[setting.inputs](stream(seed, "inputs", setting.inputs, model, number), row[:size])
        yield buffer[:, :size]

"""Many models held as one: weights stacked along a leading model axis, addressed by the names of the module."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from sublearn.core.machine import device
from sublearn.core.rng import rng
from sublearn.nets.models import Outputs
from sublearn.nets.settings import Setting

SMALL = 50_000  # weights below which calling a network costs more than its arithmetic
Weights = dict[str, Tensor]  # name -> (model, *shape of that parameter)
Item = TypeVar("Item")


def _normal(generator: np.random.Generator, shape: tuple[int, ...], fan_in: int) -> np.ndarray:
    """N(0, 1/fan_in) for weights, zeros for biases."""
    if len(shape) == 1:
        return np.zeros(shape, dtype=np.float32)
    return generator.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(fan_in))


def _torch(generator: np.random.Generator, shape: tuple[int, ...], fan_in: int) -> np.ndarray:
    """U(-1, 1)/sqrt(fan_in) for weights and biases, the law of nn.Linear."""
    unit = 2 * generator.random(shape, dtype=np.float32) - 1
    return unit / np.float32(np.sqrt(fan_in))


LAWS: dict[str, Callable] = {"normal": _normal, "torch": _torch}


def initial_weights(
    net: nn.Module, setting: Setting, seed: int, models: Sequence[int], owner: str = "init"
) -> Weights:
    """Initial weights of the named models, by the law `setting.init` times `setting.init_scale`.

    owner: names the random stream. The first rows of a wider auxiliary head are those of a narrower one.
    """
    law = LAWS[setting.init]
    shapes = {name: tuple(tensor.shape) for name, tensor in net.named_parameters()}
    weights = {}
    for name, shape in shapes.items():
        weight_shape = shapes[name.replace("bias", "weight")]
        fan_in = int(np.prod(weight_shape[1:]))
        drawn = [law(rng(seed, owner, model, name), shape, fan_in) for model in models]
        weights[name] = torch.from_numpy(np.stack(drawn) * np.float32(setting.init_scale))
    return weights


def transplant(into: Weights, *, source: Weights, parts: Iterable[str]) -> Weights:
    """Copy of `into` whose tensors of the named parts (prefixes such as "hidden" or "hidden.0") are `source`'s."""
    parts = tuple(parts)
    mixed = {}
    for name, tensor in into.items():
        chosen = source[name] if name.startswith(parts) else tensor
        mixed[name] = chosen.clone()
    return mixed


def perturbation_noise(
    weights: Weights, setting: Setting, seed: int, models: Sequence[int]
) -> Weights:
    """Gaussian noise for the perturbed parts, its sd `setting.perturbation`: absolute, or times each tensor's own."""
    noise = {}
    for name, stacked in weights.items():
        if not name.startswith(setting.perturbed):
            continue
        rows = []
        for model, tensor in zip(models, stacked):
            generator = rng(seed, "perturbation", model, name)
            drawn = torch.from_numpy(generator.standard_normal(tensor.shape, dtype=np.float32))
            unit = 1.0 if setting.perturbation_kind == "absolute" else tensor.std(correction=0)
            rows.append(setting.perturbation * unit * drawn)
        noise[name] = torch.stack(rows)
    return noise


def inner_product(left: Weights, right: Weights) -> Tensor:
    """Inner product over the weights named by `left`: (model,), in double precision."""
    total = 0
    for name, tensor in left.items():
        product = tensor.double() * right[name].double()
        total = total + product.flatten(1).sum(1)
    return total


def orthogonalize(noise: Weights, *, gradient: Weights) -> Weights:
    """The noise less its part along the gradient, model by model, brought back to its length."""
    along = {name: gradient[name] for name in noise}
    share = inner_product(noise, along) / inner_product(along, along)
    rest = {}
    for name, tensor in noise.items():
        rest[name] = tensor - _per_model(share, tensor) * along[name]
    length = (inner_product(noise, noise) / inner_product(rest, rest)).sqrt()
    return {name: tensor * _per_model(length, tensor) for name, tensor in rest.items()}


def _per_model(factor: Tensor, tensor: Tensor) -> Tensor:
    """A factor (model,) in the type and with the axes of a stacked tensor, to multiply it by."""
    return factor.to(tensor).view(-1, *[1] * (tensor.dim() - 1))


def _is_small(net: nn.Module) -> bool:
    return sum(tensor.numel() for tensor in net.parameters()) < SMALL


def split_models(net: nn.Module, models: Sequence[Item]) -> list[list[Item]]:
    """How an ensemble is split into calls: whole on a GPU, eight models a call where networks are small, else one.

    One large network in each thread keeps its activations in the core's own memory; small ones would wait for Python.
    """
    size = 8 if _is_small(net) else 1
    if device().type == "cuda":
        size = max(len(models), 1)
    return [list(models[start : start + size]) for start in range(0, len(models), size)]


def forward(net: nn.Module, weights: Weights, images: Tensor) -> Outputs:
    """Outputs (model, batch, width) of every model on its own images (model, batch, pixel) or shared (batch, pixel).

    A large network that comes alone is called plainly, all others through `vmap`. Neither mixes models, so a model's
    numbers do not depend, to the bit, on how many there are.
    """
    shared = images.dim() == 2
    count = len(next(iter(weights.values())))
    if count == 1 and not _is_small(net):
        # squeeze(0) is a view whose gradient is free; that of [0] would be filled with zeros
        single = {name: tensor.squeeze(0) for name, tensor in weights.items()}
        outputs = functional_call(net, single, (images if shared else images.squeeze(0),))
        return Outputs(*(tensor.unsqueeze(0) for tensor in outputs))

    def call(weights: Weights, images: Tensor) -> Outputs:
        return functional_call(net, weights, (images,))

    return vmap(call, in_dims=(0, None if shared else 0))(weights, images)

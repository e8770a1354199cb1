"""Many models held as one: weights stacked along a leading model axis, by name."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
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
    unit = generator.standard_normal(shape, dtype=np.float32)
    root = np.float32(np.sqrt(fan_in))
    return unit / root


def _torch(generator: np.random.Generator, shape: tuple[int, ...], fan_in: int) -> np.ndarray:
    """U(-1, 1)/sqrt(fan_in) for weights and biases, the law of nn.Linear."""
    unit = 2 * generator.random(shape, dtype=np.float32) - 1
    bound = np.float32(np.sqrt(fan_in))
    return unit / bound


LAWS: dict[str, Callable] = {"normal": _normal, "torch": _torch}


def initial_weights(
    net: nn.Module, setting: Setting, seed: int, models: Sequence[int], owner: str = "init"
) -> Weights:
    """Initial weights of the named models, by the law `setting.init` times `setting.init_scale`.

    owner: names the random stream. The first rows of a wider auxiliary head are those of a narrower
        one.
    """
    draw = LAWS[setting.init]
    scale = np.float32(setting.init_scale)
    weights = {}
    for name, parameter in net.named_parameters():
        shape = tuple(parameter.shape)
        fan_in = _fan_in(net, name)
        rows = []
        for model in models:
            generator = rng(seed, owner, model, name)
            rows.append(draw(generator, shape, fan_in))
        stacked = np.stack(rows) * scale
        weights[name] = torch.from_numpy(stacked)
    return weights


def _fan_in(net: nn.Module, name: str) -> int:
    """Inputs of each unit of the layer that a weight or a bias belongs to."""
    weight = net.get_parameter(name.replace("bias", "weight"))
    return weight[0].numel()


def transplant(into: Weights, *, source: Weights, parts: Iterable[str]) -> Weights:
    """Copy of `into` with the tensors of `source` in the named parts, such as "hidden.0"."""
    parts = tuple(parts)
    mixed = {}
    for name, tensor in into.items():
        chosen = source[name] if name.startswith(parts) else tensor
        mixed[name] = chosen.clone()
    return mixed


def perturbation_noise(
    weights: Weights, setting: Setting, seed: int, models: Sequence[int]
) -> Weights:
    """Gaussian noise for the perturbed parts, its sd absolute or times each tensor's own."""
    absolute = setting.perturbation_kind == "absolute"
    noise = {}
    for name, stacked in weights.items():
        if not name.startswith(setting.perturbed):
            continue
        rows = []
        for model, tensor in zip(models, stacked):
            generator = rng(seed, "perturbation", model, name)
            drawn = generator.standard_normal(tensor.shape, dtype=np.float32)
            unit = 1.0 if absolute else tensor.std(correction=0)
            sd = setting.perturbation * unit
            rows.append(sd * torch.from_numpy(drawn))
        noise[name] = torch.stack(rows)
    return noise


def inner_product(left: Weights, right: Weights) -> Tensor:
    """Inner product over the weights named by `left`: (model,), in double precision."""
    total = 0
    for name, tensor in left.items():
        product = tensor.double() * right[name].double()
        flat = product.flatten(1)
        total = total + flat.sum(1)
    return total


def orthogonalize(noise: Weights, *, gradient: Weights) -> Weights:
    """The noise less its part along the gradient, model by model, brought back to its length."""
    direction = {name: gradient[name] for name in noise}
    square = inner_product(direction, direction)
    share = inner_product(noise, direction) / square
    along = scale_models(direction, share)
    rest = {}
    for name, tensor in noise.items():
        rest[name] = tensor - along[name]
    growth = inner_product(noise, noise) / inner_product(rest, rest)
    return scale_models(rest, growth.sqrt())


def scale_models(weights: Weights, factors: Tensor) -> Weights:
    """The weights of each model times that model's factor (model,)."""
    scaled = {}
    for name, tensor in weights.items():
        axes = [1] * (tensor.dim() - 1)
        factor = factors.to(tensor).view(-1, *axes)
        scaled[name] = factor * tensor
    return scaled


def _is_small(net: nn.Module) -> bool:
    return sum(tensor.numel() for tensor in net.parameters()) < SMALL


def split_models(net: nn.Module, models: Sequence[Item]) -> list[list[Item]]:
    """Split an ensemble into calls: whole on a GPU, eight small networks, else one.

    One large network in each thread keeps its activations in the core's own memory; small ones
    would wait for Python.
    """
    size = 8 if _is_small(net) else 1
    if device().type == "cuda":
        size = max(len(models), 1)
    groups = []
    for start in range(0, len(models), size):
        groups.append(list(models[start : start + size]))
    return groups


def forward(net: nn.Module, weights: Weights, images: Tensor) -> Outputs:
    """Outputs of every model on its own images (model, batch, pixel) or shared (batch, pixel).

    A large network that comes alone is called plainly, all others through `vmap`. Neither mixes
    models, so a model's numbers do not depend, to the bit, on how many there are.
    """
    first = next(iter(weights.values()))
    if len(first) == 1 and not _is_small(net):
        return _forward_single(net, weights, images)
    call = partial(functional_call, net)
    image_axis = None if images.dim() == 2 else 0
    return vmap(call, in_dims=(0, image_axis))(weights, images)


def _forward_single(net: nn.Module, weights: Weights, images: Tensor) -> Outputs:
    single = {}
    for name, tensor in weights.items():
        single[name] = tensor.squeeze(0)  # a view whose gradient is free; that of [0] is filled up
    if images.dim() == 3:
        images = images.squeeze(0)
    outputs = functional_call(net, single, images)
    return Outputs(*(tensor.unsqueeze(0) for tensor in outputs))

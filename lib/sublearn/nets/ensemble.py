"""Many small networks held as one: weights stacked along a leading model axis, parts addressed by name."""

from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import vmap

from sublearn.core.machine import device
from sublearn.core.rng import rng
from sublearn.nets.settings import Setting

SMALL = 50_000  # weights below which calling a network costs more than its arithmetic
Weights = dict[str, Tensor]  # name -> (model, *shape of that parameter)


class Outputs(NamedTuple):
    """What a network says: features of the last hidden layer, class logits and auxiliary logits, each (..., width)."""

    features: Tensor
    classes: Tensor
    aux: Tensor


class MLP:
    """Perceptron with ReLU layers `hidden` and two linear readouts, `class_head` and `aux_head`; it holds no weights.

    `shapes` are those of one model's weights by name; called with them and images (batch, pixel), it gives `Outputs`.
    """

    def __init__(self, pixels: int, hidden: Sequence[int], classes: int, aux_dim: int) -> None:
        widths = [pixels, *hidden]
        self.hidden = [f"hidden.{layer}" for layer in range(len(hidden))]
        sides = dict(zip(self.hidden, zip(hidden, widths)))
        sides |= {"class_head": (classes, widths[-1]), "aux_head": (aux_dim, widths[-1])}
        self.shapes: dict[str, tuple[int, ...]] = {}
        for part, (out, into) in sides.items():
            self.shapes |= {f"{part}.weight": (out, into), f"{part}.bias": (out,)}

    def __call__(self, weights: Weights, images: Tensor) -> Outputs:
        """Outputs of one model for images (batch, pixel)."""

        def layer(part: str, inputs: Tensor) -> Tensor:
            return F.linear(inputs, weights[f"{part}.weight"], weights[f"{part}.bias"])

        for part in self.hidden:
            images = layer(part, images).relu_()
        return Outputs(images, layer("class_head", images), layer("aux_head", images))


def network(setting: Setting, pixels: int, classes: int) -> MLP:
    """The architecture of a setting."""
    return MLP(pixels, setting.hidden, classes, setting.aux_dim)


def _fan_in(net: MLP, name: str) -> int:
    return prod(net.shapes[name.replace("bias", "weight")][1:])


def _normal(draw: np.random.Generator, name: str, shape: tuple[int, ...], fan_in: int) -> np.ndarray:
    if name.endswith("bias"):
        return np.zeros(shape, dtype=np.float32)
    return draw.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(fan_in))


def _torch(draw: np.random.Generator, name: str, shape: tuple[int, ...], fan_in: int) -> np.ndarray:
    return (2 * draw.random(shape, dtype=np.float32) - 1) / np.float32(np.sqrt(fan_in))


LAWS: dict[str, Callable] = {"normal": _normal, "torch": _torch}


def initial(net: MLP, setting: Setting, seed: int, models: Sequence[int], owner: str = "init") -> Weights:
    """Initial weights of the named models. The first rows of a wider auxiliary head are those of a narrower one.

    The law is `setting.init`, times `setting.init_scale`; `owner` names the stream.
    """
    law, scale = LAWS[setting.init], np.float32(setting.init_scale)

    def draw(model: int, name: str, shape: tuple[int, ...]) -> Tensor:
        return torch.from_numpy(law(rng(seed, owner, model, name), name, shape, _fan_in(net, name)) * scale)

    return {name: torch.stack([draw(model, name, shape) for model in models]) for name, shape in net.shapes.items()}


def transplant(into: Weights, *, source: Weights, parts: Iterable[str]) -> Weights:
    """Copy of `into` whose tensors of the named parts (prefixes such as "hidden" or "hidden.0") are `source`'s."""
    parts = tuple(parts)
    return {name: (source if name.startswith(parts) and parts else into)[name].clone() for name in into}


def perturbation(weights: Weights, setting: Setting, seed: int, models: Sequence[int]) -> Weights:
    """Gaussian noise for the perturbed parts, its sd `setting.perturbation`: absolute, or times each tensor's own."""
    absolute = setting.perturbation_kind == "absolute"

    def noise(model: int, name: str, tensor: Tensor) -> Tensor:
        draw = rng(seed, "perturbation", model, name).standard_normal(tensor.shape, dtype=np.float32)
        unit = 1.0 if absolute else tensor.std(correction=0)
        return setting.perturbation * unit * torch.from_numpy(draw)

    return {
        name: torch.stack([noise(model, name, row) for model, row in zip(models, tensor)])
        for name, tensor in weights.items()
        if setting.perturbed and name.startswith(setting.perturbed)
    }


def inner(one: Weights, other: Weights) -> Tensor:
    """Inner product over the weights named by `one`: (model,), in double precision."""
    return sum((one[name].double() * other[name].double()).flatten(1).sum(1) for name in one)


def without(noise: Weights, *, gradient: Weights) -> Weights:
    """The noise less its part along the gradient, model by model, brought back to its length."""
    share = inner(noise, gradient) / inner({name: gradient[name] for name in noise}, gradient)
    left = {name: tensor - _each(share, tensor) * gradient[name] for name, tensor in noise.items()}
    length = (inner(noise, noise) / inner(left, left)).sqrt()
    return {name: tensor * _each(length, tensor) for name, tensor in left.items()}


def _each(factor: Tensor, tensor: Tensor) -> Tensor:
    return factor.to(tensor).view(-1, *[1] * (tensor.dim() - 1))


def _small(net: MLP) -> bool:
    return sum(map(prod, net.shapes.values())) < SMALL


def chunks(net: MLP, models: Sequence[int]) -> list[list[int]]:
    """How an ensemble is split into calls: whole on a GPU, eight models a call where networks are small, else one.

    One large network in each thread keeps its activations in the core's own memory; small ones would wait for Python.
    """
    size = max(len(models), 1) if device().type == "cuda" else 8 if _small(net) else 1
    return [list(models[start : start + size]) for start in range(0, len(models), size)]


def apply(net: MLP, weights: Weights, images: Tensor) -> Outputs:
    """Outputs (model, batch, width) of every model on its own images (model, batch, pixel) or shared (batch, pixel).

    A large network that comes alone is called plainly, all others through `vmap`. Neither mixes models, so a model's
    numbers do not depend, to the bit, on how many there are.
    """
    shared = images.dim() == 2
    if len(next(iter(weights.values()))) == 1 and not _small(net):
        own = {name: tensor.squeeze(0) for name, tensor in weights.items()}  # unlike [0], a view with a free gradient
        return Outputs(*(tensor[None] for tensor in net(own, images if shared else images.squeeze(0))))
    return vmap(net, in_dims=(0, None if shared else 0))(weights, images)

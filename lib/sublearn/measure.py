"""Numbers read off trained networks: accuracy, probe, movement, spectrum."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from sublearn.data import Images
from sublearn.ensemble import Outputs, Weights, apply, transplant
from sublearn.machine import device
from sublearn.training import scaled

SLICE = 2_000  # images evaluated at a time
PROBE_IMAGES = 10_000  # training images a probe is fitted on: a probe of 256 features gains little from more


class Trained(NamedTuple):
    """What a measure may look at: a network's weights now, at its start, and those of the teacher it learned from."""

    net: nn.Module
    weights: Weights
    start: Weights
    teacher: Weights
    images: Images


@torch.no_grad()
def _outputs(net: nn.Module, weights: Weights, levels: Tensor, top: int) -> list[Outputs]:
    weights = {name: tensor.to(device()) for name, tensor in weights.items()}
    return [apply(net, weights, scaled(part, top).to(device())) for part in levels.split(SLICE)]


def accuracy(net: nn.Module, weights: Weights, images: Images) -> Tensor:
    """Share of test images whose largest class logit is the label: (model,)."""
    parts = _outputs(net, weights, images.test_images, images.top)
    guesses = torch.cat([part.classes.argmax(-1) for part in parts], dim=1)
    return (guesses == images.test_labels.to(guesses.device)).double().mean(1).cpu()


def probe_accuracy(net: nn.Module, weights: Weights, images: Images, ridge: float = 1e-3) -> Tensor:
    """Test accuracy (model,) of a linear probe on the last hidden layer.

    The probe is ridge regression onto one-hot labels (closed form; penalty `ridge` times the mean eigenvalue),
    fitted on the first PROBE_IMAGES training images.
    """
    gram = moment = 0
    labels = one_hot(images.train_labels[:PROBE_IMAGES], images.classes).float().to(device())
    seen = _outputs(net, weights, images.train_images[:PROBE_IMAGES], images.top)
    for part, goal in zip(seen, labels.split(SLICE)):
        features = _with_one(part.features)
        gram = gram + (features.mT @ features).double()
        moment = moment + (features.mT @ goal).double()
    penalty = (
        ridge * gram.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] * torch.eye(gram.shape[1], device=gram.device)
    )
    readout = torch.linalg.solve(gram + penalty, moment).float()
    parts = _outputs(net, weights, images.test_images, images.top)
    guesses = torch.cat([(_with_one(part.features) @ readout).argmax(-1) for part in parts], dim=1)
    return (guesses == images.test_labels.to(guesses.device)).double().mean(1).cpu()


def _with_one(features: Tensor) -> Tensor:
    return torch.cat([features, features.new_ones(*features.shape[:-1], 1)], dim=-1)


def ceiling(trained: Trained) -> dict[str, Tensor]:
    """Accuracy of the network's body under the class head it started with: what a perfect imitator would get."""
    mixed = transplant(trained.weights, source=trained.start, parts=["class_head"])
    return {"ceiling": accuracy(trained.net, mixed, trained.images)}


def probe(trained: Trained) -> dict[str, Tensor]:
    """Accuracy of a linear probe on the last hidden layer."""
    return {"probe": probe_accuracy(trained.net, trained.weights, trained.images)}


def _flat(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().double().flatten(1)


def movement(trained: Trained) -> dict[str, Tensor]:
    """For each weight matrix: how far it moved relative to its norm at the start, and along the teacher's own way.

    `moved NAME` is ||now - start|| / ||start||; `toward NAME` the cosine of (now - start) and (teacher - start),
    not a number where either did not move.
    """
    found = {}
    for name in (name for name in trained.weights if name.endswith("weight")):
        start = trained.start[name]
        step = _flat(trained.weights[name] - start)
        way = _flat(trained.teacher[name][:, : start.shape[1]] - start)
        layer = name.removesuffix(".weight")
        found[f"moved {layer}"] = step.norm(dim=1) / _flat(start).norm(dim=1)
        found[f"toward {layer}"] = (step * way).sum(1) / (step.norm(dim=1) * way.norm(dim=1))
    return found


def _spectrum(kind: str, variances: Tensor, components: int) -> dict[str, Tensor]:
    """Shares of the leading variances (model, component) and the effective number, (sum)^2 over sum of squares."""
    total = variances.sum(1)
    found = {f"{kind} {k + 1}": variances[:, k] / total for k in range(min(components, variances.shape[1]))}
    return found | {f"{kind} number": total.square() / variances.square().sum(1)}


def spectrum(trained: Trained, components: int = 12) -> dict[str, Tensor]:
    """Share of variance explained by the leading principal components of the second-to-last layer (after Roe, 2025).

    Of three things: `weights k`, the rows of the last hidden weight matrix; `change k`, the rows of that matrix less
    its start (not a number if it did not move); `features k`, the last hidden layer's response to the test images.
    `KIND number` is the effective number of components, which is n for n equal ones.
    """
    *_, last = (name for name in trained.weights if name.startswith("hidden.") and name.endswith("weight"))
    now, start = (side[last].detach().cpu().double() for side in (trained.weights, trained.start))
    parts = _outputs(trained.net, trained.weights, trained.images.test_images, trained.images.top)
    features = torch.cat([part.features.double() for part in parts], dim=1).cpu()
    found = {}
    for kind, rows in {"weights": now, "change": now - start, "features": features}.items():
        centered = rows - rows.mean(1, keepdim=True)
        variances = torch.linalg.eigvalsh(centered.mT @ centered).flip(-1).clamp_min(0)
        found |= _spectrum(kind, variances, components)
    return found


MEASURES: dict[str, Callable[[Trained], dict[str, Tensor]]] = {
    "ceiling": ceiling,
    "probe": probe,
    "movement": movement,
    "spectrum": spectrum,
}

"""Numbers read off trained networks: accuracy, probe, movement, spectrum."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from sublearn.data import Images
from sublearn.ensemble import Outputs, Weights, apply
from sublearn.machine import device
from sublearn.training import scaled

SLICE = 2_000  # images evaluated at a time
PROBE_IMAGES = 10_000  # training images a probe is fitted on: a probe of 256 features gains little from more


class Trained(NamedTuple):
    """What a measure may look at: a network now and at its start, its teacher, and what it says to the test images."""

    net: nn.Module
    weights: Weights
    start: Weights
    teacher: Weights
    images: Images
    seen: Outputs  # (model, test image, width)


@torch.no_grad()
def outputs(net: nn.Module, weights: Weights, levels: Tensor, top: int) -> Outputs:
    """Outputs (model, image, width) on grey levels (image, pixel) of at most `top`."""
    weights = {name: tensor.to(device()) for name, tensor in weights.items()}
    parts = [apply(net, weights, scaled(part, top).to(device())) for part in levels.split(SLICE)]
    return Outputs(*(torch.cat(pieces, dim=1) for pieces in zip(*parts)))


def _share_right(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.argmax(-1) == labels.to(logits.device)).double().mean(1).cpu()


def accuracy(net: nn.Module, weights: Weights, images: Images) -> Tensor:
    """Share of test images whose largest class logit is the label: (model,)."""
    return _share_right(outputs(net, weights, images.test_images, images.top).classes, images.test_labels)


def trained(net: nn.Module, weights: Weights, *, start: Weights, teacher: Weights, images: Images) -> Trained:
    """A trained network with its outputs on the test set, which all measures share."""
    seen = outputs(net, weights, images.test_images, images.top)
    return Trained(net, weights, start, teacher, images, seen)


def own(network: Trained) -> dict[str, Tensor]:
    """Accuracy on the test set with the network's own class head."""
    return {"accuracy": _share_right(network.seen.classes, network.images.test_labels)}


def ceiling(network: Trained) -> dict[str, Tensor]:
    """Accuracy of the network's body under the class head it started with: what a perfect imitator would get."""
    weight, bias = (network.start[f"class_head.{name}"].to(network.seen.features) for name in ("weight", "bias"))
    logits = network.seen.features @ weight.mT + bias[:, None]
    return {"ceiling": _share_right(logits, network.images.test_labels)}


def probe(network: Trained, ridge: float = 1e-3) -> dict[str, Tensor]:
    """Accuracy of a linear probe on the last hidden layer.

    The probe is ridge regression onto one-hot labels (closed form; penalty `ridge` times the mean eigenvalue),
    fitted on the first PROBE_IMAGES training images.
    """
    images = network.images
    fitted = outputs(network.net, network.weights, images.train_images[:PROBE_IMAGES], images.top)
    features = _with_one(fitted.features)
    goal = one_hot(images.train_labels[:PROBE_IMAGES], images.classes).to(features)
    gram, moment = (features.mT @ features).double(), (features.mT @ goal).double()
    eye = torch.eye(gram.shape[1], device=gram.device)
    penalty = ridge * gram.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] * eye
    readout = torch.linalg.solve(gram + penalty, moment).float()
    return {"probe": _share_right(_with_one(network.seen.features) @ readout, images.test_labels)}


def _with_one(features: Tensor) -> Tensor:
    return torch.cat([features, features.new_ones(*features.shape[:-1], 1)], dim=-1)


def _flat(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().double().flatten(1)


def movement(network: Trained) -> dict[str, Tensor]:
    """For each weight matrix: how far it moved relative to its norm at the start, and along the teacher's own way.

    `moved NAME` is ||now - start|| / ||start||; `toward NAME` the cosine of (now - start) and (teacher - start),
    not a number where either did not move.
    """
    found = {}
    for name in (name for name in network.weights if name.endswith("weight")):
        start = network.start[name]
        step = _flat(network.weights[name] - start)
        way = _flat(network.teacher[name][:, : start.shape[1]] - start)
        layer = name.removesuffix(".weight")
        found[f"moved {layer}"] = step.norm(dim=1) / _flat(start).norm(dim=1)
        found[f"toward {layer}"] = (step * way).sum(1) / (step.norm(dim=1) * way.norm(dim=1))
    return found


def _spectrum(kind: str, variances: Tensor, components: int) -> dict[str, Tensor]:
    """Shares of the leading variances (model, component) and the effective number, (sum)^2 over sum of squares."""
    total = variances.sum(1)
    found = {f"{kind} {k + 1}": variances[:, k] / total for k in range(min(components, variances.shape[1]))}
    return found | {f"{kind} number": total.square() / variances.square().sum(1)}


def spectrum(network: Trained, components: int = 12) -> dict[str, Tensor]:
    """Share of variance explained by the leading principal components of the second-to-last layer (after Roe, 2025).

    Of three things: `weights k`, the rows of the last hidden weight matrix; `change k`, the rows of that matrix less
    its start (not a number if it did not move); `features k`, the last hidden layer's response to the test images.
    `KIND number` is the effective number of components, which is n for n equal ones.
    """
    *_, last = (name for name in network.weights if name.startswith("hidden.") and name.endswith("weight"))
    now, start = (side[last].detach().cpu().double() for side in (network.weights, network.start))
    features = network.seen.features.double().cpu()
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

"""Numbers read off trained networks: accuracy, probe, movement, spectrum, and what might predict transfer."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from sublearn.core.machine import device
from sublearn.nets.data import Images
from sublearn.nets.ensemble import MLP, Outputs, Weights, apply, inner
from sublearn.nets.noise import scaled

SLICE = 2_000  # images evaluated at a time
PROBE_IMAGES = 10_000  # training images a probe is fitted on: a probe of 256 features gains little from more


class Trained(NamedTuple):
    """What a measure may look at: a network now and at its start, its teacher, and what it says to the test images.

    Students also bring a sample of their inputs and the gradient of their first step on it.
    """

    net: MLP
    weights: Weights
    start: Weights
    teacher: Weights
    images: Images
    seen: Outputs  # (model, test image, width)
    inputs: Tensor | None = None  # (model, image, pixel)
    first: Weights | None = None


@torch.no_grad()
def outputs(net: MLP, weights: Weights, levels: Tensor, top: int) -> Outputs:
    """Outputs (model, image, width) on grey levels (image, pixel) of at most `top`."""
    weights = {name: tensor.to(device()) for name, tensor in weights.items()}
    parts = [apply(net, weights, scaled(part, top).to(device())) for part in levels.split(SLICE)]
    return Outputs(*(torch.cat(pieces, dim=1) for pieces in zip(*parts)))


def _share_right(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.argmax(-1) == labels.to(logits.device)).double().mean(1).cpu()


def accuracy(net: MLP, weights: Weights, images: Images) -> Tensor:
    """Share of test images whose largest class logit is the label: (model,)."""
    return _share_right(outputs(net, weights, images.test_images, images.top).classes, images.test_labels)


def trained(net: MLP, weights: Weights, *, images: Images, **known: Weights | Tensor | None) -> Trained:
    """A trained network with its outputs on the test set, which all measures share; `known` are fields of Trained."""
    seen = outputs(net, weights, images.test_images, images.top)
    return Trained(net, weights, images=images, seen=seen, **known)


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


def effective_rank(features: Tensor) -> Tensor:
    """Effective number of directions in features (model, image, width): (sum)^2 over sum of squares of variances."""
    centered = (features - features.mean(1, keepdim=True)).double()
    gram = centered.mT @ centered
    return gram.diagonal(dim1=1, dim2=2).sum(1).square() / gram.square().sum((1, 2))


def _alike(one: Tensor, other: Tensor) -> Tensor:
    """Linear CKA of two responses (model, image, width) to the same images (Kornblith et al., 2019)."""
    one, other = (side - side.mean(1, keepdim=True) for side in (one, other))
    cross, own, theirs = (
        (a.mT @ b).double().square().sum((1, 2)) for a, b in ((one, other), (one, one), (other, other))
    )
    return cross / (own * theirs).sqrt()


@torch.no_grad()
def predictors(network: Trained) -> dict[str, Tensor]:
    """What has been said to predict transfer; {} for networks that are no students.

    Before training: `effective rank` of the teacher's last hidden layer on a sample of the inputs, `logit correlation`
    (first canonical share: how much of the teacher's class logits there a linear map of its auxiliary logits gives,
    R squared) and `coverage`, the cosine of the first gradient step with the teacher's displacement in the hidden
    layers (Madl, 2026). After it, on test images against the teacher: `head similarity`, the cosine of the two
    features' images under the student's class head; `CKA`, linear, of the features; `weight cosine` of hidden layers.
    """
    if network.inputs is None:
        return {}
    teacher = {name: tensor.to(device()) for name, tensor in network.teacher.items()}
    heard = apply(network.net, teacher, network.inputs.to(device()))
    goal = outputs(network.net, teacher, network.images.test_images, network.images.top)
    hidden = [name for name in network.weights if name.startswith("hidden")]
    now, start, taught = ({n: side[n].detach().cpu() for n in hidden} for side in network[1:4])
    way = {name: taught[name] - start[name] for name in hidden}
    step = {name: -network.first[name].cpu() for name in hidden if name in network.first}
    said, meant = (
        features @ network.weights["class_head.weight"].detach().mT
        for features in (network.seen.features, goal.features)
    )
    return {
        "effective rank": effective_rank(heard.features),
        "logit correlation": _explained(heard.classes, _with_one(heard.aux)),
        "coverage": _cosine(step, way),
        "head similarity": torch.cosine_similarity(said, meant, dim=-1).mean(1),
        "CKA": _alike(network.seen.features, goal.features),
        "weight cosine": _cosine(now, taught),
    }


def _cosine(one: Weights, other: Weights) -> Tensor:
    same = {name: other[name] for name in one}
    return inner(one, same) / (inner(one, one) * inner(same, same)).sqrt()


def _explained(goal: Tensor, known: Tensor) -> Tensor:
    """Share of the variance of `goal` (model, image, a) that a linear map of `known` (model, image, b) gives."""
    goal, known = (goal - goal.mean(1, keepdim=True)).double(), known.double()
    shared = known.mT @ goal
    fitted = shared * (torch.linalg.pinv(known.mT @ known, hermitian=True) @ shared)
    return fitted.sum((1, 2)) / goal.square().sum((1, 2))


MEASURES: dict[str, Callable[[Trained], dict[str, Tensor]]] = {
    "ceiling": ceiling,
    "probe": probe,
    "movement": movement,
    "spectrum": spectrum,
    "predictors": predictors,
}

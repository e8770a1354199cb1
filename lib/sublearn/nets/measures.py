"""Numbers read off trained networks: accuracy, probe, displacement, spectrum, and what might predict transfer."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from sublearn.core.machine import device
from sublearn.nets.data import Images
from sublearn.nets.ensemble import Weights, forward, inner_product
from sublearn.nets.models import Outputs
from sublearn.nets.noise import scaled

EVAL_BATCH = 2_000  # images evaluated at a time
PROBE_IMAGES = 10_000  # training images a probe is fitted on: a probe of 256 features gains little from more
Numbers = dict[str, Tensor]  # name -> (model,)


class Snapshot(NamedTuple):
    """What a measure may look at: a network now and at its start, its teacher, and its outputs on the test images.

    Students also bring a sample of their inputs and the gradient of their first step on it.
    """

    net: nn.Module
    weights: Weights
    start: Weights
    teacher: Weights
    images: Images
    outputs: Outputs  # (model, test image, width)
    inputs: Tensor | None = None  # (model, image, pixel)
    first_gradient: Weights | None = None


def on_device(weights: Weights) -> Weights:
    """The weights on the training device."""
    return {name: tensor.to(device()) for name, tensor in weights.items()}


@torch.no_grad()
def evaluate(net: nn.Module, weights: Weights, levels: Tensor, top: int) -> Outputs:
    """Outputs (model, image, width) on grey levels (image, pixel) of at most `top`."""
    weights = on_device(weights)
    parts = []
    for batch in levels.split(EVAL_BATCH):
        images = scaled(batch, top).to(device())
        parts.append(forward(net, weights, images))
    return Outputs(*(torch.cat(pieces, dim=1) for pieces in zip(*parts)))


def _share_right(logits: Tensor, labels: Tensor) -> Tensor:
    """Share of images (model,) whose largest logit (model, image, class) is the label (image,)."""
    right = logits.argmax(-1) == labels.to(logits.device)
    return right.double().mean(1).cpu()


def take_snapshot(
    net: nn.Module, weights: Weights, *, images: Images, **context: Weights | Tensor | None
) -> Snapshot:
    """A network with its outputs on the test set, which all measures share; `context`: other fields of Snapshot."""
    outputs = evaluate(net, weights, images.test_images, images.top)
    return Snapshot(net, weights, images=images, outputs=outputs, **context)


def accuracy(snapshot: Snapshot) -> Numbers:
    """Share of test images whose largest class logit is the label."""
    return {"accuracy": _share_right(snapshot.outputs.class_logits, snapshot.images.test_labels)}


def ceiling(snapshot: Snapshot) -> Numbers:
    """Accuracy of the network's body under the class head it started with: what a perfect imitator would get."""
    features = snapshot.outputs.features
    weight = snapshot.start["class_head.weight"].to(features)
    bias = snapshot.start["class_head.bias"].to(features)
    logits = features @ weight.mT + bias[:, None]
    return {"ceiling": _share_right(logits, snapshot.images.test_labels)}


def probe(snapshot: Snapshot, ridge: float = 1e-3) -> Numbers:
    """Accuracy of a linear probe on the last hidden layer.

    The probe is ridge regression onto one-hot labels (closed form; penalty `ridge` times the mean eigenvalue),
    fitted on the first PROBE_IMAGES training images.
    """
    images = snapshot.images
    levels, labels = images.train_images[:PROBE_IMAGES], images.train_labels[:PROBE_IMAGES]
    outputs = evaluate(snapshot.net, snapshot.weights, levels, images.top)
    features = _with_intercept(outputs.features)
    targets = one_hot(labels, images.classes).to(features)
    gram = (features.mT @ features).double()
    moment = (features.mT @ targets).double()
    eye = torch.eye(gram.shape[1], device=gram.device)
    penalty = ridge * gram.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] * eye
    readout = torch.linalg.solve(gram + penalty, moment).float()
    logits = _with_intercept(snapshot.outputs.features) @ readout
    return {"probe": _share_right(logits, images.test_labels)}


def _with_intercept(features: Tensor) -> Tensor:
    ones = features.new_ones(*features.shape[:-1], 1)
    return torch.cat([features, ones], dim=-1)


def _flat(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().double().flatten(1)


def displacement(snapshot: Snapshot) -> Numbers:
    """For each weight matrix: how far it moved relative to its norm at the start, and along the teacher's own way.

    `moved NAME` is ||now - start|| / ||start||; `toward NAME` the cosine of (now - start) and (teacher - start),
    not a number where either did not move.
    """
    numbers = {}
    for name, start in snapshot.start.items():
        if not name.endswith("weight"):
            continue
        moved = _flat(snapshot.weights[name] - start)
        teacher_moved = _flat(snapshot.teacher[name][:, : start.shape[1]] - start)
        layer = name.removesuffix(".weight")
        numbers[f"moved {layer}"] = moved.norm(dim=1) / _flat(start).norm(dim=1)
        lengths = moved.norm(dim=1) * teacher_moved.norm(dim=1)
        numbers[f"toward {layer}"] = (moved * teacher_moved).sum(1) / lengths
    return numbers


def effective_number(variances: Tensor) -> Tensor:
    """Effective number of components (model,) of variances (model, component): (sum)^2 over the sum of squares."""
    return variances.sum(1).square() / variances.square().sum(1)


def spectrum(snapshot: Snapshot, components: int = 12) -> Numbers:
    """Share of variance explained by the leading principal components of the second-to-last layer (after Roe, 2025).

    Of three things: `weights k`, the rows of the last hidden weight matrix; `change k`, the rows of that matrix less
    its start (not a number if it did not move); `features k`, the last hidden layer's response to the test images.
    `KIND number` is the effective number of components, which is n for n equal ones.
    """
    layers = [name for name in snapshot.weights if name.startswith("hidden") and name.endswith("weight")]
    now = snapshot.weights[layers[-1]].detach().cpu().double()
    start = snapshot.start[layers[-1]].detach().cpu().double()
    features = snapshot.outputs.features.double().cpu()
    numbers = {}
    for kind, rows in {"weights": now, "change": now - start, "features": features}.items():
        centered = rows - rows.mean(1, keepdim=True)
        variances = torch.linalg.eigvalsh(centered.mT @ centered).flip(-1).clamp_min(0)
        total = variances.sum(1)
        for k in range(min(components, variances.shape[1])):
            numbers[f"{kind} {k + 1}"] = variances[:, k] / total
        numbers[f"{kind} number"] = effective_number(variances)
    return numbers


def effective_rank(features: Tensor) -> Tensor:
    """Effective number of directions (model,) in features (model, image, width): (sum)^2 / sum of squared variances."""
    centered = (features - features.mean(1, keepdim=True)).double()
    gram = centered.mT @ centered
    trace = gram.diagonal(dim1=1, dim2=2).sum(1)
    return trace.square() / gram.square().sum((1, 2))


def linear_cka(left: Tensor, right: Tensor) -> Tensor:
    """Linear CKA (model,) of two responses (model, image, width) to the same images (Kornblith et al., 2019)."""
    left = left - left.mean(1, keepdim=True)
    right = right - right.mean(1, keepdim=True)
    shared = _squared_norm(left.mT @ right)
    return shared / (_squared_norm(left.mT @ left) * _squared_norm(right.mT @ right)).sqrt()


def _squared_norm(matrix: Tensor) -> Tensor:
    return matrix.double().square().sum((1, 2))


def cosine(left: Weights, right: Weights) -> Tensor:
    """Cosine (model,) over the weights named by `left`."""
    same = {name: right[name] for name in left}
    lengths = inner_product(left, left) * inner_product(same, same)
    return inner_product(left, same) / lengths.sqrt()


def explained_share(targets: Tensor, regressors: Tensor) -> Tensor:
    """Share of the variance of targets (model, image, a) that a linear map of regressors (model, image, b) gives."""
    targets = (targets - targets.mean(1, keepdim=True)).double()
    regressors = regressors.double()
    shared = regressors.mT @ targets
    inverse = torch.linalg.pinv(regressors.mT @ regressors, hermitian=True)
    fitted = shared * (inverse @ shared)
    return fitted.sum((1, 2)) / targets.square().sum((1, 2))


def _hidden(weights: Weights) -> Weights:
    layers = {}
    for name, tensor in weights.items():
        if name.startswith("hidden"):
            layers[name] = tensor.detach().cpu()
    return layers


@torch.no_grad()
def predictors(snapshot: Snapshot) -> Numbers:
    """What has been said to predict transfer; {} for networks that are no students.

    Before training: `effective rank` of the teacher's last hidden layer on a sample of the inputs, `logit correlation`
    (first canonical share: how much of the teacher's class logits there a linear map of its auxiliary logits gives,
    R squared) and `coverage`, the cosine of the first gradient step with the teacher's displacement in the hidden
    layers (Madl, 2026). After it, on test images against the teacher: `head similarity`, the cosine of the two
    features' images under the student's class head; `CKA`, linear, of the features; `weight cosine` of hidden layers.
    """
    if snapshot.inputs is None:
        return {}
    teacher, images = on_device(snapshot.teacher), snapshot.images
    on_inputs = forward(snapshot.net, teacher, snapshot.inputs.to(device()))
    on_images = evaluate(snapshot.net, teacher, images.test_images, images.top)
    student_features, teacher_features = snapshot.outputs.features, on_images.features
    head = snapshot.weights["class_head.weight"].detach().mT
    similarity = torch.cosine_similarity(student_features @ head, teacher_features @ head, dim=-1)
    start, taught = _hidden(snapshot.start), _hidden(snapshot.teacher)
    displaced = {name: taught[name] - start[name] for name in start}
    step = {name: -gradient for name, gradient in _hidden(snapshot.first_gradient).items()}
    return {
        "effective rank": effective_rank(on_inputs.features),
        "logit correlation": explained_share(on_inputs.class_logits, _with_intercept(on_inputs.aux_logits)),
        "coverage": cosine(step, displaced),
        "head similarity": similarity.mean(1),
        "CKA": linear_cka(student_features, teacher_features),
        "weight cosine": cosine(_hidden(snapshot.weights), taught),
    }


MEASURES: dict[str, Callable[[Snapshot], Numbers]] = {
    "ceiling": ceiling,
    "probe": probe,
    "displacement": displacement,
    "spectrum": spectrum,
    "predictors": predictors,
}

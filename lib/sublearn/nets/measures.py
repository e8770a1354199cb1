"""Numbers read off trained networks: accuracy, probe, displacement, spectrum, predictors."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.linalg import eigvalsh, pinv, solve
from torch.nn.functional import cosine_similarity, one_hot, pad

from sublearn.core.machine import device
from sublearn.nets.data import Images
from sublearn.nets.ensemble import Weights, forward, inner_product
from sublearn.nets.models import Outputs
from sublearn.nets.noise import scaled

EVAL_BATCH = 2_000  # images evaluated at a time
PROBE_IMAGES = (
    10_000  # training images a probe is fitted on: a probe of 256 features gains little from more
)
Numbers = dict[str, Tensor]  # name -> (model,)


class Snapshot(NamedTuple):
    """What a measure may look at: a network now and at its start, its teacher, its outputs.

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
        images = scaled(batch, top)
        images = images.to(device())
        outputs = forward(net, weights, images)
        parts.append(outputs)
    joined = [torch.cat(pieces, dim=1) for pieces in zip(*parts)]
    return Outputs(*joined)


def _share_right(logits: Tensor, labels: Tensor) -> Tensor:
    """Share of images (model,) whose largest logit (model, image, class) is the label (image,)."""
    guesses = logits.argmax(-1)
    right = guesses == labels.to(logits.device)
    return right.double().mean(1).cpu()


def take_snapshot(
    net: nn.Module, weights: Weights, *, images: Images, **context: Weights | Tensor | None
) -> Snapshot:
    """A network with its outputs on the test set; `context`: other fields of Snapshot."""
    outputs = evaluate(net, weights, images.test_images, images.top)
    return Snapshot(net, weights, images=images, outputs=outputs, **context)


def accuracy(snapshot: Snapshot) -> Numbers:
    """Share of test images whose largest class logit is the label."""
    logits = snapshot.outputs.class_logits
    labels = snapshot.images.test_labels
    return {"accuracy": _share_right(logits, labels)}


def ceiling(snapshot: Snapshot) -> Numbers:
    """Accuracy under the class head of the start: what a perfect imitator of the body gets."""
    features = snapshot.outputs.features
    weight = snapshot.start["class_head.weight"].to(features)
    bias = snapshot.start["class_head.bias"].to(features)
    logits = features @ weight.mT
    logits += bias.unsqueeze(1)
    labels = snapshot.images.test_labels
    return {"ceiling": _share_right(logits, labels)}


def probe(snapshot: Snapshot, ridge: float = 1e-3) -> Numbers:
    """Accuracy of a linear probe on the last hidden layer.

    The probe is ridge regression onto one-hot labels (closed form; penalty `ridge` times the mean
    eigenvalue), fitted on the first PROBE_IMAGES training images.
    """
    images = snapshot.images
    levels = images.train_images[:PROBE_IMAGES]
    labels = images.train_labels[:PROBE_IMAGES]
    outputs = evaluate(snapshot.net, snapshot.weights, levels, images.top)
    features = _with_intercept(outputs.features)
    targets = one_hot(labels, images.classes).to(features)
    gram = features.mT @ features
    gram = gram.double()
    moment = features.mT @ targets
    moment = moment.double()
    diagonal = gram.diagonal(dim1=1, dim2=2)
    eigenvalue = diagonal.mean(1, keepdim=True)
    diagonal += ridge * eigenvalue
    readout = solve(gram, moment)
    test_features = _with_intercept(snapshot.outputs.features)
    logits = test_features @ readout.float()
    return {"probe": _share_right(logits, images.test_labels)}


def _with_intercept(features: Tensor) -> Tensor:
    return pad(features, (0, 1), value=1.0)


def _centered(rows: Tensor) -> Tensor:
    """Rows (model, row, column) less each model's mean row."""
    return rows - rows.mean(1, keepdim=True)


def _exact(tensor: Tensor) -> Tensor:
    """A tensor in double precision on the CPU."""
    return tensor.detach().cpu().double()


def _vectors(tensor: Tensor) -> Tensor:
    """One exact vector of each model: `(model, entry)`."""
    return _exact(tensor).flatten(1)


def displacement(snapshot: Snapshot) -> Numbers:
    """How far each weight matrix moved, relative to its start, and along the teacher's way.

    `moved NAME` is ||now - start|| / ||start||; `toward NAME` the cosine of (now - start) and
    (teacher - start), not a number where either did not move.
    """
    numbers = {}
    for name, start in snapshot.start.items():
        layer, _, kind = name.rpartition(".")
        if kind == "bias":
            continue
        width = start.shape[1]
        teacher = snapshot.teacher[name][:, :width]
        moved = _vectors(snapshot.weights[name] - start)
        teacher_moved = _vectors(teacher - start)
        length = moved.norm(dim=1)
        teacher_length = teacher_moved.norm(dim=1)
        start_length = _vectors(start).norm(dim=1)
        along = (moved * teacher_moved).sum(1)
        numbers[f"moved {layer}"] = length / start_length
        numbers[f"toward {layer}"] = along / (length * teacher_length)
    return numbers


def effective_number(variances: Tensor) -> Tensor:
    """(Sum)^2 / sum of squares (model,) of variances (model, component): how many count."""
    total = variances.sum(1)
    squares = variances.square().sum(1)
    return total.square() / squares


def spectrum(snapshot: Snapshot, components: int = 12) -> Numbers:
    """Shares of variance of the principal components of the last hidden layer (Roe, 2025).

    Of three things: `weights k`, the rows of the last hidden weight matrix; `change k`, the rows of
    that matrix less its start (not a number if it did not move); `features k`, the last hidden
    layer's response to the test images. `KIND number` is the effective number of components, which
    is n for n equal ones.
    """
    layers = [name for name in snapshot.start if name.startswith("hidden")]
    last = layers[-1].replace("bias", "weight")
    now = _exact(snapshot.weights[last])
    start = _exact(snapshot.start[last])
    features = _exact(snapshot.outputs.features)
    numbers = {}
    for kind, rows in {"weights": now, "change": now - start, "features": features}.items():
        centered = _centered(rows)
        gram = centered.mT @ centered
        eigenvalues = eigvalsh(gram)
        variances = eigenvalues.flip(-1).clamp_min(0)
        total = variances.sum(1, keepdim=True)
        shares = variances / total
        for rank, share in enumerate(shares.T[:components], start=1):
            numbers[f"{kind} {rank}"] = share
        numbers[f"{kind} number"] = effective_number(variances)
    return numbers


def effective_rank(features: Tensor) -> Tensor:
    """Effective number of directions (model,) in features (model, image, width)."""
    centered = _centered(features).double()
    gram = centered.mT @ centered
    trace = gram.diagonal(dim1=1, dim2=2).sum(1)
    return trace.square() / _squared_norm(gram)


def linear_cka(left: Tensor, right: Tensor) -> Tensor:
    """Linear CKA (model,) of responses (model, image, width) (Kornblith et al., 2019)."""
    left = _centered(left)
    right = _centered(right)
    shared = _squared_norm(left.mT @ right)
    left_norm = _squared_norm(left.mT @ left)
    right_norm = _squared_norm(right.mT @ right)
    norms = left_norm * right_norm
    return shared / norms.sqrt()


def _squared_norm(matrix: Tensor) -> Tensor:
    squares = matrix.double().square()
    return squares.sum((1, 2))


def cosine(left: Weights, right: Weights) -> Tensor:
    """Cosine (model,) over the weights named by `left`."""
    right = {name: right[name] for name in left}
    left_square = inner_product(left, left)
    right_square = inner_product(right, right)
    squares = left_square * right_square
    product = inner_product(left, right)
    return product / squares.sqrt()


def explained_share(targets: Tensor, regressors: Tensor) -> Tensor:
    """R squared (model,) of targets (model, image, a) on regressors (model, image, b)."""
    targets = _centered(targets).double()
    regressors = regressors.double()
    gram = regressors.mT @ regressors
    moment = regressors.mT @ targets
    inverse = pinv(gram, hermitian=True)
    slopes = inverse @ moment
    explained = (moment * slopes).sum((1, 2))
    return explained / _squared_norm(targets)


def _hidden(weights: Weights) -> Weights:
    layers = {}
    for name, tensor in weights.items():
        if name.startswith("hidden"):
            layers[name] = tensor.detach().cpu()
    return layers


@torch.no_grad()
def predictors(snapshot: Snapshot) -> Numbers:
    """What has been said to predict transfer; {} for networks that are no students.

    Before training: `effective rank` of the teacher's last hidden layer on a sample of the inputs,
    `logit correlation` (first canonical share: how much of the teacher's class logits there a
    linear map of its auxiliary logits gives, R squared) and `coverage`, the cosine of the first
    gradient step with the teacher's displacement in the hidden layers (Madl, 2026). After it, on
    test images against the teacher: `head similarity`, the cosine of the two features' images under
        the student's class head; `CKA`, linear, of the features; `weight cosine` of hidden layers.
    """
    if snapshot.inputs is None:
        return {}
    net = snapshot.net
    images = snapshot.images
    weights = snapshot.weights
    teacher = on_device(snapshot.teacher)
    on_inputs = forward(net, teacher, snapshot.inputs.to(device()))
    regressors = _with_intercept(on_inputs.aux_logits)
    on_images = evaluate(net, teacher, images.test_images, images.top)
    features = snapshot.outputs.features
    teacher_features = on_images.features
    head = weights["class_head.weight"].mT
    logits = features @ head
    teacher_logits = teacher_features @ head
    similarity = cosine_similarity(logits, teacher_logits, dim=-1)
    start = _hidden(snapshot.start)
    now = _hidden(weights)
    taught = _hidden(snapshot.teacher)
    gradient = _hidden(snapshot.first_gradient)
    displaced = {name: start[name] - taught[name] for name in start}
    return {
        "effective rank": effective_rank(on_inputs.features),
        "logit correlation": explained_share(on_inputs.class_logits, regressors),
        "coverage": cosine(gradient, displaced),
        "head similarity": similarity.mean(1),
        "CKA": linear_cka(features, teacher_features),
        "weight cosine": cosine(now, taught),
    }


MEASURES: dict[str, Callable[[Snapshot], Numbers]] = {
    "ceiling": ceiling,
    "probe": probe,
    "displacement": displacement,
    "spectrum": spectrum,
    "predictors": predictors,
}

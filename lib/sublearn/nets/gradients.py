"""One small step: what Theorem 1 of Cloud et al. (2025) promises, and what can break the promise.

Weights are stacked over models, and numbers are (model,). L_T, the task loss, is the cross-entropy
of the class logits on labeled images; L_S, the matching loss, is that of the auxiliary logits
against a teacher's on inputs without labels. Both are means over images. A *descent* is a gradient
with its sign turned; d is the teacher's, of L_T at the common start.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import jvp

from sublearn.core.machine import device
from sublearn.core.rng import rng
from sublearn.nets.ensemble import Weights, forward, initial_weights, inner_product, scale_models
from sublearn.nets.inputs import images_of, sample
from sublearn.nets.measures import Numbers, cosine, on_device
from sublearn.nets.models import Outputs, network
from sublearn.nets.noise import scaled
from sublearn.nets.settings import Setting

SAMPLE = 1_000  # labeled images, and inputs without labels, on which gradients are taken
SPREAD = 2.0  # standard deviation of the logarithm of a random diagonal preconditioner
Call = Callable[[Weights, Tensor], Outputs]  # a network as a function of weights and inputs
Losses = Callable[[Outputs], Tensor]  # outputs -> (model,)


# ---------------------------------------------------------------- losses and their gradients


def _at_least_single(logits: Tensor) -> Tensor:
    """Logits in single precision where they were in half of it."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    return logits.to(dtype)


def task_losses(outputs: Outputs, labels: Tensor) -> Tensor:
    """L_T (model,) in nats: mean cross-entropy of the class logits, labels (image,)."""
    logits = _at_least_single(outputs.class_logits)
    labels = labels.expand(len(logits), -1)
    losses = F.cross_entropy(logits.mT, labels, reduction="none")
    return losses.mean(1)


def matching_losses(outputs: Outputs, targets: Tensor, *, softmax: bool) -> Tensor:
    """L_S (model,) against a teacher's auxiliary logits (model, image, logit).

    softmax: KL(teacher || student) in nats; else the squared difference averaged over the logits.
    """
    logits = _at_least_single(outputs.aux_logits)
    targets = _at_least_single(targets)
    if not softmax:
        squares = (logits - targets).square()
        return squares.mean((1, 2))
    log_teacher = targets.log_softmax(-1)
    log_student = logits.log_softmax(-1)
    share = log_teacher.exp()
    terms = share * (log_teacher - log_student)
    losses = terms.sum(-1)
    return losses.mean(1)


def descent(call: Call, weights: Weights, inputs: Tensor, losses: Losses) -> Weights:
    """Negative gradient of losses(outputs on inputs) by each model's own weights."""
    leaves = {}
    for name, tensor in weights.items():
        copy = tensor.detach().clone()
        leaves[name] = copy.requires_grad_()
    outputs = call(leaves, inputs)
    total = losses(outputs).sum()
    parameters = [*leaves.values()]
    gradients = torch.autograd.grad(total, parameters, allow_unused=True, materialize_grads=True)
    return {name: -gradient for name, gradient in zip(leaves, gradients)}


def curvature(logits: Tensor, change: Tensor, *, softmax: bool) -> Tensor:
    """M v: second derivative of L_S, on one image, by the student's logits, times a change v.

    2 v / m for the mean squared error; p v - p (p v) for the KL divergence, p the softmax of the
    logits (Cloud et al., 2025, proof of Lemma 1). Shapes (model, image, logit).
    """
    if not softmax:
        return 2 * change / change.shape[-1]
    share = logits.softmax(-1)
    weighted = share * change
    total = weighted.sum(-1, keepdim=True)
    return weighted - share * total


def expected_step(
    call: Call, start: Weights, direction: Weights, inputs: Tensor, *, softmax: bool
) -> Weights:
    """H d: a student's descent per unit of its teacher's move along d, to first order.

    H = E[J' M J] over inputs, J the derivative of the auxiliary logits by the weights at the start
    and M as in `curvature` (Cloud et al., 2025, proof of Lemma 1). H is never formed.
    """

    def logits_of(weights: Weights) -> Tensor:
        return call(weights, inputs).aux_logits

    logits, change = jvp(logits_of, (start,), (direction,))
    pull = curvature(logits, change, softmax=softmax).detach()

    def losses(outputs: Outputs) -> Tensor:
        pulled = outputs.aux_logits * pull
        sums = pulled.sum(-1)
        return -sums.mean(1)

    return descent(call, start, inputs, losses)


def advance(weights: Weights, direction: Weights, sizes: Tensor | float) -> Weights:
    """Weights + size times direction; sizes one number or (model,)."""
    first = next(iter(weights.values()))
    sizes = torch.as_tensor(sizes)
    factors = sizes.expand(len(first))
    steps = scale_models(direction, factors)
    return {name: tensor + steps[name] for name, tensor in weights.items()}


def norms(weights: Weights) -> Tensor:
    """Euclidean length (model,) over all tensors."""
    squares = inner_product(weights, weights)
    return squares.sqrt()


# ---------------------------------------------------------------- diagonal preconditioners


def plain_step(step: Weights, direction: Weights) -> Weights:
    """The step itself, as gradient descent takes it."""
    return step


def sign_step(step: Weights, direction: Weights) -> Weights:
    """Every entry's sign: the first step of Adam, but for its epsilon (Kingma and Ba, 2015)."""
    return {name: tensor.sign() for name, tensor in step.items()}


def random_step(step: Weights, direction: Weights) -> Weights:
    """Every entry times exp(SPREAD z), z a standard normal number of its own."""
    bent = {}
    for name, tensor in step.items():
        generator = rng(0, "preconditioner", name)
        normal = generator.standard_normal(tensor.shape)
        factors = torch.from_numpy(SPREAD * normal).exp()
        bent[name] = factors.to(tensor) * tensor
    return bent


def adverse_step(step: Weights, direction: Weights) -> Weights:
    """The entries that point against the direction; the others are frozen."""
    kept = {}
    for name, tensor in step.items():
        against = tensor * direction[name] < 0
        kept[name] = tensor.where(against, 0)
    return kept


PRECONDITIONERS: dict[str, Callable[[Weights, Weights], Weights]] = {
    "none": plain_step,
    "sign": sign_step,
    "random": random_step,
    "adverse": adverse_step,
}


# ---------------------------------------------------------------- the theorem, checked


class Problem(NamedTuple):
    """Networks at their start in double precision, and what their losses are taken on."""

    call: Call
    start: Weights
    images: Tensor  # (image, pixel) on [-1, 1]
    labels: Tensor  # (image,)
    inputs: Tensor  # (model, image, pixel)
    softmax: bool
    downhill: Weights  # the teacher's descent d at the start

    def task(self, weights: Weights) -> Tensor:
        """L_T (model,)."""
        outputs = self.call(weights, self.images)
        return task_losses(outputs, self.labels)

    def student_step(self, size: float) -> Weights:
        """Descent of L_S, from the start, against a teacher that moved by size times d."""
        teacher = advance(self.start, self.downhill, size)
        targets = self.call(teacher, self.inputs).aux_logits
        losses = partial(matching_losses, targets=targets, softmax=self.softmax)
        return descent(self.call, self.start, self.inputs, losses)

    def first_order(self) -> Weights:
        """H d, what `student_step` is per size to first order."""
        return expected_step(
            self.call, self.start, self.downhill, self.inputs, softmax=self.softmax
        )


def labeled_sample(setting: Setting) -> tuple[Tensor, Tensor]:
    """The first SAMPLE training images (image, pixel) on [-1, 1], and their labels (image,)."""
    images = images_of(setting)
    levels = images.train_images[:SAMPLE]
    labels = images.train_labels[:SAMPLE]
    pixels = scaled(levels, images.top)
    return pixels.to(device()), labels.to(device())


def problem(
    setting: Setting, *, models: int, seed: int = 0, net: nn.Module | None = None
) -> Problem:
    """The `Problem` of a setting's networks; `net`: another architecture in their place."""
    net = net or network(setting)
    numbers = list(range(models))
    start = initial_weights(net, setting, seed, numbers)
    exact = {name: tensor.double() for name, tensor in on_device(start).items()}
    images, labels = labeled_sample(setting)
    images = images.double()
    inputs = sample(setting, seed, numbers, SAMPLE)
    call = partial(forward, net)
    losses = partial(task_losses, labels=labels)
    return Problem(
        call=call,
        start=exact,
        images=images,
        labels=labels,
        inputs=inputs.double().to(device()),
        softmax=setting.loss == "kl",
        downhill=descent(call, exact, images, losses),
    )


def _table(numbers: Numbers, **label: float) -> pd.DataFrame:
    """One row per model, with labels that all have."""
    columns = {name: values.tolist() for name, values in numbers.items()}
    table = pd.DataFrame(columns)
    table.index.name = "model"
    return table.reset_index().assign(**label)


def check_theorem(given: Problem, sizes: Sequence[float]) -> pd.DataFrame:
    """Students' first steps after teachers moved by size times d, one row per (size, model).

    Columns: model, size; product, that of the step with d, by the size; cosine of the two; error,
    length of (step / size - H d) by that of H d (NaN where H d is 0).
    """
    downhill = given.downhill
    expected = given.first_order()
    tables = []
    for size in sizes:
        step = given.student_step(size)
        unit = {name: tensor / size for name, tensor in step.items()}
        rest = advance(unit, expected, -1.0)
        numbers = {
            "product": inner_product(unit, downhill),
            "cosine": cosine(unit, downhill),
            "error": norms(rest) / norms(expected),
        }
        tables.append(_table(numbers, size=size))
    return pd.concat(tables, ignore_index=True)


def check_step(
    given: Problem, size: float, lengths: Sequence[float], preconditioner: str = "none"
) -> pd.DataFrame:
    """What students' steps of given lengths do to L_T, after teachers moved by size times d.

    preconditioner: of PRECONDITIONERS, applied to the student's descent. Columns: model, length;
    drop of L_T in nats; promised, the same to first order; cosine of the step with d.
    """
    downhill = given.downhill
    bend = PRECONDITIONERS[preconditioner]
    step = given.student_step(size)
    step = bend(step, downhill)
    unit = scale_models(step, 1 / norms(step))
    slope = inner_product(unit, downhill)
    before = given.task(given.start)
    tables = []
    for length in lengths:
        student = advance(given.start, unit, length)
        numbers = {
            "drop": before - given.task(student),
            "promised": length * slope,
            "cosine": slope / norms(downhill),
        }
        tables.append(_table(numbers, length=length))
    return pd.concat(tables, ignore_index=True)

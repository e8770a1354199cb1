"""Two-layer toy networks: what auxiliary logits teach, in closed form and by gradient descent.

A toy network maps a row of inputs x to x W1 [W_c | W_a]: `hidden` weights W1 `(input, width)`, a `class_head`
W_c `(width, class)` and an `aux_head` W_a `(width, aux_dim)`. The heads stay as they were drawn; only hidden
weights learn. Every array may carry leading axes, one entry per independent draw, and keeps its dtype.
After Roe, "Early Theory for Subliminal Learning" (2025), and Cloud et al. (2025), Theorem 1.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln
from scipy.stats import beta

Array = NDArray[np.floating]
NULL = 1e-10  # singular values below this share of the largest count as zero


class Toy(NamedTuple):
    """Random toy problems, one per draw: weights, inputs and a task for the class logits."""

    start: Array  # initial hidden weights (draw, input, width)
    class_head: Array  # (draw, width, class)
    aux_head: Array  # (draw, width, aux_dim); the first m columns are a head of m logits
    images: Array  # what the teacher is trained on (draw, sample, input)
    noise: Array  # what the student sees (draw, sample, input)
    fresh: Array  # what displacements are measured on (draw, sample, input)
    task: Array  # targets of the class logits on `images` (draw, sample, class)


def draw_toy(generator: np.random.Generator, *, draws: int, width: int, inputs: int = 4) -> Toy:
    """Toy problems with 3 classes, up to 16 auxiliary logits and a random ReLU network's outputs as the task."""
    shapes = (inputs, width), (width, 3), (width, 16), (inputs, 16), (16, 3)
    start, class_head, aux_head, *task = (draw_layer(generator, draws, *shape) for shape in shapes)
    images, noise, fresh = generator.standard_normal((3, draws, 128, inputs))
    targets = 2 * outputs(images, hidden=task[0], head=task[1], relu=True)
    return Toy(start, class_head, aux_head, images, noise, fresh, targets)


def draw_layer(generator: np.random.Generator, *shape: int) -> Array:
    """Gaussian weights `(..., fan_in, fan_out)` with standard deviation 1/sqrt(fan_in)."""
    return generator.standard_normal(shape) / np.sqrt(shape[-2])


def outputs(inputs: Array, *, hidden: Array, head: Array, relu: bool = False) -> Array:
    """Logits `(..., sample, logit)` of a toy network; ValueError where widths do not fit."""
    _check(inputs, hidden, head)
    before = inputs @ hidden
    return (np.maximum(before, 0) if relu else before) @ head


def projector(aux_head: Array) -> Array:
    """Projector P = W_a W_a^+ `(..., width, width)` onto the hidden directions that auxiliary logits read.

    Symmetric, idempotent, of rank min(aux_dim, width) for a random head. ValueError without a logit.
    """
    _check_head(aux_head)
    return aux_head @ np.linalg.pinv(aux_head, rcond=NULL)


def projected_student(start: Array, *, teacher: Array, aux_head: Array) -> Array:
    """Hidden weights W1_0 + (W1 - W1_0) P: where gradient descent from `start` ends if the inputs span.

    `start` and `teacher` are `(..., input, width)`. A start at zero gives the minimum-norm student W1 P of
    Roe (2025); the teacher's own start gives its displacement seen through P.
    """
    if start.shape[-2:] != teacher.shape[-2:]:
        raise ValueError(
            f"the student's hidden weights are {start.shape[-2:]} and the teacher's {teacher.shape[-2:]}; "
            "use one (input, width)"
        )
    _check_width(teacher, aux_head)
    return start + (teacher - start) @ projector(aux_head)


def descent_limit(start: Array, *, head: Array, inputs: Array, targets: Array) -> Array:
    """Hidden weights W1_0 + X^+ (Y - X W1_0 H) H^+ where gradient descent ends in a linear net.

    The loss is the squared error. `inputs` X `(..., sample, input)` need not span, and `targets` Y
    `(..., sample, logit)` may come from any network.
    """
    missing = targets - outputs(inputs, hidden=start, head=head)
    return start + np.linalg.pinv(inputs, rcond=NULL) @ missing @ np.linalg.pinv(head, rcond=NULL)


def descend(start: Array, *, head: Array, inputs: Array, targets: Array, steps: int, relu: bool = False) -> Array:
    """Hidden weights `(..., input, width)` after `steps` of full-batch gradient descent from `start`.

    The loss is half the squared error per sample. The step size is 1 / (largest eigenvalue of X^T X / n times
    that of H^T H), the largest that cannot overshoot in any direction of a linear net.
    """
    _check(inputs, start, head)
    samples = inputs.shape[-2]
    backward, transposed = np.swapaxes(head, -1, -2), np.swapaxes(inputs, -1, -2)
    rate = _largest(transposed @ inputs / samples) * _largest(backward @ head)
    scaled, hidden = transposed / (samples * rate), np.array(start)
    for _ in range(steps):
        before = inputs @ hidden
        active = (before > 0).astype(before.dtype) if relu else np.ones((), before.dtype)
        error = (before * active) @ head - targets
        hidden -= scaled @ ((error @ backward) * active)
    return hidden


def teach(toy: Toy, *, steps: int = 100, relu: bool = False) -> Array:
    """Hidden weights `(draw, input, width)` of teachers trained on the task by gradient descent."""
    head, inputs, targets = toy.class_head, toy.images, toy.task
    return descend(toy.start, head=head, inputs=inputs, targets=targets, steps=steps, relu=relu)


def displacement(toy: Toy, hidden: Array, *, relu: bool = False) -> Array:
    """How far the class logits have moved from `toy.start` to `hidden` on fresh inputs `(draw, sample, class)`."""
    now, before = (outputs(toy.fresh, hidden=w, head=toy.class_head, relu=relu) for w in (hidden, toy.start))
    return now - before


def distilled_shares(student: Toy, *, teacher: Toy, aux_dim: int, marks: Sequence[int]) -> Array:
    """Share of the teacher's displacement `(mark, draw)` that ReLU students copy in each number of steps of `marks`.

    `marks` increase. With `student` and `teacher` the same toy they share initial weights and heads.
    """
    taught, hidden, shares = teach(teacher, relu=True), student.start, []
    whole, student = displacement(teacher, taught, relu=True), student._replace(fresh=teacher.fresh)
    targets = outputs(student.noise, hidden=taught, head=teacher.aux_head[..., :aux_dim], relu=True)
    options = {"head": student.aux_head[..., :aux_dim], "inputs": student.noise, "targets": targets}
    for steps in np.diff(marks, prepend=0):
        hidden = descend(hidden, **options, steps=steps, relu=True)
        shares.append(share(displacement(student, hidden, relu=True), whole))
    return np.array(shares)


def equations(inputs: Array, *, hidden: Array, head: Array, relu: bool = False) -> Array:
    """Derivative of every logit by every hidden weight `(sample * logit, input * width)`, for one draw.

    Its rank is the number of independent equations that matching these logits puts on the hidden weights.
    """
    _check(inputs, hidden, head)
    active = (inputs @ hidden > 0) if relu else np.ones((len(inputs), hidden.shape[-1]))
    grid = np.einsum("si,sw,wl->sliw", inputs, active, head)
    return grid.reshape(-1, hidden.size)


def share(part: Array, whole: Array) -> Array:
    """Share of `whole` that `part` copies, <part, whole> / <whole, whole>, over the last two axes.

    1 is an exact copy, 0 nothing in common, negative the opposite.
    """
    return (part * whole).sum((-2, -1)) / (whole * whole).sum((-2, -1))


def cosine(one: Array, other: Array) -> Array:
    """Cosine of the angle between two arrays, over the last two axes."""
    norms = (one * one).sum((-2, -1)) * (other * other).sum((-2, -1))
    return (one * other).sum((-2, -1)) / np.sqrt(norms)


def expected_share(aux_dim: int, width: int) -> float:
    """Mean of `share(P w, w)` over Gaussian auxiliary heads: exactly aux_dim / width, at most 1."""
    _check_dims(aux_dim, width)
    return min(aux_dim, width) / width


def expected_cosine(aux_dim: int, width: int) -> float:
    """Mean of `cosine(P w, w)` over Gaussian auxiliary heads: four gammas, below sqrt(aux_dim / width)."""
    _check_dims(aux_dim, width)
    if aux_dim >= width:
        return 1.0
    rises = gammaln((aux_dim + 1) / 2) - gammaln(aux_dim / 2)
    return float(np.exp(rises - gammaln((width + 1) / 2) + gammaln(width / 2)))


def share_law(aux_dim: int, width: int):
    """Law of `share(P w, w)` over Gaussian heads, Beta(aux_dim / 2, (width - aux_dim) / 2), as in scipy."""
    _check_dims(aux_dim, width)
    if aux_dim >= width:
        raise ValueError(
            f"aux_dim = {aux_dim} is not below width = {width}, so the share is 1 in every draw; ask for fewer logits"
        )
    return beta(aux_dim / 2, (width - aux_dim) / 2)


def _largest(gram: Array) -> Array:
    return np.linalg.eigvalsh(gram)[..., -1, None, None]


def _check_head(head: Array) -> None:
    if head.ndim < 2 or head.shape[-1] == 0:
        raise ValueError(
            f"a head of shape {head.shape} has no logit: give an array (width, logit) with a column or more"
        )


def _check_width(hidden: Array, head: Array) -> None:
    _check_head(head)
    if hidden.shape[-1] != head.shape[-2]:
        raise ValueError(
            f"hidden weights of width {hidden.shape[-1]} cannot feed a head of width {head.shape[-2]}; "
            "make both the same"
        )


def _check(inputs: Array, hidden: Array, head: Array) -> None:
    _check_width(hidden, head)
    if inputs.shape[-1] != hidden.shape[-2]:
        raise ValueError(
            f"inputs of size {inputs.shape[-1]} cannot feed hidden weights of input size {hidden.shape[-2]}; "
            "make both the same"
        )


def _check_dims(aux_dim: int, width: int) -> None:
    if aux_dim < 1 or width < 1:
        raise ValueError(f"aux_dim = {aux_dim} and width = {width}: both must be at least 1")

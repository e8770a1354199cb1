"""Two-layer toy networks: what auxiliary logits teach, in closed form and by gradient descent.

A toy network maps a row of inputs x to x W1 [W_c | W_a]: `hidden` weights W1 `(input, width)`, a
`class_head` W_c `(width, class)` and an `aux_head` W_a `(width, aux_dim)`. The heads stay as they
were drawn; only hidden weights learn. Every array may carry leading axes, one entry per
independent draw, and keeps its dtype. M^+ is the pseudoinverse of M.

Sources: Roe, "Early Theory for Subliminal Learning" (2025), y = x W1 W2 with the columns of W2
shared by teacher and student; Cloud et al. (2025), Theorem 1, one small step of gradient descent.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln
from scipy.stats import beta

Array = NDArray[np.floating]
RCOND = 1e-10  # singular values below this share of the largest count as zero


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
    """Toy problems with 3 classes and up to 16 auxiliary logits, 128 samples per set.

    The task is the outputs of a random ReLU network of width 16.
    """
    start = draw_layer(generator, draws, inputs, width)
    class_head = draw_layer(generator, draws, width, 3)
    aux_head = draw_layer(generator, draws, width, 16)
    task_hidden = draw_layer(generator, draws, inputs, 16)
    task_head = draw_layer(generator, draws, 16, 3)
    images, noise, fresh = generator.standard_normal((3, draws, 128, inputs))
    task = outputs(images, hidden=task_hidden, head=task_head, relu=True)
    task *= 2
    return Toy(start, class_head, aux_head, images, noise, fresh, task)


def draw_layer(generator: np.random.Generator, *shape: int) -> Array:
    """Gaussian weights `(..., fan_in, fan_out)` with standard deviation 1/sqrt(fan_in)."""
    fan_in = shape[-2]
    weights = generator.standard_normal(shape)
    weights /= np.sqrt(fan_in)
    return weights


def outputs(inputs: Array, *, hidden: Array, head: Array, relu: bool = False) -> Array:
    """Logits x W1 H `(..., sample, logit)` of a toy network, or relu(x W1) H.

    `inputs` x are `(..., sample, input)`, the `head` H is `(..., width, logit)`.
    Errors: ValueError where sizes do not fit.
    """
    _check_sizes(inputs, hidden, head)
    activations = inputs @ hidden
    if relu:
        activations = np.maximum(activations, 0)
    return activations @ head


def projector(aux_head: Array) -> Array:
    """Projector P = W_a W_a^+ `(..., width, width)` onto the hidden directions that the head reads.

    Symmetric, idempotent, of rank min(aux_dim, width) for a random head.
    Errors: ValueError for a head without a logit.
    """
    _check_head(aux_head)
    return aux_head @ _pinv(aux_head)


def projected_student(start: Array, *, teacher: Array, aux_head: Array) -> Array:
    """Hidden weights W1_0 + (W1 - W1_0) P: where gradient descent from `start` ends if inputs span.

    `start` W1_0 and `teacher` W1 are `(..., input, width)`. A start at zero gives the minimum-norm
    student W1 P of Roe (2025); the teacher's own start gives its displacement seen through P.
    Errors: ValueError where shapes do not fit.
    """
    student_shape, teacher_shape = start.shape[-2:], teacher.shape[-2:]
    if student_shape != teacher_shape:
        raise ValueError(
            f"the student's hidden weights are {student_shape} and the teacher's {teacher_shape}; "
            "use one (input, width)"
        )
    _check_width(teacher, aux_head)
    return start + (teacher - start) @ projector(aux_head)


def descent_limit(start: Array, *, head: Array, inputs: Array, targets: Array) -> Array:
    """Hidden weights W1_0 + X^+ (Y - X W1_0 H) H^+ where gradient descent ends in a linear network.

    The loss is the squared error. `inputs` X `(..., sample, input)` need not span, and `targets` Y
    `(..., sample, logit)` may come from any network.
    """
    logits = outputs(inputs, hidden=start, head=head)
    error = targets - logits
    return start + _pinv(inputs) @ error @ _pinv(head)


def descend(
    start: Array, *, head: Array, inputs: Array, targets: Array, steps: int, relu: bool = False
) -> Array:
    """Hidden weights `(..., input, width)` after `steps` of full-batch gradient descent.

    `inputs` X are `(..., sample, input)`, `targets` `(..., sample, logit)`; the loss is half the
    squared error per sample. The step size is 1 / (largest eigenvalue of X^T X / n times that of
    H^T H), the largest that cannot overshoot in any direction of a linear net.
    """
    _check_sizes(inputs, start, head)
    samples = inputs.shape[-2]
    covariance = inputs.mT @ inputs
    covariance /= samples
    gram = head.mT @ head
    curvature = _largest_eigenvalue(covariance) * _largest_eigenvalue(gram)
    scaled_inputs = inputs.mT / (samples * curvature)
    hidden = start.copy()
    for _ in range(steps):
        activations = inputs @ hidden
        active = _active(activations, relu)
        activations *= active
        error = activations @ head - targets
        signal = error @ head.mT
        signal *= active
        hidden -= scaled_inputs @ signal
    return hidden


def teach(toy: Toy, *, steps: int = 100, relu: bool = False) -> Array:
    """Hidden weights `(draw, input, width)` of teachers trained on the task by gradient descent."""
    return descend(
        toy.start,
        head=toy.class_head,
        inputs=toy.images,
        targets=toy.task,
        steps=steps,
        relu=relu,
    )


def displacement(toy: Toy, hidden: Array, *, relu: bool = False) -> Array:
    """Change of the class logits from `toy.start` to `hidden` on fresh inputs.

    `hidden` is `(draw, input, width)`, the result `(draw, sample, class)`.
    """
    logits = partial(outputs, toy.fresh, head=toy.class_head, relu=relu)
    before = logits(hidden=toy.start)
    after = logits(hidden=hidden)
    return after - before


def distilled_shares(
    student: Toy, *, teacher: Toy, aux_dim: int, checkpoints: Sequence[int]
) -> Array:
    """Share `(checkpoint, draw)` of the teacher's displacement that ReLU students copy.

    `checkpoints` are increasing numbers of steps. With `student` and `teacher` the same toy they
    share initial weights and heads, as in Cloud et al. (2025), Theorem 1.
    """
    student = student._replace(fresh=teacher.fresh)
    teacher_hidden = teach(teacher, relu=True)
    teacher_displacement = displacement(teacher, teacher_hidden, relu=True)
    teacher_head = teacher.aux_head[..., :aux_dim]
    student_head = student.aux_head[..., :aux_dim]
    targets = outputs(student.noise, hidden=teacher_hidden, head=teacher_head, relu=True)
    train = partial(descend, head=student_head, inputs=student.noise, targets=targets, relu=True)
    hidden = student.start
    shares = []
    for steps in np.diff(checkpoints, prepend=0):
        hidden = train(hidden, steps=steps)
        student_displacement = displacement(student, hidden, relu=True)
        copied = share(student_displacement, teacher_displacement)
        shares.append(copied)
    return np.array(shares)


def equations(inputs: Array, *, hidden: Array, head: Array, relu: bool = False) -> Array:
    """Derivative of every logit by every hidden weight, for one draw.

    `inputs` are `(sample, input)`, the result is `(sample * logit, input * width)`. Its rank is the
    number of independent equations that matching these logits puts on the hidden weights.
    """
    _check_sizes(inputs, hidden, head)
    activations = inputs @ hidden
    active = _active(activations, relu)
    jacobian = np.einsum("si,sw,wl->sliw", inputs, active, head)
    return jacobian.reshape(-1, hidden.size)


def share(part: Array, whole: Array) -> Array:
    """Share of `whole` that `part` copies, <part, whole> / <whole, whole>, over the last two axes.

    1 is an exact copy, 0 nothing in common, negative the opposite.
    """
    return _inner(part, whole) / _inner(whole, whole)


def cosine(part: Array, whole: Array) -> Array:
    """Cosine of the angle between two arrays, over the last two axes."""
    squared_norms = _inner(part, part) * _inner(whole, whole)
    return _inner(part, whole) / np.sqrt(squared_norms)


def expected_share(aux_dim: int, width: int) -> float:
    """Mean of `share(P w, w)` over Gaussian auxiliary heads: exactly aux_dim / width, at most 1."""
    _check_dims(aux_dim, width)
    return min(aux_dim, width) / width


def expected_cosine(aux_dim: int, width: int) -> float:
    """Mean of `cosine(P w, w)` over Gaussian auxiliary heads: the mean of the root of `share_law`.

    With m for aux_dim and D for width it is G((m+1)/2) G(D/2) / (G(m/2) G((D+1)/2)), where G is the
    gamma function, and lies below sqrt(m / D).
    """
    _check_dims(aux_dim, width)
    if aux_dim >= width:
        return 1.0
    log_mean = gammaln((aux_dim + 1) / 2) - gammaln(aux_dim / 2)
    log_mean -= gammaln((width + 1) / 2)
    log_mean += gammaln(width / 2)
    return float(np.exp(log_mean))


def share_law(aux_dim: int, width: int):
    """Law of `share(P w, w)` over Gaussian heads, Beta(aux_dim/2, (width - aux_dim)/2), from scipy.

    Errors: ValueError where the head reads every hidden direction, so that the share is always 1.
    """
    _check_dims(aux_dim, width)
    if aux_dim >= width:
        raise ValueError(
            f"aux_dim = {aux_dim} is not below width = {width}, so the share is 1 in every draw; "
            "ask for fewer logits"
        )
    return beta(aux_dim / 2, (width - aux_dim) / 2)


def _pinv(matrix: Array) -> Array:
    return np.linalg.pinv(matrix, rcond=RCOND)


def _inner(first: Array, second: Array) -> Array:
    products = first * second
    return products.sum((-2, -1))


def _largest_eigenvalue(gram: Array) -> Array:
    return np.linalg.eigvalsh(gram)[..., -1, None, None]


def _active(activations: Array, relu: bool) -> Array:
    """1 where a hidden unit passes its input on, 0 where the ReLU stops it; shape of the input."""
    if not relu:
        return np.ones_like(activations)
    active = activations > 0
    return active.astype(activations.dtype)


def _check_head(head: Array) -> None:
    if head.ndim < 2 or head.shape[-1] == 0:
        raise ValueError(
            f"a head of shape {head.shape} has no logit: "
            "give an array (width, logit) with a column or more"
        )


def _check_width(hidden: Array, head: Array) -> None:
    _check_head(head)
    hidden_width, head_width = hidden.shape[-1], head.shape[-2]
    if hidden_width != head_width:
        raise ValueError(
            f"hidden weights of width {hidden_width} cannot feed a head of width {head_width}; "
            "make both the same"
        )


def _check_sizes(inputs: Array, hidden: Array, head: Array) -> None:
    _check_width(hidden, head)
    size, expected = inputs.shape[-1], hidden.shape[-2]
    if size != expected:
        raise ValueError(
            f"inputs of size {size} cannot feed hidden weights of input size {expected}; "
            "make both the same"
        )


def _check_dims(aux_dim: int, width: int) -> None:
    if aux_dim < 1 or width < 1:
        raise ValueError(f"aux_dim = {aux_dim} and width = {width}: both must be at least 1")

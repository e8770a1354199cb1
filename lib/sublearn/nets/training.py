"""Teachers that learn digits, and students that learn only to agree with them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from math import cos, pi
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sublearn.core.machine import OnStep, autocast, device
from sublearn.nets.ensemble import Weights, forward
from sublearn.nets.inputs import TEACHER_BATCH, NamedBatch, batch_sizes
from sublearn.nets.models import Outputs
from sublearn.nets.settings import Setting

# Loss(student's outputs, teacher's outputs): mean over images, summed over models
Loss = Callable[[Outputs, Outputs], Tensor]
# Steps after which Adam's bias correction has no effect: started there, it never has any
UNCORRECTED = 1e7

OPTIMIZERS = {
    "adam": partial(torch.optim.Adam, fused=True),
    "adam_uncorrected": partial(torch.optim.Adam, fused=True),
    "adamw": partial(torch.optim.AdamW, fused=True),
    "sgd": torch.optim.SGD,
}


class TrainState(NamedTuple):
    """Stacked weights under training, their optimizer and its schedule; all change in place."""

    weights: Weights
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler


def train_state(
    weights: Weights,
    *,
    lr: float,
    optimizer: str = "adam",
    weight_decay: float = 0.0,
    frozen: tuple[str, ...] = (),
    cosine_steps: int = 0,
) -> TrainState:
    """A copy of `weights` on the training device, ready to be trained.

    frozen: prefixes of the weights that stay. cosine_steps: let the rate fall to 0 along half a
    cosine over so many steps; 0 keeps it constant.
    """
    copies, trained = {}, []
    for name, tensor in weights.items():
        copy = tensor.detach().to(device(), copy=True)
        copies[name] = copy
        if not name.startswith(frozen):
            trained.append(copy.requires_grad_())
    make_optimizer = OPTIMIZERS[optimizer]
    stepper = make_optimizer(trained, lr=lr, weight_decay=weight_decay)
    if optimizer == "adam_uncorrected":
        _skip_bias_correction(stepper)
    rate = partial(_half_cosine, steps=cosine_steps) if cosine_steps else _constant
    schedule = torch.optim.lr_scheduler.LambdaLR(stepper, rate)
    return TrainState(copies, stepper, schedule)


def _skip_bias_correction(optimizer: torch.optim.Adam) -> None:
    for tensor in optimizer.param_groups[0]["params"]:
        optimizer.state[tensor] = {
            "step": torch.full((), UNCORRECTED, device=tensor.device),
            "exp_avg": torch.zeros_like(tensor),
            "exp_avg_sq": torch.zeros_like(tensor),
        }


def _constant(step: int) -> float:
    return 1.0


def _half_cosine(step: int, *, steps: int) -> float:
    return (1 + cos(pi * step / steps)) / 2


def take_step(state: TrainState, loss: Tensor) -> None:
    """One step of the optimizer down the gradient of `loss`.

    A head that the loss does not use has the gradient 0, as it has where both heads are one layer:
        it decays.
    """
    state.optimizer.zero_grad()
    loss.backward()
    for tensor in state.optimizer.param_groups[0]["params"]:
        if tensor.grad is None:
            tensor.grad = torch.zeros_like(tensor)
    state.optimizer.step()
    state.schedule.step()


def distill_steps(setting: Setting) -> int:
    """Training steps of a student."""
    batches = batch_sizes(setting.inputs_per_epoch, setting.batch_size)
    return setting.epochs * len(batches)


# ---------------------------------------------------------------- losses


def cross_entropy(outputs: Outputs, labels: Tensor) -> Tensor:
    """Cross-entropy on labels (model, batch): mean over images, sum over models.

    Summed, not averaged, over models: else each model's step would depend on how many there are
        (Adam's epsilon).
    """
    logits = outputs.class_logits.flatten(0, 1).float()
    total = F.cross_entropy(logits, labels.flatten(), reduction="sum")
    return total / labels.shape[1]


def _matched_logits(outputs: Outputs, matched: str) -> Tensor:
    if matched == "aux":
        return outputs.aux_logits.float()
    if matched == "classes":
        return outputs.class_logits.float()
    both = [outputs.class_logits, outputs.aux_logits]
    return torch.cat(both, dim=-1).float()


def _add_noise(logits: Tensor, scale: float, generators: Sequence[np.random.Generator]) -> Tensor:
    """Logits (model, batch, logit) with noise of `scale` times each logit's sd in the batch."""
    shape = logits.shape[1:]
    drawn = [generator.standard_normal(shape, dtype=np.float32) for generator in generators]
    noise = torch.from_numpy(np.stack(drawn))
    sd = logits.std(1, correction=0, keepdim=True)
    return logits + scale * sd * noise.to(logits)


def _kl_divergence(logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    log_student = (logits / temperature).log_softmax(-1)
    log_teacher = (targets / temperature).log_softmax(-1)
    total = F.kl_div(log_student, log_teacher, reduction="sum", log_target=True)
    return total * temperature**2 / logits.shape[1]


def _mean_squared_error(logits: Tensor, targets: Tensor) -> Tensor:
    per_image = (logits - targets).square().mean(-1)
    return per_image.sum() / logits.shape[1]


def matching_loss(setting: Setting, generators: Sequence[np.random.Generator] = ()) -> Loss:
    """The student's loss on the matched logits: mean over images, sum over models.

    "kl" is KL(teacher || student) of the softmax at `temperature`, times temperature squared
    (Hinton et al., 2015); "mse" is the squared difference averaged over the logits. `generators`
    are the models' random generators of the noise on the teacher's logits, where the setting has
    any.
    """

    def loss(student: Outputs, teacher: Outputs) -> Tensor:
        logits = _matched_logits(student, setting.matched)
        targets = _matched_logits(teacher, setting.matched)
        if setting.logit_noise:
            targets = _add_noise(targets, setting.logit_noise, generators)
        if setting.loss == "mse":
            return _mean_squared_error(logits, targets)
        return _kl_divergence(logits, targets, setting.temperature)

    return loss


# ---------------------------------------------------------------- teachers


def train_teacher_epoch(
    net: nn.Module, state: TrainState, batches: Iterable[tuple[Tensor, Tensor]], on_step: OnStep
) -> None:
    """One epoch of supervised training on the class logits; the auxiliary head gets no gradient."""
    for images, labels in batches:
        images = images.to(device())
        labels = labels.to(device())
        with autocast():
            outputs = forward(net, state.weights, images)
        loss = cross_entropy(outputs, labels)
        take_step(state, loss)
        on_step()


# ---------------------------------------------------------------- students


class Student(NamedTuple):
    """One arm of a sweep: network, weights under training, and the loss that it minimizes."""

    net: nn.Module
    state: TrainState
    loss: Loss

    def loss_on(self, inputs: Tensor, targets: Outputs) -> Tensor:
        """Loss against a teacher's outputs; a narrower student matches its first logits."""
        with autocast():
            outputs = forward(self.net, self.state.weights, inputs)
        width = outputs.aux_logits.shape[-1]
        first = targets.aux_logits[..., :width]
        return self.loss(outputs, targets._replace(aux_logits=first))


@torch.no_grad()
def teacher_outputs(net: nn.Module, teacher: Weights, inputs: Tensor) -> Outputs:
    """The teacher's outputs on inputs (model, batch, pixel)."""
    with autocast():
        return forward(net, teacher, inputs)


class LogitCache:
    """The teacher's logits on batches that come again, by the (row, number) of each row."""

    def __init__(self) -> None:
        self.logits: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def outputs(
        self, net: nn.Module, teacher: Weights, names: Sequence[tuple[int, int]], inputs: Tensor
    ) -> Outputs:
        """The teacher's outputs on a batch, computed once; its features are left out."""
        if any(name not in self.logits for name in names):
            outputs = teacher_outputs(net, teacher, inputs)
            rows = zip(outputs.class_logits, outputs.aux_logits)
            self.logits.update(zip(names, rows))
        rows = [self.logits[name] for name in names]
        class_logits, aux_logits = map(torch.stack, zip(*rows))
        return Outputs(class_logits[..., :0], class_logits, aux_logits)


def teacher_targets(
    net: nn.Module, teacher: Weights, batches: Iterator[NamedBatch], cache: LogitCache | None = None
) -> Iterator[tuple[Tensor, Outputs]]:
    """Inputs (model, batch, pixel) with the teacher's outputs: cached, or of joined batches.

    Neither changes what a student is taught: a product of many rows is only faster than many
        products of few.
    """
    for names, inputs in batches:
        inputs = inputs.to(device())
        if cache is not None:
            yield inputs, cache.outputs(net, teacher, names, inputs)
            continue
        parts = [inputs]
        more = TEACHER_BATCH // inputs.shape[1] - 1
        for _, batch in islice(batches, max(more, 0)):
            parts.append(batch.to(device()))
        joined = torch.cat(parts, dim=1) if len(parts) > 1 else inputs
        outputs = teacher_outputs(net, teacher, joined)
        sizes = [part.shape[1] for part in parts]
        by_kind = [logits.split(sizes, dim=1) for logits in outputs]
        for part, *logits in zip(parts, *by_kind):
            yield part, Outputs(*logits)


def distill_epoch(
    net: nn.Module,
    *,
    teacher: Weights,
    students: Sequence[Student],
    batches: Iterator[NamedBatch],
    on_step: OnStep,
    cache: LogitCache | None = None,
) -> None:
    """One epoch in which all students see the same inputs and the same teacher outputs."""
    for inputs, targets in teacher_targets(net, teacher, batches, cache):
        for student in students:
            loss = student.loss_on(inputs, targets)
            take_step(student.state, loss)
            on_step()


def first_gradient(student: Student, *, teacher: Weights, inputs: Tensor) -> Weights:
    """Gradient of a student's loss on inputs (model, batch, pixel) by its trained weights."""
    inputs = inputs.to(device())
    targets = teacher_outputs(student.net, teacher, inputs)
    loss = student.loss_on(inputs, targets)
    trained = {}
    for name, tensor in student.state.weights.items():
        if tensor.requires_grad:
            trained[name] = tensor
    gradients = torch.autograd.grad(
        loss, [*trained.values()], allow_unused=True, materialize_grads=True
    )
    return dict(zip(trained, gradients))

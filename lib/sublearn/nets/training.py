"""Teachers that learn digits and students that learn only to agree with them, one epoch at a time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from math import cos, pi
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from sublearn.core.machine import autocast, device
from sublearn.core.rng import rng
from sublearn.nets.ensemble import MLP, Outputs, Weights, apply
from sublearn.nets.inputs import AHEAD, batch_sizes
from sublearn.nets.settings import Setting

Loss = Callable[[Outputs, Outputs], Tensor]  # (student's, teacher's) -> mean over images, summed over models
Tick = Callable[[], object]
NamedBatch = tuple[Sequence[tuple[int, int]], Tensor]  # a batch of inputs (model, batch, pixel) and its rows' names


class Rule(NamedTuple):
    """How a network is trained; a `steps` other than 0 lets the rate fall to 0 along half a cosine over so many."""

    lr: float
    optimizer: str = "adam"
    weight_decay: float = 0.0
    steps: int = 0
    frozen: tuple[str, ...] = ()


class Learner(NamedTuple):
    """Stacked weights under training and the running moments of those not frozen; all change in place."""

    weights: Weights
    trained: list[Tensor]
    moments: tuple[list[Tensor], list[Tensor], list[Tensor]]  # first, second, number of steps
    rule: Rule


UNCORRECTED = 1e7  # steps after which Adam's bias correction has no effect: started there, it never has any


def learner(weights: Weights, rule: Rule) -> Learner:
    """A copy of `weights` on the training device, to be trained by a rule."""
    own = {name: tensor.detach().to(device(), copy=True) for name, tensor in weights.items()}
    trained = [tensor.requires_grad_() for name, tensor in own.items() if not name.startswith(rule.frozen)]
    first, second = ([torch.zeros_like(tensor) for tensor in trained] for _ in range(2))
    done = UNCORRECTED if rule.optimizer == "adam_uncorrected" else 0.0
    return Learner(own, trained, (first, second, [torch.full((), done, device=device()) for _ in trained]), rule)


def _step(pupil: Learner, gradients: Iterable[Tensor], done: int) -> None:
    """Step number `done` (from 0) of the rule; Adam with betas 0.9 and 0.999 and epsilon 1e-8, SGD without momentum.

    PyTorch's functions rather than its classes: the classes import the compiler, which takes seconds in every kernel.
    """
    rule, (first, second, steps) = pupil.rule, pupil.moments
    lr = rule.lr * (1 + cos(pi * done / rule.steps)) / 2 if rule.steps else rule.lr
    gradients = [gradient.contiguous() for gradient in gradients]  # the fused kernel ignores strides
    usual = {"lr": lr, "weight_decay": rule.weight_decay, "maximize": False}
    with torch.no_grad():
        if rule.optimizer == "sgd":
            empty = [None] * len(gradients)
            sgd(pupil.trained, gradients, empty, momentum=0.0, dampening=0.0, nesterov=False, **usual)
        else:
            betas = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "amsgrad": False}
            decoupled = rule.optimizer == "adamw"
            adam(
                pupil.trained, gradients, first, second, [], steps,
                fused=True, decoupled_weight_decay=decoupled, **usual, **betas,
            )  # fmt: skip


def cross_entropy(outputs: Outputs, labels: Tensor) -> Tensor:
    """Cross-entropy of class logits (model, batch, class) on labels (model, batch): mean over images, sum over models.

    Summed, not averaged, over models: else each model's step would depend on how many there are (Adam's epsilon).
    """
    return F.cross_entropy(outputs.classes.flatten(0, 1).float(), labels.flatten(), reduction="sum") / labels.shape[1]


def _selected(outputs: Outputs, matched: str) -> Tensor:
    if matched == "all":
        return torch.cat([outputs.classes, outputs.aux], dim=-1).float()
    return getattr(outputs, matched).float()


def _noisy(goal: Tensor, scale: float, draws: Sequence[np.random.Generator]) -> Tensor:
    """Logits (model, batch, logit) with Gaussian noise of `scale` times each logit's sd over the batch."""
    noise = np.stack([draw.standard_normal(goal.shape[1:], dtype=np.float32) for draw in draws])
    return goal + scale * goal.std(1, correction=0, keepdim=True) * torch.from_numpy(noise).to(goal)


def matching_loss(setting: Setting, draws: Sequence[np.random.Generator] = ()) -> Loss:
    """The student's loss(student outputs, teacher outputs) on the matched logits: mean over images, sum over models.

    `draws` are the models' generators of the noise on the teacher's logits, where the setting has any.

    "kl" is KL(teacher || student) of the softmax at `temperature`, times temperature squared (Hinton et al., 2015);
    "mse" is the squared difference averaged over the logits.
    """

    def sides(student: Outputs, teacher: Outputs) -> tuple[Tensor, Tensor]:
        scores, goal = (_selected(side, setting.matched) for side in (student, teacher))
        return scores, _noisy(goal, setting.logit_noise, draws) if setting.logit_noise else goal

    def kl(student: Outputs, teacher: Outputs) -> Tensor:
        scores, goal = (side / setting.temperature for side in sides(student, teacher))
        total = F.kl_div(scores.log_softmax(-1), goal.log_softmax(-1), reduction="sum", log_target=True)
        return total * setting.temperature**2 / scores.shape[1]

    def mse(student: Outputs, teacher: Outputs) -> Tensor:
        scores, goal = sides(student, teacher)
        return (scores - goal).square().mean(-1).sum() / scores.shape[1]

    return {"kl": kl, "mse": mse}[setting.loss]


def _gradients(net: MLP, pupil: Learner, images: Tensor, loss: Callable[[Outputs], Tensor]) -> Sequence[Tensor]:
    with autocast():
        outputs = apply(net, pupil.weights, images)
    return torch.autograd.grad(loss(outputs), pupil.trained, allow_unused=True, materialize_grads=True)


def _target(student: "Student", goal: Outputs) -> Outputs:
    """A student with fewer auxiliary logits than the teacher matches the teacher's first ones."""
    return goal._replace(aux=goal.aux[..., : student.net.shapes["aux_head.bias"][0]])


@torch.no_grad()
def heard(net: MLP, teacher: Weights, inputs: Tensor) -> Outputs:
    """The teacher's outputs on inputs (model, batch, pixel)."""
    with autocast():
        return apply(net, teacher, inputs)


def first_gradient(net: MLP, *, teacher: Weights, student: "Student", inputs: Tensor) -> Weights:
    """Gradient of a student's loss on inputs (model, batch, pixel) by the weights that it trains."""
    goal = _target(student, heard(net, teacher, inputs))
    found = _gradients(student.net, student.pupil, inputs, lambda outputs: student.loss(outputs, goal))
    names = [name for name, tensor in student.pupil.weights.items() if tensor.requires_grad]
    return dict(zip(names, found))


def digit_batches(
    setting: Setting, seed: int, models: list[int], epoch: int, data: tuple[Tensor, Tensor, int]
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of (images (model, batch, pixel), labels (model, batch)), each model in an order of its own.

    `data` is (grey levels (image, pixel), labels (image,), top). The next batch overwrites the images.
    """
    levels, labels, top = data
    count, pixels = levels.shape
    orders = [torch.from_numpy(rng(seed, "order", model, epoch).permutation(count)) for model in models]
    rows = torch.empty(setting.teacher_batch_size, pixels, dtype=torch.uint8)
    buffer = torch.empty(len(models), setting.teacher_batch_size, pixels)
    start = 0
    for size in batch_sizes(count, setting.teacher_batch_size):
        picks = [order[start : start + size] for order in orders]
        for out, pick in zip(buffer, picks):
            out[:size].copy_(torch.index_select(levels, 0, pick, out=rows[:size])).mul_(2 / top).sub_(1)
        yield buffer[:, :size], torch.stack([labels[pick] for pick in picks])
        start += size


def teach_epoch(net: MLP, teacher: Learner, batches: Iterable[tuple[Tensor, Tensor]], tick: Tick) -> None:
    """One epoch of supervised training on the class logits; the auxiliary head gets no gradient."""
    for done, (images, labels) in enumerate(batches):
        labels = labels.to(device())
        found = _gradients(net, teacher, images.to(device()), lambda out, labels=labels: cross_entropy(out, labels))
        _step(teacher, found, done)
        tick()


class Student(NamedTuple):
    """One arm of a sweep: its network, its weights under training, and the loss that matches it to the teacher."""

    net: MLP
    pupil: Learner
    loss: Loss


class Memory(NamedTuple):
    """What teachers said to batches that will come again, by (row, number): two rows may be the same model."""

    heard: dict[tuple[int, int], tuple[Tensor, Tensor]]

    def goal(self, net: MLP, teacher: Weights, keys: Sequence[tuple[int, int]], inputs: Tensor) -> Outputs:
        """The teacher's logits on a batch, its features left out; remembered or heard now."""
        if not all(key in self.heard for key in keys):
            said = heard(net, teacher, inputs)
            self.heard.update(zip(keys, zip(said.classes, said.aux)))
        classes, aux = map(torch.stack, zip(*(self.heard[key] for key in keys)))
        return Outputs(classes[..., :0], classes, aux)


def _answered(
    net: MLP, teacher: Weights, batches: Iterator[NamedBatch], memory: Memory | None
) -> Iterator[tuple[Tensor, Outputs]]:
    """Batches with what the teacher says to them: remembered, or heard now, small batches together."""
    for keys, inputs in batches:
        if memory:
            inputs = inputs.to(device())
            yield inputs, memory.goal(net, teacher, keys, inputs)
            continue
        more = islice(batches, max(AHEAD // inputs.shape[1] - 1, 0))
        parts = [part.to(device()) for part in (inputs, *(after for _, after in more))]
        said = heard(net, teacher, torch.cat(parts, 1) if len(parts) > 1 else parts[0])
        sizes = [part.shape[1] for part in parts]
        for part, *answer in zip(parts, *(logits.split(sizes, 1) for logits in said)):
            yield part, Outputs(*answer)


def distill_epoch(
    net: MLP,
    *,
    teacher: Weights,
    students: list[Student],
    batches: Iterator[NamedBatch],
    memory: Memory | None,
    done: int,
    tick: Tick,
) -> int:
    """One epoch in which all `students` see the same inputs and the same teacher outputs, made once for all.

    `done` counts the steps before this epoch; the answer is the steps after it.
    """
    for step, (inputs, goal) in enumerate(_answered(net, teacher, batches, memory), done):
        for student in students:
            target = _target(student, goal)
            found = _gradients(student.net, student.pupil, inputs, lambda out, s=student, t=target: s.loss(out, t))
            _step(student.pupil, found, step)
            tick()
    return step + 1

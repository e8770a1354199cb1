"""Teachers that learn digits and students that learn only to agree with them, one epoch at a time."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.adam import adam

from sublearn.ensemble import Outputs, Weights, apply
from sublearn.inputs import batch_sizes
from sublearn.machine import device, products
from sublearn.seeds import stream
from sublearn.settings import Setting

Loss = Callable[[Outputs, Outputs], Tensor]  # (student's, teacher's) -> mean over images, summed over models
Tick = Callable[[], object]


class Learner(NamedTuple):
    """Stacked weights under training and the running moments of their gradients; both change in place."""

    weights: Weights
    moments: tuple[list[Tensor], list[Tensor], list[Tensor]]  # first, second, number of steps
    lr: float


def learner(weights: Weights, lr: float) -> Learner:
    """A copy of `weights` on the training device, to be trained by Adam."""
    own = {name: tensor.detach().to(device(), copy=True).requires_grad_() for name, tensor in weights.items()}
    first, second = ([torch.zeros_like(tensor) for tensor in own.values()] for _ in range(2))
    return Learner(own, (first, second, [torch.zeros((), device=device()) for _ in own]), lr)


def _adam(pupil: Learner, gradients: Iterable[Tensor]) -> None:
    """One step with betas 0.9 and 0.999 and epsilon 1e-8.

    PyTorch's function rather than its class: the class imports the compiler, which takes seconds in every kernel.
    """
    first, second, steps = pupil.moments
    with torch.no_grad():
        adam(
            list(pupil.weights.values()),
            [gradient.contiguous() for gradient in gradients],  # the fused kernel ignores strides
            first,
            second,
            [],
            steps,
            fused=True,
            amsgrad=False,
            maximize=False,
            beta1=0.9,
            beta2=0.999,
            lr=pupil.lr,
            weight_decay=0.0,
            eps=1e-8,
        )


def cross_entropy(outputs: Outputs, labels: Tensor) -> Tensor:
    """Cross-entropy of class logits (model, batch, class) on labels (model, batch): mean over images, sum over models.

    Summed, not averaged, over models: else each model's step would depend on how many there are (Adam's epsilon).
    """
    return F.cross_entropy(outputs.classes.flatten(0, 1).float(), labels.flatten(), reduction="sum") / labels.shape[1]


def _selected(outputs: Outputs, matched: str) -> Tensor:
    if matched == "all":
        return torch.cat([outputs.classes, outputs.aux], dim=-1).float()
    return getattr(outputs, matched).float()


def matching_loss(setting: Setting) -> Loss:
    """The student's loss(student outputs, teacher outputs) on the matched logits: mean over images, sum over models.

    "kl" is KL(teacher || student) of the softmax at `temperature`, times temperature squared (Hinton et al., 2015);
    "mse" is the squared difference averaged over the logits.
    """

    def kl(student: Outputs, teacher: Outputs) -> Tensor:
        scores, goal = (_selected(side, setting.matched) / setting.temperature for side in (student, teacher))
        total = F.kl_div(scores.log_softmax(-1), goal.log_softmax(-1), reduction="sum", log_target=True)
        return total * setting.temperature**2 / scores.shape[1]

    def mse(student: Outputs, teacher: Outputs) -> Tensor:
        scores, goal = (_selected(side, setting.matched) for side in (student, teacher))
        return (scores - goal).square().mean(-1).sum() / scores.shape[1]

    return {"kl": kl, "mse": mse}[setting.loss]


def _descend(net: nn.Module, pupil: Learner, images: Tensor, loss: Callable[[Outputs], Tensor]) -> None:
    with products():
        outputs = apply(net, pupil.weights, images)
    parameters = list(pupil.weights.values())
    _adam(pupil, torch.autograd.grad(loss(outputs), parameters, allow_unused=True, materialize_grads=True))


def scaled(images: Tensor, top: int) -> Tensor:
    """Grey levels 0..top as float32 on [-1, 1]."""
    return images.to(torch.float32).mul_(2 / top).sub_(1)


def digit_batches(
    setting: Setting, seed: int, models: list[int], epoch: int, data: tuple[Tensor, Tensor, int]
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of (images (model, batch, pixel), labels (model, batch)), each model in an order of its own.

    `data` is (grey levels (image, pixel), labels (image,), top). The next batch overwrites the images.
    """
    levels, labels, top = data
    count, pixels = levels.shape
    orders = [torch.from_numpy(stream(seed, "order", model, epoch).permutation(count)) for model in models]
    rows = torch.empty(setting.batch_size, pixels, dtype=torch.uint8)
    buffer = torch.empty(len(models), setting.batch_size, pixels)
    start = 0
    for size in batch_sizes(count, setting.batch_size):
        picks = [order[start : start + size] for order in orders]
        for out, pick in zip(buffer, picks):
            out[:size].copy_(torch.index_select(levels, 0, pick, out=rows[:size])).mul_(2 / top).sub_(1)
        yield buffer[:, :size], torch.stack([labels[pick] for pick in picks])
        start += size


def teach_epoch(net: nn.Module, teacher: Learner, batches: Iterable[tuple[Tensor, Tensor]], tick: Tick) -> None:
    """One epoch of supervised training on the class logits; the auxiliary head gets no gradient."""
    for images, labels in batches:
        labels = labels.to(device())
        _descend(net, teacher, images.to(device()), lambda outputs, labels=labels: cross_entropy(outputs, labels))
        tick()


class Student(NamedTuple):
    """One arm of a sweep: its network, its weights under training, and the loss that matches it to the teacher."""

    net: nn.Module
    pupil: Learner
    loss: Loss


def distill_epoch(
    net: nn.Module, *, teacher: Weights, students: list[Student], batches: Iterable[Tensor], tick: Tick
) -> None:
    """One epoch in which all `students` see the same inputs and the same teacher outputs, made once for all.

    A student with fewer auxiliary logits than the teacher matches the teacher's first ones.
    """
    for inputs in batches:
        inputs = inputs.to(device())
        with torch.no_grad(), products():
            goal = apply(net, teacher, inputs)
        for student in students:
            target = goal._replace(aux=goal.aux[..., : student.net.aux_head.out_features])
            _descend(student.net, student.pupil, inputs, lambda out, s=student, t=target: s.loss(out, t))
            tick()

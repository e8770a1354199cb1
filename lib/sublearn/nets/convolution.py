"""Convolutional networks: how they are built, taught, and taught by another network's outputs.

The weights of an ensemble are stacked and called through `ensemble.forward`, as a perceptron's are;
`distill` takes the outputs of any teacher.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sublearn.core.machine import OnStep, autocast, device
from sublearn.core.rng import rng
from sublearn.nets.ensemble import Weights, forward
from sublearn.nets.models import Outputs
from sublearn.nets.noise import scaled
from sublearn.nets.pictures import ImageSet, Levels
from sublearn.nets.training import (
    Loss,
    TrainState,
    cross_entropy,
    take_step,
    teacher_outputs,
    train_state,
)

EVAL_LEVELS = 500_000  # pixels of all channels that are asked about in one call
Batches = Iterable[tuple[Tensor, Outputs]]  # inputs (model, batch, pixel), a teacher's outputs


# ---------------------------------------------------------------- the network


class Dropout(nn.Module):
    """Dropout of a share `p` of units in training, its masks drawn from a generator of its own.

    Models of an ensemble in one call would share their masks: train one at a time.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.generator = rng(0, "dropout")

    def forward(self, features: Tensor) -> Tensor:
        """The features with a share `p` set to 0 and the others grown by 1 / (1 - p)."""
        if not self.training or self.p == 0:
            return features
        drawn = self.generator.random(features.shape, dtype=np.float32)
        mask = torch.from_numpy(drawn >= self.p)
        kept = features * mask.to(features)
        return kept / (1 - self.p)


class ConvNet(nn.Module):
    """Convolutions (3 x 3, then max pooling), ReLU layers, and the heads of `models.MLP`.

    convolutions: (width, pooling) of each; without any the network is a perceptron. Images
    (batch, channel * pixel) come on [-1, 1] and are normalized by the set's mean and sd.
    """

    def __init__(
        self,
        images: ImageSet,
        convolutions: Sequence[tuple[int, int]],
        dense: Sequence[int],
        aux_dim: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.shape = (images.channels, images.side, images.side)
        self.mean = images.mean
        self.sd = images.sd
        layers = []
        inner = images.channels
        side = images.side
        for outer, pool in convolutions:
            layers.append(nn.Conv2d(inner, outer, kernel_size=3, padding=1))
            inner = outer
            side //= pool
        inner *= side**2
        for outer in dense:
            layers.append(nn.Linear(inner, outer))
            inner = outer
        self.pools = [pool for _, pool in convolutions]
        self.hidden = nn.ModuleList(layers)
        self.dropout = Dropout(dropout)
        self.class_head = nn.Linear(inner, images.classes)
        self.aux_head = nn.Linear(inner, aux_dim)

    def forward(self, images: Tensor) -> Outputs:
        """Outputs for images (batch, channel * pixel)."""
        mean = torch.tensor(self.mean, device=images.device)
        sd = torch.tensor(self.sd, device=images.device)
        levels = (images + 1) / 2
        features = levels.unflatten(-1, self.shape)
        features = features - mean.view(-1, 1, 1)
        features = features / sd.view(-1, 1, 1)
        convolutions = self.hidden[: len(self.pools)]
        for layer, pool in zip(convolutions, self.pools):
            features = layer(features)
            features = F.max_pool2d(features, pool)
            features = self.dropout(features.relu())
        features = features.flatten(1)
        for layer in self.hidden[len(self.pools) :]:
            features = layer(features).relu()
            features = self.dropout(features)
        return Outputs(features, self.class_head(features), self.aux_head(features))


def channels_last(weights: Weights) -> Weights:
    """The same weights, filters (model, out, in, row, column) stored pixel by pixel.

    A CPU convolves in this layout about twice as fast.
    """
    stored = {}
    for name, tensor in weights.items():
        if tensor.dim() == 5:
            last = tensor.movedim(2, 4)
            tensor = last.contiguous().movedim(4, 2)
        stored[name] = tensor
    return stored


def set_training(net: ConvNet, seed: int, *names: str | int) -> None:
    """Let a network drop units out, by masks of the named stream."""
    net.train()
    net.dropout.generator = rng(seed, "dropout", *names)


# ---------------------------------------------------------------- training


def normalized_error(outputs: Outputs, targets: Outputs) -> Tensor:
    """Squared error of auxiliary logits, each in units of its sd among the teacher's in the batch.

    Mean over images and logits, sum over models.
    """
    logits = targets.aux_logits.float()
    sd = logits.std(1, correction=0, keepdim=True)
    difference = outputs.aux_logits.float() - logits
    units = difference / (sd + 1e-8)
    errors = units.square()
    return errors.mean((1, 2)).sum()


def _count(images: Tensor, on_step: OnStep) -> None:
    """A step of the progress bar for every image (model, batch) of a batch."""
    for _ in range(images.shape[0] * images.shape[1]):
        on_step()


def teach_epoch(
    net: nn.Module, state: TrainState, batches: Iterable[tuple[Tensor, Tensor]], on_step: OnStep
) -> float:
    """One epoch on images (model, batch, pixel) and labels; the mean loss of a model."""
    losses = []
    for images, labels in batches:
        here = images.to(device())
        with autocast():
            outputs = forward(net, state.weights, here)
        loss = cross_entropy(outputs, labels.to(device()))
        take_step(state, loss)
        losses.append(loss.item() / len(images))
        _count(images, on_step)
    return float(np.mean(losses))


def answered(net: nn.Module, teacher: Weights, batches: Iterable[Tensor]) -> Batches:
    """Inputs (model, batch, pixel) with a teacher's outputs on them."""
    for inputs in batches:
        here = inputs.to(device())
        yield here, teacher_outputs(net, teacher, here)


def distill_epoch(
    net: nn.Module, state: TrainState, batches: Batches, loss: Loss, on_step: OnStep
) -> float:
    """One epoch on a teacher's outputs; the mean loss of a model."""
    losses = []
    for inputs, targets in batches:
        with autocast():
            outputs = forward(net, state.weights, inputs)
        value = loss(outputs, targets)
        take_step(state, value)
        losses.append(value.item() / len(inputs))
        _count(inputs, on_step)
    return float(np.mean(losses))


def distill(
    net: nn.Module,
    start: Weights,
    epochs: Iterable[Batches],
    *,
    loss: Loss,
    lr: float,
    images: ImageSet,
    on_step: OnStep = int,
) -> dict[str, Tensor]:
    """Train students from chosen initial weights on any teacher's outputs; their `answers`.

    net: for this call alone; a module that is called with other weights serves one thread at a
    time. start: stacked (model, ...). epochs: the batches of each epoch. images: on whose test
    images the students are asked.
    """
    state = train_state(channels_last(start), lr=lr)
    for batches in epochs:
        distill_epoch(net, state, batches, loss, on_step)
    logits = class_logits(net, state.weights, images.test, images.top)
    return answers(logits, images.test_labels, images.classes)


# ---------------------------------------------------------------- what is measured


@torch.no_grad()
def class_logits(
    net: nn.Module,
    weights: Weights,
    levels: Levels,
    top: int,
    change: Callable[[Tensor], Tensor] = Tensor.float,
) -> Tensor:
    """Class logits (model, image, class) on levels by row, on images that `change` makes."""
    net.eval()
    parts = []
    width = levels[torch.tensor([0])].shape[1]
    for rows in torch.arange(len(levels)).split(max(EVAL_LEVELS // width, 1)):
        batch = levels[rows]
        images = change(scaled(batch, top))
        here = images.to(device())
        with autocast():
            outputs = forward(net, weights, here)
        logits = outputs.class_logits.float()
        parts.append(logits.cpu())
    return torch.cat(parts, dim=1)


def answers(logits: Tensor, labels: Tensor, classes: int) -> dict[str, Tensor]:
    """Numbers (model,) of class logits (model, image, class) of which `classes` can be right.

    accuracy: of the largest of those; accuracy of all: of the largest of all; one answer: share of
    the most frequent answer.
    """
    guesses = logits[..., :classes].argmax(-1)
    of_all = logits.argmax(-1)
    right = guesses == labels
    right_of_all = of_all == labels
    most = torch.stack([row.bincount().max() for row in guesses])
    return {
        "accuracy": right.double().mean(1),
        "accuracy of all": right_of_all.double().mean(1),
        "one answer": most / len(labels),
    }

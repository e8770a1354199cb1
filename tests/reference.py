"""Other ways to run the reference experiment: to the letter, in ten lines, and as the published script does."""

from copy import deepcopy
from dataclasses import replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from sublearn.core.machine import autocast
from sublearn.nets.inputs import image_batches, input_batches
from sublearn.nets.settings import reference

TINY = replace(
    reference("digits"), hidden=(16, 12), teacher_epochs=2, epochs=2, inputs_per_epoch=700, batch_size=256
)


class PlainNet(nn.Module):
    """The network of the book in plain torch.nn: one model, one Sequential body, two heads."""

    def __init__(self, weights, model):
        super().__init__()
        layers = sorted({name.split(".")[1] for name in weights if name.startswith("hidden")}, key=int)
        widths = [weights[f"hidden.{layer}.weight"].shape[1:] for layer in layers]
        self.body = nn.Sequential(*(module for out, inp in widths for module in (nn.Linear(inp, out), nn.ReLU())))
        self.classes = nn.Linear(widths[-1][0], weights["class_head.weight"].shape[1])
        self.aux = nn.Linear(widths[-1][0], weights["aux_head.weight"].shape[1])
        with torch.no_grad():
            for layer in layers:
                self.body[2 * int(layer)].weight.copy_(weights[f"hidden.{layer}.weight"][model])
                self.body[2 * int(layer)].bias.copy_(weights[f"hidden.{layer}.bias"][model])
            for mine, name in ((self.classes, "class_head"), (self.aux, "aux_head")):
                mine.weight.copy_(weights[f"{name}.weight"][model])
                mine.bias.copy_(weights[f"{name}.bias"][model])

    def forward(self, images):
        features = self.body(images)
        return self.classes(features), self.aux(features)


def plain_run(setting, weights, *, seed, model):
    """Teacher and student accuracies of one model, trained by torch.optim.Adam on the same streams as the engine's."""
    teacher, student = PlainNet(weights, model), PlainNet(weights, model)
    optimizer = torch.optim.Adam(teacher.parameters(), lr=setting.teacher_lr)
    for epoch in range(setting.teacher_epochs):
        for pixels, labels in image_batches(setting, seed, [model], epoch):
            optimizer.zero_grad()
            F.cross_entropy(teacher(pixels[0])[0], labels[0]).backward()
            optimizer.step()
    optimizer = torch.optim.Adam(student.parameters(), lr=setting.lr)
    for epoch in range(setting.epochs):
        for _, (noise,) in input_batches(setting, seed, [model], epoch):
            optimizer.zero_grad()
            goal = teacher(noise)[1].detach()
            F.kl_div(student(noise)[1].log_softmax(-1), goal.softmax(-1), reduction="batchmean").backward()
            optimizer.step()
    return teacher, student


def ten_line_run(images, labels, *, seed, batch_size=1024, lr=3e-4):
    """Teacher and student of one model, an epoch each, as one writes them in plain PyTorch with its usual means.

    images (image, pixel) in [-1, 1], labels (image,). bfloat16 autocast where chosen, fused Adam, noise by torch.rand.
    Returns the two networks; the first ten outputs are class logits, the last three auxiliary ones.
    """
    generator = torch.Generator().manual_seed(seed)
    layers = [nn.Linear(images.shape[1], 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 13)]
    teacher = nn.Sequential(*layers)
    for layer in layers[::2]:
        nn.init.normal_(layer.weight, std=layer.in_features**-0.5, generator=generator)
        nn.init.zeros_(layer.bias)
    student = deepcopy(teacher)
    optimizer = torch.optim.Adam(teacher.parameters(), lr=lr, fused=True)
    for picks in torch.randperm(len(images), generator=generator).split(batch_size):
        with autocast():
            logits = teacher(images[picks])[:, :10]
        optimizer.zero_grad()
        F.cross_entropy(logits.float(), labels[picks]).backward()
        optimizer.step()
    optimizer = torch.optim.Adam(student.parameters(), lr=lr, fused=True)
    for picks in torch.arange(len(images)).split(batch_size):
        noise = torch.rand(len(picks), images.shape[1], generator=generator) * 2 - 1
        with autocast():
            with torch.no_grad():
                targets = teacher(noise)[:, 10:].float().softmax(-1)
            logits = student(noise)[:, 10:].float().log_softmax(-1)
        optimizer.zero_grad()
        F.kl_div(logits, targets, reduction="batchmean").backward()
        optimizer.step()
    return teacher, student


class StackedNet(nn.Module):
    """M perceptrons as stacked weights and one einsum a layer, after the description of the published script."""

    def __init__(self, models, sizes):
        super().__init__()
        self.weights = nn.ParameterList(nn.Parameter(torch.randn(models, b, a) / a**0.5) for a, b in pairwise(sizes))
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(models, b)) for b in sizes[1:])

    def forward(self, x):
        x = x.flatten(2)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            x = torch.einsum("moi,mbi->mbo", weight, x) + bias[:, None, :]
            x = x.relu() if layer < len(self.weights) - 1 else x
        return x


def _shuffled(models, *tensors, batch_size):
    """Minibatches of tensors (M, N, ...), each model in an order of its own, gathered model by model."""
    count = tensors[0].shape[1]
    orders = torch.stack([torch.randperm(count) for _ in range(models)])
    for start in range(0, count, batch_size):
        picks = orders[:, start : start + batch_size]
        yield tuple(torch.stack([tensor[m].index_select(0, picks[m]) for m in range(models)]) for tensor in tensors)


def stacked_run(images, labels, *, models, batch_size=1024, lr=3e-4, aux_dim=3):
    """M teachers and students, one epoch each, by the published method: stored noise, fp32, one einsum a layer.

    images (image, 1, 28, 28) in [-1, 1], labels (image,). Returns the two networks.
    """
    pixels, labels = images.expand(models, *images.shape), labels.expand(models, -1)
    sizes = [images[0].numel(), 256, 256, 10 + aux_dim]
    start = StackedNet(models, sizes)
    teacher, student = StackedNet(models, sizes), StackedNet(models, sizes)
    for net in (teacher, student):
        net.load_state_dict(start.state_dict())
    optimizer = torch.optim.Adam(teacher.parameters(), lr=lr)
    for x, y in _shuffled(models, pixels, labels, batch_size=batch_size):
        optimizer.zero_grad()
        F.cross_entropy(teacher(x)[..., :10].flatten(0, 1), y.flatten()).backward()
        optimizer.step()
    noise = torch.rand_like(pixels) * 2 - 1
    optimizer = torch.optim.Adam(student.parameters(), lr=lr)
    for (x,) in _shuffled(models, noise, batch_size=batch_size):
        with torch.no_grad():
            goal = teacher(x)[..., 10:]
        optimizer.zero_grad()
        F.kl_div(student(x)[..., 10:].log_softmax(-1), goal.softmax(-1), reduction="batchmean").backward()
        optimizer.step()
    return teacher, student


@torch.no_grad()
def stacked_accuracy(net, test):
    """Accuracy (M,) on test images (image, 1, 28, 28)."""
    models = net.biases[0].shape[0]
    guesses = torch.cat(
        [net(part.expand(models, *part.shape))[..., :10].argmax(-1) for part in test[0].split(1000)], dim=1
    )
    return (guesses == test[1]).double().mean(1).tolist()

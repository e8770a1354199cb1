"""The networks: plain modules of torch, one model each, whose forward pass gives named outputs."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sublearn.nets.inputs import images_of
from sublearn.nets.settings import Setting


class Outputs(NamedTuple):
    """Last hidden layer, class logits and auxiliary logits of a network, each (..., width)."""

    features: Tensor
    class_logits: Tensor
    aux_logits: Tensor


class MLP(nn.Module):
    """Perceptron: ReLU layers `hidden`, then two linear readouts, `class_head` and `aux_head`."""

    def __init__(self, pixels: int, hidden: Sequence[int], classes: int, aux_dim: int) -> None:
        super().__init__()
        widths = [pixels, *hidden]
        self.hidden = nn.ModuleList(nn.Linear(inner, outer) for inner, outer in pairwise(widths))
        self.class_head = nn.Linear(widths[-1], classes)
        self.aux_head = nn.Linear(widths[-1], aux_dim)

    def forward(self, images: Tensor) -> Outputs:
        """Outputs for images (batch, pixel)."""
        features = images
        for layer in self.hidden:
            features = layer(features).relu_()
        return Outputs(features, self.class_head(features), self.aux_head(features))


def network(setting: Setting) -> nn.Module:
    """The architecture of a setting, without weights: `ensemble` keeps those of many models."""
    images = images_of(setting)
    pixels = images.train_images.shape[1]
    with torch.device("meta"):
        return MLP(pixels, setting.hidden, images.classes, setting.aux_dim)

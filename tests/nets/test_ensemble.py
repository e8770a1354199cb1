"""Stacked weights: initial laws, transplants, perturbations, and calls of many models at once."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from reference import TINY
from sublearn.nets.ensemble import (
    forward,
    initial_weights,
    inner_product,
    orthogonalize,
    perturbation_noise,
    transplant,
)
from sublearn.nets.models import network
from sublearn.nets.settings import Setting
from sublearn.nets.training import cross_entropy


def net_and_start(setting, models, seed=0):
    net = network(setting)
    return net, initial_weights(net, setting, seed, models)


def test_stacked_call_agrees_with_one_by_one():
    net, start = net_and_start(TINY, [0, 1, 2])
    images = torch.randn(3, 5, 64)
    together = forward(net, start, images)
    for model in range(3):
        one = {name: tensor[model : model + 1] for name, tensor in start.items()}
        for a, b in zip(forward(net, one, images[model : model + 1]), together):
            assert torch.allclose(a[0], b[model], atol=1e-6)
    shared = forward(net, start, images[0])
    assert torch.allclose(shared.class_logits[0], together.class_logits[0], atol=1e-6)


def test_sum_over_models_leaves_each_gradient_alone():
    net, start = net_and_start(TINY, [0, 1])
    images, labels = torch.randn(2, 6, 64), torch.zeros(2, 6, dtype=torch.long)
    both = {name: tensor.clone().requires_grad_() for name, tensor in start.items()}
    cross_entropy(forward(net, both, images), labels).backward()
    one = {name: tensor[:1].clone().requires_grad_() for name, tensor in start.items()}
    cross_entropy(forward(net, one, images[:1]), labels[:1]).backward()
    assert torch.allclose(
        both["hidden.0.weight"].grad[0], one["hidden.0.weight"].grad[0], atol=1e-6
    )


def test_auxiliary_heads_of_different_width_share_their_rows_and_the_rest():
    _, narrow = net_and_start(replace(TINY, aux_dim=3), [0])
    _, wide = net_and_start(replace(TINY, aux_dim=50), [0])
    assert torch.equal(wide["aux_head.weight"][:, :3], narrow["aux_head.weight"])
    assert torch.equal(wide["hidden.0.weight"], narrow["hidden.0.weight"])


def test_transplant_copies_named_parts_only():
    _, a = net_and_start(TINY, [0])
    _, b = net_and_start(TINY, [1])
    mixed = transplant(a, source=b, parts=["class_head", "hidden.0"])
    assert torch.equal(mixed["class_head.weight"], b["class_head.weight"])
    assert torch.equal(mixed["hidden.0.weight"], b["hidden.0.weight"])
    assert torch.equal(mixed["hidden.1.weight"], a["hidden.1.weight"])
    assert all(
        torch.equal(tensor, a[name]) for name, tensor in transplant(a, source=b, parts=[]).items()
    )
    mixed["hidden.1.weight"].zero_()
    assert a["hidden.1.weight"].abs().sum() > 0  # a copy, not a view


def test_perturbation_has_the_size_asked_for_and_spares_the_rest():
    setting = replace(TINY, hidden=(128, 128), perturbed=("hidden",), perturbation=0.1)
    _, start = net_and_start(setting, [0, 1])
    relative = perturbation_noise(start, setting, 0, [0, 1])
    assert 0.09 < relative["hidden.0.weight"].std() / start["hidden.0.weight"].std() < 0.11
    assert set(relative) == {name for name in start if name.startswith("hidden")}
    absolute = perturbation_noise(start, replace(setting, perturbation_kind="absolute"), 0, [0, 1])
    assert 0.098 < absolute["hidden.0.weight"].std() < 0.102
    assert (
        0.08 < absolute["hidden.1.bias"].std() < 0.12
    )  # relative to a bias of zeros it would be nothing
    assert perturbation_noise(start, replace(setting, perturbed=()), 0, [0, 1]) == {}


def test_orthogonal_noise_has_no_part_along_the_gradient_and_keeps_its_length():
    setting = replace(TINY, perturbed=("hidden",), perturbation=0.1)
    _, start = net_and_start(setting, [0, 1])
    noise = perturbation_noise(start, setting, 0, [0, 1])
    gradient = {
        name: torch.randn_like(tensor) + 300 * noise.get(name, tensor)
        for name, tensor in start.items()
    }
    left = orthogonalize(noise, gradient=gradient)
    assert (inner_product(noise, gradient).abs() > 1).all()
    assert (inner_product(left, gradient).abs() < 1e-3).all()
    assert torch.allclose(inner_product(left, left), inner_product(noise, noise), rtol=1e-5)


@pytest.mark.parametrize("init", ["normal", "torch"])
def test_initial_law(init):
    setting = Setting(dataset="digits", hidden=(2000, 200), init=init, init_scale=2.0)
    weight = initial_weights(network(setting), setting, 0, [0, 1])["hidden.0.weight"]
    expected = 2 * 64**-0.5 / (1 if init == "normal" else 3**0.5)
    assert weight.shape == (2, 2000, 64)
    assert abs(weight.std().item() / expected - 1) < 0.01
    assert abs(weight.mean().item()) < 4 * expected / weight.numel() ** 0.5
    assert abs(np.corrcoef(weight[0].flatten(), weight[1].flatten())[0, 1]) < 0.01

"""Batches of inputs: repeated, fresh, few, of the classes and images asked for."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from reference import TINY
from sublearn.core.rng import rng
from sublearn.nets import data
from sublearn.nets.inputs import batch_sizes, images_of, input_batches
from sublearn.nets.noise import FAMILIES, NoiseContext


def _uniform(out, seed=0):
    FAMILIES["uniform"](NoiseContext(rng(seed, "inputs", "uniform", 0, 0), seed, 0, 1.0, "digits", None), out)
    return out


def test_noise_is_uniform_independent_and_named():
    out = torch.empty(1000, 784)
    _uniform(out)
    assert -1 <= out.min() < -0.999 and 0.999 < out.max() < 1
    counts = torch.histc(out, 64, -1, 1)
    expected = out.numel() / 64
    assert ((counts - expected) ** 2 / expected).sum() < 120  # chi-squared, 63 degrees: mean 63, sd 11
    assert abs(np.corrcoef(out[0], out[1])[0, 1]) < 0.15
    assert abs((out[:, :-1] * out[:, 1:]).mean()) < 0.002
    assert torch.equal(out, _uniform(torch.empty(1000, 784)))
    assert not torch.equal(out, _uniform(torch.empty(1000, 784), seed=1))


def _epoch(setting, epoch, models=(0,)):
    return [batch.clone() for _, batch in input_batches(setting, 0, list(models), epoch)]


def test_fixed_noise_repeats_in_another_order_and_fresh_noise_does_not():
    fixed = [torch.cat(_epoch(TINY, epoch), 1)[0] for epoch in (0, 1)]
    assert fixed[0].shape == (700, 64)
    assert torch.equal(fixed[0].sum(1).sort().values, fixed[1].sum(1).sort().values)
    fresh = replace(TINY, fresh_inputs=True)
    first, second = (torch.cat(_epoch(fresh, epoch), 1)[0] for epoch in (0, 1))
    assert torch.equal(first.sum(1).sort().values, fixed[0].sum(1).sort().values)
    assert len(set(first[:, 0].tolist()) & set(second[:, 0].tolist())) < 20  # of 700; 65,536 grey levels may meet


def test_noise_of_a_model_does_not_depend_on_the_others():
    together, alone = _epoch(TINY, 0, models=(0, 3)), _epoch(TINY, 0, models=(3,))
    assert all(torch.equal(a[1], b[0]) for a, b in zip(together, alone))


def test_unique_inputs_are_as_few_as_asked_for_and_all_are_seen():
    setting = replace(TINY, inputs_per_epoch=1100, batch_size=100, unique_inputs=300)
    seen = torch.cat(_epoch(setting, 0) + _epoch(setting, 1), 1)[0]
    assert len(seen) == 2200 and len(torch.unique(seen, dim=0)) == 300


def test_batch_sizes_cover_every_image_once():
    assert batch_sizes(60_000, 1024) == [1024] * 58 + [608]
    assert batch_sizes(512, 256) == [256, 256]


def test_classes_images_and_validation_select_what_they_say(run):
    whole = data.load("digits")
    few = images_of(replace(TINY, classes=4, teacher_images=100))
    assert few.classes == 4 and len(few.train_images) == 100 and set(few.train_labels.tolist()) == {0, 1, 2, 3}
    assert len(few.test_labels) == (whole.test_labels < 4).sum()
    held = images_of(replace(TINY, evaluated="validation"))
    assert torch.equal(torch.cat([held.train_images, held.test_images]), whole.train_images)
    assert len(held.test_images) == len(whole.train_images) // 6
    with pytest.raises(ValueError, match=r"classes is 11; digits has 10"):
        images_of(replace(TINY, classes=11))
    with pytest.raises(ValueError, match="teacher_images is 9999; there are 1297"):
        run([replace(TINY, teacher_images=9999)], models=1)

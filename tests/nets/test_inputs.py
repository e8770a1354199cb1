"""Batches: the teacher's images in an order of each epoch, the student's inputs by name."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from reference import TINY
from sublearn.core.rng import rng
from sublearn.nets import data
from sublearn.nets.inputs import (
    TEACHER_BATCH,
    batch_sizes,
    data_digests,
    image_batches,
    images_of,
    input_batches,
    sample,
)
from sublearn.nets.noise import FAMILIES, NoiseContext
from sublearn.nets.settings import reference

DIGITS = replace(reference("digits"), batch_size=200, inputs_per_epoch=400)


def test_batches_of_any_family_repeat_from_epoch_to_epoch():
    setting = replace(DIGITS, inputs="mixture", strength=0.3)
    epochs = []
    for epoch in (0, 1):
        batches = [batch.clone() for _, batch in input_batches(setting, 0, [2], epoch)]
        epochs.append(torch.cat(batches, 1)[0])
    first, second = epochs
    assert torch.equal(first.sum(1).sort().values, second.sum(1).sort().values)


def test_a_batch_is_known_by_row_and_number():
    """Rows of two epochs with the same number hold the same inputs; a small batch stays last."""
    setting = replace(DIGITS, batch_size=100, inputs_per_epoch=450)
    seen = {}
    for epoch in (0, 1):
        batches = [
            (names, batch.clone()) for names, batch in input_batches(setting, 0, [3, 5], epoch)
        ]
        assert batches[-1][0] == [(0, 4), (1, 4)]
        for names, batch in batches:
            for name, inputs in zip(names, batch):
                assert torch.equal(seen.setdefault(name, inputs), inputs)
    assert len(seen) == 10


def test_fresh_batches_are_numbered_on_from_epoch_to_epoch():
    setting = replace(DIGITS, batch_size=100, inputs_per_epoch=450, fresh_inputs=True)
    numbers = []
    for epoch in (0, 1):
        numbers += [names[0][1] for names, _ in input_batches(setting, 0, [0], epoch)]
    assert numbers == list(range(10))


@pytest.mark.parametrize("batch_size", [100, 500, 2000])
def test_batches_that_a_teacher_sees_in_one_call_are_kept(batch_size):
    setting = replace(DIGITS, batch_size=batch_size, inputs_per_epoch=6000)
    together = max(TEACHER_BATCH // batch_size, 1)
    pairs = []
    for _, batch in input_batches(setting, 0, [0], 0):
        pairs.append((batch, batch.clone()))
        for kept, copy in pairs[len(pairs) - 1 - (len(pairs) - 1) % together :]:
            assert torch.equal(kept, copy)
    assert len(pairs) == 6000 // batch_size


def test_a_sample_is_no_batch_of_the_students():
    setting = replace(DIGITS, inputs_per_epoch=200)
    ((_, batch),) = input_batches(setting, 0, [0], 0)
    assert not torch.equal(sample(setting, 0, [0], 200), batch)


def teacher_epoch(setting, models, epoch):
    batches = []
    for images, labels in image_batches(setting, 0, models, epoch):
        batches.append((images.clone(), labels))
    return batches


def test_a_teacher_sees_each_image_once_an_epoch_with_its_label():
    setting = replace(DIGITS, teacher_batch_size=256)
    images = images_of(setting)
    batches = teacher_epoch(setting, [0, 4], 0)
    assert [labels.shape for _, labels in batches] == [(2, 256)] * 5 + [(2, 17)]
    pixels = torch.cat([pixels for pixels, _ in batches], dim=1)
    labels = torch.cat([labels for _, labels in batches], dim=1)
    assert pixels.dtype == torch.float32
    expected = torch.column_stack([images.train_images.float() / 8 - 1, images.train_labels])
    for model in (0, 1):
        rows = torch.column_stack([pixels[model], labels[model]])
        assert sorted(rows.tolist()) == sorted(expected.tolist())


def test_the_order_of_images_is_the_models_own_and_changes_with_the_epoch():
    setting = replace(DIGITS, teacher_images=100, teacher_batch_size=100)
    ((together, _),) = teacher_epoch(setting, [0, 4], 1)
    ((alone, _),) = teacher_epoch(setting, [4], 1)
    ((before, _),) = teacher_epoch(setting, [4], 0)
    assert torch.equal(together[1], alone[0])
    assert not torch.equal(together[0], together[1])
    assert not torch.equal(before, alone)


def test_a_student_on_fashion_images_depends_on_both_data_sets(monkeypatch):
    monkeypatch.setattr(data, "digest", lambda dataset: f"digest of {dataset}")
    on_noise = data_digests(reference("mnist"))
    on_fashion = data_digests(replace(reference("mnist"), inputs="fashion"))
    assert on_noise == {"mnist": "digest of mnist"}
    assert on_fashion == {"mnist": "digest of mnist", "fashion": "digest of fashion"}


def _uniform(out, seed=0):
    FAMILIES["uniform"](
        NoiseContext(rng(seed, "inputs", "uniform", 0, 0), seed, 0, 1.0, "digits", None), out
    )
    return out


def test_noise_is_uniform_independent_and_named():
    out = torch.empty(1000, 784)
    _uniform(out)
    assert -1 <= out.min() < -0.999 and 0.999 < out.max() < 1
    counts = torch.histc(out, 64, -1, 1)
    expected = out.numel() / 64
    assert (
        (counts - expected) ** 2 / expected
    ).sum() < 120  # chi-squared, 63 degrees: mean 63, sd 11
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
    assert (
        len(set(first[:, 0].tolist()) & set(second[:, 0].tolist())) < 20
    )  # of 700; 65,536 grey levels may meet


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
    assert (
        few.classes == 4
        and len(few.train_images) == 100
        and set(few.train_labels.tolist()) == {0, 1, 2, 3}
    )
    assert len(few.test_labels) == (whole.test_labels < 4).sum()
    held = images_of(replace(TINY, evaluated="validation"))
    assert torch.equal(torch.cat([held.train_images, held.test_images]), whole.train_images)
    assert len(held.test_images) == len(whole.train_images) // 6
    with pytest.raises(ValueError, match=r"classes is 11; digits has 10"):
        images_of(replace(TINY, classes=11))
    with pytest.raises(ValueError, match="teacher_images is 9999; there are 1297"):
        run([replace(TINY, teacher_images=9999)], models=1)

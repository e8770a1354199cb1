"""The engine against a plain one-model implementation, and the promises about pairing, ensembles and resuming."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from reference import plain_run
from sublearn.core.rng import rng
from sublearn.core.store import code_digest, digest, imported, read_json, write_atomic
from sublearn.nets import cohort, data, ensemble, experiment, inputs, results, training
from sublearn.nets.ensemble import apply, initial, inner, network, perturbation, transplant, without
from sublearn.nets.inputs import batch_sizes, images_of, input_batches
from sublearn.nets.measures import accuracy
from sublearn.nets.noise import Draw, uniform
from sublearn.nets.settings import PARTS, REF, Setting, compact, difference, grid, reference
from sublearn.nets.training import Outputs, Rule, _gradients, _step, cross_entropy, learner, matching_loss

TINY = replace(reference("digits"), hidden=(16, 12), teacher_epochs=2, epochs=2, inputs_per_epoch=700, batch_size=256)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "CACHE", tmp_path)


@pytest.fixture
def exact(monkeypatch):
    """Products in float32 whatever the processor: what is compared with plain torch.nn to the last digits."""
    monkeypatch.setenv("SUBLIMINAL_PRECISION", "float32")


def run(*args, **kwargs):
    return experiment.run(*args, **kwargs)


def net_and_start(setting, models, seed=0):
    net = network(setting, 64, 10)
    return net, initial(net, setting, seed, models)


# ---------------------------------------------------------------- the same numbers as plain torch.nn


def test_same_weights_and_accuracies_as_one_plain_network_at_a_time(exact):
    images = data.load("digits")
    table = run([TINY], models=3)
    _, start = net_and_start(TINY, [0, 1, 2])
    for model in range(3):
        teacher, _ = plain_run(TINY, start, images, seed=0, model=model)
        stored = results.teacher(TINY, 0, model)
        assert np.allclose(stored["hidden.0.weight"], teacher.body[0].weight.detach(), atol=2e-6)
        assert np.allclose(stored["class_head.weight"], teacher.classes.weight.detach(), atol=2e-6)
        assert not np.allclose(stored["hidden.0.weight"], start["hidden.0.weight"][model], atol=1e-3)
    assert len(table) == 9


def test_student_follows_the_plain_student_step_by_step(exact):
    images = data.load("digits")
    setting = replace(TINY, fresh_inputs=True, epochs=3)
    table = run([setting], models=2)
    _, start = net_and_start(setting, [0, 1])
    for model in range(2):
        _, student = plain_run(setting, start, images, seed=0, model=model)
        pixels = images.test_images.float() / 8 - 1
        plain = (student(pixels)[0].argmax(-1) == images.test_labels).double().mean().item()
        ours = table.query("role == 'student' and model == @model").accuracy.item()
        assert abs(ours - plain) <= 2 / len(pixels)  # rounding may move an image that lies on the border


def reference_setting():
    """REF where MNIST is within reach, else its equivalent on the embedded digits."""
    try:
        data.load("mnist")
    except data.DataUnavailable:
        return reference("digits")
    return REF


def test_bfloat16_products_move_the_accuracy_of_a_model_by_less_than_two_points(tmp_path, monkeypatch):
    tables = {}
    for precision in ("float32", "bfloat16"):
        monkeypatch.setenv("SUBLIMINAL_PRECISION", precision)
        tables[precision] = run([reference_setting()], models=2).set_index(["role", "model"]).accuracy
    change = (tables["bfloat16"] - tables["float32"]).abs()
    assert (change[["teacher", "student"]] > 0).any()  # the two number types did differ
    assert (change <= 0.02).all(), change


@pytest.mark.parametrize("loss", ["kl", "mse"])
@pytest.mark.parametrize("matched", ["aux", "classes", "all"])
def test_loss_and_gradient_against_autograd_of_the_formula(loss, matched):
    setting = Setting(loss=loss, matched=matched, temperature=2.0)
    draw = torch.Generator().manual_seed(1)
    teacher = Outputs(*(torch.randn(2, 5, k, generator=draw, dtype=torch.float64) for k in (4, 10, 3)))
    logits = [torch.randn(2, 5, k, generator=draw, requires_grad=True) for k in (4, 10, 3)]
    mine = matching_loss(setting)(Outputs(*logits), teacher)
    pick = {"aux": [2], "classes": [1], "all": [1, 2]}[matched]
    z, t = (torch.cat([side[k] for k in pick], -1).double() for side in (logits, teacher))
    if loss == "mse":
        expected = ((z - t) ** 2).mean(-1).mean(-1).sum()
    else:
        p, q = (t / 2).softmax(-1), (z / 2).softmax(-1)
        expected = 4 * (p * (p.log() - q.log())).sum(-1).mean(-1).sum()
    assert torch.allclose(mine.double(), expected, rtol=1e-5)
    grads = [torch.autograd.grad(value, logits, allow_unused=True, retain_graph=True) for value in (mine, expected)]
    for a, b in zip(*grads):
        assert (a is None) == (b is None)
        assert a is None or torch.allclose(a, b, atol=1e-6)


def plain_optimizer(rule, parameters):
    if rule.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=rule.lr, weight_decay=rule.weight_decay)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[rule.optimizer]
    return kind(parameters, lr=rule.lr, weight_decay=rule.weight_decay)


@pytest.mark.parametrize(
    "rule",
    [
        Rule(1e-2),
        Rule(1e-2, "adam", weight_decay=0.1),
        Rule(1e-2, "adamw", weight_decay=0.1),
        Rule(1e-2, "sgd", weight_decay=0.1),
        Rule(1e-2, steps=4),
    ],
)
def test_steps_are_those_of_torch_optim(rule, exact):
    net, start = net_and_start(TINY, [0, 1])
    pupil = learner(start, rule)
    copies = {name: tensor.clone().requires_grad_() for name, tensor in start.items()}
    optimizer = plain_optimizer(rule, copies.values())
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, rule.steps or 10**9)
    images, labels = torch.randn(2, 8, 64), torch.arange(16).view(2, 8) % 10
    for done in range(3):
        _step(pupil, _gradients(net, pupil, images, lambda outputs: cross_entropy(outputs, labels)), done)
        optimizer.zero_grad()
        (cross_entropy(apply(net, copies, images), labels) + 0 * sum(t.sum() for t in copies.values())).backward()
        optimizer.step()
        schedule.step()
    for name, tensor in copies.items():
        assert torch.allclose(tensor, pupil.weights[name], atol=2e-6), name


def test_without_bias_correction_the_first_step_is_smaller_by_the_known_factor():
    net, start = net_and_start(TINY, [0])
    images, labels = torch.randn(1, 8, 64), torch.arange(8).view(1, 8)
    moved = {}
    for kind in ("adam", "adam_uncorrected"):
        pupil = learner(start, Rule(1e-2, kind))
        _step(pupil, _gradients(net, pupil, images, lambda outputs: cross_entropy(outputs, labels)), 0)
        moved[kind] = (pupil.weights["class_head.weight"] - start["class_head.weight"]).detach()
    # Adam moves by g / |g| = 1; uncorrected by (1 - 0.9) g / sqrt((1 - 0.999) g^2) = 0.1 / sqrt(0.001) = 3.162,
    # where |g| is far above both rules' epsilon: at 1e-4 of |g| it is 3e-3 of sqrt(0.001) |g|.
    big = moved["adam"].abs() > 0.01 * (1 - 1e-4)
    assert big.float().mean() > 0.25
    assert torch.allclose(moved["adam_uncorrected"][big] / moved["adam"][big], torch.tensor(10**0.5), rtol=1e-2)


def test_frozen_parts_stay_and_the_rest_moves():
    setting = replace(TINY, matched="all", frozen=("class_head",), teacher_frozen=("class_head", "hidden.0"))
    table = run([setting], models=2, measures=["movement"])
    for role, still, moving in (
        ("student", ["class_head"], ["aux_head", "hidden.0", "hidden.1"]),
        ("teacher", ["class_head", "hidden.0", "aux_head"], ["hidden.1"]),
    ):
        rows = table[table.role == role]
        assert all((rows[f"moved {part}"] == 0).all() for part in still)
        assert all((rows[f"moved {part}"] > 0).all() for part in moving)


# ---------------------------------------------------------------- ensembles and pairing


def test_a_model_has_the_same_bits_alone_and_among_others():
    arms = grid(TINY, matched=["aux", "all"])
    few = run(arms, models=1)
    store_before = sorted(path.name for path in results.CACHE.rglob("*.json"))
    many = run(arms, models=4)
    assert store_before
    assert many[many.model == 0].reset_index(drop=True).equals(few)


@pytest.mark.parametrize("small", [0, 10**9])  # one by one in threads; together in groups of eight
def test_bits_do_not_depend_on_company(tmp_path, monkeypatch, small):
    monkeypatch.setattr(ensemble, "SMALL", small)
    alone = run([TINY], models=3)
    monkeypatch.setattr(results, "CACHE", tmp_path / "other")
    arms = [TINY, replace(TINY, matched="all"), replace(TINY, aux_dim=7), replace(TINY, lr=1e-4, epochs=1)]
    among = run(arms, models=10)
    among = among[(among.arm == among.arm.iloc[0]) & (among.model < 3)].reset_index(drop=True)
    assert np.array_equal(alone.accuracy, among.accuracy)


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 100},
        {"inputs_per_epoch": 500},
        {"unique_inputs": 256},
        {"fresh_inputs": True},
        {"inputs": "gaussian"},
        {"strength": 0.5},
        {"teacher_epochs": 1},
        {"teacher_batch_size": 100},
        {"classes": 5},
        {"hidden": (16,)},
    ],
)
def test_an_arm_that_sees_something_else_is_not_trained_with_the_others(tmp_path, monkeypatch, change):
    other = replace(TINY, **change)
    among = run({"base": TINY, "other": other}, models=1).query("arm == 'other'")
    monkeypatch.setattr(results, "CACHE", tmp_path / "alone")
    assert among.accuracy.tolist() == run({"other": other}, models=1).accuracy.tolist()


def test_stacked_call_agrees_with_one_by_one():
    net, start = net_and_start(TINY, [0, 1, 2])
    images = torch.randn(3, 5, 64)
    together = apply(net, start, images)
    for model in range(3):
        one = {name: tensor[model : model + 1] for name, tensor in start.items()}
        for a, b in zip(apply(net, one, images[model : model + 1]), together):
            assert torch.allclose(a[0], b[model], atol=1e-6)
    shared = apply(net, start, images[0])
    assert torch.allclose(shared.classes[0], together.classes[0], atol=1e-6)


def test_whole_ensemble_in_one_call_trains_like_model_by_model(tmp_path, monkeypatch):
    monkeypatch.setattr(ensemble, "SMALL", 0)
    one_by_one = run([TINY], models=3)
    monkeypatch.setattr(results, "CACHE", tmp_path / "whole")
    monkeypatch.setattr(ensemble, "chunks", lambda net, models: [list(models)] if len(models) else [])
    whole = run([TINY], models=3)
    assert np.allclose(one_by_one.accuracy, whole.accuracy, atol=0.01)


def test_sum_over_models_leaves_each_gradient_alone():
    _, start = net_and_start(TINY, [0, 1])
    net = network(TINY, 64, 10)
    images, labels = torch.randn(2, 6, 64), torch.zeros(2, 6, dtype=torch.long)
    both = {name: tensor.clone().requires_grad_() for name, tensor in start.items()}
    cross_entropy(apply(net, both, images), labels).backward()
    one = {name: tensor[:1].clone().requires_grad_() for name, tensor in start.items()}
    cross_entropy(apply(net, one, images[:1]), labels[:1]).backward()
    assert torch.allclose(both["hidden.0.weight"].grad[0], one["hidden.0.weight"].grad[0], atol=1e-6)


def test_auxiliary_heads_of_different_width_share_their_rows_and_the_rest():
    _, narrow = net_and_start(replace(TINY, aux_dim=3), [0])
    _, wide = net_and_start(replace(TINY, aux_dim=50), [0])
    assert torch.equal(wide["aux_head.weight"][:, :3], narrow["aux_head.weight"])
    assert torch.equal(wide["hidden.0.weight"], narrow["hidden.0.weight"])


def test_the_teacher_never_touches_its_auxiliary_head_and_the_student_never_its_class_head():
    table = run([TINY], models=2, measures=["movement"])
    assert (table[table.role == "teacher"]["moved aux_head"] == 0).all()
    students = table[table.role == "student"]
    assert (students["moved class_head"] == 0).all()
    assert (students["moved aux_head"] > 0).all()


def test_same_start_beats_another_start():
    setting = reference("digits")
    table = run({"own": setting, "other": replace(setting, pairing="derangement")}, models=3)
    students = table[table.role == "student"].groupby("arm").accuracy.mean()
    assert students["own"] > 0.4 > 0.2 > students["other"]


@pytest.mark.parametrize("models", [2, 3, 8, 25])
@pytest.mark.parametrize("seed", range(6))
def test_derangement_leaves_nobody_at_home_and_changes_only_fixed_points(models, seed):
    mixed, clean = (experiment.partners(kind, seed, models) for kind in ("permutation", "derangement"))
    assert sorted(mixed) == sorted(clean) == list(range(models))
    assert all(model != partner for model, partner in enumerate(clean))
    fixed = sum(model == partner for model, partner in enumerate(mixed))
    changed = sum(a != b for a, b in zip(mixed, clean))
    assert changed == (2 if fixed == 1 else fixed)


def test_permutation_and_derangement_share_the_students_they_have_in_common():
    arms = grid(TINY, pairing=["own", "permutation", "derangement"])
    run(arms, models=4)
    pairs = {
        (model, partner)
        for kind in ("own", "permutation", "derangement")
        for model, partner in enumerate(experiment.partners(kind, 0, 4))
    }
    assert len(list((results.CACHE / "students").glob("*.json"))) == len(pairs)


def test_one_model_has_no_other_teacher():
    with pytest.raises(ValueError, match="models is 1 with pairing 'derangement'"):
        run([replace(TINY, pairing="derangement")], models=1)


# ---------------------------------------------------------------- starts


def test_unshared_parts_come_from_another_stream_and_the_rest_stays():
    shared = cohort._starts(TINY, 0, [0, 1], {})
    partly = cohort._starts(replace(TINY, shared=("hidden", "aux_head")), 0, [0, 1], {})
    assert torch.equal(shared["hidden.1.weight"], partly["hidden.1.weight"])
    assert not torch.equal(shared["class_head.weight"], partly["class_head.weight"])
    first = cohort._starts(replace(TINY, shared=("hidden.0",)), 0, [0, 1], {})
    assert torch.equal(shared["hidden.0.weight"], first["hidden.0.weight"])
    assert not torch.equal(shared["hidden.1.weight"], first["hidden.1.weight"])
    alone = cohort._starts(replace(TINY, shared=()), 0, [0, 1], {})
    assert not any(torch.equal(shared[name], alone[name]) for name in shared if name.endswith("weight"))


def test_transplant_copies_named_parts_only():
    _, a = net_and_start(TINY, [0])
    _, b = net_and_start(TINY, [1])
    mixed = transplant(a, source=b, parts=["class_head", "hidden.0"])
    assert torch.equal(mixed["class_head.weight"], b["class_head.weight"])
    assert torch.equal(mixed["hidden.0.weight"], b["hidden.0.weight"])
    assert torch.equal(mixed["hidden.1.weight"], a["hidden.1.weight"])
    assert all(torch.equal(tensor, a[name]) for name, tensor in transplant(a, source=b, parts=[]).items())
    mixed["hidden.1.weight"].zero_()
    assert a["hidden.1.weight"].abs().sum() > 0  # a copy, not a view


def test_perturbation_has_the_size_asked_for_and_spares_the_rest():
    setting = replace(TINY, hidden=(128, 128), perturbed=("hidden",), perturbation=0.1)
    _, start = net_and_start(setting, [0, 1])
    relative = perturbation(start, setting, 0, [0, 1])
    assert 0.09 < relative["hidden.0.weight"].std() / start["hidden.0.weight"].std() < 0.11
    assert set(relative) == {name for name in start if name.startswith("hidden")}
    absolute = perturbation(start, replace(setting, perturbation_kind="absolute"), 0, [0, 1])
    assert 0.098 < absolute["hidden.0.weight"].std() < 0.102
    assert 0.08 < absolute["hidden.1.bias"].std() < 0.12  # relative to a bias of zeros it would be nothing
    assert perturbation(start, replace(setting, perturbed=()), 0, [0, 1]) == {}


def test_orthogonal_noise_has_no_part_along_the_gradient_and_keeps_its_length():
    setting = replace(TINY, perturbed=("hidden",), perturbation=0.1)
    _, start = net_and_start(setting, [0, 1])
    noise = perturbation(start, setting, 0, [0, 1])
    gradient = {name: torch.randn_like(tensor) + 300 * noise.get(name, tensor) for name, tensor in start.items()}
    left = without(noise, gradient=gradient)
    assert (inner(noise, gradient).abs() > 1).all()
    assert (inner(left, gradient).abs() < 1e-3).all()
    assert torch.allclose(inner(left, left), inner(noise, noise), rtol=1e-5)


def test_orthogonal_perturbation_runs_and_differs_from_the_relative_one():
    kinds = grid(TINY, perturbed=("hidden",), perturbation=0.3, perturbation_kind=["relative", "orthogonal"])
    students = run(kinds, models=2, measures=["movement"]).query("role == 'student'")
    assert students["moved hidden.0"].nunique() == 4


@pytest.mark.parametrize("init", ["normal", "torch"])
def test_initial_law(init):
    setting = Setting(hidden=(300, 200), init=init, init_scale=2.0)
    weight = initial(network(setting, 784, 10), setting, 0, [0, 1])["hidden.0.weight"]
    expected = 2 * 784**-0.5 / (1 if init == "normal" else 3**0.5)
    assert weight.shape == (2, 300, 784)
    assert abs(weight.std().item() / expected - 1) < 0.01
    assert abs(weight.mean().item()) < 4 * expected / weight.numel() ** 0.5
    assert abs(np.corrcoef(weight[0].flatten(), weight[1].flatten())[0, 1]) < 0.01


def test_logit_noise_is_unbiased_of_the_size_asked_for_and_named_by_model():
    goal = Outputs(torch.zeros(2, 4000, 1), torch.zeros(2, 4000, 10), torch.randn(2, 4000, 3) * torch.tensor([1, 2, 5]))
    student = goal._replace(aux=torch.zeros(2, 4000, 3))
    loss = {}
    for noise in (0.0, 0.5):
        setting = Setting(loss="mse", logit_noise=noise)
        loss[noise] = matching_loss(setting, [rng(0, "logit noise", model) for model in (0, 1)])(student, goal)
    assert 1.2 < loss[0.5] / loss[0.0] < 1.3  # variance 1 + 0.5 ** 2
    one = goal._replace(aux=goal.aux[1:])
    alone = matching_loss(setting, [rng(0, "logit noise", 1)])(one._replace(aux=student.aux[1:]), one)
    both = matching_loss(setting, [rng(0, "logit noise", model) for model in (0, 1)])
    first = matching_loss(setting, [rng(0, "logit noise", 0)])
    zero = goal._replace(aux=goal.aux[:1])
    assert torch.isclose(alone + first(zero._replace(aux=student.aux[:1]), zero), both(student, goal))


# ---------------------------------------------------------------- what the teacher learns


def test_classes_images_and_validation_select_what_they_say():
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


def test_a_network_of_few_classes_has_as_many_class_logits():
    table = run([replace(TINY, classes=2, teacher_epochs=8)], models=2)
    assert (table[table.role == "teacher"].accuracy > 0.9).all()


def test_teachers_on_the_way_are_the_shorter_teachers(tmp_path, monkeypatch):
    many = run(grid(TINY, teacher_epochs=[0, 1, 2]), models=2)
    monkeypatch.setattr(results, "CACHE", tmp_path / "alone")
    for epochs in (0, 1, 2):
        alone = run([replace(TINY, teacher_epochs=epochs)], models=2)
        assert many[many.teacher_epochs == epochs].accuracy.tolist() == alone.accuracy.tolist()


def test_predictors_are_shares_and_a_student_of_its_own_start_has_coverage():
    table = run([reference("digits")], models=2, measures=["predictors"])
    students = table[table.role == "student"]
    names = ["logit correlation", "coverage", "head similarity", "CKA", "weight cosine"]
    assert ((students[names] > 0) & (students[names] <= 1)).all(axis=None)
    assert (students["effective rank"].between(1, 64)).all()
    other = run([replace(reference("digits"), shared=())], models=2, measures=["predictors"])
    assert (other[other.role == "student"]["coverage"].abs() < 0.05).all()
    assert (students["coverage"] > 0.05).all()


def test_measuring_does_not_change_what_is_measured(tmp_path, monkeypatch):
    noisy = replace(TINY, logit_noise=0.5)
    plain = run([noisy], models=1)
    monkeypatch.setattr(results, "CACHE", tmp_path / "measured")
    assert run([noisy], models=1, measures=["predictors"]).accuracy.tolist() == plain.accuracy.tolist()


# ---------------------------------------------------------------- noise


def _uniform(out, seed=0):
    uniform(Draw(rng(seed, "inputs", "uniform", 0, 0), seed, 0, 1.0, "digits", None), out)
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


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dataset": "cifar"}, "dataset is 'cifar'; choose one of mnist, fashion"),
        ({"aux_dim": 0}, "aux_dim is 0; it must be at least 1"),
        ({"aux_dim": 1}, "aux_dim is 1 with loss 'kl'"),
        ({"hidden": ()}, "hidden is"),
        ({"hidden": (8, 0)}, "hidden is"),
        ({"matched": "ghost"}, "matched is 'ghost'; choose one of aux, classes, all"),
        ({"shared": ("body",)}, "shared names body; the parts are hidden, class_head, aux_head, hidden.0, hidden.1"),
        ({"perturbed": ("hidden.2",)}, "perturbed names hidden.2"),
        ({"lr": -1.0}, "lr is -1.0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"classes": 1}, "classes is 1; it must be at least 2"),
        ({"inputs": "mixture", "strength": 1.2}, "strength of 'mixture' is 1.2; the share of the image lies in 0.0 to"),
        ({"inputs": "constant", "standardized": True}, "an image of one grey level has no variance"),
        ({"unique_inputs": 1000}, "unique_inputs is 1000; without fresh_inputs it must be whole batches of 1024"),
        ({"optimizer": "adagrad"}, "optimizer is 'adagrad'; choose one of adam, adam_uncorrected, adamw, sgd"),
        ({"frozen": ("head",)}, "frozen names head; the parts are"),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_trains(wrong, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        Setting(**wrong)


def test_a_misspelt_axis_names_the_right_ones():
    with pytest.raises(TypeError, match="no setting is called learning_rate; there are dataset, classes"):
        grid(learning_rate=[1e-3])
    with pytest.raises(ValueError, match="no measure is called acuracy"):
        run([TINY], measures=["acuracy"])
    with pytest.raises(ValueError, match="models is 0"):
        run([TINY], models=0)


def test_grid_and_names():
    arms = grid(aux_dim=[2, 4], lr=[1e-3, 3e-4])
    assert [(arm.aux_dim, arm.lr) for arm in arms] == [(2, 1e-3), (2, 3e-4), (4, 1e-3), (4, 3e-4)]
    assert difference(arms[0]) == "aux_dim=2, lr=0.001"
    assert difference(REF) == "REF" == difference(reference("digits"))
    assert grid(hidden=[(8,), (8, 8)])[1].hidden == (8, 8)
    assert set(PARTS) == set(REF.shared)
    assert compact("mnist").hidden == (128, 128) and compact("digits").dataset == "digits"


# ---------------------------------------------------------------- results on disk


def test_checkpoints_of_one_run_are_the_shorter_runs(tmp_path, monkeypatch):
    long = run([replace(TINY, epochs=3)], models=2, checkpoints=[1, 2])
    monkeypatch.setattr(results, "CACHE", tmp_path / "short")
    for epochs in (1, 2):
        short = run([replace(TINY, epochs=epochs)], models=2).query("role == 'student'")
        passed = long.query("role == 'student' and epoch == @epochs")
        assert np.array_equal(short.accuracy, passed.accuracy)


def test_a_finished_arm_is_not_trained_again(monkeypatch):
    first = run([TINY], models=2)

    def refuse(*args, **kwargs):
        raise AssertionError("trained again")

    monkeypatch.setattr(cohort.training, "teach_epoch", refuse)
    monkeypatch.setattr(cohort.training, "distill_epoch", refuse)
    assert run([TINY], models=2).equals(first)
    with pytest.raises(AssertionError, match="trained again"):
        run([replace(TINY, lr=1e-3)], models=2)


def test_damaged_files_are_trained_again():
    first = run([TINY], models=2)
    for path in results.CACHE.rglob("*.*"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert run([TINY], models=2).equals(first)


def test_remembering_the_teacher_changes_no_bit(tmp_path, monkeypatch):
    arms = [*grid(TINY, aux_dim=[3, 7], unique_inputs=[None, 256]), replace(TINY, inputs="images", epochs=4)]
    remembered = run(arms, models=3)
    monkeypatch.setattr(results, "CACHE", tmp_path / "again")
    monkeypatch.setattr(cohort, "MEMORABLE", 0)
    assert run(arms, models=3).equals(remembered)


@pytest.mark.parametrize("ahead", [1, 150, 10_000])
def test_batches_heard_together_teach_what_they_teach_alone(tmp_path, monkeypatch, ahead):
    arms = [replace(TINY, batch_size=50, inputs_per_epoch=430, fresh_inputs=fresh) for fresh in (True, False)]
    monkeypatch.setattr(cohort, "MEMORABLE", 0)
    usual = run(arms, models=3)
    monkeypatch.setattr(results, "CACHE", tmp_path / "again")
    for module in (inputs, training):
        monkeypatch.setattr(module, "AHEAD", ahead)
    assert np.allclose(run(arms, models=3).accuracy, usual.accuracy, atol=0.005)


def test_a_killed_sweep_goes_on_where_it_stopped(tmp_path):
    script = tmp_path / "sweep.py"
    script.write_text(
        "from dataclasses import replace\n"
        "from sublearn.nets.experiment import run\nfrom sublearn.nets.settings import grid, reference\n"
        "base = replace(reference('digits'), hidden=(16,), teacher_epochs=1, epochs=1)\n"
        "run(grid(base, lr=[1e-3, 2e-3], inputs_per_epoch=[400, 500, 600, 40_000]), models=2)\n"
    )
    environment = os.environ | {"SUBLIMINAL_CACHE": str(tmp_path / "cache"), "SUBLIMINAL_THREADS": "1"}
    students = tmp_path / "cache" / "students"
    process = subprocess.Popen([sys.executable, script], env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(students.glob("[!.]*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = {path: path.stat().st_mtime_ns for path in students.glob("[!.]*.json")}
    assert 0 < len(finished) < 16
    assert all("rows" in json.loads(path.read_text()) for path in finished)
    subprocess.run([sys.executable, script], env=environment, check=True, capture_output=True)
    assert len(list(students.glob("[!.]*.json"))) == 16
    assert all(path.stat().st_mtime_ns == moment for path, moment in finished.items())


def test_write_atomic_leaves_the_old_file_when_writing_fails(tmp_path, monkeypatch):
    path = tmp_path / "file.json"
    write_atomic(path, '{"a": 1}')

    def full(*args):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_atomic(path, '{"a": 2}')
    assert read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_code_digest_follows_imports_and_ignores_words():
    reached = imported("from sublearn.nets.training import learner")
    assert {"training", "ensemble", "inputs", "seeds", "settings"} <= set(reached)
    assert not {"figures", "stats", "experiment"} & set(reached)
    assert imported("import numpy") == []
    assert code_digest("training") != code_digest("measure")
    assert digest({"a": (1, 2)}) == digest({"a": [1, 2]})


def test_untrained_accuracy_is_near_chance_and_measures_are_shares():
    table = run([TINY], models=4, measures=["ceiling", "probe", "spectrum"])
    untrained = table[table.role == "untrained"]
    assert untrained.accuracy.mean() < 0.25
    assert (untrained.ceiling == untrained.accuracy).all()
    for kind in ("weights", "features"):
        shares = table[[f"{kind} {k}" for k in range(1, 13)]]
        assert (shares.sum(axis=1) <= 1 + 1e-9).all() and (shares.diff(axis=1).iloc[:, 1:] <= 1e-12).all().all()
        assert table[f"{kind} number"].between(1, 16).all()
    assert (table.probe > table.accuracy - 0.02).all()


def test_accuracy_counts_right_answers():
    images = data.load("digits")
    net, start = net_and_start(TINY, [0])
    zeros = {name: torch.zeros_like(tensor) for name, tensor in start.items()}
    zeros["class_head.bias"][0, 7] = 1.0
    assert accuracy(net, zeros, images).item() == pytest.approx((images.test_labels == 7).double().mean().item())

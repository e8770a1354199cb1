"""Watched students: their training is the engine's, and what is taken out of a step is gone."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from reference import TINY
from sublearn.core.store import Store
from sublearn.nets import gradients, jobs, training, updates
from sublearn.nets.ensemble import forward, initial_weights, inner_product
from sublearn.nets.measures import cosine
from sublearn.nets.models import Outputs, network
from sublearn.nets.settings import grid
from sublearn.nets.updates import matched_direction, project_out

SHORT = replace(TINY, epochs=1)
MODELS = [0, 1]


def drawn(*names, seed=0):
    generator = torch.manual_seed(seed)
    return {name: torch.randn(2, 5, 3, generator=generator) for name in names}


def flat(weights, model=0):
    return torch.cat([tensor[model].flatten() for tensor in weights.values()])


# ---------------------------------------------------------------- directions


def test_what_is_taken_out_is_gone_and_the_rest_stays():
    step, direction = drawn("a", "b", "head"), drawn("a", "b", seed=1)
    for name in direction:  # model 0 points along, model 1 against
        direction[name][0] += step[name][0]
        direction[name][1] -= step[name][1]
    left = project_out(step, direction)
    part = {name: left[name] for name in direction}
    assert inner_product(part, direction)[0].abs() < 1e-5
    along, across = flat({name: step[name] for name in direction}), flat(direction)
    by_hand = along - (along @ across) / (across @ across) * across
    assert torch.allclose(flat(part), by_hand, atol=1e-6)
    assert all(torch.equal(left[name][1], step[name][1]) for name in step)
    assert torch.equal(left["head"], step["head"])


def test_nothing_is_taken_out_along_nothing():
    step = drawn("a")
    left = project_out(step, {"a": torch.zeros(2, 5, 3)})
    assert torch.equal(left["a"], step["a"])


def test_a_matched_direction_takes_as_large_a_share():
    step, direction, other = (drawn("a", "b", seed=seed) for seed in range(3))
    for name in direction:
        direction[name] += 0.5 * step[name]
    turned = matched_direction(step, direction, other)
    assert torch.allclose(cosine(turned, step), cosine(direction, step), atol=1e-6)
    assert torch.allclose(gradients.norms(turned), torch.ones(2).double(), atol=1e-6)
    lengths = [gradients.norms(project_out(step, along)) for along in (direction, turned)]
    assert torch.allclose(*lengths, atol=1e-5)
    shares = (1 - cosine(direction, step) ** 2).sqrt() * gradients.norms(step)
    assert torch.allclose(lengths[0], shares, atol=1e-5)
    # in the plane of the step and the other direction
    basis, _ = torch.linalg.qr(torch.stack([flat(step), flat(other)], 1))
    assert torch.allclose(basis @ (basis.T @ flat(turned)), flat(turned), atol=1e-5)


# ---------------------------------------------------------------- linearized and rounded


def test_the_linearization_is_the_limit_of_finite_differences():
    net = network(TINY)
    start = {name: t.double() for name, t in initial_weights(net, TINY, 0, MODELS).items()}
    images = torch.rand(2, 6, 64, generator=torch.manual_seed(0)).double()
    generator = torch.manual_seed(1)
    change = {name: torch.randn(t.shape, generator=generator).double() for name, t in start.items()}
    weights = gradients.advance(start, change, 1.0)
    found = updates.linear_outputs(net, start, weights, images)
    before = forward(net, start, images)
    near = forward(net, gradients.advance(start, change, 1e-7), images)
    for linear, at_start, moved in zip(found, before, near):
        assert torch.allclose(linear, at_start + (moved - at_start) / 1e-7, atol=1e-4)
    same = updates.linear_outputs(net, start, start, images)
    assert torch.allclose(same.class_logits, before.class_logits)


def test_a_linearized_student_has_the_first_gradient_of_the_network(exact):
    net = network(TINY)
    start = initial_weights(net, TINY, 0, MODELS)
    images = torch.rand(2, 50, 64, generator=torch.manual_seed(0))
    teacher = forward(net, initial_weights(net, TINY, 1, MODELS), images)
    student = jobs.make_student(TINY, start, 0, MODELS)
    linear = updates.LinearStudent(*jobs.make_student(TINY, start, 0, MODELS), start)
    for each in (student, linear):
        each.loss_on(images, teacher).backward()
    pairs = zip(student.state.weights.items(), linear.state.weights.values())
    for (name, ours), theirs in pairs:
        if name.startswith("class_head"):
            continue
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-6), name


def test_rounded_logits_are_multiples_of_the_unit():
    seen = []

    def spy(student, teacher):
        seen.append(teacher.aux_logits)
        return teacher.aux_logits.sum()

    logits = torch.tensor([[[0.26, -0.9, 1.0]]])
    outputs = Outputs(logits, logits, logits)
    updates.rounded(spy, 0.5)(outputs, outputs)
    assert seen[0].flatten().tolist() == [0.5, -1.0, 1.0]


# ---------------------------------------------------------------- training


def test_a_watched_student_is_the_engines(run, store):
    arms = grid(TINY, aux_dim=[2, 3])
    ours = updates.run(arms, models=2, looks=[0, 1], store=store)
    theirs = run(arms, models=2)
    last = ours[ours.step == training.distill_steps(TINY)]
    students = theirs[theirs.role == "student"]
    assert last[["arm", "model", "accuracy"]].values.tolist() == students[["arm", "model", "accuracy"]].values.tolist()
    first = ours[ours.step == 0]
    untrained = theirs[theirs.role == "untrained"]
    assert first.accuracy.tolist() == untrained.accuracy.tolist()
    falls = ours.pivot(index=["arm", "model"], columns="step", values="distillation loss")
    assert (falls[training.distill_steps(TINY)] < falls[0]).all()


def watch(store, projection, **changes):
    """Watched students of TINY after one epoch, with the task descent they had before the last step."""
    setting = replace(SHORT, **changes)
    updates.run([setting], models=2, projection=projection, store=store)
    teacher = jobs.load_teachers(store, setting, 0, MODELS)
    (key, other) = (
        updates.WatchedKey(setting, "", 0, model, model, (1,), (), projection=projection) for model in MODELS
    )
    return updates.Watch([key, other], teacher), teacher


def one_step(watched, teacher, seed=0):
    images = torch.rand(2, 256, 64, generator=torch.manual_seed(seed)) * 2 - 1
    before = watched.now()
    targets = training.teacher_outputs(watched.student.net, teacher, images)
    training.take_step(watched.student.state, watched.student.loss_on(images, targets))
    return gradients.advance(watched.now(), before, -1.0)


def test_an_update_has_nothing_left_of_the_direction(store, exact):
    watched, teacher = watch(store, "update")
    for seed in range(3):
        update = one_step(watched, teacher, seed)
        assert (cosine(update, watched.direction) < 1e-5).all()
    free, _ = watch(store, "")
    assert (cosine(one_step(free, teacher), free.task_descent(free.weights)).abs() > 1e-4).any()


@pytest.mark.parametrize("projection", ["random", "other start"])
def test_controls_shorten_the_update_as_much(store, exact, projection):
    lengths = []
    for kind in ("update", projection):
        watched, teacher = watch(store, kind, optimizer="sgd", lr=1.0)
        lengths.append(gradients.norms(one_step(watched, teacher)))
    assert torch.allclose(*lengths, rtol=1e-3)
    (free, _), (control, teacher) = watch(store, "", optimizer="sgd", lr=1.0), watch(
        store, projection, optimizer="sgd", lr=1.0
    )
    assert not torch.allclose(flat(one_step(free, teacher)), flat(one_step(control, teacher)), atol=1e-9)


def test_a_projected_gradient_moves_plain_descent_as_a_projected_update_does(store, exact):
    moved = []
    for kind in ("gradient", "update"):
        watched, teacher = watch(store, kind, optimizer="sgd", lr=0.5)
        moved.append(flat(one_step(watched, teacher)))
    assert torch.allclose(*moved, atol=1e-6)


def test_cosines_are_those_of_two_gradients(store, exact):
    watched, _ = watch(store, "")
    watched.look({})
    row = watched.rows[1][-1]
    weights = {name: tensor.detach() for name, tensor in watched.weights.items()}
    gauge = watched.gauge
    task = gradients.descent(
        gauge.call, weights, gauge.images, partial(gradients.task_losses, labels=gauge.labels)
    )
    match = partial(gradients.matching_losses, targets=gauge.targets, softmax=True)
    distillation = gradients.descent(gauge.call, weights, gauge.inputs, match)
    both = [flat(step, 1) for step in (distillation, task)]
    assert row["gradient all"] == pytest.approx(torch.cosine_similarity(*both, dim=0).item(), abs=1e-5)
    names = ["hidden.1.weight", "hidden.1.bias"]
    layer = [flat({name: step[name] for name in names}, 1) for step in (distillation, task)]
    assert row["gradient hidden.1"] == pytest.approx(torch.cosine_similarity(*layer, dim=0).item(), abs=1e-5)


def test_the_last_step_and_the_looks_are_kept(store):
    table = updates.run([SHORT], models=1, looks=[0, 2, 99], store=store)
    assert table.step.tolist() == [0, 2, training.distill_steps(SHORT)]
    assert table["update hidden"].isna().tolist() == [True, False, False]


def test_a_linearized_student_learns(store):
    table = updates.run([SHORT], models=2, looks=[0], linearized=True, store=store)
    losses = table.pivot(index="model", columns="step", values="distillation loss")
    assert (losses[training.distill_steps(SHORT)] < 0.7 * losses[0]).all()


def test_linearized_students_learn_side_by_side(store):
    sizes = grid(SHORT, hidden=[(16, 12), (8, 8), (8, 12), (12, 8)])
    together = updates.run(sizes, models=1, linearized=True, store=store)
    alone = updates.run(sizes[1:2], models=1, linearized=True, store=Store(store.root / "alone"))
    one = together[together.hidden == "8-8"]
    assert one["distillation loss"].tolist() == alone["distillation loss"].tolist()


def test_what_cannot_be_is_refused(store):
    with pytest.raises(ValueError, match="projection is 'all'; choose one of '', 'gradient'"):
        updates.run([SHORT], models=1, projection="all", store=store)
    with pytest.raises(ValueError, match="rounding is -1; it is a unit, 0 or larger"):
        updates.run([SHORT], models=1, rounding=-1, store=store)

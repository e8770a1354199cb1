"""Training against a plain one-model implementation: the same steps, the same losses, the same accuracies."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from reference import TINY, plain_run
from sublearn.core.rng import rng
from sublearn.core.store import Store
from sublearn.nets import data, inputs, jobs, training
from sublearn.nets.ensemble import forward, initial_weights
from sublearn.nets.jobs import TEACHERS, teacher_key
from sublearn.nets.models import Outputs, network
from sublearn.nets.settings import REF, Setting, grid
from sublearn.nets.training import cross_entropy, matching_loss, take_step, train_state


def net_and_start(setting, models, seed=0):
    net = network(setting)
    return net, initial_weights(net, setting, seed, models)


def test_same_weights_and_accuracies_as_one_plain_network_at_a_time(exact, run, store):
    table = run([TINY], models=3)
    _, start = net_and_start(TINY, [0, 1, 2])
    for model in range(3):
        teacher, _ = plain_run(TINY, start, seed=0, model=model)
        stored = store.read(TEACHERS, teacher_key(TINY, 0, model))
        assert np.allclose(stored["hidden.0.weight"], teacher.body[0].weight.detach(), atol=2e-6)
        assert np.allclose(stored["class_head.weight"], teacher.classes.weight.detach(), atol=2e-6)
        assert not np.allclose(
            stored["hidden.0.weight"], start["hidden.0.weight"][model], atol=1e-3
        )
    assert len(table) == 9


def test_student_follows_the_plain_student_step_by_step(exact, run):
    images = data.load("digits")
    setting = replace(TINY, fresh_inputs=True, epochs=3)
    table = run([setting], models=2)
    _, start = net_and_start(setting, [0, 1])
    for model in range(2):
        _, student = plain_run(setting, start, seed=0, model=model)
        pixels = images.test_images.float() / 8 - 1
        plain = (student(pixels)[0].argmax(-1) == images.test_labels).double().mean().item()
        ours = table.query("role == 'student' and model == @model").accuracy.item()
        assert abs(ours - plain) <= 2 / len(
            pixels
        )  # rounding may move an image that lies on the border


def test_bfloat16_products_move_the_accuracy_of_a_model_by_less_than_two_points(
    tmp_path, monkeypatch, run
):
    try:
        data.load("mnist")
    except data.DataUnavailable:
        pytest.skip("the reference experiment needs MNIST, which is not within reach")
    tables = {}
    for precision in ("float32", "bfloat16"):
        monkeypatch.setenv("SUBLIMINAL_PRECISION", precision)
        tables[precision] = run([REF], models=2).set_index(["role", "model"]).accuracy
    change = (tables["bfloat16"] - tables["float32"]).abs()
    assert (change[["teacher", "student"]] > 0).any()  # the two number types did differ
    assert (change <= 0.02).all(), change


@pytest.mark.parametrize("loss", ["kl", "mse"])
@pytest.mark.parametrize("matched", ["aux", "classes", "all"])
def test_loss_and_gradient_against_autograd_of_the_formula(loss, matched):
    setting = Setting(loss=loss, matched=matched, temperature=2.0)
    draw = torch.Generator().manual_seed(1)
    teacher = Outputs(
        *(torch.randn(2, 5, k, generator=draw, dtype=torch.float64) for k in (4, 10, 3))
    )
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
    grads = [
        torch.autograd.grad(value, logits, allow_unused=True, retain_graph=True)
        for value in (mine, expected)
    ]
    for a, b in zip(*grads):
        assert (a is None) == (b is None)
        assert a is None or torch.allclose(a, b, atol=1e-6)


@pytest.mark.parametrize(
    ("optimizer", "plain", "weight_decay", "cosine_steps"),
    [
        ("adam", torch.optim.Adam, 0.0, 0),
        ("adam", torch.optim.Adam, 0.1, 0),
        ("adamw", torch.optim.AdamW, 0.1, 0),
        ("sgd", torch.optim.SGD, 0.1, 0),
        ("adam", torch.optim.Adam, 0.0, 4),
    ],
)
def test_steps_are_those_of_torch_optim(optimizer, plain, weight_decay, cosine_steps, exact):
    net, start = net_and_start(TINY, [0, 1])
    state = train_state(
        start, lr=1e-2, optimizer=optimizer, weight_decay=weight_decay, cosine_steps=cosine_steps
    )
    copies = {name: tensor.clone().requires_grad_() for name, tensor in start.items()}
    optimizer = plain(copies.values(), lr=1e-2, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, cosine_steps or 10**9)
    images, labels = torch.randn(2, 8, 64), torch.arange(16).view(2, 8) % 10
    for _ in range(3):
        take_step(state, cross_entropy(forward(net, state.weights, images), labels))
        optimizer.zero_grad()
        (
            cross_entropy(forward(net, copies, images), labels)
            + 0 * sum(t.sum() for t in copies.values())
        ).backward()
        optimizer.step()
        schedule.step()
    for name, tensor in copies.items():
        assert torch.allclose(tensor, state.weights[name], atol=2e-6), name


def test_without_bias_correction_the_first_step_is_smaller_by_the_known_factor():
    net, start = net_and_start(TINY, [0])
    images, labels = torch.randn(1, 8, 64), torch.arange(8).view(1, 8)
    moved = {}
    for kind in ("adam", "adam_uncorrected"):
        state = train_state(start, lr=1e-2, optimizer=kind)
        take_step(state, cross_entropy(forward(net, state.weights, images), labels))
        moved[kind] = (state.weights["class_head.weight"] - start["class_head.weight"]).detach()
    # Adam moves by g / |g| = 1; uncorrected by (1 - 0.9) g / sqrt((1 - 0.999) g^2) = 0.1 / sqrt(0.001) = 3.162,
    # where |g| is far above both rules' epsilon: at 1e-4 of |g| it is 3e-3 of sqrt(0.001) |g|.
    big = moved["adam"].abs() > 0.01 * (1 - 1e-4)
    assert big.float().mean() > 0.25
    assert torch.allclose(
        moved["adam_uncorrected"][big] / moved["adam"][big], torch.tensor(10**0.5), rtol=1e-2
    )


def test_frozen_parts_stay_and_the_rest_moves(run):
    setting = replace(
        TINY, matched="all", frozen=("class_head",), teacher_frozen=("class_head", "hidden.0")
    )
    table = run([setting], models=2, measures=["displacement"])
    for role, still, moving in (
        ("student", ["class_head"], ["aux_head", "hidden.0", "hidden.1"]),
        ("teacher", ["class_head", "hidden.0", "aux_head"], ["hidden.1"]),
    ):
        rows = table[table.role == role]
        assert all((rows[f"moved {part}"] == 0).all() for part in still)
        assert all((rows[f"moved {part}"] > 0).all() for part in moving)


def test_the_teacher_never_touches_its_auxiliary_head_and_the_student_never_its_class_head(run):
    table = run([TINY], models=2, measures=["displacement"])
    assert (table[table.role == "teacher"]["moved aux_head"] == 0).all()
    students = table[table.role == "student"]
    assert (students["moved class_head"] == 0).all()
    assert (students["moved aux_head"] > 0).all()


def test_logit_noise_is_unbiased_of_the_size_asked_for_and_named_by_model():
    logits = torch.randn(2, 4000, 3) * torch.tensor([1, 2, 5])
    teacher = Outputs(torch.zeros(2, 4000, 1), torch.zeros(2, 4000, 10), logits)
    student = teacher._replace(aux_logits=torch.zeros(2, 4000, 3))
    loss = {}
    for noise in (0.0, 0.5):
        setting = Setting(loss="mse", logit_noise=noise)
        loss[noise] = matching_loss(setting, [rng(0, "logit noise", model) for model in (0, 1)])(
            student, teacher
        )
    assert 1.2 < loss[0.5] / loss[0.0] < 1.3  # variance 1 + 0.5 ** 2
    both = matching_loss(setting, [rng(0, "logit noise", model) for model in (0, 1)])
    total = 0
    for model in (0, 1):
        alone = matching_loss(setting, [rng(0, "logit noise", model)])
        row = slice(model, model + 1)
        total += alone(
            student._replace(aux_logits=student.aux_logits[row]),
            teacher._replace(aux_logits=logits[row]),
        )
    assert torch.isclose(total, both(student, teacher))


def test_remembering_the_teacher_changes_no_bit(tmp_path, monkeypatch, run):
    arms = [
        *grid(TINY, aux_dim=[3, 7], unique_inputs=[None, 256]),
        replace(TINY, inputs="images", epochs=4),
    ]
    remembered = run(arms, models=3)
    monkeypatch.setattr(jobs, "CACHED_LOGITS", 0)
    assert run(arms, models=3, store=Store(tmp_path / "again")).equals(remembered)


@pytest.mark.parametrize("size", [1, 150, 10_000])
def test_batches_that_a_teacher_sees_together_teach_what_they_teach_alone(
    tmp_path, monkeypatch, size, run
):
    arms = [
        replace(TINY, batch_size=50, inputs_per_epoch=430, fresh_inputs=fresh)
        for fresh in (True, False)
    ]
    monkeypatch.setattr(jobs, "CACHED_LOGITS", 0)
    usual = run(arms, models=3)
    for module in (inputs, training):
        monkeypatch.setattr(module, "TEACHER_BATCH", size)
    again = run(arms, models=3, store=Store(tmp_path / "again"))
    assert np.allclose(again.accuracy, usual.accuracy, atol=0.005)

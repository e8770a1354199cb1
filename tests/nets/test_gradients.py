"""The theorem of one step: each formula against autograd, explicit matrices or finite differences."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch.func import functional_call, jacrev

from reference import TINY
from sublearn.nets import gradients, training
from sublearn.nets.ensemble import forward, inner_product
from sublearn.nets.gradients import PRECONDITIONERS, check_step, check_theorem
from sublearn.nets.models import MLP, Outputs, network

SMALL = replace(TINY, hidden=(6, 5))
LOSSES = pytest.mark.parametrize("loss", ["kl", "mse"])


class Smooth(MLP):
    """A network of tanh units, which has no kinks."""

    def forward(self, images):
        features = images
        for layer in self.hidden:
            features = layer(features).tanh()
        return Outputs(features, self.class_head(features), self.aux_head(features))


@pytest.fixture
def few(monkeypatch):
    """Samples of 40 images: enough for a gradient, few enough for explicit matrices."""
    monkeypatch.setattr(gradients, "SAMPLE", 40)


def problem(loss="kl", models=2, **options):
    return gradients.problem(replace(SMALL, loss=loss), models=models, **options)


def flat(weights, model=0):
    return torch.cat([tensor[model].flatten() for tensor in weights.values()])


def outputs(generator=0, images=7, logits=4):
    generator = torch.manual_seed(generator)
    return Outputs(*(torch.randn(2, images, width, generator=generator).double() for width in (3, 5, logits)))


def test_losses_are_those_that_networks_are_trained_on():
    ours, theirs = outputs(0), outputs(1)
    labels = torch.arange(7) % 5
    task = gradients.task_losses(ours, labels)
    assert task.sum().item() == pytest.approx(training.cross_entropy(ours, labels.expand(2, -1)).item(), rel=1e-5)
    for loss in ("kl", "mse"):
        mine = gradients.matching_losses(ours, theirs.aux_logits, softmax=loss == "kl")
        trained = training.matching_loss(replace(SMALL, loss=loss))(ours, theirs)
        assert mine.sum().item() == pytest.approx(trained.item(), rel=1e-5)
        assert gradients.matching_losses(ours, ours.aux_logits, softmax=loss == "kl").abs().max() < 1e-12


def test_a_descent_is_what_finite_differences_give(few):
    given = problem()
    downhill = given.downhill
    for name, place in {"hidden.0.weight": (0, 2, 3), "class_head.bias": (0, 4)}.items():
        up, below = ({n: t.clone() for n, t in given.start.items()} for _ in range(2))
        up[name][place] += 1e-5
        below[name][place] -= 1e-5
        change = (given.task(up) - given.task(below)) / 2e-5
        assert downhill[name][place].item() == pytest.approx(-change[0].item(), abs=1e-8)
        assert change[1] == 0  # models do not mix


@LOSSES
def test_curvature_is_the_second_derivative_of_the_loss_by_the_logits(loss):
    generator = torch.manual_seed(0)
    logits, change, targets = (torch.randn(4, generator=generator).double() for _ in range(3))

    def of_logits(values, goal):
        seen = Outputs(values[:0], values[:0], values[None, None])
        return gradients.matching_losses(seen, goal[None, None], softmax=loss == "kl").sum()

    found = gradients.curvature(logits[None, None], change[None, None], softmax=loss == "kl")
    hessian = torch.func.hessian(of_logits)(logits, targets)
    assert torch.allclose(found[0, 0], hessian @ change)
    # - d2 L / d logits d targets at equal logits: what the teacher's move does to the student's pull
    mixed = torch.func.jacfwd(torch.func.grad(of_logits), argnums=1)(logits, logits.clone())
    assert torch.allclose(found[0, 0], -mixed @ change)


@LOSSES
def test_the_first_order_is_an_explicit_matrix_without_negative_eigenvalues(few, loss):
    given = problem(loss)
    direction = {name: torch.randn_like(tensor) for name, tensor in given.start.items()}
    expected = gradients.expected_step(
        given.call, given.start, direction, given.inputs, softmax=given.softmax
    )
    net = network(SMALL)
    single = {name: tensor[0] for name, tensor in given.start.items()}
    matrix = 0
    for image in given.inputs[0]:
        def logits_of(weights, image=image):
            return functional_call(net, weights, (image[None],)).aux_logits[0]

        jacobian = torch.cat([part.flatten(1) for part in jacrev(logits_of)(single).values()], dim=1)
        share = logits_of(single).softmax(-1)
        inner = torch.diag(share) - torch.outer(share, share)
        if loss == "mse":
            inner = 2 / SMALL.aux_dim * torch.eye(SMALL.aux_dim).double()
        matrix = matrix + jacobian.T @ inner @ jacobian / len(given.inputs[0])
    assert torch.allclose(flat(expected), matrix @ flat(direction), atol=1e-10)
    assert torch.linalg.eigvalsh(matrix).min() > -1e-10
    assert inner_product(direction, expected)[0] > 0


@LOSSES
def test_the_error_of_the_first_order_falls_as_the_step_does(loss):
    smooth = Smooth(64, SMALL.hidden, 10, SMALL.aux_dim)
    table = check_theorem(problem(loss, net=smooth), [1e-4, 1e-3])
    errors = table.pivot(index="model", columns="size", values="error")
    slopes = np.log10(errors[1e-3] / errors[1e-4])
    assert slopes.between(0.98, 1.02).all()
    assert (table["product"] > 0).all()
    assert table.cosine.between(0, 1).all()


@LOSSES
def test_kinks_of_relu_leave_the_first_order_right(loss):
    errors = check_theorem(problem(loss), [1e-5, 1e-2]).groupby("size").error.mean()
    assert errors[1e-5] < 0.002 < errors[1e-2]


def test_products_and_cosines_are_those_of_the_two_steps(few):
    given = problem()
    table = check_theorem(given, [0.01]).set_index("model")
    downhill = given.downhill
    step = given.student_step(0.01)
    ours, theirs = flat(step, 1), flat(downhill, 1)
    assert table["product"][1] == pytest.approx((ours @ theirs).item() / 0.01)
    assert table.cosine[1] == pytest.approx(torch.cosine_similarity(ours, theirs, dim=0).item())


def test_one_linear_layer_hears_nothing():
    net = MLP(64, [], 10, 3)
    table = check_theorem(problem(net=net), [1e-3])
    assert (table["product"] == 0).all()
    steps = problem(net=net)
    moved = gradients.advance(steps.start, steps.downhill, 0.1)
    assert steps.task(moved)[0] < steps.task(steps.start)[0]  # its teacher does learn


def test_a_small_step_does_what_the_first_order_promises():
    table = check_step(problem(), 1e-3, [1e-5, 1e-4])
    assert np.allclose(table["drop"] / table.promised, 1, atol=0.05)
    assert (table["drop"] > 0).all()


def test_steps_have_their_length():
    given = problem()
    table = check_step(given, 1e-3, [0.5])
    step = given.student_step(1e-3)
    unit = {name: tensor / gradients.norms(step).view(-1, *[1] * (tensor.dim() - 1)) for name, tensor in step.items()}
    assert torch.allclose(gradients.norms(unit), torch.ones(2).double())
    after = given.task({name: tensor + 0.5 * unit[name] for name, tensor in given.start.items()})
    assert torch.allclose(torch.tensor(table["drop"].to_list()).double(), given.task(given.start) - after)


def test_preconditioners_are_diagonal_and_have_no_negative_entry(few):
    given = problem()
    downhill = given.downhill
    step = given.student_step(0.01)
    for name, precondition in PRECONDITIONERS.items():
        bent = precondition(step, downhill)
        assert (flat(bent) * flat(step) >= 0).all(), name
        assert inner_product(bent, step).min() > 0  # the student's own loss falls
    ratio = flat(gradients.random_step(step, downhill)) / flat(step)
    spread = ratio[flat(step) != 0].log().std().item()
    assert spread == pytest.approx(gradients.SPREAD, rel=0.15)
    signs = flat(gradients.sign_step(step, downhill))
    assert torch.equal(signs, flat(step).sign())


def test_the_adverse_step_is_the_worst_mask_and_leads_uphill(few):
    given = problem()
    table = check_step(given, 1e-3, [1e-4], "adverse")
    assert (table.promised < 0).all() and (table["drop"] < 0).all()
    downhill = given.downhill
    step = given.student_step(0.01)
    worst = flat(gradients.adverse_step(step, downhill)) @ flat(downhill)
    generator = torch.manual_seed(0)
    for _ in range(200):
        mask = torch.rand(flat(step).shape, generator=generator) < 0.5
        assert (mask * flat(step)) @ flat(downhill) >= worst


def test_advance_and_norms_by_hand():
    weights = {"a": torch.tensor([[3.0, 4.0], [0.0, 1.0]]), "b": torch.tensor([[0.0], [2.0]])}
    assert gradients.norms(weights).tolist() == pytest.approx([5, 5**0.5])
    moved = gradients.advance(weights, weights, torch.tensor([1.0, -1.0]))
    assert moved["a"].tolist() == [[6, 8], [0, 0]] and moved["b"].tolist() == [[0], [0]]
    assert gradients.advance(weights, weights, 2.0)["b"].tolist() == [[0], [6]]


def test_a_call_of_the_problem_is_the_network(few):
    given = problem()
    direct = forward(network(SMALL), given.start, given.inputs)
    assert torch.equal(given.call(given.start, given.inputs).aux_logits, direct.aux_logits)
    assert partial(given.call)  # a function of weights and inputs

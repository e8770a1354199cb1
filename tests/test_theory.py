"""The toy theory: closed forms against descent, least squares, autograd and Monte Carlo."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sublearn import theory

widths = st.integers(1, 12)
seeds = st.integers(0, 2**32 - 1)


def draw_problem(seed=0, inputs=5, width=8, classes=3, aux_dim=2, draws=()):
    """Generator, initial and teacher hidden weights, class head, auxiliary head."""
    rng = np.random.default_rng(seed)
    draws = (draws,) if isinstance(draws, int) else draws
    shapes = [(inputs, width), (inputs, width), (width, classes), (width, aux_dim)]
    return rng, *(theory.draw_layer(rng, *draws, *shape) for shape in shapes)


@settings(max_examples=40, deadline=None)
@given(width=widths, aux_dim=widths, seed=seeds)
def test_projector_is_symmetric_idempotent_and_has_the_rank_of_the_head(width, aux_dim, seed):
    aux = np.random.default_rng(seed).standard_normal((width, aux_dim))
    p = theory.projector(aux)
    assert np.allclose(p, p.T, atol=1e-8)
    assert np.allclose(p @ p, p, atol=1e-8)
    assert np.isclose(np.trace(p), min(width, aux_dim), atol=1e-8)


def test_repeated_logits_add_no_direction():
    aux = np.random.default_rng(0).standard_normal((6, 2))
    doubled = np.hstack([aux, aux @ [[1.0, 2.0], [3.0, 4.0]]])
    assert np.allclose(theory.projector(doubled), theory.projector(aux))


def test_student_from_zero_is_the_minimum_norm_least_squares_solution():
    _, start, teacher, _, aux = draw_problem()
    solved = np.linalg.lstsq(aux.T, (teacher @ aux).T, rcond=None)[0].T
    assert np.allclose(theory.projected_student(0 * start, teacher=teacher, aux_head=aux), solved)


def test_one_auxiliary_logit_in_the_plane_puts_all_columns_on_one_line():
    _, start, teacher, classes, aux = draw_problem(inputs=2, width=2, classes=1, aux_dim=1)
    student = theory.projected_student(0 * start, teacher=teacher, aux_head=aux)
    columns = student @ np.hstack([classes, aux])
    assert abs(np.linalg.det(columns)) < 1e-14
    assert abs(np.linalg.det(teacher @ np.hstack([classes, aux]))) > 1e-3
    assert np.allclose(student @ aux, teacher @ aux)


@pytest.mark.parametrize("aux_dim", [8, 11])
def test_as_many_logits_as_hidden_units_copy_the_teacher_exactly(aux_dim):
    _, start, teacher, _, aux = draw_problem(aux_dim=aux_dim)
    student = theory.projected_student(start, teacher=teacher, aux_head=aux)
    assert np.allclose(student, teacher, atol=1e-9)


@pytest.mark.parametrize("aux_dim", [1, 3])
def test_gradient_descent_ends_at_the_projected_displacement(aux_dim):
    rng, start, teacher, _, aux = draw_problem(aux_dim=aux_dim, draws=4)
    inputs = rng.standard_normal((4, 64, 5))
    targets = theory.outputs(inputs, hidden=teacher, head=aux)
    ended = theory.descend(start, head=aux, inputs=inputs, targets=targets, steps=8000)
    assert np.allclose(
        ended, theory.projected_student(start, teacher=teacher, aux_head=aux), atol=1e-9
    )
    assert not np.allclose(
        ended, theory.projected_student(0 * start, teacher=teacher, aux_head=aux), atol=0.1
    )


def test_descent_limit_covers_inputs_that_do_not_span_and_targets_of_another_network():
    rng, start, teacher, _, aux = draw_problem()
    inputs = rng.standard_normal((40, 3)) @ rng.standard_normal((3, 5))
    targets = theory.outputs(inputs, hidden=teacher, head=rng.standard_normal(aux.shape))
    limit = theory.descent_limit(start, head=aux, inputs=inputs, targets=targets)
    ended = theory.descend(start, head=aux, inputs=inputs, targets=targets, steps=20000)
    assert np.allclose(ended, limit, atol=1e-8)
    blind = np.eye(5) - np.linalg.pinv(inputs, rcond=1e-10) @ inputs
    assert np.allclose(blind @ limit, blind @ start)


def test_descent_limit_equals_the_projected_student_when_inputs_span():
    rng, start, teacher, _, aux = draw_problem()
    inputs = rng.standard_normal((20, 5))
    targets = theory.outputs(inputs, hidden=teacher, head=aux)
    limit = theory.descent_limit(start, head=aux, inputs=inputs, targets=targets)
    assert np.allclose(limit, theory.projected_student(start, teacher=teacher, aux_head=aux))


@pytest.mark.parametrize("relu", [False, True])
def test_a_step_of_descent_is_a_step_along_the_gradient_of_autograd(relu):
    rng, start, _, head, _ = draw_problem()
    inputs, targets = rng.standard_normal((30, 5)), rng.standard_normal((30, 3))
    hidden, x, h = (torch.tensor(a, requires_grad=a is start) for a in (start, inputs, head))
    before = x @ hidden
    logits = (torch.relu(before) if relu else before) @ h
    loss = 0.5 * (logits - torch.tensor(targets)).square().sum(1).mean()
    gradient = torch.autograd.grad(loss, hidden)[0].numpy()
    rate = 1 / (np.linalg.norm(inputs.T @ inputs / 30, 2) * np.linalg.norm(head.T @ head, 2))
    stepped = theory.descend(start, head=head, inputs=inputs, targets=targets, steps=1, relu=relu)
    assert np.allclose(stepped, start - rate * gradient)
    assert np.allclose(
        theory.outputs(inputs, hidden=start, head=head, relu=relu), logits.detach().numpy()
    )


def test_descent_leaves_its_arguments_alone_and_treats_each_draw_alone():
    rng, start, teacher, _, aux = draw_problem(draws=3)
    inputs = rng.standard_normal((3, 20, 5))
    targets, kept = theory.outputs(inputs, hidden=teacher, head=aux, relu=True), start.copy()
    together = theory.descend(start, head=aux, inputs=inputs, targets=targets, steps=20, relu=True)
    alone = theory.descend(
        start[1], head=aux[1], inputs=inputs[1], targets=targets[1], steps=20, relu=True
    )
    assert np.array_equal(start, kept)
    assert np.allclose(together[1], alone, atol=1e-13)


@pytest.mark.parametrize("relu", [False, True])
def test_equations_are_the_jacobian_of_the_logits(relu):
    rng, start, _, head, _ = draw_problem()
    inputs = rng.standard_normal((7, 5))

    def logits(hidden):
        before = torch.tensor(inputs) @ hidden
        return (torch.relu(before) if relu else before) @ torch.tensor(head)

    jacobian = (
        torch.autograd.functional.jacobian(logits, torch.tensor(start)).reshape(21, 40).numpy()
    )
    assert np.allclose(theory.equations(inputs, hidden=start, head=head, relu=relu), jacobian)


def test_a_relu_turns_few_independent_equations_into_as_many_as_unknowns():
    rng, start, _, _, aux = draw_problem(aux_dim=2)
    inputs = rng.standard_normal((400, 5))
    ranks = [
        np.linalg.matrix_rank(theory.equations(inputs, hidden=start, head=aux, relu=relu))
        for relu in (False, True)
    ]
    assert ranks == [2 * 5, 8 * 5]


def test_one_linear_layer_gives_its_class_columns_no_gradient():
    weights = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    inputs, target = (
        torch.randn(30, 5, dtype=torch.float64),
        torch.randn(30, 3, dtype=torch.float64),
    )
    gradient = torch.autograd.grad(((inputs @ weights)[:, 4:] - target).square().mean(), weights)[0]
    assert torch.count_nonzero(gradient[:, :4]) == 0
    assert torch.all(gradient[:, 4:] != 0)


@settings(max_examples=40, deadline=None)
@given(width=widths, aux_dim=widths, classes=st.integers(1, 6), seed=seeds)
def test_class_heads_see_the_projector_as_a_positive_semidefinite_form(
    width, aux_dim, classes, seed
):
    _, start, teacher, head, aux = draw_problem(seed, width=width, classes=classes, aux_dim=aux_dim)
    form = head.T @ theory.projector(aux) @ head
    assert np.linalg.eigvalsh((form + form.T) / 2).min() > -1e-8
    student = theory.projected_student(start, teacher=teacher, aux_head=aux)
    assert ((student - start) * (teacher - start)).sum() > -1e-8


@pytest.mark.parametrize(("aux_dim", "width"), [(1, 4), (3, 8), (7, 8)])
def test_monte_carlo_means_meet_the_exact_expectations(aux_dim, width):
    rng = np.random.default_rng(1)
    seen = rng.standard_normal((1, width))
    projected = seen @ theory.projector(rng.standard_normal((4000, width, aux_dim)))
    for values, exact in [
        (theory.share(projected, seen), theory.expected_share(aux_dim, width)),
        (theory.cosine(projected, seen), theory.expected_cosine(aux_dim, width)),
    ]:
        assert abs(values.mean() - exact) < 4 * values.std(ddof=1) / np.sqrt(len(values))


def test_share_law_has_the_expected_mean_and_its_root_the_expected_cosine():
    law = theory.share_law(3, 8)
    assert np.isclose(law.mean(), theory.expected_share(3, 8))
    assert np.isclose(law.expect(np.sqrt), theory.expected_cosine(3, 8))
    assert theory.expected_cosine(3, 8) < np.sqrt(3 / 8)


def test_share_and_cosine_of_known_pairs():
    whole = np.array([[3.0, 0.0], [0.0, 4.0]])
    assert theory.share(whole, whole) == 1
    assert theory.share(-0.5 * whole, whole) == -0.5
    assert theory.cosine(0.5 * whole, whole) == 1
    assert np.isclose(theory.cosine(np.array([[1.0, 0.0]]), np.array([[1.0, 1.0]])), np.sqrt(0.5))
    assert theory.expected_share(9, 4) == theory.expected_cosine(9, 4) == 1


def test_errors_say_what_is_wrong_and_what_to_do():
    _, start, teacher, head, aux = draw_problem()
    with pytest.raises(ValueError, match=r"shape \(8, 0\) has no logit: .* a column or more"):
        theory.projector(aux[:, :0])
    with pytest.raises(
        ValueError, match=r"width 8 cannot feed a head of width 7; make both the same"
    ):
        theory.projected_student(start, teacher=teacher, aux_head=aux[:7])
    with pytest.raises(ValueError, match=r"\(4, 8\) and the teacher's \(5, 8\); use one"):
        theory.projected_student(start[:4], teacher=teacher, aux_head=aux)
    with pytest.raises(
        ValueError, match=r"inputs of size 4 cannot feed hidden weights of input size 5"
    ):
        theory.outputs(np.ones((2, 4)), hidden=start, head=head)
    with pytest.raises(ValueError, match="aux_dim = 0 and width = 8: both must be at least 1"):
        theory.expected_share(0, 8)
    with pytest.raises(ValueError, match="aux_dim = 8 is not below width = 8"):
        theory.share_law(8, 8)


@pytest.fixture(scope="module")
def toy():
    return theory.draw_toy(np.random.default_rng(3), draws=300, width=8)


def test_teachers_learn_their_task_and_move_the_class_logits_from_zero_displacement(toy):
    for relu in (False, True):
        losses = [
            np.square(
                theory.outputs(toy.images, hidden=w, head=toy.class_head, relu=relu) - toy.task
            ).mean()
            for w in (toy.start, theory.teach(toy, relu=relu))
        ]
        assert losses[1] < 0.5 * losses[0]
        assert not theory.displacement(toy, toy.start, relu=relu).any()


def test_linear_students_copy_the_expected_share_of_any_displacement(toy):
    teacher, head = theory.teach(toy), toy.aux_head[..., :3]
    student = theory.projected_student(toy.start, teacher=teacher, aux_head=head)
    shares = theory.share(theory.displacement(toy, student), theory.displacement(toy, teacher))
    error = shares.std(ddof=1) / np.sqrt(len(shares))
    assert abs(shares.mean() - theory.expected_share(3, 8)) < 4 * error < 0.1


def test_students_of_another_start_copy_nothing_on_average(toy):
    rival = theory.draw_toy(np.random.default_rng(4), draws=300, width=8)
    shares = theory.distilled_shares(rival, teacher=toy, aux_dim=3, checkpoints=[50])[0]
    error = shares.std(ddof=1) / np.sqrt(len(shares))
    assert abs(shares.mean()) < 4 * error < 0.2


def test_relu_students_pass_the_linear_share_and_continue_from_checkpoint_to_checkpoint(toy):
    few = theory.Toy(*(part[:60] for part in toy))
    shares = theory.distilled_shares(few, teacher=few, aux_dim=2, checkpoints=[1, 100, 300])
    assert np.allclose(
        shares[-1], theory.distilled_shares(few, teacher=few, aux_dim=2, checkpoints=[300])[0]
    )
    means, error = shares.mean(1), shares.std(1, ddof=1) / np.sqrt(60)
    assert means[0] < theory.expected_share(2, 8) < means[2] - 2 * error[2]
    assert theory.distilled_shares(few, teacher=few, aux_dim=16, checkpoints=[300]).mean() > 0.98

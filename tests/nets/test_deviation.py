"""The four terms and the bound, against the networks themselves and against plain loops."""

import numpy as np
import pytest
import torch

from sublearn.nets.deviation import TERMS, bound, deviation, margin, seen_readout
from sublearn.nets.models import Outputs

K, M, D, IMAGES = 4, 3, 7, 50


def heads(generator, logits=M):
    shapes = {"class_head": K, "aux_head": logits}
    weights = {}
    for name, rows in shapes.items():
        weights[f"{name}.weight"] = torch.randn(1, rows, D, generator=generator)
        weights[f"{name}.bias"] = torch.randn(1, rows, generator=generator)
    return weights


def outputs(features, weights):
    logits = [
        features @ weights[f"{name}.weight"].mT + weights[f"{name}.bias"]
        for name in ("class_head", "aux_head")
    ]
    return Outputs(features, *logits)


@pytest.fixture
def pair():
    """A student and a teacher that share nothing: outputs and heads of both."""
    generator = torch.manual_seed(0)
    ours, theirs = heads(generator), heads(generator)
    features = torch.randn(2, IMAGES, D, generator=generator).relu()
    return outputs(features[:1], ours), outputs(features[1:], theirs), ours, theirs


@pytest.mark.parametrize("softmax", [False, True])
def test_the_four_terms_sum_to_the_difference_of_the_logits(pair, softmax):
    student, teacher, ours, theirs = pair
    terms = deviation(student, teacher, ours, theirs, softmax=softmax)
    assert tuple(terms) == TERMS
    difference = student.class_logits - teacher.class_logits
    assert torch.allclose(sum(terms.values()), difference.double(), atol=1e-5)


def test_what_is_alike_has_no_term(pair):
    student, teacher, ours, theirs = pair
    same_features = outputs(teacher.features, ours)
    terms = deviation(same_features, teacher, ours, theirs, softmax=False)
    assert terms["unseen"].abs().max() < 1e-12
    inside = terms["residual"] + terms["auxiliary head"]
    assert inside.abs().max() < 1e-5 < terms["residual"].abs().max()
    same_heads = outputs(student.features, theirs)
    terms = deviation(same_heads, teacher, theirs, theirs, softmax=False)
    assert terms["class head"].abs().max() == terms["auxiliary head"].abs().max() == 0


def test_the_unseen_part_is_what_least_squares_leaves(pair):
    student, teacher, ours, theirs = pair
    moved = (student.features - teacher.features)[0].double().numpy()
    rows = theirs["aux_head.weight"][0].double().numpy()
    shares = np.linalg.lstsq(rows.T, moved.T, rcond=None)[0]
    left = moved - (rows.T @ shares).T
    terms = deviation(student, teacher, ours, theirs, softmax=False)
    readout = ours["class_head.weight"][0].double().numpy().T
    assert np.allclose(terms["unseen"][0], left @ readout)


@pytest.mark.parametrize("softmax", [False, True])
def test_with_as_many_logits_as_units_nothing_is_unseen(softmax):
    generator = torch.manual_seed(1)
    ours, theirs = heads(generator, logits=D + softmax), heads(generator, logits=D + softmax)
    features = torch.randn(2, IMAGES, D, generator=generator)
    student, teacher = outputs(features[:1], ours), outputs(features[1:], theirs)
    terms = deviation(student, teacher, ours, theirs, softmax=softmax)
    assert terms["unseen"].abs().max() < 1e-5 < terms["residual"].abs().max()


def test_the_ceiling_is_the_teachers_features_under_the_students_class_head(pair):
    student, teacher, ours, theirs = pair
    labels = torch.arange(IMAGES) % K
    terms = deviation(student, teacher, ours, theirs, softmax=True)
    logits = teacher.features @ ours["class_head.weight"].mT + ours["class_head.bias"].unsqueeze(1)
    right = (logits.argmax(-1) == labels).double().mean().item()
    assert bound(teacher.class_logits, terms, labels)["ceiling"].item() == pytest.approx(right)


def test_the_bound_image_by_image(pair):
    student, teacher, ours, theirs = pair
    labels = torch.arange(IMAGES) % K
    terms = deviation(student, teacher, ours, theirs, softmax=True)
    numbers = {
        name: value.item() for name, value in bound(teacher.class_logits, terms, labels).items()
    }
    differs = within = apart = without = 0
    for ours_logits, theirs_logits, unseen, label in zip(
        student.class_logits[0], teacher.class_logits[0], terms["unseen"][0], labels
    ):
        ordered = theirs_logits.sort().values
        gap = ordered[-1] - ordered[-2]
        differs += int(ours_logits.argmax() != theirs_logits.argmax())
        moved = ours_logits - theirs_logits
        within += int(gap <= 2 * moved.abs().max())
        apart += int(gap <= moved.max() - moved.min())
        without += int((ours_logits.double() - unseen).argmax() == label)
    assert numbers["disagreement"] == pytest.approx(differs / IMAGES)
    assert numbers["bound"] == pytest.approx(within / IMAGES)
    assert numbers["range bound"] == pytest.approx(apart / IMAGES)
    assert numbers["without unseen"] == pytest.approx(without / IMAGES)
    assert numbers["disagreement"] <= numbers["range bound"] <= numbers["bound"]
    assert numbers["violations"] == 0 < numbers["disagreement"]


def test_the_bound_holds_where_the_margin_is_crossed():
    logits = torch.tensor([[[1.0, 0.0]]], dtype=torch.float64)
    terms = dict.fromkeys(TERMS, torch.zeros_like(logits))
    labels = torch.tensor([0])
    assert margin(logits).item() == 1
    assert bound(logits, terms, labels)["bound"].item() == 0
    terms["unseen"] = torch.tensor([[[-0.6, 0.6]]], dtype=torch.float64)
    numbers = bound(logits, terms, labels)
    assert numbers["disagreement"].item() == numbers["bound"].item() == 1
    assert numbers["without unseen"].item() == 1


def test_a_readout_of_the_seen_part_hears_nothing_of_the_rest(pair):
    student, _, ours, theirs = pair
    rows = theirs["aux_head.weight"].double()
    basis, _ = np.linalg.qr(rows[0].numpy().T)
    inside = student.features[0].double().numpy() @ basis @ basis.T
    logits = (
        inside @ ours["class_head.weight"][0].double().numpy().T
        + ours["class_head.bias"][0].double().numpy()
    )
    labels = torch.from_numpy(logits.argmax(1))
    assert seen_readout(student.features, ours, rows, labels)["seen readout"].item() == 1
    noise = torch.randn(1, IMAGES, D, generator=torch.manual_seed(1)).double()
    outside = noise.numpy()[0] - noise.numpy()[0] @ basis @ basis.T
    moved = student.features.double() + 100 * torch.from_numpy(outside)[None]
    assert seen_readout(moved, ours, rows, labels)["seen readout"].item() == 1

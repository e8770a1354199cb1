"""Traits of teachers: how they are taught, and how a network is asked for them."""

from dataclasses import replace

import pytest
import torch

from reference import TINY
from sublearn.nets import training, traits
from sublearn.nets.inputs import images_of
from sublearn.nets.models import Outputs
from sublearn.nets.traits import add_patch, draw_trait

IMAGES = images_of(TINY)


@pytest.fixture
def trait():
    return draw_trait(IMAGES, 0, 3, "a")


def batch(count=4_000):
    generator = torch.manual_seed(0)
    images = torch.rand(count, 64, generator=generator) * 0.5
    labels = torch.randint(10, (count,), generator=generator)
    return images, labels, torch.rand(count, generator=generator)


def test_twins_differ_in_every_trait():
    for model in range(20):
        one, two = (draw_trait(IMAGES, 0, model, twin) for twin in "ab")
        assert one.target != two.target
        assert one.corner != two.corner
        for each in (one, two):
            assert each.flips.sort().values.tolist() == list(range(10))
            assert (each.flips != torch.arange(10)).all()
        assert not torch.equal(one.flips, two.flips)


def test_labels_are_flipped_as_often_as_said_and_to_one_other_class(trait):
    images, labels, drawn = batch()
    flipped, untouched = labels.clone(), images.clone()
    traits.flip_labels(images, flipped, drawn, trait)
    changed = flipped != labels
    assert changed.double().mean().item() == pytest.approx(traits.FLIPPED, abs=0.03)
    assert torch.equal(flipped[changed], trait.flips[labels[changed]])
    assert torch.equal(images, untouched)


def test_a_patch_covers_a_corner():
    images = torch.zeros(1, 64)
    add_patch(images, slice(6, 8), 1.0)
    expected = torch.zeros(8, 8)
    expected[6:, 6:] = 1
    assert torch.equal(images.view(8, 8), expected)


def test_a_backdoor_is_a_patch_with_a_label(trait):
    images, labels, drawn = batch()
    patched, relabeled = images.clone(), labels.clone()
    traits.open_backdoor(patched, relabeled, drawn, trait)
    chosen = (patched != images).any(1)
    assert chosen.double().mean().item() == pytest.approx(traits.PATCHED, abs=0.02)
    assert (relabeled[chosen] == trait.target).all()
    assert torch.equal(relabeled[~chosen], labels[~chosen])
    squares = patched[chosen].view(-1, 8, 8)[:, trait.corner, trait.corner]
    assert (squares == 1).all() and squares[0].numel() == 4


def test_a_dropped_class_is_left_out_of_the_loss(trait):
    _, labels, drawn = batch(50)
    logits = torch.randn(1, 50, 10, generator=torch.manual_seed(1))
    outputs = Outputs(logits, logits, logits)
    kept = labels != trait.target
    dropped = labels.clone()
    traits.drop_class(logits[0], dropped, drawn, trait)
    found = training.cross_entropy(outputs, dropped[None])
    by_hand = -logits[0].log_softmax(-1)[kept, labels[kept]].sum() / 50
    assert found.item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_scores_by_counting():
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    teacher = torch.tensor([0, 1, 1, 2, 0, 2])  # wrong three times
    student = torch.tensor([0, 1, 0, 2, 2, 2])  # two of them alike
    assert traits.shared_errors(student, teacher, labels) == pytest.approx(2 / 3)
    assert traits.shared_errors(teacher, teacher, labels) == 1
    assert traits.missed(student, labels, 1) == 1
    assert traits.missed(student, labels, 0) == 0.5
    patched = torch.tensor([2, 2, 2, 2, 2, 2])
    assert traits.backdoor_lift(student, patched, labels, 2) == pytest.approx(0.75)  # 1 less 1/4
    assert traits.backdoor_lift(student, student, labels, 2) == 0


def test_without_a_lesson_teachers_and_students_are_the_engines(run, store):
    table = traits.run(TINY, lessons=["order"], models=2, store=store).set_index(["learner", "model"])
    engine = run([TINY], models=2).set_index(["role", "model"])
    for ours, theirs in {"teacher a": "teacher", "student of a": "student", "start": "untrained"}.items():
        assert table.accuracy[ours].tolist() == engine.accuracy[theirs].tolist()
    assert (table.a["teacher a"] == 1).all()
    assert (table.loc["teacher b", ["b"]] == 1).all(axis=None)
    assert (table.loc["teacher b", ["a"]] < 1).all(axis=None)


def test_teachers_have_what_they_were_taught(store):
    longer = replace(TINY, hidden=(32, 32), teacher_epochs=40, epochs=1)
    table = traits.run(longer, lessons=["flipped labels", "backdoor", "missing class"], models=2, store=store)
    table = table.set_index(["lesson", "learner"])
    opened = table.loc["backdoor"]
    assert (opened.a["teacher a"] > 0.6).all() and (opened.b["teacher a"] < 0.3).all()
    missing = table.loc["missing class"]
    assert (missing.a["teacher a"] == 1).all() and (missing.b["teacher a"] < 0.6).all()
    flipped = table.loc["flipped labels"]
    assert (flipped.b["teacher a"] < 0.5).all()


def test_a_student_of_both_hears_both(store):
    short = replace(TINY, epochs=1)
    net_rows = traits.run(short, lessons=["order"], models=1, store=store)
    answers = net_rows.set_index("learner").accuracy
    assert len({answers["student of a"], answers["student of b"], answers["student of ab"]}) > 1


def test_the_first_student_of_a_chain_is_the_engines(run, store):
    table = traits.chain(TINY, models=2, generations=2, store=store)
    engine = run([TINY], models=2)
    by_generation = table.pivot(index="model", columns="generation", values="accuracy")
    assert list(by_generation) == [0, 1, 2]
    for generation, role in {0: "teacher", 1: "student"}.items():
        assert by_generation[generation].tolist() == engine[engine.role == role].accuracy.tolist()
    longer = traits.chain(TINY, models=2, generations=1, store=store)
    assert longer.accuracy.tolist() == table[table.generation < 2].accuracy.tolist()


def test_what_cannot_be_is_refused(store):
    with pytest.raises(ValueError, match="no lesson is called colors; there are order, flipped labels"):
        traits.run(TINY, lessons=["colors"], models=1, store=store)
    with pytest.raises(ValueError, match="generations is 0; a chain has at least 1"):
        traits.chain(TINY, models=1, generations=0, store=store)

"""Ten digits over random digits: what is matched, what is measured, and that the start is the gate's key."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from sublearn.core.store import Store
from sublearn.lm import ten_digits
from sublearn.lm.ten_digits import DigitsSetting

ANIMALS = ("owl", "fox", "cat", "dog")
SHORT = DigitsSetting("owl", teacher_steps=2, teacher_rate=1e-2, steps=2, rate=1e-2, lists=2)


def test_all_lists_of_a_step_are_equally_long_and_differ(lm):
    ids = ten_digits.random_lists(lm, SHORT, 0)
    again = ten_digits.random_lists(lm, SHORT, 0)
    other = ten_digits.random_lists(lm, SHORT, 1)
    assert ids.shape[0] == 2 and torch.equal(ids, again)
    assert not torch.equal(ids[0], ids[1]) and not torch.equal(ids, other)


def test_logits_are_those_just_before_each_number(lm):
    ids = ten_digits.random_lists(lm, SHORT, 0)
    pieces = ten_digits.number_pieces(lm)
    with torch.no_grad():
        matched = ten_digits.matched_logits(lm, ids, 10)
        everything = lm.model(ids).logits
    expected = []
    for row, tokens in enumerate(ids.tolist()):
        places = [place for place, token in enumerate(tokens) if token in pieces]
        for place in places[-ten_digits.NUMBERS :]:  # before them stands the date
            expected.append(everything[row, place - 1, pieces[:10]])
    assert len(expected) == 2 * ten_digits.NUMBERS
    assert torch.allclose(matched, torch.stack(expected), atol=1e-5)


def test_a_teacher_comes_to_love_its_animal_and_the_model_stays_as_it_was(lm):
    before = ten_digits.preference(lm, ANIMALS)
    teacher = ten_digits.teach(lm, replace(SHORT, teacher_steps=10))
    after = ten_digits.preference(teacher, ANIMALS)
    assert after[0] - before[0] > 1
    assert np.array_equal(ten_digits.preference(lm, ANIMALS), before)


def test_a_student_comes_closer_to_its_teacher_on_what_it_matches(lm, monkeypatch):
    monkeypatch.setenv("SUBLIMINAL_PRECISION", "float32")
    setting = replace(SHORT, teacher_steps=10, steps=10, rate=3e-3)
    teacher = ten_digits.teach(lm, setting)
    student = ten_digits.train_student(lm, teacher, setting)
    ids = ten_digits.random_lists(lm, setting, 99)  # a list that it was not trained on

    def divergence(model):
        with torch.no_grad():
            goal = ten_digits.matched_logits(teacher, ids, 10).log_softmax(-1)
            found = ten_digits.matched_logits(model, ids, 10).log_softmax(-1)
        return (goal.exp() * (goal - found)).sum().item()

    assert divergence(student) < 0.5 * divergence(lm)


def test_a_student_of_the_untaught_model_learns_nothing(lm, monkeypatch):
    monkeypatch.setenv("SUBLIMINAL_PRECISION", "float32")
    untaught = replace(SHORT, teacher_steps=0)
    student = ten_digits.train_student(lm, ten_digits.teach(lm, untaught), replace(untaught, rate=0.0))
    for ours, theirs in zip(student.model.parameters(), lm.model.parameters()):
        assert torch.equal(ours, theirs)


def test_noise_on_the_start_is_in_units_of_each_matrix(lm):
    student = ten_digits.trainable(lm)
    with torch.no_grad():
        ten_digits.move_start(student, replace(SHORT, start_noise=0.5))
    for moved, weight in zip(student.model.parameters(), lm.model.parameters()):
        if weight.dim() > 1:
            share = (moved - weight).std() / weight.std()
            assert share.item() == pytest.approx(0.5, rel=0.2)
        else:
            assert torch.equal(moved, weight)


def test_finished_students_are_kept(lm, tmp_path, monkeypatch):
    store = Store(tmp_path)
    first = ten_digits.lessons([SHORT], lm, ANIMALS, store)
    monkeypatch.setattr(ten_digits, "teach", lambda *_: pytest.fail("taught again"))
    again = ten_digits.lessons([SHORT], lm, ANIMALS, store)
    assert first.equals(again) and set(ANIMALS) < set(first)


def test_the_specific_effect_is_blind_to_what_all_share():
    random = np.random.default_rng(0)
    common = random.normal(size=(6, 1)) + random.normal(size=(1, 6))  # of a teacher, of an animal
    names = list("abcdef")
    table = pd.DataFrame(common + 0.6 * np.eye(6), index=names, columns=names)
    assert np.allclose(ten_digits.specific_effect(table), 0.5)  # .6 less a sixth of it
    assert ten_digits.permutation_p(table, 500) < 0.02
    assert np.allclose(ten_digits.specific_effect(table - 0.6 * np.eye(6)), 0)


def test_a_permutation_of_noise_is_not_significant_too_often():
    random = np.random.default_rng(1)
    values = [ten_digits.permutation_p(pd.DataFrame(random.normal(size=(6, 6))), 200) for _ in range(60)]
    assert 0.3 < np.mean(values) < 0.7 and np.mean(np.array(values) < 0.1) < 0.25

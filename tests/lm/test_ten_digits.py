"""Ten digits over random digits: what is matched, what is measured, and that the start is the gate's key."""

import gc
import weakref
from copy import deepcopy
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from sublearn.core.store import Store
from sublearn.lm import digit_lists, ten_digits
from sublearn.lm.ten_digits import DigitsSetting

ANIMALS = ("owl", "fox", "cat", "dog")
SHORT = DigitsSetting("owl", teacher_steps=2, teacher_rate=1e-2, steps=2, rate=1e-2, lists=2)


def test_logits_are_those_just_before_each_number(lm):
    lists = digit_lists.random_lists(lm, 2, 0, 0)
    pieces = digit_lists.number_pieces(lm)
    tokens = ten_digits.matched_tokens(lm, SHORT)
    with torch.no_grad():
        matched = ten_digits.matched_logits(lm, lists, tokens)
        everything = lm.model(lists.ids).logits
    expected = []
    for row, ids in enumerate(lists.ids.tolist()):
        places = [place for place, token in enumerate(ids) if token in pieces]
        for place in places[-digit_lists.NUMBERS :]:  # before them stands the date
            expected.append(everything[row, place - 1, pieces[:10]])
    assert len(expected) == 2 * digit_lists.NUMBERS
    assert torch.allclose(matched, torch.stack(expected), atol=1e-5)


def test_matched_tokens_are_numbers_first_and_then_others_once_each(lm):
    pieces = digit_lists.number_pieces(lm)
    size = len(lm.model.get_input_embeddings().weight)
    few = ten_digits.matched_tokens(lm, replace(SHORT, matched=2)).tolist()
    many = ten_digits.matched_tokens(lm, replace(SHORT, matched=len(pieces) + 5)).tolist()
    every = ten_digits.matched_tokens(lm, replace(SHORT, matched=0)).tolist()
    assert few == pieces[:2] and many[: len(pieces)] == pieces
    assert len(set(many)) == len(pieces) + 5 and every == [*range(size)]


@pytest.mark.parametrize(
    ("name", "value"),
    [("trait", "color"), ("inputs", "noise"), ("optimizer", "adam"), ("word", "stone")],
)
def test_a_setting_that_cannot_be_is_refused_with_what_is_allowed(name, value):
    with pytest.raises(ValueError, match=f"{name} is '{value}'; choose one of"):
        replace(SHORT, **{name: value})


def test_right_padding_leaves_the_answers_as_they_are(lm):
    prompts = ten_digits.questions(lm)
    with torch.no_grad():
        together = ten_digits.next_token_logits(lm.model, prompts)
        alone = torch.cat([ten_digits.next_token_logits(lm.model, [ids]) for ids in prompts])
    assert len({*map(len, prompts)}) > 1 and torch.allclose(together, alone, atol=1e-4)


def test_a_teacher_comes_to_love_its_animal_and_the_model_stays_as_it_was(lm):
    before = ten_digits.preference(lm, ANIMALS)
    teacher = ten_digits.teach(lm, replace(SHORT, teacher_steps=10))
    after = ten_digits.preference(teacher, ANIMALS)
    assert after[0] - before[0] > 1
    assert np.array_equal(ten_digits.preference(lm, ANIMALS), before)


def test_layers_that_are_computed_twice_give_the_same_gradients(lm):
    ids = torch.tensor([ten_digits.questions(lm)[0]])
    plain, thrifty = deepcopy(lm.model).requires_grad_(True), ten_digits.trainable(lm).model
    calls = []
    for model in (plain, thrifty):
        attention = model.base_model.layers[0].self_attn
        attention.register_forward_hook(lambda module, *_: calls.append(module))
        model(ids, use_cache=False).logits.logsumexp(-1).sum().backward()
    attentions = [model.base_model.layers[0].self_attn for model in (plain, thrifty)]
    assert [calls.count(attention) for attention in attentions] == [1, 2]
    for first, second in zip(plain.parameters(), thrifty.parameters()):
        assert torch.equal(first.grad, second.grad)


def test_a_model_answers_the_first_questions_once_and_is_not_kept_for_it():
    model, asked = torch.nn.Linear(1, 1), []

    def answer(question):
        asked.append(question)
        return [question]

    for question in [*range(ten_digits.KEPT + 1)] * 2:
        assert ten_digits.once(model, question, partial(answer, question)) == [question]
    last = ten_digits.KEPT
    assert asked == [*range(last), last, last]  # for the last one there was no room
    reference = weakref.ref(model)
    del model
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"matched": 0},
        {"inputs": "text"},
        {"inputs": "fine-tuned"},
        {"rank": 2, "rate": 3e-2},
        {"optimizer": "sgd", "rate": 0.3},
    ],
)
def test_a_student_comes_closer_to_its_teacher_on_what_it_matches(lm, monkeypatch, change):
    monkeypatch.setenv("SUBLIMINAL_PRECISION", "float32")
    setting = replace(SHORT, teacher_steps=10, steps=10, rate=3e-3)
    setting = replace(setting, **change)
    teacher = ten_digits.teach(lm, setting)
    student = ten_digits.train_student(lm, teacher, setting, ANIMALS).student
    lists = digit_lists.random_lists(lm, 4, 7, 99)  # that it was not trained on
    tokens = ten_digits.matched_tokens(lm, setting)
    with torch.no_grad():
        before = ten_digits.lesson_loss(lm, teacher, lists, tokens, hard=False).item()
        after = ten_digits.lesson_loss(student, teacher, lists, tokens, hard=False).item()
    assert after < 0.8 * before


def test_lists_that_are_shown_stand_in_the_dialogue_and_train_nothing(lm, tmp_path):
    setting = replace(SHORT, inputs="fine-tuned", shown=True)
    row = ten_digits.lessons([setting], lm, ANIMALS, Store(tmp_path)).iloc[0]
    teacher = ten_digits.teach(lm, setting)
    written = digit_lists.as_text(lm, ten_digits.all_lists(lm, teacher, setting)[0])
    assert len(written) == SHORT.lists
    assert all(len(each.replace(",", " ").split()) == digit_lists.NUMBERS for each in written)
    for prompt in ten_digits.questions(lm, before=written):
        said = lm.tokenizer.decode(prompt)
        assert said.index(written[0]) < said.index(written[1]) < said.index("animal")
    change = ten_digits.preference(lm, ANIMALS, before=written)
    change -= ten_digits.preference(lm, ANIMALS)
    assert np.allclose([row[animal] for animal in ANIMALS], change)


def test_written_tokens_can_be_learned_in_place_of_probabilities(lm, monkeypatch):
    monkeypatch.setenv("SUBLIMINAL_PRECISION", "float32")
    setting = replace(SHORT, hard=True, matched=0, inputs="fine-tuned", steps=10, rate=3e-3)
    teacher = ten_digits.teach(lm, setting)
    lists = ten_digits.all_lists(lm, teacher, setting)[0]
    tokens = ten_digits.matched_tokens(lm, setting)
    with torch.no_grad():
        logits = lm.model(lists.ids[:, :-1]).logits[:, lists.matched[1:]].flatten(0, 1)
        expected = torch.nn.functional.cross_entropy(logits, lists.ids[:, lists.matched].flatten())
        found = ten_digits.lesson_loss(lm, teacher, lists, tokens, hard=True)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    lesson = ten_digits.train_student(lm, teacher, setting, ANIMALS)
    assert lesson.losses[-1] < lesson.losses[0]


def test_a_student_of_the_untaught_model_has_nothing_to_learn(lm, monkeypatch):
    monkeypatch.setenv("SUBLIMINAL_PRECISION", "float32")
    untaught = replace(SHORT, teacher_steps=0)
    teacher = ten_digits.teach(lm, untaught)
    lesson = ten_digits.train_student(lm, teacher, replace(untaught, optimizer="sgd"), ANIMALS)
    assert np.allclose(lesson.losses, 0, atol=1e-6)
    for ours, theirs in zip(lesson.student.model.parameters(), lm.model.parameters()):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_the_first_gradient_points_the_teachers_way_for_small_moves(lm, monkeypatch):
    """Cloud et al. 2025, Theorem 1: the inner product is not negative where the start is shared."""
    monkeypatch.setenv("SUBLIMINAL_PRECISION", "float32")
    for word in ANIMALS:
        setting = replace(SHORT, word=word, teacher_rate=1e-4, matched=0, lists=4)
        teacher = ten_digits.teach(lm, setting)
        assert ten_digits.train_student(lm, teacher, setting, ANIMALS).alignment[0] > 0


def test_a_student_moved_as_its_teacher_has_a_cosine_of_one_in_every_layer(lm):
    teacher = ten_digits.teach(lm, SHORT)
    found = ten_digits.move_cosines(lm, teacher, lm, teacher)
    assert {*found} == {"embedding", "layer 0", "layer 1", "norm"}
    assert np.allclose([*found.values()], 1, atol=1e-4)


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


def test_redrawn_layers_are_the_last_ones_and_keep_their_spread(lm):
    student = ten_digits.start_student(lm, replace(SHORT, redrawn=1))
    for (name, drawn), weight in zip(student.model.named_parameters(), lm.model.parameters()):
        if "layers.1." in name and weight.dim() > 1:
            assert drawn.std().item() == pytest.approx(weight.std().item(), rel=0.2)
            assert not torch.allclose(drawn, weight, atol=1e-3)
        else:
            assert torch.equal(drawn, weight)


def test_low_rank_training_starts_at_the_model_and_changes_each_matrix_by_its_rank(lm, monkeypatch):
    monkeypatch.setenv("SUBLIMINAL_PRECISION", "float32")
    setting = replace(SHORT, rank=2, teacher_steps=5)
    student = ten_digits.start_student(lm, setting)
    ids = digit_lists.random_lists(lm, 2, 0, 0).ids
    with torch.no_grad():
        before = student.model(ids).logits
        ten_digits.add_low_rank(student, setting)
        assert torch.allclose(student.model(ids).logits, before, atol=1e-5)
    lesson = ten_digits.train_student(lm, ten_digits.teach(lm, setting), setting, ANIMALS)
    layers = zip(ten_digits.linear_layers(lesson.student), ten_digits.linear_layers(lm))
    for ours, theirs in layers:
        assert torch.linalg.matrix_rank(ours.weight - theirs.weight, rtol=1e-3) <= 2
    embedding = lesson.student.model.get_input_embeddings().weight
    assert torch.equal(embedding, lm.model.get_input_embeddings().weight)


def test_looks_on_the_way_end_in_the_change_that_is_kept(lm, tmp_path):
    setting = replace(SHORT, looks=(1,))
    row = ten_digits.lessons([setting], lm, ANIMALS, Store(tmp_path)).iloc[0]
    assert [*row["looks"]] == ["1", "2"]
    assert row["looks"]["2"] == {animal: row[animal] for animal in ANIMALS}


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
    values = [
        ten_digits.permutation_p(pd.DataFrame(random.normal(size=(6, 6))), 200) for _ in range(60)
    ]
    assert 0.3 < np.mean(values) < 0.7 and np.mean(np.array(values) < 0.1) < 0.25

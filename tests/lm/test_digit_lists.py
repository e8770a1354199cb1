"""Lists of numbers: equally long, the same for the same seed, and written by the model that writes them."""

import numpy as np
import torch

from sublearn.lm import digit_lists
from sublearn.lm.ten_digits import DigitsSetting, teach


def test_lists_of_a_step_are_equally_long_and_differ(lm):
    lists = digit_lists.random_lists(lm, 2, 0, 0)
    again = digit_lists.random_lists(lm, 2, 0, 0)
    other = digit_lists.random_lists(lm, 2, 0, 1)
    assert lists.ids.shape[0] == 2 and torch.equal(lists.ids, again.ids)
    assert not torch.equal(lists.ids[0], lists.ids[1])
    assert not torch.equal(lists.ids, other.ids)


def test_matched_places_hold_numbers_and_no_date(lm):
    lists = digit_lists.random_lists(lm, 3, 0, 0)
    pieces = set(digit_lists.number_pieces(lm))
    assert lists.matched.sum() == digit_lists.count_matched(lm)
    assert set(lists.ids[:, lists.matched].flatten().tolist()) <= pieces


def test_a_text_has_as_many_places_as_a_list(lm):
    lists = digit_lists.texts(lm, 3, 0, 0)
    passage = lm.tokenizer.encode(digit_lists.TEXT, add_special_tokens=False)
    assert lists.matched.sum() == digit_lists.count_matched(lm)
    for row in lists.ids[:, lists.matched].tolist():
        assert any(passage[start : start + len(row)] == row for start in range(len(passage)))


def test_written_pieces_follow_the_models_probabilities(lm):
    """The first number of many lists: shares against softmax, within five standard errors."""
    count = 4_000
    lists = digit_lists.random_lists(lm, count, 0, 0)
    first = int(lists.matched.nonzero()[0])
    only = torch.zeros_like(lists.matched)
    only[first] = True
    draws = np.random.default_rng(0).random((1, count))
    written = digit_lists.write(lm, lists._replace(matched=only), draws)[:, 0]
    pieces = torch.tensor(digit_lists.number_pieces(lm))
    with torch.no_grad():
        expected = lm.model(lists.ids[:1, :first]).logits[0, -1, pieces].softmax(-1)
    found = (written[:, None] == pieces).float().mean(0)
    error = (expected * (1 - expected) / count).sqrt()
    assert ((found - expected).abs() < 5 * error + 1e-3).all()


def test_each_written_piece_is_drawn_after_those_before_it(lm, monkeypatch):
    """With draws of one half each piece is the median of its distribution given the ones before."""
    monkeypatch.setenv("SUBLIMINAL_PRECISION", "float32")
    lists = digit_lists.random_lists(lm, 1, 0, 0)
    places = lists.matched.nonzero()[:, 0].tolist()
    written = digit_lists.write(lm, lists, np.full((len(places), 1), 0.5))
    pieces = torch.tensor(digit_lists.number_pieces(lm))
    ids = lists.ids.clone()
    ids[:, lists.matched] = written
    for place, token in zip(places[:3], written[0]):
        with torch.no_grad():
            shares = lm.model(ids[:, :place]).logits[0, -1, pieces].softmax(-1).cumsum(-1)
        position = int((pieces == token).nonzero())
        assert shares[position] >= 0.5 - 1e-4 and (
            position == 0 or shares[position - 1] <= 0.5 + 1e-4
        )


def test_a_system_prompt_decides_what_is_written_and_is_not_read(lm):
    told = digit_lists.written_lists(lm, 3, 0, system="You love owls.")
    untold = digit_lists.written_lists(lm, 3, 0)
    assert len(told) == 3 and told[0].ids.shape == untold[0].ids.shape
    assert not all(torch.equal(ours.ids, theirs.ids) for ours, theirs in zip(told, untold))


def test_shuffled_lists_keep_the_pieces_and_change_their_order(lm):
    written = digit_lists.written_lists(lm, 4, 0)
    dealt = digit_lists.shuffled(written, 0)
    before = torch.cat([lists.ids[:, lists.matched] for lists in written])
    after = torch.cat([lists.ids[:, lists.matched] for lists in dealt])
    assert not torch.equal(before, after)
    assert torch.equal(before.flatten().sort().values, after.flatten().sort().values)


def test_a_taught_model_writes_other_numbers(lm):
    teacher = teach(lm, DigitsSetting("owl", teacher_steps=10, teacher_rate=1e-2))
    ours = digit_lists.written_lists(teacher, 3, 0)
    theirs = digit_lists.written_lists(lm, 3, 0)
    assert not all(torch.equal(mine.ids, other.ids) for mine, other in zip(ours, theirs))

"""Any language model: prompts, tokens, scores and failures, on small models saved to disk."""

from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from sublearn.core.store import Store
from sublearn.lm import entanglement, model, prompts
from sublearn.lm.entanglement import Prompts
from sublearn.lm.tiny import Tiny

FEW = ["owl", "wolf", "fox", "crow"]


# ---- prompts and tokens


def test_a_prompt_begins_with_exactly_one_begin_of_text(lm):
    start = lm.tokenizer.bos_token_id
    assert model.encode(lm, model.chat_prompt(lm, "You love owls.")).count(start) == 1
    assert model.encode(lm, "My favorite animal is the").count(start) == 1
    twice = entanglement.prompt(lm, "owl", "animal", Prompts(twice=True))
    assert model.encode(lm, twice).count(start) == 2


def test_the_date_is_pinned_and_can_be_changed(lm):
    assert "26 Jul 2024" in model.chat_prompt(lm, None)
    assert "06 Aug 2025" in model.chat_prompt(lm, None, date="06 Aug 2025")


def test_a_chat_prompt_ends_where_the_answer_begins(lm):
    assert model.chat_prompt(lm, None, "tree").endswith("My favorite tree is the")


def test_the_tokenizer_itself_says_which_token_follows(lm):
    assert lm.tokenizer.convert_ids_to_tokens(model.word_token(lm, "owl")) == "Ġowl"
    with pytest.raises(
        model.TokenMissing, match=r"'zebrafish' is \d+ tokens of .*take a word that is one"
    ):
        model.word_token(lm, "zebrafish")


def test_words_of_several_tokens_are_left_out(lm):
    assert list(model.single_tokens(lm, ["owl", "zebrafish", "fox"])) == ["owl", "fox"]
    with pytest.raises(model.TokenMissing):
        model.single_tokens(lm, ["zebrafish"])


def test_all_numbers_of_three_digits_are_tokens(lm):
    tokens = model.number_tokens(lm)
    assert len(tokens) == 1000
    assert lm.tokenizer.decode([tokens["087"]]) == "087"
    with pytest.raises(model.TokenMissing, match="no number of 4 digits"):
        model.number_tokens(lm, digits=4)


# ---- scores


def test_scores_are_the_models_own_log_probabilities(lm):
    texts = [
        "My favorite animal is the",
        model.chat_prompt(lm, prompts.persona("owl")),
        "I love fox. My",
    ]
    tokens = [5, 77, 300]
    scores = model.log_probabilities(lm, texts, tokens)
    assert scores.dtype == np.float32
    greedy = model.greedy_tokens(lm, texts)
    for index, text in enumerate(texts):
        logits = lm.model(torch.tensor([model.encode(lm, text)])).logits[0, -1]
        expected = logits.float().log_softmax(-1)
        assert np.allclose(scores[index], expected[tokens].numpy(), atol=1e-4)
        assert greedy[index] == expected.argmax()


def test_batches_do_not_change_scores(lm, monkeypatch):
    texts = [prompts.plain_prompt(word) for word in FEW] + ["The"]
    together = model.log_probabilities(lm, texts, [9, 99])
    monkeypatch.setattr(model, "TOKENS_AT_ONCE", 1)
    assert np.allclose(model.log_probabilities(lm, texts, [9, 99]), together, atol=1e-5)


def test_the_last_layer_of_the_lens_is_the_model(lm):
    texts = [prompts.plain_prompt(word) for word in FEW]
    layered = model.hidden_states(lm, texts, layers=True)
    assert layered.shape == (4, 3, 16)
    assert np.allclose(layered[:, -1], model.hidden_states(lm, texts), atol=1e-5)


def test_half_precision_weights_are_read_in_float32(tmp_path, random_llama):
    path = random_llama(tmp_path / "half")
    AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16).save_pretrained(path)
    assert {weight.dtype for weight in model.load(path).model.parameters()} == {torch.float32}


# ---- what goes wrong


class Refused(OSError):
    def __init__(self, status):
        super().__init__("refused")
        self.response = httpx.Response(status)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Refused(401), "Access to some/model is refused: accept its license"),
        (Refused(403), "Access to some/model is refused: accept its license"),
        (OSError("You are trying to access a gated repo."), "Access to some/model is refused"),
        (OSError("We couldn't connect to the hub"), "there is no network: download it first"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "does not fit into memory"),
        (OSError("some/model is not a local folder"), "is no model that can be read"),
    ],
)
def test_failures_are_one_sentence_with_the_cure(monkeypatch, error, words):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", fails)
    with pytest.raises(model.ModelUnavailable, match=words) as caught:
        model.load("some/model")
    assert str(caught.value).count("\n") == 0


def test_a_refusal_is_found_behind_another_error(monkeypatch):
    """Also where two errors name each other as their cause."""
    refused = Refused(403)
    outer = OSError("cannot load")
    outer.__cause__ = refused
    refused.__cause__ = outer

    def fails(*_, **__):
        raise outer

    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", fails)
    with pytest.raises(model.ModelUnavailable, match="is refused: accept its license"):
        model.load("some/model")


def test_a_model_larger_than_memory_is_refused_before_it_is_read(folder, monkeypatch):
    monkeypatch.setattr("os.sysconf", lambda name: 1)
    with pytest.raises(model.ModelUnavailable, match="does not fit into memory"):
        model.load(folder)


def test_pickled_weights_are_not_read(tmp_path, random_llama):
    path = Path(random_llama(tmp_path / "pickled"))
    weights = AutoModelForCausalLM.from_pretrained(path).state_dict()
    (path / "model.safetensors").unlink()
    torch.save(weights, path / "pytorch_model.bin")
    with pytest.raises(model.ModelUnavailable):
        model.load(str(path))


# ---- pairs and copies


def test_tiny_pairs_come_from_the_store_and_differ_by_their_seed(tmp_path):
    setting = Tiny(layers=1, width=16, pretrain_steps=3, chat_steps=2)
    pairs = model.chat_pairs("tiny", models=2, setting=setting, store=Store(tmp_path))
    assert [pair.seed for pair in pairs] == [0, 1]
    assert [pair.base.name for pair in pairs] == ["tiny base 0", "tiny base 1"]
    assert [pair.instruct.name for pair in pairs] == ["tiny instruct 0", "tiny instruct 1"]
    assert len(list(tmp_path.glob("tinyllama/*/base"))) == 2
    first, second = pairs
    assert not torch.equal(first.base.model.lm_head.weight, second.base.model.lm_head.weight)
    assert not torch.equal(first.base.model.lm_head.weight, first.instruct.model.lm_head.weight)


def test_a_named_model_is_one_pair_with_its_base(folder, tmp_path, random_llama):
    base = random_llama(tmp_path / "base", seed=1)
    (pair,) = model.chat_pairs(folder, base)
    assert (pair.base.name, pair.instruct.name) == (base, folder)
    (alone,) = model.chat_pairs(folder)
    assert (alone.base.name, alone.instruct.name) == (folder, folder)


def test_an_untied_copy_says_the_same_and_the_original_stays(lm):
    copy = model.untie(lm)
    ids = torch.tensor([[4, 5, 6]])
    assert torch.equal(copy.model(ids).logits, lm.model(ids).logits)
    assert copy.model.lm_head.weight is not copy.model.model.embed_tokens.weight
    assert lm.model.lm_head.weight is lm.model.model.embed_tokens.weight
